"""Data cubes to tiles: units, classes, grids, days, and one clear line for what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray
from numpy.typing import NDArray

from restore_dit.config.cube_mapping import CubeMapping, load_cube_mapping, shipped_cube_mappings
from restore_dit.data.cubes.acquisition_merge import merge_days
from restore_dit.data.cubes.site_series import plan_cubes, read_cube
from restore_dit.data.cubes.sites import find_sites
from restore_dit.data.items import Outcome
from restore_dit.data.runner import run
from restore_dit.data.store.manifest import TileRecord
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from restore_dit.series import NO_DATA
from tests.messages import assert_names, refused

UTM = "EPSG:32631"
SITE_A, SITE_B = "0000280849BAC91C", "000028085BF08E7E"


def write_cube(
    file: Path,
    variables: dict[str, NDArray[Any]],
    times: list[str],
    resolution: float = 10,
    west_north: tuple[float, float] = (500000, 5600000),
    crs: str | None = UTM,
    time: str = "timestamp",
) -> Path:
    """A NetCDF 4 file as the real ones are: array-valued attributes, centres of pixels as coordinates."""
    height, width = next(iter(variables.values())).shape[-2:]
    dataset = xarray.Dataset(
        {name: ((time, "y", "x"), values) for name, values in variables.items()},
        coords={
            time: np.array(times, "datetime64[ns]"),
            "y": west_north[1] - resolution * (np.arange(height) + 0.5),
            "x": west_north[0] + resolution * (np.arange(width) + 0.5),
        },
        attrs={"bounds": np.array([1, 2, 3, 4]), "grid_mapping": "spatial_ref"} if crs else {},
    )
    for name in variables:
        dataset[name].attrs = {"centroid": np.array([1.0, 2.0]), "scale_factor": 1e-4, "coordinates": "spatial_ref"}
    if crs:
        dataset["spatial_ref"] = ((), 0, {"crs_wkt": crs, "spatial_ref": crs})
    file.parent.mkdir(parents=True, exist_ok=True)
    dataset.to_netcdf(file, engine="h5netcdf")
    return file


def mapping(**changes: Any) -> CubeMapping:
    """Two optical products and a radar, without the family's registration."""
    tree: dict[str, Any] = {
        "source": "test",
        "dimensions": {"time": "timestamp"},
        "optical": [
            {"files": "S2_10m*.nc", "bands": {"B02": "B02"}, "scale": 1e-4, "no_data": [0]},
            {
                "files": "S2_20m*.nc",
                "bands": {"B11": "B11"},
                "scale": 1e-4,
                "no_data": [0],
                "classification": "SCL",
                "resampling": "nearest",
            },
        ],
        "radar": [
            {"files": "S1_A*.nc", "track": "S1A", "bands": {"VV": "VV", "VH": "VH"}, "scale": 1e-4, "no_data": [0]},
            {"files": "S1_D*.nc", "track": "S1D", "bands": {"VV": "VV", "VH": "VH"}, "unit": "power"},
        ],
        "classes": {4: "clear", 3: "shadow", 9: "thick_cloud", 10: "thin_cloud"},
    }
    return CubeMapping.model_validate(tree | changes)


def site(folder: Path, times: tuple[str, ...] = ("2019-01-01T10:00:00", "2019-01-06T10:00:00")) -> Path:
    """A complete site: 4×4 pixels at 10 m, 2×2 at 20 m."""
    blue = np.arange(1, 1 + 16 * len(times), dtype=np.uint16).reshape(-1, 4, 4)
    swir = np.arange(1000, 1000 + 4 * len(times), dtype=np.uint16).reshape(-1, 2, 2)
    scene = np.tile(np.array([[4, 3], [9, 10]], np.uint8), (len(times), 1, 1))
    decibel = np.full((len(times), 2, 2), -123456, np.int32)
    write_cube(folder / "S2_10m.nc", {"B02": blue}, list(times))
    write_cube(folder / "S2_20m.nc", {"B11": swir, "SCL": scene}, list(times), 20)
    write_cube(folder / "S1_A.nc", {"VV": decibel, "VH": decibel * 2}, list(times), 20)
    return folder


def test_units_and_classes(tmp_path: Path) -> None:
    folder = site(tmp_path / "a")
    write_cube(
        folder / "S1_D.nc",
        {"VV": np.full((1, 4, 4), 0.1, np.float32), "VH": np.tile(np.float32([0, 0, 0.01, 0.01]), (1, 4, 1))},
        ["2019-01-02"],
    )
    series = read_cube(folder, mapping())
    assert (series.tile_id, series.optical.bands, series.size) == ("a", ("B02", "B11"), (4, 4))
    np.testing.assert_array_equal(series.optical.values[0, 0], np.arange(1, 17).reshape(4, 4))
    np.testing.assert_array_equal(series.optical.values[0, 1], np.kron([[1000, 1001], [1002, 1003]], np.ones((2, 2))))
    assert series.clouds is not None
    np.testing.assert_array_equal(series.clouds[1], np.kron([[0, 3], [1, 2]], np.ones((2, 2))))
    assert set(np.unique(series.radar["S1A"].values[:, 0])) == {-1235}  # -12.3456 dB
    assert set(np.unique(series.radar["S1A"].values[:, 1])) == {-2469}
    assert set(np.unique(series.radar["S1D"].values[0, 0])) == {-1000}  # 0.1 is -10 dB
    assert series.radar["S1D"].values[0, 1, 0].tolist() == [NO_DATA, NO_DATA, -2000, -2000]  # no power, no dB
    assert series.georeference is not None
    assert series.georeference.crs == UTM
    assert series.georeference.transform == (10, 0, 500000, 0, -10, 5600000)


def test_no_data_is_never_a_reflectance(tmp_path: Path) -> None:
    stored = np.array([[[0, 1000], [40000, 65535], [2000, 2000], [2000, 2000]]], np.uint16)
    write_cube(tmp_path / "S2_10m.nc", {"B02": stored}, ["2019-01-01"])
    optical = {"files": "S2_10m*.nc", "bands": {"B02": "B02"}, "scale": 1e-4, "offset": -0.1, "no_data": [0, 65535]}
    values = read_cube(tmp_path, mapping(optical=[optical], radar=[])).optical.values
    np.testing.assert_array_equal(values[0, 0, :2], [[NO_DATA, 0], [NO_DATA, NO_DATA]])
    below = optical | {"no_data": [], "no_data_at_or_below": 1000}
    values = read_cube(tmp_path, mapping(optical=[below], radar=[])).optical.values
    np.testing.assert_array_equal(values[0, 0, :2], [[NO_DATA, NO_DATA], [NO_DATA, NO_DATA]])


def test_an_acquisition_that_one_product_lacks_has_no_data_there(tmp_path: Path) -> None:
    folder = site(tmp_path)
    both, only_20m = ["2019-01-01T10:00:00", "2019-01-06T10:00:00"], ["2019-01-06T10:00:00", "2019-01-03"]
    swir = np.full((2, 2, 2), 7, np.uint16)
    write_cube(folder / "S2_20m.nc", {"B11": swir, "SCL": np.full((2, 2, 2), 4, np.uint8)}, only_20m, 20)
    series = read_cube(folder, mapping())
    assert series.optical.dates.astype(str).tolist() == [both[0][:10], "2019-01-03", both[1][:10]]
    missing = (series.optical.values == NO_DATA).all(axis=(2, 3))
    np.testing.assert_array_equal(missing, [[False, True], [True, False], [False, False]])
    assert series.clouds is not None
    assert (series.clouds[0] == 255).all()


def test_two_images_of_a_day_become_one_of_their_best_pixels() -> None:
    values = np.array([[[[10, 11, NO_DATA, 13, NO_DATA]]], [[[20, 21, 22, 23, NO_DATA]]]], np.int16)
    clouds = np.array([[[0, 1, 0, 255, 255]], [[0, 0, 3, 2, 255]]], np.uint8)
    times = np.array(["2019-01-01T10:00:07", "2019-01-01T10:00:00"], "datetime64[s]")
    merged, dates, merged_clouds = merge_days(values, times, clouds)
    assert dates.astype(str).tolist() == ["2019-01-01"]
    # equal: the earlier; clear over cloudy; data over none; cloudy over unknown; nothing anywhere
    np.testing.assert_array_equal(merged[0, 0], [[20, 21, 22, 23, NO_DATA]])
    assert merged_clouds is not None
    np.testing.assert_array_equal(merged_clouds[0], [[0, 0, 3, 2, 255]])


def test_products_seconds_apart_fill_each_other(tmp_path: Path) -> None:
    folder = site(tmp_path)
    times = ["2019-01-01T10:00:03", "2019-01-06T10:00:03"]
    scene = np.full((2, 2, 2), 4, np.uint8)
    write_cube(folder / "S2_20m.nc", {"B11": np.full((2, 2, 2), 7, np.uint16), "SCL": scene}, times, 20)
    series = read_cube(folder, mapping())
    assert len(series.optical) == 2
    assert not series.missing().any()


@pytest.mark.parametrize("flipped", [False, True])
def test_rows_run_from_north_to_south_whatever_the_file_does(tmp_path: Path, flipped: bool) -> None:
    file = write_cube(
        tmp_path / "S2_10m.nc", {"B02": np.arange(1, 7, dtype=np.uint16).reshape(1, 3, 2)}, ["2019-01-01"]
    )
    if flipped:
        dataset = xarray.load_dataset(file, engine="h5netcdf", mask_and_scale=False).isel(y=slice(None, None, -1))
        file.unlink()
        dataset.to_netcdf(file, engine="h5netcdf")
    series = read_cube(tmp_path, mapping(optical=[mapping().optical[0].model_dump()], radar=[]))
    np.testing.assert_array_equal(series.optical.values[0, 0], [[1, 2], [3, 4], [5, 6]])
    assert series.georeference is not None
    assert series.georeference.transform == (10, 0, 500000, 0, -10, 5600000)


def test_registration_brings_products_together_and_leaves_the_grid(tmp_path: Path) -> None:
    site(tmp_path)
    tree = mapping().model_dump()
    for product in tree["optical"]:
        product["registration"] = (0, -1)  # one own pixel north: 10 m and 20 m, so 10 m between the two
    series = read_cube(tmp_path, mapping(optical=tree["optical"]))
    assert series.georeference is not None
    assert series.georeference.transform == (10, 0, 500000, 0, -10, 5600000)
    np.testing.assert_array_equal(series.optical.values[0, 1, :, 0], [1000, 1002, 1002, 1002])


def test_a_folder_of_sites_goes_to_a_store_and_bad_ones_are_quarantined(tmp_path: Path) -> None:
    source, store = tmp_path / "source", tmp_path / "store"
    for name in ("good", "truncated", "empty", "textual", "alien"):
        site(source / name)
    content = (source / "truncated" / "S2_20m.nc").read_bytes()
    (source / "truncated" / "S2_20m.nc").write_bytes(content[: len(content) // 2])
    for file in (source / "empty").iterdir():
        file.unlink()
    (source / "textual" / "S2_10m.nc").write_text("not NetCDF")
    write_cube(
        source / "alien" / "S1_A.nc",
        {"VV": np.ones((1, 2, 2)), "VH": np.ones((1, 2, 2))},
        ["2019-01-01"],
        crs="EPSG:32632",
    )

    seen: list[tuple[int, int, Outcome[TileRecord]]] = []
    manifest = run(
        plan_cubes(source, store, mapping()),
        on_outcome=lambda outcome, done, total: seen.append((done, total, outcome)),
    ).committed
    assert [found[:2] for found in seen] == [(done, 5) for done in range(1, 6)]
    good = seen[2][2]
    assert good.result is not None
    assert (good.item, good.result.optical.frames, len(good.result.optical.bands)) == ("good", 2, 2)
    says = {
        "truncated": ["truncated/S2_20m.nc", "NetCDF"],
        "textual": ["textual/S2_10m.nc", "NetCDF"],
        "empty": ["empty", "S2_10m"],
        "alien": ["alien/S1_A.nc", "EPSG:32632", "EPSG:32631"],
    }
    opened = TileStore.open(store)
    assert opened.tile_ids == ("good",)
    assert opened.manifest == manifest
    assert manifest.quarantined.keys() == says.keys()
    for name, facts in says.items():
        assert_names(manifest.quarantined[name], *facts)
        assert "\n" not in manifest.quarantined[name]

    site(source / "empty")
    names: list[str] = []
    again = run(
        plan_cubes(source, store, mapping()), on_outcome=lambda outcome, *_: names.append(outcome.item)
    ).committed
    assert (list(again.tiles), again.generation) == (["empty", "good"], 2)
    assert "empty" not in again.quarantined
    assert names == ["alien", "empty", "textual", "truncated"]


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"dimensions": {"time": "t"}}, ["dimension t", "timestamp"]),
        ({"optical": [{"files": "S2_10m*.nc", "bands": {"B03": "B03"}}]}, ["B03", "B02"]),
        ({"optical": [{"files": "S2_99m*.nc", "bands": {"B03": "B03"}}], "radar": []}, ["S2_99m*.nc"]),
    ],
)
def test_a_mapping_that_does_not_fit_is_one_line(tmp_path: Path, changes: dict[str, Any], facts: list[str]) -> None:
    with refused(*facts):
        read_cube(site(tmp_path), mapping(**changes))


def test_files_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    one = np.ones((1, 2, 2), np.uint16)
    optical = {"files": "S2_10m*.nc", "bands": {"B02": "B02"}}
    plain = mapping(optical=[optical], radar=[])
    file = tmp_path / "S2_10m.nc"

    def refusal(wanted: CubeMapping = plain) -> str:
        with pytest.raises(UserError) as error:
            read_cube([file], wanted)
        return str(error.value)

    assert_names(refusal(), str(file))
    write_cube(file, {"B02": one}, ["2019-01-01"], crs=None)
    assert_names(refusal(), "S2_10m.nc", "CRS")
    assert read_cube([file], plain.model_copy(update={"crs": UTM})).size == (2, 2)
    write_cube(file, {"B02": one[:, :1, :1]}, ["2019-01-01"])
    assert_names(refusal(), "S2_10m.nc", "single pixel")
    write_cube(file, {"B02": one}, ["2019-01-01"])
    with h5py.File(file, "r+") as raw:
        raw["y"][:] = [7.0, 7.0]
    assert_names(refusal(), "S2_10m.nc", "coordinates of y")
    far = write_cube(tmp_path / "S1_A.nc", {"VV": one, "VH": one}, ["2019-01-01"], west_north=(0, 0))
    write_cube(file, {"B02": one}, ["2019-01-01"])
    with refused("S1_A.nc"):
        read_cube([file, far], mapping(optical=[optical]))


def test_a_flat_folder_is_split_into_sites_by_the_file_names(tmp_path: Path) -> None:
    for name in ("x1", "x2"):
        write_cube(tmp_path / f"S2_10m_{name}.nc", {"B02": np.ones((1, 2, 2), np.uint16)}, ["2019-01-01"])
    wanted = mapping(tile_id=r"_(x\d)\.nc$")
    assert [entry.tile_id for entry in find_sites(tmp_path, wanted)] == ["x1", "x2"]
    with refused(str(tmp_path), "2 sites"):
        read_cube(tmp_path, wanted)


def test_mappings_are_found_by_name_and_by_file(tmp_path: Path) -> None:
    assert "worldcereal" in shipped_cube_mappings()
    file = tmp_path / "own.yaml"
    file.write_text("source: own\nradars: []\noptical: [{files: '*.nc', bands: {B02: blue}}]\n")
    with refused(str(file), "'radars'", "'radar'", status=2):
        load_cube_mapping(file)
    with refused("absent", "worldcereal", status=2):
        load_cube_mapping("absent")


@pytest.fixture(scope="session")
def real_store(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> TileStore:
    folder = tmp_path_factory.mktemp("real")
    run(plan_cubes(shared / "data/sentinel_series", folder, load_cube_mapping("worldcereal")))
    return TileStore.open(folder)


def test_the_real_sites(real_store: TileStore) -> None:
    assert real_store.tile_ids == (SITE_A, SITE_B)
    assert real_store.manifest.quarantined == {}
    full, coarse = real_store.record(SITE_A), real_store.record(SITE_B)
    assert (full.size, len(full.optical.bands), full.optical.frames, full.radar["S1A"].frames) == ((64, 64), 10, 72, 80)
    assert (full.crs, full.transform) == (UTM, (10, 0, 574680, 0, -10, 5622440))
    # 146 acquisitions, of which three days have two.
    assert (coarse.size, coarse.optical.frames, coarse.radar["S1A"].frames) == ((32, 32), 143, 157)
    assert coarse.optical.bands == ("B05", "B06", "B07", "B8A", "B11", "B12")
    assert coarse.transform == (20, 0, 526140, 0, -20, 5670200)
    sums = real_store.manifest.optical_sums([SITE_A])
    assert 0.02 < sums["B04"].mean < 0.12
    assert 0.2 < sums["B08"].mean < 0.5
    radar = real_store.manifest.radar_sums("S1A", [SITE_A])
    assert -12 < radar["VV"].mean < -9
    assert radar["VV-VH"].mean == pytest.approx(radar["VV"].mean - radar["VH"].mean)


def test_the_real_site_keeps_its_numbers(real_store: TileStore, shared: Path) -> None:
    series = real_store.load(SITE_A).series()
    folder = shared / "data/sentinel_series" / SITE_A
    raw = {}
    for name in ("S2_L2A_10m", "S2_L2A_20m"):
        with h5py.File(next(folder.glob(f"{name}*"))) as file:
            raw |= {band: file[band][:] for band in ("B02", "B08", "B11", "SCL") if band in file}
    blue = series.optical.values[:, series.optical.bands.index("B02")]
    np.testing.assert_array_equal(blue, raw["B02"])
    nir = series.optical.values[:, series.optical.bands.index("B08")]
    np.testing.assert_array_equal(nir == NO_DATA, raw["B08"] == 0)
    cloudy = np.isin(series.clouds, (1, 2, 3)).mean(axis=(1, 2))
    assert ((cloudy < 0.05).sum(), (cloudy > 0.5).sum()) == (30, 31)


def test_registration_of_the_real_site_aligns_its_bands(real_store: TileStore, shared: Path) -> None:
    wanted = load_cube_mapping("worldcereal")
    plain = [product.model_dump() | {"registration": (0, 0)} for product in wanted.optical]
    unregistered = CubeMapping.model_validate(wanted.model_dump() | {"optical": plain, "radar": []})

    def correlation(values: NDArray[np.int16], clear: NDArray[np.bool_]) -> float:
        return float(np.mean([np.corrcoef(frame[6].ravel(), frame[7].ravel())[0, 1] for frame in values[clear]]))

    stored = real_store.load(SITE_A)
    assert stored.clouds is not None
    clear = (stored.clouds.decode() == 0).mean(axis=(1, 2)) > 0.98
    before = read_cube(shared / "data/sentinel_series" / SITE_A, unregistered).optical.values
    assert correlation(stored.optical.decode(), clear) > correlation(before, clear) + 0.01
