"""Which files and images are one acquisition, and on which day it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

from restore_dit.config.cube_mapping import CubeMapping
from restore_dit.data.cubes.site_series import read_cube
from restore_dit.series import TileSeries

MAPPING = CubeMapping.model_validate(
    {
        "source": "test",
        "optical": [
            {"files": "s2_10m.nc", "bands": {"B02": "B02"}, "scale": 1e-4, "no_data": [0]},
            {"files": "s2_20m.nc", "bands": {"B11": "B11"}, "scale": 1e-4, "no_data": [0]},
            {"files": "s2_scl.nc", "bands": {}, "classification": "SCL"},
        ],
        "radar": [{"files": "s1.nc", "track": "S1A", "bands": {"VV": "VV", "VH": "VH"}}],
        "classes": {0: "no_data", 4: "clear", 9: "thick_cloud"},
    }
)


def write(file: Path, times: list[str], spacing: float = 10.0, **variables: list[Any]) -> None:
    """Variables whose images have one value each, 4×4 pixels of 10 m or 2×2 of 20 m."""
    size = int(40 / spacing)
    one = np.ones((1, size, size))
    xarray.Dataset(
        {name: (("time", "y", "x"), np.asarray(values)[:, None, None] * one) for name, values in variables.items()},
        coords={
            "time": np.array(times, "datetime64[ns]"),
            "y": 5600000 - spacing * (np.arange(size) + 0.5),
            "x": 500000 + spacing * (np.arange(size) + 0.5),
        },
        attrs={"crs": "EPSG:32631"},
    ).to_netcdf(file, engine="h5netcdf")


def site(folder: Path, begin: str, seconds: tuple[int, int, int]) -> TileSeries:
    """Two overpasses, five days apart, whose three files differ by seconds."""
    times = [[str(np.datetime64(begin, "s") + np.timedelta64(days, "D") + np.timedelta64(second, "s"))
              for days in (0, 5)] for second in seconds]  # fmt: skip
    write(folder / "s2_10m.nc", times[0], B02=[1001, 1002])
    write(folder / "s2_20m.nc", times[1], 20.0, B11=[2001, 2002])
    write(folder / "s2_scl.nc", times[2], 20.0, SCL=[4, 9])
    return read_cube(folder, MAPPING)


@pytest.mark.parametrize(
    ("begin", "seconds"),
    [
        ("2021-06-01T10:50:31", (0, 0, 0)),
        ("2021-06-01T10:50:31", (0, 3, 7)),
        ("2021-06-01T23:59:58", (0, 3, 7)),
        ("2021-06-02T00:00:05", (0, -3, -7)),  # the classification alone lies before midnight
        ("2021-06-01T23:50:00", (0, 899, 650)),
    ],
)
def test_files_of_one_overpass_are_one_acquisition(tmp_path: Path, begin: str, seconds: tuple[int, int, int]) -> None:
    series = site(tmp_path, begin, seconds)
    assert series.optical.dates.astype(str).tolist() == ["2021-06-01", "2021-06-06"]
    for date in range(2):
        assert (series.optical.values[date, 0] == 1001 + date).all()
        assert (series.optical.values[date, 1] == 2001 + date).all()
    assert series.clouds is not None
    assert (series.clouds[0] == 0).all()
    assert (series.clouds[1] == 1).all()


def test_overpasses_of_two_days_stay_two(tmp_path: Path) -> None:
    times = ["2021-06-01T23:59:58", "2021-06-02T23:59:50", "2021-06-03T23:40:00"]
    write(tmp_path / "s2_10m.nc", times, B02=[1001, 1002, 1003])
    series = read_cube(tmp_path, MAPPING).optical
    assert series.dates.astype(str).tolist() == ["2021-06-01", "2021-06-02", "2021-06-03"]
    assert series.values[:, 0, 0, 0].tolist() == [1001, 1002, 1003]


def test_files_with_dates_alone_join_the_day_and_not_yesterdays_overpass(tmp_path: Path) -> None:
    write(tmp_path / "s2_10m.nc", ["2021-06-01T23:59:58", "2021-06-02T23:59:58"], B02=[1001, 1002])
    write(tmp_path / "s2_20m.nc", ["2021-06-01", "2021-06-02"], 20.0, B11=[2001, 2002])
    series = read_cube(tmp_path, MAPPING).optical
    assert series.dates.astype(str).tolist() == ["2021-06-01", "2021-06-02"]
    assert series.values[:, :, 0, 0].tolist() == [[1001, 2001], [1002, 2002]]


def test_a_radar_overpass_across_midnight_is_one_acquisition(tmp_path: Path) -> None:
    write(tmp_path / "s2_10m.nc", ["2021-06-01"], B02=[1001])
    decibel = np.array([[[-12.0, np.nan] * 2] * 4, [[np.nan, -15.0] * 2] * 4])
    image = xarray.Dataset(
        dict.fromkeys(("VV", "VH"), (("time", "y", "x"), decibel)),
        coords={"time": np.array(["2021-06-01T23:59:50", "2021-06-02T00:00:15"], "datetime64[ns]"),
                "y": 5600000 - 10 * (np.arange(4) + 0.5), "x": 500000 + 10 * (np.arange(4) + 0.5)},
        attrs={"crs": "EPSG:32631"},
    )  # fmt: skip
    image.to_netcdf(tmp_path / "s1.nc", engine="h5netcdf")
    radar = read_cube(tmp_path, MAPPING).radar["S1A"]
    assert radar.dates.astype(str).tolist() == ["2021-06-01"]
    assert radar.values[0, 0, 0].tolist() == [-1200, -1500, -1200, -1500]
