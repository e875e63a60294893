"""The tile store: what goes in comes out, ingests resume, and damage is named."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_dit.data import storage
from restore_dit.data.storage import read_ranges
from restore_dit.data.store.frame_codec import decode_frame
from restore_dit.data.store.manifest import MANIFEST_NAME
from restore_dit.data.store.tile_store import TileStore, TileStoreWriter
from restore_dit.errors import UserError
from restore_dit.series import NO_DATA, S1_BANDS, S2_BANDS, Acquisitions, Georeference, TileSeries


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


@settings(max_examples=25, deadline=None)
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
    with pytest.raises(UserError, match="no band B10"):
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


def test_every_commit_is_a_generation_and_the_fingerprint_is_the_content(tmp_path: Path) -> None:
    first = store_of(tmp_path / "one", tile("a"))
    assert first.manifest.generation == 1
    writer = TileStoreWriter(tmp_path / "one")
    assert writer.has("a")
    assert writer.commit().generation == 2
    assert TileStore.open(tmp_path / "one").fingerprint == first.fingerprint
    assert store_of(tmp_path / "two", tile("a")).fingerprint == first.fingerprint
    assert store_of(tmp_path / "three", tile("a", seed=1)).fingerprint != first.fingerprint


def test_tiles_never_change(tmp_path: Path) -> None:
    store_of(tmp_path, tile("a"))
    with pytest.raises(UserError, match="tile a is there already"):
        TileStoreWriter(tmp_path).add(tile("a", seed=1))


def test_a_lost_manifest_is_recovered_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = store_of(tmp_path, tile("a"), tile("b", clouds=False)).manifest
    (tmp_path / MANIFEST_NAME).unlink()
    with pytest.raises(UserError, match="its ingest was not finished"):
        TileStore.open(tmp_path)
    monkeypatch.setattr("restore_dit.data.store.stored_tile.decode_frame", None)
    assert TileStoreWriter(tmp_path, source="test").commit() == manifest


def test_new_clouds_change_the_sums_and_survive_a_lost_manifest(tmp_path: Path) -> None:
    series = tile("a", clouds=False)
    before = store_of(tmp_path, series).fingerprint
    clouds = np.zeros((4, 6, 5), np.uint8)
    clouds[1:] = 1
    writer = TileStoreWriter(tmp_path)
    writer.replace_clouds(TileSeries("a", series.optical, clouds))
    manifest = writer.commit()
    store = TileStore.open(tmp_path)
    assert store.fingerprint != before
    stored = store.load("a").clouds
    assert stored is not None
    np.testing.assert_array_equal(stored.decode(), clouds)
    valid = series.optical.values[0, 0][series.optical.values[0, 0] != NO_DATA]
    assert manifest.optical_sums()["B02"].mean == pytest.approx(valid.mean() / 10000)
    (tmp_path / MANIFEST_NAME).unlink()
    assert TileStoreWriter(tmp_path).commit().tiles == manifest.tiles


def test_layers_of_a_killed_run_are_not_taken_for_those_of_another_tile(tmp_path: Path) -> None:
    labelled = dataclasses.replace(tile("a", frames=4), layers={"labels": np.ones((3, 6, 5), np.uint8)})
    store_of(tmp_path, labelled)
    (tmp_path / MANIFEST_NAME).unlink()
    (tmp_path / "tiles/a.parquet").unlink()  # as if killed between the layers and the tile
    other = tile("a", frames=6, clouds=False)
    TileStoreWriter(tmp_path).add(other)
    TileStoreWriter(tmp_path).commit()  # by another process, which only finds the files
    store = TileStore.open(tmp_path)
    assert store.record("a").layers == ()
    assert_same(store.load("a").series(), other)


def test_a_layer_that_is_not_the_one_written_is_named(tmp_path: Path) -> None:
    labelled = dataclasses.replace(tile("a"), layers={"labels": np.ones((3, 6, 5), np.uint8)})
    store_of(tmp_path, labelled)
    (tmp_path / MANIFEST_NAME).unlink()
    (tmp_path / "layers/labels/a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"layers/labels/a.parquet: damaged"):
        TileStoreWriter(tmp_path).commit()


def test_a_stray_file_among_the_tiles_stops_nobody(tmp_path: Path) -> None:
    store_of(tmp_path, tile("a"))
    (tmp_path / "tiles" / "a copy (1).parquet").write_bytes(b"")
    assert store_of(tmp_path, tile("b")).tile_ids == ("a", "b")


def test_a_quarantined_tile_may_come_later(tmp_path: Path) -> None:
    writer = TileStoreWriter(tmp_path)
    writer.quarantine("a", "no dates")
    writer.commit()
    with pytest.raises(UserError, match="was quarantined: no dates"):
        TileStore.open(tmp_path).load("a")
    assert store_of(tmp_path, tile("a")).manifest.quarantined == {}


def test_a_killed_ingest_leaves_no_half_tile_and_resumes(tmp_path: Path) -> None:
    script = """
        import os, signal, sys
        sys.path.insert(0, sys.argv[2])
        from test_tile_store import tile
        from restore_dit.data import storage
        from restore_dit.data.store.tile_store import TileStoreWriter
        writer = TileStoreWriter(sys.argv[1])
        for name in "abc":
            writer.add(tile(name))
        def die(*_):
            os.kill(os.getpid(), signal.SIGKILL)
        os.fsync = die  # the bytes of tile d are written, its name is not yet there
        writer.add(tile("d"))
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(Path(__file__).parent)], timeout=60
    )
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / MANIFEST_NAME).exists()
    left = [name for _, _, names in os.walk(tmp_path) for name in names if name.startswith(".")]
    assert len(left) == 1  # the unfinished write

    writer = TileStoreWriter(tmp_path)
    assert [name for name in "abcd" if writer.has(name)] == ["a", "b", "c"]
    written = (tmp_path / "tiles" / "a.parquet").stat().st_mtime_ns
    writer.add(tile("d"))
    writer.commit()
    assert (tmp_path / "tiles" / "a.parquet").stat().st_mtime_ns == written
    store = TileStore.open(tmp_path)
    for name in "abcd":
        assert_same(store.load(name).series(), tile(name))


def test_a_commit_between_reading_and_writing_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = TileStoreWriter(tmp_path), TileStoreWriter(tmp_path)
    first.add(tile("a"))
    listing = storage.list_names

    def other_commits_meanwhile(place: storage.Place) -> list[str]:
        names = listing(place)
        if not second.has("b"):
            second.add(tile("b"))
            second.commit(recover=False)
        return names

    monkeypatch.setattr(storage, "list_names", other_commits_meanwhile)
    first.commit(recover=False)
    assert TileStore.open(tmp_path).tile_ids == ("a", "b")


def test_commits_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    script = """
        import sys
        sys.path.insert(0, sys.argv[2])
        from test_tile_store import tile
        from restore_dit.data.store.tile_store import TileStoreWriter
        writer = TileStoreWriter(sys.argv[1])
        for index in range(12):
            writer.add(tile(f"{sys.argv[3]}{index:02d}"))
            writer.quarantine(f"bad-{sys.argv[3]}{index}", "no dates")
            writer.commit(recover=False)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(Path(__file__).parent)]
    writers = [subprocess.Popen([*command, name]) for name in "xyz"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    manifest = TileStore.open(tmp_path).manifest
    assert list(manifest.tiles) == [f"{name}{index:02d}" for name in "xyz" for index in range(12)]
    assert len(manifest.quarantined) == 36
    assert manifest.generation == 36  # each commit is one of its own


@pytest.mark.parametrize("name", ["../a", "a/b", ".a", "", "a\0", "a" * 200, "..", "/etc/passwd"])
def test_unsafe_names_are_refused(tmp_path: Path, name: str) -> None:
    series = tile("t")
    with pytest.raises(UserError, match="unsafe tile id"):
        TileStoreWriter(tmp_path / "s").add(TileSeries(name, series.optical))
    with pytest.raises(UserError, match="unsafe radar track"):
        TileStoreWriter(tmp_path / "s").add(TileSeries("t", series.optical, radar={name: series.radar["S1A"]}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tree: tree | {"version": 99}, "format version 99"),
        (lambda tree: tree | {"format": "other"}, "not the manifest of a tile store"),
        (lambda tree: {}, "not the manifest of a tile store"),
        (lambda tree: {k: v for k, v in tree.items() if k != "tiles"} | {"tiles": {"a": {}}}, "damaged"),
        (lambda tree: tree | {"tiles": {"../../a": tree["tiles"]["a"]}}, "unsafe tile id"),
        (lambda tree: tree | {"tiles": {"b": tree["tiles"]["a"]}}, "must consist of"),
    ],
)
def test_a_foreign_or_damaged_manifest_is_one_line(tmp_path: Path, change: object, says: str) -> None:
    store_of(tmp_path, tile("a"))
    file = tmp_path / MANIFEST_NAME
    file.write_text(json.dumps(change(json.loads(file.read_text()))))  # type: ignore[operator]
    with pytest.raises(UserError, match=says) as error:
        TileStore.open(tmp_path)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


def test_a_truncated_manifest_is_one_line(tmp_path: Path) -> None:
    store_of(tmp_path, tile("a"))
    file = tmp_path / MANIFEST_NAME
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged, not JSON"):
        TileStore.open(tmp_path)


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tile store there"):
        TileStore.open(tmp_path)
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"holds thesis.tex and is no tile store"):
        TileStoreWriter(tmp_path)


def test_a_truncated_tile_is_named(tmp_path: Path) -> None:
    store = store_of(tmp_path, tile("a"))
    file = tmp_path / "tiles" / "a.parquet"
    content = file.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"tiles/a.parquet: .*(damaged|shorter than)"):
            store.load("a")
    file.unlink()
    with pytest.raises(UserError, match=r"tiles/a.parquet: not found"):
        store.load("a")


@settings(max_examples=60, deadline=None)
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
    with pytest.raises(UserError, match=r"tiles/a.parquet: damaged"):
        store.load("a")
