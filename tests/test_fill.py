"""`restore_dit.fill` on datasets as users have them in memory."""

from __future__ import annotations

import datetime
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyproj
import pytest
import xarray

import restore_dit
from restore_dit.client import Reconstruction
from restore_dit.config import RunConfig
from restore_dit.config.cube_mapping import load_cube_mapping
from restore_dit.config.examples import RadarConfig
from restore_dit.data.exchange import netcdf
from restore_dit.data.exchange.series_dataset import SEN2COR_MISSING, series_of
from restore_dit.filling import _with_gaps_filled
from restore_dit.reconstruction.gap_free import fill_gaps
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.rasters import write_netcdf
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import NEVER_OBSERVED, NO_DATA, SAMPLES, SUSPECT, Provenance, TileSeries
from tests.messages import refused


@pytest.fixture(scope="module")
def series(small_store) -> TileSeries:
    return small_store.load(small_store.tile_ids[0]).series()


@pytest.fixture(scope="module")
def dataset(series: TileSeries) -> xarray.Dataset:
    """Reflectance, classes, radar, dates and place, as xarray users write them."""
    optical, place = series.optical, series.georeference
    assert place is not None
    left, top = place.transform[2], place.transform[5]
    values = np.where(optical.values == NO_DATA, np.nan, optical.values / 10_000).astype(np.float32)
    variables = {band: (("time", "y", "x"), values[:, index]) for index, band in enumerate(optical.bands)}
    variables["clouds"] = (("time", "y", "x"), series.clouds)
    coordinates = {
        "time": optical.dates.astype("datetime64[ns]"),
        "y": top - 10 * (np.arange(24) + 0.5),
        "x": left + 10 * (np.arange(24) + 0.5),
        "spatial_ref": ((), 0, pyproj.CRS.from_user_input(place.crs).to_cf()),
    }
    for track, radar in series.radar.items():
        coordinates[f"{track}_time"] = radar.dates.astype("datetime64[ns]")
        for index, band in enumerate(radar.bands):
            variables[f"{track}_{band}"] = ((f"{track}_time", "y", "x"), radar.values[:, index] / 100)
    return xarray.Dataset(variables, coordinates, {"title": "mine"})


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


def test_dimensions_in_another_order_and_a_mask_of_another_name(dataset, small_model: Model):
    hidden = (dataset["clouds"] != 0).rename("mine")
    turned = dataset.drop_vars("clouds").assign(mine=hidden).transpose("x", "time", "y", ...)
    filled, expected = restore_dit.fill(turned, small_model, mask="mine"), restore_dit.fill(dataset, small_model)
    assert filled["B04"].dims == ("x", "time", "y")
    np.testing.assert_array_equal(filled["B04"].transpose("time", "y", "x"), expected["B04"])


def test_without_any_mask_what_is_missing_is_nan(dataset, small_model: Model):
    masked = dataset.where(dataset["clouds"] == 0).drop_vars("clouds")
    masked = masked.assign({name: dataset[name] for name in dataset.data_vars if str(name).startswith("S1")})
    filled = restore_dit.fill(masked, small_model, mask_dilation=0)
    np.testing.assert_array_equal(filled["gap_mask"], dataset["clouds"] != 0)
    assert filled["B04"].notnull().all()


def test_what_it_cannot_take_is_one_line(dataset, small_model: Model):
    with refused("B02"):
        restore_dit.fill(
            dataset.drop_vars([name for name in dataset.data_vars if str(name).startswith("B")]), small_model
        )
    with refused("rename"):
        restore_dit.fill(dataset.rename(y="lat"), small_model)
    with refused("nobody"):
        restore_dit.fill(dataset, small_model, mask="nobody")
    with refused("B04", "5000"):
        restore_dit.fill(dataset.assign(B04=dataset["B04"] * 0 + 5000.0), small_model)
    with refused("observed"):
        restore_dit.fill(dataset.assign(clouds=dataset["clouds"] * 0 + 1), small_model)


def pixels_model(run: RunConfig) -> Model:
    import torch

    from restore_dit.data.examples.normalisation import Normalisation
    from restore_dit.model.denoiser import build_denoiser

    torch.manual_seed(0)
    return Model(build_denoiser(run.model).eval(), run, Normalisation(("VV", "VH"), (-11, -18), (3, 3)))


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


def test_masks_mean_what_they_say_or_are_refused(dataset, small_model: Model):
    """NaN in a mask is missing, a coordinate is a mask too, and of two masks each counts; what is neither 0 nor 1 is no
    mask."""
    hidden = dataset["clouds"] != 0
    plain = dataset.drop_vars("clouds")
    expected = restore_dit.fill(plain.assign(gap_mask=hidden), small_model)["gap_mask"]
    unknown = hidden.astype(np.float32).where(~hidden)  # 0 where clear, NaN elsewhere
    for given in (
        plain.assign(gap_mask=hidden.astype(np.float32)),
        plain.assign(gap_mask=unknown),
        plain.assign_coords(gap_mask=hidden),
        dataset.assign(clouds=dataset["clouds"] * 0, gap_mask=hidden),
        dataset.assign(gap_mask=hidden & False),
    ):
        np.testing.assert_array_equal(restore_dit.fill(given, small_model)["gap_mask"], expected)
    for wrong in (hidden * 0.9 + 0.05, hidden * 256, hidden.isel(time=0)):
        with refused("gap_mask"):
            restore_dit.fill(plain.assign(gap_mask=wrong), small_model)
        with refused("probability"):
            restore_dit.fill(plain.assign(probability=wrong), small_model, mask="probability")


def test_a_scene_classification_is_no_mask_and_the_message_shows_how_to_make_one(dataset, small_model: Model):
    classes = dataset["clouds"].where(dataset["clouds"] == 0, 9).where(dataset["clouds"] != 0, 4).astype(np.uint8)
    scene = dataset.drop_vars("clouds").assign(SCL=classes)
    with refused("SCL", 4, f"SCL.isin({list(SEN2COR_MISSING)})") as caught:
        restore_dit.fill(scene, small_model, mask="SCL")
    assert "gap_mask" not in str(caught.value)
    mine = scene["SCL"].isin(SEN2COR_MISSING).assign_attrs(nodata=0)  # of the classification, kept by xarray
    masked = restore_dit.fill(scene.assign(mine=mine), small_model, mask="mine")
    np.testing.assert_array_equal(masked["gap_mask"], restore_dit.fill(dataset, small_model)["gap_mask"])
    worldcereal = load_cube_mapping("worldcereal").classes
    assert worldcereal is not None
    assert {value for value, means in worldcereal.items() if means != "clear"} == set(SEN2COR_MISSING)


@pytest.mark.parametrize("attribute", ["nodata", "_FillValue", "missing_value"])
def test_a_mask_of_integers_may_keep_its_classifications_value_for_no_data(dataset, small_model: Model, attribute):
    expected = restore_dit.fill(dataset, small_model)["gap_mask"]
    inherited = dataset["clouds"].assign_attrs({attribute: 0})
    as_read = dataset["clouds"].astype(np.float32).where(dataset["clouds"] != 0)  # by xarray from a file
    as_read.encoding[attribute] = 0
    for clouds in (inherited, as_read) if attribute != "nodata" else (inherited,):
        np.testing.assert_array_equal(
            restore_dit.fill(dataset.assign(clouds=clouds), small_model)["gap_mask"], expected
        )


def test_a_named_mask_is_the_only_one_and_clouds_keeps_its_classes(dataset, small_model: Model):
    both = dataset.assign(gap_mask=dataset["clouds"] * 0 + 1)
    expected = restore_dit.fill(dataset, small_model)["gap_mask"]
    np.testing.assert_array_equal(restore_dit.fill(both, small_model, mask="clouds")["gap_mask"], expected)


def test_errors_are_about_the_dataset(dataset, small_model: Model):
    nothing = dataset.assign(clouds=dataset["clouds"] * 0 + 1)
    for wrong, facts in ((nothing, ("observed", dataset.sizes["time"])), (dataset[["B02", "B03", "clouds"]], ("B04",))):
        with refused("dataset", *facts) as caught:
            restore_dit.fill(wrong, small_model)
        assert "tile" not in str(caught.value)


def test_coordinates_need_no_crs(dataset, small_model: Model):
    placed = dataset.drop_vars("spatial_ref")
    for band in placed.data_vars.values():
        band.attrs.pop("grid_mapping", None)
    filled = restore_dit.fill(placed, small_model)
    np.testing.assert_array_equal(filled["gap_mask"], restore_dit.fill(dataset, small_model)["gap_mask"])
    xarray.testing.assert_equal(filled["x"], dataset["x"].drop_vars("spatial_ref", errors="ignore"))


def test_a_model_that_pairs_radar_says_of_the_dataset_what_it_lacks(dataset, small_model: Model):
    data = small_model.config.data.model_copy(update={"radar": RadarConfig(track="S1X", pairing="nearest_date")})
    paired = replace(small_model, config=small_model.config.model_copy(update={"data": data}))
    with refused("dataset", "S1X") as caught:
        restore_dit.fill(dataset, paired)
    assert "tile" not in str(caught.value)


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


def test_a_series_that_nothing_says_has_gaps_is_refused(dataset, small_model: Model):
    whole = dataset.drop_vars("clouds").fillna(0.1).assign(SCL=dataset["clouds"])
    with refused("mask", "NaN"):
        restore_dit.fill(whole, small_model)
    restore_dit.fill(whole.assign(gap_mask=dataset["clouds"] * 0), small_model)


def test_numbers_that_cannot_be_reflectance_are_refused(dataset, small_model: Model):
    bands = [name for name in dataset.data_vars if str(name).startswith("B")]
    stored = dataset.assign({band: (dataset[band] * 10_000).fillna(0).round().astype(np.int16) for band in bands})
    for no_data, shown in ((-9999, "-0.9999"), (-20000, "-2")):
        spoiled = stored.assign({band: stored[band].where(dataset["clouds"] == 0, no_data) for band in bands})
        with refused(shown):
            restore_dit.fill(spoiled.drop_vars("clouds").assign(gap_mask=dataset["clouds"] * 0), small_model)
    with refused("implausible"):
        restore_dit.fill(dataset.assign({band: dataset[band] * 1e-4 for band in bands}), small_model)


def test_saturated_clouds_that_the_mask_hides_are_no_fault(dataset, small_model: Model):
    bright = dataset.assign(B02=dataset["B02"].where(dataset["clouds"] == 0, 4.16))
    filled, expected = restore_dit.fill(bright, small_model), restore_dit.fill(dataset, small_model)
    np.testing.assert_array_equal(filled["B08"], expected["B08"])
    assert float(filled["B02"].max()) < 1
    with refused("B02", 4.16):
        restore_dit.fill(bright.assign(clouds=dataset["clouds"] * 0), small_model)


def test_zeros_that_nothing_marks_as_missing_are_refused(dataset, small_model: Model):
    """At the edge of a swath, the products are 0 in every band."""
    bands = [name for name in dataset.data_vars if str(name).startswith("B")]
    outside = (dataset["clouds"] != 0) & (dataset["x"] < dataset["x"][12])
    zeros = dataset.assign({band: dataset[band].where(~outside, 0) for band in bands})
    clear = zeros.assign(clouds=dataset["clouds"].where(~outside, 0))
    with refused(0, f"{float(outside.mean()):.1%}", "NaN"):
        restore_dit.fill(clear, small_model)
    declared = clear.assign({band: clear[band].assign_attrs(_FillValue=0.0) for band in bands})
    for given in (zeros, declared):
        assert restore_dit.fill(given, small_model)["gap_mask"].where(outside, True).all()


def test_what_it_cannot_use_is_named(dataset, small_model: Model):
    with refused("VV"):
        restore_dit.fill(dataset.drop_vars(["S1A_VV", "S1A_VH"]).assign(VV=dataset["S1A_VV"]), small_model)
    with refused("S1A_VH"):
        restore_dit.fill(dataset.drop_vars("S1A_VH"), small_model)
    with refused("S1A_VV", "time", "S1A_time"):
        on_optical_dates = dataset["S1A_VV"].isel(S1A_time=0, drop=True).expand_dims(time=dataset["time"])
        restore_dit.fill(dataset.assign(S1A_VV=on_optical_dates), small_model)
    power = {name: 10 ** (dataset[name] / 10) for name in ("S1A_VV", "S1A_VH")}
    with refused("S1A_VH", "dB"):
        restore_dit.fill(dataset.assign(power), small_model)
    for option, value in (
        ("mask_dilation", -1),
        ("mask_dilation", 33),
        ("steps", 0),
        ("steps", "4"),
        ("seed", "a"),
        ("sampler", "best"),
    ):
        with refused(option, value):
            restore_dit.fill(dataset, small_model, **{option: value})
    with refused("step", "steps"):
        restore_dit.fill(dataset, small_model, step=3)
    with refused("str"):
        restore_dit.fill("site.nc", small_model)  # type: ignore[arg-type]
    with refused("DataArray", "to_dataset"):
        restore_dit.fill(dataset["B04"], small_model)  # type: ignore[arg-type]
    for wrong in ("ndvi", [1], 5):
        with refused("indices", str(wrong)):
            restore_dit.fill(dataset, small_model, indices=wrong)  # type: ignore[arg-type]
    with refused("dates", 5):
        restore_dit.fill(dataset, small_model, dates=5)  # type: ignore[arg-type]
    with refused("band"):
        restore_dit.fill(dataset.expand_dims(band=2), small_model)
    with pytest.warns(UserWarning, match="B01"):
        filled = restore_dit.fill(dataset.assign(B01=dataset["B02"]), small_model)
    assert "B01" not in filled["gap_mask"].attrs["long_name"]


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


def test_an_offset_that_was_left_in_is_a_warning(dataset, small_model: Model):
    bands = [name for name in dataset.data_vars if str(name).startswith("B")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restore_dit.fill(dataset, small_model)
    with pytest.warns(UserWarning, match=r"04\.00"):
        restore_dit.fill(dataset.assign({band: dataset[band] + 0.1 for band in bands}), small_model)


@pytest.mark.parametrize(("name", "band"), [("B2", "B02"), ("b08", "B08"), ("B8a", "B8A"), ("b011", "B11")])
def test_a_band_under_another_name_is_not_left_out_in_silence(dataset, small_model: Model, name: str, band: str):
    with refused(name, band):
        restore_dit.fill(dataset.rename({band: name}), small_model)


def test_types_that_cannot_be_reflectance_are_refused(dataset, small_model: Model):
    bytes_ = (dataset["B04"].fillna(0) * 255).round().astype(np.uint8)
    for wrong in (bytes_, dataset["B04"].astype(complex), dataset["B04"].astype(object)):
        with refused("B04", str(wrong.dtype)):
            restore_dit.fill(dataset.assign(B04=wrong), small_model)
    scaled = bytes_.assign_attrs(scale_factor=1 / 255, _FillValue=np.uint8(0))
    assert restore_dit.fill(dataset.assign(B04=scaled), small_model)["B04"].dtype == np.uint8


def test_an_empty_selection_and_a_mask_that_is_no_name_are_refused(dataset, small_model: Model):
    for dimension in ("time", "y", "x"):
        with refused(dimension, 0):
            restore_dit.fill(dataset.isel({dimension: slice(0)}), small_model)
    with refused("mask", "DataArray"):
        restore_dit.fill(dataset, small_model, mask=dataset["clouds"])  # type: ignore[arg-type]


def test_dates_may_be_objects_of_python(dataset, small_model: Model):
    days = dataset["time"].values.astype("datetime64[D]").astype(object)
    aware = [datetime.datetime(day.year, day.month, day.day, 10, tzinfo=datetime.UTC) for day in days]
    expected = restore_dit.fill(dataset, small_model)
    for given in (days, np.array(aware)):
        filled = restore_dit.fill(dataset.assign_coords(time=("time", given)), small_model)
        np.testing.assert_array_equal(filled["B08"], expected["B08"])


def test_radar_of_other_years_is_left_out_with_a_warning(dataset, pixels_run):
    model = pixels_model(pixels_run)
    bands = dataset[["B04", "B08", "B11", "clouds"]]
    years_later = dataset["S1A_time"] + np.timedelta64(3000, "D")
    later = bands.assign({name: dataset[name] for name in ("S1A_VV", "S1A_VH")}).assign_coords(S1A_time=years_later)
    with pytest.warns(UserWarning, match="S1A"):
        filled = restore_dit.fill(later, model, calibrate=False)
    assert filled.attrs["radar"] == "none"
    xarray.testing.assert_equal(filled["B08"], restore_dit.fill(bands, model, calibrate=False)["B08"])


def test_dates_may_be_none_or_an_array(dataset, small_model: Model):
    assert restore_dit.fill(dataset, small_model, dates=None, indices=None).sizes == dataset.sizes  # type: ignore[arg-type]
    found = restore_dit.fill(dataset, small_model, dates=dataset["time"][1:3])  # type: ignore[arg-type]
    np.testing.assert_array_equal(found["time"], dataset["time"][1:3])


def test_radar_without_a_value_is_not_stated(dataset, small_model: Model):
    nothing = {name: dataset[name] * np.nan for name in ("S1A_VV", "S1A_VH")}
    assert restore_dit.fill(dataset.assign(nothing), small_model).attrs["radar"] == "none"
