"""Job that trains a cloud-detection network: `python -m jobs.train_clouds`."""

from __future__ import annotations

import sys
import threading

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jobs.entry import main
from restore_dit.config.cloud_training import CloudTrainingConfig
from restore_dit.program import INTERRUPTED


def run(config: CloudTrainingConfig, display: Console) -> int:
    """Trains a network. Returns the exit status: 0 if finished, 130 if stopped by Ctrl-C, with the state saved."""
    from restore_dit.clouds.training.fit import train_cloud_network
    from restore_dit.clouds.training.reports import Learned, Report, Started, score_line
    from restore_dit.program import stop_when_interrupted

    stop = threading.Event()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=display, transient=True, disable=not display.is_terminal) as progress:
        task = progress.add_task("training", total=config.steps)

        def on_report(report: Report) -> None:
            if isinstance(report, Started | Learned):
                progress.update(task, completed=report.step)
            if isinstance(report, Learned) and display.is_terminal:
                progress.update(task, description=f"loss {report.loss:.4f}")
            else:
                display.print(str(report), soft_wrap=True, highlight=False)

        with stop_when_interrupted(stop.set, display):
            result = train_cloud_network(config, on_report, stop.is_set)
    if not result.finished:
        display.print(
            f"stopped after step {result.step}; its state is saved in {result.output}. "
            "Run the same command again to resume.",
            soft_wrap=True,
            highlight=False,
        )
        return INTERRUPTED
    for name, counts in result.counts.items():
        display.print(f"held-out part of {name}: {score_line(counts)}", soft_wrap=True, highlight=False)
    display.print(f"finished; model: {result.output}", soft_wrap=True, highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main("train-clouds"))
