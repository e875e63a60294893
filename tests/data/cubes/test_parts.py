"""One site in several files, which hold different parts of the place, or of the year."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

from restore_dit.config.cube_mapping import CubeMapping
from restore_dit.data.cubes.site_series import read_cube
from restore_dit.errors import UserError
from restore_dit.series import NO_DATA, TileSeries

H, W = 4, 20
BLUE = 1000 + 100 * np.arange(H)[:, None] + np.arange(W)
"""Says which row and column it is of."""


def mapping() -> CubeMapping:
    optical = [
        {"files": "s2*", "bands": {"B02": "blue"}, "scale": 1e-4, "no_data": [0], "classification": "scl"},
        {"files": "coarse*", "bands": {"B11": "swir"}, "scale": 1e-4, "resampling": "nearest"},
    ]
    radar = [{"files": "s1*", "track": "S1A", "bands": {"VV": "VV", "VH": "VH"}}]
    return CubeMapping.model_validate(
        {"source": "test", "optical": optical, "radar": radar, "classes": {4: "clear", 9: "thick_cloud"}}
    )


def cube(spacing: float = 10, west: float = 500000, north: float = 5600000, crs: str = "EPSG:32631") -> xarray.Dataset:
    images = np.stack([BLUE, BLUE + 2000, BLUE + 4000]).astype(np.uint16)
    dims = ("time", "y", "x")
    return xarray.Dataset(
        {"blue": (dims, images), "scl": (dims, np.full(images.shape, 4, np.uint8))},
        coords={
            "time": np.array(["2019-01-01", "2019-01-06", "2019-01-11"], "datetime64[ns]"),
            "y": north - spacing * (np.arange(H) + 0.5),
            "x": west + spacing * (np.arange(W) + 0.5),
        },
        attrs={"crs": crs},
    )


def read(folder: Path, **files: xarray.Dataset) -> TileSeries:
    for name, dataset in files.items():
        dataset.to_netcdf(folder / f"{name}.nc", engine="h5netcdf")
    return read_cube(folder, mapping())


def blue(series: TileSeries) -> Any:
    return series.optical.values[:, series.optical.bands.index("B02")]


def test_two_halves_are_the_whole(tmp_path: Path) -> None:
    whole = cube()
    series = read(tmp_path, s2_west=whole.isel(x=slice(0, 10)), s2_east=whole.isel(x=slice(10, 20)))
    np.testing.assert_array_equal(blue(series), whole.blue)
    assert series.georeference is not None
    assert series.georeference.transform == (10, 0, 500000, 0, -10, 5600000)
    assert not series.missing().any()


def test_quarters_whose_rows_and_columns_run_either_way(tmp_path: Path) -> None:
    whole, backwards = cube(), slice(None, None, -1)
    series = read(
        tmp_path,
        s2_a=whole.isel(x=slice(0, 7), y=slice(0, 1)).isel(x=backwards),
        s2_b=whole.isel(x=slice(7, 20), y=slice(0, 1)),
        s2_c=whole.isel(x=slice(0, 7), y=slice(1, 4)).isel(y=backwards),
        s2_d=whole.isel(x=slice(7, 20), y=slice(1, 4)).isel(x=backwards, y=backwards),
    )
    np.testing.assert_array_equal(blue(series), whole.blue)


def test_parts_in_degrees_whose_coordinates_were_counted_each_on_their_own(tmp_path: Path) -> None:
    step = 10 / 111_000
    whole = cube(step, 8.123, 50.3, "EPSG:4326")
    counted = cube(step, 8.123 + 8 * step, 50.3, "EPSG:4326").isel(x=slice(0, 12))
    counted = counted.assign(blue=counted.blue.copy(data=whole.blue.isel(x=slice(8, 20)).values))
    series = read(tmp_path, s2_a=whole.isel(x=slice(0, 12)), s2_b=counted)
    np.testing.assert_array_equal(blue(series), whole.blue)


def test_where_files_overlap_the_first_by_name_holds_unless_it_has_no_data(tmp_path: Path) -> None:
    whole = cube()
    first, second = whole.isel(x=slice(0, 12)), whole.isel(x=slice(8, 20))
    second = second.assign(blue=second.blue + 7, scl=second.scl * 0 + 9)
    first = first.copy(deep=True)
    first.blue[0, 1, 10], first.scl[0, 1, 10] = 0, 4
    first.attrs["crs"] = second.attrs["crs"]
    series = read(tmp_path, s2_b=second, s2_a=first)
    expected = whole.blue.values.copy()
    expected[:, :, 12:] += 7
    expected[0, 1, 10] += 7
    np.testing.assert_array_equal(blue(series), expected)
    assert series.clouds is not None
    np.testing.assert_array_equal(series.clouds[0, 0], [0] * 12 + [1] * 8)


def test_what_no_file_covers_has_no_data(tmp_path: Path) -> None:
    whole = cube()
    series = read(tmp_path, s2_a=whole.isel(x=slice(0, 6)), s2_b=whole.isel(x=slice(12, 20)))
    np.testing.assert_array_equal(blue(series)[:, :, :6], whole.blue[:, :, :6])
    np.testing.assert_array_equal(blue(series)[:, :, 12:], whole.blue[:, :, 12:])
    assert (blue(series)[:, :, 6:12] == NO_DATA).all()
    assert series.clouds is not None
    assert (series.clouds[:, :, 6:12] == 255).all()


def test_other_dates_of_another_part(tmp_path: Path) -> None:
    whole = cube()
    first, second = whole.isel(x=slice(0, 12), time=slice(0, 2)), whole.isel(x=slice(8, 20), time=slice(2, 3))
    found = blue(read(tmp_path, s2_a=first, s2_b=second))
    assert found.shape == (3, H, W)
    np.testing.assert_array_equal(
        (found == NO_DATA).any(axis=1), [[False] * 12 + [True] * 8] * 2 + [[True] * 8 + [False] * 12]
    )
    np.testing.assert_array_equal(found[2, :, 8:], whole.blue[2, :, 8:])


def test_a_coarse_file_of_one_part_says_nothing_of_the_rest(tmp_path: Path) -> None:
    swir = np.arange(500, 500 + 3 * 2 * 5, dtype=np.uint16).reshape(3, 2, 5)
    coarse = xarray.Dataset(
        {"swir": (("time", "y", "x"), swir)},
        coords={"time": cube().time, "y": 5599990 - 20.0 * np.arange(2), "x": 500010 + 20.0 * np.arange(5)},
        attrs={"crs": "EPSG:32631"},
    )
    series = read(tmp_path, s2=cube(), coarse=coarse)
    found = series.optical.values[:, series.optical.bands.index("B11")]
    np.testing.assert_array_equal(found[:, :, :10], np.kron(swir, np.ones((1, 2, 2))))
    assert (found[:, :, 10:] == NO_DATA).all()


def test_radar_in_two_parts(tmp_path: Path) -> None:
    decibel = np.broadcast_to(-10 - 0.1 * np.arange(W), (3, H, W))
    radar = cube().drop_vars(["blue", "scl"])
    radar = radar.assign(VV=(("time", "y", "x"), decibel), VH=(("time", "y", "x"), decibel - 6))
    series = read(tmp_path, s2=cube(), s1_a=radar.isel(x=slice(0, 9)), s1_b=radar.isel(x=slice(9, 18)))
    np.testing.assert_array_equal(series.radar["S1A"].values[0, 0, 0], [*range(-1000, -1180, -10), NO_DATA, NO_DATA])


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (cube(west=502000), r"s2_a\.nc .*\b4×220 pixels"),
        (cube(west=500000 + 10**7), r"s2_a\.nc .*\b4×1000020 pixels"),
        (cube(west=500205), r"s2_b\.nc: .*\b20\.5 columns and 0 rows\b"),
        (cube(10.03), r"s2_b\.nc: .*\b0 columns and 0 rows\b"),
        (cube(crs="EPSG:32632"), r"s2_b\.nc: .*\bEPSG:32632\b"),
    ],
    ids=["far", "very far", "half a pixel beside", "other pixels", "another zone"],
)
def test_what_is_no_part_of_one_place_is_one_line(tmp_path: Path, other: xarray.Dataset, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        read(tmp_path, s2_a=cube(), s2_b=other)
    assert "\n" not in str(error.value)


def test_parts_may_lie_a_few_millimetres_beside_each_other(tmp_path: Path) -> None:
    whole = cube()
    series = read(tmp_path, s2_a=whole.isel(x=slice(0, 10)), s2_b=cube(west=500000.02).isel(x=slice(10, 20)))
    np.testing.assert_array_equal(blue(series), whole.blue)
