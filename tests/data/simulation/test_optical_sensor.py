"""The instrument: level areas stay level, a shift moves the image, 20 m bands are coarser."""

import numpy as np
import pytest

from restore_dit.data.simulation.optical_sensor import sampling
from restore_dit.series import S2_BANDS

B08, B8A = S2_BANDS.index("B08"), S2_BANDS.index("B8A")


@pytest.mark.parametrize("shift", [(0.4, -0.6), (3.5, -4.0)])
@pytest.mark.parametrize("shape", [(1, 1), (7, 4), (33, 32)])
def test_a_level_scene_stays_level(shape, shift):
    scene = np.full((10, *shape), 0.3, np.float32)
    np.testing.assert_allclose(sampling(shape, shift).apply(scene), 0.3, rtol=1e-5)


def centre(image):
    rows, columns = np.indices(image.shape)
    return np.array([(image * rows).sum(), (image * columns).sum()]) / image.sum()


@pytest.mark.parametrize("band", [B08, B8A])
def test_a_shift_moves_the_image_by_as_much(band):
    scene = np.zeros((10, 40, 40), np.float32)
    scene[:, 16:24, 18:26] = 1
    still, moved = (sampling((40, 40), shift).apply(scene)[band] for shift in ((0, 0), (0.5, -0.3)))
    np.testing.assert_allclose(centre(still), [19.5, 21.5], atol=0.02)
    # Pixels that lie too far down show what is there: the scene comes out higher.
    np.testing.assert_allclose(centre(moved) - centre(still), [-0.5, 0.3], atol=0.02)


def test_twenty_metre_bands_are_coarser():
    scene = np.zeros((10, 40, 40), np.float32)
    scene[:, 20, 20] = 1
    frame = sampling((40, 40), (0, 0)).apply(scene)
    assert frame[B08].max() > 2.5 * frame[B8A].max()
    np.testing.assert_allclose(frame[B08].sum(), 1, atol=0.01)
    # A point between two coarse pixels belongs to both.
    np.testing.assert_allclose(frame[B8A].sum(), 1, atol=0.15)
