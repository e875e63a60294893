"""A whole training run: claims the folder, trains here or on a cluster, distributes the reports, and handles Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from restore_dit.config import RunConfig
from restore_dit.data import loader
from restore_dit.program import stop_when_interrupted
from restore_dit.training.engine import join_alone
from restore_dit.training.loop import fit
from restore_dit.training.monitor import EndedReport, LocalMonitor, Monitor, Report, Sink
from restore_dit.training.progress import ProgressDisplay, RunLog
from restore_dit.training.setup import TrainingSetup, set_up
from restore_dit.training.tracking.mlflow_sink import MlflowSink, require_mlflow


@dataclass(frozen=True)
class RunResult:
    """How a run ended: `finished`, or stopped on request after `step` with its state saved."""

    finished: bool
    step: int
    folder: str
    model: str


def run_training(
    config: RunConfig,
    console: Console,
    sinks: Sequence[Sink] = (),
    *,
    should_stop: Callable[[], bool] = lambda: False,
    decoded: Any = None,
) -> RunResult:
    """Trains until the end or until Ctrl-C: with `workers.count` 0 in this process, otherwise on Ray.

    Args:
        sinks: destinations of reports besides the terminal, the run's logs and the tracking server; closed at the end.
        should_stop: polled after every step, or twice a second with workers; true has the same effect as Ctrl-C.
        decoded: with workers, the tiles in Ray's object store (`stream.cache_decoded`); None to follow
            `data.cache_decoded`.

    Raises:
        UserError: any error that the user can fix, before computation starts where possible.
    """
    with ExitStack() as closing:
        for sink in sinks:
            closing.callback(sink.close)
        if config.tracking.mlflow:
            require_mlflow()
        setup = set_up(config)
        setup.folder.claim(setup.store_fingerprint)
        if setup.left_out:
            names = ", ".join(setup.left_out[:3]) + (", …" if len(setup.left_out) > 3 else "")
            console.print(
                f"left out {len(setup.left_out)} tiles without a frame that may be a target: {names}", soft_wrap=True
            )
        if not setup.validation:
            console.print("no validation: the model with the lowest training loss will be kept", soft_wrap=True)
        own: list[Sink] = [RunLog(setup.folder.logs), ProgressDisplay(console, config.name)]
        if config.tracking.mlflow:
            own.append(MlflowSink(setup, lambda line: console.print(line, highlight=False, soft_wrap=True)))
        for sink in own:
            closing.callback(sink.close)
        last_step = 0

        def show(report: Report) -> None:
            nonlocal last_step
            for sink in (*own, *sinks):
                sink.show(report)
            if isinstance(report, EndedReport):
                last_step = report.step

        monitor = LocalMonitor(show, should_stop)
        with stop_when_interrupted(monitor.request_stop, console):
            if config.workers.count == 0:
                finished = fit_here(setup, monitor)
            else:
                from restore_dit.training.ray_train import fit_on_cluster

                finished = fit_on_cluster(setup, monitor, decoded)
    return RunResult(finished, last_step, setup.folder.location.uri, setup.folder.model.uri)


def fit_here(setup: TrainingSetup, monitor: Monitor) -> bool:
    """Trains in this process and returns whether the run is finished."""

    def batches(start: int, stop: int) -> Iterator[list[dict[str, Any]]]:
        return loader.step_batches(setup.plan, setup.reader, setup.maker, start, stop, setup.config.micro_batch_size)

    join_alone(setup.config.workers.use_gpu)
    return fit(setup, batches, monitor)
