"""What is written is what every reader gets back, and a write that fails leaves nothing behind."""

import resource
import signal
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import xarray
from rasterio.drivers import is_blacklisted
from rasterio.enums import MaskFlags

from restore_dit.data.exchange import geotiff_archive, netcdf
from restore_dit.data.exchange.limits import SeriesLimits
from restore_dit.errors import UserError
from restore_dit.reconstruction.rasters import write_geotiffs, write_netcdf
from restore_dit.series import NO_DATA, SAMPLES, UNCERTAINTY, Acquisitions, Georeference, TileSeries
from tests.messages import refused

BANDS = ("B02", "B8A", "B11")
DATES = np.array(["2018-09-24", "2019-02-28"], "datetime64[D]")
UTM = Georeference("EPSG:32631", (10.0, 0.0, 600_000.0, 0.0, -10.0, 4_900_020.0))


def make_series(height=40, width=56, georeference=UTM, tile_id="30UXV_7", frames=2) -> TileSeries:
    random = np.random.default_rng(0)
    values = random.integers(-50, 12_000, (frames, len(BANDS), height, width), dtype=np.int16)
    values[:, 1, 3, 4] = NO_DATA
    return TileSeries(tile_id, Acquisitions(values, DATES[:frames], BANDS), georeference=georeference)


def make_gaps(series: TileSeries) -> np.ndarray:
    return np.random.default_rng(1).random((len(series.optical), *series.size)) < 0.3


@contextmanager
def full_disk():
    """No file grows beyond 1 kB: what a full disk does, as a fault of the operating system's own. Around the write
    alone, since it is this whole process that can write no more, and its log may be a file."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_uncertainty_lies_beside_the_values_in_both_formats(tmp_path):
    series = make_series()
    said = np.random.default_rng(2).integers(0, 900, series.optical.values.shape, dtype=np.int16)
    series = replace(series, layers={UNCERTAINTY: said})
    uris = write_geotiffs(str(tmp_path), series, make_gaps(series))
    assert sum(uri.endswith("_uncertainty.tif") for uri in uris) == len(DATES)
    for index, date in enumerate(DATES):
        with rasterio.open(tmp_path / f"30UXV_7_{date}_uncertainty.tif") as image:
            np.testing.assert_array_equal(image.read(), said[index])
            assert image.descriptions == BANDS
            assert image.scales == (0.0001,) * 3
            assert image.transform[:6] == UTM.transform
    write_netcdf(str(tmp_path / "one.nc"), series, make_gaps(series))
    with xarray.open_dataset(tmp_path / "one.nc") as file:
        for index, band in enumerate(BANDS):
            np.testing.assert_allclose(file[f"{band}_uncertainty"], said[:, index] / 10_000, atol=1e-7)
            assert file[band].attrs["ancillary_variables"] == f"{band}_uncertainty"


def test_possible_series_and_indices_lie_beside_the_values_in_both_formats(tmp_path):
    series, random = make_series(), np.random.default_rng(2)
    drawn = random.integers(0, 9000, (2, 4, *series.optical.values.shape[1:]), dtype=np.int16)
    series = replace(series, layers={SAMPLES: drawn})
    index = random.uniform(0, 1, (2, 2, 40, 56))
    indices = {"NDVI": index[0], "NDVI_uncertainty": index[1]}
    uris = write_geotiffs(str(tmp_path), series, make_gaps(series), indices=indices)
    assert len(uris) == 2 * (2 + 4 + 1)
    for frame, date in enumerate(DATES):
        for number in range(4):
            with rasterio.open(tmp_path / f"30UXV_7_{date}_sample{number + 1}.tif") as image:
                np.testing.assert_array_equal(image.read(), drawn[frame, number])
                assert image.descriptions == BANDS
        with rasterio.open(tmp_path / f"30UXV_7_{date}_ndvi.tif") as image:
            np.testing.assert_allclose(image.read() / 10_000, index[:, frame], atol=1e-4)
            assert image.descriptions == tuple(indices)
    write_netcdf(str(tmp_path / "one.nc"), series, make_gaps(series), indices=indices)
    with xarray.open_dataset(tmp_path / "one.nc") as file:
        assert file["B02_samples"].dims == ("sample", "time", "y", "x")
        np.testing.assert_allclose(file["NDVI_uncertainty"], index[1], atol=1e-4)
    with rasterio.open(f"netcdf:{tmp_path / 'one.nc'}:B02_samples") as image:
        assert (image.count, image.shape) == (8, (40, 56))
    content = (tmp_path / "one.nc").read_bytes()
    np.testing.assert_array_equal(netcdf.decode(content, "one").layers[SAMPLES], drawn)
    values = 2 * 3 * 40 * 56 * 5
    with refused("one", str(values)):
        netcdf.decode(content, "one", SeriesLimits(values=values - 1))
    archive = geotiff_archive.encode({path.name: path.read_bytes() for path in tmp_path.glob("*.tif")})
    assert len(geotiff_archive.decode(archive, "archive").optical) == 2  # what was computed is not taken for input


def test_geotiffs_give_back_values_place_and_date(tmp_path):
    series = make_series()
    gaps = make_gaps(series)
    uris = write_geotiffs(str(tmp_path), series, gaps, {"model": "tiny-3f2a"})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "30UXV_7_2018-09-24.tif",
        "30UXV_7_2018-09-24_gap.tif",
        "30UXV_7_2019-02-28.tif",
        "30UXV_7_2019-02-28_gap.tif",
    ]
    assert sorted(uris) == sorted(str(path) for path in tmp_path.iterdir())
    for index, date in enumerate(DATES):
        with rasterio.open(tmp_path / f"30UXV_7_{date}.tif") as image:
            np.testing.assert_array_equal(image.read(), series.optical.values[index])
            assert image.dtypes == ("int16",) * 3
            assert image.crs.to_epsg() == 32631
            assert image.transform[:6] == UTM.transform
            assert image.descriptions == BANDS
            assert image.scales == (0.0001,) * 3
            assert image.offsets == (0.0,) * 3
            assert image.nodata == NO_DATA
            assert image.tags()["DATE"] == str(date)
            assert image.tags()["model"] == "tiny-3f2a"
            # Reconstructed pixels are data: only the value that means nothing is masked.
            assert (image.read_masks(2) == 0).sum() == 1
        with rasterio.open(tmp_path / f"30UXV_7_{date}_gap.tif") as mask:
            np.testing.assert_array_equal(mask.read(1), gaps[index])
            assert mask.dtypes == ("uint8",)
            assert mask.transform[:6] == UTM.transform
            assert mask.mask_flag_enums[0] == [MaskFlags.all_valid]


@pytest.mark.parametrize(
    ("side", "block", "overviews"), [(40, 128, []), (128, 128, []), (129, 256, []), (1100, 512, [2, 4])]
)
def test_geotiffs_are_cloud_optimised(tmp_path, side, block, overviews):
    series = make_series(side, side, frames=1)
    for uri in write_geotiffs(str(tmp_path), series, make_gaps(series)):
        with rasterio.open(uri) as image:
            assert image.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert image.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "DEFLATE"
            assert image.block_shapes[0] == (block, block)
            assert image.overviews(1) == overviews


def test_gap_mask_overviews_hold_nothing_but_the_classes(tmp_path):
    series = make_series(1100, 1100, frames=1)
    write_geotiffs(str(tmp_path), series, make_gaps(series))
    with rasterio.open(tmp_path / "30UXV_7_2018-09-24_gap.tif", overview_level=0) as mask:
        assert set(np.unique(mask.read())) == {0, 1}


def test_netcdf_gives_back_values_place_and_dates(tmp_path):
    series = make_series()
    gaps = make_gaps(series)
    write_netcdf(str(tmp_path / "out.nc"), series, gaps, {"model": "tiny-3f2a"})
    assert [path.name for path in tmp_path.iterdir()] == ["out.nc"]

    with xarray.open_dataset(tmp_path / "out.nc", mask_and_scale=False) as raw:
        for index, band in enumerate(BANDS):
            np.testing.assert_array_equal(raw[band], series.optical.values[:, index])
            assert raw[band].dtype == np.int16
            assert raw[band].attrs["_FillValue"] == NO_DATA
            assert raw[band].attrs["scale_factor"] == 0.0001

    with xarray.open_dataset(tmp_path / "out.nc") as cube:
        assert cube["B02"].dims == ("time", "y", "x")
        expected = np.where(series.optical.values == NO_DATA, np.nan, series.optical.values / 10_000)
        np.testing.assert_allclose(cube[list(BANDS)].to_array().transpose("time", ...), expected, rtol=1e-6)
        np.testing.assert_array_equal(cube["time"].values, DATES.astype("datetime64[ns]"))
        np.testing.assert_array_equal(cube["x"], 600_005 + 10.0 * np.arange(56))
        np.testing.assert_array_equal(cube["y"], 4_900_015 - 10.0 * np.arange(40))
        assert cube["x"].attrs["standard_name"] == "projection_x_coordinate"
        np.testing.assert_array_equal(cube["gap_mask"], gaps)
        assert cube["gap_mask"].dtype == np.uint8
        assert cube.attrs["tile"] == "30UXV_7"
        assert cube.attrs["model"] == "tiny-3f2a"


def test_netcdf_opens_with_gdal_in_place(tmp_path):
    with rasterio.Env() as environment:
        if "netCDF" not in environment.drivers() or is_blacklisted("netCDF", "r"):
            pytest.skip("this GDAL reads no NetCDF")
    series = make_series()
    write_netcdf(str(tmp_path / "out.nc"), series, make_gaps(series))
    with rasterio.open(f"netcdf:{tmp_path / 'out.nc'}:B8A") as band:
        np.testing.assert_array_equal(band.read(), series.optical.values[:, 1])
        assert band.crs.to_epsg() == 32631
        assert band.transform[:6] == UTM.transform
        assert band.scales == (0.0001, 0.0001)
        assert band.nodata == NO_DATA


def test_netcdf_of_degrees_has_latitudes_and_longitudes(tmp_path):
    georeference = Georeference("EPSG:4326", (0.001, 0.0, 5.0, 0.0, -0.001, 45.0))
    series = make_series(georeference=georeference)
    write_netcdf(str(tmp_path / "out.nc"), series, make_gaps(series))
    with xarray.open_dataset(tmp_path / "out.nc") as cube:
        assert cube["y"].attrs["standard_name"] == "latitude"
        assert cube["x"].attrs["units"] == "degrees_east"


def test_a_series_without_georeference_keeps_its_values(tmp_path):
    series = make_series(georeference=None)
    gaps = make_gaps(series)
    write_netcdf(str(tmp_path / "out.nc"), series, gaps)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        write_geotiffs(str(tmp_path), series, gaps)
    with xarray.open_dataset(tmp_path / "out.nc") as cube:
        assert "spatial_ref" not in cube
        np.testing.assert_array_equal(cube["gap_mask"], gaps)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        image = rasterio.open(tmp_path / "30UXV_7_2018-09-24.tif")
    with image:
        np.testing.assert_array_equal(image.read(), series.optical.values[0])
        assert image.crs is None


def test_a_rotated_grid_goes_to_geotiff_only(tmp_path):
    rotated = Georeference("EPSG:32631", (8.0, 6.0, 600_000.0, 6.0, -8.0, 4_900_000.0))
    series = make_series(georeference=rotated)
    write_geotiffs(str(tmp_path), series, make_gaps(series))
    with rasterio.open(tmp_path / "30UXV_7_2018-09-24.tif") as image:
        assert image.transform[:6] == rotated.transform
    with refused("GeoTIFFs"):
        write_netcdf(str(tmp_path / "out.nc"), series, make_gaps(series))
    assert not (tmp_path / "out.nc").exists()


@pytest.mark.parametrize("write", [write_geotiffs, write_netcdf])
def test_a_full_disk_is_one_line_and_leaves_no_file(tmp_path, write):
    series = make_series()
    target = tmp_path / "out"
    with full_disk(), pytest.raises(UserError) as raised:
        write(str(target), series, make_gaps(series))
    assert "\n" not in str(raised.value)
    assert str(target) in str(raised.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("write", [write_geotiffs, write_netcdf])
def test_a_folder_that_cannot_be_is_one_line(tmp_path, write):
    (tmp_path / "file").write_text("in the way")
    series = make_series()
    with pytest.raises(UserError) as raised:
        write(str(tmp_path / "file" / "out"), series, make_gaps(series))
    assert "\n" not in str(raised.value)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_failed_write_keeps_what_was_there(tmp_path):
    target = tmp_path / "out.nc"
    target.write_bytes(b"earlier result")
    series = make_series()
    with full_disk(), pytest.raises(UserError):
        write_netcdf(str(target), series, make_gaps(series))
    assert target.read_bytes() == b"earlier result"


def test_refuses_coordinate_systems_and_names_that_mean_nothing(tmp_path):
    nowhere = make_series(georeference=Georeference("EPSG:nowhere", UTM.transform))
    outside = make_series(tile_id="../../etc/tile")
    for write in (write_geotiffs, write_netcdf):
        with refused("EPSG:nowhere"):
            write(str(tmp_path / "out"), nowhere, make_gaps(nowhere))
    with refused("../../etc/tile"):
        write_geotiffs(str(tmp_path / "out"), outside, make_gaps(outside))
    assert list(tmp_path.iterdir()) == []
