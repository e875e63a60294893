"""The results as Markdown and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.quality.sites import Masks, Site
from benchmarks.quality.table import PROTOCOLS, Floor, Row, Score, floors, mean_over_sites, scored
from restore_dit import __version__
from restore_dit.config import TargetConfig
from restore_dit.evaluation.baselines import BASELINES
from restore_dit.evaluation.frames import Coverage, Interval

MASKS: dict[Masks, str] = {
    "both": "by both the masks that came with the site and the rule (`detect-clouds`)",
    "source": "by the masks that came with the site",
}

COLUMNS = (
    *("PSNR dB", "less best baseline", "95 %", "hidden frames dB", "partial frames dB"),
    *("frames below linear", "worst frame dB", "SSIM", "in 50/80/95 % intervals, hidden", "partial"),
)


@dataclass(frozen=True)
class Document:
    """All results. `models` maps names to addresses; `notes` are remarks, such as the time to fit the trees."""

    sites: Sequence[Site]
    rows: Sequence[Row]
    models: dict[str, str]
    masks: Masks
    notes: Sequence[str]

    @property
    def methods(self) -> list[str]:
        """Baselines in their fixed order, then the other methods in the order given."""
        names = dict.fromkeys(name for row in self.rows for name in row.scores)
        return [name for name in BASELINES if name in names] + [name for name in names if name not in BASELINES]

    @property
    def protocols(self) -> list[str]:
        """The protocols that were run."""
        return [protocol for protocol in PROTOCOLS if any(row.protocol == protocol for row in self.rows)]

    def floors(self) -> dict[str, list[Floor]]:
        """The floors of each model."""
        return {model: floors(self.rows, model) for model in self.models}


def to_markdown(document: Document) -> str:
    """The document as Markdown: floors and means first, then every site."""
    parts = [
        "# Quality",
        f"restore-dit {__version__}. Missing pixels on the published scale, clamp(DN, 0, 8000)/8000. A frame may be "
        f"scored where it is clear {MASKS[document.masks]}. *Best baseline*: the one with the highest PSNR on the same "
        "site and protocol. *95 %*: bootstrap interval of the difference, resampling the site's frames (and tiles). "
        "*Frames below linear*: more than 0.1 dB below linear interpolation. *In 50/80/95 % intervals*: share of "
        "missing values, ± its standard error over frames.",
        "\n".join(f"- {note}" for note in document.notes),
        *(_floors(model, its) for model, its in document.floors().items()),
        _means(document),
        _sites(document.sites),
        *(part for protocol in document.protocols for part in _protocol(document, protocol)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_json(document: Document) -> dict[str, Any]:
    """The document as plain values for JSON; values that are not finite become None."""
    content = {
        "benchmark": "quality",
        "version": __version__,
        "models": document.models,
        "masks": document.masks,
        "notes": list(document.notes),
        "sites": {
            site.name: {"described": site.described, "targets": site.targets.model_dump(), "scorable": site.scorable}
            for site in document.sites
        },
        "rows": [asdict(row) | ({"best_baseline": row.best_baseline} if row.scores else {}) for row in document.rows],
        "means": {
            protocol: {
                method: asdict(mean)
                for method in document.methods
                if (mean := mean_over_sites(document.rows, protocol, method)) is not None
            }
            for protocol in document.protocols
        },
        "floors": {model: [asdict(floor) for floor in its] for model, its in document.floors().items()},
    }
    finite: dict[str, Any] = _finite(content)
    return finite


def _floors(model: str, its: list[Floor]) -> str:
    rows = [(floor.wanted, floor.found, _met(floor.met)) for floor in its]
    return f"## Floors of {model}\n\n" + _table(("", "found", "met"), rows)


def _met(met: bool | None) -> str:
    return "–" if met is None else "yes" if met else "**no**"


def _means(document: Document) -> str:
    """The table of means, methods × protocols."""
    headers, rows = ["method"], []
    for protocol in document.protocols:
        count = len(scored(document.rows, protocol))
        headers += [f"`{protocol}`, {count} sites, dB", "lowest site", "frames below linear"]
    for method in document.methods:
        cells = [method]
        for protocol in document.protocols:
            mean = mean_over_sites(document.rows, protocol, method)
            if mean is None:
                cells += ["–"] * 3
                continue
            lacking = "" if mean.sites == len(scored(document.rows, protocol)) else f" ({mean.sites} sites)"
            cells += [f"{mean.gain:+.2f}{lacking}", f"{mean.lowest:+.2f}", f"{mean.below_linear:.0%}"]
        rows.append(cells)
    return "## Difference to the best baseline, mean over real sites\n\n" + _table(headers, rows)


def _sites(sites: Sequence[Site]) -> str:
    rows = [(site.name, site.place, site.described, f"{site.scorable} frames", _limits(site.targets)) for site in sites]
    return "## Sites\n\n" + _table(("site", "where", "what", "may be scored", "limits"), rows)


def _limits(targets: TargetConfig) -> str:
    return f"{targets.most_hidden:.0%} hidden, {targets.most_no_data:.0%} without data"


def _protocol(document: Document, protocol: str) -> list[str]:
    parts = [f"## Protocol `{protocol}`"]
    for row in document.rows:
        if row.protocol != protocol:
            continue
        if not row.scores:
            parts.append(f"**{row.site}**: {row.reason}")
            continue
        best = max(score.psnr for score in row.scores.values())
        lines = [(name, *_cells(row.scores[name], best)) for name in document.methods if name in row.scores]
        heading = f"**{row.site}** · {row.frames} frames with missing pixels · best baseline {row.best_baseline}"
        parts.append(f"{heading}\n\n" + _table(("method", *COLUMNS), lines))
    return parts


def _cells(score: Score, best: float) -> tuple[str, ...]:
    psnr = _number(score.psnr)
    return (
        f"**{psnr}**" if score.psnr == best else psnr,
        f"{score.gain:+.2f}",
        _interval(score.gain_interval),
        _number(score.hidden),
        _number(score.partial),
        f"{score.below_linear:.0%}",
        f"{score.worst_frame:+.2f}",
        _number(score.ssim, 3),
        _coverage(score.covered_hidden),
        _coverage(score.covered_partial),
    )


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _coverage(coverage: Coverage | None) -> str:
    if coverage is None:
        return "–"
    shares = [f"{100 * share:.0f}" for share in coverage.shares]
    if coverage.errors is not None:
        shares = [f"{share} ± {100 * error:.0f}" for share, error in zip(shares, coverage.errors, strict=True)]
    return " / ".join(shares)


def _interval(interval: Interval | None) -> str:
    return "–" if interval is None else " to ".join(f"{bound:+.2f}" for bound in interval)


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(headers) + " |", "|---|" + "---:|" * (len(headers) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
