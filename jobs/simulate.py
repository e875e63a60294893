"""Job that simulates tiles into a tile store: `python -m jobs.simulate --config F key=value`."""

from __future__ import annotations

import sys

from rich.console import Console

from jobs.entry import job_main, require
from jobs.intake import run_intake
from jobs.registry import section
from restore_dit.config.simulation import SimulationJobConfig
from restore_dit.data.simulation.simulate import plan_simulation

LITTLE_WORK = 24 * 128 * 128
"""Total pixels (about 25 s of work) up to which two CPUs save less time than Ray takes to start."""


def run(config: SimulationJobConfig, display: Console) -> int:
    """Simulates the tiles that the store lacks. Returns the exit status: 1 if a tile could not be made."""
    require(config, "output")
    indices = range(config.first, config.first + config.tiles)
    plan = plan_simulation(config.simulation, config.output, config.seed, indices, commit_every=config.commit_every)
    few = LITTLE_WORK // (config.height * config.width)
    return 1 if run_intake("simulate", "tiles", plan, config.workers, display, few=few).quarantined else 0


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    description = "Simulates tiles into a tile store, with the configuration of `restore-dit simulate`."
    return job_main("simulate", description, section(SimulationJobConfig), run, argv)


if __name__ == "__main__":
    sys.exit(main())
