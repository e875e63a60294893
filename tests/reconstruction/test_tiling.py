"""Tiles that cover any area, and a blend without seams that does not depend on order."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_dit.reconstruction.tiling import Blend, BlendWeights, SpatialTile, pad_to_multiple, spatial_tiles


@st.composite
def grids(draw):
    """Height, width, size, overlap."""
    size = draw(st.integers(1, 40))
    return draw(st.integers(1, 150)), draw(st.integers(1, 150)), size, draw(st.integers(0, size - 1))


small_grids = st.tuples(st.integers(1, 60), st.integers(1, 60), st.just(16), st.integers(0, 15))


def whole(height: int, width: int) -> SpatialTile:
    return SpatialTile(0, 0, height, width)


@settings(max_examples=50)
@given(grids())
def test_weights_sum_to_one_at_every_pixel(grid):
    height, width, *_ = grid
    weights = BlendWeights(*grid)
    total = np.zeros((height, width))
    for tile in spatial_tiles(*grid):
        assert (weights[tile] > 0).all()
        total[tile.rows, tile.columns] += weights[tile]
    np.testing.assert_allclose(total, 1, atol=1e-12)


@settings(max_examples=50)
@given(grids())
def test_tiles_lie_inside_and_have_full_size(grid):
    height, width, size, overlap = grid
    tiles = spatial_tiles(*grid)
    assert len(set(tiles)) == len(tiles)
    for tile in tiles:
        assert (tile.height, tile.width) == (min(size, height), min(size, width))
        assert 0 <= tile.row <= height - tile.height
        assert 0 <= tile.column <= width - tile.width
    rows = sorted({tile.row for tile in tiles})
    assert all(later - earlier <= size - overlap for earlier, later in pairwise(rows))


def test_grid_is_anchored_to_the_upper_left_corner():
    assert [tile.column for tile in spatial_tiles(128, 400)] == [0, 96, 192, 272]
    assert [tile.column for tile in spatial_tiles(128, 416)] == [0, 96, 192, 288]
    assert spatial_tiles(100, 90) == [SpatialTile(0, 0, 100, 90)]


def test_ramps_are_smooth_and_only_towards_neighbours():
    weights = BlendWeights(128, 224)
    left, right = (weights[tile][0] for tile in spatial_tiles(128, 224))
    assert (left[:96] == 1).all()
    assert (right[32:] == 1).all()
    assert (np.diff(left[96:]) < 0).all()
    assert np.abs(np.diff(left)).max() < 0.05
    np.testing.assert_allclose(left[96:], right[:32][::-1])


@settings(max_examples=25)
@given(small_grids, st.integers(0, 2**32 - 1))
def test_blend_of_any_order_is_equal_to_the_bit(grid, seed):
    height, width, *_ = grid
    random = np.random.default_rng(seed)
    tiles = spatial_tiles(*grid)
    weights = BlendWeights(*grid)
    values = [random.uniform(-1, 2, (2, tile.height, tile.width)).astype(np.float32) for tile in tiles]
    results = []
    for order in (range(len(tiles)), random.permutation(len(tiles))):
        blend = Blend((2,), whole(height, width))
        for index in order:
            blend.add(tiles[index], values[index], weights[tiles[index]])
        results.append(blend.result())
    np.testing.assert_array_equal(*results)

    exact = np.zeros((2, height, width))
    for tile, value in zip(tiles, values, strict=True):
        exact[:, tile.rows, tile.columns] += value * weights[tile]
    np.testing.assert_allclose(results[0], exact, atol=1e-6)


@settings(max_examples=25)
@given(small_grids, st.data())
def test_regions_blended_apart_equal_the_whole(grid, data):
    height, width, *_ = grid
    tiles = spatial_tiles(*grid)
    weights = BlendWeights(*grid)
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    values = [random.uniform(size=(tile.height, tile.width)) for tile in tiles]
    cut = data.draw(st.integers(0, height - 1))
    regions = [SpatialTile(0, 0, cut, width), SpatialTile(cut, 0, height - cut, width), whole(height, width)]
    blends = [Blend((), region) for region in regions]
    for tile, value in zip(tiles, values, strict=True):
        for blend in blends:
            blend.add(tile, value, weights[tile])
    upper, lower, both = (blend.result() for blend in blends)
    np.testing.assert_array_equal(np.concatenate([upper, lower]), both)


def test_tiles_cut_from_one_area_give_it_back():
    area = np.random.default_rng(0).uniform(-0.1, 1.3, (3, 2, 300, 170)).astype(np.float32)
    weights = BlendWeights(300, 170)
    blend = Blend((3, 2), whole(300, 170))
    for tile in spatial_tiles(300, 170):
        blend.add(tile, area[..., tile.rows, tile.columns], weights[tile])
    np.testing.assert_allclose(blend.result(), area, atol=3e-7)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -64.0])
def test_refuses_values_that_the_sum_cannot_hold(bad):
    values = np.zeros((4, 4))
    values[1, 2] = bad
    with pytest.raises(ValueError, match="finite"):
        Blend((), whole(4, 4)).add(whole(4, 4), values, np.ones((4, 4)))


def test_the_largest_allowed_values_do_not_overflow():
    blend = Blend((), whole(30, 30))
    weights = BlendWeights(30, 30, 16, 15)
    for tile in spatial_tiles(30, 30, 16, 15):
        blend.add(tile, np.full((16, 16), np.nextafter(64, 0)), weights[tile])
    np.testing.assert_allclose(blend.result(), 64, rtol=1e-6)


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 2, 4, 8, 16]))
def test_padding_reaches_the_next_multiple_and_keeps_the_values(height, width, multiple):
    values = np.random.default_rng(0).normal(size=(2, height, width))
    padded = pad_to_multiple(values, multiple)
    assert [extent % multiple for extent in padded.shape[1:]] == [0, 0]
    assert padded.shape[1] - height < multiple
    assert padded.shape[2] - width < multiple
    np.testing.assert_array_equal(padded[..., :height, :width], values)


def test_padding_mirrors_what_lies_before_the_edge():
    assert pad_to_multiple(np.array([[1, 2, 3]]), 4).tolist() == [[1, 2, 3, 2]] * 4


@pytest.mark.parametrize(("size", "overlap"), [(32, 32), (32, -1), (0, 0)])
def test_refuses_grids_that_cannot_advance(size, overlap):
    with pytest.raises(ValueError, match="10 × 10"):
        spatial_tiles(10, 10, size, overlap)
