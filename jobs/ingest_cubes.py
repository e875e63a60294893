"""Data cubes to a tile store as a job: `python -m jobs.ingest_cubes --config F key=value`."""

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

MOST_NAMED = 5
"""Names in one line."""


def run(config: CubesConfig, display: Console) -> int:
    """Ingests, says what is there and what is quarantined; 1 if a site of this run was, unless that is allowed."""
    require(config, "source", "output")
    plan = plan_cubes(
        config.source,
        config.output,
        mapping_of(config),
        commit_every=config.commit_every,
        task_memory=int(config.task_gib * 2**30),
    )
    renamed = [f"{site.name!r} is {site.tile_id}" for site in plan.todo if site.renamed]
    if renamed:
        more = f", and {len(renamed) - MOST_NAMED} more" if len(renamed) > MOST_NAMED else ""
        display.print(
            f"names that cannot be part of a path: {', '.join(renamed[:MOST_NAMED])}{more}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
    report = run_intake("ingest_cubes", "sites", plan, config.workers, display, few=FEW_SITES)
    return 1 if report.quarantined and not config.allow_bad_tiles else 0


def mapping_of(config: CubesConfig) -> CubeMapping:
    """The mapping that the configuration holds or names."""
    return load_cube_mapping(config.mapping) if config.own_mapping is None else config.own_mapping


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    description = "Data cubes to a tile store, as `restore-dit ingest cube` does."
    return job_main("ingest_cubes", description, section(CubesConfig), run, argv)


if __name__ == "__main__":
    sys.exit(main())
