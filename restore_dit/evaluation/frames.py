"""Errors frame by frame, and what they say of a method: where it falls below linear interpolation, and how far the mean
over so few frames may be trusted. All on the published scale."""

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
"""The method that a frame's reconstruction should not be worse than."""

TOLERANCE = 0.1
"""Decibels by which a frame may be below the reference before it counts as worse."""

RESAMPLES = 1000

Interval = tuple[float, float]
"""Where 95 % of the resampled values lie."""


@dataclass(frozen=True)
class FrameErrors:
    """The missing pixels of one scored frame: how many there are, and by method the sums over them of the squared and
    of the absolute error, both averaged over bands.

    series: the number of the frame's series among those of its tile. date: such as 2019-06-30. visible_share: share of
    the frame's known pixels that were shown. within: by method, of those that say how sure they are, which share of the
    missing values lies in their intervals of `LEVELS`.
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
        """dB; infinite where nothing is wrong."""
        return -10 * math.log10(self.squared[method] / self.missing) if self.squared[method] else math.inf


@dataclass(frozen=True)
class Comparison:
    """How a method's PSNR of missing pixels compares, in dB; intervals are None where there is but one frame.

    interval: of its mean over series. gain: its mean less the best baseline's, and gain_interval that difference's.
    below_linear: share of frames that are more than `TOLERANCE` below linear interpolation. worst_frame: the lowest
    difference of any frame to linear interpolation.
    """

    interval: Interval | None
    gain: float
    gain_interval: Interval | None
    below_linear: float
    worst_frame: float


def error_sums(
    target: NDArray[np.floating], prediction: NDArray[np.floating], pixels: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of the squared and of the absolute error over the given pixels of each frame, averaged over bands: [n] each.

    target, prediction: [n, C, H, W]. pixels: [n, H, W].
    """
    error = prediction.astype(np.float64) - target
    squared, absolute = np.square(error).mean(axis=1), np.abs(error).mean(axis=1)
    return (squared * pixels).sum(axis=(1, 2)), (absolute * pixels).sum(axis=(1, 2))


def compare(
    frames: Sequence[FrameErrors], means: Mapping[str, float], best: str, random: np.random.Generator
) -> dict[str, Comparison]:
    """Each method beside linear interpolation, frame by frame, and beside the best baseline.

    means: each method's PSNR of missing pixels, pooled over the frames of a series and averaged over series. best: the
    method that the others are compared with.
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


def coverage(frames: Sequence[FrameErrors]) -> dict[str, dict[PixelSet, tuple[float, ...]]]:
    """By method, of those that say how sure they are, the share of missing values within its intervals: of all, of
    wholly hidden frames and of partly visible ones, as far as there are any."""
    kinds: dict[PixelSet, list[FrameErrors]] = {
        "missing": list(frames),
        "hidden_frames": [frame for frame in frames if frame.visible_share == 0],
        "partial_frames": [frame for frame in frames if frame.visible_share > 0],
    }

    def of(method: str, chosen: Sequence[FrameErrors]) -> tuple[float, ...]:
        weights = [frame.missing for frame in chosen]
        shares = np.average([frame.within[method] for frame in chosen], axis=0, weights=weights)
        return tuple(map(float, shares))

    methods = frames[0].within if frames else {}
    return {method: {kind: of(method, chosen) for kind, chosen in kinds.items() if chosen} for method in methods}


def frames_csv(frames: Sequence[FrameErrors]) -> str:
    """A line for each frame and method, in full precision."""
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

    Tiles are drawn with replacement, and of each tile its frames: frames of one tile are alike, so that many frames of
    few tiles say little of other tiles. Of a single tile only the frames are drawn. A series of several frames is
    pooled from those that were drawn; it counts by how many of its frames were.
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
            with np.errstate(divide="ignore"):  # where nothing is wrong PSNR is infinite
                np.add.at(totals, resample[hit], weight[:, None] * -10 * np.log10(mse))
            np.add.at(weights, resample[hit], weight)
    return totals / weights[:, None]


def _interval(values: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
