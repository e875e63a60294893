"""GeoTIFFs of a mapping of one's own: bands within a file, files of one grid, damaged files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import from_origin

from restore_dit.config.cube_mapping import load_cube_mapping
from restore_dit.data.cubes.site_series import read_cube
from restore_dit.series import NO_DATA
from tests.data.cubes.test_providers import raster
from tests.messages import refused


def geotiff_mapping(tmp_path: Path) -> Path:
    file = tmp_path / "own.yaml"
    file.write_text(
        "source: own\noptical:\n"
        "  - {files: 'S2_*.tif', date: '_(\\d{4}-\\d\\d-\\d\\d)', bands: {B02: blue, B04: 3}, scale: 1.0e-4, "
        "classification: scl}\n"
        "classes: {0: no_data, 4: clear, 9: thick_cloud}\n"
    )
    return file


def test_geotiffs_of_several_bands_by_description_and_number(tmp_path: Path) -> None:
    own = load_cube_mapping(geotiff_mapping(tmp_path))
    site = tmp_path / "site"
    image = np.stack([np.full((3, 4), 500), np.full((3, 4), 4), np.full((3, 4), 700)]).astype(np.uint16)
    image[0, 0, 0], image[1, 1, 1] = 9999, 9
    image[0, 0, 0] = 65535
    for date in ("2019-03-02", "2019-01-05"):
        raster(site / f"S2_{date}.tif", image, 65535, descriptions=("blue", "scl", "red"))
    series = read_cube(site, own)
    assert series.optical.dates.astype(str).tolist() == ["2019-01-05", "2019-03-02"]
    np.testing.assert_array_equal(series.optical.values[0, 0, 0], [NO_DATA, 500, 500, 500])
    assert (series.optical.values[:, 1] == 700).all()
    assert series.clouds is not None
    assert series.clouds[0, 1, 1] == 1


def test_geotiffs_may_lie_a_hundredth_of_a_pixel_beside_each_other(tmp_path: Path) -> None:
    own, site = load_cube_mapping(geotiff_mapping(tmp_path)), tmp_path / "site"
    image = np.full((3, 3, 4), 4, np.uint16)
    for date, east in (("2019-01-01", 0), ("2019-01-06", 1e-9), ("2019-01-11", 0.09)):
        place = from_origin(500000 + east, 5600000, 10, 10)
        raster(site / f"S2_{date}.tif", image, descriptions=("blue", "scl", "red"), transform=place)
    series = read_cube(site, own)
    assert (len(series.optical), series.size) == (3, (3, 4))
    half = from_origin(500005, 5599995, 10, 10)
    raster(site / "S2_2019-01-16.tif", image, descriptions=("blue", "scl", "red"), transform=half)
    with refused("S2_2019-01-16.tif", "500005, 5599995", "500000, 5600000"):
        read_cube(site, own)


@pytest.mark.parametrize(
    ("damage", "facts"),
    [
        ("truncated", ["S2_2019-01-06.tif", "GeoTIFF"]),
        ("text", ["S2_2019-01-06.tif", "GeoTIFF"]),
        ("elsewhere", ["S2_2019-01-06.tif", "S2_*.tif"]),
        ("undated", ["S2_latest.tif", "date"]),
        ("bandless", ["S2_2019-01-06.tif", "scl", "blue"]),
        ("no crs", ["S2_2019-01-01.tif", "CRS"]),
    ],
)
def test_damaged_geotiffs_are_one_line(tmp_path: Path, damage: str, facts: list[str]) -> None:
    own = load_cube_mapping(geotiff_mapping(tmp_path))
    site, names = tmp_path / "site", ("blue", "scl", "red")
    image = np.full((3, 3, 4), 400, np.uint16)
    image[1] = 4
    raster(site / "S2_2019-01-01.tif", image, descriptions=names)
    bad = site / "S2_2019-01-06.tif"
    raster(bad, image, descriptions=names)
    if damage == "truncated":
        bad.write_bytes(bad.read_bytes()[:100])
    elif damage == "text":
        bad.write_text("<html>503</html>")
    elif damage == "elsewhere":
        raster(bad, image, descriptions=names, transform=from_origin(0, 5600000, 10, 10))
    elif damage == "undated":
        bad.rename(site / "S2_latest.tif")
    elif damage == "bandless":
        raster(bad, image, descriptions=("blue", "none", "red"))
    else:
        for file in site.iterdir():
            raster(file, image, descriptions=names, crs=None)
    with refused(*facts):
        read_cube(site, own)
