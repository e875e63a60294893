"""Where the shadows of clouds can fall: away from the sun, as far as clouds are high, on grids of any orientation."""

from __future__ import annotations

import numpy as np
import pytest

from restore_dit.clouds.rule.masks import shadow_reach
from restore_dit.clouds.rule.place import place_of, sun_angles
from restore_dit.config.clouds import RuleConfig
from restore_dit.series import Georeference

NORTH_UP = Georeference("EPSG:32631", (20.0, 0.0, 500000.0, 0.0, -20.0, 5622000.0))
WINTER = np.array(["2019-01-15"], "datetime64[D]")
SIZE = (151, 151)


def cloud_in_the_middle() -> np.ndarray:
    cloud = np.zeros((1, *SIZE), bool)
    cloud[0, 73:78, 73:78] = True
    return cloud


def test_a_shadow_lies_where_its_clouds_height_puts_it() -> None:
    place = place_of(NORTH_UP, SIZE)
    config = RuleConfig(lowest_cloud=250, highest_cloud=350, shadow_tolerance=0)
    below, _ = shadow_reach(cloud_in_the_middle(), WINTER, place, config)
    rows, columns = np.nonzero(below[0])
    (zenith,), (azimuth,) = sun_angles(WINTER, place.latitude or np.nan)
    distance = 300 * np.tan(zenith) / 20  # pixels
    down, right = distance * np.cos(azimuth), -distance * np.sin(azimuth)
    assert down < -40  # the sun is in the south
    assert abs(rows.mean() - 75 - down) < 1.5
    assert abs(columns.mean() - 75 - right) < 1.5
    view = 350 * np.tan(np.deg2rad(10.3)) / 20
    assert columns.max() - columns.min() < 5 + 2 * view + 4


def test_the_reach_begins_at_the_lowest_cloud_and_points_away_from_the_sun() -> None:
    below, _ = shadow_reach(cloud_in_the_middle(), WINTER, place_of(NORTH_UP, SIZE), RuleConfig())
    rows, _ = np.nonzero(below[0])
    assert rows.max() < 75
    assert rows.min() == 0  # high clouds throw theirs out of the tile


@pytest.mark.parametrize(
    ("transform", "orient"),
    [
        ((20.0, 0.0, 500000.0, 0.0, 20.0, 5622000.0 - 151 * 20), lambda mask: mask[:, ::-1]),
        ((-20.0, 0.0, 500000.0 + 151 * 20, 0.0, -20.0, 5622000.0), lambda mask: mask[:, :, ::-1]),
        ((0.0, 20.0, 500000.0, -20.0, 0.0, 5622000.0), lambda mask: mask.transpose(0, 2, 1)),
    ],
    ids=["south up", "west to the right", "transposed"],
)
def test_the_grids_orientation_does_not_matter(transform, orient) -> None:  # type: ignore[no-untyped-def]
    cloud = cloud_in_the_middle()
    cloud[0, 80:95, 100:104] = True
    upright = shadow_reach(cloud, WINTER, place_of(NORTH_UP, SIZE), RuleConfig())
    turned = shadow_reach(orient(cloud), WINTER, place_of(Georeference("EPSG:32631", transform), SIZE), RuleConfig())
    for expected, found in zip(upright, turned, strict=True):
        np.testing.assert_array_equal(orient(found), expected)


def test_degrees_and_metres_are_the_same_place() -> None:
    degrees = Georeference("EPSG:4326", (20 / 111_320 / np.cos(np.deg2rad(50.7)), 0, 3.0, 0, -20 / 111_320, 50.75))
    place, metric = place_of(degrees, SIZE), place_of(NORTH_UP, SIZE)
    assert place.pixel_sides == pytest.approx((20, 20), rel=0.003)
    assert place.latitude == pytest.approx(metric.latitude, abs=0.05)
    np.testing.assert_allclose(place.pixels, metric.pixels, rtol=0.003, atol=1e-6)


def test_clouds_beyond_the_edge_reach_in_from_the_suns_side() -> None:
    _, outside = shadow_reach(
        np.zeros((1, *SIZE), bool), WINTER, place_of(NORTH_UP, SIZE), RuleConfig(outside_cloud=200)
    )
    (zenith,), _ = sun_angles(WINTER, 50.7)
    assert outside[0, -1].all()
    deep = int(outside[0, :, 75].sum())
    assert deep == pytest.approx(200 * np.tan(zenith) / 20, abs=3)
    assert outside[0, -deep:, 75].all()


def test_without_a_place_every_shadow_may_come_from_outside() -> None:
    below, outside = shadow_reach(cloud_in_the_middle(), WINTER, place_of(None, SIZE), RuleConfig())
    assert not below.any()
    assert outside.all()
