"""A ZIP archive of GeoTIFFs as a series, and what is refused of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile
from rasterio.transform import Affine

from restore_dit.data.exchange import geotiff_archive
from restore_dit.data.exchange.limits import SeriesLimits
from restore_dit.reconstruction.rasters import geotiffs
from restore_dit.series import NO_DATA, UNCERTAINTY, Acquisitions, Georeference, TileSeries
from tests.messages import assert_names, refused

BANDS = ("B02", "B03", "B8A")
UTM = Georeference("EPSG:32631", (10.0, 0.0, 600_000.0, 0.0, -10.0, 4_900_020.0))


@pytest.fixture
def series() -> TileSeries:
    random = np.random.default_rng(3)
    values = random.integers(0, 9000, (4, 3, 12, 10)).astype(np.int16)
    values[1, :, 2, 3] = NO_DATA
    dates = np.array(["2019-01-03", "2019-01-08", "2019-02-01", "2019-02-06"], "datetime64[D]")
    clouds = (random.random((4, 12, 10)) < 0.2).astype(np.uint8)
    return TileSeries("site-1", Acquisitions(values, dates, BANDS), clouds, georeference=UTM)


@pytest.fixture
def files(series) -> dict[str, bytes]:
    return dict(geotiffs(series, series.clouds == 1))


def changed(content: bytes, values=None, **profile) -> bytes:
    """The GeoTIFF written anew, otherwise."""
    with MemoryFile(content) as old, old.open() as source:
        kept = {**source.profile, **profile}
        kept.pop("driver"), kept.pop("blocksize", None)
        scales = kept.pop("scales", source.scales)
        data = source.read() if values is None else values
        with MemoryFile() as new:
            kept |= {"height": data.shape[1], "width": data.shape[2], "tiled": False}
            for key in ("blockxsize", "blockysize"):
                kept.pop(key, None)
            with new.open(driver="GTiff", **kept) as target:
                target.write(data)
                target.descriptions = source.descriptions
                target.scales = scales
            return new.read()


def decoded(files: dict[str, bytes], **limits: int) -> TileSeries:
    return geotiff_archive.decode(geotiff_archive.encode(files), "upload.zip", SeriesLimits(**limits))


@pytest.mark.parametrize("east", [1e-9, 0.09])
def test_rasters_may_lie_a_hundredth_of_a_pixel_beside_each_other(files, east):
    files[IMAGE] = changed(files[IMAGE], transform=Affine(10, 0, 600_000 + east, 0, -10, 4_900_020))
    assert decoded(files).georeference == UTM


@pytest.mark.parametrize(
    ("step", "crs"), [(1e-4, "EPSG:32631"), (10, "EPSG:4326"), (2000, "EPSG:32631")], ids=["degrees", "metres", "wide"]
)
def test_pixels_that_no_sentinel_has_are_refused(files, step, crs):
    moved = {name: changed(one, crs=crs, transform=Affine(step, 0, 3, 0, -step, 50)) for name, one in files.items()}
    with refused("upload.zip", crs):
        decoded(moved)


@pytest.mark.parametrize("sure", [False, True])
def test_what_reconstruct_writes_is_what_the_archive_gives(series, files, sure):
    if sure:
        with_it = replace(series, layers={UNCERTAINTY: np.ones_like(series.optical.values)})
        files |= dict(geotiffs(with_it, series.clouds == 1))
    found = decoded(files)
    np.testing.assert_array_equal(found.optical.values, series.optical.values)
    np.testing.assert_array_equal(found.optical.dates, series.optical.dates)
    assert found.optical.bands == BANDS
    np.testing.assert_array_equal(found.clouds, series.clouds)
    assert found.georeference == UTM
    assert found.tile_id == "site-1"


def test_radar_and_files_in_folders_are_taken_and_what_is_no_raster_is_not(series, files):
    decibel = np.full((2, 12, 10), -12.5, np.float32)
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", dtype="float32", count=2, height=12, width=10,
                         crs="EPSG:32631", transform=rasterio.Affine(*UTM.transform)) as raster:  # fmt: skip
            raster.write(decibel)
            raster.descriptions = ("VV", "VH")
        radar = memory.read()
    inside = {f"a/b/{name}": content for name, content in files.items()}
    found = decoded({**inside, "site-1_20190105_S1A.tif": radar, "readme.txt": b"hello"})
    assert found.radar.keys() == {"S1A"}
    assert (found.radar["S1A"].values == -1250).all()
    np.testing.assert_array_equal(found.optical.values, series.optical.values)
    of_other_years = decoded({**files, "site-1_20120105_S1A.tif": radar})
    assert not of_other_years.radar
    assert_names(of_other_years.remarks[-1], "upload.zip", "S1A", "2012-01-05")


@pytest.mark.parametrize("how", ["mask", "alpha"])
def test_what_a_mask_or_alpha_band_hides_is_no_data(series, files, how):
    visible = np.ones((12, 10), bool)
    visible[4, 7:] = False
    alpha = [np.where(visible, 65535, 0)] if how == "alpha" else []
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as memory:
        with memory.open(driver="GTiff", dtype="uint16", count=3 + len(alpha), height=12, width=10, crs="EPSG:32631",
                         transform=rasterio.Affine(*UTM.transform)) as raster:  # fmt: skip
            if how == "alpha":
                raster.colorinterp = [ColorInterp.gray] * 3 + [ColorInterp.alpha]
            raster.write(np.stack([np.full((12, 10), 1234), np.full((12, 10), 2345), np.full((12, 10), 3456), *alpha]))
            raster.descriptions = (*BANDS, *["alpha"] * len(alpha))
            if how == "mask":
                raster.write_mask(visible)
        hidden = memory.read()
    values = decoded({**files, IMAGE: hidden}).optical.values
    for band, number in enumerate((1234, 2345, 3456)):
        np.testing.assert_array_equal(values[1, band], np.where(visible, number, NO_DATA))
    np.testing.assert_array_equal(values[[0, 2, 3]], series.optical.values[[0, 2, 3]])


def test_without_masks_the_series_has_none(files):
    assert decoded({name: content for name, content in files.items() if "gap" not in name}).clouds is None


IMAGE, MASK = "site-1_2019-01-08.tif", "site-1_2019-01-08_gap.tif"


def spoilt(name, change):
    return lambda files: {**files, name: change(files[name])}


@pytest.mark.parametrize(
    ("spoil", "facts"),
    [
        (lambda files: {"a.txt": b""}, ["TILE_YYYY-MM-DD.tif"]),
        (lambda files: {**files, "x.tif": b""}, ["'x.tif'", "TILE_YYYY-MM-DD.tif"]),
        (lambda files: {**files, "site-1_2019-13-08.tif": b""}, ["2019-13-08"]),
        (lambda files: {**files, "site-1_20190108.tif": files[IMAGE]}, ["2019-01-08"]),
        (lambda files: {**files, "site-2_2019-01-09.tif": files[IMAGE]}, ["tiles"]),
        (lambda files: {name: files[name] for name in files if name != MASK}, ["gap", "2019-01-08"]),
        (spoilt(IMAGE, lambda content: content[:200]), [IMAGE, "GeoTIFF"]),
        (spoilt(IMAGE, lambda content: b"II*\0" + bytes(100)), [IMAGE, "GeoTIFF"]),
        (spoilt(IMAGE, lambda content: changed(content, crs="EPSG:32632")), [IMAGE, "grid"]),
        (spoilt(IMAGE, lambda content: changed(content, np.zeros((3, 5, 5), np.int16))), [IMAGE, "grid"]),
        (spoilt(MASK, lambda content: changed(content, np.full((1, 12, 10), 7, np.uint8))), [MASK, "classes"]),
        (
            spoilt(IMAGE, lambda content: changed(content, np.full((3, 12, 10), 32767, np.int16))),
            ["B02", IMAGE, 3.277, "±3.2"],
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(files, spoil, facts):
    with refused(*facts) as refusal:
        decoded(spoil(files))
    assert str(refusal.value).startswith("upload.zip: ")


def test_what_is_too_large_or_no_archive_is_refused(files, series):
    with refused("12×10", 8):
        decoded(files, side=8)
    with refused(3):
        decoded(files, dates=3)
    with refused("upload.zip", "ZIP"):
        geotiff_archive.decode(b"PK\x03\x04 nothing", "upload.zip")
    bomb = geotiff_archive.encode({"site_2019-01-01.tif": bytes(3_000_000)})
    with refused("upload.zip"):
        geotiff_archive.decode(bomb, "upload.zip", SeriesLimits(values=100_000))


def test_the_order_of_files_does_not_matter(files, series):
    backwards = dict(reversed(list(files.items())))
    np.testing.assert_array_equal(decoded(backwards).optical.dates, series.optical.dates)


def test_a_mask_may_keep_its_classifications_value_for_no_data(series, files):
    masks = {name for name in files if name.endswith("_gap.tif")}
    classes = {name.replace("_gap", "_clouds"): changed(files[name], nodata=0) for name in masks}
    images = {name: content for name, content in files.items() if name not in masks}
    found = decoded({**images, **classes}).clouds
    np.testing.assert_array_equal(found, series.clouds)


def test_what_cannot_be_reflectance_is_refused_as_in_netcdf(files):
    with rasterio.MemoryFile(files[IMAGE]) as memory, memory.open() as raster:
        values = raster.read()
    with refused("upload.zip", "0 in every band"):
        empty = values.copy()
        empty[:, :6] = 0
        decoded(
            {name: content for name, content in files.items() if "_gap" not in name}
            | {IMAGE: changed(files[IMAGE], empty)}
        )
    with refused("upload.zip", "uint8"):
        decoded(
            {
                IMAGE: changed(
                    files[IMAGE], values.clip(0, 255).astype(np.uint8), dtype="uint8", nodata=None, scales=[1.0] * 3
                )
            }
        )
    saturated = np.where(values[:1] == values[0, 5, 5], 32767, values)  # as bright cloud, which the mask hides
    with refused("upload.zip", "beyond"):
        decoded({IMAGE: changed(files[IMAGE], saturated)})
    mask = np.zeros((1, 12, 10), np.uint8)
    mask[0] = saturated[0] == 32767
    hidden = decoded({IMAGE: changed(files[IMAGE], saturated), MASK: changed(files[MASK], mask, count=1)})
    assert hidden.optical.values[0, 0, 5, 5] == NO_DATA
