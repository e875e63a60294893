"""The damage that verification of a store finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from restore_dit.data.store.manifest import Manifest, checksum
from restore_dit.data.store.tile_store import TileStore, TileStoreWriter
from restore_dit.inspection.verification import verify_store
from restore_dit.series import S1_BANDS, Acquisitions, TileSeries

DATES = np.array(["2019-01-01", "2019-01-06", "2019-02-01"], "datetime64[D]")


@pytest.fixture
def store(tmp_path: Path) -> TileStore:
    values = np.random.default_rng(0).integers(0, 5000, (3, 2, 8, 8)).astype(np.int16)
    writer = TileStoreWriter(tmp_path, source="test")
    for name in ("a", "b", "c"):
        radar = {"S1A": Acquisitions(values, DATES, S1_BANDS)}
        writer.add(TileSeries(name, Acquisitions(values, DATES, ("B02", "B11")), np.zeros((3, 8, 8), np.uint8), radar))
    writer.commit()
    return TileStore.open(tmp_path)


def flip_a_byte(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def test_an_intact_store_has_no_problem_and_every_file_is_read(store: TileStore) -> None:
    seen: list[tuple[int, int]] = []
    assert verify_store(store, lambda *progress: seen.append(progress), deep=True) == []
    assert seen == [(done, 6) for done in range(1, 7)]


def test_flipped_short_missing_and_unknown_files_are_named(store: TileStore, tmp_path: Path) -> None:
    tile = tmp_path / "tiles/a.parquet"
    flip_a_byte(tile, tile.stat().st_size // 2)
    (tmp_path / "layers/clouds/b.parquet").unlink()
    short = tmp_path / "tiles/c.parquet"
    short.write_bytes(short.read_bytes()[:-1])
    (tmp_path / "layers/clouds/d.parquet").write_bytes(b"")
    lines = verify_store(store)
    assert [line.partition(": ")[0].removeprefix(f"{tmp_path}/") for line in lines] == [
        "layers/clouds/b.parquet",
        "layers/clouds/d.parquet",
        "tiles/a.parquet",
        "tiles/c.parquet",
    ]
    expected = ("not found", "not in manifest.json", "checksum", "bytes")
    assert all(words in line for words, line in zip(expected, lines, strict=True))


def test_only_decoding_finds_what_was_damaged_before_the_checksum_was_taken(store: TileStore, tmp_path: Path) -> None:
    tile = tmp_path / "tiles/a.parquet"
    flip_a_byte(tile, int(store.load("a").optical.index.offsets[1]) + 30)
    tree = store.manifest.model_dump(mode="json")
    tree["tiles"]["a"]["objects"]["tiles/a.parquet"]["checksum"] = checksum(tile.read_bytes())
    mistaken = TileStore(store.location, Manifest.model_validate(tree))
    assert verify_store(mistaken) == []
    lines = verify_store(mistaken, deep=True)
    assert len(lines) == 1
    assert "tiles/a.parquet" in lines[0]
