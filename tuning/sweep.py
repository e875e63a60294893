"""Runs a sweep on the Ray cluster that this process is connected to."""

from __future__ import annotations

import logging
import math
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from restore_dit.config import RunConfig, WorkersConfig
from restore_dit.data import cluster_job, storage, stream
from restore_dit.data.storage import locate
from restore_dit.errors import UserError, user_error_behind
from restore_dit.reconstruction.model_directory import load_model
from restore_dit.training.setup import TrainingSetup, set_up
from tuning.config import PopulationConfig, SweepConfig
from tuning.population import exploit, generation_ends
from tuning.records import SCORES, Score, SweepFolder, Trial
from tuning.search import QueueSearch, StudySearch, first_trials
from tuning.space import require_valid
from tuning.stopping import CooperativeAsha, StopList, stop_list
from tuning.trial import TO_THE_END, run_trial, sampling_base

DRIVER_MEMORY = 1 << 30
"""Memory, in bytes, to reserve for the process that drives a trial's workers. It reserves no CPU."""

OnTrial = Callable[[Trial], object]
"""Called whenever a trial makes progress or ends."""


@dataclass(frozen=True)
class PlannedSweep:
    """A sweep that is ready to run: everything that can be checked in advance has been checked."""

    sweep: SweepConfig
    folder: SweepFolder
    base: RunConfig
    setup: TrainingSetup

    @property
    def trials(self) -> list[Trial]:
        """The records so far."""
        return self.folder.read()


def plan_sweep(sweep: SweepConfig) -> PlannedSweep:
    """Checks the sweep against its store, its model and the content of its folder, and claims the folder.

    Raises:
        UserError: a setting is missing or invalid, the store or model cannot be used, or the folder contains another
            sweep.
    """
    sweep = _for_any_process(sweep)
    if sweep.model == "":
        raise UserError("model is not set: give model=URI, the model directory to sample", status=2)
    if sweep.model is not None:
        base = sampling_base(load_model(sweep.model).config, sweep)
    else:
        if not sweep.run.data.store:
            raise UserError("run.data.store is not set: give run.data.store=URI", status=2)
        base = sweep.run
    require_valid(sweep.space, base)
    folder = SweepFolder.of(sweep)
    base = base.model_copy(update={"output": folder.trials.uri})
    setup = set_up(base)
    if not setup.validation:
        raise UserError(f"{base.data.store}: the validation split is empty; raise run.data.split.validation_fraction")
    if sweep.model is None and base.training.validate_every > setup.total_steps:
        raise UserError(
            f"run.training.validate_every={base.training.validate_every}: a trial has only {setup.total_steps} steps "
            f"and would never be scored; set it to at most {setup.total_steps}, or raise run.training.epochs"
        )
    folder.claim(sweep)
    return PlannedSweep(sweep, folder, base, setup)


def _for_any_process(sweep: SweepConfig) -> SweepConfig:
    """The sweep with absolute local paths, because trials do not share the working directory."""

    def absolute(address: str | None) -> str | None:
        return address and (locate(address).path if locate(address).is_local else address)

    run = sweep.run
    data = run.data.model_copy(update={"store": absolute(run.data.store)})
    training = run.training.model_copy(update={"init_from": absolute(run.training.init_from)})
    run = run.model_copy(update={"data": data, "training": training})
    return sweep.model_copy(update={"run": run, "output": absolute(sweep.output), "model": absolute(sweep.model)})


def run_sweep(plan: PlannedSweep, on_trial: OnTrial = lambda trial: None) -> list[Trial]:
    """Runs the remaining trials, then repeats the best ones with other seeds. Returns the records of all trials."""
    sweep, folder = plan.sweep, plan.folder
    # Tune's own stopping kills trials; see `tuning.stopping` for why they are asked instead.
    stops = stop_list()
    decoded = None
    if plan.base.data.cache_decoded and plan.base.workers.count and sweep.model is None:
        decoded = stream.cache_decoded(plan.setup.reader, plan.setup.plan.tile_ids, plan.base.workers.data_cpus)
    if sweep.population is not None:
        _train_together(plan, sweep.population, stops, decoded, on_trial)
        return plan.trials
    scheduler: TrialScheduler = FIFOScheduler()
    trials = plan.trials
    if sweep.stopping is not None:
        over = [(trial.name, folder.curve(trial)) for trial in trials if trial.is_over and trial.repeats is None]
        scheduler = CooperativeAsha(sweep.stopping, plan.setup.total_steps, stops, over)
    search = StudySearch(sweep.search, sweep.space, plan.base, trials, folder.write)
    _tune(plan, search, scheduler, stops, decoded, sweep.search.trials, on_trial)
    again = _repeats(plan)
    if again:
        _tune(plan, QueueSearch(again), FIFOScheduler(), stops, decoded, len(again), on_trial)
    return plan.trials


def _train_together(
    plan: PlannedSweep, population: PopulationConfig, stops: StopList, decoded: Any, on_trial: OnTrial
) -> None:
    """Trains all trials generation by generation; after each one, the worst trials copy the best."""
    sweep, folder = plan.sweep, plan.folder
    for trial in first_trials(sweep.search, sweep.space, plan.base, plan.trials):
        folder.write(trial)
    ends = generation_ends(population, plan.setup.total_steps)
    for until in ends:
        waiting = [trial for trial in plan.trials if not trial.is_over and trial.paused_at < until]
        if waiting:
            stop = TO_THE_END if until == ends[-1] else until
            _tune(plan, QueueSearch(waiting), FIFOScheduler(), stops, decoded, len(waiting), on_trial, stop)
        if until != ends[-1] and all(trial.paused_at <= until for trial in plan.trials):
            for trial in exploit(folder, plan.trials, until, sweep, plan.base):
                on_trial(trial)


def generations(plan: PlannedSweep) -> int:
    """Number of generations: 1 without a population."""
    population = plan.sweep.population
    return 1 if population is None else len(generation_ends(population, plan.setup.total_steps))


def passed(plan: PlannedSweep, trial: Trial) -> int:
    """Number of generations that a trial has completed."""
    if trial.is_over:
        return generations(plan)
    population = plan.sweep.population
    return 0 if population is None else trial.paused_at // population.every_steps


def trials_at_a_time(workers: WorkersConfig, nodes: Sequence[cluster_job.Bundle]) -> int:
    """Number of trials for which these nodes have resources, at least one."""
    bundles: list[cluster_job.Bundle] = [_own_process(workers)]
    if workers.count:
        worker = {"CPU": workers.cpus_each} | ({"GPU": 1.0} if workers.use_gpu else {})
        bundles = [worker] * workers.count + [{"CPU": workers.data_cpus}]
    limits = []
    for name in ("CPU", "GPU"):
        needed = sum(bundle.get(name, 0.0) for bundle in bundles)
        if needed:
            limits.append(math.floor(sum(node.get(name, 0.0) for node in nodes) / needed + 1e-6))
    return max(1, min(limits))


def _own_process(workers: WorkersConfig) -> dict[str, float]:
    """Resources of a trial's own process: no CPUs or GPUs if it has workers."""
    if workers.count:
        return {"CPU": 0.0, "memory": float(DRIVER_MEMORY)}
    return {"CPU": workers.cpus_each} | ({"GPU": 1.0} if workers.use_gpu else {})


def _repeats(plan: PlannedSweep) -> list[Trial]:
    """Unfinished repetitions of the best trials with other seeds. Writes records of new ones."""
    trials = {trial.name: trial for trial in plan.trials}
    left = []
    for trial in ranked(list(trials.values()))[: plan.sweep.seeds.best]:
        for number in range(1, plan.sweep.seeds.repeats + 1):
            name = f"{trial.name}-seed-{number}"
            again = trials.get(name)
            if again is None:
                seed = plan.base.seed + number
                again = Trial(name=name, values=trial.values, repeats=trial.name, seed=seed)
                plan.folder.write(again)
            if not again.is_over:
                left.append(again)
    return left


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Ended trials of the search with a score, best first. A trial stopped early counts with its best score."""
    scored = [trial for trial in trials if trial.best is not None and trial.is_over and trial.repeats is None]
    return sorted(scored, key=lambda trial: -_psnr(trial))


def _psnr(trial: Trial) -> float:
    return trial.best.psnr if trial.best else -math.inf


def _tune(
    plan: PlannedSweep,
    search: Searcher,
    scheduler: TrialScheduler,
    stops: StopList,
    decoded: Any,
    trials: int,
    on_trial: OnTrial,
    until: int = TO_THE_END,
) -> None:
    sweep, base = plan.sweep, plan.base
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # a run writes its own logs
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # a trial that fails has no score
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C ends the sweep; its trials' saved states remain
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    notes = plan.folder.location.join("ray")
    workers = base.workers if sweep.model is None else base.workers.model_copy(update={"count": 0})
    trainable = tune.with_parameters(run_trial, sweep=sweep, base=base, stops=stops, decoded=decoded, until=until)
    tuner = tune.Tuner(
        tune.with_resources(trainable, _own_process(workers)),
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=scheduler,
            num_samples=trials,
            reuse_actors=True,  # because a process takes seconds to start
            # Tune only counts a trial's own process, not the workers that it starts: without a limit,
            # trials would block each other.
            max_concurrent_trials=sweep.concurrent or trials_at_a_time(workers, cluster_job.node_resources()),
        ),
        run_config=tune.RunConfig(
            # A new name each time: Tune would resume a known one from its own state, but the
            # records decide what is left to do.
            name=f"attempt-{uuid.uuid4().hex[:12]}",
            storage_path=notes.path,
            storage_filesystem=notes.filesystem,
            failure_config=tune.FailureConfig(max_failures=sweep.max_failures),
            callbacks=[_Recorder(plan.folder, on_trial)],
            verbose=0,
        ),
    )
    tuner.fit()
    if storage.is_folder(notes):
        storage.delete_folder(notes)


class _Recorder(tune.Callback):
    """Updates the records of trials as they report."""

    def __init__(self, folder: SweepFolder, on_trial: OnTrial) -> None:
        self._folder = folder
        self._on_trial = on_trial
        self._trials: dict[str, Trial] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing for Ray Tune to save, because a sweep resumes only from its records."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        """Records a validation, or the end of a trial."""
        known = self._of(trial)
        if result.get("error"):
            self._keep(known.model_copy(update={"status": "failed", "error": result["error"]}))
            return
        score = Score(step=result["step"], **{name: result[name] for name in SCORES})
        best = known.best if known.best is not None and known.best.psnr >= score.psnr else score
        step, ended = max(known.step, result.get("steps", score.step)), result["ended"]
        changes: dict[str, Any] = {"best": best, "step": step}
        if ended == "paused":
            changes["paused_at"] = step
        elif ended:
            changes["status"] = ended
        self._keep(known.model_copy(update=changes))

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Records a trial that failed more often than `max_failures` allows."""
        self._keep(self._of(trial).model_copy(update={"status": "failed", "error": _reason(trial)}))

    def _of(self, trial: TuneTrial) -> Trial:
        given = Trial.model_validate(trial.config["trial"])
        return self._trials.get(given.name, given)

    def _keep(self, trial: Trial) -> None:
        self._trials[trial.name] = trial
        self._folder.write(trial)
        self._on_trial(trial)


def _reason(trial: TuneTrial) -> str:
    """Why a trial failed, on one line. It is read where this process has just written it, since Tune's own functions
    look in storage, which it reaches later. Tune keeps the exceptions of workers; of its own, only the text."""
    if trial.pickled_error_file:
        error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        text = str(user_error_behind(error) or error)
    else:
        text = Path(trial.error_file).read_text() if trial.error_file else ""
    return (text.strip().splitlines() or ["no reason given"])[-1][:500]
