"""Job that evaluates a model: `python -m jobs.evaluate`."""

from __future__ import annotations

import sys
from functools import partial

from rich.console import Console

from jobs.entry import main
from jobs.items import run_items
from restore_dit.config.jobs import EvaluationConfig


def run(config: EvaluationConfig, display: Console) -> int:
    """Evaluates a model, prints the table and where the table and figures are stored. Returns exit status 0."""
    from restore_dit.evaluation.evaluate import evaluate
    from restore_dit.evaluation.report import print_report

    execute = partial(run_items, job="evaluate", unit="tiles", display=display, there="")
    report = evaluate(config, execute, lambda line: display.print(line, soft_wrap=True, highlight=False))
    print_report(report, display)
    display.print(f"table and figures: {config.output}", soft_wrap=True, highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main("evaluate"))
