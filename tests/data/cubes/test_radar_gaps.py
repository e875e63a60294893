"""Radar as it is since Sentinel-1B failed: gaps, one polarisation, borders of zeros, other years. The site stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from numpy.typing import NDArray

from restore_dit.cli import main
from restore_dit.config.cube_mapping import CubeMapping
from restore_dit.data.cubes.site_series import read_cube
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from restore_dit.series import NO_DATA, TileSeries

HEIGHT, WIDTH = 3, 4
MAPPING: dict[str, Any] = {
    "source": "test",
    "optical": [{"files": "s2.nc", "bands": {"B04": "red"}, "scale": 1e-4}],
    "radar": [
        {"files": "s1a*.nc", "track": "S1A", "bands": {"VV": "VV", "VH": "VH"}, "unit": "power"},
        {"files": "s1d*.nc", "track": "S1D", "bands": {"VV": "VV", "VH": "VH"}, "unit": "power"},
    ],
}


def write(file: Path, dates: list[str], **variables: NDArray[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    xarray.Dataset(
        {name: (("time", "y", "x"), values) for name, values in variables.items()},
        coords={
            "time": np.array(dates, "datetime64[ns]"),
            "y": 5600000 - 10 * (np.arange(HEIGHT) + 0.5),
            "x": 500000 + 10 * (np.arange(WIDTH) + 0.5),
        },
        attrs={"crs": "EPSG:32631"},
    ).to_netcdf(file, engine="h5netcdf")


def power(dates: int, decibel: float) -> NDArray[np.float32]:
    """Each date a dB more, each column a tenth."""
    by_date = np.arange(dates)[:, None, None] + np.arange(WIDTH) / 10 + np.zeros((HEIGHT, 1))
    return (10 ** ((decibel + by_date) / 10)).astype(np.float32)


NOW = ["2022-01-01", "2022-01-13"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    write(tmp_path / "site" / "s2.nc", ["2022-01-03", "2022-01-08"], red=np.full((2, HEIGHT, WIDTH), 1234, np.int16))
    return tmp_path / "site"


def read(site: Path) -> TileSeries:
    series = read_cube(site, CubeMapping.model_validate(MAPPING))
    assert (series.optical.values == 1234).all()
    return series


def test_radar_of_one_pass_or_one_date_or_none_is_whole(site: Path) -> None:
    assert (read(site).radar, read(site).remarks) == ({}, ())
    write(site / "s1d.nc", NOW, VV=power(2, -10), VH=power(2, -16))
    write(site / "s1a.nc", NOW[:1], VV=power(1, -11), VH=power(1, -17))
    series = read(site)
    assert series.remarks == ()
    assert series.radar["S1D"].dates.astype(str).tolist() == NOW
    assert series.radar["S1D"].values[:, :, 0].tolist() == [
        [[-1000, -990, -980, -970], [-1600, -1590, -1580, -1570]],
        [[-900, -890, -880, -870], [-1500, -1490, -1480, -1470]],
    ]
    assert series.radar["S1A"].values[:, :, 2, 3].tolist() == [[-1070, -1670]]


@pytest.mark.parametrize("lacking", ["VV", "VH"])
def test_radar_in_one_polarisation_is_left_out_with_a_line(site: Path, lacking: str) -> None:
    images = {"VV": power(2, -10), "VH": power(2, -16)}
    write(site / "s1a.nc", NOW, **{name: one for name, one in images.items() if name != lacking})
    write(site / "s1d.nc", NOW, **images)
    series = read(site)
    assert list(series.radar) == ["S1D"]
    assert len(series.remarks) == 1
    assert "s1a.nc" in series.remarks[0]
    assert lacking in series.remarks[0]


def test_one_file_of_several_in_one_polarisation_costs_its_own_dates(site: Path) -> None:
    write(site / "s1a_1.nc", NOW, VV=power(2, -10), VH=power(2, -16))
    write(site / "s1a_2.nc", ["2022-01-25"], VV=power(1, -10))
    series = read(site)
    assert series.radar["S1A"].dates.astype(str).tolist() == NOW
    assert ["s1a_2.nc" in remark for remark in series.remarks] == [True]


def test_radar_with_neither_polarisation_is_a_mapping_that_does_not_fit(site: Path) -> None:
    write(site / "s1a.nc", NOW, vv=power(2, -10), vh=power(2, -16))
    with pytest.raises(UserError, match=r"s1a\.nc.*VV"):
        read(site)


def test_a_border_of_zeros_is_no_data(site: Path) -> None:
    images = {"VV": power(2, -10), "VH": power(2, -16)}
    for one in images.values():
        one[:, :, :2] = 0
    write(site / "s1a.nc", NOW, **images)
    series = read(site)
    assert series.remarks == ()
    assert series.radar["S1A"].values[0, 0, 0].tolist() == [NO_DATA, NO_DATA, -980, -970]
    assert series.radar["S1A"].values[1, 1, 2].tolist() == [NO_DATA, NO_DATA, -1480, -1470]


@pytest.mark.parametrize(("bands", "value"), [(("VV", "VH"), 0), (("VV",), np.nan), (("VH",), 0), (("VH",), -1)])
def test_radar_without_a_pixel_in_both_polarisations_is_left_out_with_a_line(
    site: Path, bands: tuple[str, ...], value: float
) -> None:
    images = {"VV": power(2, -10), "VH": power(2, -16)}
    for band in bands:
        images[band][:] = value
    write(site / "s1a.nc", NOW, **images)
    series = read(site)
    assert series.radar == {}
    assert ["S1A" in remark for remark in series.remarks] == [True]


def test_a_date_without_one_polarisation_is_left_out(site: Path) -> None:
    images = {"VV": power(2, -10), "VH": power(2, -16)}
    images["VH"][0] = 0
    write(site / "s1a.nc", NOW, **images)
    assert read(site).radar["S1A"].dates.astype(str).tolist() == NOW[1:]


@pytest.mark.parametrize(
    ("dates", "taken"),
    [
        (["2020-01-01", "2020-01-13"], False),
        (["2024-01-01", "2024-01-13"], False),
        (["2021-11-01", "2021-12-01"], False),
        (["2021-11-01", "2021-12-04"], True),  # 30 days before the first optical image
        (["2020-01-01", "2022-01-13"], True),
    ],
)
def test_radar_of_another_year_is_left_out_with_a_line(site: Path, dates: list[str], taken: bool) -> None:
    write(site / "s1a.nc", dates, VV=power(2, -10), VH=power(2, -16))
    series = read(site)
    assert list(series.radar) == (["S1A"] if taken else [])
    assert [dates[0] in remark for remark in series.remarks] == ([] if taken else [True])


def test_power_that_is_no_backscatter_is_no_data(site: Path) -> None:
    images = {"VV": power(2, -10), "VH": power(2, -16)}
    images["VV"][0, 0, 0] = 3e38  # 385 dB: a fill value that nobody declares
    write(site / "s1a.nc", NOW, **images)
    series = read(site)
    assert series.radar["S1A"].values[0, 0, 0].tolist() == [NO_DATA, -990, -980, -970]
    assert [" 1 values of VV" in remark for remark in series.remarks] == [True]


def test_the_command_says_what_it_left_out(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site.parent / "own.yaml").write_text(str(MAPPING))  # YAML reads JSON-like trees
    write(site / "s1a.nc", NOW, VV=power(2, -10))
    store = site.parent / "store"
    assert main(["ingest-cubes", str(site), str(store), "--mapping", str(site.parent / "own.yaml")]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "s1a.nc" in line]
    assert len(said) == 1
    assert said[0].startswith("site: ")
    tile = TileStore.open(store).load("site").series()
    assert (list(tile.radar), tile.optical.values[0, 0, 0, 0]) == ([], 1234)
