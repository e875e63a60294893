"""One trial, in a process of the cluster: a whole training like any other, or a trained model sampled in one way."""

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
from restore_dit.training.monitor import Report, ValidationReport
from tuning.config import SweepConfig
from tuning.records import SCORES, Score, SweepFolder, Trial, best_of
from tuning.space import configuration
from tuning.stopping import StopList

TO_THE_END = sys.maxsize


def run_trial(
    suggestion: dict[str, Any], sweep: SweepConfig, base: RunConfig, stops: StopList, decoded: Any, until: int
) -> None:
    """Ray Tune's trainable. Reports each validation; a trial that fell behind is told so after its report, saves its
    state, and gives back all that it has.

    Args:
        suggestion: of `StudySearch`.
        base: what the trial changes.
        decoded: the store's tiles in Ray's object store, or none (`cache_decoded`).
        until: the step after which the trial pauses, its state saved; `TO_THE_END`.
    """
    trial = Trial.model_validate(suggestion["trial"])
    try:
        _run(trial, sweep, base, stops, decoded, until)
    except UserError as error:  # would come again
        tune.report({"error": str(error), "ended": "failed"})


def _run(trial: Trial, sweep: SweepConfig, base: RunConfig, stops: StopList, decoded: Any, until: int) -> None:
    config = trial_config(sweep, base, trial)
    if sweep.model is not None:
        tune.report(sampled(sweep.model, config).model_dump() | {"ended": "finished"})
        return
    from restore_dit.training.resume_state import load_counters
    from restore_dit.training.run import run_training
    from restore_dit.training.run_folder import RunFolder

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    run = RunFolder(config)
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
    """The run of a trial, which lies below the sweep."""
    config = configuration(sweep.space, base, trial.values)
    folder = SweepFolder.of(sweep).trials.uri
    changes: dict[str, Any] = {"output": folder, "name": trial.run_name}
    if trial.seed is not None:
        changes["seed"] = trial.seed
    return config.model_copy(update=changes)


def sampled(model_uri: str, config: RunConfig) -> Score:
    """The validation of a trained model, sampled as the configuration says."""
    from restore_dit.reconstruction.model_directory import load_model
    from restore_dit.training import process_group
    from restore_dit.training.setup import set_up
    from restore_dit.training.validation import validate

    process_group.join_alone(config.workers.use_gpu)
    setup = set_up(config)
    if not setup.validation:
        raise UserError(f"{config.data.store}: no tile of it is in the model's validation part")
    denoiser = load_model(model_uri).on_device(config.workers.use_gpu).denoiser
    result = validate(setup, denoiser, 0, 1)
    return Score(step=0, **{name: getattr(result, name) for name in SCORES})


def sampling_base(model: RunConfig, sweep: SweepConfig) -> RunConfig:
    """A trained model's run, on the sweep's store and with as many validation examples as the sweep has."""
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
    """Hands each validation to Ray Tune, and learns whether the trial is to go on."""

    def __init__(self, name: str, stops: StopList, until: int) -> None:
        self.name = name
        self.until = until
        self.behind = False
        """It fell behind."""
        self.pauses = False
        """Its training is to stop here."""
        self._stops = stops

    def show(self, report: Report) -> None:
        """One report of the training."""
        if isinstance(report, ValidationReport) and not self.pauses:
            # Ray Tune returns only when the sweep's scheduler has seen it.
            tune.report({"step": report.step, **report.averages, "ended": ""})
            self.behind = ray.get(self._stops.has.remote(self.name), timeout=60)
            self.pauses = self.behind or report.step >= self.until

    def close(self) -> None:
        """Nothing is kept open."""
