import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_dit.config import DataConfig, GapConfig, RadarConfig, SplitConfig, TargetConfig
from restore_dit.data.examples import cutting
from restore_dit.data.examples.cutting import transform
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.data.examples.gaps import draw_dates
from restore_dit.data.examples.maker import COMMON_BANDS, ExampleMaker
from restore_dit.data.examples.plan import PlannedExample
from restore_dit.data.store.masks import SOURCE_CLOUDS, TRUE_CLOUDS
from restore_dit.series import S2_BANDS, SHADOW, THICK_CLOUD, Acquisitions, TileSeries, days_since_origin
from tests.messages import refused


def maker(**changes) -> ExampleMaker:
    defaults = {"frames": 6, "crop": 16, "targets": TargetConfig(most_hidden=0.1), "radar": RadarConfig(frames=7)}
    return ExampleMaker(DataConfig(**(defaults | changes)), S2_BANDS, seed=4)


def train(make: ExampleMaker, tile, draw: int = 0, epoch: int = 0) -> dict:
    """One training example, out of a batch of one."""
    batch = make.training([tile], [planned(tile.tile_id, draw, epoch)])
    return {name: values[0] for name, values in batch.items()}


def validate(make: ExampleMaker, tile, draw: int) -> dict:
    return {name: values[0] for name, values in make.validation(tile, draw).items()}


def planned(tile_id: str, draw: int = 0, epoch: int = 0) -> PlannedExample:
    return PlannedExample(epoch, tile_id, draw, 1.0)


@pytest.fixture(scope="module")
def tile(small_store):
    return small_store.load(small_store.tile_ids[0])


def test_an_example_is_a_function_of_seed_epoch_tile_and_draw(small_store, tile):
    make = maker(flips=True, gaps=GapConfig(mask_flips=True, frame_dropout=0.2), frame_choice="spread")
    first = train(make, tile)
    again = train(make, DecodedTile(small_store.load(tile.tile_id).series()))
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name], err_msg=name)
    others = [train(make, tile, draw, epoch) for draw, epoch in ((1, 0), (0, 1))]
    assert all(other["noise_seed"] != first["noise_seed"] for other in others)


def test_shapes_stack_and_padding_is_marked(small_store):
    make = maker(frames=30)
    tile_ids = small_store.tile_ids[:4]
    columns = make.training([small_store.load(t) for t in tile_ids], [planned(t) for t in tile_ids])
    for index, tile_id in enumerate(tile_ids):  # an example does not depend on which others are with it
        for name, value in train(make, small_store.load(tile_id)).items():
            np.testing.assert_array_equal(columns[name][index], value, err_msg=name)
    assert columns["optical"].shape == (4, 30, 10, 16, 16)
    assert columns["radar"].shape == (4, 7, 2, 16, 16)
    padding = ~columns["frame_mask"]
    assert padding.any()
    assert not columns["valid"][padding].any()
    assert not columns["gap_mask"][padding].any()


def test_what_is_shown_is_what_the_tile_holds(tile):
    example = train(maker(), tile)
    series = tile.series()
    frames = np.flatnonzero(np.isin(days_since_origin(series.optical.dates), example["optical_dates"]))
    assert len(frames) == 6
    clear_share = (series.clouds[frames] == 0).mean(axis=(1, 2))
    assert (clear_share >= 0.9).all()
    whole = series.optical.values[frames]
    windows = np.lib.stride_tricks.sliding_window_view(whole, (16, 16), axis=(2, 3))
    matches = (windows == example["optical"][:, :, None, None]).all(axis=(0, 1, 4, 5))
    assert matches.sum() == 1
    row, column = np.argwhere(matches)[0]
    cloudy = (series.clouds != 0)[frames, row : row + 16, column : column + 16]
    np.testing.assert_array_equal(example["valid"][:, 0], ~cloudy)
    assert (example["gap_mask"] | example["valid"]).all()  # what is not known is never shown
    hidden = example["gap_mask"][:, 0] & ~cloudy
    assert hidden.any()


@pytest.mark.parametrize("part", ["train", "validation"])
def test_what_the_source_does_not_call_clear_is_neither_shown_nor_scored(tile, part):
    series = tile.series()
    in_use, source = series.clouds, series.clouds.copy()
    source[::2, 3, 2:9] = THICK_CLOUD
    source[1::4] = SHADOW
    series = replace(series, layers={SOURCE_CLOUDS: source})
    targets = TargetConfig(most_hidden=0.1, also_by_source=True)
    make = maker(crop=None, targets=targets, flips=True)
    decoded = DecodedTile(series)
    example = train(make, decoded) if part == "train" else validate(make, decoded, 0)
    frames = np.flatnonzero(np.isin(days_since_origin(series.optical.dates), example["optical_dates"]))
    for masks in (in_use, source):
        assert ((masks[frames] == 0).mean(axis=(1, 2)) >= 0.9).all()
    clear = (in_use[frames] == 0) & (source[frames] == 0)
    assert (clear != (in_use[frames] == 0)).any()
    valid = example["valid"][: len(frames), 0]
    assert any((valid == transform(clear, symmetry)).all() for symmetry in range(8))
    assert (example["gap_mask"][: len(frames), 0] | valid).all()
    np.testing.assert_array_equal(make.unknown(decoded), (in_use != 0) | (source != 0))


def test_gaps_are_masks_of_other_dates_each_once(tile):
    clouds = np.random.default_rng(0).choice(np.array([0, 1, 2, 3], np.uint8), (20, 24, 24))
    clouds[::3] = 0  # seven clear dates, thirteen cloudy ones, each in its own way
    series = TileSeries(
        "t",
        Acquisitions(np.ones((20, 10, 24, 24), np.int16), np.datetime64("2019-01-01") + 5 * np.arange(20), S2_BANDS),
        clouds=clouds,
    )
    example = train(maker(crop=None), DecodedTile(series))
    assert example["valid"].all()
    sources = [np.flatnonzero((gaps == (clouds != 0)).all(axis=(1, 2))) for gaps in example["gap_mask"][:, 0]]
    dates = np.concatenate([source for source in sources if len(source) == 1])
    assert len(np.unique(dates)) == len(dates) >= 5
    assert all(len(source) for source in sources)


@given(count=st.integers(1, 40))
@settings(max_examples=20)
def test_too_few_other_dates_are_drawn_again(count):
    drawn = draw_dates(5, np.arange(4), count, np.random.default_rng(0))
    assert drawn[0] == 4
    assert len(drawn) == count
    assert np.ptp(np.bincount(drawn[1:], minlength=5)) <= 1


def test_radar_pairing_as_published(reference):
    for case in json.loads((reference / "sar_date_matching.json").read_text()):
        indices = cutting.nearest_acquisitions(np.array(case["s2"], float), np.array(case["s1"], float))
        assert indices.tolist() == case["matched_indices"]
        assert np.array(case["s1"])[indices].tolist() == case["matched_dates"]


def test_radar_subset_of_the_paper_has_both_ends():
    assert cutting.evenly_spread(71, 35)[[0, 1, -1]].tolist() == [0, 2, 70]
    assert len(np.unique(cutting.evenly_spread(20, 35))) == 20


@given(
    optical=st.lists(st.integers(0, 400), min_size=1, max_size=20, unique=True),
    radar=st.lists(st.integers(-20, 420), min_size=1, max_size=90, unique=True),
    most=st.integers(1, 40),
)
def test_radar_around_dates_keeps_the_nearest_first(optical, radar, most):
    optical, radar = np.sort(np.array(optical, float)), np.sort(np.array(radar, float))
    chosen = cutting.around(optical, radar, most)
    assert len(chosen) <= most
    assert (np.diff(chosen) > 0).all()
    nearest = np.unique(cutting.nearest_acquisitions(optical, radar))
    assert np.isin(nearest, chosen).all() or np.isin(chosen, nearest).all()


def test_paper_preset_pairs_and_rounds(tile):
    make = maker(
        crop=None,
        date_rounding=10,
        radar=RadarConfig(pairing="nearest_date", frames=35),
        frames=5,
        targets=TargetConfig(most_hidden=0.5),
    )
    example = train(make, tile)
    assert (example["optical_dates"] % 10 == 0).all()
    assert example["radar"].shape == (5, 2, 24, 24)
    subset = days_since_origin(tile.radar["S1A"].dates)[cutting.evenly_spread(len(tile.radar["S1A"].dates), 35)]
    assert np.isin(example["radar_dates"], subset).all()
    assert (np.abs(example["radar_dates"] - example["optical_dates"]) <= 6 + 5).all()


def test_dropped_radar_is_absent_and_masked(tile):
    example = train(maker(radar=RadarConfig(frames=7, dropout=1.0)), tile)
    assert not example["radar_mask"].any()


def test_validation_by_dates_scores_only_what_training_never_saw(tile):
    split = SplitConfig(by="dates", test_fraction=0.3, validation_fraction=0.4)
    make = maker(split=split)
    dates = days_since_origin(tile.optical.dates)
    seen = np.concatenate([train(make, tile, draw)["optical_dates"] for draw in range(40)])
    for draw in range(10):
        example = validate(make, tile, draw)
        scored = example["optical_dates"][example["valid"].any(axis=(1, 2, 3))]
        assert len(scored) > 0
        assert not np.isin(scored, seen).any()
    test_dates = dates[make.clear_frames(tile)]
    assert test_dates.min() > max(seen.max(), scored.max())


def test_errors_name_the_tile_and_the_key(tile):
    with refused(tile.tile_id, "24×24", "data.crop=64"):
        train(maker(crop=64), tile)
    cloudy = TileSeries(
        "cloudy",
        Acquisitions(
            np.zeros((2, 10, 24, 24), np.int16), np.array(["2019-01-01", "2019-01-06"], "datetime64[D]"), S2_BANDS
        ),
        clouds=np.ones((2, 24, 24), np.uint8),
    )
    with refused("cloudy", 2, "train"):
        train(maker(), DecodedTile(cloudy))
    clear = replace(cloudy, clouds=np.zeros((2, 24, 24), np.uint8))
    small = TileSeries(
        "small", replace(cloudy.optical, values=np.zeros((2, 10, 8, 8), np.int16)), clouds=clear.clouds[:, :8, :8]
    )
    with refused("data.crop"):
        maker(crop=None).training([DecodedTile(clear), DecodedTile(small)], [planned("cloudy"), planned("small")])


def test_shifted_dates_keep_their_distances(tile):
    plain = train(maker(), tile)
    for draw in range(5):
        shifted = train(maker(date_shift=50), tile, draw)
        dates = days_since_origin(tile.optical.dates)
        offsets = {float(shifted["optical_dates"][0] - date) for date in dates}
        assert any(np.isin(shifted["optical_dates"] - offset, dates).all() for offset in offsets if abs(offset) <= 50)
        radar = days_since_origin(tile.radar["S1A"].dates)
        assert any(
            np.isin(shifted["radar_dates"][shifted["radar_mask"]] - offset, radar).all()
            and np.isin(shifted["optical_dates"] - offset, dates).all()
            for offset in offsets
        )
    validated = validate(maker(date_shift=50), tile, 0)
    np.testing.assert_array_equal(validated["optical_dates"], validate(maker(), tile, 0)["optical_dates"])
    assert np.isin(plain["optical_dates"], dates).all()


def test_gaps_of_whole_frames_only(tile):
    make = maker(gaps=GapConfig(frames_only=1.0), targets=TargetConfig(most_hidden=0), frames=3)
    for draw in range(10):
        gaps = train(make, tile, draw)["gap_mask"]
        share = gaps.mean(axis=(1, 2, 3))
        assert set(share) <= {0.0, 1.0}
        assert share.sum() == 1


def test_a_coarser_example_is_the_mean_of_the_tile_s_pixels_and_hides_what_any_of_them_hides(tile):
    make = maker(coarser=1.0, crop=12)
    example, series = train(make, tile), tile.series()
    frames = np.flatnonzero(np.isin(days_since_origin(series.optical.dates), example["optical_dates"]))
    fours = series.optical.values[frames].reshape(len(frames), 10, 12, 2, 12, 2)
    np.testing.assert_array_equal(example["optical"], np.rint(fours.mean(axis=(3, 5))))  # 24 pixels: one place
    clear = (series.clouds[frames] == 0).reshape(len(frames), 12, 2, 12, 2).all(axis=(2, 4))
    np.testing.assert_array_equal(example["valid"][:, 0], clear)
    radar = series.radar["S1A"].values[np.isin(days_since_origin(series.radar["S1A"].dates), example["radar_dates"])]
    assert example["radar"][0, 0, 0, 0] == np.rint(radar[0, 0, :2, :2].mean())


def test_a_tile_that_lacks_bands_shows_those_that_it_has(tile):
    series = tile.series()
    few = Acquisitions(series.optical.values[:, [1, 6, 8]], series.optical.dates, ("B03", "B08", "B11"))
    make = replace(maker(), any_bands=True)
    example, whole = train(make, DecodedTile(replace(series, optical=few))), train(make, tile)
    had = np.isin(S2_BANDS, few.bands)
    np.testing.assert_array_equal(example["bands"], had)
    assert whole["bands"].all()
    np.testing.assert_array_equal(example["optical"][:, had], whole["optical"][:, had])
    assert (example["optical"][:, ~had] == 0).all()
    with refused("B02"):
        train(maker(), DecodedTile(replace(series, optical=few)))


def test_bands_are_left_out_down_to_three(tile):
    make = maker(band_dropout=1.0)
    shown = [train(make, tile, draw)["bands"] for draw in range(60)]
    counts = [int(bands.sum()) for bands in shown]
    assert min(counts) >= 3
    assert len(set(counts)) > 3
    names = [frozenset(band for band, has in zip(S2_BANDS, bands, strict=True) if has) for bands in shown]
    assert 15 <= sum(bands in COMMON_BANDS for bands in names) <= 45
    assert set(COMMON_BANDS) <= set(names)


def test_both_tracks_come_with_their_own_dates_or_one_of_them(tile):
    both = train(maker(radar=RadarConfig(track="both", frames=8)), tile)
    series = tile.series()
    for number, track in enumerate(("S1A", "S1D")):
        shown = both["radar_mask"] & (both["radar_track"] == number)
        assert shown.sum() == 4
        stored = series.radar[track]
        chosen = np.isin(days_since_origin(stored.dates), both["radar_dates"][shown])
        assert chosen.sum() == 4
    tracks = set()
    for draw in range(40):
        example = train(maker(radar=RadarConfig(track="both", frames=8, dropout=0.5)), tile, draw)
        tracks.add(tuple(np.unique(example["radar_track"][example["radar_mask"]])))
    assert tracks == {(), (0,), (1,), (0, 1)}


def test_frames_partly_under_cloud_may_be_shown_and_frames_left_out(tile):
    make = maker(partly_clear=1.0, frames=30, crop=None)
    example, series = train(make, tile), tile.series()
    clear = (series.clouds == 0).mean(axis=(1, 2))
    assert example["frame_mask"].sum() == min((clear >= 0.05).sum(), 30)
    kept = [int(train(maker(least_kept=0.5, frames=30), tile, draw)["frame_mask"].sum()) for draw in range(20)]
    assert 1 <= min(kept) < max(kept) <= (clear >= 0.9).sum()


def test_a_brighter_example_is_brighter_on_all_dates_by_the_same_factor(tile):
    plain, bright = train(maker(), tile), train(maker(gain=0.3), tile)
    ratio = bright["optical"][:6] / np.maximum(plain["optical"][:6], 1)
    steady = np.where(plain["optical"][:6] > 500, ratio, np.nan)
    of_band = np.nanmedian(steady, axis=(0, 2, 3))
    assert np.nanmax(np.abs(steady / of_band[:, None, None] - 1)) < 0.01
    assert np.ptp(of_band) > 0.01


def test_what_only_seems_clear_is_shown_but_not_scored(tile):
    series = tile.series()
    truth = series.clouds.copy()
    truth[:, ::2] = THICK_CLOUD
    known = DecodedTile(replace(series, layers={TRUE_CLOUDS: truth}))
    plain, strict = train(maker(crop=None), known), train(maker(crop=None, truly_clear=True), known)
    assert not strict["valid"][:, 0, ::2].any()
    np.testing.assert_array_equal(strict["valid"][:, 0, 1::2], plain["valid"][:, 0, 1::2])
    for name in ("gap_mask", "optical"):
        np.testing.assert_array_equal(strict[name], plain[name])
    without = train(maker(crop=None, truly_clear=True), tile)
    np.testing.assert_array_equal(without["valid"], plain["valid"])
