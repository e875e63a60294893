"""Damaged cubes: each is named in one line, and the rest of the sites is ingested."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

from restore_dit.cli import main
from restore_dit.config.cube_mapping import CubeMapping
from restore_dit.data.cubes.site_series import plan_cubes
from restore_dit.data.items import Outcome
from restore_dit.data.runner import run
from restore_dit.data.store.tile_store import TileStore
from tests.messages import assert_names

MAPPING = CubeMapping.model_validate(
    {
        "source": "test",
        "optical": [
            {
                "files": "s2*",
                "bands": {"B04": "red", "B08": "nir"},
                "scale": 1e-4,
                "no_data": [0],
                "classification": "scl",
            }
        ],
        "radar": [{"files": "s1*", "track": "S1A", "bands": {"VV": "VV", "VH": "VH"}, "no_data": [0]}],
        "classes": {0: "no_data", 4: "clear", 9: "thick_cloud"},
    }
)
TIMES = np.array(["2019-01-01", "2019-01-06", "2019-01-11"], "datetime64[ns]")


def optical() -> xarray.Dataset:
    image = np.arange(100, 100 + 3 * 4 * 5).reshape(3, 4, 5).astype(np.uint16)
    dims = ("time", "y", "x")
    return xarray.Dataset(
        {"red": (dims, image), "nir": (dims, image * 2), "scl": (dims, np.full((3, 4, 5), 4, np.uint8))},
        coords={"time": TIMES, "y": 5600000 - 10.0 * np.arange(4), "x": 500000 + 10.0 * np.arange(5)},
        attrs={"crs": "EPSG:32631"},
    )


def radar() -> xarray.Dataset:
    dataset = optical()
    dims = ("time", "y", "x")
    return dataset.drop_vars(["red", "nir", "scl"]).assign(
        VV=(dims, np.full((3, 4, 5), -11.0)), VH=(dims, np.full((3, 4, 5), -18.0))
    )


def write(folder: Path, s2: xarray.Dataset | None = None, s1: xarray.Dataset | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (optical() if s2 is None else s2).to_netcdf(folder / "s2.nc", engine="h5netcdf")
    (radar() if s1 is None else s1).to_netcdf(folder / "s1.nc", engine="h5netcdf")


def changed(**assigned: Any) -> xarray.Dataset:
    return optical().assign(**assigned)


def all_values(value: int) -> xarray.Dataset:
    dataset = optical()
    return dataset.assign(red=dataset.red * 0 + value, nir=dataset.nir * 0 + value)


def no_date() -> xarray.Dataset:
    times = TIMES.copy()
    times[1] = np.datetime64("NaT")
    return optical().assign_coords(time=times)


def in_degrees() -> xarray.Dataset:
    dataset = optical().drop_attrs(deep=False).assign_coords(y=50 - 1e-4 * np.arange(4), x=3 + 1e-4 * np.arange(5))
    dataset.y.attrs, dataset.x.attrs = {"units": "degrees_north"}, {"units": "degrees_east"}
    return dataset


def truncated(folder: Path) -> None:
    file = folder / "s2.nc"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def truncated_zarr(folder: Path) -> None:
    (folder / "s2.nc").unlink()
    optical().to_zarr(folder / "s2.zarr", zarr_format=2)
    chunk = folder / "s2.zarr" / "red" / "0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:20])  # Blosc would decode that


def zarr_3_truncated(folder: Path) -> None:
    (folder / "s2.nc").unlink()
    optical().to_zarr(folder / "s2.zarr", zarr_format=3, consolidated=False)
    chunk = folder / "s2.zarr" / "red" / "c" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:20])


def zarr_without_metadata(folder: Path) -> None:
    (folder / "s2.nc").unlink()
    (folder / "s2.zarr").mkdir()


def classic_netcdf_truncated(folder: Path) -> None:
    (folder / "s2.nc").unlink()
    optical().to_netcdf(folder / "s2.nc", engine="scipy")
    truncated(folder)


DAMAGES: dict[str, tuple[xarray.Dataset | Callable[[Path], None], str]] = {
    "truncated": (truncated, "s2.nc: cannot be read as NetCDF"),
    "classic truncated": (classic_netcdf_truncated, "s2.nc: cannot be read as NetCDF"),
    "empty file": (lambda folder: (folder / "s2.nc").write_bytes(b"") and None, "s2.nc: cannot be read as NetCDF"),
    "a web page": (lambda folder: (folder / "s2.nc").write_text("<html>") and None, "s2.nc: cannot be read as NetCDF"),
    "truncated zarr": (truncated_zarr, r"s2\.zarr: chunk red/0\.0\.0 .*\b20 bytes"),
    "truncated zarr 3": (zarr_3_truncated, "s2.zarr: cannot be read"),
    "empty zarr": (zarr_without_metadata, "s2.zarr: cannot be read as Zarr"),
    "radar truncated": (lambda folder: (folder / "s1.nc").write_bytes(b"CDF\x01") and None, "s1.nc: cannot be read"),
    "no optical file": (lambda folder: (folder / "s2.nc").unlink(), "no optical file of bad matches s2"),
    "missing variable": (optical().drop_vars("nir"), "no variable nir; it has red, scl"),
    "no crs": (optical().drop_attrs(deep=False), r"s2\.nc: .*\bCRS\b.*\bcrs_wkt\b"),
    "metres called degrees": (optical().assign_attrs(crs="EPSG:4326"), "s2.nc: steps of 10 and 10 in EPSG:4326"),
    "degrees called metres": (in_degrees().assign_attrs(crs="EPSG:32631"), "s2.nc: steps of 0.0001 and 0.0001"),
    "another zone": (optical().assign_attrs(crs="EPSG:32632"), "its CRS EPSG:32631 is not EPSG:32632"),
    "another place": (optical().assign_coords(x=900000 + 10.0 * np.arange(5)), "does not overlap"),
    "shapes that differ": (
        changed(nir=(("time", "y2", "x2"), np.ones((3, 2, 2), np.uint16))),
        "variable nir has dimensions time, y2, x2",
    ),
    "an image only": (optical().isel(time=0, drop=True), "no dimension time with coordinates"),
    "no acquisition": (optical().isel(time=slice(0)), r"s2\.nc: .*\bno acquisition\b.*\btime\b"),
    "no date": (no_date(), "1 of 3 acquisitions have no date in time"),
    "numbers for dates": (optical().assign_coords(time=[1.0, 2.0, 3.0]), r"s2\.nc: time .*\bfloat64 such as .?1\.0\b"),
    "x goes back": (optical().assign_coords(x=500000 + 10.0 * np.array([0, 1, 2, 1, 0])), "x are not evenly spaced"),
    "y has a gap": (optical().assign_coords(y=5600000 - 10.0 * np.array([0, 1, 2, 9])), "y are not evenly spaced"),
    "x is not a number": (
        optical().assign_coords(x=[0, 10, np.nan, 30, 40]),
        r"s2\.nc: .*\bcoordinates of x\b",
    ),
    "all no data": (all_values(0), "no pixel of any optical band has data"),
    "reflectance unscaled": (all_values(60000), r"s2\.nc: .*\breflectance of 3\.28\b"),
    "text for numbers": (
        changed(red=(("time", "y", "x"), np.full((3, 4, 5), "a", object))),
        "not numbers: correct the mapping",
    ),
    "unknown class": (
        changed(scl=(("time", "y", "x"), np.full((3, 4, 5), 77, np.uint8))),
        r"s2\.nc: scl .*\b77\b.*`classes`",
    ),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    write(folder)
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_site_is_one_line_and_the_others_are_whole(tmp_path: Path, good: Path, damage: str) -> None:
    source, store = tmp_path / "source", tmp_path / "store"
    what, says = DAMAGES[damage]
    for name in ("bad", "good"):
        shutil.copytree(good, source / name)
    if isinstance(what, xarray.Dataset):
        write(source / "bad", what)
    else:
        what(source / "bad")
    manifest = run(plan_cubes(source, store, MAPPING)).committed
    assert list(manifest.tiles) == ["good"]
    assert list(manifest.quarantined) == ["bad"]
    reason = manifest.quarantined["bad"]
    assert re.search(says, reason), reason
    assert "\n" not in reason
    assert len(reason) < 600
    stored = TileStore.open(store).load("good").optical.decode(None, ["B04"])
    np.testing.assert_array_equal(stored[:, 0], optical().red)


def test_a_mended_site_leaves_quarantine(tmp_path: Path, good: Path) -> None:
    source, store = tmp_path / "source", tmp_path / "store"
    for name in ("a", "bad"):
        shutil.copytree(good, source / name)
    truncated(source / "bad")
    assert list(run(plan_cubes(source, store, MAPPING)).committed.quarantined) == ["bad"]
    shutil.copy(good / "s2.nc", source / "bad")
    again = run(plan_cubes(source, store, MAPPING)).committed
    assert (list(again.tiles), again.quarantined) == (["a", "bad"], {})


def test_radar_in_the_wrong_unit_is_one_line(tmp_path: Path) -> None:
    linear = radar().assign(VV=10 ** (radar().VV / 10), VH=10 ** (radar().VH / 10))
    write(tmp_path / "source" / "a", s1=linear)
    manifest = run(plan_cubes(tmp_path / "source", tmp_path / "store", MAPPING)).committed
    assert_names(manifest.quarantined["a"], "VH", "0.0158 dB")


def test_two_folders_with_one_id_are_quarantined_together(tmp_path: Path) -> None:
    mapping = MAPPING.model_copy(update={"tile_id": r"s[12]_(\w+)\.nc"})
    for folder, name in (("x", "field"), ("y", "field"), ("z", "other")):
        optical_file = tmp_path / "source" / folder / f"s2_{name}.nc"
        optical_file.parent.mkdir(parents=True)
        optical().to_netcdf(optical_file, engine="h5netcdf")
    manifest = run(plan_cubes(tmp_path / "source", tmp_path / "store", mapping)).committed
    assert list(manifest.tiles) == ["other"]
    assert_names(manifest.quarantined["field"], "field")


def test_an_interrupted_ingest_keeps_what_is_there(tmp_path: Path, good: Path) -> None:
    for name in "abc":
        shutil.copytree(good, tmp_path / "source" / name)

    def interrupt(outcome: Outcome, done: int, *_: object) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan_cubes(tmp_path / "source", tmp_path / "store", MAPPING), on_outcome=interrupt)
    assert TileStore.open(tmp_path / "store").tile_ids == ("a", "b")
    run(plan_cubes(tmp_path / "source", tmp_path / "store", MAPPING))
    assert TileStore.open(tmp_path / "store").tile_ids == ("a", "b", "c")


def test_the_command_line_says_what_it_would_do_and_what_it_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "source" / "a")
    write(tmp_path / "source" / "bad", optical().drop_vars("nir"))
    (tmp_path / "own.yaml").write_text(
        "source: own\noptical: [{files: 's2*', bands: {B04: red, B08: nir}, scale: 1.0e-4}]\n"
    )
    words = [
        "ingest-cubes",
        str(tmp_path / "source"),
        str(tmp_path / "store"),
        "--mapping",
        str(tmp_path / "own.yaml"),
    ]
    assert main([*words, "--dry-run", "crs=EPSG:32631"]) == 0
    out = capsys.readouterr().out
    assert "crs: EPSG:32631" in out
    assert "# a: s2.nc" in out
    assert not (tmp_path / "store").exists()
    assert main(words) == 1
    captured = capsys.readouterr()
    assert re.findall(r"\d+", captured.out.splitlines()[0]) == ["2", "0"]
    assert captured.out.splitlines()[-1] == f"{tmp_path / 'store'}: 1 tiles, 1 quarantined"
    assert captured.err.splitlines() == [line for line in captured.err.splitlines() if "quarantined bad" in line]
    assert main([*words, "--allow-bad-tiles"]) == 0
    assert main([*words, "sorce=own"]) == 2
