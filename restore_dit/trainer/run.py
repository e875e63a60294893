"""A whole run of a task: claims the folder, trains here or on a cluster, distributes the reports, and handles
Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from rich.console import Console

from restore_dit.program import INTERRUPTED, stop_when_interrupted
from restore_dit.trainer.loop import fit
from restore_dit.trainer.monitor import EndedReport, LocalMonitor, Monitor, Report, Sink
from restore_dit.trainer.progress import ProgressDisplay, RunLog
from restore_dit.trainer.task import Task
from restore_dit.trainer.tracking import MlflowSink, require_mlflow


@dataclass(frozen=True)
class RunResult:
    """How a run ended: `finished`, or stopped on request after `step` with its state saved."""

    finished: bool
    step: int
    folder: str
    model: str

    def tell(self, console: Console) -> int:
        """Shows how the run ended. Returns the exit status: 0 if finished, 130 if stopped by Ctrl-C."""
        if self.finished:
            line = f"finished; model: {self.model}"
        else:
            state = f"after step {self.step}; its state is saved in {self.folder}" if self.step else "before any step"
            line = f"stopped {state}. Run the same command again to resume."
        console.print(line, soft_wrap=True, highlight=False)
        return 0 if self.finished else INTERRUPTED


def run_task(
    task: Task,
    console: Console,
    sinks: Sequence[Sink],
    *,
    should_stop: Callable[[], bool] = lambda: False,
    train: Callable[[LocalMonitor], bool] | None = None,
) -> RunResult:
    """Trains until the end or until Ctrl-C.

    Args:
        task: what is trained.
        console: where progress is shown.
        sinks: destinations of reports besides the terminal, the run's logs and the tracking server.
        should_stop: polled after every step, or twice a second with workers; true has the same effect as Ctrl-C.
        train: trains, and returns whether the run is finished; by default, in this process.

    Raises:
        UserError: any error that the user can fix, before computation starts where possible.
    """
    with ExitStack() as closing:
        if task.tracking.mlflow:
            require_mlflow()
        task.claim()

        def say(line: str) -> None:
            console.print(line, highlight=False, soft_wrap=True)

        for notice in task.notices():
            say(notice)
        own: list[Sink] = [RunLog(task.folder.logs), ProgressDisplay(console, task.name)]
        if task.tracking.mlflow:
            own.append(MlflowSink(task, say))
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
            finished = train(monitor) if train else fit_here(task, monitor)
    return RunResult(finished, last_step, task.folder.location.uri, task.folder.model.uri)


def fit_here(task: Task, monitor: Monitor) -> bool:
    """Trains in this process and returns whether the run is finished."""
    return fit(task, task.batches, monitor)
