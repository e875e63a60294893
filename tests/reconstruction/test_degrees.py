"""A cube in degrees, from the file to every result: the corners stay where they are."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray
from rasterio.crs import CRS
from rasterio.io import MemoryFile

from restore_dit.clouds.rule import rule_masks
from restore_dit.config.clouds import RuleConfig
from restore_dit.config.cube_mapping import CubeMapping
from restore_dit.data.cubes.site_series import plan_cubes
from restore_dit.data.exchange import geotiff_archive, netcdf
from restore_dit.data.exchange.limits import SeriesLimits
from restore_dit.data.runner import run
from restore_dit.data.store.tile_store import TileStore
from restore_dit.inspection.description import describe_store
from restore_dit.reconstruction.gap_free import fill_gaps
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.rasters import geotiffs, write_netcdf
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import S2_BANDS, TileSeries

H, W, WEST, NORTH, DOWN, RIGHT = 12, 16, 8.5, 60.0, 9e-5, 2e-4
"""10.03 by 11.16 m at 60° north."""

CORNERS = (RIGHT, 0.0, WEST, 0.0, -DOWN, NORTH)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TileStore:
    folder = tmp_path_factory.mktemp("degrees")
    images = np.random.default_rng(0).integers(500, 4000, (6, H, W)).astype(np.uint16)
    images[2, :4, :5] = 0
    dates = np.datetime64("2019-03-01", "ns") + np.arange(6) * np.timedelta64(5, "D")
    axes = {"lat": NORTH - DOWN * (np.arange(H) + 0.5), "lon": WEST + RIGHT * (np.arange(W) + 0.5)}
    dims = ("time", "lat", "lon")
    bands = dict.fromkeys(S2_BANDS, (dims, images)) | {"scl": (dims, np.full(images.shape, 4, np.uint8))}
    xarray.Dataset(bands, coords={"time": dates, **axes}).to_netcdf(folder / "s2.nc", engine="h5netcdf")
    optical = {"files": "s2*", "bands": {band: band for band in S2_BANDS}, "scale": 1e-4, "no_data": [0]}
    tree = {"source": "t", "optical": [optical | {"classification": "scl"}], "classes": {4: "clear"}}
    run(plan_cubes(folder / "s2.nc", folder / "store", CubeMapping.model_validate(tree)))
    return TileStore.open(folder / "store")


def same_place(series: TileSeries) -> bool:
    place = series.georeference
    return place is not None and place.crs == "EPSG:4326" and place.transform == pytest.approx(CORNERS, abs=1e-11)


def test_the_store_keeps_degrees_and_inspect_says_metres(store: TileStore) -> None:
    assert same_place(store.load("s2").series())
    (tile,) = describe_store(store).tiles
    assert tile.pixel_size == pytest.approx((10.03, 11.16), abs=0.01)


def test_reconstructions_lie_where_the_cube_does(store: TileStore, small_model: Model, tmp_path: Path) -> None:
    series = store.load("s2").series()
    clear, gaps, *_ = fill_gaps(small_model, series, SamplingOptions())
    assert same_place(clear)
    for name, content in geotiffs(clear, gaps):
        with MemoryFile(content) as file, file.open() as raster:
            assert raster.crs == CRS.from_epsg(4326), name
            assert tuple(raster.bounds) == pytest.approx((WEST, NORTH - H * DOWN, WEST + W * RIGHT, NORTH), abs=1e-11)
    write_netcdf(tmp_path / "clear.nc", clear, gaps)
    with xarray.open_dataset(tmp_path / "clear.nc", engine="netcdf4", decode_coords="all") as cube:
        assert (cube.x.attrs["units"], cube.y.attrs["standard_name"]) == ("degrees_east", "latitude")
        np.testing.assert_allclose(cube.x, WEST + RIGHT * (np.arange(W) + 0.5), atol=1e-11)
        assert cube.spatial_ref.attrs["grid_mapping_name"] == "latitude_longitude"
    with rasterio.open(f"netcdf:{tmp_path / 'clear.nc'}:B04") as raster:
        assert raster.crs == CRS.from_epsg(4326)
        assert tuple(raster.transform)[:6] == pytest.approx(CORNERS, abs=1e-11)


def test_what_the_endpoint_is_sent_and_sends(store: TileStore) -> None:
    series = store.load("s2").series()
    assert same_place(netcdf.decode(netcdf.encode(series), "upload.nc"))
    archive = geotiff_archive.encode(dict(geotiffs(series, series.missing())))
    assert zipfile.ZipFile(io.BytesIO(archive)).namelist()
    assert same_place(geotiff_archive.decode(archive, "upload.zip", SeriesLimits()))


def test_the_rule_knows_how_large_the_pixels_are(store: TileStore) -> None:
    """Clouds grow by 60 m: six rows of 10.03 m, five columns of 11.16 m."""
    from restore_dit.clouds.rule.masks import grown
    from restore_dit.clouds.rule.place import place_of

    series = store.load("s2").series()
    place = place_of(series.georeference, series.size)
    dot = np.zeros((1, 21, 21), bool)
    dot[0, 10, 10] = True
    wide = grown(dot, 60, place)[0]
    assert (wide[:, 10].sum(), wide[10].sum()) == (13, 11)
    assert rule_masks(series, RuleConfig()).shape == (6, H, W)
