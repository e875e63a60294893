"""Scores of all sites: each method against the best baseline, means over real sites, and quality floors."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from restore_dit.evaluation.baselines import BASELINES
from restore_dit.evaluation.frames import Coverage, Interval
from restore_dit.evaluation.metrics import PUBLISHED_SCALE
from restore_dit.evaluation.report import Report
from restore_dit.reconstruction.calibration import LEVELS

TREES = "trees"

PROTOCOLS = ("paper", "missing-frame")

MIN_GAIN = {"paper": 1.0, "missing-frame": 0.4}
"""Minimum gain over the best baseline in dB, mean over real sites."""

MAX_BELOW_LINEAR = 0.15
"""Maximum share of frames more than 0.1 dB below linear interpolation, mean over real sites."""

MAX_OFF_LEVEL = 0.03
"""Maximum difference of the share of missing values within an interval from the interval's level."""


@dataclass(frozen=True)
class Score:
    """Scores of a method on the missing pixels of one row, on the published scale; None where there is no such pixel.

    psnr: in dB, over all missing pixels. hidden, partial: the same over hidden and over partly visible frames.
    gain, gain_interval: difference from the row's best baseline in dB, with its 95 % interval.
    below_linear: share of frames more than 0.1 dB below linear interpolation.
    worst_frame: lowest difference of a frame from linear interpolation, in dB.
    ssim: of whole frames with gaps.
    covered_hidden, covered_partial: coverage of the method's 50, 80 and 95 % intervals; None for a method without
        intervals.
    """

    psnr: float
    gain: float
    gain_interval: Interval | None
    hidden: float | None
    partial: float | None
    below_linear: float
    worst_frame: float
    ssim: float | None
    covered_hidden: Coverage | None = None
    covered_partial: Coverage | None = None


@dataclass(frozen=True)
class Row:
    """Results of a site under a protocol: scores by method and the number of frames, or the `reason` why there are
    none."""

    site: str
    is_real: bool
    protocol: str
    scores: Mapping[str, Score]
    frames: int = 0
    reason: str = ""

    @property
    def best_baseline(self) -> str:
        """The baseline with the highest PSNR."""
        return max((name for name in self.scores if name in BASELINES), key=lambda name: self.scores[name].psnr)


@dataclass(frozen=True)
class Mean:
    """A method's difference from the best baseline in dB, mean and lowest over `sites` real sites, and its mean
    share of frames below linear interpolation."""

    gain: float
    lowest: float
    below_linear: float
    sites: int


@dataclass(frozen=True)
class Floor:
    """A quality floor: what a model must reach, what it reached, and whether the floor is met; None if not measured."""

    wanted: str
    found: str
    met: bool | None


def scores_of(report: Report) -> dict[str, Score]:
    """Scores of every method in a report; empty if the report has no missing pixels."""
    scores = {}
    for method, psnr in report.missing_psnr.items():
        averages, compared = report.methods[method][PUBLISHED_SCALE], report.comparisons[method]
        # The deviation of the trees is a constant without meaning.
        covered = report.coverage.get(method, {}) if method != TREES else {}
        scores[method] = Score(
            psnr=psnr,
            gain=compared.gain,
            gain_interval=compared.gain_interval,
            hidden=averages.hidden_frames.psnr,
            partial=averages.partial_frames.psnr,
            below_linear=compared.below_linear,
            worst_frame=compared.worst_frame,
            ssim=averages.missing.ssim,
            covered_hidden=covered.get("hidden_frames"),
            covered_partial=covered.get("partial_frames"),
        )
    return scores


def scored(rows: Iterable[Row], protocol: str) -> list[Row]:
    """The rows of real sites under a protocol that have scores."""
    return [row for row in rows if row.is_real and row.protocol == protocol and row.scores]


def mean_over_sites(rows: Sequence[Row], protocol: str, method: str) -> Mean | None:
    """Mean over the real sites on which the method was scored; None if there are none."""
    scores = [row.scores[method] for row in scored(rows, protocol) if method in row.scores]
    if not scores:
        return None
    return Mean(
        gain=statistics.fmean(score.gain for score in scores),
        lowest=min(score.gain for score in scores),
        below_linear=statistics.fmean(score.below_linear for score in scores),
        sites=len(scores),
    )


def floors(rows: Sequence[Row], model: str) -> list[Floor]:
    """The floors of a model. A floor is not met if the model lacks scores on a real site that has some."""
    found = []
    for protocol in PROTOCOLS:
        least = MIN_GAIN[protocol]
        wanted = f"`{protocol}`: mean over real sites at least {least:.1f} dB above the best baseline"
        mean, sites = mean_over_sites(rows, protocol, model), len(scored(rows, protocol))
        if mean is None:
            found.append(Floor(wanted, "not measured", None))
            continue
        whole = mean.sites == sites
        lacking = "" if whole else f", {mean.sites} of {sites} sites"
        found += [
            Floor(wanted, f"{mean.gain:+.2f} dB{lacking}", whole and mean.gain >= least),
            Floor(
                f"`{protocol}`: at most {MAX_BELOW_LINEAR:.0%} of frames below linear, mean over real sites",
                f"{mean.below_linear:.1%}{lacking}",
                whole and mean.below_linear <= MAX_BELOW_LINEAR,
            ),
            _everywhere(rows, protocol, model, "SSIM above every baseline", "ssim", tuple(BASELINES)),
            _everywhere(rows, protocol, model, "PSNR above the trees", "psnr", (TREES,)),
            *_covered(rows, protocol, model),
        ]
    return found


def _everywhere(
    rows: Sequence[Row], protocol: str, model: str, wanted: str, metric: str, others: tuple[str, ...]
) -> Floor:
    """The floor that the model exceeds all the others at every real site."""
    above = []
    for row in scored(rows, protocol):
        theirs = [value for other in others if (value := _value(row, other, metric)) is not None]
        if theirs:
            ours = _value(row, model, metric)
            above.append(ours is not None and ours > max(theirs))
    wanted = f"`{protocol}`: {wanted}, at every real site"
    if not above:
        return Floor(wanted, "not measured", None)
    return Floor(wanted, f"{sum(above)} of {len(above)} sites", all(above))


def _covered(rows: Sequence[Row], protocol: str, model: str) -> list[Floor]:
    """The floors of the coverage of the model's intervals, on hidden and on partly visible frames."""
    found = []
    scores = [row.scores[model] for row in scored(rows, protocol) if model in row.scores]
    for kind, name in (("covered_hidden", "hidden"), ("covered_partial", "partly visible")):
        sites: list[Coverage] = [one for score in scores if (one := getattr(score, kind)) is not None]
        if not sites:
            continue
        means = [statistics.fmean(shares) for shares in zip(*(site.shares for site in sites), strict=True)]
        near = [_beyond(site.shares) <= 0 for site in sites]
        # Few frames cannot tell whether their intervals are right.
        plausible = [site.errors is None or _beyond(site.shares, site.errors) <= 0 for site in sites]
        wanted = f"`{protocol}`, {name} frames: intervals within {100 * MAX_OFF_LEVEL:.0f} points of 50/80/95 %"
        shown = " / ".join(f"{100 * mean:.1f}" for mean in means)
        beside = f"{sum(near)} of {len(sites)} sites; with two standard errors more, {sum(plausible)}"
        found += [
            Floor(f"{wanted}, mean over real sites", shown, _beyond(means) <= 0),
            Floor(f"{wanted}, at every real site", beside, all(near)),
        ]
    return found


def _beyond(shares: Sequence[float], errors: Sequence[float] = (0, 0, 0)) -> float:
    """By how much the share farthest from its level exceeds `MAX_OFF_LEVEL` and two standard errors."""
    each = zip(shares, LEVELS, errors, strict=True)
    return max(abs(share - level) - MAX_OFF_LEVEL - 2 * error for share, level, error in each)


def _value(row: Row, method: str, metric: str) -> float | None:
    value: float | None = getattr(row.scores[method], metric) if method in row.scores else None
    return value
