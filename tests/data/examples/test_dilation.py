"""Widened masks beside SciPy's, and what lies beyond the border of a part."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from restore_dit.data.examples.dilation import (
    SMALLEST_CLOUD,
    dilated,
    hidden_part,
    hidden_pixels,
    mistaken_ground,
    opened,
)
from restore_dit.series import CLEAR, CLOUD_NO_DATA, SHADOW, THICK_CLOUD, THIN_CLOUD


def disc(radius: int) -> np.ndarray:
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return rows**2 + columns**2 <= radius**2


@settings(max_examples=40)
@given(st.integers(0, 9), st.integers(1, 12), st.integers(1, 12), st.integers(0, 100), st.floats(0.01, 0.5))
def test_a_dilated_mask_is_scipys_with_a_disc(radius: int, height: int, width: int, seed: int, share: float) -> None:
    masks = np.random.default_rng(seed).random((3, height, width)) < share
    found = dilated(masks, radius)
    for mask, widened in zip(masks, found, strict=True):
        np.testing.assert_array_equal(widened, ndimage.binary_dilation(mask, disc(radius)))


@settings(max_examples=40)
@given(st.integers(0, 5), st.integers(0, 10_000), st.integers(4, 14), st.integers(4, 12))
def test_a_part_is_hidden_as_in_the_whole(dilation: int, seed: int, top: int, left: int) -> None:
    """Clouds and specks all around the part, so that some are cut by the margin that is looked at, wherever it ends."""
    random = np.random.default_rng(seed)
    clouds = np.zeros((8, 24, 20), np.uint8)
    for mask in clouds:
        for row, column, height, width in random.integers((0, 0, 1, 1), (23, 19, 5, 5), (12, 4)):
            mask[row : row + height, column : column + width] = random.choice((THICK_CLOUD, THIN_CLOUD, SHADOW))
    rows, columns = slice(top, top + 6), slice(left, left + 5)
    np.testing.assert_array_equal(
        hidden_part(clouds, rows, columns, dilation), hidden_pixels(clouds, dilation)[:, rows, columns]
    )


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 100), st.floats(0.1, 0.9))
def test_an_opened_mask_is_scipys_with_a_square(height: int, width: int, seed: int, share: float) -> None:
    masks = np.random.default_rng(seed).random((3, height, width)) < share
    square = np.ones((SMALLEST_CLOUD, SMALLEST_CLOUD), bool)
    for mask, found in zip(masks, opened(masks), strict=True):
        beyond = np.pad(mask, 4, constant_values=True)
        np.testing.assert_array_equal(found, ndimage.binary_opening(beyond, square)[4:-4, 4:-4])
        assert not (found & ~mask).any()


@pytest.mark.parametrize("kind", [THICK_CLOUD, THIN_CLOUD, SHADOW, CLOUD_NO_DATA])
def test_cloud_and_shadow_are_widened_and_missing_data_are_not(kind: int) -> None:
    clouds = np.full((9, 9), CLEAR, np.uint8)
    clouds[3:6, 3:6] = kind
    assert hidden_pixels(clouds, 0).sum() == 9
    assert hidden_pixels(clouds, 1).sum() == (9 if kind == CLOUD_NO_DATA else 21)


def test_specks_hide_themselves_alone() -> None:
    clouds = np.full((20, 20), CLEAR, np.uint8)
    clouds[2:4, 2:4] = THICK_CLOUD  # a pixel of 20 m
    clouds[10, 3:17] = THIN_CLOUD  # a roof, a road
    clouds[5:8, 12:15] = SHADOW
    assert hidden_pixels(clouds, 2).sum() == 4 + 14 + 37  # the shadow of 3×3 by a disc


def test_a_cloud_that_the_border_cuts_is_dilated() -> None:
    clouds = np.full((9, 9), CLEAR, np.uint8)
    clouds[4:7, 0] = THICK_CLOUD
    assert hidden_pixels(clouds, 1)[4:7, 1].all()


def masks_of_bright_ground(flagged: Sequence[int]) -> np.ndarray:
    """Masks of 30 dates, [30, 40, 40]: one roof is flagged on the given dates, clouds are elsewhere on each, and every
    third date, from the first, is overcast."""
    clouds = np.full((30, 40, 40), CLEAR, np.uint8)
    for date in range(30):
        row = 6 * (date % 5)
        clouds[date, row : row + 6, 4 * (date % 4) : 4 * (date % 4) + 6] = THICK_CLOUD
    clouds[list(flagged), ROOF[0], ROOF[1]] = THIN_CLOUD
    clouds[::3] = THICK_CLOUD
    return clouds


ROOF = slice(20, 24), slice(30, 34)


@pytest.mark.parametrize(
    "flagged", [(1, 5, 10, 14, 19, 23), (4, 5), (5, 7)], ids=["share", "succession", "overcast between"]
)
def test_ground_that_is_flagged_again_is_not_dilated(flagged: tuple[int, ...]) -> None:
    """A quarter of the 20 clear dates, or two in succession, between which one may be overcast."""
    clouds = masks_of_bright_ground(flagged)
    mistaken = mistaken_ground(clouds)
    roof = np.zeros(clouds.shape, bool)
    roof[list(flagged), ROOF[0], ROOF[1]] = True
    assert mistaken[roof].all()
    assert not mistaken[1::3][~roof[1::3]].any()
    assert not mistaken[2::3][~roof[2::3]].any()
    hidden = hidden_pixels(clouds, 2, mistaken)
    expected = hidden_pixels(masks_of_bright_ground(()), 2) | (clouds != CLEAR)  # the roof itself stays hidden
    np.testing.assert_array_equal(hidden, expected)


@pytest.mark.parametrize("flagged", [(5,), (5, 10, 16, 22)], ids=["once", "now and then"])
def test_what_is_rarely_flagged_is_no_mistaken_ground(flagged: tuple[int, ...]) -> None:
    assert not mistaken_ground(masks_of_bright_ground(flagged)).any()


def test_clouds_on_hazy_dates_in_succession_are_no_mistaken_ground() -> None:
    """Two clouds that cover 30 % each may be above the same pixels by chance."""
    clouds = np.full((4, 40, 40), CLEAR, np.uint8)
    clouds[1:3, :12] = THICK_CLOUD
    assert not mistaken_ground(clouds).any()
