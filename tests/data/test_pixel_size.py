"""Metres on the ground of pixels in degrees, in UTM and in Mercator's projection."""

from __future__ import annotations

import numpy as np
import pytest

from restore_dit.data.crs import pixel_metres, pixel_sides, shown_sides
from restore_dit.series import Georeference


@pytest.mark.parametrize(
    ("latitude", "tall", "wide"),
    # lengths of a degree of latitude and of longitude on WGS 84, as tables have them
    [(0, 110_574, 111_320), (45, 111_132, 78_847), (-60, 111_412, 55_800), (75, 111_618, 28_902)],
)
def test_degrees_are_as_long_as_tables_say(latitude: float, tall: float, wide: float) -> None:
    step = 1e-4
    place = Georeference("EPSG:4326", (step, 0, 10, 0, -step, latitude + 50 * step))
    assert pixel_sides(place, (100, 40)) == pytest.approx((tall * step, wide * step), rel=2e-5)
    metres = pixel_metres(place, (100, 40))
    np.testing.assert_allclose(metres, [[0, wide * step], [-tall * step, 0]], rtol=2e-5, atol=1e-4)


def test_utm_is_taken_at_its_word_and_mercator_is_not() -> None:
    assert pixel_sides(Georeference("EPSG:32631", (10, 0, 574680, 0, -20, 5622440)), (64, 64)) == (20, 10)
    north = 8_399_737.9  # 60° north
    assert pixel_sides(Georeference("EPSG:3857", (20, 0, 0, 0, -20, north)), (1, 1)) == pytest.approx(
        (10.0, 10.0), rel=0.005
    )


def test_what_lies_nowhere_has_no_size() -> None:
    assert np.isnan(pixel_sides(Georeference("EPSG:4326", (10, 0, 500000, 0, -10, 5600000)), (4, 4))).all()


def test_how_sizes_are_shown() -> None:
    assert shown_sides((10.003, 9.998)) == "10"
    assert shown_sides((20.26, 18.14)) == "20.3×18.1"
