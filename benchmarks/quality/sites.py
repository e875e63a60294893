"""The sites on which methods are compared, as tile stores: six real ones, and simulated tiles unseen in training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from restore_dit.clouds.detect import plan_detection
from restore_dit.config import TargetConfig
from restore_dit.config.clouds import DetectionConfig
from restore_dit.config.cube_mapping import load_cube_mapping
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.cubes.site_series import plan_cubes
from restore_dit.data.examples.targets import TARGET, decide_by_record
from restore_dit.data.runner import run
from restore_dit.data.simulation.simulate import plan_simulation
from restore_dit.data.store.tile_store import TileStore
from restore_dit.series import S2_BANDS

Masks = Literal["both", "source"]
"""Masks that decide which frames may be scored: those that came with a site and the rule's, or the former alone."""

SIMULATED = "simulated"

SIMULATION_SEED, SIMULATED_TILES, SIMULATED_SIDE = 88_001, 6, 64

MIN_TARGETS = 8
"""Minimum number of scorable frames under the strict limits; with fewer, the loose limits apply."""

STRICT = TargetConfig()
LOOSE = TargetConfig(most_hidden=0.4, most_no_data=0.3)
"""For sites where the masks classify much of the ground as cloud (bright summers in Portugal) or as shadow (dark forest
in Sweden). Pixels that either mask hides are hidden from all methods and not scored."""


@dataclass(frozen=True)
class Source:
    """A real site: the folder of its files within the data folder, the mapping that reads them, and place and time."""

    folder: str
    mapping: str
    place: str


SOURCES = {
    "A": Source("sentinel_series/0000280849BAC91C", "worldcereal", "Flanders, 2018–19"),
    "B": Source("sentinel_series/000028085BF08E7E", "worldcereal", "Flanders, 2018–19"),
    "flux_BE-Lcr": Source("sites/flux_BE-Lcr", "sits_utils", "Belgium, 2023"),
    "flux_DE-Hai": Source("sites/flux_DE-Hai", "sits_utils", "Germany, 2023"),
    "minicube_portugal": Source("sites/minicube_portugal", "minicube", "Portugal, 2021"),
    "minicube_sweden": Source("sites/minicube_sweden", "minicube", "Sweden, 2021"),
}
"""The real sites, by their names in the table."""

SITES = (*SOURCES, SIMULATED)


@dataclass(frozen=True)
class Site:
    """The tile store of one site. `targets` is the rule by which frames may be scored, `tile_ids` are the tiles with
    such frames, `scorable` is their total number, and `bands` are the bands to fill."""

    name: str
    place: str
    store: TileStore
    bands: tuple[str, ...]
    targets: TargetConfig
    tile_ids: tuple[str, ...]
    scorable: int

    @property
    def is_real(self) -> bool:
        """Whether the site is real, not simulated."""
        return self.name != SIMULATED

    @property
    def described(self) -> str:
        """Number and size of tiles, dates, bands and radar, such as `1 × 64×64, 72 dates, 10 bands, radar`."""
        records = [self.store.record(tile_id) for tile_id in self.store.tile_ids]
        sizes = sorted({record.size for record in records})
        dates = sorted({record.optical.frames for record in records})
        spread = str(dates[0]) if len(dates) == 1 else f"{dates[0]}–{dates[-1]}"
        size = ", ".join(f"{height}×{width}" for height, width in sizes)
        radar = "radar" if any(record.radar for record in records) else "no radar"
        return f"{len(records)} × {size}, {spread} dates, {len(self.bands)} bands, {radar}"


def prepare(name: str, data: Path, folder: Path, masks: Masks) -> Site:
    """Makes the store of a site below `folder`, unless it exists, detects clouds, and chooses the rule for targets.

    Raises:
        UserError: the site's files are missing from `data` or cannot be read.
    """
    place = str(folder / name)
    if name == SIMULATED:
        config = SimulationConfig(height=SIMULATED_SIDE, width=SIMULATED_SIDE, varied=True)
        run(plan_simulation(config, place, SIMULATION_SEED, range(SIMULATED_TILES)))
    else:
        source = SOURCES[name]
        run(plan_cubes(data / source.folder, place, load_cube_mapping(source.mapping)))
    run(plan_detection(DetectionConfig(store=place, method="rule" if masks == "both" else "source", workers=0)))
    return _site(name, TileStore.open(place), masks)


def _site(name: str, store: TileStore, masks: Masks) -> Site:
    chosen, counts = STRICT, {}
    for limits in (STRICT, LOOSE):
        chosen = limits.model_copy(update={"also_by_source": masks == "both"})
        counts = scorable_frames(store, chosen)
        if sum(counts.values()) >= MIN_TARGETS:
            break
    had = {band for tile_id in store.tile_ids for band in store.record(tile_id).optical.bands}
    return Site(
        name=name,
        place=SOURCES[name].place if name in SOURCES else "anywhere, 36–61° N",
        store=store,
        bands=tuple(band for band in S2_BANDS if band in had),
        targets=chosen,
        tile_ids=tuple(tile_id for tile_id, count in counts.items() if count),
        scorable=sum(counts.values()),
    )


def scorable_frames(store: TileStore, targets: TargetConfig) -> dict[str, int]:
    """Number of frames of each tile that may be scored."""
    decisions = {
        tile_id: decide_by_record(targets, store.record(tile_id), f"tile {tile_id}") for tile_id in store.tile_ids
    }
    return {tile_id: int((of_frames == TARGET).sum()) for tile_id, of_frames in decisions.items()}
