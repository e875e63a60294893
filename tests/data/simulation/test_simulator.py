"""The simulator: reproducible, true below its clouds, and loosely like a real site."""

import numpy as np
import pytest

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation import simulate_landcover, simulate_tile, simulate_tiles
from restore_dit.data.simulation.clouds import draw_sky
from restore_dit.data.simulation.radar import speckle
from restore_dit.data.simulation.random_fields import autoregressive, random_field
from restore_dit.data.simulation.revisit import Geometry, sun_angles
from restore_dit.data.simulation.weather import draw_weather
from restore_dit.series import CLEAR, CLOUD_NO_DATA, NO_DATA, S1_BANDS, S2_BANDS, SHADOW, THICK_CLOUD, THIN_CLOUD

pytestmark = pytest.mark.slow

SMALL = SimulationConfig(height=24, width=20, days=150)
GEOMETRY = Geometry(sun_zenith=np.deg2rad(25), sun_azimuth=np.deg2rad(135), view=0.0)
YEAR = SimulationConfig(height=48, width=48, mask_errors=0.0)


@pytest.fixture(scope="module")
def year_tiles():
    """Six tiles of fourteen months, each with the truth below its clouds."""
    return [(simulate_tile(YEAR, 1, i), simulate_tile(YEAR, 1, i, clouds=False)) for i in range(6)]


def assert_same(one, other):
    assert one.tile_id == other.tile_id
    np.testing.assert_array_equal(one.optical.values, other.optical.values)
    np.testing.assert_array_equal(one.optical.dates, other.optical.dates)
    np.testing.assert_array_equal(one.clouds, other.clouds)
    for track in one.radar:
        np.testing.assert_array_equal(one.radar[track].values, other.radar[track].values)
        np.testing.assert_array_equal(one.radar[track].dates, other.radar[track].dates)


def test_a_tile_does_not_depend_on_the_others():
    forwards = list(simulate_tiles(SMALL, 7, range(3)))
    backwards = list(simulate_tiles(SMALL, 7, reversed(range(3))))
    for one, other in zip(forwards, reversed(backwards), strict=True):
        assert_same(one, other)


def test_seed_and_index_both_change_the_land():
    tiles = [simulate_tile(SMALL, seed, index, clouds=False) for seed, index in ((0, 0), (0, 1), (1, 0))]
    means = [tile.optical.values.mean(axis=0) for tile in tiles]
    assert len({tile.tile_id for tile in tiles}) == 3
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(means[one] - means[other]).mean() > 50


def test_one_track_does_not_depend_on_the_other():
    both = simulate_tile(SMALL, 0, 0)
    descending = simulate_tile(SMALL.model_copy(update={"radar_tracks": ("S1D",)}), 0, 0)
    assert list(descending.radar) == ["S1D"]
    np.testing.assert_array_equal(descending.radar["S1D"].values, both.radar["S1D"].values)


def test_form_of_a_tile():
    tile = simulate_tile(SMALL, 0, 6)
    frames = len(tile.optical)
    assert tile.optical.values.shape == (frames, 10, 24, 20)
    assert tile.optical.bands == S2_BANDS
    assert tile.clouds.shape == (frames, 24, 20)
    assert set(np.unique(tile.clouds)) <= {CLEAR, THICK_CLOUD, THIN_CLOUD, SHADOW, CLOUD_NO_DATA}
    assert tile.properties == {"source": "simulation", "fold": 2}
    assert set(tile.radar) == {"S1A", "S1D"}
    for dates, revisit in ((tile.optical.dates, 5), *((series.dates, 6) for series in tile.radar.values())):
        assert dates[0] >= np.datetime64("2018-09-01")
        assert dates[-1] < np.datetime64("2018-09-01") + 150
        assert (np.diff(dates).astype(int) % revisit == 0).all()
    assert tile.radar["S1A"].bands == S1_BANDS
    assert not np.intersect1d(tile.optical.values, [NO_DATA]).size


def test_given_dates_replace_the_revisit():
    optical = np.array(["2018-09-24", "2018-09-26", "2019-01-02", "2019-10-19"], "datetime64[D]")
    radar = {"S1A": np.array(["2018-08-04", "2019-12-04"], "datetime64[D]"), "S1D": optical[:3]}
    tile = simulate_tile(SMALL, 0, 0, optical_dates=optical, radar_dates=radar)
    np.testing.assert_array_equal(tile.optical.dates, optical)
    for track, dates in radar.items():
        np.testing.assert_array_equal(tile.radar[track].dates, dates)
        assert tile.radar[track].values.shape == (len(dates), 2, 24, 20)
    assert_same(tile, simulate_tile(SMALL, 0, 0, optical_dates=optical, radar_dates=radar))


def test_land_cover_is_that_of_the_tile():
    land = simulate_landcover(YEAR, 1, 0)
    tile = simulate_tile(YEAR, 1, 0, clouds=False)
    assert land.classes.shape == land.parcels.shape == tile.size
    summer = ndvi(tile.optical.select(tile.optical.dates.astype("datetime64[M]") == np.datetime64("2019-06", "M")))
    means = np.zeros((land.parcels.max() + 1, len(summer)))
    for parcel in np.unique(land.parcels):
        means[parcel] = summer[:, land.parcels == parcel].mean(axis=1)
    # Parcels explain most of a summer's pattern, and a parcel has one class.
    assert (means[land.parcels].mean(axis=-1) - summer.mean(axis=0)).var() < 0.5 * summer.mean(axis=0).var()
    assert all(len(np.unique(land.classes[land.parcels == parcel])) <= 1 for parcel in np.unique(land.parcels))
    assert land.classes.max() < len(land.names)


def test_tiles_lie_side_by_side():
    first, second = (simulate_tile(SMALL, 0, index).georeference for index in (0, 1))
    assert first.crs == "EPSG:32631"
    assert first.cropped(0, 20) == second


@pytest.mark.parametrize(
    ("height", "width", "days"),
    [(1, 1, 60), (5, 7, 1), (33, 18, 700)],
)
def test_any_size_and_period(height, width, days):
    tile = simulate_tile(SimulationConfig(height=height, width=width, days=days), 0, 0)
    assert tile.size == (height, width)
    assert len(tile.optical) >= 1
    assert (tile.optical.values > NO_DATA).all()


def test_overlapping_orbits_see_more_dates():
    alone = simulate_tile(SMALL, 0, 0)
    overlapping = simulate_tile(SMALL.model_copy(update={"orbit_overlap": True}), 0, 0)
    assert len(overlapping.optical) > 1.5 * len(alone.optical)
    assert set(np.diff(overlapping.optical.dates).astype(int)) & {2, 3}


def test_overcast_passes_are_often_missing_from_the_archive():
    kept = len(simulate_tile(SMALL.model_copy(update={"overcast_dropped": 0.0, "dropped": 0.0}), 0, 0).optical)
    left = len(simulate_tile(SMALL.model_copy(update={"overcast_dropped": 1.0, "dropped": 0.0}), 0, 0).optical)
    assert kept == 30
    assert left < 0.8 * kept


def test_truth_below_the_clouds(year_tiles):
    for cloudy, truth in year_tiles:
        clear = np.broadcast_to((cloudy.clouds == CLEAR)[:, None], cloudy.optical.values.shape)
        np.testing.assert_array_equal(cloudy.optical.dates, truth.optical.dates)
        np.testing.assert_array_equal(cloudy.optical.values[clear], truth.optical.values[clear])
        assert not truth.missing().any()
        np.testing.assert_array_equal(cloudy.radar["S1A"].values, truth.radar["S1A"].values)


def test_clouds_brighten_and_shadows_darken(year_tiles):
    change = {kind: [] for kind in (THICK_CLOUD, THIN_CLOUD, SHADOW)}
    for cloudy, truth in year_tiles:
        blue = cloudy.optical.values[:, 0] - truth.optical.values[:, 0].astype(float)
        for kind, changes in change.items():
            changes.append(blue[cloudy.clouds == kind])
    thick, thin, shadow = (np.concatenate(change[kind]) for kind in (THICK_CLOUD, THIN_CLOUD, SHADOW))
    assert np.median(thick) > 2000
    assert 300 < np.median(thin) < 0.6 * np.median(thick)
    assert (shadow < 0).mean() > 0.97
    assert np.median(shadow) < -60


def test_no_cloud_without_cloudiness():
    tile = simulate_tile(SMALL.model_copy(update={"cloudiness": 0.0}), 0, 0)
    assert not tile.missing().any()


def test_clouds_have_thin_rims():
    generator = np.random.default_rng(0)
    skies = [draw_sky((128, 128), 0.5, 0.5, Geometry(0.7, 2.6, 0.0), generator).classes() for _ in range(12)]
    thick_to_clear = thick_to_thin = 0
    for classes in skies:
        left, right = classes[:, :-1], classes[:, 1:]
        for one, other in ((left, right), (right, left)):
            thick_to_clear += ((one == THICK_CLOUD) & np.isin(other, (CLEAR, SHADOW))).sum()
            thick_to_thin += ((one == THICK_CLOUD) & (other == THIN_CLOUD)).sum()
    assert thick_to_thin > 5 * thick_to_clear


def test_shadows_fall_away_from_the_sun():
    """From the south-east to the north-west, unless they lie outside the tile."""
    found = 0
    for seed in range(10):
        sky = draw_sky((300, 300), 0.15, 0.0, GEOMETRY, np.random.default_rng(seed))
        cloud, shade = (np.fft.rfft2(part - part.mean(), (600, 600)) for part in (sky.cloud.mean(axis=0), sky.shade))
        match = np.fft.irfft2(np.conj(cloud) * shade)
        row, column = (int(at) - 600 * (at > 300) for at in np.unravel_index(match.argmax(), match.shape))
        found += row < 0 and column < 0 and abs(row - column) <= 3
    assert found >= 6


def test_sun_stands_as_almanacs_say():
    zenith, azimuth = sun_angles(np.array(["2019-06-21", "2019-12-21"], "datetime64[D]"), 50.5)
    np.testing.assert_allclose(np.rad2deg(zenith), [31, 75.5], atol=2)
    assert (np.rad2deg(azimuth) < 180).all()
    assert (np.rad2deg(azimuth) > 130).all()


def test_edge_of_the_swath_is_no_data():
    config = SMALL.model_copy(update={"partial_swath": 0.5})
    cut, whole = simulate_tile(config, 0, 0), simulate_tile(SMALL, 0, 0)
    outside = cut.clouds == CLOUD_NO_DATA
    assert 0.2 < outside.any(axis=(1, 2)).mean() < 0.8
    np.testing.assert_array_equal((cut.optical.values == NO_DATA).all(axis=1), outside)
    np.testing.assert_array_equal(cut.clouds[~outside], whole.clouds[~outside])
    assert not (simulate_tile(config, 0, 0, clouds=False).optical.values == NO_DATA).any()


def test_cloudiness_comes_in_spells_and_in_winter():
    days = np.arange(np.datetime64("2000-01-01"), np.datetime64("2020-01-01"))
    weather = draw_weather(days, SimulationConfig(cloudiness=0.45, cloudiness_spread=0), np.random.default_rng(0))
    anomaly = weather.cloud_cover - weather.cloud_cover.mean()
    five_days = (anomaly[5:] * anomaly[:-5]).mean() / anomaly.var()
    month = days.astype("datetime64[M]").astype(int) % 12
    assert weather.cloud_cover.mean() == pytest.approx(0.45, abs=0.03)
    assert 0.15 < five_days < 0.6
    winter, summer = (weather.cloud_cover[np.isin(month, months)].mean() for months in ((11, 0, 1), (5, 6, 7)))
    assert winter > summer + 0.1
    assert 0.02 < weather.frozen[np.isin(month, (11, 0, 1))].mean() < 0.4
    assert not weather.frozen[np.isin(month, (5, 6, 7))].any()


def test_speckle_has_the_looks_asked_for():
    noise = speckle((40, 64, 64), 4.4, np.random.default_rng(0))
    assert noise.mean() == pytest.approx(1, abs=0.01)
    assert 1 / noise.var() == pytest.approx(4.4, rel=0.05)
    assert ((noise[:, 1:] - 1) * (noise[:, :-1] - 1)).mean() / noise.var() == pytest.approx(2 / 3, abs=0.03)


@pytest.mark.parametrize("shape", [(64, 64), (45, 31)])
def test_random_fields_are_standard(shape):
    generator = np.random.default_rng(0)
    fields = np.stack([random_field(shape, 8.0, 3.5, generator) for _ in range(200)])
    assert fields.dtype == np.float32
    assert fields.mean() == pytest.approx(0, abs=0.01)
    assert fields.var() == pytest.approx(1, rel=0.05)


def blocks(frames):
    """Means of 8×8 pixels, [T, H/8, W/8]."""
    count, height, width = frames.shape
    return frames.reshape(count, height // 8, 8, width // 8, 8).mean(axis=(2, 4))


def ndvi(optical):
    near_infrared, red = (optical.values[:, S2_BANDS.index(band)].astype(float) for band in ("B08", "B04"))
    return (near_infrared - red) / (near_infrared + red + 1)


def test_radar_follows_the_vegetation(year_tiles):
    correlations = []
    for _, truth in year_tiles:
        radar = truth.radar["S1A"]
        nearest = np.abs((radar.dates[None] - truth.optical.dates[:, None]).astype(int)).argmin(axis=1)
        power = [blocks(10.0 ** (radar.values[nearest, band] / 1000.0)) for band in (0, 1)]
        ratio = 10 * np.log10(power[1] / power[0])
        correlations.append(np.corrcoef(blocks(ndvi(truth.optical)).ravel(), ratio.ravel())[0, 1])
    # 0.48 on the real site of the next tests.
    assert 0.2 < np.mean(correlations) < 0.7


def test_masks_err_and_nothing_else_changes():
    truth = simulate_tile(YEAR, 1, 0)
    detected = simulate_tile(YEAR.model_copy(update={"mask_errors": 1.0}), 1, 0)
    np.testing.assert_array_equal(detected.optical.values, truth.optical.values)
    shadow, cloud = truth.clouds == SHADOW, np.isin(truth.clouds, (THICK_CLOUD, THIN_CLOUD))
    found = detected.clouds != CLEAR
    assert found[shadow].mean() < 0.6
    assert 0.6 < found[cloud].mean() < 0.98
    assert found[truth.clouds == CLEAR].mean() < 0.05


def test_bands_see_high_clouds_one_after_another():
    """The satellite flies south: B12, two seconds after B02, sees them farther north."""
    apart = []
    for seed in range(8):
        cloud = draw_sky((200, 200), 0.4, 0.0, GEOMETRY, np.random.default_rng(seed)).cloud
        first, last = (np.fft.rfft2(cloud[band] - cloud[band].mean()) for band in (0, 9))
        row, column = np.unravel_index(np.fft.irfft2(np.conj(first) * last).argmax(), (200, 200))
        apart.append(row - 200 if row > 100 else row)
        assert column == 0
    assert max(apart) <= 0
    assert min(apart) >= -8  # 4 km · 2.1 s · 7.45 km/s / 786 km = 80 m


def test_snow_is_bright_in_the_visible_dark_in_the_short_wave_and_masked():
    cold = SimulationConfig(height=24, width=24, january=-8.0, cloudiness=0.2, cloudiness_spread=0.0, woods=0.0)
    tile = simulate_tile(cold, 0, 0)
    month = tile.optical.dates.astype("datetime64[M]").astype(int) % 12
    snowy = (tile.clouds == CLOUD_NO_DATA).mean(axis=(1, 2)) > 0.5
    assert snowy.any()
    assert not np.isin(month[snowy], (5, 6, 7, 8)).any()
    truth = simulate_tile(cold, 0, 0, clouds=False).optical.values[snowy].astype(float)
    assert truth[:, 0].mean() > 2 * truth[:, 8].mean()


def test_slopes_towards_the_sun_are_brighter():
    flat, hilly = (simulate_tile(YEAR.model_copy(update={"relief": relief}), 1, 3, clouds=False) for relief in (0, 0.2))
    ratio = hilly.optical.values[:, 6] / flat.optical.values[:, 6]
    winter = np.isin(flat.optical.dates.astype("datetime64[M]").astype(int) % 12, (11, 0))
    summer = np.isin(flat.optical.dates.astype("datetime64[M]").astype(int) % 12, (5, 6))
    assert ratio[winter].std() > 1.5 * ratio[summer].std()
    assert ratio.mean() == pytest.approx(1, abs=0.05)


def test_dates_lie_beside_each_other_within_a_pixel():
    still, shaken = (
        simulate_tile(YEAR.model_copy(update={"registration_error": error, "frame_offsets": 0.0}), 1, 2, clouds=False)
        for error in (0.0, 0.45)
    )
    moved = np.abs(shaken.optical.values[:, 6].astype(float) - still.optical.values[:, 6]).mean(axis=(1, 2))
    assert (moved > 0).all()
    # Half a pixel of a landscape whose neighbouring pixels differ by some hundredths.
    assert moved.mean() < 200


def test_a_tile_of_full_size_has_as_many_dates_as_a_real_one():
    tile = simulate_tile(SimulationConfig(dropped=0.1), 0, 1)
    assert len(tile.optical) >= 38
    assert len(tile.radar["S1A"]) >= 65


def test_a_process_forgets_what_was_before():
    np.testing.assert_array_equal(
        autoregressive(np.array([1, 0, 0, 4], np.float32), 0.5, before=2.0), [2, 1, 0.5, 4.25]
    )
    np.testing.assert_array_equal(autoregressive(np.eye(2), 0.25), [[1, 0], [0.25, 1]])
