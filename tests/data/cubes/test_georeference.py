"""Where a file's pixels lie, in all the ways in which files say it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray
from pyproj import CRS as ProjCRS
from rasterio.crs import CRS

from restore_dit.data.cubes.georeference import place_of_images
from restore_dit.errors import UserError
from restore_dit.series import Georeference

H, W = 5, 7
WKT = CRS.from_epsg(32631).to_wkt()
UTM = (10.0, 0.0, 500000.0, 0.0, -10.0, 5600000.0)
STACKSTAC = "| 10.00, 0.00, 500000.00|\n| 0.00,-10.00, 5600000.00|\n| 0.00, 0.00, 1.00|"
SPEC = "RasterSpec(epsg=32631, bounds=(500000.0, 5599950.0, 500070.0, 5600000.0), resolutions_xy=(10.0, 10.0))"


def cube(shift: float = 0.5, down: float = 10, right: float = 10, **attributes: Any) -> xarray.Dataset:
    """An image whose coordinates lie so many pixels from the upper left corners of its pixels."""
    return xarray.Dataset(
        {"red": (("y", "x"), np.zeros((H, W)), attributes)},
        coords={"y": 5600000 - down * (np.arange(H) + shift), "x": 500000 + right * (np.arange(W) + shift)},
        attrs={"crs": "EPSG:32631"},
    )


def with_mapping(dataset: xarray.Dataset, **attributes: Any) -> xarray.Dataset:
    return dataset.assign(spatial_ref=((), 0, attributes))


def place(dataset: xarray.Dataset, axes: tuple[str, str] = ("y", "x"), crs: str | None = None) -> Georeference:
    return place_of_images("s2.nc", dataset, axes, crs)


@pytest.mark.parametrize(
    "stated",
    [
        {"transform": STACKSTAC},
        {"transform": "Affine(10.0, 0.0, 500000.0,\n       0.0, -10.0, 5600000.0)"},
        {"transform": np.array([10.0, 0, 500000, 0, -10, 5600000, 0, 0, 1])},
        {"transform": np.array(UTM)},
        {"spec": SPEC},
        {"GeoTransform": "500000 10 0 5600000 0 -10"},
        {"GeoTransform": np.array([500000.0, 10, 0, 5600000, 0, -10])},
    ],
    ids=["bars", "repr", "nine", "six", "spec", "GDAL", "GDAL numbers"],
)
@pytest.mark.parametrize("shift", [0, 0.5, 1, 0.45])
def test_a_stated_transform_holds_where_coordinates_are_half_a_pixel_beside(stated: dict, shift: float) -> None:
    assert place(cube(shift, **stated)).transform == UTM
    assert place(with_mapping(cube(shift), crs_wkt=WKT, **stated)).transform == UTM


def test_no_transform_and_coordinates_are_middles() -> None:
    assert place(cube()).transform == UTM
    assert place(cube(0)).transform == (10, 0, 499995, 0, -10, 5600005)


def test_a_part_cut_out_of_a_larger_image_lies_where_its_coordinates_say() -> None:
    """xarray moves the coordinates along with the pixels, and leaves attributes as they are."""
    whole = with_mapping(cube(), crs_wkt=WKT, GeoTransform="500000 10 0 5600000 0 -10")
    assert place(whole.isel(x=slice(2, 6), y=slice(1, 5))).transform == (10, 0, 500020, 0, -10, 5599990)


def test_rows_from_the_south_with_the_transform_of_north_up() -> None:
    """As GDAL writes NetCDF."""
    south = with_mapping(cube().isel(y=slice(None, None, -1)), crs_wkt=WKT, GeoTransform="500000 10 0 5600000 0 -10 ")
    assert place(south).transform == (10, 0, 500000, 0, 10, 5599950)
    east = with_mapping(cube(0).isel(x=slice(None, None, -1)), crs_wkt=WKT, GeoTransform="500000 10 0 5600000 0 -10 ")
    assert place(east).transform == (-10, 0, 500070, 0, -10, 5600000)


@pytest.mark.parametrize(
    "geotransform", ["500003.3 10 0 5600033.3 0 -10", "500000 20 0 5600000 0 -20", "500000 10 0 5600000 0 -20"]
)
def test_a_transform_that_contradicts_the_coordinates_is_refused(geotransform: str) -> None:
    with pytest.raises(UserError, match=r"^s2\.nc: .*coordinates .*10×10 from 500000\b") as error:
        place(with_mapping(cube(), crs_wkt=WKT, GeoTransform=geotransform))
    assert "\n" not in str(error.value)


def test_a_transform_rounded_beyond_use_is_passed_over() -> None:
    """As stackstac's is in degrees."""
    dataset = degrees().assign_attrs(crs="EPSG:4326")
    dataset.red.attrs["transform"] = "| 0.00, 0.00, 3.00|\n| 0.00,-0.00, 50.50|\n| 0.00, 0.00, 1.00|"
    assert place(dataset, ("lat", "lon")).transform == pytest.approx((1.4e-4, 0, 2.99993, 0, -9e-5, 50.500045))
    dataset.red.attrs["spec"] = (
        "RasterSpec(epsg=4326, bounds=(3.0, 50.49955, 3.00098, 50.5), resolutions_xy=(0.00014, 9e-05))"
    )
    assert place(dataset, ("lat", "lon")).transform == (0.00014, 0, 3, 0, -9e-05, 50.5)


def test_a_single_pixel_whose_transform_says_its_size() -> None:
    whole = with_mapping(cube(), crs_wkt=WKT, GeoTransform="500000 10 0 5600000 0 -10")
    assert place(whole.isel(x=[3], y=[2])).transform == (10, 0, 500030, 0, -10, 5599980)
    with pytest.raises(UserError, match="single pixel"):
        place(cube().isel(x=[3], y=[2]))


def grid_mapping(code: int) -> dict[str, Any]:
    """CF's parameters of a system without its WKT or any name."""
    parameters = ProjCRS.from_epsg(code).to_cf()
    return {key: value for key, value in parameters.items() if key == "grid_mapping_name" or not isinstance(value, str)}


@pytest.mark.parametrize("code", [32631, 32737, 3035, 4326])
def test_a_grid_mapping_by_parameters_alone(code: int) -> None:
    dataset = degrees() if code == 4326 else cube().rename(x="lon", y="lat").drop_attrs()
    if code == 3035:  # in the middle of Europe
        dataset = dataset.assign_coords(lon=dataset.lon + 3_500_000, lat=dataset.lat - 2_500_000)
    found = place(dataset.assign(anything=((), 0, grid_mapping(code))), ("lat", "lon"))
    if code == 3035:  # GRS 80 is the ellipsoid of more than one datum
        found_crs, wanted = ProjCRS(found.crs), ProjCRS.from_epsg(code)
        assert [one.value for one in found_crs.coordinate_operation.params] == [
            one.value for one in wanted.coordinate_operation.params
        ]
    else:
        assert found.crs == f"EPSG:{code}"


def test_a_grid_mapping_of_several_systems() -> None:
    dataset = cube(grid_mapping="utm: x y wgs: lat lon").drop_attrs(deep=False)
    assert place(dataset.assign(utm=((), 0, grid_mapping(32631)))).crs == "EPSG:32631"


def degrees(dtype: str = "f8", **attributes: Any) -> xarray.Dataset:
    return xarray.Dataset(
        {"red": (("lat", "lon"), np.zeros((H, W)))},
        coords={
            "lat": ("lat", (50.5 - 9e-5 * np.arange(H)).astype(dtype), attributes.get("lat", {})),
            "lon": ("lon", (3 + 1.4e-4 * np.arange(W)).astype(dtype), attributes.get("lon", {})),
        },
    )


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_degrees_need_no_more_than_their_names_or_units(dtype: str) -> None:
    expected = pytest.approx((1.4e-4, 0, 2.99993, 0, -9e-5, 50.500045), rel=0.02 if dtype == "f4" else 1e-9)
    found = place(degrees(dtype), ("lat", "lon"))
    assert (found.crs, found.transform) == ("EPSG:4326", expected)
    units = {"lat": {"units": "degrees_north"}, "lon": {"units": "degrees_east"}}
    found = place(degrees(dtype, **units).rename(lat="y", lon="x"))
    assert (found.crs, found.transform) == ("EPSG:4326", expected)
    with pytest.raises(UserError, match=r"^s2\.nc: .*\bCRS\b.*\bcrs_wkt\b"):
        place(degrees(dtype).rename(lat="y", lon="x"))


@pytest.mark.parametrize(
    ("dataset", "crs"),
    [
        (degrees(), "EPSG:32631"),
        (degrees(), "EPSG:3857"),
        (cube().rename(y="lat", x="lon").drop_attrs(), "EPSG:4326"),
        (cube(down=0.01, right=0.01).rename(y="lat", x="lon").drop_attrs(), "EPSG:32631"),
        (cube(down=2000, right=2000).rename(y="lat", x="lon").drop_attrs(), "EPSG:32631"),
        (cube(down=10, right=2000).rename(y="lat", x="lon").drop_attrs(), "EPSG:32631"),
    ],
    ids=["degrees as UTM", "degrees as Mercator", "metres as degrees", "kilometres", "millimetres", "one axis"],
)
def test_coordinates_that_do_not_belong_to_their_system_are_refused(dataset: xarray.Dataset, crs: str) -> None:
    with pytest.raises(UserError, match=rf"s2\.nc: steps of .* in {crs} "):
        place(dataset.assign_attrs(crs=crs), ("lat", "lon"))


def test_an_unknown_crs_of_the_mapping_is_one_line() -> None:
    with pytest.raises(UserError, match="utm31"):
        place(cube().drop_attrs(deep=False), crs="utm31")
