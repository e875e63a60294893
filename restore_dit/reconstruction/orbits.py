"""Differences between the relative orbits from which a place is seen, estimated from the series itself.

Where two swaths of Sentinel-2 overlap, consecutive dates look at the ground from the east and from the west. Vegetation
seen from the sun's side is brighter, so the dates of one orbit differ from those of the other, in every band, by more
than the ground changes in the days between. Whoever fills a date from its neighbours has to know which of them share
its orbit. No metadata are needed for that: an orbit repeats every five days (ten for each satellite, and the second
follows the first after five), so dates with the same remainder of days by five share it.

The model is that of kriging with a random effect: a pixel's value is its mean, a process in time, an effect of its
orbit common to all pixels, and noise. The best linear unbiased prediction of the effects (Henderson 1975) is averaged
over pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

REPEAT = 5
"""Days after which an orbit is repeated by either of the two satellites."""

_TIME_SCALE, _NOISE, _EFFECT = 60.0, 0.1, 0.05
"""Days over which the process in time loses its correlation, and the variances of the noise and of an orbit's effect in
units of the variance of that process: chosen on simulated tiles (0.015 to 0.1 are within 0.16 dB)."""

_MIN_EVIDENCE = 0.1
"""Least gain in log-likelihood of a pixel, mean of pixels and bands, for which offsets are used. On simulated tiles of
two orbits, what is below gains nothing."""

_PIXELS, _MIN_DATES = 256, 6
"""Maximum number of pixels used, and the number of dates on which each must be visible."""


class OrbitOffsets(NamedTuple):
    """What is particular to each of G orbits, in stored units (reflectance × 10000).

    orbit: [n] index of each date's orbit. effects: int16 [G, C]. without: int16 [n, G, C], the effects as estimated
    without the date i, to test what is filled on it.
    """

    orbit: NDArray[np.intp]
    effects: NDArray[np.int16]
    without: NDArray[np.int16]

    def of_dates(self, left_out: int | None = None) -> NDArray[np.int16]:
        """The offset of each date [n, C]; if a date is left out, as estimated without it."""
        return (self.effects if left_out is None else self.without[left_out])[self.orbit]

    @property
    def differences(self) -> NDArray[np.float64]:
        """[C] the largest difference between two orbits in reflectance."""
        return np.ptp(self.effects.astype(np.int64), axis=0) / 10_000

    def attributes(self, bands: Sequence[str]) -> dict[str, str]:
        """The differences by band, as attributes of the result."""
        differences = " ".join(f"{band} {each:.4f}" for band, each in zip(bands, self.differences, strict=True))
        return {"ORBITS": str(len(self.effects)), "ORBIT_DIFFERENCES": differences}

    def remark(self, bands: Sequence[str]) -> str:
        """One line for the log."""
        largest = int(self.differences.argmax())
        return (
            f"seen from {len(self.effects)} orbits, whose dates differ by up to {self.differences[largest]:.4f} "
            f"({bands[largest]})"
        )


def estimate_orbit_offsets(
    values: NDArray[np.int16], frames: NDArray[np.intp], visible: NDArray[np.bool_], days: NDArray[np.floating]
) -> OrbitOffsets | None:
    """The offsets of the orbits of one series.

    values: [T, C, H, W] in stored units. frames: [n] indices of those to use. visible: [n, H, W]. days: [n], whole
    numbers.

    Returns:
        None if all dates share an orbit, or if offsets hardly raise the restricted likelihood of the series: then
        too few dates are visible, or the remainders by five mean nothing, as with composites.
    """
    _, orbit = np.unique(np.round(days).astype(np.int64) % REPEAT, return_inverse=True)
    orbits = int(orbit.max(initial=0)) + 1
    flat_visible = visible.reshape(len(visible), -1)
    enough = np.flatnonzero(flat_visible.sum(axis=0) >= _MIN_DATES)
    if orbits < 2 or not len(enough):
        return None
    chosen = np.random.default_rng(0).choice(enough, min(_PIXELS, len(enough)), replace=False)
    # Only these pixels are copied: a series may take gigabytes.
    rows, columns = np.divmod(chosen, values.shape[3])
    picked = values[:, :, rows, columns][frames].astype(np.float64)
    member = np.eye(orbits)[orbit]
    plain = np.exp(-np.abs(days[:, None] - days) / _TIME_SCALE) + _NOISE * np.eye(len(days))
    mixed = plain + _EFFECT * member @ member.T
    effects = np.zeros((orbits, values.shape[1]))
    without = np.zeros((len(days), *effects.shape))
    evidence = 0.0
    for place, pixel in enumerate(chosen):
        seen = np.flatnonzero(flat_visible[:, pixel])
        own, at = picked[seen, :, place], np.ix_(seen, seen)
        inverse, without_effects = (np.linalg.inv(each[at]).astype(np.float64) for each in (mixed, plain))
        evidence += _likelihood(own, mixed[at], inverse) - _likelihood(own, plain[at], without_effects)
        of_pixel, left_out = _effects(own, member[seen], inverse)
        effects += of_pixel
        without += of_pixel
        without[seen] += left_out - of_pixel
    if evidence <= _MIN_EVIDENCE * len(chosen):
        return None
    stored = [np.round(_EFFECT * part / len(chosen)).clip(-5000, 5000).astype(np.int16) for part in (effects, without)]
    return OrbitOffsets(orbit, *stored)


def _effects(
    values: NDArray[np.float64], member: NDArray[np.float64], inverse: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The effects [G, C] that the values [k, C] of one pixel show, in units of `_EFFECT`, and those [k, G, C] without
    each of its dates. member: [k, G], 1 for the orbit of a date. inverse: [k, k] of the covariance.

    Without a date, the inverse loses the outer product of its column, divided by the diagonal element.
    """
    summed, weighted, diagonal = inverse.sum(axis=0), inverse @ values, inverse.diagonal()
    of_orbit = member.T @ inverse
    mean = summed @ values / summed.sum()
    effects = of_orbit @ values - of_orbit.sum(axis=1)[:, None] * mean
    loss = (of_orbit / diagonal).T  # [k, G]
    means = (summed @ values - (summed / diagonal)[:, None] * weighted) / (summed.sum() - summed**2 / diagonal)[:, None]
    totals = of_orbit.sum(axis=1) - loss * summed[:, None]
    left_out = of_orbit @ values - loss[:, :, None] * weighted[:, None] - totals[:, :, None] * means[:, None]
    return effects, left_out


def _likelihood(values: NDArray[np.float64], covariance: NDArray[np.float64], inverse: NDArray[np.float64]) -> float:
    """Restricted log-likelihood of the values [k, C] of a pixel, mean of the bands, up to a constant. Each band has a
    mean of its own, and a variance by which the covariance is scaled, plus that of rounding, about 1."""
    summed, freedom = inverse.sum(axis=0), len(values) - 1
    departures = values - summed @ values / summed.sum()
    variance = np.einsum("kc,kl,lc->c", departures, inverse, departures) / freedom
    of_bands = freedom * np.log(variance + 1) + np.linalg.slogdet(covariance)[1] + np.log(summed.sum())
    return float(-of_bands.mean() / 2)
