"""Every file of PASTIS-R arrives in the store as it is, from a folder or an archive, in one go or in many."""

import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rasterio.warp import transform

from jobs.entry import main
from restore_dit.config.ingestion import PastisConfig
from restore_dit.data.pastis.layout import UTM_ORIGINS
from restore_dit.data.pastis.patch_plan import plan_patches
from restore_dit.data.pastis.write import plan_pastis
from restore_dit.data.runner import run
from restore_dit.data.store.tile_store import TileStore
from restore_dit.series import NO_DATA
from tests.data.pastis.miniature import SIDE, SMALL, fingerprint, ingest, ingest_with_many_commits, pack
from tests.messages import assert_names

LAYERS = ("clouds", "labels", "parcel_ids", "bad_frames")


def feature(folder: Path, patch: str) -> dict:
    tree = json.loads((folder / "metadata.geojson").read_text())
    return next(feature for feature in tree["features"] if feature["properties"]["ID_PATCH"] == int(patch))


def dates(folder: Path, patch: str, sensor: str) -> np.ndarray:
    given = feature(folder, patch)["properties"][f"dates-{sensor}"].values()
    return np.array([f"{day // 10000}-{day // 100 % 100:02}-{day % 100:02}" for day in given], "datetime64[D]")


@pytest.fixture
def changed(pastis: Path, tmp_path: Path) -> Path:
    """A copy of the folder to be changed."""
    folder = tmp_path / "PASTIS-R"
    shutil.copytree(pastis, folder)
    return folder


def change_metadata(folder: Path, patch: str, change) -> None:
    tree = json.loads((folder / "metadata.geojson").read_text())
    change(next(entry for entry in tree["features"] if entry["properties"]["ID_PATCH"] == int(patch)))
    (folder / "metadata.geojson").write_text(json.dumps(tree))


@pytest.mark.parametrize("patch", ["10000", "40000"])
def test_a_tile_holds_what_the_files_hold(pastis, undamaged, patch):
    tile = TileStore.open(undamaged).load(patch, layers=LAYERS).series()
    np.testing.assert_array_equal(tile.optical.values, np.load(pastis / f"DATA_S2/S2_{patch}.npy"))
    np.testing.assert_array_equal(tile.optical.dates, dates(pastis, patch, "S2"))
    for track in ("S1A", "S1D"):
        decibel = np.load(pastis / f"DATA_{track}/{track}_{patch}.npy")
        assert decibel.dtype == np.float32
        np.testing.assert_allclose(tile.radar[track].values / 100, decibel[:, :2], atol=0.00501)
        np.testing.assert_array_equal(tile.radar[track].dates, dates(pastis, patch, track))
    np.testing.assert_array_equal(tile.clouds, np.load(pastis / f"REAL_MASKS/{patch}.npy")[:, 0])
    np.testing.assert_array_equal(tile.layers["labels"], np.load(pastis / f"ANNOTATIONS/TARGET_{patch}.npy"))
    np.testing.assert_array_equal(tile.layers["parcel_ids"], np.load(pastis / f"ANNOTATIONS/ParcelIDs_{patch}.npy"))
    bad = json.loads((pastis / "bad_frames.json").read_text())[patch]
    np.testing.assert_array_equal(np.flatnonzero(tile.layers["bad_frames"]), bad)
    said = feature(pastis, patch)["properties"]
    assert tile.properties["fold"] == said["Fold"]
    assert tile.properties["tile"] == said["TILE"]
    assert tile.properties["parcels"] == said["N_Parcel"]
    assert tile.properties["parcel_cover"] == said["Parcel_Cover"]


@pytest.mark.parametrize(("patch", "tile"), [("10000", "t30uxv"), ("20000", "t31tfj"), ("40000", "t32ulu")])
def test_the_transform_meets_every_pixel_to_a_centimetre(undamaged, patch, tile):
    series = TileStore.open(undamaged).load(patch)
    assert series.georeference.crs == "EPSG:2154"
    a, b, c, d, e, f = series.georeference.transform
    crs, left, top = UTM_ORIGINS[tile]
    column, row = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    x, y = transform(crs, "EPSG:2154", (left + 10 * column).ravel(), (top - 10 * row).ravel())
    np.testing.assert_allclose(a * column.ravel() + b * row.ravel() + c, x, atol=0.01)
    np.testing.assert_allclose(d * column.ravel() + e * row.ravel() + f, y, atol=0.01)
    assert series.properties["footprint"].startswith("POLYGON ((")
    assert series.properties["footprint_residual"] < 0.01


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_is_as_good_as_its_folder(pastis, undamaged, tmp_path, method):
    archive = pack(pastis, tmp_path / "PASTIS-R.zip", method)
    assert len(ingest(archive, tmp_path / "store").results) == 4
    assert fingerprint(tmp_path / "store") == fingerprint(undamaged)
    assert len(ingest(pastis.parent, tmp_path / "one_above").results) == 4


def test_an_archive_beyond_four_gigabytes(pastis, undamaged, tmp_path):
    """The members lie behind a hole of 5 GB, so that every position needs ZIP64, as in the published archive."""
    small = pack(pastis, tmp_path / "small.zip")
    archive = tmp_path / "PASTIS-R.zip"
    with zipfile.ZipFile(small) as members, archive.open("wb") as file:
        file.seek(5 << 30)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as large:
            for member in members.infolist():
                large.writestr(member, members.read(member))
    assert archive.stat().st_size > 5 << 30
    assert ingest(archive, tmp_path / "store").failed == {}
    assert fingerprint(tmp_path / "store") == fingerprint(undamaged)


def test_an_archive_that_was_written_as_a_stream(pastis, undamaged, tmp_path):
    """Its members' headers say no sizes: those follow the content."""

    class Stream(io.RawIOBase):
        def __init__(self, file) -> None:
            self.file = file

        def writable(self) -> bool:
            return True

        def write(self, content) -> int:
            return self.file.write(content)

    archive = tmp_path / "PASTIS-R.zip"
    with archive.open("wb") as file, zipfile.ZipFile(Stream(file), "w", zipfile.ZIP_DEFLATED) as streamed:
        for path in sorted(pastis.rglob("*")):
            if path.is_file():
                streamed.write(path, f"PASTIS-R/{path.relative_to(pastis)}")
    assert b"PK\x07\x08" in archive.read_bytes()
    assert ingest(archive, tmp_path / "store").failed == {}
    assert fingerprint(tmp_path / "store") == fingerprint(undamaged)


def test_the_job_for_a_cluster_takes_the_same_configuration(pastis, undamaged, tmp_path, capsys):
    words = [f"source={pastis}", f"output={tmp_path / 'store'}", "workers=0", f"patch_size={SIDE}"]
    assert main("ingest-pastis", [*words, "--dry-run"]) == 0
    assert "radar_nan: quarantine" in capsys.readouterr().out
    assert main("ingest-pastis", words) == 0
    assert fingerprint(tmp_path / "store") == fingerprint(undamaged)
    assert main("ingest-pastis", [f"source={pastis}"]) == 2
    assert_names(capsys.readouterr().err, "output")


def test_the_same_data_in_other_clothes(changed, undamaged, tmp_path):
    """Half precision, column-major and big-endian arrays, a multi-polygon from another corner, dates as text."""
    radar = changed / "DATA_S1A/S1A_20000.npy"
    half = np.load(radar).astype(np.float16)
    np.save(radar, half)
    optical = changed / "DATA_S2/S2_20000.npy"
    np.save(optical, np.asfortranarray(np.load(optical)).astype(">i2"))

    def change(entry: dict) -> None:
        ring = entry["geometry"]["coordinates"][0][:-1]
        entry["geometry"] = {"type": "MultiPolygon", "coordinates": [[[*ring[2:], *ring[:3]][::-1]]]}
        entry["properties"]["dates-S2"] = json.dumps(entry["properties"]["dates-S2"])
        entry["properties"]["dates-S1A"] = list(entry["properties"]["dates-S1A"].values())

    change_metadata(changed, "20000", change)
    assert ingest(changed, tmp_path / "store").failed == {}
    before, after = (TileStore.open(store).load("20000").series() for store in (undamaged, tmp_path / "store"))
    np.testing.assert_array_equal(after.optical.values, before.optical.values)
    np.testing.assert_array_equal(after.optical.dates, before.optical.dates)
    np.testing.assert_allclose(after.radar["S1A"].values / 100, half[:, :2].astype(np.float32), atol=0.00501)
    np.testing.assert_array_equal(after.radar["S1A"].dates, before.radar["S1A"].dates)
    np.testing.assert_allclose(after.georeference.transform, before.georeference.transform, atol=1e-6)


def test_frames_are_sorted_and_those_of_one_day_become_one(changed, undamaged, tmp_path):
    optical, masks = changed / "DATA_S2/S2_20000.npy", changed / "REAL_MASKS/20000.npy"
    values, classes = np.load(optical), np.load(masks)
    order = [2, 0, 1, *range(3, len(values)), 3]
    again = values[order]
    again[-1] = 77  # a second, overcast image of the day of frame 3
    cloudy = classes[order]
    cloudy[3] = 0
    cloudy[-1] = 1
    np.save(optical, again)
    np.save(masks, cloudy)
    (changed / "bad_frames.json").write_text(json.dumps({"20000": [0, len(order) - 1]}))

    def change(entry: dict) -> None:
        days = list(entry["properties"]["dates-S2"].values())
        entry["properties"]["dates-S2"] = {str(index): days[frame] for index, frame in enumerate(order)}

    change_metadata(changed, "20000", change)
    assert ingest(changed, tmp_path / "store", patches=["20000"]).failed == {}
    before, after = (
        TileStore.open(store).load("20000", layers=LAYERS).series() for store in (undamaged, tmp_path / "store")
    )
    np.testing.assert_array_equal(after.optical.dates, before.optical.dates)
    np.testing.assert_array_equal(after.optical.values, before.optical.values)
    assert (after.clouds[3] == 0).all()
    np.testing.assert_array_equal(np.flatnonzero(after.layers["bad_frames"]), [2, 3])


def test_fill_is_no_data_and_small_negative_reflectance_is_kept(changed, tmp_path):
    optical = changed / "DATA_S2/S2_20000.npy"
    values = np.load(optical)
    values[0, :, 0, 0] = -10_000
    values[0, 0, 0, 1], values[0, 0, 0, 2] = -2000, -1999
    np.save(optical, values)
    ingest(changed, tmp_path / "store", patches=["20000"])
    tile = TileStore.open(tmp_path / "store").load("20000").series()
    assert (tile.optical.values[0, :, 0, 0] == NO_DATA).all()
    assert tile.clouds[0, 0, 0] == 255
    assert tile.optical.values[0, 0, 0, 1] == NO_DATA
    assert tile.clouds[0, 0, 1] != 255
    assert tile.optical.values[0, 0, 0, 2] == -1999


def test_what_may_be_left_out_or_lie_elsewhere(changed, undamaged, tmp_path):
    (changed / "REAL_MASKS").rename(tmp_path / "masks")
    (changed / "bad_frames.json").rename(tmp_path / "lists.json")
    shutil.rmtree(changed / "DATA_S1D")
    radar = changed / "DATA_S1A/S1A_20000.npy"
    values = np.load(radar)
    values[0, 0, 0, 0] = np.nan
    values[0, :, 0, 1] = values[0, 2, 0, 1]
    np.save(radar, values)
    report = ingest(changed, tmp_path / "bare", radar=["S1A"], radar_nan="no_data", ratio_tolerance=None)
    assert report.failed == {}
    tile = TileStore.open(tmp_path / "bare").load("20000", layers=LAYERS).series()
    assert tile.clouds is None
    assert set(tile.layers) == {"labels", "parcel_ids"}
    assert (tile.radar["S1A"].values[0, :, 0, 0] == NO_DATA).all()
    ingest(
        changed,
        tmp_path / "store",
        radar=[],
        cloud_masks=str(tmp_path / "masks"),
        bad_frames=str(tmp_path / "lists.json"),
        folds=[1, 2],
    )
    store, whole = TileStore.open(tmp_path / "store"), TileStore.open(undamaged)
    assert store.tile_ids == ("10000", "20000")
    for layer in ("clouds", "bad_frames"):
        one, other = (place.load("10000", layers=LAYERS).layers[layer].decode() for place in (store, whole))
        np.testing.assert_array_equal(one, other)


def test_a_store_that_is_whole_is_left_alone_and_a_missing_tile_added(pastis, undamaged, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(undamaged, store)
    (store / "tiles/20000.parquet").unlink()
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*.parquet")}
    assert len(ingest(pastis, store).results) == 1
    assert fingerprint(store) == fingerprint(undamaged)
    assert all(path.stat().st_mtime_ns == then for path, then in before.items() if path.stem != "20000")
    assert len(ingest(pastis, store).results) == 0


def test_ctrl_c_keeps_what_is_done(pastis, undamaged, tmp_path):
    plan = plan_patches(PastisConfig(source=str(pastis), output=str(tmp_path / "store"), patch_size=SIDE))

    def interrupted(sources):
        yield from plan.work(sources)
        if sources[0] is plan.todo[1]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(replace(plan, work=interrupted))
    assert TileStore.open(tmp_path / "store").tile_ids == ("10000", "20000")
    assert fingerprint(tmp_path / "store") == fingerprint(undamaged, "30000", "40000")


@pytest.mark.slow
def test_killed_ten_times_it_ends_as_in_one_go(tmp_path):
    """SIGKILL at a random moment, again and again, each time in a process of its own."""
    source = tmp_path / "PASTIS-R"
    run(plan_pastis(SMALL, str(source), 60))
    ingest(source, tmp_path / "whole")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "tests.data.pastis.miniature"])
    chance = random.Random(11)
    store = tmp_path / "killed"
    kills, partial = 0, 0
    while kills < 10:
        process = context.Process(target=ingest_with_many_commits, args=(str(source), str(store)))
        process.start()
        # Some tiles further on than before, and then anywhere within the next.
        there = len(list(store.glob("tiles/*.parquet")))
        goal = there + chance.randrange(4)
        until = time.monotonic() + 30
        while len(list(store.glob("tiles/*.parquet"))) < goal and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.01))
        os.kill(process.pid, signal.SIGKILL)
        process.join(timeout=30)
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        partial += len(list(store.glob("tiles/*.parquet"))) < 60
    assert partial == 10
    ingest(source, store)
    assert fingerprint(store) == fingerprint(tmp_path / "whole")
    assert len(TileStore.open(store)) == 60
