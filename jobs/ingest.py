"""PASTIS-R to a tile store as a job: `python -m jobs.ingest --config F key=value`."""

from __future__ import annotations

import sys

from rich.console import Console

from jobs.entry import job_main, require
from jobs.intake import run_intake
from jobs.registry import section
from restore_dit.config.pastis import PastisConfig
from restore_dit.data.pastis.ingest import plan_ingest


def run(config: PastisConfig, display: Console) -> int:
    """Ingests, says what is there and what is quarantined; 1 if a patch of this run was, unless that is allowed."""
    require(config, "source", "output")
    report = run_intake("ingest", "patches", plan_ingest(config), config.workers, display)
    return 1 if report.quarantined and not config.allow_bad_tiles else 0


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return job_main(
        "ingest",
        "PASTIS-R to a tile store; the same configuration as `restore-dit ingest pastis`.",
        section(PastisConfig),
        run,
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
