"""Gap filling without learning: the baselines that a model has to beat.

Each method fills the gaps of every pixel and band from that pixel's own observations, for all pixels at once.
`kriging_offset` also uses the other visible pixels of the frame.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from restore_dit.model.interpolation import krige

FloatArray = NDArray[np.floating]
Mask = NDArray[np.bool_]
Method = Callable[[FloatArray, Mask, NDArray[np.float64]], FloatArray]
"""(values [T, C, H, W] finite everywhere, observed [T, H, W], days [T]) → values for every frame. Every pixel has at
least one observation; values where nothing is observed are meaningless placeholders."""

YEAR = 365.25


def fill(name: str, values: FloatArray, gap_mask: Mask, days: NDArray[np.floating]) -> FloatArray:
    """The series with its gaps filled by the baseline `name`: [T, C, H, W], finite everywhere.

    Args:
        values: [T, C, H, W] on any scale; values in gaps are never read and may be NaN.
        gap_mask: [T, H, W], true where missing.
        days: [T] ascending.

    Observed pixels are returned exactly. A pixel that is never observed gets the mean of all observed values of its
    band (zero if the whole tile is one gap).

    Raises:
        KeyError: no baseline of this name.
    """
    method = BASELINES[name]
    observed = ~gap_mask
    known = np.where(gap_mask[:, None], 0, values)
    means = known.sum(axis=(0, 2, 3), dtype=np.float64) / max(int(observed.sum()), 1)
    filled = np.broadcast_to(means[:, None, None], values.shape).astype(values.dtype)
    seen = observed.any(axis=0)
    # Pixels with observations are passed as one row, so that no method sees a pixel without any.
    row = method(known[:, :, None, seen], observed[:, None, seen], np.asarray(days, dtype=np.float64))
    filled[:, :, seen] = row[:, :, 0]
    return np.where(gap_mask[:, None], filled, values)


def last(values: FloatArray, observed: Mask, days: NDArray[np.float64]) -> FloatArray:
    """The previous observation; before the first one, the first."""
    before, after = _neighbours(observed)
    return _take(values, np.where(before >= 0, before, after))


def next_(values: FloatArray, observed: Mask, days: NDArray[np.float64]) -> FloatArray:
    """The next observation; after the last one, the last."""
    before, after = _neighbours(observed)
    return _take(values, np.where(after < len(days), after, before))


def closest(values: FloatArray, observed: Mask, days: NDArray[np.float64]) -> FloatArray:
    """The observation closest in days; the earlier one of two at the same distance."""
    before, after = _neighbours(observed)
    earlier, later = _distances(before, after, days)
    return _take(values, np.where(earlier <= later, before, after))


def linear(values: FloatArray, observed: Mask, days: NDArray[np.float64]) -> FloatArray:
    """Linear interpolation in days between the previous and the next observation; beyond the first and the last, the
    nearest."""
    before, after = _neighbours(observed)
    earlier, later = _distances(before, after, days)
    only_after, only_before = before < 0, after >= len(days)
    span = earlier + later
    weight = np.divide(earlier, span, out=np.zeros_like(span), where=np.isfinite(span) & (span > 0))
    start = _take(values, np.where(only_after, after, before))
    end = _take(values, np.where(only_before, before, after))
    return start + weight[:, None].astype(values.dtype) * (end - start)


def harmonic(
    values: FloatArray, observed: Mask, days: NDArray[np.float64], *, harmonics: int = 2, ridge: float = 1.0
) -> FloatArray:
    """Least-squares fit of the mean and a few annual harmonics for each pixel and band.

    `ridge` is the weight, in observations, of the penalty on squared amplitudes. It keeps the fit close to the pixel's
    mean where there are few dates or they cover only part of the year. The mean is not penalised, so a constant stays
    constant.
    """
    frames, bands, height, width = values.shape
    angles = 2 * np.pi * np.outer(days, np.arange(1, harmonics + 1)) / YEAR
    design = np.concatenate([np.ones((frames, 1)), np.cos(angles), np.sin(angles)], axis=1)
    terms = design.shape[1]
    weights = observed.reshape(frames, -1).astype(np.float64)
    weighted = values.reshape(frames, bands, -1) * weights[:, None]
    # Fitting the deviations from the mean keeps the normal equations well scaled.
    mean = weighted.sum(axis=0) / weights.sum(axis=0)
    weighted -= mean * weights[:, None]
    products = (design[:, :, None] * design[:, None, :]).reshape(frames, -1)
    normal = (weights.T @ products).reshape(-1, terms, terms)
    normal += np.diag([0.0] + [ridge] * (terms - 1))
    moments = (design.T @ weighted.reshape(frames, -1)).reshape(terms, bands, -1).transpose(2, 0, 1)
    coefficients = np.linalg.solve(normal, moments)
    fitted = design @ coefficients.transpose(1, 2, 0).reshape(terms, -1)
    return fitted.reshape(frames, bands, height, width) + mean.reshape(bands, height, width)


def whittaker(values: FloatArray, observed: Mask, days: NDArray[np.float64], *, stiffness: float = 3.0) -> FloatArray:
    """Whittaker smoother: penalised least squares z on the acquisition dates (Eilers 2003, with first differences).

    Minimises Σ over observations (y − z)² + stiffness · ∫ z'², with `stiffness` in days: between distant dates z is
    linear, among close ones noise averages out. Second differences would continue linearly past the last observation
    and overshoot in long gaps; on two real sites with random cloud masks they were never better.
    """
    frames = len(days)
    weights = observed.reshape(frames, -1).astype(np.float64)
    right = values.reshape(frames, values.shape[1], -1) * weights[:, None]
    # Dates that coincide after rounding count as one day apart.
    coupling = stiffness / np.maximum(np.diff(days), 1.0)
    return _solve_chain(coupling, weights, right).reshape(values.shape)


def kriging(values: FloatArray, observed: Mask, days: NDArray[np.float64]) -> FloatArray:
    """Ordinary kriging in time: unknown mean, exponential covariance in days with a nugget; see `krige`."""
    return _kriged(values, observed, days)[0]


def kriging_offset(
    values: FloatArray, observed: Mask, days: NDArray[np.float64], *, shrinkage: float = 8.0
) -> FloatArray:
    """Kriging, plus the mean departure of each frame and band from it where the frame is visible.

    The offset is the mean of observed − kriged over the frame's n visible pixels that are also observed on another
    date, times n / (n + shrinkage), since fewer pixels say less about the others. A frame without any such pixel has no
    offset.
    """
    kriged, found = _kriged(values, observed, days)
    compared = (observed & found)[:, None]
    departure = np.where(compared, values - kriged, 0).sum(axis=(2, 3), keepdims=True)
    return kriged + departure / (compared.sum(axis=(2, 3), keepdims=True) + shrinkage)


BASELINES: dict[str, Method] = {
    "last": last,
    "next": next_,
    "closest": closest,
    "linear": linear,
    "harmonic": harmonic,
    "whittaker": whittaker,
    "kriging": kriging,
    "kriging_offset": kriging_offset,
}
"""Every baseline by its name, in the order of the tables."""


def _neighbours(observed: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each pixel and frame, the index of the observation at or before it (−1: none) and of the one at or after it
    (T: none)."""
    frames = len(observed)
    index = np.arange(frames)[:, None, None]
    before = np.maximum.accumulate(np.where(observed, index, -1), axis=0)
    after = np.minimum.accumulate(np.where(observed, index, frames)[::-1], axis=0)[::-1]
    return before, after


def _distances(
    before: NDArray[np.intp], after: NDArray[np.intp], days: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Days since the previous observation and until the next one; infinite where there is none."""
    now = days[:, None, None]
    return (
        np.where(before >= 0, now - days[before], np.inf),
        np.where(after < len(days), days[np.minimum(after, len(days) - 1)] - now, np.inf),
    )


def _take(values: FloatArray, frame: NDArray[np.intp]) -> FloatArray:
    """Values [T, C, H, W] taken, at each pixel, from the frame that `frame` [T, H, W] indexes."""
    return np.take_along_axis(values, frame[:, None], axis=0)


def _kriged(values: FloatArray, observed: Mask, days: NDArray[np.float64]) -> tuple[NDArray[np.float64], Mask]:
    """Every value estimated from the other dates, [T, C, H, W], and where another date is observed, [T, H, W]."""
    kriged = krige(
        torch.from_numpy(values.astype(np.float64))[None],
        torch.from_numpy(observed)[None, :, None],
        torch.from_numpy(days)[None],
    )
    return kriged.mean[0].numpy(), kriged.found[0, :, 0].numpy()


def _solve_chain(
    coupling: NDArray[np.float64], weights: NDArray[np.float64], right: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The z that minimises Σ weights·z² − 2·right·z + Σ coupling·(z[t+1] − z[t])², for all pixels at once.

    weights [T, P], coupling [T−1], right and z [T, C, P]. The system is tridiagonal: forward elimination in time, then
    back substitution. A pixel's pivots stay positive if it has at least one observation.
    """
    frames = len(weights)
    solution = right.copy()
    pivot = weights.copy()
    pivot[:-1] += coupling[:, None]
    pivot[1:] += coupling[:, None]
    for t in range(1, frames):
        factor = coupling[t - 1] / pivot[t - 1]
        pivot[t] -= coupling[t - 1] * factor
        solution[t] += factor * solution[t - 1]
    solution[-1] /= pivot[-1]
    for t in range(frames - 2, -1, -1):
        solution[t] = (solution[t] + coupling[t] * solution[t + 1]) / pivot[t]
    return solution
