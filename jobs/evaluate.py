"""Evaluation as a job: `python -m jobs.evaluate --config F key=value`."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from jobs.entry import connect, job_main, require
from restore_dit.config.jobs import EvaluationConfig
from restore_dit.config.loading import load_section


def run(config: EvaluationConfig, display: Console) -> int:
    """Evaluates, prints the table and says where table and figures are."""
    from restore_dit.evaluation.evaluate import evaluate
    from restore_dit.evaluation.report import print_report

    require(config, "model", "store", "output")
    if config.workers:
        connect()
    with Progress(console=display, transient=True, disable=not display.is_terminal) as progress:
        task = progress.add_task("tiles", total=None)

        def on_tile(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)
            if not display.is_terminal and (done == total or done % 10 == 0):
                display.print(f"evaluated tile {done} of {total}", highlight=False)

        report = evaluate(config, on_tile)
    print_report(report, display)
    display.print(f"table and figures: {config.output}", soft_wrap=True, highlight=False)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point."""

    def read(path: str | None, overrides: list[str]) -> EvaluationConfig:
        return load_section(EvaluationConfig, overrides, Path(path) if path else None)

    return job_main("evaluate", "Scores a model; the same configuration as `restore-dit evaluate`.", read, run, argv)


if __name__ == "__main__":
    sys.exit(main())
