"""How close a reconstructed series is to the true one: MAE, RMSE, PSNR, SAM and SSIM.

Scores are computed per series over all, missing and observed pixels, and separately over the missing pixels of entirely
hidden and of partly visible frames; then they are averaged over series. The caller chooses the scale of the values and
names it in the result. Published figures use clamp(DN, 0, 8000)/8000, where 1 means a reflectance of 0.8; in true
reflectance the same errors are 0.8 times as large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, maximum_filter

PUBLISHED_SCALE = "published scale"
REFLECTANCE = "reflectance"

PixelSet = Literal["all", "missing", "hidden_frames", "partial_frames", "observed"]
"""`hidden_frames` and `partial_frames` are subsets of `missing`: the missing pixels of frames without any visible known
pixel, and of all other frames."""

PIXEL_SETS: tuple[PixelSet, ...] = get_args(PixelSet)

FloatArray = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SetScores:
    """Scores over one set of pixels; None if the series has no pixel (SSIM: no frame, SAM: no angle) in it.

    - `mae`, `rmse`: in units of the scale; `mse` in their square.
    - `psnr`: in dB for a value range of 1; infinite for a perfect reconstruction.
    - `sam`: mean angle between spectra in degrees.
    - `ssim`: at most 1; computed over whole *frames*: those with any missing pixel for `missing` (and the respective
      ones for its two subsets), those with none for `observed`.
    """

    mae: float | None = None
    mse: float | None = None
    rmse: float | None = None
    psnr: float | None = None
    sam: float | None = None
    ssim: float | None = None


METRICS = tuple(field.name for field in fields(SetScores))


@dataclass(frozen=True)
class SeriesScores:
    """One series' scores over its pixel sets, on the scale named by `scale_name`."""

    scale_name: str
    all: SetScores
    missing: SetScores
    hidden_frames: SetScores
    partial_frames: SetScores
    observed: SetScores

    def over(self, pixels: PixelSet) -> SetScores:
        """The scores of one pixel set."""
        scores: SetScores = getattr(self, pixels)
        return scores


@dataclass(frozen=True)
class AverageScores(SeriesScores):
    """Means over `series` series; `counted` is the number of series that have pixels in each set."""

    series: int
    counted: dict[PixelSet, int]


def published_scale(reflectance: FloatArray) -> FloatArray:
    """Surface reflectance on the scale of the published figures, clamp(DN, 0, 8000)/8000. NaN stays NaN."""
    return np.clip(reflectance / 0.8, 0, 1)


def score_series(
    target: FloatArray,
    prediction: FloatArray,
    gap_mask: Mask,
    target_cloud_mask: Mask | None,
    *,
    scale_name: str,
) -> SeriesScores:
    """Scores of one series.

    Args:
        target: [T, C, H, W] on the scale `scale_name`. NaN means no data; such pixels are excluded everywhere.
        prediction: [T, C, H, W] on the same scale.
        gap_mask: [T, H, W], true where the input was missing.
        target_cloud_mask: [T, H, W], true where the target itself is cloudy; such pixels are excluded from everything
            except SSIM, as in the published evaluation.
    """
    usable = ~np.isnan(target).any(axis=1)
    if target_cloud_mask is not None:
        usable &= ~target_cloud_mask
    # In float64: sums over a million pixels in float32 would differ in the digits that reports show.
    error = prediction.astype(np.float64) - target
    absolute, squared = np.abs(error).mean(axis=1), np.square(error).mean(axis=1)
    angle = spectral_angle(target, prediction)
    dissimilarity = np.array([frame_dissimilarity(*frames) for frames in zip(target, prediction, strict=True)])
    gap_frames = np.asarray(gap_mask.any(axis=(1, 2)))
    visible = np.asarray((usable & ~gap_mask).any(axis=(1, 2)))

    def over(pixels: Mask, frames: Mask) -> SetScores:
        ssim = _ssim(dissimilarity[frames])
        if not (pixels := pixels & usable).any():
            return SetScores(ssim=ssim)
        mse = float(squared[pixels].mean())
        angles = angle[pixels & ~np.isnan(angle)]
        return SetScores(
            mae=float(absolute[pixels].mean()),
            mse=mse,
            rmse=float(np.sqrt(mse)),
            psnr=float(-10 * np.log10(mse)) if mse else float("inf"),
            sam=float(angles.mean()) if angles.size else None,
            ssim=ssim,
        )

    return SeriesScores(
        scale_name,
        all=over(np.ones_like(gap_mask), np.ones_like(gap_frames)),
        missing=over(gap_mask, gap_frames),
        hidden_frames=over(gap_mask & ~visible[:, None, None], gap_frames & ~visible),
        partial_frames=over(gap_mask & visible[:, None, None], gap_frames & visible),
        observed=over(~gap_mask, ~gap_frames),
    )


def score_frames(
    target: FloatArray,
    prediction: FloatArray,
    gap_mask: Mask,
    target_cloud_mask: Mask | None,
    *,
    frames: Sequence[int] | NDArray[np.integer],
    scale_name: str,
) -> SeriesScores:
    """`score_series` over the given frames only, such as the one frame that a protocol hides."""
    chosen = np.asarray(frames)
    return score_series(
        target[chosen],
        prediction[chosen],
        gap_mask[chosen],
        None if target_cloud_mask is None else target_cloud_mask[chosen],
        scale_name=scale_name,
    )


def spectral_angle(target: FloatArray, prediction: FloatArray) -> NDArray[np.float64]:
    """Angle between the spectra of two series [T, C, H, W]: [T, H, W] in degrees; NaN where a spectrum has zero norm.

    Uses Kahan's half-angle form: the arc cosine loses half the digits of small angles and is not exactly zero for equal
    spectra.
    """
    first, second = _directions(target), _directions(prediction)
    opposite = np.linalg.norm(first - second, axis=1)
    adjacent = np.linalg.norm(first + second, axis=1)
    return np.degrees(2 * np.arctan2(opposite, adjacent))


def average_scores(scores: Sequence[SeriesScores]) -> AverageScores:
    """Mean of each score over the series that have it.

    Raises:
        ValueError: the scores are not all on one scale, or there are none.
    """
    scales = {one.scale_name for one in scores}
    if len(scales) != 1:
        raise ValueError(f"expected scores on one scale, got {sorted(scales) or 'none'}")
    means = {pixels: _mean([one.over(pixels) for one in scores]) for pixels in PIXEL_SETS}
    counted = {pixels: sum(one.over(pixels).mae is not None for one in scores) for pixels in PIXEL_SETS}
    return AverageScores(scales.pop(), **means, series=len(scores), counted=counted)


def _mean(scores: Sequence[SetScores]) -> SetScores:
    means: dict[str, float | None] = {}
    for metric in METRICS:
        present = [value for one in scores if (value := getattr(one, metric)) is not None]
        means[metric] = float(np.mean(present)) if present else None
    return SetScores(**means)


def _ssim(dissimilarity: NDArray[np.float64]) -> float | None:
    """1 − 2·mean over frames, from rows of (sum, count)."""
    total, count = dissimilarity.sum(axis=0)
    return float(1 - 2 * total / count) if count else None


def _directions(spectra: FloatArray) -> NDArray[np.float64]:
    wide = spectra.astype(np.float64)
    norm = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.divide(wide, norm, out=np.full_like(wide, np.nan), where=norm > 0)


WINDOW = 5
SIGMA = 1.5
STABILISER_LUMINANCE = 0.01**2
STABILISER_CONTRAST = 0.03**2
"""C1 and C2 for values with a range of 1."""


def _gaussian_window() -> NDArray[np.float64]:
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    return weights / weights.sum()


def _smooth(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian mean around each pixel of [C, H, W], with zeros outside the image."""
    window = _gaussian_window()
    return correlate1d(correlate1d(images, window, axis=-1, mode="constant"), window, axis=-2, mode="constant")


def ssim_map(target: NDArray[np.floating], prediction: NDArray[np.floating]) -> NDArray[np.float64]:
    """SSIM around each pixel and band, in [-1, 1], of two frames [C, H, W] with a value range of 1."""
    first, second = target.astype(np.float64), prediction.astype(np.float64)
    mean_first, mean_second = _smooth(first), _smooth(second)
    variance_first = _smooth(first**2) - mean_first**2
    variance_second = _smooth(second**2) - mean_second**2
    covariance = _smooth(first * second) - mean_first * mean_second
    similarity = (2 * mean_first * mean_second + STABILISER_LUMINANCE) * (2 * covariance + STABILISER_CONTRAST)
    return similarity / (
        (mean_first**2 + mean_second**2 + STABILISER_LUMINANCE)
        * (variance_first + variance_second + STABILISER_CONTRAST)
    )


def frame_dissimilarity(target: NDArray[np.floating], prediction: NDArray[np.floating]) -> tuple[float, int]:
    """Sum of clamp((1 − SSIM)/2, 0, 1) over one frame [C, H, W], and the number of summed values.

    NaN in a band of the target means no data: every window that touches such a pixel is excluded, in all bands.
    """
    no_data = np.isnan(target).any(axis=0)
    if not no_data.any():
        halves = np.clip((1 - ssim_map(target, prediction)) / 2, 0, 1)
        return float(halves.sum()), halves.size
    # A window of SSIM mixes 5×5 pixels, so one without data spoils all windows that it lies in.
    touched = maximum_filter(no_data, size=WINDOW, mode="constant")
    blank = np.zeros_like(target[:, :1, :1])
    halves = np.clip((1 - ssim_map(np.where(no_data, blank, target), np.where(no_data, blank, prediction))) / 2, 0, 1)[
        :, ~touched
    ]
    return float(halves.sum()), halves.size
