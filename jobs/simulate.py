"""Simulated tiles to a tile store as a job: `python -m jobs.simulate --config F key=value`."""

from __future__ import annotations

import sys

from rich.console import Console

from jobs.entry import job_main, require
from jobs.intake import run_intake
from jobs.registry import section
from restore_dit.config.simulation import SimulationJobConfig
from restore_dit.data.simulation.simulate import plan_simulation

LITTLE_WORK = 24 * 128 * 128
"""Pixels of all tiles, up to which two CPUs gain less than the start of Ray costs: about 25 s of work."""


def run(config: SimulationJobConfig, display: Console) -> int:
    """Simulates what the store lacks; 1 if a tile could not be made."""
    require(config, "output")
    indices = range(config.first, config.first + config.tiles)
    plan = plan_simulation(config.simulation, config.output, config.seed, indices, commit_every=config.commit_every)
    few = LITTLE_WORK // (config.height * config.width)
    return 1 if run_intake("simulate", "tiles", plan, config.workers, display, few=few).quarantined else 0


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    description = "Simulated tiles to a tile store; the same configuration as `restore-dit simulate`."
    return job_main("simulate", description, section(SimulationJobConfig), run, argv)


if __name__ == "__main__":
    sys.exit(main())
