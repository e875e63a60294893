"""Per-frame errors and what follows from them: where a method falls below linear interpolation, and how reliable a mean
over few frames is. All on the published scale."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from restore_dit.evaluation.metrics import PixelSet

REFERENCE = "linear"
"""The method that no frame's reconstruction should fall below."""

TOLERANCE = 0.1
"""Decibels by which a frame may be below the reference before it counts as worse."""

RESAMPLES = 1000

Interval = tuple[float, float]
"""Bounds of the central 95 % of the resampled values."""


@dataclass(frozen=True)
class FrameErrors:
    """Errors over the missing pixels of one scored frame.

    - `series`: index of the frame's series among those of its tile.
    - `date`: in the form 2019-06-30.
    - `missing`: number of missing pixels.
    - `visible_share`: share of the frame's known pixels that were shown.
    - `squared`, `absolute`: by method, the sum over the missing pixels of the squared and of the absolute error,
      averaged over bands.
    - `within`: for methods that predict their uncertainty, the share of missing values within their intervals of
      `LEVELS`.
    """

    tile_id: str
    series: int
    date: str
    missing: int
    visible_share: float
    squared: Mapping[str, float]
    absolute: Mapping[str, float]
    within: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def psnr(self, method: str) -> float:
        """PSNR in dB over the missing pixels; infinite for a perfect reconstruction."""
        return -10 * math.log10(self.squared[method] / self.missing) if self.squared[method] else math.inf


@dataclass(frozen=True)
class Comparison:
    """How a method's PSNR of missing pixels compares with others, in dB; intervals are None if there is only one frame.

    - `interval`: of its mean over series.
    - `gain`, `gain_interval`: its mean minus that of the best baseline, and the interval of this difference.
    - `below_linear`: share of frames that are more than `TOLERANCE` below linear interpolation.
    - `worst_frame`: the lowest difference of any frame to linear interpolation.
    """

    interval: Interval | None
    gain: float
    gain_interval: Interval | None
    below_linear: float
    worst_frame: float


@dataclass(frozen=True)
class Coverage:
    """How much of a method's intervals hold, one number for each of `LEVELS`: the `shares` of missing values within
    them, and the standard `errors` of these. A frame's errors are alike, so the shares are as uncertain as the number
    of frames is small; the errors are None if there is only one."""

    shares: tuple[float, ...]
    errors: tuple[float, ...] | None


def error_sums(
    target: NDArray[np.floating], prediction: NDArray[np.floating], pixels: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of the squared and of the absolute error, averaged over bands, over the selected pixels of each frame: [n]
    each.

    target, prediction: [n, C, H, W]. pixels: [n, H, W] bool.
    """
    error = prediction.astype(np.float64) - target
    squared, absolute = np.square(error).mean(axis=1), np.abs(error).mean(axis=1)
    return (squared * pixels).sum(axis=(1, 2)), (absolute * pixels).sum(axis=(1, 2))


def compare(
    frames: Sequence[FrameErrors], means: Mapping[str, float], best: str, random: np.random.Generator
) -> dict[str, Comparison]:
    """Compares each method with linear interpolation, frame by frame, and with the best baseline.

    Args:
        means: each method's PSNR of missing pixels in dB, pooled over the frames of a series and averaged over series.
        best: the baseline that the other methods are compared with.
    """
    methods = list(means)
    psnr = np.array([[frame.psnr(method) for method in methods] for frame in frames])
    behind = psnr - psnr[:, [methods.index(REFERENCE)]]
    resampled = _resampled_means(frames, methods, random)
    gains = resampled - resampled[:, [methods.index(best)]]
    alone = len(frames) == 1
    return {
        method: Comparison(
            interval=None if alone else _interval(resampled[:, column]),
            gain=means[method] - means[best],
            gain_interval=None if alone else _interval(gains[:, column]),
            below_linear=float((behind[:, column] < -TOLERANCE).mean()),
            worst_frame=float(behind[:, column].min()),
        )
        for column, method in enumerate(methods)
    }


def coverage(frames: Sequence[FrameErrors]) -> dict[str, dict[PixelSet, Coverage]]:
    """For methods that predict their uncertainty, the coverage of their intervals: over all frames, over entirely
    hidden frames and over partly visible ones, where there are any."""
    kinds: dict[PixelSet, list[FrameErrors]] = {
        "missing": list(frames),
        "hidden_frames": [frame for frame in frames if frame.visible_share == 0],
        "partial_frames": [frame for frame in frames if frame.visible_share > 0],
    }

    def of(method: str, chosen: Sequence[FrameErrors]) -> Coverage:
        weights = np.array([frame.missing for frame in chosen]) / sum(frame.missing for frame in chosen)
        each = np.array([frame.within[method] for frame in chosen])
        shares = weights @ each
        if len(chosen) == 1:
            return Coverage(tuple(map(float, shares)), None)
        errors = np.sqrt(np.square(weights) @ np.square(each - shares) * len(chosen) / (len(chosen) - 1))
        return Coverage(tuple(map(float, shares)), tuple(map(float, errors)))

    methods = frames[0].within if frames else {}
    return {method: {kind: of(method, chosen) for kind, chosen in kinds.items() if chosen} for method in methods}


def frames_csv(frames: Sequence[FrameErrors]) -> str:
    """CSV with one line per frame and method, in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["tile", "date", "method", "missing_pixels", "visible_share", "squared_error_sum", "psnr", "mae"])
    for frame in frames:
        for method, squared in frame.squared.items():
            mae = frame.absolute[method] / frame.missing
            shown = (frame.missing, frame.visible_share, squared, frame.psnr(method), mae)
            writer.writerow([frame.tile_id, frame.date, method, *shown])
    return text.getvalue()


def _resampled_means(
    frames: Sequence[FrameErrors], methods: Sequence[str], random: np.random.Generator
) -> NDArray[np.float64]:
    """Mean PSNR over series of resampled tiles and frames, [RESAMPLES, methods].

    Tiles are drawn with replacement, and within each tile its frames: frames of one tile are similar, so that many
    frames of few tiles say little about other tiles. With a single tile only the frames are resampled. A series of
    several frames is pooled from the frames drawn and weighted by their number.
    """
    tiles = [list(own) for _, own in groupby(frames, lambda frame: frame.tile_id)]
    times = random.multinomial(len(tiles), np.full(len(tiles), 1 / len(tiles)), size=RESAMPLES)
    totals, weights = np.zeros((RESAMPLES, len(methods))), np.zeros(RESAMPLES)
    for number, own in enumerate(tiles):
        resample = np.repeat(np.arange(RESAMPLES), times[:, number])
        drawn = random.multinomial(len(own), np.full(len(own), 1 / len(own)), size=len(resample))
        squared = np.array([[frame.squared[method] for method in methods] for frame in own])
        missing = np.array([frame.missing for frame in own])
        series = np.array([frame.series for frame in own])
        for one in np.unique(series):
            counts = drawn[:, series == one]
            hit = counts.any(axis=1)
            weight = counts[hit].mean(axis=1)
            mse = (counts[hit] @ squared[series == one]) / (counts[hit] @ missing[series == one])[:, None]
            with np.errstate(divide="ignore"):  # PSNR is infinite where there is no error
                np.add.at(totals, resample[hit], weight[:, None] * -10 * np.log10(mse))
            np.add.at(weights, resample[hit], weight)
    return totals / weights[:, None]


def _interval(values: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
