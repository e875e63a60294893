"""The physical rule on made and simulated tiles, and on a real site."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_dit.clouds.rule import require_rule_bands, rule_masks
from restore_dit.clouds.scores import clear_flagged, cloud_f1, confusion_counts, no_counts, shadow_f1
from restore_dit.config.clouds import RuleConfig
from restore_dit.config.cube_mapping import load_cube_mapping
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.cubes.site_series import read_cube
from restore_dit.data.simulation import simulate_tile
from restore_dit.errors import UserError
from restore_dit.series import (
    CLEAR,
    CLOUD_NO_DATA,
    NO_DATA,
    S2_BANDS,
    SHADOW,
    THICK_CLOUD,
    THIN_CLOUD,
    Acquisitions,
    Georeference,
    TileSeries,
)
from tests.messages import refused

BANDS_OF_20_M = ("B05", "B06", "B07", "B8A", "B11", "B12")
GROUND = np.array([400, 700, 600, 1100, 2800, 3400, 3500, 3600, 2100, 1300], np.int16)
FRAME = 12  # the one that tests change
METRES_20 = Georeference("EPSG:32631", (20.0, 0.0, 500000.0, 0.0, -20.0, 5622000.0))

Pixels = tuple[slice, slice]


def quiet(bands: tuple[str, ...] = S2_BANDS, size: tuple[int, int] = (40, 44), frames: int = 24) -> TileSeries:
    """The same clear land every five days, from January on."""
    spectrum = GROUND[[S2_BANDS.index(band) for band in bands]]
    values = np.ascontiguousarray(np.broadcast_to(spectrum[:, None, None], (frames, len(bands), *size)))
    dates = np.datetime64("2019-01-01") + 5 * np.arange(frames)
    return TileSeries("quiet", Acquisitions(values, dates, bands), georeference=METRES_20)


def changed(series: TileSeries, pixels: Pixels, factor: float, added: int, frame: int = FRAME) -> TileSeries:
    """The series with some pixels of one frame brighter or darker."""
    values = series.optical.values.copy()
    part = values[frame][:, pixels[0], pixels[1]]
    values[frame][:, pixels[0], pixels[1]] = (part * factor + added).astype(np.int16)
    return replace(series, optical=replace(series.optical, values=values))


BLOCK = (slice(10, 18), slice(20, 30))


@pytest.mark.parametrize("bands", [S2_BANDS, BANDS_OF_20_M, ("B04", "B08"), ("B03", "B11")])
def test_the_same_land_on_every_date_is_clear(bands: tuple[str, ...]) -> None:
    assert (rule_masks(quiet(bands), RuleConfig()) == CLEAR).all()


@pytest.mark.parametrize("bands", [S2_BANDS, BANDS_OF_20_M, ("B04", "B08"), ("B02", "B11")])
@pytest.mark.parametrize(("added", "expected"), [(4500, THICK_CLOUD), (1000, THIN_CLOUD)])
def test_a_bright_white_block_is_cloud(bands: tuple[str, ...], added: int, expected: int) -> None:
    masks = rule_masks(changed(quiet(bands), BLOCK, 0.8, added), RuleConfig())
    assert (masks[FRAME][BLOCK] == expected).all()
    masks[FRAME][BLOCK] = CLEAR
    assert (masks == CLEAR).all()


def test_bare_soil_is_not_cloud() -> None:
    """A ploughed field: brighter in the visible, brighter still in the short-wave infrared, the leaves gone."""
    series = quiet()
    soil = np.array([700, 1000, 1350, 1700, 2100, 2300, 2450, 2600, 3600, 3100], np.int16)
    values = series.optical.values.copy()
    values[FRAME:][:, :, BLOCK[0], BLOCK[1]] = soil[:, None, None]
    assert (rule_masks(replace(series, optical=replace(series.optical, values=values)), RuleConfig()) == CLEAR).all()


def test_a_dark_block_is_shadow_only_where_a_cloud_can_cast_it() -> None:
    """In a wide tile, far from its edges, only a cloud on the sun's side will do: towards the south-south-east."""
    config = RuleConfig(outside_cloud=100)
    tile = quiet(size=(120, 120), frames=18)
    middle, south, north = (
        (slice(55, 63), slice(55, 63)),
        (slice(72, 80), slice(60, 68)),
        (slice(38, 46), slice(50, 58)),
    )
    dark = changed(tile, middle, 0.5, 0)
    assert (rule_masks(dark, config)[FRAME] == CLEAR).all()
    assert (rule_masks(changed(dark, north, 0.8, 4000), config)[FRAME][middle] == CLEAR).all()
    masks = rule_masks(changed(dark, south, 0.8, 4000), config)
    assert (masks[FRAME][middle] == SHADOW).all()
    assert (masks[FRAME][south] == THICK_CLOUD).all()
    # Near the sunward edge the cloud may lie outside.
    edge = (slice(112, 119), slice(50, 58))
    assert (rule_masks(changed(tile, edge, 0.5, 0), RuleConfig(outside_cloud=500))[FRAME][edge] == SHADOW).all()


def test_harvest_and_rain_are_not_shadow() -> None:
    series = quiet()
    values = series.optical.values.copy()
    near = [S2_BANDS.index(band) for band in ("B06", "B07", "B08", "B8A")]
    shortwave = [S2_BANDS.index(band) for band in ("B11", "B12")]
    values[FRAME, near, 10:18, 5:15] = 1700
    values[FRAME, shortwave, 10:18, 20:30] = 900
    assert (rule_masks(replace(series, optical=replace(series.optical, values=values)), RuleConfig()) == CLEAR).all()


def test_snow_is_not_cloud_and_ice_cloud_in_summer_is() -> None:
    snow = np.array([7000, 7000, 7000, 7000, 7000, 7000, 6800, 6600, 900, 800], np.int16)
    series = quiet(frames=40)
    values = series.optical.values.copy()
    values[[3, 34]] = snow[:, None, None]  # in January and June
    white = replace(series, optical=replace(series.optical, values=values))
    masks = rule_masks(white, RuleConfig())
    assert (masks[3] == CLOUD_NO_DATA).all()
    assert (masks[34] == THICK_CLOUD).all()
    assert (rule_masks(white, RuleConfig(snow="clear"))[3] == CLEAR).all()


def test_no_data_in_a_band_that_the_rule_uses() -> None:
    series = quiet()
    values = series.optical.values.copy()
    values[3, S2_BANDS.index("B11"), 4, 5] = NO_DATA
    values[4, S2_BANDS.index("B06"), 4, 5] = NO_DATA  # not used
    values[:, :, 0, 0] = NO_DATA
    masks = rule_masks(replace(series, optical=replace(series.optical, values=values)), RuleConfig())
    expected = np.full_like(masks, CLEAR)
    expected[3, 4, 5] = expected[:, 0, 0] = CLOUD_NO_DATA
    np.testing.assert_array_equal(masks, expected)


@pytest.mark.parametrize("bands", [("B8A", "B11"), ("B02", "B03", "B04"), ("B05", "B06", "B12")])
def test_bands_that_are_not_enough_are_one_line(bands: tuple[str, ...]) -> None:
    with refused(", ".join(bands)):
        rule_masks(quiet(bands), RuleConfig())
    with pytest.raises(UserError):
        require_rule_bands(bands)


def test_a_single_frame_shows_its_bright_clouds() -> None:
    series = changed(quiet(), BLOCK, 0.8, 4000)
    alone = replace(series, optical=series.optical.select(slice(FRAME, FRAME + 1)))
    masks = rule_masks(alone, RuleConfig())[0]
    assert (masks[BLOCK] == THICK_CLOUD).all()
    assert (masks == CLEAR).sum() == masks.size - masks[BLOCK].size


def test_specks_go_and_clouds_grow() -> None:
    series = changed(changed(quiet(), BLOCK, 0.8, 4000), (slice(30, 32), slice(5, 7)), 0.8, 4000)
    assert (rule_masks(series, RuleConfig(smallest=2000))[FRAME][30:32, 5:7] == CLEAR).all()
    assert (rule_masks(series, RuleConfig(smallest=1600))[FRAME][30:32, 5:7] == THICK_CLOUD).all()
    wider = rule_masks(series, RuleConfig(cloud_growth=40))[FRAME]
    rows, columns = np.nonzero(wider)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 19, 18, 31)
    assert (wider[BLOCK] == THICK_CLOUD).all()
    assert (wider == THIN_CLOUD).sum() == (wider > 0).sum() - wider[BLOCK].size


@settings(max_examples=8)
@given(index=st.integers(0, 30), six=st.booleans())
def test_a_mirrored_tile_has_mirrored_masks(index: int, six: bool) -> None:
    tile = simulate_tile(SimulationConfig(height=24, width=30, days=200, mask_errors=0), 8, index)
    bands = BANDS_OF_20_M if six else S2_BANDS
    values = tile.optical.values[:, [S2_BANDS.index(band) for band in bands]]
    tile = replace(tile, optical=Acquisitions(values, tile.optical.dates, bands))
    assert tile.georeference is not None
    a, b, c, d, e, f = tile.georeference.transform
    mirrored = replace(
        tile,
        clouds=None,
        radar={},
        layers={},
        optical=replace(tile.optical, values=values[:, :, :, ::-1]),
        georeference=Georeference(tile.georeference.crs, (-a, b, c + 30 * a, d, e, f)),
    )
    expected = rule_masks(tile, RuleConfig())
    # Sums in another order may round a value across its threshold.
    assert (rule_masks(mirrored, RuleConfig())[:, :, ::-1] == expected).mean() > 0.999


def test_simulated_tiles_by_their_true_masks() -> None:
    counts = no_counts()
    for index in range(4):
        tile = simulate_tile(SimulationConfig(height=48, width=48, mask_errors=0), 21, index)
        assert tile.clouds is not None
        counts += confusion_counts(tile.clouds, rule_masks(tile, RuleConfig()))
    assert cloud_f1(counts) > 0.85
    assert shadow_f1(counts) > 0.55
    assert clear_flagged(counts) < 0.04


def test_a_real_site(shared: Path) -> None:
    """Sen2Cor, the label here, misses haze, rims and shadows: what it calls clear and the rule does not was cloud or
    shadow wherever it was looked at, but for a part of one frame."""
    tile = read_cube(shared / "data/sentinel_series/000028085BF08E7E", load_cube_mapping("worldcereal"))
    assert tile.clouds is not None
    masks = rule_masks(tile, RuleConfig())
    counts = confusion_counts(tile.clouds, masks)
    assert cloud_f1(counts) > 0.87
    assert counts[1, 1:3].sum() > 0.98 * counts[1].sum()
    assert counts[3, 3] > 0.97 * counts[3].sum()
    # On dates that are clear to the eye, as to Sen2Cor, hardly anything is flagged.
    hazy_or_dark = np.array(
        ["2018-08-12", "2018-09-28", "2018-12-30", "2019-04-04", "2019-04-24", "2019-10-23", "2019-10-26"], "M8[D]"
    )
    clear = ((tile.clouds == CLEAR).mean(axis=(1, 2)) > 0.9) & ~np.isin(tile.optical.dates, hazy_or_dark)
    assert clear.sum() == 47
    assert clear_flagged(confusion_counts(tile.clouds[clear], masks[clear])) < 0.01
