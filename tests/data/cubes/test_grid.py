"""Grids that share their pixels, and images from one grid on another."""

from __future__ import annotations

import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from rasterio.transform import Affine

from restore_dit.data.cubes.grid import Placement, on_lattice, resample, resample_classes, same_grid


def grid(edge: float, spacing: float, length: int) -> GeoBox:
    """A square that begins so far east and south of the origin."""
    return GeoBox((length, length), Affine(spacing, 0, edge, 0, -spacing, -edge), "EPSG:32631")


def where(box: GeoBox) -> Placement:
    """Of a product that lies where its coordinates say."""
    return Placement(box, box)


def test_bilinear_keeps_a_plane_and_nearest_repeats() -> None:
    source, target = grid(0, 20, 5), grid(0, 10, 10)
    plane, expected = (
        one.coordinates["y"].values[:, None] * 2 + one.coordinates["x"].values * 3 for one in (source, target)
    )
    found = resample(plane[None], where(source), target, "bilinear")[0]
    np.testing.assert_allclose(found[1:-1, 1:-1], expected[1:-1, 1:-1], rtol=1e-6)
    nearest = resample(plane[None], where(source), target, "nearest")[0]
    np.testing.assert_allclose(nearest, np.kron(plane, np.ones((2, 2))), rtol=1e-6)


def test_the_same_grid_gives_the_same_numbers() -> None:
    images = np.random.default_rng(0).integers(0, 20000, (3, 7, 7)).astype(np.float32)
    images[0, 2, 3] = np.nan
    np.testing.assert_array_equal(resample(images, where(grid(5, 10, 7)), grid(5, 10, 7), "bilinear"), images)


def test_a_finer_source_is_averaged() -> None:
    images = np.arange(16, dtype=np.float64).reshape(1, 4, 4)
    images[0, 0, 0] = np.nan
    found = resample(images, where(grid(0, 10, 4)), grid(0, 20, 2), "nearest")[0]
    np.testing.assert_allclose(found[1], [10.5, 12.5])
    assert found[0, 1] == pytest.approx(4.5)


def test_no_data_neither_spreads_nor_vanishes() -> None:
    images = np.ones((1, 4, 4))
    images[0, 1, 1] = np.nan
    found = resample(images, where(grid(0, 20, 4)), grid(0, 10, 8), "bilinear")[0]
    expected = np.zeros((8, 8), bool)
    expected[2:4, 2:4] = True
    np.testing.assert_array_equal(np.isnan(found), expected)
    assert np.nanmax(abs(found - 1)) < 1e-6


def test_outside_the_source_there_is_no_data() -> None:
    source, target = grid(0, 10, 4), grid(0, 10, 6)
    found = resample(np.ones((1, 4, 4)), where(source), target, "bilinear")[0]
    expected = np.zeros((6, 6), bool)
    expected[:4, :4] = True
    np.testing.assert_array_equal(~np.isnan(found), expected)
    classes = resample_classes(np.ones((1, 4, 4), np.uint8), where(source), target, 255)[0]
    np.testing.assert_array_equal(classes == 1, expected)


def test_a_coarse_pixel_reaches_as_far_as_it_lies_and_no_farther() -> None:
    """Columns of 10 m from 0; of the 20 m pixels the last ends at 45 m, between the middles 45 and 55 of two."""
    source = GeoBox((2, 2), Affine(20, 0, 5, 0, -20, 0), "EPSG:32631")
    target = GeoBox((4, 6), Affine(10, 0, 0, 0, -10, 0), "EPSG:32631")
    found = resample(np.array([[[1.0, 2.0], [1.0, 2.0]]]), where(source), target, "nearest")[0]
    np.testing.assert_array_equal(found[0], [1, 1, 1, 2, 2, np.nan])


def test_a_registered_product_fills_what_it_covers() -> None:
    """Its content lies one of its own pixels north of its coordinates: the southernmost row stands in for the rest."""
    covers = grid(0, 20, 2)
    source = Placement(covers, covers.translate_pix(0, -0.5))
    found = resample(np.array([[[1.0, 1.0], [2.0, 2.0]]]), source, grid(0, 10, 4), "nearest")[0]
    np.testing.assert_array_equal(found[:, 0], [1, 2, 2, 2])


@pytest.mark.parametrize(("noise", "one"), [(0, True), (1e-9, True), (0.09, True), (0.11, False), (5, False)])
def test_grids_are_the_same_to_a_hundredth_of_a_pixel(noise: float, one: bool) -> None:
    assert same_grid(grid(noise, 10, 4), grid(0, 10, 4)) is one


def test_a_part_of_a_lattice() -> None:
    lattice = grid(0, 10, 4)
    found = on_lattice(grid(200.05, 10, 6), lattice)
    assert found is not None
    assert (found.shape, tuple(found.affine)[:6]) == ((6, 6), (10, 0, 200, 0, -10, -200))
    assert on_lattice(grid(0, 10.1, 6), lattice) is None
    assert on_lattice(grid(0, 20, 2), lattice) is None
    assert not same_grid(grid(10, 10, 4), lattice)


def test_degrees_that_were_counted_differently_are_one_lattice() -> None:
    step = 10 / 111_000
    whole = GeoBox((1000, 2000), Affine(step, 0, 8.123, 0, -step, 50.3), "EPSG:4326")
    part = GeoBox((100, 100), Affine(step, 0, 8.123 + 1500 * step, 0, -step, 50.3 - 700 * step), "EPSG:4326")
    found = on_lattice(part, whole)
    assert found is not None
    assert ~whole.affine * (found.affine * (0, 0)) == pytest.approx((1500, 700))
