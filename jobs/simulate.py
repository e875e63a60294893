"""Job that simulates tiles into a tile store, or in other layouts: `python -m jobs.simulate`."""

from __future__ import annotations

import sys
from dataclasses import replace

from rich.console import Console

from jobs.entry import main
from jobs.items import add_tiles, run_items
from restore_dit.config.simulation import SimulationJobConfig
from restore_dit.data.simulation.simulate import plan_simulation

LITTLE_WORK = 24 * 128 * 128
"""Total pixels (about 25 s of work) up to which two CPUs save less time than Ray takes to start."""


def run(config: SimulationJobConfig, display: Console) -> int:
    """Simulates the tiles that the output lacks. Returns the exit status: 1 if a tile could not be made."""
    if config.layout == "pastis":
        return _write_pastis(config, display)
    if config.layout == "netcdf":
        return _write_netcdf(config)
    indices = range(config.first, config.first + config.tiles)
    plan = plan_simulation(config.simulation, config.output, config.seed, indices)
    plan = replace(plan, commit_every=config.commit_every)
    few = LITTLE_WORK // (config.height * config.width)
    report = add_tiles(plan, config.workers, job="simulate", unit="tiles", display=display, few=few)
    return 1 if report.failed else 0


def _write_pastis(config: SimulationJobConfig, display: Console) -> int:
    from restore_dit.data.pastis.write import plan_pastis, read_template

    template = read_template(config.dates or None, config.bad_frames or None)
    plan = plan_pastis(config.simulation, config.output, config.tiles, seed=config.seed, template=template)
    run_items(plan, 0, job="simulate", unit="patches", display=display)
    print(f"{config.output}: {config.tiles} patches in the layout of PASTIS-R")
    return 0


def _write_netcdf(config: SimulationJobConfig) -> int:
    from restore_dit.data.exchange import netcdf
    from restore_dit.data.simulation import simulate_tiles
    from restore_dit.data.storage import locate, write_bytes_atomically

    for series in simulate_tiles(config.simulation, config.seed, range(config.first, config.first + config.tiles)):
        place = locate(config.output).join(f"{series.tile_id}.nc")
        write_bytes_atomically(place, netcdf.encode(series))
        print(place.uri)
    return 0


if __name__ == "__main__":
    sys.exit(main("simulate"))
