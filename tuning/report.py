"""The report of a sweep: one page with everything in it, its pictures, a table, and the best configuration."""

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
    turns_figure,
)
from tuning.records import Score, SweepFolder, Trial
from tuning.search import study_of
from tuning.space import configuration
from tuning.trial import sampling_base

FEWEST_FOR_IMPORTANCE = 8
"""Trials below which what a parameter matters is not said."""

DOTS_PER_INCH = 110


@dataclass(frozen=True)
class Seeds:
    """A trial with its repetitions by other seeds: PSNR of each."""

    trial: Trial
    psnr: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over seeds, in dB."""
        return statistics.fmean(self.psnr)

    @property
    def spread(self) -> float:
        """Standard deviation over seeds, in dB."""
        return statistics.stdev(self.psnr) if len(self.psnr) > 1 else 0.0


@dataclass(frozen=True)
class Findings:
    """What a sweep found."""

    sweep: SweepConfig
    trials: tuple[Trial, ...]
    """Of the search, the best first, those without a score last."""
    curves: dict[str, list[Score]]
    seeds: tuple[Seeds, ...]
    """Of trials that were repeated, the highest mean first."""
    importance: dict[str, float]
    """Parameter → its share in what makes good trials differ from others; empty with few trials."""

    @property
    def best(self) -> Trial:
        """The trial of the highest PSNR; of those that were repeated, that of the highest mean."""
        return self.seeds[0].trial if self.seeds else self.trials[0]


def find(folder: SweepFolder) -> Findings:
    """Reads a sweep's folder.

    Raises:
        UserError: no sweep there, or no trial with a score.
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
    """The best trial's run, to be trained as it is: into `runs`, under the sweep's name."""
    sweep = findings.sweep
    base = sweep.run if sweep.model is None else sampling_base(load_model(sweep.model).config, sweep)
    config = configuration(sweep.space, base, findings.best.best_values)
    return config.model_copy(update={"output": "runs", "name": f"{sweep.name}-best"})


def write_sweep_report(folder: SweepFolder) -> Location:
    """Makes `report.html`, its pictures, `trials.csv` and `best.yaml` anew; where the page is.

    Raises:
        UserError: no sweep there, or no trial with a score.
    """
    findings = find(folder)
    figures = {"pareto": pareto_figure(findings.trials), "parallel": parallel_figure(findings.trials)}
    if any(findings.curves.values()):
        figures["curves"] = curves_figure(findings.trials, findings.curves)
    if findings.importance:
        figures["importance"] = importance_figure(findings.importance)
    if findings.seeds:
        figures["seeds"] = seeds_figure([(one.trial.name, one.psnr) for one in findings.seeds])
    if any(trial.turns for trial in findings.trials):
        figures["turns"] = turns_figure(findings.trials)
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
    """PED-ANOVA (Watanabe et al. 2023) over the parameters that all trials have."""
    if sweep.population is not None:  # its values change
        return {}
    study = study_of(sweep.search, sweep.space, trials)
    complete = [trial for trial in study.trials if trial.values]
    if len(complete) < FEWEST_FOR_IMPORTANCE:
        return {}
    shared = set.intersection(*(set(trial.params) for trial in complete))
    varied = [name for name in sweep.space if name in shared and len({str(t.params[name]) for t in complete}) > 1]
    if len(varied) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its being new, and of what is low
        found = optuna.importance.get_param_importances(
            study,
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
            params=varied,
            target=lambda trial: -trial.values[0],  # it takes low values for good ones
        )
    return dict(found)


def _columns(findings: Findings) -> tuple[list[str], list[list[str]]]:
    names = list(findings.sweep.space)
    header = ["trial", "status", "steps", "PSNR dB", "SSIM", "SAM °", "MAE", "s a series", *names]
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
    "seeds": "The best trials with other seeds",
    "curves": "Learning curves",
    "turns": "Values over time",
    "parallel": "Parameters of every trial",
    "importance": "How much each parameter matters",
}

NOTES = {
    "pareto": "Each dot is a trial. On the line lie those that no other trial beats in both.",
    "seeds": "A difference smaller than the spread of one trial's seeds is no finding.",
    "curves": "Validation PSNR of missing pixels. Dotted: stopped early.",
    "turns": "Trials that lagged behind went on from the state of ones that led, with values near theirs.",
    "parallel": "Each line is a trial, coloured by its PSNR.",
    "importance": "Shares of what makes good trials differ from the others, by PED-ANOVA, for parameters that all "
    "trials have. With few trials it is a hint, no more.",
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
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Sweep {html.escape(sweep.name)}</title><style>{STYLE}</style></head><body>
<h1>Sweep {html.escape(sweep.name)}</h1>
<p>{len(findings.trials)} trials ({told}) by {sweep.search.algorithm} on {html.escape(sweep.run.data.store)}.
Scores are those of the validation part, over missing pixels, on the published scale.</p>
{_best_sentence(findings)}
{"".join(sections)}
{_turns_table(findings)}
<h2>Trials</h2><div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>
<h2>The best configuration</h2>
<p>{_how_to_train(sweep)}</p><pre>{html.escape(best)}</pre>
</body></html>
"""


def _how_to_train(sweep: SweepConfig) -> str:
    how = "<code>restore-dit train --config best.yaml</code> trains it as it is."
    if sweep.population is not None:
        how += (
            " The trial itself had other values before: what it came to, it came to by all of them, and a training by "
            "these values alone will differ."
        )
    return how


def _turns_table(findings: Findings) -> str:
    turns = sorted(((turn, trial) for trial in findings.trials for turn in trial.turns), key=lambda one: one[0].step)
    if not turns:
        return ""
    rows = ""
    for turn, trial in turns:
        after = trial.values_at(turn.step + 1)
        changes = ", ".join(
            f"{name} {_shown(turn.before.get(name, '–'))} → {_shown(value)}"
            for name, value in after.items()
            if turn.before.get(name) != value
        )
        cells = (str(turn.step), trial.name, turn.source, changes or "nothing")
        rows += "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
    head = "<tr><th>step</th><th>trial</th><th>went on from</th><th>what that changed</th></tr>"
    table = f'<div class="wide"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'
    return f"<h2>Who followed whom</h2>{table}"


def _best_sentence(findings: Findings) -> str:
    best = findings.best
    values = ", ".join(f"{name} {_shown(value)}" for name, value in best.best_values.items())
    score = best.best
    assert score is not None
    text = f"Best: {best.name} ({values}): {score.psnr:.2f} dB at {score.seconds:.3f} s a series"
    if findings.seeds:
        one = findings.seeds[0]
        text += f"; over {len(one.psnr)} seeds {one.mean:.2f} ± {one.spread:.2f} dB"
    model = "" if findings.sweep.model else f" Its model: <code>trials/{best.run_at(score.step)}/model</code>."
    return f"<p><strong>{html.escape(text)}.</strong>{model}</p>"
