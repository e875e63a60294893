"""The tables of an evaluation: methods × metrics on each scale, and methods compared with the best baseline; in the
terminal and as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from restore_dit.data.storage import locate, write_bytes_atomically
from restore_dit.errors import UserError
from restore_dit.evaluation.baselines import BASELINES
from restore_dit.evaluation.frames import REFERENCE, TOLERANCE, Comparison, Coverage, Interval
from restore_dit.evaluation.metrics import (
    METRICS,
    PIXEL_SETS,
    PUBLISHED_SCALE,
    REFLECTANCE,
    AverageScores,
    PixelSet,
    SetScores,
)
from restore_dit.reconstruction.calibration import LEVELS

FORMAT = "restore-dit evaluation 3"

COLUMNS = {"mae": "MAE", "rmse": "RMSE", "sam": "SAM °", "psnr": "PSNR dB", "ssim": "SSIM"}
"""Metrics in the tables, in the order of the published table; files contain every metric."""

DIGITS = {"mae": 4, "rmse": 4, "sam": 2, "psnr": 2, "ssim": 3}
HIGHER_IS_BETTER = frozenset({"psnr", "ssim"})

SCALES = {PUBLISHED_SCALE: f"{PUBLISHED_SCALE}, clamp(DN, 0, 8000)/8000", REFLECTANCE: REFLECTANCE}
"""Captions of the scales, in the order of the tables."""

PIXEL_NAMES: dict[PixelSet, str] = {
    "all": "all pixels",
    "missing": "missing pixels",
    "hidden_frames": "missing pixels of wholly hidden frames",
    "partial_frames": "missing pixels of partly visible frames",
    "observed": "observed pixels",
}
"""Captions of the pixel sets."""


@dataclass(frozen=True)
class Report:
    """Scores of several methods on the same series.

    - `methods`: averages by method and scale.
    - `facts`: what was evaluated, such as protocol, store and model, in display order.
    - `missing_share`: share of missing pixels in the inputs, 0 to 1.
    - `comparisons`: each method compared with the best baseline and, frame by frame, with linear interpolation; empty
      if no pixel is missing.
    - `coverage`: for methods that predict their uncertainty, the coverage of their intervals.
    """

    title: str
    methods: Mapping[str, Mapping[str, AverageScores]]
    missing_share: float
    facts: Mapping[str, str] = field(default_factory=dict)
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    coverage: Mapping[str, Mapping[PixelSet, Coverage]] = field(default_factory=dict)

    @property
    def scales(self) -> list[str]:
        """Every scale of any method: the published one first, then true reflectance, then others by name."""
        names = {scale for scores in self.methods.values() for scale in scores}
        return [name for name in SCALES if name in names] + sorted(names - set(SCALES))

    @property
    def method_order(self) -> list[str]:
        """Baselines in the order of their registration, then the other methods in the order given."""
        baselines = [name for name in BASELINES if name in self.methods]
        return baselines + [name for name in self.methods if name not in BASELINES]

    @property
    def missing_psnr(self) -> dict[str, float]:
        """PSNR of missing pixels in dB on the published scale, for the methods that have one, in table order."""
        scores = ((method, self.methods[method].get(PUBLISHED_SCALE)) for method in self.method_order)
        return {name: one.missing.psnr for name, one in scores if one is not None and one.missing.psnr is not None}

    @property
    def best_baseline(self) -> str | None:
        """The baseline with the highest `missing_psnr`; None if there is none."""
        baselines = {method: psnr for method, psnr in self.missing_psnr.items() if method in BASELINES}
        return max(baselines, key=baselines.__getitem__, default=None)

    @property
    def series(self) -> int:
        """Number of series scored."""
        return max((scores.series for _, _, scores in self.entries()), default=0)

    def entries(self) -> Iterator[tuple[str, str, AverageScores]]:
        """(method, scale, scores) in the order of the tables."""
        for scale in self.scales:
            for method in self.method_order:
                if scale in self.methods[method]:
                    yield method, scale, self.methods[method][scale]


@dataclass(frozen=True)
class ScoreTable:
    """One table as text: one row per method, with cells (text, whether it is the best of its column) for each of
    `columns`."""

    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[str, list[tuple[str, bool]]]]


def score_table(report: Report, scale: str, pixels: PixelSet) -> ScoreTable:
    """The scores of every method on one scale over one pixel set. Cells with the same text as the best one are all
    marked as best."""
    entries = [(method, scores) for method, of, scores in report.entries() if of == scale]
    columns: list[list[tuple[str, bool]]] = []
    for metric in COLUMNS:
        values = [getattr(scores.over(pixels), metric) for _, scores in entries]
        texts = [_cell(metric, value) for value in values]
        present = [value for value in values if value is not None and not math.isnan(value)]
        best = (max if metric in HIGHER_IS_BETTER else min)(present) if present else None
        columns.append([(text, len(present) > 1 and text == _cell(metric, best)) for text in texts])
    counted = max((scores.counted[pixels] for _, scores in entries), default=0)
    series = f"{counted} series" if counted == report.series else f"{counted} of {report.series} series"
    caption = f"{PIXEL_NAMES[pixels]} · {SCALES.get(scale, scale)} · {series}"
    cells = [list(row) for row in zip(*columns, strict=True)]
    rows = [(method, row) for (method, _), row in zip(entries, cells, strict=True)]
    return ScoreTable(caption, tuple(COLUMNS.values()), rows)


def comparison_table(report: Report) -> ScoreTable:
    """Each method compared with the best baseline, and its frames compared with linear interpolation."""
    columns = (
        "PSNR dB",
        "95 %",
        f"less {report.best_baseline}",
        "95 %",
        f"frames below {REFERENCE}",
        "worst frame",
    )
    rows = []
    for method, psnr in report.missing_psnr.items():
        one = report.comparisons[method]
        cells = (
            _cell("psnr", psnr),
            _interval(one.interval),
            f"{one.gain:+.2f}",
            _interval(one.gain_interval, "+"),
            f"{one.below_linear:.0%}",
            f"{one.worst_frame:+.2f}",
        )
        rows.append((method, [(text, False) for text in cells]))
    caption = (
        f"missing pixels compared with baselines · {SCALES[PUBLISHED_SCALE]} · dB; frames more than {TOLERANCE} dB "
        f"below {REFERENCE}, and the difference of the worst frame"
    )
    return ScoreTable(caption, columns, rows)


def coverage_table(report: Report) -> ScoreTable:
    """The share of missing values within the intervals with its standard error, by nominal share."""
    rows = [
        (f"{method}, {PIXEL_NAMES[pixels]}", [(cell, False) for cell in _coverage_cells(coverage)])
        for method, kinds in report.coverage.items()
        for pixels, coverage in kinds.items()
    ]
    return ScoreTable("values within intervals", tuple(f"{level:.0%}" for level in LEVELS), rows)


def _coverage_cells(coverage: Coverage) -> list[str]:
    if coverage.errors is None:
        return [f"{share:.1%}" for share in coverage.shares]
    return [f"{100 * share:.1f} ± {error:.1%}" for share, error in zip(coverage.shares, coverage.errors, strict=True)]


def print_report(
    report: Report, console: Console | None = None, pixel_sets: tuple[PixelSet, ...] = ("missing",)
) -> None:
    """Prints the tables of the given pixel sets: coloured in a terminal, plain and unwrapped elsewhere."""
    console = console or Console()
    tables = [score_table(report, scale, pixels) for pixels in pixel_sets for scale in report.scales]
    if report.comparisons:
        tables.append(comparison_table(report))
    if report.coverage:
        tables.append(coverage_table(report))
    if not console.is_terminal:
        console.file.write("\n\n".join([_heading(report), *map(_plain, tables)]) + "\n\n* best of its column\n")
        return
    console.print(_heading(report), highlight=False, markup=False)
    for table in tables:
        console.print(f"\n{table.caption}", style="italic", highlight=False, markup=False)
        view = Table()
        view.add_column("method")
        for header in table.columns:
            view.add_column(header, justify="right")
        for method, row in table.rows:
            view.add_row(Text(method), *(Text(text, "bold green" if best else "") for text, best in row))
        console.print(view)


def write_report(report: Report, folder: str) -> list[str]:
    """Writes report.json, report.csv and report.md to a folder at any URI and returns their URIs."""
    files = {"report.json": to_json(report), "report.csv": to_csv(report), "report.md": to_markdown(report)}
    written = []
    for name, text in files.items():
        place = locate(folder).join(name)
        write_bytes_atomically(place, text.encode())
        written.append(place.uri)
    return written


def to_markdown(report: Report) -> str:
    """Every table, with the best cells in bold. A pixel set that does not occur, that no method changes, or that equals
    all missing pixels is described in one sentence instead."""
    parts = [f"# {report.title}", _facts(report)]
    if report.comparisons:
        parts.append(_markdown(comparison_table(report)))
    if report.coverage:
        parts.append(_markdown(coverage_table(report)))
    missing = [scores.missing for _, _, scores in report.entries()]
    shown: tuple[PixelSet, ...] = ("missing", "hidden_frames", "partial_frames", "all", "observed")
    for pixels in shown:
        scores = [scores.over(pixels) for _, _, scores in report.entries()]
        if all(one.mae is None for one in scores):
            parts.append(f"No series has {PIXEL_NAMES[pixels]}.")
        elif not any(one.mae for one in scores):
            parts.append(f"Every method returns {PIXEL_NAMES[pixels]} unchanged.")
        elif pixels in ("hidden_frames", "partial_frames") and scores == missing:
            parts.append(f"All missing pixels are {PIXEL_NAMES[pixels]}.")
        else:
            parts += [_markdown(score_table(report, scale, pixels)) for scale in report.scales]
    return "\n\n".join(parts) + "\n"


def to_csv(report: Report) -> str:
    """One line per method, scale and pixel set, in full precision; empty where a score does not exist."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "scale", "pixels", "series", *METRICS])
    for method, scale, scores in report.entries():
        for pixels in PIXEL_SETS:
            values = (getattr(scores.over(pixels), metric) for metric in METRICS)
            writer.writerow([method, scale, pixels, scores.counted[pixels], *("" if v is None else v for v in values)])
    return text.getvalue()


def to_json(report: Report) -> str:
    """The whole report, which `from_json` reads. JSON has no infinity, so infinite numbers are written as strings
    ("inf")."""
    content = {
        "format": FORMAT,
        "title": report.title,
        "facts": dict(report.facts),
        "series": report.series,
        "missing_share": report.missing_share,
        "methods": {
            method: {scale: asdict(report.methods[method][scale]) for scale in report.methods[method]}
            for method in report.method_order
        },
        "best_baseline": report.best_baseline,
        "comparisons": {method: asdict(one) for method, one in report.comparisons.items()},
        "coverage": {
            method: {pixels: asdict(coverage) for pixels, coverage in kinds.items()}
            for method, kinds in report.coverage.items()
        },
    }
    return json.dumps(_without_infinities(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> Report:
    """The report written by `to_json`.

    Raises:
        UserError: the text is not a report, or is of another version.
    """
    try:
        content = json.loads(text)
        found = str(content["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'not a report of `restore-dit evaluate`, which contains "format": "{FORMAT}"') from error
    if found != FORMAT:
        raise UserError(f"not a report of this version ({found}; this one reads {FORMAT}): run the evaluation again")
    methods = {
        method: {scale: _scores(fields) for scale, fields in scales.items()}
        for method, scales in content["methods"].items()
    }
    comparisons = {method: _comparison(fields) for method, fields in content["comparisons"].items()}
    coverage = {
        method: {pixels: _coverage(fields) for pixels, fields in kinds.items()}
        for method, kinds in content.get("coverage", {}).items()
    }
    return Report(content["title"], methods, content["missing_share"], content["facts"], comparisons, coverage)


def _coverage(content: dict[str, Any]) -> Coverage:
    errors = content["errors"]
    return Coverage(tuple(content["shares"]), None if errors is None else tuple(errors))


def _scores(content: dict[str, Any]) -> AverageScores:
    sets = {
        pixels: SetScores(**{name: None if value is None else float(value) for name, value in content[pixels].items()})
        for pixels in PIXEL_SETS
    }
    return AverageScores(content["scale_name"], **sets, series=content["series"], counted=content["counted"])


def _comparison(content: dict[str, Any]) -> Comparison:
    def numbers(value: Any) -> Any:
        return None if value is None else tuple(map(float, value)) if isinstance(value, list) else float(value)

    return Comparison(**{name: numbers(value) for name, value in content.items()})


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinities(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [_without_infinities(inner) for inner in value]
    return str(value) if isinstance(value, float) and not abs(value) < float("inf") else value


def _cell(metric: str, value: float | None) -> str:
    if value is None:
        return "–"
    return "∞" if value == float("inf") else f"{value:.{DIGITS[metric]}f}"


def _interval(interval: Interval | None, sign: str = "") -> str:
    return "–" if interval is None else " to ".join(f"{bound:{sign}.2f}" for bound in interval)


def _facts(report: Report) -> str:
    facts = {**report.facts, "series": str(report.series), "missing": f"{report.missing_share:.1%} of pixels"}
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _heading(report: Report) -> str:
    return f"{report.title}\n{_facts(report)}"


def _markdown(table: ScoreTable) -> str:
    lines = [f"**{table.caption[0].upper()}{table.caption[1:]}**", ""]
    lines += ["| method | " + " | ".join(table.columns) + " |", "|---|" + "---:|" * len(table.columns)]
    for method, row in table.rows:
        lines.append(f"| {method} | " + " | ".join(f"**{text}**" if best else text for text, best in row) + " |")
    return "\n".join(lines)


def _plain(table: ScoreTable) -> str:
    width = max([len(method) for method, _ in table.rows] + [len("method")])
    widths = [
        max(9, len(header) + 1, *(len(row[column][0]) + 1 for _, row in table.rows))
        for column, header in enumerate(table.columns)
    ]
    headers = (f"{header:>{wide}} " for header, wide in zip(table.columns, widths, strict=True))
    lines = [table.caption, "".join(["method".ljust(width), *headers]).rstrip()]
    for method, row in table.rows:
        cells = (f"{text:>{wide}}{'*' if best else ' '}" for (text, best), wide in zip(row, widths, strict=True))
        lines.append("".join([method.ljust(width), *cells]).rstrip())
    return "\n".join(lines)
