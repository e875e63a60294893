"""Simulates tiles into a tile store: plans which tiles are missing, and makes and writes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data import storage
from restore_dit.data.items import Outcome, Plan
from restore_dit.data.simulation.simulator import simulate_tile, tile_name
from restore_dit.data.store.manifest import TileRecord
from restore_dit.data.store.tile_store_writer import TileStoreWriter
from restore_dit.data.store.tile_writing import make_tile


@dataclass(frozen=True)
class TileSimulation:
    """Makes and writes tiles; can be sent to any process."""

    config: SimulationConfig
    seed: int
    store: storage.Location

    def __call__(self, indices: Sequence[int]) -> Iterator[Outcome[TileRecord]]:
        """Yields the outcomes of the tiles with these indices."""
        for index in indices:
            make = partial(simulate_tile, self.config, self.seed, index)
            yield make_tile(self.store, tile_name(self.seed, index), make)


def plan_simulation(
    config: SimulationConfig, store_uri: str | Path, seed: int, indices: Sequence[int]
) -> Plan[int, TileRecord]:
    """Examines the store without writing anything.

    Raises:
        UserError: the store cannot be read.
    """
    writer = TileStoreWriter(store_uri, source=f"simulation, seed {seed}")
    todo = [index for index in indices if not writer.has(tile_name(seed, index))]
    return Plan(
        TileSimulation(config, seed, writer.location),
        todo,
        writer.location.uri,
        there=len(indices) - len(todo),
        writer=writer,
    )
