"""Canopies: the shipped table is what PROSPECT-D and 4SAIL give, and between its nodes close to it."""

import numpy as np
import pytest

from restore_dit.data.simulation.canopy import canopy_table, leaf_area_nodes

SOIL = np.array([0.08, 0.11, 0.15, 0.18, 0.20, 0.22, 0.24, 0.26, 0.32, 0.27])


def looked_up(chlorophyll, brown, water, dry_matter, angle, leaf_area, sun, view):
    leaves = {"chlorophyll": chlorophyll, "brown": brown, "water": water, "dry_matter": dry_matter}
    rows = (
        canopy_table()
        .seen(sun, view)
        .canopies(
            {name: np.array([value], np.float32) for name, value in leaves.items()}, np.array([angle], np.float32)
        )[0]
    )
    nodes = leaf_area_nodes()
    direct, transmitted, scattered = (
        np.array([np.interp(leaf_area, nodes, rows[:, term, band]) for band in range(10)]) for term in range(3)
    )
    return direct + transmitted * SOIL / (1 - scattered * SOIL)


def computed(chlorophyll, brown, water, dry_matter, angle, leaf_area, sun, view):
    """prosail itself, averaged over the bands at the end: soil and canopy meet at each wavelength."""
    prosail = pytest.importorskip("prosail")
    pytest.importorskip("pyrsr")
    from restore_dit.data.simulation.canopy_table import HOT_SPOT, LEAF_LAYERS, RELATIVE_AZIMUTH, band_responses

    weights = band_responses()
    centres = weights @ np.arange(400, 2501)
    soil = np.interp(np.arange(400, 2501), np.sort(centres), SOIL[np.argsort(centres)])
    spectrum = prosail.run_prosail(
        LEAF_LAYERS,
        chlorophyll,
        chlorophyll / 5,
        brown,
        water,
        dry_matter,
        leaf_area,
        angle,
        HOT_SPOT,
        sun,
        abs(view),
        RELATIVE_AZIMUTH[int(view > 0)],
        ant=1.0,
        prospect_version="D",
        rsoil0=soil,
    )
    return weights @ spectrum


@pytest.mark.parametrize(
    ("canopy", "tolerance"),
    [
        ((42.0, 0.0, 0.016, 0.0025, 55.0, 2.8, 35.0, 0.0), 0.004),  # nodes of the grid
        ((22.0, 0.4, 0.004, 0.009, 70.0, 0.6, 62.0, -10.0), 0.004),
        ((70.0, 1.0, 0.034, 0.0025, 35.0, 6.5, 20.0, 10.0), 0.004),
        ((36.0, 0.1, 0.018, 0.0045, 60.0, 3.5, 43.0, 4.0), 0.02),  # between them
        ((30.0, 0.2, 0.010, 0.0060, 45.0, 0.9, 67.0, -7.0), 0.02),
    ],
)
def test_table_is_what_radiative_transfer_gives(canopy, tolerance):
    np.testing.assert_allclose(looked_up(*canopy), computed(*canopy), atol=tolerance)


def test_without_leaves_the_soil_is_seen():
    np.testing.assert_allclose(looked_up(40, 0, 0.013, 0.004, 55, 0.0, 40, 0), SOIL, atol=1e-6)


def test_bands_lie_where_esa_says():
    pytest.importorskip("pyrsr")
    from restore_dit.data.simulation.canopy_table import band_responses

    centres = band_responses() @ np.arange(400, 2501)
    # Central wavelengths of Sentinel-2A in ESA's table of responses.
    np.testing.assert_allclose(
        centres, [492.4, 559.8, 664.6, 704.1, 740.5, 782.8, 832.8, 864.7, 1613.7, 2202.4], atol=1.5
    )


def test_more_leaves_hide_more_soil():
    previous = SOIL
    for leaf_area in (0.25, 1.1, 2.8, 6.5):
        values = looked_up(40, 0, 0.013, 0.004, 55, leaf_area, 40, 0)
        assert values[2] < previous[2]
        assert values[6] > previous[6]
        previous = values


def test_hot_side_is_brighter():
    east, west = (looked_up(40, 0, 0.013, 0.004, 55, 2.0, 50, view) for view in (10, -10))
    assert (east > west).all()
