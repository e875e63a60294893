"""Job that ingests PASTIS-R into a tile store: `python -m jobs.ingest_pastis`."""

from __future__ import annotations

import sys

from rich.console import Console

from jobs.entry import main
from jobs.items import add_tiles
from restore_dit.config.ingestion import PastisConfig
from restore_dit.data.pastis.patch_plan import plan_patches


def run(config: PastisConfig, display: Console) -> int:
    """Ingests patches and prints a summary. Returns the exit status: 1 if this run quarantined a patch, unless
    `allow_bad_tiles` is set."""
    report = add_tiles(plan_patches(config), config.workers, job="ingest-pastis", unit="patches", display=display)
    return 1 if report.failed and not config.allow_bad_tiles else 0


if __name__ == "__main__":
    sys.exit(main("ingest-pastis"))
