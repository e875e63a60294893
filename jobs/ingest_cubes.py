"""Job that ingests data cubes into a tile store: `python -m jobs.ingest_cubes --config F key=value`."""

from __future__ import annotations

import sys

from rich.console import Console

from jobs.entry import job_main, require
from jobs.intake import run_intake
from jobs.registry import section
from restore_dit.config.cube_mapping import CubeMapping, load_cube_mapping
from restore_dit.config.cubes import CubesConfig
from restore_dit.data.cubes.ingest import plan_cubes

FEW_SITES = 4
"""Up to this many sites are ingested faster in this process than Ray takes to start."""

MOST_NAMED = 5
"""Maximum number of names in one message."""


def run(config: CubesConfig, display: Console) -> int:
    """Ingests sites and prints a summary. Returns the exit status: 1 if this run quarantined a site, unless
    `allow_bad_tiles` is set."""
    require(config, "source", "output")
    plan = plan_cubes(
        config.source,
        config.output,
        mapping_of(config),
        commit_every=config.commit_every,
        task_memory=int(config.task_gib * 2**30),
    )
    renamed = [f"{site.name!r} as {site.tile_id}" for site in plan.todo if site.renamed]
    if renamed:
        more = f", and {len(renamed) - MOST_NAMED} more" if len(renamed) > MOST_NAMED else ""
        display.print(
            f"renamed sites whose names cannot be part of a path: {', '.join(renamed[:MOST_NAMED])}{more}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
    report = run_intake("ingest_cubes", "sites", plan, config.workers, display, few=FEW_SITES)
    return 1 if report.quarantined and not config.allow_bad_tiles else 0


def mapping_of(config: CubesConfig) -> CubeMapping:
    """The mapping that the configuration contains or names."""
    return load_cube_mapping(config.mapping) if config.own_mapping is None else config.own_mapping


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    description = "Ingests data cubes into a tile store, like `restore-dit ingest cube`."
    return job_main("ingest_cubes", description, section(CubesConfig), run, argv)


if __name__ == "__main__":
    sys.exit(main())
