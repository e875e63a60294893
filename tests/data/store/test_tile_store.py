"""The tile store: what goes in comes out, and damage is named."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_dit.data import storage
from restore_dit.data.storage import read_ranges
from restore_dit.data.store.frames import decode_frame
from restore_dit.data.store.manifest import MANIFEST_NAME
from restore_dit.data.store.tile_store import TileStore, TileStoreWriter
from restore_dit.errors import UserError
from restore_dit.series import NO_DATA, S1_BANDS, S2_BANDS, Acquisitions, TileSeries
from tests.data.store.tiles import assert_same, store_of, tile
from tests.messages import refused


@settings(max_examples=25)
@given(
    frames=st.integers(0, 4),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    bands=st.integers(1, 10),
    tracks=st.sampled_from([(), ("S1A",), ("S1A", "S1D")]),
    clouds=st.booleans(),
    seed=st.integers(0, 99),
)
def test_what_goes_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory,
    frames: int,
    size: tuple[int, int],
    bands: int,
    tracks: tuple[str, ...],
    clouds: bool,
    seed: int,
) -> None:
    expected = tile("t", seed, frames, size, S2_BANDS[:bands], tracks, clouds)
    store = store_of(tmp_path_factory.mktemp("store"), expected)
    assert_same(store.load("t").series(), expected)


def test_only_the_frames_bands_tracks_and_layers_asked_for(tmp_path: Path) -> None:
    series = tile("t", tracks=("S1A", "S1D"))
    store = store_of(tmp_path, series)
    stored = store.load("t", radar_tracks=("S1D", "S1X"), layers=())
    assert list(stored.radar) == ["S1D"]
    assert stored.clouds is None
    assert stored.optical.shape == (4, 10, 6, 5)
    chosen = stored.optical.decode([3, 1, 3], ("B11", "B02"))
    np.testing.assert_array_equal(chosen, series.optical.values[[3, 1, 3]][:, [8, 0]])
    assert stored.optical.decode([]).shape == (0, 10, 6, 5)
    mask = np.array([True, False, True, False])
    np.testing.assert_array_equal(stored.optical.decode(mask), series.optical.values[mask])
    with refused("B10"):
        stored.optical.decode(bands=("B10",))


def test_layers_of_any_shape_come_back_where_they_are_asked_for(tmp_path: Path) -> None:
    layers = {
        "labels": np.arange(90, dtype=np.uint8).reshape(3, 6, 5),
        "parcel_ids": np.arange(30, dtype=np.int32).reshape(6, 5) * 70_000,
        "bad_frames": np.array([0, 1, 1, 0], np.uint8),
    }
    store = store_of(tmp_path, dataclasses.replace(tile("t"), layers=layers))
    assert store.manifest.tiles["t"].layers == ("bad_frames", "clouds", "labels", "parcel_ids")
    stored = store.load("t", layers=("labels", "parcel_ids", "bad_frames", "crops"))
    assert stored.clouds is None
    assert stored.layers.keys() == layers.keys()
    for name, values in stored.series().layers.items():
        assert values.dtype == layers[name].dtype
        np.testing.assert_array_equal(values, layers[name])
    np.testing.assert_array_equal(stored.layers["labels"].decode([2]), layers["labels"][2:])


def test_a_file_stays_readable_for_any_parquet_reader(tmp_path: Path) -> None:
    series = tile("t")
    store_of(tmp_path, series)
    row = pq.read_table(tmp_path / "tiles" / "t.parquet").to_pylist()[0]
    assert row["tile_id"] == "t"
    assert row["optical"]["dates"] == series.optical.dates.tolist()
    frame = np.empty((10, 6, 5), np.int16)
    decode_frame(pa.py_buffer(row["optical"]["frames"][2]), frame)
    np.testing.assert_array_equal(frame, series.optical.values[2])


def test_no_more_of_a_file_is_read_than_the_frames_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(tmp_path, tile("t", frames=40, size=(64, 64)))
    stored = store.load("t")
    read: list[tuple[int, int]] = []

    def recorded(place: storage.Place, ranges: list[tuple[int, int]], size: int) -> list[pa.Buffer]:
        read.extend(ranges)
        return read_ranges(place, ranges, size)

    monkeypatch.setattr(storage, "read_ranges", recorded)
    stored.optical.decode([7])
    assert 0 < sum(length for _, length in read) < (tmp_path / "tiles" / "t.parquet").stat().st_size / 40


def test_the_store_and_its_tiles_pass_pickling(tmp_path: Path) -> None:
    series = tile("t")
    store = pickle.loads(pickle.dumps(store_of(tmp_path, series)))  # noqa: S301 - our own, made above
    stored = pickle.loads(pickle.dumps(store.load("t")))  # noqa: S301
    assert_same(stored.series(), series)


def test_sums_are_over_valid_and_clear_pixels(tmp_path: Path) -> None:
    optical = np.full((1, 1, 1, 4), 1000, np.int16)
    optical[0, 0, 0, 1:] = (3000, 9000, NO_DATA)
    radar = np.array([[[[-1000, -1200, NO_DATA, -900]], [[-1500, -1800, -1700, NO_DATA]]]], np.int16)
    day = np.array(["2019-01-01"], "datetime64[D]")
    series = TileSeries(
        "t",
        Acquisitions(optical, day, ("B02",)),
        np.array([[[0, 0, 1, 0]]], np.uint8),  # the third pixel is cloud, the fourth without data
        {"S1A": Acquisitions(radar, day, S1_BANDS)},
    )
    manifest = store_of(tmp_path, series).manifest
    blue = manifest.optical_sums()["B02"]
    assert (blue.count, blue.mean, blue.std) == (2, pytest.approx(0.2), pytest.approx(0.1))
    sums = manifest.radar_sums("S1A")
    assert {band: entry.count for band, entry in sums.items()} == {"VV": 3, "VH": 3, "VV-VH": 2}
    assert sums["VV-VH"].mean == pytest.approx(5.5)
    assert manifest.radar_sums("S1A", []) == {}
    clouds = manifest.tiles["t"].clouds
    assert clouds is not None
    assert (clouds.clear_pixels, clouds.cloud_share) == ((3,), pytest.approx(0.25))


def test_a_manifest_says_what_is_in_the_store(tmp_path: Path) -> None:
    full, partial = tile("b", tracks=("S1D",)), tile("a", bands=S2_BANDS[3:6], clouds=False)
    store = store_of(tmp_path, full, partial)
    assert store.tile_ids == ("a", "b")
    assert store.manifest.bands == S2_BANDS
    assert store.manifest.radar_tracks == ("S1A", "S1D")
    record = store.record("b")
    assert (record.size, record.optical.frames, record.radar["S1D"].frames, record.fold) == ((6, 5), 4, 5, 1)
    assert record.optical.first_date == full.optical.dates[0].item()
    assert set(record.objects) == {"tiles/b.parquet", "layers/clouds/b.parquet"}


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda tree: tree | {"version": 99}, [99]),
        (lambda tree: tree | {"format": "other"}, []),
        (lambda tree: {}, []),
        (lambda tree: {k: v for k, v in tree.items() if k != "tiles"} | {"tiles": {"a": {}}}, []),
        (lambda tree: tree | {"tiles": {"../../a": tree["tiles"]["a"]}}, ["'../../a'"]),
        (lambda tree: tree | {"tiles": {"b": tree["tiles"]["a"]}}, ["b"]),
    ],
)
def test_a_foreign_or_damaged_manifest_is_one_line(tmp_path: Path, change: object, facts: list[str | float]) -> None:
    store_of(tmp_path, tile("a"))
    file = tmp_path / MANIFEST_NAME
    file.write_text(json.dumps(change(json.loads(file.read_text()))))  # type: ignore[operator]
    with refused(str(file), *facts):
        TileStore.open(tmp_path)


def test_a_truncated_manifest_is_one_line(tmp_path: Path) -> None:
    store_of(tmp_path, tile("a"))
    file = tmp_path / MANIFEST_NAME
    file.write_bytes(file.read_bytes()[:100])
    with refused(MANIFEST_NAME, "JSON"):
        TileStore.open(tmp_path)


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    with refused(str(tmp_path)):
        TileStore.open(tmp_path)
    (tmp_path / "thesis.tex").write_text("")
    with refused(str(tmp_path), "thesis.tex"):
        TileStoreWriter(tmp_path)


def test_a_truncated_tile_is_named(tmp_path: Path) -> None:
    store = store_of(tmp_path, tile("a"))
    file = tmp_path / "tiles" / "a.parquet"
    content = file.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with refused("tiles/a.parquet"):
            store.load("a")
    file.unlink()
    with refused("tiles/a.parquet"):
        store.load("a")


@settings(max_examples=60)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_never_gives_wrong_pixels(
    tmp_path_factory: pytest.TempPathFactory, position: float, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    series = tile("a")
    store = store_of(folder, series)
    file = folder / "tiles" / "a.parquet"
    content = bytearray(file.read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    file.write_bytes(content)
    try:
        found = store.load("a").series()
    except UserError as error:
        found, refusal = None, str(error)
    if found is None:
        assert "a.parquet" in refusal
    else:
        assert_same(found, series)  # the bit was one that nobody reads


def test_a_tile_of_another_shape_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path / "one", tile("a"))
    store_of(tmp_path / "two", tile("a", size=(7, 7)))
    (tmp_path / "two/tiles/a.parquet").replace(tmp_path / "one/tiles/a.parquet")
    with refused("tiles/a.parquet"):
        store.load("a")
