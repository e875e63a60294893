"""GeoTIFFs: what masks and tags of GDAL say, dates in names, several products of a day."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from restore_dit.config.cube_mapping import CubeMapping, load_cube_mapping
from restore_dit.data.cubes.site_series import read_cube
from restore_dit.errors import UserError
from restore_dit.series import NO_DATA, TileSeries

HEIGHT, WIDTH = 4, 6


def image(band: int, date: int = 0, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint16]:
    """A number that says band, date, row and column."""
    row, column = np.indices((height, width))
    return (1000 + 1000 * band + 100 * date + 10 * row + column).astype(np.uint16)


def write(
    file: Path, bands: Sequence[NDArray[Any]], no_data: float | None = None, mask: NDArray[np.bool_] | None = None,
    scales: Sequence[float] = (), offsets: Sequence[float] = (), alpha: bool = False, resolution: float = 10,
    names: Sequence[str] = ("B02", "B04"), **tags: str,
) -> None:  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    height, width = bands[0].shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            file, "w", driver="GTiff", height=height, width=width, count=len(bands), dtype=bands[0].dtype,
            nodata=no_data, crs="EPSG:32631", transform=from_origin(500000, 5600000, resolution, resolution),
        ) as raster,
    ):  # fmt: skip
        if alpha:
            raster.colorinterp = [*[ColorInterp.gray] * (len(bands) - 1), ColorInterp.alpha]
        for number, band in enumerate(bands, start=1):
            raster.write(band, number)
            if number <= len(names):
                raster.set_band_description(number, names[number - 1])
        if mask is not None:
            raster.write_mask(mask)
        if scales:
            raster.scales, raster.offsets = scales, offsets
        raster.update_tags(**tags)


def read(folder: Path, **product: Any) -> TileSeries:
    optical = {"files": "s2_*.tif", "date": r"s2_(.*?)(?:_\w*)?\.tif$", "bands": {"B02": "B02", "B04": "B04"}}
    return read_cube(
        folder,
        CubeMapping.model_validate(
            {
                "source": "test",
                "optical": [optical | {"scale": 1e-4} | product],
                "classes": {4: "clear", 9: "thick_cloud"},
            }
        ),
    )


@pytest.mark.parametrize("how", ["mask", "alpha", "no_data", "nan"])
def test_what_a_raster_hides_is_no_data(tmp_path: Path, how: str) -> None:
    hidden = np.zeros((HEIGHT, WIDTH), bool)
    hidden[1, 4:] = True
    for date, name in enumerate(("2019-01-05", "2019-01-10")):
        bands: list[NDArray[Any]] = [image(0, date), image(1, date)]
        file = tmp_path / f"s2_{name}.tif"
        if how == "mask":
            write(file, bands, mask=~hidden)
        elif how == "alpha":
            write(file, [*bands, np.where(hidden, 0, 65535).astype(np.uint16)], alpha=True)
        else:
            fill = np.nan if how == "nan" else 7
            kind = np.float32 if how == "nan" else np.uint16
            write(file, [np.where(hidden, fill, band).astype(kind) for band in bands], no_data=fill)
    values = read(tmp_path).optical.values
    for date in range(2):
        for band in range(2):
            np.testing.assert_array_equal(values[date, band], np.where(hidden, NO_DATA, image(band, date).astype(int)))


def test_each_file_has_its_own_no_data_value(tmp_path: Path) -> None:
    for date, no_data in enumerate((1001, 2102)):
        write(tmp_path / f"s2_2019-01-0{date + 1}.tif", [image(0, date), image(1, date)], no_data=no_data)
    values = read(tmp_path).optical.values
    assert values[0, 0, 0].tolist() == [1000, NO_DATA, 1002, 1003, 1004, 1005]
    assert values[1, 0, 0].tolist() == [1100, 1101, 1102, 1103, 1104, 1105]
    assert values[0, 1, 0].tolist() == [2000, 2001, 2002, 2003, 2004, 2005]
    assert values[1, 1, 0].tolist() == [2100, 2101, NO_DATA, 2103, 2104, 2105]


def test_rasters_of_several_types_are_one_series(tmp_path: Path) -> None:
    write(tmp_path / "s2_2019-01-01.tif", [image(0), image(1)])
    write(tmp_path / "s2_2019-01-06.tif", [image(band).astype(np.float32) + np.float32(0.4) for band in range(2)])
    values = read(tmp_path).optical.values
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0, 1], image(1))


def test_classes_of_signed_bytes(tmp_path: Path) -> None:
    write(tmp_path / "s2_2019-01-01.tif", [image(0), image(1)])
    classes = np.full((HEIGHT, WIDTH), 4, np.int8)
    classes[0, 4:], classes[2, 1] = -1, 9
    write(tmp_path / "scl_2019-01-01.tif", [classes], no_data=-1, names=["SCL"])
    product = {"files": "s2_*.tif", "date": "_(.*)\\.", "bands": {"B02": "B02", "B04": "B04"}, "scale": 1e-4}
    masks = {"files": "scl_*.tif", "date": "_(.*)\\.", "bands": {}, "classification": "SCL"}
    tree = {"source": "t", "optical": [product, masks], "classes": {4: "clear", 9: "thick_cloud"}}
    clouds = read_cube(tmp_path, CubeMapping.model_validate(tree)).clouds
    assert clouds is not None
    assert clouds[0, 0].tolist() == [0, 0, 0, 0, 255, 255]
    assert clouds[0, 2].tolist() == [0, 1, 0, 0, 0, 0]


def test_packed_rasters_have_their_own_scale_and_offset(tmp_path: Path) -> None:
    """As `gdal_translate -a_scale 0.0001 -a_offset -0.1` leaves them, and another date with other tags."""
    write(tmp_path / "s2_2023-01-05.tif", [image(0) + 1000, image(1) + 1000], scales=(1e-4, 1e-4), offsets=(-0.1, -0.1))
    write(tmp_path / "s2_2023-01-10.tif", [image(0), image(1) * 2], scales=(1e-4, 5e-5), offsets=(0, 0))
    write(tmp_path / "s2_2023-01-15.tif", [image(band) / 10000 for band in range(2)])
    values = read(tmp_path, packed=True, scale=1).optical.values
    for date in range(3):
        np.testing.assert_array_equal(values[date], [image(0), image(1)])
    plain = read(tmp_path, scale=1e-4).optical.values
    np.testing.assert_array_equal(plain[0], [image(0) + 1000, image(1) + 1000])


def test_packed_offset_in_stored_numbers(tmp_path: Path) -> None:
    write(tmp_path / "s2_2023-01-05.tif", [image(0) + 1000, image(1) + 1000], scales=(1, 1), offsets=(-1000, -1000))
    np.testing.assert_array_equal(read(tmp_path, packed=True).optical.values[0], [image(0), image(1)])


def test_day_month_year_by_the_whole_folder_or_by_the_mapping(tmp_path: Path) -> None:
    names = ("05-02-2019", "20-02-2019", "07-03-2019")
    for date, name in enumerate(names):
        write(tmp_path / "a" / f"s2_{name}.tif", [image(0, date), image(1, date)])
    series = read(tmp_path / "a").optical
    assert series.dates.astype(str).tolist() == ["2019-02-05", "2019-02-20", "2019-03-07"]
    assert series.values[:, 0, 0, 0].tolist() == [1000, 1100, 1200]
    (tmp_path / "a" / f"s2_{names[1]}.tif").unlink()
    with pytest.raises(UserError, match=r"s2_0\d-0\d-2019\.tif.*date_format"):
        read(tmp_path / "a")
    series = read(tmp_path / "a", date_format="%d-%m-%Y").optical
    assert series.dates.astype(str).tolist() == ["2019-02-05", "2019-03-07"]


def test_names_of_harmonised_landsat_and_sentinel_say_the_day_of_the_year(tmp_path: Path) -> None:
    for date, day in enumerate(("2019036", "2020366")):
        write(tmp_path / f"HLS.S30.T31UFS.{day}T105431.v2.0.tif", [image(0, date), image(1, date)])
    series = read(tmp_path, files="HLS*", date=r"\.(\d{7}T\d{6})\.").optical
    assert series.dates.astype(str).tolist() == ["2019-02-05", "2020-12-31"]
    assert series.values[:, 1, 3, 5].tolist() == [2035, 2135]


def theia(folder: Path, stamp: str, date: int, rows: slice) -> None:
    for index, band in enumerate(("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")):
        step = 10 if band in ("B2", "B3", "B4", "B8") else 20
        whole = image(index, date, 80 // step, 40 // step).astype(np.int16)
        part = np.full_like(whole, -10000)
        inside = slice(rows.start * 10 // step, rows.stop * 10 // step)
        part[inside] = whole[inside]
        name = f"SENTINEL2A_{stamp}_L2A_T31TCJ_D_V1-9_FRE_{band}.tif"
        write(folder / name, [part], no_data=-10000, resolution=step, names=())


def test_two_products_of_one_day_and_orbit_are_merged(tmp_path: Path) -> None:
    theia(tmp_path, "20220525-105431-450", 0, slice(0, 8))
    theia(tmp_path, "20220530-105611-450", 1, slice(0, 6))  # the upper part
    theia(tmp_path, "20220530-105625-450", 1, slice(4, 8))  # the lower part
    series = read_cube(tmp_path, load_cube_mapping("theia")).optical
    assert series.dates.astype(str).tolist() == ["2022-05-25", "2022-05-30"]
    for date in range(2):
        for index in (0, 1, 2, 6):  # B02, B03, B04, B08 as they are
            np.testing.assert_array_equal(series.values[date, index], image(index, date, 8, 4))
    assert (series.values != NO_DATA).all()
    assert series.values[1, 9, 0, 0] == 10100
    assert series.values[1, 9, 7, 3] == 10131


def test_two_products_whose_names_say_the_same_date_are_merged(tmp_path: Path) -> None:
    upper, lower = ([np.where(part, image(band), 0).astype(np.uint16) for band in range(2)]
                    for part in (np.arange(HEIGHT)[:, None] < 3, np.arange(HEIGHT)[:, None] >= 2))  # fmt: skip
    write(tmp_path / "s2_2019-01-05_a.tif", upper)
    write(tmp_path / "s2_2019-01-05_b.tif", lower)
    values = read(tmp_path, no_data=[0]).optical.values
    np.testing.assert_array_equal(values, [[image(0), image(1)]])


@pytest.mark.parametrize(("baselines", "offset_from"), [(("05.00", "02.12"), 0), ((None, None), 9), (("", "04.00"), 1)])
def test_a_tag_says_the_processing_baseline(
    tmp_path: Path, baselines: tuple[str | None, str | None], offset_from: int
) -> None:
    """An older scene that was processed anew has the offset; without a tag the date decides."""
    for date, baseline in enumerate(baselines):
        tags = {} if baseline is None else {"PROCESSING_BASELINE": baseline}
        write(tmp_path / f"s2_2019-01-0{date + 1}.tif", [image(0) + 1000, image(1) + 1000], **tags)
    change = {"since": "2022-01-25", "since_baseline": 4.0, "offset": -0.1}
    values = read(tmp_path, baseline="PROCESSING_BASELINE", offsets=[change]).optical.values
    expected = [1000 if date == offset_from else 2000 for date in range(2)]
    assert values[:, 0, 0, 0].tolist() == expected


def test_files_that_macos_hides_are_no_acquisitions(tmp_path: Path) -> None:
    write(tmp_path / "site" / "s2_2019-01-05.tif", [image(0), image(1)])
    for name in ("._s2_2019-01-05.tif", ".s2_2019-01-06.tif"):
        (tmp_path / "site" / name).write_bytes(b"\0\5\x16\7Mac OS X")
    assert len(read(tmp_path / "site", files="*.tif").optical) == 1
