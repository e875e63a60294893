"""Run a sweep, or regenerate its report."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from restore_dit.commands.arguments import command, overrides
from restore_dit.commands.dry_run import show
from restore_dit.errors import UserError

if TYPE_CHECKING:
    from restore_dit.commands.arguments import Commands


def add_to(commands: Commands) -> None:
    """`tune`."""
    from tuning.config import shipped_sweeps

    parser = command(
        commands,
        "tune",
        tune,
        "Run a hyperparameter sweep; the same command resumes a stopped one. 'tune report SWEEP' regenerates the "
        "report of a sweep.",
        "tune --config small run.data.store=stores/sim name=first",
    )
    parser.add_argument(
        "--config",
        default="small",
        metavar="F",
        help=f"YAML file, or a shipped configuration: {', '.join(shipped_sweeps())} (default: small)",
    )
    overrides(parser)


def tune(given: argparse.Namespace) -> int:
    from jobs.tune import run
    from restore_dit.program import console
    from tuning.config import load_sweep

    words = [word for word in given.overrides if "=" not in word]
    if words[:1] == ["report"] and len(words) == len(given.overrides) == 2:
        return report(words[1])
    if words:
        raise UserError(f"unrecognised arguments: {' '.join(words)}; see restore-dit tune --help", status=2)
    config = load_sweep(given.config, given.overrides)
    return show(config) if given.dry_run else run(config, console())


def report(sweep: str) -> int:
    """Regenerates a sweep's report."""
    from restore_dit.data.storage import locate
    from tuning.records import SweepFolder
    from tuning.report import write_sweep_report

    page = write_sweep_report(SweepFolder(locate(sweep)))
    print(f"report: {page.uri}")
    return 0
