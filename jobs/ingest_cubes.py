"""Job that ingests data cubes into a tile store: `python -m jobs.ingest_cubes`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

from rich.console import Console

from jobs.entry import main
from jobs.items import add_tiles
from restore_dit.config import dump
from restore_dit.config.ingestion import CubesConfig
from restore_dit.data.cubes.site_series import plan_cubes
from restore_dit.data.cubes.sites import find_sites

FEW_SITES = 4
"""Up to this many sites are ingested faster in this process than Ray takes to start."""

MAX_NAMED = 5
"""Maximum number of names in one message."""


def run(config: CubesConfig, display: Console) -> int:
    """Ingests sites and prints a summary. Returns the exit status: 1 if this run quarantined a site, unless
    `allow_bad_tiles` is set."""
    plan = plan_cubes(config.source, config.output, config.cube_mapping)
    plan = replace(plan, commit_every=config.commit_every, memory=int(config.task_gib * 2**30))
    renamed = [f"{site.name!r} as {site.tile_id}" for site in plan.todo if site.renamed]
    if renamed:
        more = f", and {len(renamed) - MAX_NAMED} more" if len(renamed) > MAX_NAMED else ""
        display.print(
            f"renamed sites whose names cannot be part of a path: {', '.join(renamed[:MAX_NAMED])}{more}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
    report = add_tiles(plan, config.workers, job="ingest-cubes", unit="sites", display=display, few=FEW_SITES)
    return 1 if report.failed and not config.allow_bad_tiles else 0


def preview(config: CubesConfig) -> Iterator[str]:
    """The mapping, and the files of each site."""
    if config.own_mapping is None:
        yield f"mapping {config.mapping}:"
        yield from dump(config.cube_mapping).splitlines()
    for site in find_sites(config.source, config.cube_mapping) if config.source else ():
        name = f" ({site.name})" if site.renamed else ""
        yield f"{site.tile_id}{name}: {site.problem or ', '.join(file.name for file in site.files) or 'no file'}"


if __name__ == "__main__":
    sys.exit(main("ingest-cubes"))
