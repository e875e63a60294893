"""Job that ingests PASTIS-R into a tile store: `python -m jobs.ingest_pastis`."""

from __future__ import annotations

import sys

from rich.console import Console

from jobs.entry import main
from jobs.intake import run_intake
from restore_dit.config.pastis import PastisConfig
from restore_dit.data.pastis.ingest import plan_ingest


def run(config: PastisConfig, display: Console) -> int:
    """Ingests patches and prints a summary. Returns the exit status: 1 if this run quarantined a patch, unless
    `allow_bad_tiles` is set."""
    report = run_intake("ingest-pastis", "patches", plan_ingest(config), config.workers, display)
    return 1 if report.quarantined and not config.allow_bad_tiles else 0


if __name__ == "__main__":
    sys.exit(main("ingest-pastis"))
