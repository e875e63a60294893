"""What stored numbers mean: offsets, fill values, packed values, and every unit of radar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from numpy.typing import NDArray

from restore_dit.config.cube_mapping import CubeMapping, baseline_number
from restore_dit.data.cubes.site_series import read_cube
from restore_dit.series import NO_DATA, TileSeries
from tests.messages import refused

OPTICAL = {"files": "s2.nc", "bands": {"B04": "red"}, "scale": 1e-4}


def cube(values: NDArray[Any], file: Path, dates: tuple[str, ...] = ("2019-01-01",), **attributes: Any) -> None:
    """`values` [T, h, w] as red, VV and VH of a file."""
    _, height, width = values.shape
    dataset = xarray.Dataset(
        dict.fromkeys(("red", "VV", "VH"), (("time", "y", "x"), values, attributes)),
        coords={
            "time": np.array(dates, "datetime64[ns]"),
            "y": 10.0 * np.arange(height, 0, -1),
            "x": 10.0 * np.arange(width),
        },
        attrs={"crs": "EPSG:32631"},
    )
    dataset.to_netcdf(file, engine="h5netcdf")


def read(folder: Path, radar: dict[str, Any] | None = None, **optical: Any) -> TileSeries:
    radars = [{"files": "s1.nc", "track": "S1A", "bands": {"VV": "VV", "VH": "VH"}} | radar] if radar else []
    return read_cube(
        folder, CubeMapping.model_validate({"source": "test", "optical": [OPTICAL | optical], "radar": radars})
    )


@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64])
def test_minus_2000_and_below_and_minus_9999_and_nan_are_no_data(tmp_path: Path, kind: Any) -> None:
    stored = np.array([[[-2000, -9999, -1999, 0], [500, 600, 700, 800]]]).astype(kind)
    if kind is not np.int16:
        stored[0, 1, 3] = np.nan
    cube(stored, tmp_path / "s2.nc")
    values = read(tmp_path, no_data_at_or_below=-2000).optical.values[0, 0]
    np.testing.assert_array_equal(values[0], [NO_DATA, NO_DATA, -1999, 0])
    np.testing.assert_array_equal(values[1], [500, 600, 700, 800 if kind is np.int16 else NO_DATA])


@pytest.mark.parametrize("attribute", ["_FillValue", "missing_value", "nodata"])
def test_the_files_own_fill_value_is_no_data(tmp_path: Path, attribute: str) -> None:
    stored = np.array([[[65535, 100, 200]]], np.uint16)
    cube(stored, tmp_path / "s2.nc", **{attribute: np.uint16(65535)})
    np.testing.assert_array_equal(read(tmp_path).optical.values[0, 0], [[NO_DATA, 100, 200]])


def test_packed_values_are_unpacked_only_on_demand(tmp_path: Path) -> None:
    stored = np.array([[[1000, 3000]]], np.int16)
    cube(stored, tmp_path / "s2.nc", scale_factor=1e-4, add_offset=-0.1)
    np.testing.assert_array_equal(read(tmp_path).optical.values[0, 0], [[1000, 3000]])
    np.testing.assert_array_equal(read(tmp_path, packed=True, scale=1).optical.values[0, 0], [[0, 2000]])


def test_reflectance_as_it_is(tmp_path: Path) -> None:
    cube(np.array([[[0.1234, 1.2, np.nan]]], np.float32), tmp_path / "s2.nc")
    np.testing.assert_array_equal(read(tmp_path, scale=1).optical.values[0, 0], [[1234, 12000, NO_DATA]])


def test_one_series_spans_the_change_of_the_processing_baseline(tmp_path: Path) -> None:
    dates = ("2022-02-03", "2021-12-30", "2022-01-25", "2022-01-24")  # out of order, as files are
    stored = np.array([2500, 1500, 2500, 1500], np.uint16)[:, None, None] * np.ones((4, 1, 2), np.uint16)
    stored[:, 0, 1] = 0
    cube(stored, tmp_path / "s2.nc", dates)
    change = {"since": "2022-01-25", "offset": -0.1}
    series = read(tmp_path, offsets=[change], no_data=[0]).optical
    assert series.dates.astype(str).tolist() == ["2021-12-30", "2022-01-24", "2022-01-25", "2022-02-03"]
    np.testing.assert_array_equal(series.values[:, 0, 0], [[1500, NO_DATA]] * 4)
    again = {"since": "2022-02-01", "offset": -0.2}
    values = read(tmp_path, offsets=[change, again], no_data=[0]).optical.values
    np.testing.assert_array_equal(values[:, 0, 0, 0], [1500, 1500, 1500, 500])


@pytest.mark.parametrize(
    ("text", "number"),
    [("05.09", 5.09), ("N0509", 5.09), ("0301", 3.01), (4.0, 4.0), ("4", 4.0), (5.1, 5.1), ("05.10", 5.1)],
)
def test_processing_baselines_are_compared_as_numbers(text: object, number: float) -> None:
    assert baseline_number(text) == number


@pytest.mark.parametrize(
    ("optical", "says"),
    [
        ({"offsets": [{"offset": -0.1}]}, "since_baseline"),
        ({"offsets": [{"offset": -0.1, "since_baseline": 4}]}, "baseline"),
        ({"offsets": [{"offset": -0.1, "since_baseline": "new"}], "baseline": "b"}, "new"),
        ({"date": "(a)(b)"}, "exactly one group"),
    ],
)
def test_offsets_that_say_too_little_are_refused(optical: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CubeMapping.model_validate({"source": "test", "optical": [OPTICAL | optical]})


def test_a_baseline_that_the_file_does_not_say_is_one_line(tmp_path: Path) -> None:
    cube(np.full((1, 1, 2), 500, np.int16), tmp_path / "s2.nc")
    wanted = {"offsets": [{"offset": -0.1, "since_baseline": 4}], "baseline": "s2:processing_baseline"}
    with refused("s2.nc", "s2:processing_baseline", "time"):
        read(tmp_path, **wanted)


@pytest.mark.parametrize(
    ("unit", "scale", "stored"),
    [
        ("db", 0.01, [-1200, -1200, -32768, -1200]),
        ("power", 1, [10**-1.2, 10**-1.2, 0, -0.01]),
        ("amplitude", 1, [10**-0.6, 10**-0.6, 0, -1]),
        ("amplitude", 10 ** (-83 / 20), [10 ** ((83 - 12) / 20), 10 ** ((83 - 12) / 20), 0, 0]),
    ],
)
def test_every_unit_of_radar_becomes_db(tmp_path: Path, unit: str, scale: float, stored: list[float]) -> None:
    cube(np.full((1, 2, 2), 500, np.int16), tmp_path / "s2.nc")
    cube(np.array(stored, np.float64).reshape(1, 2, 2), tmp_path / "s1.nc")
    radar = {"unit": unit, "scale": scale, "no_data": [-32768, -1]}
    values = read(tmp_path, radar).radar["S1A"].values[0, 0]
    assert values[0].tolist() == [-1200, -1200]
    assert values[1, 0] == NO_DATA
    assert values[1, 1] == (-1200 if unit == "db" else NO_DATA)


def test_power_at_the_border_does_not_darken_what_is_averaged(tmp_path: Path) -> None:
    cube(np.full((1, 2, 2), 500, np.int16), tmp_path / "s2.nc")
    fine = np.full((1, 4, 4), 0.1)
    fine[0, 1, 1] = 0
    dataset = xarray.Dataset(
        dict.fromkeys(("VV", "VH"), (("time", "y", "x"), fine)),
        coords={"time": np.array(["2019-01-01"], "datetime64[ns]"), "y": 22.5 - 5.0 * np.arange(4),
                "x": -2.5 + 5.0 * np.arange(4)},
        attrs={"crs": "EPSG:32631"},
    )  # fmt: skip
    dataset.to_netcdf(tmp_path / "s1.nc", engine="h5netcdf")
    assert (read(tmp_path, {"unit": "power"}).radar["S1A"].values == -1000).all()


def test_a_time_that_occurs_twice_becomes_one_image_of_its_best_pixels(tmp_path: Path) -> None:
    stored = np.array([[[0, 100]], [[300, 0]], [[500, 600]]], np.uint16)
    cube(stored, tmp_path / "s2.nc", ("2019-01-06", "2019-01-06", "2019-01-01"))
    series = read(tmp_path, no_data=[0]).optical
    assert series.dates.astype(str).tolist() == ["2019-01-01", "2019-01-06"]
    np.testing.assert_array_equal(series.values[:, 0, 0], [[500, 600], [300, 100]])


def test_images_without_a_pixel_of_data_are_left_out(tmp_path: Path) -> None:
    stored = np.array([[[0, 0]], [[300, 0]]], np.uint16)
    cube(stored, tmp_path / "s2.nc", ("2019-01-01", "2019-01-06"))
    assert read(tmp_path, no_data=[0]).optical.dates.astype(str).tolist() == ["2019-01-06"]
