"""The report of a sweep: a self-contained page, its figures, a table, and the best configuration."""

from __future__ import annotations

import base64
import csv
import html
import io
import statistics
import warnings
from dataclasses import dataclass

import optuna

from restore_dit.config import RunConfig, dump
from restore_dit.data.storage import Location, write_bytes_atomically
from restore_dit.errors import UserError
from restore_dit.evaluation.figures import to_png
from restore_dit.reconstruction.model_directory import load_model
from tuning.config import SweepConfig
from tuning.figures import (
    curves_figure,
    importance_figure,
    parallel_figure,
    pareto_figure,
    seeds_figure,
    values_over_time_figure,
)
from tuning.records import Score, SweepFolder, Trial
from tuning.search import study_of
from tuning.space import configuration
from tuning.trial import sampling_base

MIN_FOR_IMPORTANCE = 8
"""Minimum number of trials for an estimate of parameter importance."""

DOTS_PER_INCH = 110


@dataclass(frozen=True)
class Seeds:
    """A trial and its repetitions with other seeds, with the PSNR of each in dB."""

    trial: Trial
    psnr: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over seeds, in dB."""
        return statistics.fmean(self.psnr)

    @property
    def spread(self) -> float:
        """Standard deviation over seeds, in dB."""
        return statistics.stdev(self.psnr) if len(self.psnr) > 1 else 0.0


@dataclass(frozen=True)
class Findings:
    """The results of a sweep."""

    sweep: SweepConfig
    trials: tuple[Trial, ...]
    """Trials of the search, best first, those without a score last."""
    curves: dict[str, list[Score]]
    seeds: tuple[Seeds, ...]
    """Repeated trials, highest mean first."""
    importance: dict[str, float]
    """Parameter → importance (PED-ANOVA), as a share; empty with few trials."""

    @property
    def best(self) -> Trial:
        """The trial with the highest PSNR or, if trials were repeated, with the highest mean over seeds."""
        return self.seeds[0].trial if self.seeds else self.trials[0]


def find(folder: SweepFolder) -> Findings:
    """Reads the results of a sweep from its folder.

    Raises:
        UserError: not a sweep, or no trial has a score.
    """
    sweep, every = folder.sweep(), folder.read()
    searched = [trial for trial in every if trial.repeats is None]
    scored = [trial for trial in searched if trial.best is not None]
    if not scored:
        raise UserError(f"{folder.location.uri}: no trial has a score yet")
    trials = sorted(scored, key=_by_psnr) + [trial for trial in searched if trial.best is None]
    seeds = []
    for trial in scored:
        others = [again.best.psnr for again in every if again.repeats == trial.name and again.best and again.is_over]
        if others and trial.best:
            seeds.append(Seeds(trial, (trial.best.psnr, *others)))
    return Findings(
        sweep=sweep,
        trials=tuple(trials),
        curves={trial.name: folder.curve(trial) for trial in every} if sweep.model is None else {},
        seeds=tuple(sorted(seeds, key=lambda one: -one.mean)),
        importance=_importance(sweep, searched),
    )


def best_configuration(findings: Findings) -> RunConfig:
    """Configuration of the best trial, ready to be trained in `runs` under the sweep's name."""
    sweep = findings.sweep
    base = sweep.run if sweep.model is None else sampling_base(load_model(sweep.model).config, sweep)
    config = configuration(sweep.space, base, findings.best.best_values)
    return config.model_copy(update={"output": "runs", "name": f"{sweep.name}-best"})


def write_sweep_report(folder: SweepFolder) -> Location:
    """Writes `report.html`, its figures, `trials.csv` and `best.yaml`, and returns the location of the page.

    Raises:
        UserError: not a sweep, or no trial has a score.
    """
    findings = find(folder)
    figures = {"pareto": pareto_figure(findings.trials), "parallel": parallel_figure(findings.trials)}
    if any(findings.curves.values()):
        figures["curves"] = curves_figure(findings.trials, findings.curves)
    if findings.importance:
        figures["importance"] = importance_figure(findings.importance)
    if findings.seeds:
        figures["seeds"] = seeds_figure([(one.trial.name, one.psnr) for one in findings.seeds])
    if any(trial.exploits for trial in findings.trials):
        figures["turns"] = values_over_time_figure(findings.trials)
    pictures = {name: to_png(figure, dots_per_inch=DOTS_PER_INCH) for name, figure in figures.items()}
    for name, content in pictures.items():
        write_bytes_atomically(folder.location.join(f"{name}.png"), content)
    best = dump(best_configuration(findings))
    write_bytes_atomically(folder.location.join("best.yaml"), best.encode())
    write_bytes_atomically(folder.location.join("trials.csv"), _table_csv(findings).encode())
    page = folder.location.join("report.html")
    write_bytes_atomically(page, _page(findings, pictures, best).encode())
    return page


def _by_psnr(trial: Trial) -> float:
    return -trial.best.psnr if trial.best else float("inf")


def _importance(sweep: SweepConfig, trials: list[Trial]) -> dict[str, float]:
    """Parameter importance by PED-ANOVA (Watanabe et al. 2023), over the parameters that all trials have."""
    if sweep.population is not None:  # the values of its trials change during training
        return {}
    study = study_of(sweep.search, sweep.space, trials)
    complete = [trial for trial in study.trials if trial.values]
    if len(complete) < MIN_FOR_IMPORTANCE:
        return {}
    shared = set.intersection(*(set(trial.params) for trial in complete))
    varied = [name for name in sweep.space if name in shared and len({str(t.params[name]) for t in complete}) > 1]
    if len(varied) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the evaluator is experimental, and that low values are optimal
        found = optuna.importance.get_param_importances(
            study,
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
            params=varied,
            target=lambda trial: -trial.values[0],  # the evaluator treats low values as good
        )
    return dict(found)


def _columns(findings: Findings) -> tuple[list[str], list[list[str]]]:
    names = list(findings.sweep.space)
    header = ["trial", "status", "steps", "PSNR dB", "SSIM", "SAM °", "MAE", "s per series", *names]
    rows = []
    for trial in findings.trials:
        score = trial.best
        numbers = (
            [f"{score.psnr:.2f}", f"{score.ssim:.4f}", f"{score.sam:.2f}", f"{score.mae:.4f}", f"{score.seconds:.3f}"]
            if score
            else [""] * 5
        )
        values = [_shown(trial.best_values.get(name, "")) for name in names]
        rows.append([trial.name, trial.status, str(trial.step), *numbers, *values])
    return header, rows


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table_csv(findings: Findings) -> str:
    header, rows = _columns(findings)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


TITLES = {
    "pareto": "Quality against sampling time",
    "seeds": "Best trials with other seeds",
    "curves": "Learning curves",
    "turns": "Values over time",
    "parallel": "Parameters of all trials",
    "importance": "Parameter importance",
}

NOTES = {
    "pareto": "Each dot is a trial. The line is the Pareto front.",
    "seeds": "A difference smaller than the spread between the seeds of one trial is not significant.",
    "curves": "Validation PSNR of missing pixels. Dotted: stopped early.",
    "turns": "After each generation, the worst trials copied the state of the best ones and perturbed their values.",
    "parallel": "Each line is a trial, coloured by its PSNR.",
    "importance": "Importance by PED-ANOVA, as shares, of the parameters that all trials have. With few trials, it is "
    "only an indication.",
}

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #1c2733; }
img { max-width: 100%; height: auto; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; white-space: nowrap; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #d8dee4; }
th:first-child, td:first-child, td:nth-child(2), th:nth-child(2) { text-align: left; }
tr.best { background: #e8f4ea; font-weight: 600; } pre { background: #f5f7f9; padding: 1rem; overflow-x: auto; }
"""


def _page(findings: Findings, pictures: dict[str, bytes], best: str) -> str:
    sweep = findings.sweep
    header, rows = _columns(findings)
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr{' class=best' if row[0] == findings.best.name else ''}>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in rows
    )
    sections = []
    for name in (name for name in TITLES if name in pictures):
        picture = base64.b64encode(pictures[name]).decode()
        image = f'<img alt="{TITLES[name]}" src="data:image/png;base64,{picture}">'
        sections.append(f"<h2>{TITLES[name]}</h2><p>{NOTES[name]}</p>{image}")
    counts = {status: sum(t.status == status for t in findings.trials) for status in ("finished", "stopped", "failed")}
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Sweep {html.escape(sweep.name)}</title><style>{STYLE}</style></head><body>
<h1>Sweep {html.escape(sweep.name)}</h1>
<p>{len(findings.trials)} trials ({summary}) by {sweep.search.algorithm} on {html.escape(sweep.run.data.store)}.
Scores are for missing pixels of the validation split, on the published scale.</p>
{_best_sentence(findings)}
{"".join(sections)}
{_copies_table(findings)}
<h2>Trials</h2><div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>
<h2>Best configuration</h2>
<p>{_how_to_train(sweep)}</p><pre>{html.escape(best)}</pre>
</body></html>
"""


def _how_to_train(sweep: SweepConfig) -> str:
    how = "Train it with <code>restore-dit train --config best.yaml</code>."
    if sweep.population is not None:
        how += (
            " The trial itself had other values earlier in its training, so a training with these values alone will "
            "give a different score."
        )
    return how


def _copies_table(findings: Findings) -> str:
    exploits = sorted(
        ((exploit, trial) for trial in findings.trials for exploit in trial.exploits), key=lambda one: one[0].step
    )
    if not exploits:
        return ""
    rows = ""
    for exploit, trial in exploits:
        after = trial.values_at(exploit.step + 1)
        changes = ", ".join(
            f"{name} {_shown(exploit.before.get(name, '–'))} → {_shown(value)}"
            for name, value in after.items()
            if exploit.before.get(name) != value
        )
        cells = (str(exploit.step), trial.name, exploit.source, changes or "none")
        rows += "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
    head = "<tr><th>step</th><th>trial</th><th>copied</th><th>changed values</th></tr>"
    table = f'<div class="wide"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'
    return f"<h2>Copied trials</h2>{table}"


def _best_sentence(findings: Findings) -> str:
    best = findings.best
    values = ", ".join(f"{name} {_shown(value)}" for name, value in best.best_values.items())
    score = best.best
    assert score is not None
    text = f"Best: {best.name} ({values}): {score.psnr:.2f} dB at {score.seconds:.3f} s per series"
    if findings.seeds:
        one = findings.seeds[0]
        text += f"; over {len(one.psnr)} seeds {one.mean:.2f} ± {one.spread:.2f} dB"
    model = "" if findings.sweep.model else f" Model: <code>trials/{best.run_at(score.step)}/model</code>."
    return f"<p><strong>{html.escape(text)}.</strong>{model}</p>"
