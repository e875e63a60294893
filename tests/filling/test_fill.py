"""What `restore_dit.fill` makes of datasets as users have them in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray

import restore_dit
from restore_dit.client import Reconstruction
from restore_dit.data.exchange import netcdf
from restore_dit.data.exchange.series_dataset import series_of
from restore_dit.filling import _with_gaps_filled
from restore_dit.reconstruction.gap_free import fill_gaps
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.rasters import write_netcdf
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import NEVER_OBSERVED, SAMPLES, SUSPECT, Provenance
from tests.filling.pixels import pixels_model
from tests.messages import refused


def test_what_was_observed_stays_and_the_rest_is_what_the_model_says(dataset, series, small_model: Model):
    filled = restore_dit.fill(dataset, small_model)
    expected, gaps, *_ = fill_gaps(small_model, series, SamplingOptions())
    np.testing.assert_array_equal(filled["gap_mask"], gaps)
    np.testing.assert_array_equal(filled["never_observed"], expected.layers[NEVER_OBSERVED] == 1)
    for index, band in enumerate(series.optical.bands):
        assert filled[band].dtype == np.float32
        np.testing.assert_array_equal(filled[band].values[~gaps], dataset[band].values[~gaps])
        np.testing.assert_allclose(filled[band], expected.optical.values[:, index] / 10_000, atol=1e-7)
    assert filled["B04"].notnull().all()
    assert filled.attrs["title"] == "mine"
    assert filled.attrs["seed"] == "0"
    assert filled.attrs["radar"] == "S1A"
    xarray.testing.assert_equal(filled["spatial_ref"], dataset["spatial_ref"])
    np.testing.assert_array_equal(filled["S1A_VV"], dataset["S1A_VV"])


def test_suspect_pixels_are_marked_and_replaced_on_demand(dataset, series, small_model: Model):
    clear = (dataset["clouds"] == 0).values
    frame = int(clear[2:-2].sum(axis=(1, 2)).argmax()) + 2
    cloudy = dataset.copy(deep=True)
    for band in [name for name in dataset.data_vars if str(name).startswith("B")]:
        cloudy[band].values[frame, 4:16, 4:16] = 0.6
    plain = restore_dit.fill(cloudy, small_model)
    suspect = plain[SUSPECT].values == 1
    assert suspect[frame, 5:15, 5:15].mean() > 0.9
    assert plain[SUSPECT].dtype == np.uint8
    np.testing.assert_array_equal(plain["B08"].values[suspect], cloudy["B08"].values[suspect])
    replaced = restore_dit.fill(cloudy, small_model, replace_suspect=True)
    np.testing.assert_array_equal(replaced[SUSPECT], plain[SUSPECT])
    np.testing.assert_array_equal(replaced["gap_mask"], plain["gap_mask"].values | suspect)
    assert (replaced["provenance"].values[suspect] != Provenance.OBSERVED).all()
    assert (replaced["B08"].values != cloudy["B08"].values)[suspect].all()
    assert (
        replaced.attrs["suspect_share"]
        == plain.attrs["suspect_share"]
        == f"{suspect.sum() / (~plain['gap_mask'].values).sum():.4f}"
    )
    assert (plain.attrs["suspect_replaced"], replaced.attrs["suspect_replaced"]) == ("no", "yes")


def test_the_pixels_lie_where_they_lay(dataset, series):
    assert series_of(dataset, "dataset").georeference == series.georeference


def test_integers_come_out_as_integers(dataset, small_model: Model):
    filled = restore_dit.fill(dataset, small_model)
    for stored, attributes in ((10_000, {}), (20_000, {"scale_factor": 1 / 20_000, "add_offset": -0.1})):
        packed = dataset.copy()
        for band in [name for name in dataset.data_vars if str(name).startswith("B")]:
            values = (dataset[band] - attributes.get("add_offset", 0)) * stored
            known = values.notnull()
            packed[band] = values.fillna(-9999).round().astype(np.int16)
            packed[band].attrs = attributes | {"_FillValue": np.int16(-9999)}
            assert known.any()
        again = restore_dit.fill(packed, small_model)
        assert again["B08"].dtype == np.int16
        np.testing.assert_allclose(again["B08"] / stored + attributes.get("add_offset", 0), filled["B08"], atol=2e-4)


def test_floats_that_attributes_scale_are_filled_in_their_own_unit(dataset, small_model: Model):
    """As `rioxarray.open_rasterio(masked=True)` returns them."""
    scaled = dataset.copy()
    for band in [name for name in dataset.data_vars if str(name).startswith("B")]:
        scaled[band] = ((dataset[band] + 0.1) * 10_000).assign_attrs(scale_factor=1e-4, add_offset=-0.1)
    filled, expected = restore_dit.fill(scaled, small_model), restore_dit.fill(dataset, small_model)
    np.testing.assert_allclose(filled["B08"], (expected["B08"] + 0.1) * 10_000, atol=2)
    assert filled["gap_mask"].any()


@pytest.mark.parametrize("read", [False, True], ids=["stored", "read from a file"])
def test_what_was_filled_is_never_the_value_of_no_data(dataset, small_model: Model, tmp_path: Path, read: bool):
    bands = [name for name in dataset.data_vars if str(name).startswith("B")]
    dark = dataset.assign({band: dataset[band] * 0 for band in bands})
    for band in bands:
        dark[band].values[:, :12] = 0.01
        dark[band] = (dark[band] * 10_000).where(dataset["clouds"] == 0, 0).astype(np.uint16)
        dark[band].attrs = {"_FillValue": np.uint16(0), "scale_factor": 1e-4}
    if read:
        dark.to_netcdf(tmp_path / "dark.nc")
        dark = xarray.load_dataset(tmp_path / "dark.nc")
    filled = restore_dit.fill(dark, small_model)
    assert filled["gap_mask"].values[:, 14:].all()
    filled.to_netcdf(tmp_path / "filled.nc")
    with xarray.open_dataset(tmp_path / "filled.nc") as file:
        for band in bands:
            assert file[band].notnull().all()
            assert float(file[band].min()) >= 0.9e-4


def test_what_is_brighter_than_a_type_can_hold_does_not_become_dark():
    gaps = np.array([[[True, True, False]]])
    for dtype, most, more in ((np.uint8, 255, {}), (np.int8, 127, {}), (np.int8, -1, {"_Unsigned": "true"})):
        attributes = {"scale_factor": 0.004, **more}
        band = xarray.DataArray(np.zeros((1, 1, 3), dtype), dims=("time", "y", "x"), attrs=attributes)
        found = _with_gaps_filled(band, gaps, np.array([[[19_000, 400, 19_000]]]))
        assert found.values.ravel().tolist() == [most, 10, 0]


def test_a_network_of_pixels_says_how_sure_it_is(dataset, pixels_run, small_model: Model):
    model = pixels_model(pixels_run)
    filled = restore_dit.fill(dataset[["B03", "B08", "B11", "clouds"]], model)
    assert filled.attrs["radar"] == "none"
    short = restore_dit.fill(dataset[["B03", "B08", "B11", "clouds"]].isel(time=slice(3)), model, mask_dilation=0)
    assert short.attrs["calibration"].startswith("none")
    assert "calibration" not in filled.attrs
    assert filled["uncertainty"].dims == ("band", "time", "y", "x")
    assert filled["band"].values.tolist() == ["B03", "B08", "B11"]
    gaps = filled["gap_mask"]
    assert (filled["uncertainty"].where(gaps, 1) > 0).all()
    assert (filled["uncertainty"].where(~gaps, 0) == 0).all()


def test_an_ensemble_is_the_same_through_every_door(dataset, series, pixels_run, tmp_path):
    """In xarray, from the library and in a file: the same integers."""
    model, options = pixels_model(pixels_run), {"samples": 2, "calibrate": False, "seed": 5}
    filled = restore_dit.fill(dataset, model, indices=("ndvi",), **options)
    assert filled["samples"].dims == ("sample", "band", "time", "y", "x")
    assert filled["NDVI"].dims == filled["NDVI_uncertainty"].dims == ("time", "y", "x")
    assert filled["sample"].values.tolist() == [1, 2]
    found = np.rint(filled["samples"].values * 10_000).astype(np.int16).swapaxes(1, 2)
    gaps = filled["gap_mask"].values
    assert (found[0] != found[1]).any(axis=1)[gaps].mean() > 0.9
    assert (filled["NDVI_uncertainty"].values[gaps] > 0).mean() > 0.9
    assert (filled["NDVI_uncertainty"].values[~gaps] == 0).all()

    from_library = fill_gaps(model, series, SamplingOptions(**options))
    assert not from_library.indices
    np.testing.assert_array_equal(from_library.series.layers[SAMPLES].swapaxes(0, 1), found)
    write_netcdf(str(tmp_path / "one.nc"), from_library.series, from_library.gap_mask)
    read = netcdf.decode((tmp_path / "one.nc").read_bytes(), "one")
    np.testing.assert_array_equal(Reconstruction(read, gaps).samples, found)
    assert len(Reconstruction(series, gaps).samples) == 0


def test_an_index_comes_with_its_uncertainty_even_without_samples(dataset, pixels_run, small_model: Model):
    model, few = pixels_model(pixels_run), dataset[["B04", "B08", "B11", "clouds"]]
    filled = restore_dit.fill(few, model, indices=("ndvi",), calibrate=False)
    assert "samples" not in filled
    assert (filled["NDVI_uncertainty"].where(filled["gap_mask"], 1) > 0).mean() > 0.99
    infrared, red = filled["B08"], filled["B04"]
    np.testing.assert_allclose(filled["NDVI"], (infrared - red) / (infrared + red), atol=1e-5)
    without = restore_dit.fill(dataset, small_model, indices=("ndvi",))
    assert "NDVI" in without
    assert "NDVI_uncertainty" not in without
    with refused("ndre", "B8A"):
        restore_dit.fill(few, model, indices=("ndre",))


def test_one_member_has_no_standard_deviation_so_an_index_takes_more(dataset, pixels_run, small_model: Model):
    model, few = pixels_model(pixels_run), dataset[["B04", "B08", "B11", "clouds"]]
    one, two, none = (
        restore_dit.fill(few, model, indices=["ndvi"], calibrate=False, samples=samples) for samples in (1, 2, 0)
    )
    np.testing.assert_array_equal(one["samples"], two["samples"][:1])
    np.testing.assert_array_equal(one["NDVI_uncertainty"], none["NDVI_uncertainty"])
    assert "NDVI_uncertainty" not in restore_dit.fill(dataset, small_model, indices=["ndvi"], samples=1)


@pytest.mark.parametrize("mask", [None, "gap_mask", "mine"])
def test_a_result_may_be_filled_again_and_is_the_same(dataset, pixels_run, tmp_path: Path, mask: str | None):
    """What was filled is not taken for observed, and nothing that the first call said outlives the second."""
    model = pixels_model(pixels_run)
    given = dataset[["B04", "B08", "B11", "clouds", "spatial_ref"]].assign(mine=dataset["clouds"] != 0)
    given = given.isel(y=slice(12), x=slice(12))
    first = restore_dit.fill(given, model, indices=["ndvi"], samples=2, seed=3, calibrate=False)
    first = first.assign_attrs(interval_80="1.282", calibration="none", orbit_differences="B04 0.0100")
    first.to_netcdf(tmp_path / "first.nc")
    expected = restore_dit.fill(given, model, calibrate=False)
    with xarray.open_dataset(tmp_path / "first.nc") as read:
        for earlier in (first, read):
            again = restore_dit.fill(earlier, model, mask=mask, calibrate=False)
            assert set(again.variables) == set(expected.variables)
            assert again.attrs.keys() == expected.attrs.keys()
            for name in ("B04", "gap_mask", "provenance", "suspect", "uncertainty"):
                np.testing.assert_array_equal(again[name], expected[name], name)


def test_a_file_of_the_job_may_be_filled_again(dataset, series, pixels_run, tmp_path: Path):
    model, options = pixels_model(pixels_run), SamplingOptions(samples=2, calibrate=False)
    filled = fill_gaps(model, series, options, indices=["ndvi"])
    write_netcdf(str(tmp_path / "one.nc"), filled.series, filled.gap_mask, {"SAMPLES": "2"}, filled.indices)
    with xarray.open_dataset(tmp_path / "one.nc") as read:
        again = restore_dit.fill(read, model, calibrate=False)
    np.testing.assert_array_equal(again["gap_mask"], filled.gap_mask)
    assert not {"sample", "B04_samples", "B04_uncertainty", "NDVI"} & set(again.variables)
    assert not {"SAMPLES", "NEVER_OBSERVED"} & set(again.attrs)


def test_the_dilation_that_a_result_states_is_what_was_done(dataset, small_model: Model):
    clear = dataset.drop_vars("clouds").fillna(0.1)
    small, large = (clear["B02"] * 0 for _ in range(2))
    small[2, 5, 5] = 1  # too small to be dilated
    large[2, 5:12, 5:12] = 1
    assert restore_dit.fill(clear.assign(gap_mask=small), small_model, mask_dilation=2).attrs["mask_dilation"] == "0"
    assert restore_dit.fill(clear.assign(gap_mask=large), small_model, mask_dilation=2).attrs["mask_dilation"] == "2"
    bands = [name for name in clear.data_vars if str(name).startswith("B")]
    holes = clear.assign({band: clear[band].where(large == 0) for band in bands})
    assert restore_dit.fill(holes, small_model, mask_dilation=2).attrs["mask_dilation"] == "0"


@pytest.mark.parametrize("kept", ["attrs", "encoding"])
def test_what_is_added_lies_where_the_bands_lie(dataset, pixels_run, kept: str, tmp_path: Path):
    model = pixels_model(pixels_run)
    bands = dataset[["B03", "B08", "B11", "clouds"]].rename(spatial_ref="crs")
    for name in bands.data_vars:
        getattr(bands[name], kept)["grid_mapping"] = "crs"
    filled = restore_dit.fill(bands, model)
    filled.to_netcdf(tmp_path / "clear.nc")
    with xarray.open_dataset(tmp_path / "clear.nc", decode_coords="all") as again:
        for name in ("B03", "gap_mask", "never_observed", "uncertainty"):
            assert again[name].encoding["grid_mapping"] == "crs", name
            assert getattr(filled[name], kept)["grid_mapping"] == "crs", name
        assert again["crs"].attrs["crs_wkt"] == bands["crs"].attrs["crs_wkt"]


def test_any_date_keeps_the_hour_of_what_was_acquired_and_drops_what_it_cannot_know(
    dataset, small_model: Model, series
):
    days = series.optical.dates.astype("datetime64[D]")
    given = dataset.assign_coords(time=days.astype("datetime64[ns]") + np.timedelta64(650, "m"))
    given["scene"] = (("time", "y", "x"), series.clouds)
    between = days[2] + (days[3] - days[2]) // 2
    found = restore_dit.fill(given, small_model, dates=[str(days[4]), str(between)], mask_dilation=0)
    np.testing.assert_array_equal(found["time"].values.astype("datetime64[m]"),
                                  [between.astype("datetime64[m]"), days[4].astype("datetime64[m]") + 650])  # fmt: skip
    assert found["gap_mask"].values[0].all()
    assert (found["provenance"].values[0] == Provenance.FILLED).mean() > 0.5
    assert "scene" not in found
    assert "clouds" not in found
    whole = restore_dit.fill(given, small_model, mask_dilation=0)
    band = small_model.config.model.bands[0]
    observed = ~whole["gap_mask"].values[4]
    np.testing.assert_array_equal(found[band].values[1][observed], given[band].values[4][observed])
    assert "scene" in whole
