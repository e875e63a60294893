"""The land of a tile: what grows where and when, and what the settings of rough, southern and dry places change."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation import simulate_landcover
from restore_dit.data.simulation.covers import COVER_NUMBER
from restore_dit.data.simulation.surface import LARGEST_LEAD, Surface, draw_surface

DAYS = np.arange(np.datetime64("2018-10-01"), np.datetime64("2019-11-01"))
CONFIG = SimulationConfig(height=48, width=48, woods=0.0)


def land(days=DAYS, **changes: object) -> Surface:
    return draw_surface(CONFIG.model_copy(update=changes), days, np.random.default_rng(3))


@pytest.fixture(scope="module")
def plain() -> Surface:
    return land()


def test_plants_that_are_ahead_are_what_they_will_be(plain):
    ahead, later = land(season_lead=30), land(DAYS + np.timedelta64(30, "D"))
    np.testing.assert_array_equal(ahead.curves.leaf_area, later.curves.leaf_area)
    assert (ahead.curves.leaf_area != plain.curves.leaf_area).any()


def test_labels_follow_the_plants_calendar():
    """In mid-June of their own calendar the same crops stand on the fields, wherever that falls."""
    config = SimulationConfig(height=32, width=32, start=date(2018, 9, 1), days=420, radar_tracks=())
    usual, ahead = (simulate_landcover(config.model_copy(update={"season_lead": lead}), 4, 0) for lead in (0, 45))
    assert "catch crop" not in {usual.names[number] for number in np.unique(usual.classes)}
    assert "catch crop" not in {ahead.names[number] for number in np.unique(ahead.classes)}


def test_drought_takes_grass_in_summer_and_nothing_else(plain):
    dry = land(summer_drought=1.0)
    np.testing.assert_array_equal(dry.landscape.parcels, plain.landscape.parcels)
    grass = plain.landscape.covers == COVER_NUMBER["grassland"]
    assert grass.any()
    before, after = plain.curves.leaf_area, dry.curves.leaf_area
    np.testing.assert_array_equal(before[~grass], after[~grass])
    february, july = (
        int((np.datetime64(day) - DAYS[0]).astype(int)) + LARGEST_LEAD for day in ("2019-02-01", "2019-07-25")
    )
    np.testing.assert_allclose(after[grass, february], before[grass, february], rtol=0.01)
    assert (after[grass, july] < 0.3 * before[grass, july]).all()
    assert (dry.curves.brown_area[grass, july] > plain.curves.brown_area[grass, july]).all()


@pytest.mark.parametrize("strength", [0.2, 0.6])
def test_mottled_ground_differs_from_pixel_to_pixel_as_strongly_as_asked_for(plain, strength):
    mottled = land(mottle=strength)
    np.testing.assert_array_equal(mottled.landscape.parcels, plain.landscape.parcels)
    cover = mottled.landscape.covers[mottled.landscape.parcels.ravel()]
    bare = np.isin(cover, [COVER_NUMBER["water"], COVER_NUMBER["road"]])
    leafier = np.log(mottled.mean_vigour / CONFIG.vigour)
    assert (leafier[bare] == 0).all()
    np.testing.assert_allclose(leafier[~bare].std(), strength, rtol=0.2)
    assert (plain.mean_vigour == np.float32(CONFIG.vigour)).all()
    across = np.diff(leafier.reshape(48, 48), axis=1)[~bare.reshape(48, 48)[:, 1:]]
    assert across.std() > 0.7 * strength  # single pixels, not only clumps
    brightness = mottled.background[:, 3]
    soil = np.isin(cover, [-1, COVER_NUMBER["grassland"]])
    assert np.corrcoef(leafier[soil], np.log(brightness[soil]))[0, 1] < 0
