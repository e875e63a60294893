"""Simulated series are like real ones: of two sites in Flanders, and of PASTIS-R as far as its statistics are known.

The tolerances are how far two samples of one kind differ: the two sites' means differ by 2–22 % in the bands that both
have, their spreads by 1–48 %; simulated tiles of a site's size by 7 % and 13 % (one sigma).
"""

import json

import numpy as np
import pytest

from restore_dit.config.cube_mapping import load_cube_mapping
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.cubes.site_series import read_cube
from restore_dit.data.simulation import simulate_tile
from restore_dit.data.simulation.fidelity import PASTIS_TILES, counterparts_of, counterparts_of_pastis, describe_series
from restore_dit.series import S2_BANDS

pytestmark = pytest.mark.slow

FINE_SITE, COARSE_SITE = "0000280849BAC91C", "000028085BF08E7E"
COARSE_BANDS = ("B05", "B06", "B07", "B8A", "B11", "B12")
ROWS = [S2_BANDS.index(band) for band in COARSE_BANDS]


@pytest.fixture(scope="module")
def sites(shared):
    """Statistics (real, simulated) of the site that has ten bands and of the one that has six, at 20 m."""
    mapping = load_cube_mapping("worldcereal")
    pairs = []
    for name in (FINE_SITE, COARSE_SITE):
        site = read_cube(shared / "data" / "sentinel_series" / name, mapping)
        simulated = counterparts_of(site, "flanders", 5, seed=1)
        pairs.append(tuple(describe_series(tiles, site.optical.bands) for tiles in ([site], simulated)))
    return pairs


def ratios(sites, name):
    """Simulated over real by band, [..., 10]: of the bands that both sites have, the geometric mean of the two."""
    fine, coarse = (np.log(getattr(simulated, name) / getattr(real, name)) for real, simulated in sites)
    fine[..., ROWS] = (fine[..., ROWS] + coarse) / 2
    return np.exp(fine)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("mean", 0.2), ("deviation", 0.25), ("all_mean", 0.2), ("all_deviation", 0.25), ("interpolation", 0.25)],
)
def test_bands_like_the_sites(sites, name, tolerance):
    np.testing.assert_allclose(ratios(sites, name), 1, atol=tolerance)


def test_as_hard_to_interpolate_as_the_sites(sites):
    assert ratios(sites, "interpolation").mean() == pytest.approx(1, abs=0.15)


def test_change_between_dates_like_the_sites(sites):
    """Root mean square differences after 5, 10, 30 and 60 days; after five, sites have few pairs of clear frames."""
    ratio = ratios(sites, "change")
    np.testing.assert_allclose(ratio[1:], 1, atol=0.35)
    np.testing.assert_allclose(ratio.mean(axis=1), 1, atol=0.2)


def test_change_over_space_like_the_sites(sites):
    ratio = ratios(sites, "roughness")
    np.testing.assert_allclose(ratio, 1, atol=0.4)
    np.testing.assert_allclose(ratio.mean(axis=1), 1, atol=0.2)


def test_bands_vary_together_as_on_the_sites(sites):
    for real, simulated in sites:
        assert np.abs(simulated.correlation - real.correlation).max() < 0.4
        assert np.abs(simulated.correlation - real.correlation).mean() < 0.12


def test_seasons_like_the_site(sites):
    real, simulated = sites[0]
    difference = np.abs(simulated.ndvi[:, 1] - real.ndvi[:, 1])
    # One site of 41 hectares, most of whose fields were already bare in July and August.
    assert np.median(difference) < 0.16
    assert difference.max() < 0.42
    assert np.abs(simulated.ndvi - real.ndvi).mean() < 0.15


def test_clouds_like_the_sites(sites):
    for real, simulated in sites:
        assert simulated.clear_frames == pytest.approx(real.clear_frames, abs=0.1)
        assert simulated.covered_frames == pytest.approx(real.covered_frames, abs=0.1)
        assert simulated.patchiness == pytest.approx(real.patchiness, rel=0.4)


def test_radar_like_the_sites(sites):
    for real, simulated in sites:
        for band in ("VV", "VH"):
            mean, deviation, texture = np.subtract(simulated.radar[band], real.radar[band])
            assert abs(mean) < 1
            assert abs(deviation) < 0.6
            assert abs(texture) < 0.8


def test_cloud_masks_as_patchy_as_real_ones(shared, sites):
    """Slovenia, 68 dates, a detector at 10 m with smoothing: shares of the frames and edges in the partly cloudy."""
    with np.load(shared / "data" / "cloud_masks" / "testeopatch_masks_ndvi.npz") as stored:
        masks = stored["CLM_S2C"] > 0
    share = masks.mean(axis=(1, 2))
    partly = masks[(share > 0.05) & (share < 0.95)]
    edges = np.mean([(partly[:, 1:] != partly[:, :-1]).mean(), (partly[:, :, 1:] != partly[:, :, :-1]).mean()])
    simulated = sites[0][1]
    assert simulated.patchiness == pytest.approx(edges, rel=0.5)
    assert simulated.clear_frames == pytest.approx((share < 0.05).mean(), abs=0.1)
    assert simulated.covered_frames == pytest.approx((share > 0.5).mean(), abs=0.15)


@pytest.fixture(scope="module")
def pastis(shared):
    """Statistics of simulated patches in each of PASTIS-R's four tiles, on its dates."""
    metadata = shared / "data" / "pastis_metadata"
    return {name: describe_series(counterparts_of_pastis(metadata, name, 4, seed=5, side=64)) for name in PASTIS_TILES}


def test_bad_frames_like_pastis(shared, pastis):
    facts = json.loads((shared / "data" / "pastis_metadata" / "pastis_stats.json").read_text())
    for name, simulated in pastis.items():
        # Patches of one tile differ by 0.04–0.06 (one sigma), and a tile's weather is one draw.
        assert simulated.bad_frames == pytest.approx(facts["bad_frames_per_tile"][name]["mean_bad_fraction"], abs=0.08)


def test_all_pixels_like_pastis(shared, pastis):
    metadata = shared / "data" / "pastis_metadata"
    folds = json.loads((metadata / "NORM_S2_patch.json").read_text()).values()
    facts = json.loads((metadata / "pastis_stats.json").read_text())["bad_frames_per_tile"]
    weights = np.array([facts[name]["patches"] * facts[name]["T"] for name in pastis], float)
    weights /= weights.sum()
    mean = weights @ np.stack([simulated.all_mean for simulated in pastis.values()])
    square = weights @ np.stack([simulated.all_mean**2 + simulated.all_deviation**2 for simulated in pastis.values()])
    np.testing.assert_allclose(mean / np.mean([fold["mean"] for fold in folds], axis=0), 1, atol=0.2)
    np.testing.assert_allclose(
        np.sqrt(square - mean**2) / np.mean([fold["std"] for fold in folds], axis=0), 1, atol=0.25
    )


def test_radar_like_pastis(shared, pastis):
    facts = json.loads((shared / "data" / "pastis_metadata" / "pastis_stats.json").read_text())
    for band in ("VV", "VH"):
        real = facts["s1_from_olmoearth_pretrain_monthly_means_dB"][band.lower()]
        means, deviations = np.transpose([simulated.monthly_radar[band] for simulated in pastis.values()])
        assert means.mean() == pytest.approx(real["mean"], abs=0.7)
        assert deviations.mean() == pytest.approx(real["std"], abs=0.5)


def test_default_tiles_are_a_mixture_of_climates():
    """PASTIS-R: 37 % of all frames are bad, 21 to 50 % by tile, in 38 to 61 frames."""
    tiles = [simulate_tile(SimulationConfig(height=32, width=32, radar_tracks=()), 2, index) for index in range(30)]
    bad = [(tile.missing().mean(axis=(1, 2)) > 0.1).mean() for tile in tiles]
    frames = [len(tile.optical) for tile in tiles]
    assert np.mean(bad) == pytest.approx(0.37, abs=0.06)
    assert 0.06 < np.std(bad) < 0.18
    assert 38 < np.median(frames) < 61
