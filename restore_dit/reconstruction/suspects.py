"""Suspect pixels: observed, but probably under cloud, haze or shadow that the mask missed.

An observation is compared with what the other dates of its pixel say: kriging without it, and the nearest observations
before and after. Only what lies outside all of these departs. A change that lasts, such as a harvest, agrees with the
dates after it; a cloud agrees with neither side.

A departure is suspect if it looks like cloud or shadow. A cloud of reflectance c over ground of reflectance g adds
about c · (cloud − g) to each band, a shadow takes away a share of g that grows with the wavelength. The amount is
estimated by generalised least squares, with the covariance that departures have in this series where nothing is amiss.
It must be large and improbable and explain most of the departure, over a piece of connected pixels: single pixels are
no clouds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from restore_dit.model.interpolation import krige
from restore_dit.series import REFLECTANCE_SCALE, S2_BANDS, Acquisitions, days_since_origin

_CLOUD = dict(zip(S2_BANDS, (1.0, 0.98, 0.97, 0.97, 0.96, 0.96, 0.96, 0.95, 0.75, 0.60), strict=True))
"""Reflectance of a thick cloud. It absorbs in the short-wave infrared."""

_SHADE = dict(zip(S2_BANDS, (0.40, 0.52, 0.60, 0.64, 0.68, 0.70, 0.71, 0.72, 0.80, 0.84), strict=True))
"""Share of the ground's reflectance that a full shadow takes away. Skylight remains, strongest in the blue."""


class _Limits(NamedTuple):
    """What a departure must exceed.

    amount: reflectance of the cloud, or strength of the shadow from 0 to 1. deviations: standard deviations of the
    amount. share: share of the squared departure that cloud or shadow explain, from 0 to 1. amount_at_end: the amount
    where nothing was observed before, or nothing after, so that a change is not told from a cloud.
    """

    amount: float
    deviations: float
    share: float
    amount_at_end: float


class _Kind(NamedTuple):
    """Cloud or shadow: the place of its sums among those of `_sums`, and the limits that a piece must exceed somewhere,
    in its core, and everywhere, to its rim."""

    sums: slice
    core: _Limits
    rim: _Limits


_KINDS = {
    "cloud": _Kind(slice(0, 4), core=_Limits(0.05, 3, 0.8, 0.2), rim=_Limits(0.025, 2, 0.5, 0.1)),
    "shadow": _Kind(slice(4, 8), core=_Limits(0.5, 3, 0.8, 0.7), rim=_Limits(0.25, 2, 0.5, 0.4)),
}
"""Chosen on simulated tiles; docs/results.md says what they find and what they mistake. Rain on bare soil looks like a
third of a shadow."""

SMALLEST_PIECE = 12
"""Minimum number of connected pixels."""

LEAST_DATES = 4
"""Minimum number of observations of a pixel: fewer say nothing about each other."""

_WINDOW = 3
"""Side in pixels of the square over which departures are averaged: misregistration shows in single pixels."""

_SAMPLE, _ROBUST_STEPS, _LEAST_VARIANCE = 512, 8, 1e-6
"""Number of pixels from which the covariance is estimated, of steps to make it robust, and the least variance of a band
(a thousandth of reflectance)."""

_STRIP = 8192
"""Number of pixels of a strip of rows: only one strip at a time is held as floating-point numbers."""

_NEIGHBOURS = np.ones((3, 3), bool)


def find_suspects(
    optical: Acquisitions, frames: NDArray[np.intp], observed: NDArray[np.bool_], bands: Sequence[str]
) -> NDArray[np.bool_]:
    """The suspect pixels [n, H, W] of a series, all of them observed.

    optical: the series; values that are not observed are never read. frames: [n] ascending indices of the frames to
    compare. observed: [n, H, W]. bands: names of the bands to compare, of `S2_BANDS`.
    """
    height, width = observed.shape[1:]
    suspect = np.zeros(observed.shape, bool)
    usable = observed & (observed.sum(axis=0) >= LEAST_DATES)
    series = _Series(optical.values, frames, [optical.bands.index(band) for band in bands], optical.dates)
    spectra = _Spectra.of(series, usable, bands)
    if spectra is None:
        return suspect
    found = {name: _Found(np.zeros_like(suspect), np.zeros_like(suspect)) for name in _KINDS}
    changed = np.ones(height, bool)
    # Beside a cloud that is still in the series, the ground looks like shadow: clouds come first.
    for names in (("cloud",), ("cloud", "shadow")):
        remaining = usable & ~suspect
        for rows in _strips(height, width):
            if changed[rows].any():
                _search(series, remaining, spectra, rows, found)
        new = np.zeros_like(suspect)
        for core, rim in (found[name] for name in names):
            for frame in np.flatnonzero(core.any(axis=(1, 2))):
                new[frame] |= _pieces(core[frame], rim[frame])
        suspect |= new
        changed = ndimage.binary_dilation(new.any(axis=(0, 2)), iterations=_WINDOW // 2)
    return suspect


class _Series(NamedTuple):
    """The n frames and C bands to compare of `values` [T, K, H, W] and `dates` [T]. They are copied only in part: a
    series may take gigabytes."""

    values: NDArray[np.int16]
    frames: NDArray[np.intp]
    bands: list[int]
    dates: NDArray[np.datetime64]

    def reflectance(self, rows: slice | NDArray[np.intp], columns: slice | NDArray[np.intp]) -> Tensor:
        """The reflectance [n, C, …] of some pixels."""
        part = self.values[:, :, rows, columns][self.frames][:, self.bands]
        return torch.from_numpy(part.astype(np.float32) / REFLECTANCE_SCALE)

    @property
    def days(self) -> Tensor:
        """The dates [n] in days."""
        return torch.from_numpy(days_since_origin(self.dates[self.frames]))


class _Spectra(NamedTuple):
    """Cloud and shade [C, 1] of the bands, the inverse [C, C] of the covariance of departures, and the inverse of its
    diagonal [C, 1]."""

    cloud: Tensor
    shade: Tensor
    inverse: Tensor
    weight: Tensor

    @classmethod
    def of(cls, series: _Series, observed: NDArray[np.bool_], bands: Sequence[str]) -> _Spectra | None:
        """Those of a series; None if too little is observed to know how its dates scatter."""
        enough = np.flatnonzero(observed.any(axis=0))
        chosen = np.random.default_rng(0).permutation(enough)[:_SAMPLE]
        rows, columns = np.unravel_index(chosen, observed.shape[1:])
        sample, seen = series.reflectance(rows, columns), torch.from_numpy(observed[:, rows, columns])
        cloud, shade = (torch.tensor([each[band] for band in bands])[:, None] for each in (_CLOUD, _SHADE))
        spectra = None
        for _ in range(2):  # the second time without what departs most
            departures = _standardised(sample, seen, series.days)
            if len(departures) < 10 * len(bands):
                return spectra
            covariance = _robust_covariance(departures)
            inverse, weight = torch.linalg.inv(covariance), 1 / covariance.diagonal()
            spectra = cls(cloud, shade, inverse.float(), weight.float()[:, None])
            sums = _sums(sample, seen, series.days, spectra)
            for kind in _KINDS.values():
                seen = seen & ~_exceeds(sums, kind, kind.core)
        return spectra


def _standardised(values: Tensor, observed: Tensor, days: Tensor) -> Tensor:
    """The departures [N, C] of observed values [n, C, P] from kriging without them, divided by its deviation relative
    to the ground's."""
    kriged = krige(values[None, ..., None], observed[None, :, None, :, None], days[None])
    departures = (values - kriged.mean[0, ..., 0]) / kriged.variance[0, ..., 0].sqrt()
    return departures.swapaxes(1, 2)[kriged.found[0, :, 0, :, 0] & observed].double()


def _robust_covariance(departures: Tensor) -> Tensor:
    """The scatter [C, C] of departures [N, C] around 0 under Student's t distribution of one degree of freedom (Kent,
    Tyler and Vardi 1994), in which the large ones, such as missed clouds, count little."""
    bands = departures.shape[1]
    least = _LEAST_VARIANCE * torch.eye(bands, dtype=departures.dtype)
    covariance = departures.T @ departures / len(departures) + least
    for _ in range(_ROBUST_STEPS):
        distance = (departures @ torch.linalg.inv(covariance) * departures).sum(dim=1)
        trust = (1 + bands) / (1 + distance)
        covariance = (departures.T * trust) @ departures / trust.sum() + least
    return covariance


def _sums(values: Tensor, observed: Tensor, days: Tensor, spectra: _Spectra) -> Tensor:
    """The sums over bands from which `_exceeds` concludes, [11, n, P], of values [n, C, P]: for cloud, then shadow, the
    product of departure and signature and the signature's square, weighted by the inverse covariance and by its
    diagonal; the departure's square, weighted by the latter; 1 where there is a departure; and 1 where, moreover, there
    are observations both before and after."""
    seen = observed[:, None]
    kriged = krige(values[None, ..., None], seen[None, ..., None], days[None])
    ground = kriged.mean[0, ..., 0]
    low, high, sides = _range_of_others(values, seen, ground)
    departure = values - torch.minimum(torch.maximum(values, low), high)
    known = kriged.found[0, ..., 0] & seen
    precision = torch.where(known, 1 / kriged.variance[0, ..., 0], 0)
    departure = torch.where(known, departure, 0)
    ground = ground.clamp(0, 1)
    square = (departure.square() * spectra.weight).sum(dim=1) * precision[:, 0]
    sums = []
    for signature in (spectra.cloud - ground, -spectra.shade * ground):
        for weighted in (spectra.inverse @ signature, spectra.weight * signature):
            weighted *= precision
            sums += [(departure * weighted).sum(dim=1), (signature * weighted).sum(dim=1)]
    return torch.stack([*sums, square, *(each[:, 0].to(values.dtype) for each in (known, known & (sides == 2)))])


def _range_of_others(values: Tensor, observed: Tensor, kriged: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The lowest and the highest of kriging and of the nearest observations before and after, [n, C, P], and the number
    [n, 1, P] of the latter."""
    low, high = kriged.clone(), kriged.clone()
    sides = torch.zeros_like(observed, dtype=torch.uint8)
    for order in (range(len(values)), range(len(values) - 1, -1, -1)):
        nearest, exists = values[order[0]], torch.zeros_like(observed[0])
        for frame in order:
            torch.where(exists, torch.minimum(low[frame], nearest), low[frame], out=low[frame])
            torch.where(exists, torch.maximum(high[frame], nearest), high[frame], out=high[frame])
            sides[frame] += exists
            nearest = torch.where(observed[frame], values[frame], nearest)
            exists = exists | observed[frame]
    return low, high, sides


def _exceeds(sums: Tensor, kind: _Kind, limits: _Limits) -> Tensor:
    """Where the departures behind the sums [11, …] exceed the limits."""
    product, square, plain_product, plain_square = sums[kind.sums]
    is_between = sums[10] > sums[9] / 2
    amount = product / square.clamp(min=1e-9)
    deviations = product / (square * sums[9]).clamp(min=1e-9).sqrt()
    explained = plain_product.square() > limits.share * plain_square * sums[8]
    large = torch.where(is_between, amount > limits.amount, amount > limits.amount_at_end)
    return large & (deviations > limits.deviations) & explained & (plain_product > 0)


class _Found(NamedTuple):
    """Where departures exceed the limits of core and rim, each [n, H, W]."""

    core: NDArray[np.bool_]
    rim: NDArray[np.bool_]


def _strips(height: int, width: int) -> Iterator[slice]:
    rows = max(_STRIP // width, 8)
    return (slice(row, min(row + rows, height)) for row in range(0, height, rows))


def _search(
    series: _Series,
    observed: NDArray[np.bool_],
    spectra: _Spectra,
    rows: slice,
    found: dict[str, _Found],
) -> None:
    """Finds what exceeds the limits in a strip of rows, and notes it in `found`."""
    first = max(rows.start - _WINDOW // 2, 0)
    around = slice(first, rows.stop + _WINDOW // 2)
    inside = slice(rows.start - first, rows.stop - first)
    seen = observed[:, around]
    size = seen.shape[1:]
    values = series.reflectance(around, slice(None)).flatten(2)
    sums = _sums(values, torch.from_numpy(seen).flatten(1), series.days, spectra)
    sums = functional.avg_pool2d(sums.unflatten(2, size), _WINDOW, stride=1, padding=_WINDOW // 2)
    for name, kind in _KINDS.items():
        for where, limits in zip(found[name], (kind.core, kind.rim), strict=True):
            where[:, rows] = (_exceeds(sums, kind, limits).numpy() & seen)[:, inside]


def _pieces(core: NDArray[np.bool_], rim: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pieces of a frame [H, W] that reach from a core to its rim and have `SMALLEST_PIECE` pixels."""
    numbers, _ = ndimage.label(core | rim, _NEIGHBOURS)
    has_core = np.zeros(numbers.max() + 1, bool)
    has_core[numbers[core]] = True
    large = np.bincount(numbers.ravel()) >= SMALLEST_PIECE
    return (large & has_core)[numbers] & (numbers > 0)
