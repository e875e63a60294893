"""One series through the model, however it is batched, and what must come out as it went in."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation import simulate_tile
from restore_dit.errors import UserError
from restore_dit.reconstruction.gap_free import fill_gaps
from restore_dit.reconstruction.model_directory import Model, load_model
from restore_dit.reconstruction.reconstruct import reconstruct, reconstruct_with_deviation
from restore_dit.reconstruction.sampling import SamplingOptions, sample_windows
from restore_dit.series import (
    NEVER_OBSERVED,
    NO_DATA,
    PROVENANCE,
    SAMPLES,
    SUSPECT,
    UNCERTAINTY,
    Acquisitions,
    Provenance,
)
from tests.messages import refused


@pytest.fixture(scope="module")
def series():
    """Not a multiple of the model's tile of 16 pixels, nor of its patch."""
    return simulate_tile(SimulationConfig(height=22, width=37, days=120, partial_swath=0.2), 5, 0)


def test_observed_pixels_come_out_as_they_went_in(small_model, series):
    clear, gaps, *_ = fill_gaps(small_model, series, SamplingOptions())
    assert gaps.any()
    observed = ~gaps[:, None] & np.ones((1, 10, 1, 1), bool)
    np.testing.assert_array_equal(clear.optical.values[observed], series.optical.values[observed])
    assert (clear.optical.values[~observed] >= 0).all()
    assert (clear.optical.values[~observed] <= 8000).all()
    assert not (clear.optical.values == NO_DATA).any()
    assert clear.georeference == series.georeference
    np.testing.assert_array_equal(gaps, (series.clouds != 0) | (series.optical.values == NO_DATA).any(axis=1))


@pytest.mark.parametrize(("steps", "precision", "tolerance"), [(1, "fp32", 1e-5), (3, "fp32", 1e-5), (2, "bf16", 2e-3)])
def test_batching_changes_nothing(small_model, series, steps, precision, tolerance):
    frames = np.arange(len(series.optical))
    gaps = series.missing()
    one, many = (
        reconstruct(small_model, series, frames, gaps, SamplingOptions(steps, 3, precision, batch)) for batch in (1, 7)
    )
    np.testing.assert_allclose(one, many, rtol=0, atol=tolerance / 0.8)


def test_seeds_differ_and_repeat(small_model, series):
    frames, gaps = np.arange(len(series.optical)), series.missing()
    first, again, other = (
        reconstruct(small_model, series, frames, gaps, SamplingOptions(seed=seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other)[gaps[:, None].repeat(10, 1)].max() > 1e-4


def test_what_is_hidden_is_never_read(small_model, series):
    gaps = series.missing()
    poisoned = np.where(gaps[:, None], np.int16(7777), series.optical.values)
    other = replace(series, optical=Acquisitions(poisoned, series.optical.dates, series.optical.bands))
    frames = np.arange(len(series.optical))
    options = SamplingOptions()
    np.testing.assert_array_equal(
        reconstruct(small_model, series, frames, gaps, options),
        reconstruct(small_model, other, frames, gaps, options),
    )


def test_masks_of_other_methods_change_nothing(small_model, series):
    """In a series that is cut into several tiles, too."""
    frames, gaps = np.arange(len(series.optical)), series.missing()
    other = replace(series, other_clouds={"other": np.ones_like(series.clouds)})
    np.testing.assert_array_equal(
        *(reconstruct(small_model, one, frames, gaps, SamplingOptions()) for one in (series, other))
    )


@pytest.mark.parametrize("count", [1, 3])
def test_a_series_shorter_than_the_window(small_model, series, count):
    frames = np.arange(count)
    gaps = np.zeros((count, 22, 37), bool)
    gaps[0, :5] = True
    filled = reconstruct(small_model, series, frames, gaps, SamplingOptions())
    assert filled.shape == (count, 10, 22, 37)
    assert np.isfinite(filled).all()


@pytest.mark.parametrize("radar", [True, False])
def test_padding_may_be_left_out_of_a_short_window(small_model, series, radar):
    short = replace(series, optical=series.optical.select(slice(2)), clouds=series.clouds[:2])
    windows = []

    def sample(prepared):
        for window in prepared:
            windows.append(window)
            yield sample_windows(small_model, [window], SamplingOptions(), keep_padding=True)[0]

    fill_gaps(small_model, short if radar else replace(short, radar={}), SamplingOptions(), sample=sample)
    assert windows[0].columns["optical"].shape[0] > 2
    whole, trimmed = (
        sample_windows(small_model, windows, SamplingOptions(), keep_padding=keep_padding)[0]
        for keep_padding in (True, False)
    )
    np.testing.assert_allclose(trimmed, whole, atol=1e-6)


def test_a_series_without_radar_or_masks(small_model, series):
    bare = replace(series, radar={})
    assert np.isfinite(fill_gaps(small_model, bare, SamplingOptions())[0].optical.values).all()
    with pytest.raises(UserError, match="no cloud masks"):
        fill_gaps(small_model, replace(series, clouds=None), SamplingOptions())


def whole(series, clouds):
    """The first dates of a series with these masks and data everywhere."""
    optical = series.optical.select(slice(len(clouds)))
    values = np.where(optical.values == NO_DATA, np.int16(500), optical.values)
    return replace(series, optical=Acquisitions(values, optical.dates, optical.bands), clouds=clouds)


def test_pixels_that_are_observed_on_no_date_are_marked(small_model, series):
    clouds = np.zeros((2, 22, 37), np.uint8)
    clouds[:, :5, :7] = 1
    clouds[0, 10] = 3
    clear, gaps, *_ = fill_gaps(small_model, whole(series, clouds), SamplingOptions())
    expected = np.zeros((22, 37), np.uint8)
    expected[:5, :7] = 1
    np.testing.assert_array_equal(clear.layers[NEVER_OBSERVED], expected)
    np.testing.assert_array_equal(gaps, clouds != 0)
    nothing_hidden = fill_gaps(small_model, whole(series, np.zeros_like(clouds)), SamplingOptions())
    assert (nothing_hidden[0].layers[NEVER_OBSERVED].any(), nothing_hidden[1].any()) == (False, False)
    single = fill_gaps(small_model, whole(series, clouds[:1]), SamplingOptions())[0]
    np.testing.assert_array_equal(single.layers[NEVER_OBSERVED], clouds[0] != 0)


def test_a_series_of_which_nothing_is_observed_is_refused(small_model, series):
    clouds = np.ones((3, 22, 37), np.uint8)
    with pytest.raises(UserError, match=r"sim-5-000000.* 3 dates"):
        fill_gaps(small_model, whole(series, clouds), SamplingOptions())
    clouds[1, 4, 4] = 0
    clear, gaps, *_ = fill_gaps(small_model, whole(series, clouds), SamplingOptions(mask_dilation=0))
    assert (~gaps).sum() == 1
    assert clear.layers[NEVER_OBSERVED].sum() == 22 * 37 - 1
    with pytest.raises(UserError, match="mask_dilation"):
        fill_gaps(small_model, whole(series, clouds), SamplingOptions(mask_dilation=1))
    empty = whole(series, np.zeros_like(clouds))
    empty.optical.values[:, 3] = NO_DATA
    with pytest.raises(UserError, match="B05"):
        fill_gaps(small_model, empty, SamplingOptions())


def with_missed_cloud(series):
    """The series with a cloud that its masks do not know, and where it is."""
    clear = ~series.missing()
    frame = int(clear[2:-2].sum(axis=(1, 2)).argmax()) + 2
    place = np.zeros_like(clear)
    place[frame, 3:17, 8:25] = clear[frame, 3:17, 8:25]
    values = np.where(place[:, None], np.int16(5500), series.optical.values)
    return replace(series, optical=Acquisitions(values, series.optical.dates, series.optical.bands)), place


@pytest.mark.parametrize("name", ["patches", pytest.param("pixels", marks=pytest.mark.slow)])
def test_a_replaced_suspect_is_filled_as_if_it_had_been_missing(small_model, series, name):
    model = small_model if name == "patches" else load_model("default")
    cloudy, place = with_missed_cloud(series)
    plain = fill_gaps(model, cloudy, SamplingOptions())
    suspect = plain.series.layers[SUSPECT] == 1
    assert place.sum() > 100
    assert suspect[place].mean() > 0.9
    assert not (suspect & plain.gap_mask).any()
    kept = ~plain.gap_mask[:, None].repeat(10, axis=1)
    np.testing.assert_array_equal(plain.series.optical.values[kept], cloudy.optical.values[kept])
    assert plain.suspect_share == suspect.sum() / (~plain.gap_mask).sum()

    replaced = fill_gaps(model, cloudy, SamplingOptions(replace_suspect=True, samples=2))
    values = np.where(suspect[:, None], NO_DATA, cloudy.optical.values)
    missing = replace(cloudy, optical=Acquisitions(values, cloudy.optical.dates, cloudy.optical.bands))
    expected = fill_gaps(model, missing, SamplingOptions(samples=2))
    np.testing.assert_array_equal(replaced.series.optical.values, expected.series.optical.values)
    np.testing.assert_array_equal(replaced.gap_mask, plain.gap_mask | suspect)
    for layer in (PROVENANCE, NEVER_OBSERVED, SAMPLES, *([UNCERTAINTY] if name == "pixels" else [])):
        np.testing.assert_array_equal(replaced.series.layers[layer], expected.series.layers[layer])
    np.testing.assert_array_equal(replaced.series.layers[SUSPECT], suspect)
    assert (replaced.series.layers[PROVENANCE][suspect] != Provenance.OBSERVED).all()
    assert replaced.suspect_share == plain.suspect_share


def test_what_is_evaluated_is_filled_without_suspects_too(small_model, series):
    """What is hidden in a trial is not looked at either."""
    cloudy, place = with_missed_cloud(series)
    frames, gaps = np.arange(len(series.optical)), series.missing()
    gaps[place.any(axis=(1, 2)), :5] = True
    suspect = reconstruct_with_deviation(
        small_model, cloudy, frames, gaps, SamplingOptions(replace_suspect=True)
    ).suspect
    assert suspect is not None
    assert suspect.any()
    assert not (suspect & gaps).any()
    found = reconstruct(small_model, cloudy, frames, gaps, SamplingOptions(replace_suspect=True))
    np.testing.assert_array_equal(found, reconstruct(small_model, cloudy, frames, gaps | suspect, SamplingOptions()))
    assert not np.array_equal(found, reconstruct(small_model, cloudy, frames, gaps, SamplingOptions()))


def test_a_band_that_the_model_does_not_read_makes_no_gaps(small_model, series):
    clouds = np.zeros((2, 22, 37), np.uint8)
    clouds[0, :4] = 1
    plain = whole(series, clouds)
    values = np.concatenate([np.full((2, 1, 22, 37), NO_DATA, np.int16), plain.optical.values], axis=1)
    more = replace(plain, optical=Acquisitions(values, plain.optical.dates, ("B01", *plain.optical.bands)))
    (clear, gaps, *_), (expected, *_) = (fill_gaps(small_model, one, SamplingOptions()) for one in (more, plain))
    np.testing.assert_array_equal(gaps, clouds == 1)
    np.testing.assert_array_equal(clear.optical.values, expected.optical.values)


def test_progress_counts_every_window(small_model, series):
    seen = []
    fill_gaps(small_model, series, SamplingOptions(), lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, seen[-1][1] + 1))


def test_missing_bands_are_named(small_model, series):
    few = replace(
        series, optical=Acquisitions(series.optical.values[:, :3], series.optical.dates, ("B02", "B03", "B04"))
    )
    with refused("B05, B06"):
        fill_gaps(small_model, few, SamplingOptions())


def test_an_untrained_model_is_linear_interpolation_over_the_whole_series(small_model, series):
    small_model = replace(small_model, denoiser=type(small_model.denoiser)(small_model.config.model).eval())
    torch.manual_seed(0)
    frames, gaps = np.arange(len(series.optical)), series.missing()
    filled = reconstruct(small_model, series, frames, gaps, SamplingOptions())
    days = series.optical.dates.astype(int)
    values = np.clip(series.optical.values, 0, 8000) / 8000
    for row, column in ((3, 4), (20, 30)):
        seen = ~gaps[:, row, column]
        expected = np.interp(days, days[seen], values[seen, 6, row, column])
        np.testing.assert_allclose(filled[:, 6, row, column], expected, atol=1e-5)


def widened(model: Model, pixels: int) -> Model:
    """The model as if it had been trained with masks so much wider."""
    gaps = model.config.data.gaps.model_copy(update={"dilation": pixels})
    data = model.config.data.model_copy(update={"gaps": gaps})
    return replace(model, config=model.config.model_copy(update={"data": data}))


def test_the_rims_of_clouds_are_filled_by_as_much_as_masks_were_widened_in_training(small_model, series):
    cloudy = (series.clouds != 0) & (series.clouds != 255)
    rows, columns = np.mgrid[-2:3, -2:3]
    disc = (rows**2 + columns**2 <= 4)[None]
    expected = ndimage.binary_dilation(cloudy, disc) | series.missing()
    clear, gaps, *_ = fill_gaps(widened(small_model, 2), series, SamplingOptions())
    np.testing.assert_array_equal(gaps, expected)
    observed = ~gaps[:, None] & np.ones((1, 10, 1, 1), bool)
    np.testing.assert_array_equal(clear.optical.values[observed], series.optical.values[observed])
    by_option = fill_gaps(small_model, series, SamplingOptions(mask_dilation=2))
    np.testing.assert_array_equal(by_option[0].optical.values, clear.optical.values)
    as_they_are = fill_gaps(widened(small_model, 2), series, SamplingOptions(mask_dilation=0))[1]
    np.testing.assert_array_equal(as_they_are, series.missing())


def test_the_rims_of_clouds_are_never_read(small_model, series):
    """Neither in the window nor in the interpolation, nor where the cloud lies in the neighbouring spatial tile."""
    frames, nothing = np.arange(len(series.optical)), np.zeros(series.clouds.shape, bool)
    gaps = fill_gaps(small_model, series, SamplingOptions(mask_dilation=3))[1]
    assert (gaps & ~series.missing()).any()
    poisoned = np.where(gaps[:, None], np.int16(7777), series.optical.values)
    other = replace(series, optical=Acquisitions(poisoned, series.optical.dates, series.optical.bands))
    found = [reconstruct(widened(small_model, 3), one, frames, nothing, SamplingOptions()) for one in (series, other)]
    np.testing.assert_array_equal(*found)


def test_another_sampler_fills_the_gaps_otherwise_and_one_that_cannot_is_refused(small_model, series):
    one, other = (fill_gaps(small_model, series, SamplingOptions(steps=4, sampler=name)) for name in ("ddim", None))
    assert (one[0].optical.values != other[0].optical.values).any()
    seen = ~one[1][:, None].repeat(10, axis=1)
    np.testing.assert_array_equal(one[0].optical.values[seen], other[0].optical.values[seen])
    with refused("sampling.sampler=euler", "'straight'", "'linear'"):
        fill_gaps(small_model, series, SamplingOptions(sampler="euler"))
