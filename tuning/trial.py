"""Runs one trial in a process of the cluster: a complete training, or the sampling of a trained model."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

import ray
from ray import tune
from rich.console import Console

from restore_dit.config import RunConfig
from restore_dit.errors import UserError
from restore_dit.trainer.monitor import Report, ValidationReport
from tuning.config import SweepConfig
from tuning.records import SCORES, Score, SweepFolder, Trial, best_of
from tuning.space import configuration
from tuning.stopping import StopList

TO_THE_END = sys.maxsize


def run_trial(
    suggestion: dict[str, Any], sweep: SweepConfig, base: RunConfig, stops: StopList, decoded: Any, until: int
) -> None:
    """The trainable for Ray Tune. It reports each validation; if the trial is then on the stop list, it saves its state
    and releases its resources.

    Args:
        suggestion: from `StudySearch` or `QueueSearch`.
        sweep: the sweep.
        base: base configuration of the trials.
        stops: the stop list.
        decoded: the store's decoded tiles in Ray's object store (`cache_decoded`), or None.
        until: step after which the trial saves its state and pauses; `TO_THE_END`: never.
    """
    trial = Trial.model_validate(suggestion["trial"])
    try:
        _run(trial, sweep, base, stops, decoded, until)
    except UserError as error:  # a retry would fail in the same way
        tune.report({"error": str(error), "ended": "failed"})


def _run(trial: Trial, sweep: SweepConfig, base: RunConfig, stops: StopList, decoded: Any, until: int) -> None:
    config = trial_config(sweep, base, trial)
    if sweep.model is not None:
        tune.report(sampled(sweep.model, config).model_dump() | {"ended": "finished"})
        return
    from restore_dit.trainer.resume_state import load_counters
    from restore_dit.training.run import run_training
    from restore_dit.training.setup import run_folder

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    run = run_folder(config)
    ended = "finished" if run.is_finished() else "paused"
    if ended == "paused" and load_counters(run.state).step < until:
        sink = _Reporter(trial.name, stops, until)
        result = run_training(
            config, Console(file=io.StringIO()), [sink], should_stop=lambda: sink.pauses, decoded=decoded
        )
        if not result.finished and not sink.pauses:
            raise UserError(f"trial {trial.name}: stopped at step {result.step}")
        ended = "finished" if result.finished else "stopped" if sink.behind else "paused"
    curve = SweepFolder.of(sweep).curve(trial)
    best = best_of(curve)
    if best is None:
        raise UserError(f"trial {trial.name}: no validation; lower run.training.validate_every or give it tiles")
    tune.report(best.model_dump() | {"steps": curve[-1].step, "ended": ended})


def trial_config(sweep: SweepConfig, base: RunConfig, trial: Trial) -> RunConfig:
    """Configuration of a trial's run, which is stored below the sweep."""
    config = configuration(sweep.space, base, trial.values)
    folder = SweepFolder.of(sweep).trials.uri
    changes: dict[str, Any] = {"output": folder, "name": trial.run_name}
    if trial.seed is not None:
        changes["seed"] = trial.seed
    return config.model_copy(update=changes)


def sampled(model_uri: str, config: RunConfig) -> Score:
    """Validation scores of a trained model, sampled as configured.

    Raises:
        UserError: the store has no tile in the model's validation split.
    """
    from restore_dit.reconstruction.model_directory import load_model
    from restore_dit.training.setup import set_up
    from restore_dit.training.validation import validate

    setup = set_up(config)
    if not setup.validation:
        raise UserError(f"{config.data.store}: no tile is in the model's validation split")
    denoiser = load_model(model_uri).on_device(config.workers.use_gpu).denoiser
    result = validate(setup, denoiser)
    return Score(step=0, **{name: result.scores[name] for name in SCORES})


def sampling_base(model: RunConfig, sweep: SweepConfig) -> RunConfig:
    """Configuration of a trained model's run, with the sweep's store, number of validation examples and workers."""
    run = sweep.run
    store = run.data.store or model.data.store
    training = {"validation_examples": run.training.validation_examples, "init_from": None}
    return model.model_copy(
        update={
            "data": model.data.model_copy(update={"store": store}),
            "training": model.training.model_copy(update=training),
            "workers": run.workers,
        }
    )


class _Reporter:
    """Reports each validation to Ray Tune, and checks whether the trial should stop or pause."""

    def __init__(self, name: str, stops: StopList, until: int) -> None:
        self.name = name
        self.until = until
        self.behind = False
        """Whether the trial is on the stop list."""
        self.pauses = False
        """Whether its training should stop here."""
        self._stops = stops

    def show(self, report: Report) -> None:
        """Handles a report of the training."""
        if isinstance(report, ValidationReport) and not self.pauses:
            # This only returns once the scheduler has processed the report and so may have stopped the trial.
            tune.report({"step": report.step, **report.scores, "ended": ""})
            self.behind = ray.get(self._stops.has.remote(self.name), timeout=60)
            self.pauses = self.behind or report.step >= self.until

    def close(self) -> None:
        """Does nothing, because nothing is open."""
