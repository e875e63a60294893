"""Cubes in the shape in which each provider hands them out, through the mappings that are shipped."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import from_origin

from restore_dit.config.cube_mapping import CubeMapping, load_cube_mapping, shipped_cube_mappings
from restore_dit.data.cubes.site_series import read_cube
from restore_dit.series import NO_DATA, S2_BANDS
from tests.messages import refused

WKT = CRS.from_epsg(32631).to_wkt()
DATES = ("2022-01-20T10:53:21", "2022-01-30T10:53:19")
"""Before and after processing baseline 04.00 was taken up."""

REFLECTANCE = np.linspace(0.05, 0.4, 12).reshape(3, 4)
"""Of every band on both dates, before what the provider does to it."""


def axes(time: str = "time", y: str = "y", x: str = "x", dates: tuple[str, ...] = DATES) -> dict[str, Any]:
    return {
        time: np.array(dates, "datetime64[ns]"),
        y: 5600000.0 - 10 * (np.arange(3) + 0.5),
        x: 500000.0 + 10 * (np.arange(4) + 0.5),
    }


def numbers(offset_since_baseline_4: int = 0, dates: int = 2) -> NDArray[np.uint16]:
    """REFLECTANCE as 16-bit integers [T, 3, 4], the later half of the dates with an offset."""
    images = np.stack([np.rint(REFLECTANCE * 10000)] * dates)
    images[dates // 2 :] += offset_since_baseline_4
    images[:, 0, 0] = 0  # no data
    return images.astype(np.uint16)


def scene(dates: int = 2) -> NDArray[np.uint8]:
    return np.tile(np.array([[0, 4, 5, 6], [8, 9, 10, 3], [2, 7, 1, 11]], np.uint8), (dates, 1, 1))


CLOUDS = [[255, 0, 0, 0], [1, 1, 2, 3], [0, 0, 255, 255]]


def check_optical(folder: Path, name: str) -> None:
    series = read_cube(folder, load_cube_mapping(name))
    assert series.optical.bands == S2_BANDS
    assert series.optical.dates.astype(str).tolist() == [date[:10] for date in DATES]
    expected = np.rint(REFLECTANCE * 10000)
    expected[0, 0] = NO_DATA
    np.testing.assert_array_equal(series.optical.values, np.broadcast_to(expected, (2, 10, 3, 4)))
    assert series.georeference is not None
    assert series.georeference.crs == "EPSG:32631"
    assert series.georeference.transform == (10, 0, 500000, 0, -10, 5600000)
    if series.clouds is not None:
        np.testing.assert_array_equal(series.clouds[0], CLOUDS)


def power(decibel: float, dates: int = 2) -> NDArray[np.float32]:
    return np.full((dates, 3, 4), 10 ** (decibel / 10), np.float32)


COMMON_NAMES = dict(
    zip(
        S2_BANDS,
        ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22"),
        strict=True,
    )
)


def write(dataset: xarray.Dataset, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".zarr":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of texts, which Zarr 3 has not settled
            dataset.to_zarr(file, zarr_format=2 if "band" in dataset.dims else 3)
    else:
        dataset.to_netcdf(file, engine="h5netcdf")


def odc(bands: dict[str, NDArray[Any]], scl: str, **coordinates: Any) -> xarray.Dataset:
    """As odc.stac.load returns it: the CRS as a coordinate, fill values as attributes."""
    dims = ("time", "y", "x")
    dataset = xarray.Dataset({name: (dims, values) for name, values in bands.items()}, coords=axes() | coordinates)
    dataset[scl] = (dims, scene())
    for name in dataset.data_vars:
        dataset[name].attrs = {"nodata": 0, "grid_mapping": "spatial_ref"}
    return dataset.assign_coords(spatial_ref=((), np.int32(32631), {"spatial_ref": WKT, "crs_wkt": WKT}))


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_earth_search(tmp_path: Path, suffix: str) -> None:
    write(odc(dict.fromkeys(COMMON_NAMES.values(), numbers()), "scl"), tmp_path / "site" / f"s2_cube{suffix}")
    check_optical(tmp_path / "site", "earth_search")
    check_optical(tmp_path / "site" / f"s2_cube{suffix}", "earth_search")


def test_planetary_computer_changes_its_offset_by_date(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    write(odc(dict.fromkeys(S2_BANDS, numbers(1000)), "SCL"), folder / "s2.zarr")
    vv, vh = power(-11), power(-17)
    vv[0, 0, 0], vh[0, 0, 0], vh[0, 0, 1] = -32768, 0, -0.001
    radar = xarray.Dataset({"vv": (("time", "y", "x"), vv), "vh": (("time", "y", "x"), vh)}, coords=axes())
    radar = radar.assign_coords(spatial_ref=((), 0, {"crs_wkt": WKT}))
    write(radar, folder / "s1_asc.nc")
    write(radar.isel(time=[1]), folder / "s1_desc.nc")
    check_optical(folder, "planetary_computer")
    series = read_cube(folder, load_cube_mapping("planetary_computer"))
    ascending = series.radar["S1A"].values
    assert (len(series.radar["S1A"]), len(series.radar["S1D"])) == (2, 1)
    np.testing.assert_array_equal(ascending[0, 0, 0, :2], [NO_DATA, -1100])
    np.testing.assert_array_equal(ascending[0, 1, 0, :3], [NO_DATA, NO_DATA, -1700])


@pytest.mark.parametrize(
    ("baselines", "since"),
    [
        (["05.00", "05.00"], 0),  # the older scene was processed anew
        (["02.12", "05.00"], 1),
        (["03.01", "03.01"], 2),  # not yet the newer processing
        (["", "nan"], 1),  # by date
        (["05.00", ""], 0),
        (None, 1),
    ],
)
@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_planetary_computer_goes_by_the_baseline_where_the_file_says_it(
    tmp_path: Path, baselines: list[str] | None, since: int, suffix: str
) -> None:
    stored = numbers().astype(np.uint16)
    stored[since:][stored[since:] > 0] += 1000
    said = {} if baselines is None else {"s2:processing_baseline": ("time", baselines)}
    write(odc(dict.fromkeys(S2_BANDS, stored), "SCL", **said), tmp_path / "site" / f"s2{suffix}")
    check_optical(tmp_path / "site", "planetary_computer")


def test_one_baseline_in_an_attribute_of_the_file(tmp_path: Path) -> None:
    stored = numbers()
    stored[stored > 0] += 1000
    cube = odc(dict.fromkeys(S2_BANDS, stored), "SCL").assign_attrs({"s2:processing_baseline": "05.00"})
    write(cube, tmp_path / "site" / "s2.nc")
    check_optical(tmp_path / "site", "planetary_computer")


def stacked(values: NDArray[Any], labels: list[str], **coordinates: Any) -> xarray.Dataset:
    """As stackstac.stack returns it: one array, bands along a dimension, the items' properties beside the dates."""
    array = xarray.DataArray(
        values,
        dims=("time", "band", "y", "x"),
        coords=axes() | {"band": labels, "epsg": 32631, "title": ("band", labels)} | coordinates,
        name="stackstac-5d1d3c0",
        attrs={"crs": "epsg:32631", "resolution": 10.0},
    )
    return array.to_dataset()


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize("baselines", [["03.01", "04.00"], ["N0301", "N0510"], [3.01, 5.1]])
def test_stackstac_tells_baseline_and_orbit_apart_by_what_items_say(
    tmp_path: Path, suffix: str, baselines: list[Any]
) -> None:
    bands = np.stack([*[numbers(1000)] * 10, scene()], axis=1).astype(np.float64)
    bands[:, :10][bands[:, :10] == 0] = np.nan
    items = {"s2:processing_baseline": ("time", baselines)}
    write(stacked(bands, [*S2_BANDS, "SCL"], **items), tmp_path / "site" / f"s2{suffix}")
    orbits = {"sat:orbit_state": ("time", ["descending", "ascending"]), "sat:relative_orbit": ("time", [37, 15])}
    radar = stacked(np.stack([power(-11), power(-17)], axis=1), ["vv", "vh"], **orbits)
    write(radar, tmp_path / "site" / f"s1{suffix}")
    check_optical(tmp_path / "site", "stackstac")
    series = read_cube(tmp_path / "site", load_cube_mapping("stackstac"))
    assert {track: one.dates.astype(str).tolist() for track, one in series.radar.items()} == {
        "S1A": ["2022-01-30"],
        "S1D": ["2022-01-20"],
    }
    radar_tree = load_cube_mapping("stackstac").model_dump()["radar"][0]
    unnamed = radar_tree | {"track": {"variable": "sat:relative_orbit"}}
    by_orbit = CubeMapping.model_validate(load_cube_mapping("stackstac").model_dump() | {"radar": [unnamed]})
    assert set(read_cube(tmp_path / "site", by_orbit).radar) == {"S1-15", "S1-37"}
    named = radar_tree | {"track": {"variable": "sat:relative_orbit", "names": {15: "S1A"}}}
    incomplete = CubeMapping.model_validate(load_cube_mapping("stackstac").model_dump() | {"radar": [named]})
    with refused("sat:relative_orbit", "'37'", "track.names"):
        read_cube(tmp_path / "site", incomplete)


def test_one_baseline_for_all_dates(tmp_path: Path) -> None:
    bands = np.stack([*[numbers(0) + np.uint16(1000)] * 10, scene()], axis=1).astype(np.float64)
    bands[:, :10, 0, 0] = np.nan
    # stackstac writes what is equal for all items once.
    write(stacked(bands, [*S2_BANDS, "SCL"], **{"s2:processing_baseline": "05.09"}), tmp_path / "site" / "s2.nc")
    check_optical(tmp_path / "site", "stackstac")


@pytest.mark.parametrize("packed", [np.int16, np.float32])
def test_openeo(tmp_path: Path, packed: Any) -> None:
    names = dict.fromkeys(S2_BANDS, numbers().astype(packed))
    dims = ("t", "y", "x")
    dataset = xarray.Dataset({name: (dims, values) for name, values in names.items()}, coords=axes("t"))
    dataset["SCL"] = (dims, scene().astype(packed))
    dataset["crs"] = ((), b"", {"crs_wkt": WKT, "spatial_ref": WKT})
    dataset.t.encoding = {"units": "days since 1990-01-01", "dtype": "float64"}
    write(dataset, tmp_path / "site" / "s2.nc")
    radar = xarray.Dataset({"VV": (dims, power(-11)), "VH": (dims, power(-17))}, coords=axes("t"))
    radar["crs"] = dataset["crs"]
    write(radar, tmp_path / "site" / "s1_ascending.nc")
    check_optical(tmp_path / "site", "openeo")
    assert set(read_cube(tmp_path / "site", load_cube_mapping("openeo")).radar) == {"S1A"}


def test_gfmap_has_both_sensors_on_one_time_axis(tmp_path: Path) -> None:
    dates = ("2022-01-20", "2022-01-24", "2022-01-30")
    dims = ("t", "y", "x")
    optical = np.full((3, 3, 4), 65535, np.uint16)
    optical[[0, 2]] = numbers()
    classes = np.zeros((3, 3, 4), np.uint16)
    classes[[0, 2]] = scene()
    radar = np.zeros((3, 3, 4), np.uint16)
    radar[1] = round(10 ** ((-13 + 83) / 20))
    dataset = xarray.Dataset(
        {f"S2-L2A-{band}": (dims, optical) for band in S2_BANDS}
        | {"S2-L2A-SCL": (dims, classes), "S1-SIGMA0-VV": (dims, radar), "S1-SIGMA0-VH": (dims, radar // 2)},
        coords=axes("t", dates=dates),
    )
    dataset["crs"] = ((), 0, {"spatial_ref": WKT})
    write(dataset, tmp_path / "site" / "cube.nc")
    check_optical(tmp_path / "site", "gfmap")
    series = read_cube(tmp_path / "site", load_cube_mapping("gfmap")).radar["S1A"]
    assert series.dates.astype(str).tolist() == ["2022-01-24"]
    np.testing.assert_allclose(series.values[0, 0], -1300, atol=1)
    np.testing.assert_allclose(series.values[0, 1], -1902, atol=1)


def test_earth_engine_runs_from_south_to_north_and_x_before_y(tmp_path: Path) -> None:
    names = {band: band.replace("B0", "B") for band in S2_BANDS} | {"SCL": "SCL"}
    dims = ("time", "Y", "X")
    values = dict.fromkeys(S2_BANDS, numbers()) | {"SCL": scene()}
    dataset = xarray.Dataset(
        {names[band]: (dims, one.astype(np.float32)) for band, one in values.items()},
        coords=axes("time", "Y", "X"),
        attrs={"crs": "EPSG:32631"},
    )
    dataset = dataset.isel(Y=slice(None, None, -1)).transpose("time", "X", "Y")
    write(dataset, tmp_path / "site" / "s2.zarr")
    check_optical(tmp_path / "site", "earth_engine")


def raster(file: Path, images: NDArray[Any], no_data: float | None = None, **profile: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    images = images.reshape(-1, *images.shape[-2:])
    place = {"crs": CRS.from_epsg(32631), "transform": from_origin(500000, 5600000, 10, 10)} | profile
    descriptions = place.pop("descriptions", None)
    with rasterio.open(
        file, "w", driver="GTiff", dtype=images.dtype, count=len(images), height=images.shape[1],
        width=images.shape[2], nodata=no_data, **place,
    ) as target:  # fmt: skip
        target.write(images)
        if descriptions:
            target.descriptions = descriptions


def test_theia_has_a_file_a_date_and_band(tmp_path: Path) -> None:
    images = numbers().astype(np.int16)
    images[:, 0, 0] = -10000
    for date, image in zip(DATES, images, strict=True):
        compact = pd.Timestamp(date).strftime("%Y%m%d-%H%M%S")
        for band in S2_BANDS:
            name = f"SENTINEL2A_{compact}-450_L2A_T31UFS_D_V3-0_FRE_{band.replace('B0', 'B')}.tif"
            raster(tmp_path / "site" / name, image)
        raster(tmp_path / "site" / f"SENTINEL2A_{compact}-450_L2A_T31UFS_D_V3-0_CLM_R1.tif", image.astype(np.uint8))
    check_optical(tmp_path / "site", "theia")


@pytest.mark.parametrize("along_bands", [False, True])
def test_a_file_of_an_optional_product_brings_what_it_has(tmp_path: Path, along_bands: bool) -> None:
    cube = odc({"B04": numbers(), "B08": numbers()}, "SCL")
    backscatter = odc({"vv": power(-10)}, "SCL").drop_vars("SCL")
    if along_bands:
        cube = cube.drop_vars("SCL").to_dataarray("band", "stack").to_dataset()
        backscatter = backscatter.assign(vh=backscatter["vv"]).to_dataarray("band", "stack").to_dataset()
    else:
        backscatter["vh"] = backscatter["vv"]
    write(cube, tmp_path / "s2.nc")
    write(backscatter, tmp_path / "s2_radar_too.nc")
    kind = {"variable": "stack"} if along_bands else {}
    product = kind | {"files": "s2*", "optional": True}
    mapping = {
        "source": "own",
        "optical": [
            product | {"bands": {"B02": "B02", "B04": "B04", "B08": "B08"}, "scale": 1e-4, "classification": "SCL"}
        ],
        "radar": [product | {"track": "S1A", "unit": "power", "bands": {"VV": "vv", "VH": "vh"}}],
        "classes": dict.fromkeys(range(12), "clear"),
    }
    series = read_cube(tmp_path, CubeMapping.model_validate(mapping))
    assert series.optical.bands == ("B04", "B08")
    assert (series.clouds is None) == along_bands
    assert (series.radar["S1A"].values == -1000).all()
    mapping["optical"][0]["bands"] = {"B02": "blue"}
    with refused("s2*"):
        read_cube(tmp_path, CubeMapping.model_validate(mapping))


def test_every_shipped_mapping_is_tried_here() -> None:
    tried = {"earth_search", "planetary_computer", "stackstac", "openeo", "gfmap", "earth_engine", "theia"}
    on_real_files = {"worldcereal", "minicube", "sits_utils"}  # gfmap, too: test_ingest, test_public_sites
    assert set(shipped_cube_mappings()) == tried | on_real_files


def test_the_mapping_of_the_guide_reads(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
    block = next(part.partition("```")[0] for part in guide.split("```yaml\n")[1:] if part.startswith("source:"))
    (tmp_path / "my_provider.yaml").write_text(block)
    own = load_cube_mapping(tmp_path / "my_provider.yaml")
    assert (len(own.optical), len(own.radar), own.classes[10]) == (2, 1, "thin_cloud")


def test_a_single_date_need_not_be_a_dimension(tmp_path: Path) -> None:
    cube = odc(dict.fromkeys(COMMON_NAMES.values(), numbers()), "scl")
    write(cube.isel(time=1), tmp_path / "site" / "s2_a.nc")
    write(cube.isel(time=0), tmp_path / "site" / "s2_b.nc")
    check_optical(tmp_path / "site", "earth_search")
