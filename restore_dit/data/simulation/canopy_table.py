"""Builds the simulator's table of canopy reflectance: PROSPECT-D and 4SAIL in Sentinel-2A's ten bands.

    python -m restore_dit.data.simulation.canopy_table

writes `canopy_table.npz` next to this file, in six seconds. It requires `prosail` and `pyrsr`, which are development
dependencies only: importing prosail takes seconds of compilation, and a tile has a million pixels and dates at a
millisecond each.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.simulation.canopy import AXES, TABLE
from restore_dit.series import S2_BANDS

LEAF_LAYERS = 2.0
HOT_SPOT = 0.1
RELATIVE_AZIMUTH = (120.0, 60.0)
"""Degrees between sun and sensor if the sensor looks from the west (view angle below 0) and from the east."""

_WAVELENGTHS = np.arange(400, 2501)  # nanometres, of PROSPECT


def band_responses() -> NDArray[np.float64]:
    """Weights [10, 2101] of the wavelengths 400–2500 nm in Sentinel-2A's bands; each row sums to 1. Source: ESA,
    Sentinel-2 Spectral Response Functions, COPE-GSEG-EOPG-TN-15-0007, version 3.0, as in the package pyrsr."""
    from pyrsr.rsr import RSR_reader

    responses = RSR_reader("Sentinel-2A", "MSI")
    weights = np.zeros((len(S2_BANDS), len(_WAVELENGTHS)))
    for row, band in zip(weights, S2_BANDS, strict=True):
        wavelength, response = responses[band.removeprefix("B").removeprefix("0")].T
        row[wavelength.astype(int) - 400] = response
    return weights / weights.sum(axis=1, keepdims=True)


def leaf(chlorophyll: float, brown: float, water: float, dry_matter: float) -> tuple[NDArray, NDArray]:
    """Reflectance and transmittance [2101] of a leaf: pigments in µg/cm² (carotenoids a fifth of the chlorophyll),
    brown pigment in PROSPECT's arbitrary units, water and dry matter in g/cm²."""
    from prosail import run_prospect

    _, reflectance, transmittance = run_prospect(
        LEAF_LAYERS, chlorophyll, chlorophyll / 5, brown, water, dry_matter, ant=1.0, prospect_version="D"
    )
    return reflectance, transmittance


def coefficients(
    reflectance: NDArray, transmittance: NDArray, angle: float, leaf_area: float, sun: float, view: float
) -> NDArray[np.float64]:
    """Coefficients (a, b, c) [3, wavelengths] of the canopy's reflectance over soil of reflectance s: a + b·s/(1 −
    c·s).

    In the notation of 4SAIL (Verhoef et al. 2007, Unified optical-thermal four-stream radiative transfer theory), the
    reflectance is rso + s·tsstoo + s·[(tss + tsd)·tdo + (tsd + tss·s·rdd)·too]/(1 − s·rdd). The only approximation is
    that tsstoo replaces tss·too in the second-order term.
    """
    from prosail.FourSAIL import foursail

    # The terms used do not depend on the soil reflectance.
    tss, too, tsstoo, rdd, _, _, tsd, _, tdo, rso, *_ = foursail(
        reflectance,
        transmittance,
        angle,
        0.0,
        2,
        leaf_area,
        HOT_SPOT,
        sun,
        abs(view),
        RELATIVE_AZIMUTH[int(view > 0)],
        np.zeros_like(reflectance),
    )
    return np.stack([rso, tsstoo + (tss + tsd) * tdo + tsd * too, rdd])


def build_table(nodes: dict[str, tuple[float, ...]]) -> NDArray[np.float32]:
    """Coefficients on the grid of the given nodes: [*nodes of each of `AXES`, 3, 10], in the order of `AXES`."""
    weights = band_responses()
    used = weights.any(axis=0)
    leaf_axes, canopy_axes = [nodes[axis] for axis in AXES[:4]], [nodes[axis] for axis in AXES[4:]]

    def rows() -> Iterator[NDArray]:
        for pigments in product(*leaf_axes):
            reflectance, transmittance = (spectrum[used] for spectrum in leaf(*pigments))
            for angle, leaf_area, sun, view in product(*canopy_axes):
                yield coefficients(reflectance, transmittance, angle, leaf_area, sun, view) @ weights[:, used].T

    shape = tuple(len(nodes[axis]) for axis in AXES)
    return np.stack(list(rows())).reshape(*shape, 3, len(S2_BANDS)).astype(np.float32)


NODES = {
    "chlorophyll": (6.0, 22.0, 42.0, 70.0),
    "brown": (0.0, 0.4, 1.0),
    "water": (0.004, 0.016, 0.034),
    "dry_matter": (0.0025, 0.009),
    "angle": (35.0, 55.0, 70.0),
    "leaf_area": (0.25, 0.6, 1.1, 1.8, 2.8, 4.2, 6.5),
    "sun": (20.0, 35.0, 50.0, 62.0, 72.0),
    "view": (-10.0, 0.0, 10.0),
}
"""The grid of the shipped table, in µg/cm², PROSPECT's units, g/cm², g/cm², degrees (mean leaf angle), m²/m², degrees,
degrees."""


def main() -> None:
    """Builds and writes the table."""
    values = np.rint(build_table(NODES).clip(0, 1) * 65535).astype(np.uint16)
    path = Path(__file__).with_name(TABLE)
    arrays: dict[str, Any] = {"values": values} | {name: np.array(nodes) for name, nodes in NODES.items()}
    np.savez_compressed(path, **arrays)
    print(f"{path}: {values.shape}, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
