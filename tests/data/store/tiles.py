"""Tiles of random pixels, and what it means for two to be the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from restore_dit.data.store.tile_store import TileStore, TileStoreWriter
from restore_dit.series import S1_BANDS, S2_BANDS, Acquisitions, Georeference, TileSeries


def acquisitions(
    random: np.random.Generator, frames: int, bands: tuple[str, ...], size: tuple[int, int]
) -> Acquisitions:
    days = np.sort(random.choice(1000, frames, replace=False))
    values = random.integers(-32768, 32768, (frames, len(bands), *size)).astype(np.int16)
    return Acquisitions(values, np.datetime64("2018-09-01") + days, bands)


def tile(
    tile_id: str,
    seed: int = 0,
    frames: int = 4,
    size: tuple[int, int] = (6, 5),
    bands: tuple[str, ...] = S2_BANDS,
    tracks: tuple[str, ...] = ("S1A",),
    clouds: bool = True,
) -> TileSeries:
    random = np.random.default_rng(seed)
    return TileSeries(
        tile_id=tile_id,
        optical=acquisitions(random, frames, bands, size),
        clouds=random.choice(np.array([0, 1, 2, 3, 255], np.uint8), (frames, *size)) if clouds else None,
        radar={track: acquisitions(random, frames + 1, S1_BANDS, size) for track in tracks},
        georeference=Georeference("EPSG:32631", (10.0, 0.0, 574680.0, 0.0, -10.0, 5622440.0)),
        properties={"fold": seed % 5 + 1, "source": "test"},
    )


def store_of(folder: Path, *tiles: TileSeries) -> TileStore:
    writer = TileStoreWriter(folder, source="test")
    for series in tiles:
        writer.add(series)
    writer.commit()
    return TileStore.open(folder)


def assert_same(found: TileSeries, expected: TileSeries) -> None:
    def same(a: Acquisitions, b: Acquisitions) -> bool:
        return np.array_equal(a.values, b.values) and np.array_equal(a.dates, b.dates) and a.bands == b.bands

    assert same(found.optical, expected.optical)
    assert found.radar.keys() == expected.radar.keys()
    assert all(same(found.radar[track], expected.radar[track]) for track in expected.radar)
    assert (found.clouds is None) == (expected.clouds is None)
    assert found.clouds is None or np.array_equal(found.clouds, expected.clouds)
    assert (found.georeference, found.properties) == (expected.georeference, expected.properties)
