"""What `restore_dit.fill` takes, and what it refuses or warns of."""

from __future__ import annotations

import datetime
import warnings
from dataclasses import replace

import numpy as np
import pytest
import xarray

import restore_dit
from restore_dit.config.cube_mapping import load_cube_mapping
from restore_dit.config.examples import RadarConfig
from restore_dit.data.exchange.series_dataset import SEN2COR_MISSING
from restore_dit.reconstruction.model_directory import Model
from tests.filling.pixels import pixels_model
from tests.messages import refused


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
