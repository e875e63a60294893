"""Job that ingests PASTIS-R into a tile store: `python -m jobs.ingest --config F key=value`."""

from __future__ import annotations

import sys

from rich.console import Console

from jobs.entry import job_main, require
from jobs.intake import run_intake
from jobs.registry import section
from restore_dit.config.pastis import PastisConfig
from restore_dit.data.pastis.ingest import plan_ingest


def run(config: PastisConfig, display: Console) -> int:
    """Ingests patches and prints a summary. Returns the exit status: 1 if this run quarantined a patch, unless
    `allow_bad_tiles` is set."""
    require(config, "source", "output")
    report = run_intake("ingest", "patches", plan_ingest(config), config.workers, display)
    return 1 if report.quarantined and not config.allow_bad_tiles else 0


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return job_main(
        "ingest",
        "Ingests PASTIS-R into a tile store, with the configuration of `restore-dit ingest pastis`.",
        section(PastisConfig),
        run,
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
