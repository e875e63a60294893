"""A sweep's folder, and the report made of it."""

from __future__ import annotations

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from restore_dit.config import load
from tests.messages import refused
from tuning.config import load_sweep
from tuning.figures import pareto_front
from tuning.records import Score, SweepFolder, Trial
from tuning.report import find, write_sweep_report


@pytest.fixture
def swept(tmp_path):
    """A folder as a sweep leaves it: twelve trials that trained, one that was stopped, one that failed, seeds."""
    sweep = load_sweep("small", [f"output={tmp_path}", "name=swept", "run.data.store=stores/sim", "seeds.best=2"])
    folder = SweepFolder.of(sweep)
    folder.claim(sweep)
    families = list(sweep.space["family"].bundles)
    for number in range(14):
        name = f"trial-{number:03d}"
        values = {"family": families[number % 5], "diffusion.sampled_share": 0.8 * (number % 2)}
        values["diffusion.sampling_steps"] = 1 + 3 * (number // 7)
        scores = [score(step, 20 + number / 10 + step / 100, 0.02 * (1 + number)) for step in (20, 40)]
        status, best, error = "finished", scores[-1], None
        if number == 3:
            status = "stopped"
        if number == 4:
            status, best, error = "failed", None, "the fit diverged"
        folder.write(Trial(name=name, values=values, status=status, best=best, step=40, error=error))
        logs = tmp_path / "swept" / "trials" / name / "logs"
        logs.mkdir(parents=True)
        lines = [{"step": 10, "loss": 0.1}] + [
            {"step": s.step} | {f"validation/{key}": value for key, value in s.model_dump().items() if key != "step"}
            for s in scores
        ]
        (logs / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for of, number, psnr in (("013", 1, 21.0), ("013", 2, 21.2), ("012", 1, 21.9), ("012", 2, 21.8)):
        values = next(trial for trial in folder.read() if trial.name == f"trial-{of}").values
        again = Trial(name=f"trial-{of}-seed-{number}", values=values, repeats=f"trial-{of}", seed=number)
        folder.write(again.model_copy(update={"status": "finished", "best": score(40, psnr, 0.1)}))
    return folder


def score(step: int, psnr: float, seconds: float) -> Score:
    return Score(step=step, psnr=psnr, mae=0.05, ssim=0.9, sam=4.0, seconds=seconds)


def test_the_report_has_every_trial_and_the_best_configuration_trains_as_it_is(swept, tmp_path):
    page = write_sweep_report(swept)
    text = (tmp_path / "swept" / "report.html").read_text()
    assert page.uri.endswith("report.html")
    assert text.count("data:image/png;base64,") == 5
    assert "http://" not in text
    assert "https://" not in text
    for picture in ("pareto", "parallel", "curves", "importance", "seeds"):
        assert imread(tmp_path / "swept" / f"{picture}.png").std() > 0.01
    with open(tmp_path / "swept" / "trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows][:3] == ["trial-013", "trial-012", "trial-011"]
    assert rows[-1]["trial"] == "trial-004"
    assert {row["status"] for row in rows} == {"finished", "stopped", "failed"}
    best = load(tmp_path / "swept" / "best.yaml")
    assert best.diffusion.sampling_steps == 4
    assert (best.output, best.name) == ("runs", "swept-best")


def test_the_best_is_that_of_the_highest_mean_over_seeds(swept):
    findings = find(swept)
    assert findings.trials[0].name == "trial-013"
    assert [one.trial.name for one in findings.seeds] == ["trial-012", "trial-013"]
    assert findings.best.name == "trial-012"
    assert findings.seeds[0].mean == pytest.approx((21.6 + 21.9 + 21.8) / 3)
    assert findings.seeds[0].spread == pytest.approx(0.1527525, abs=1e-6)


def test_a_sweep_goes_on_with_more_trials_but_not_as_another_sweep(swept):
    same = swept.sweep()
    more = same.model_copy(update={"search": same.search.model_copy(update={"trials": 99}), "concurrent": 1})
    swept.claim(more)
    assert swept.sweep().search.trials == 99
    other = same.model_copy(update={"stopping": None})
    with refused("stopping="):
        swept.claim(other)


def test_what_is_missing_or_damaged_is_one_line(swept, tmp_path):
    with refused(swept.location.join("trials").uri, "sweep.yaml"):
        find(SweepFolder(swept.location.join("trials")))
    (tmp_path / "swept" / "trials" / "trial-002.json").write_text('{"name": "tri')
    with refused("trial-002.json"):
        find(swept)


@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 40)), min_size=1, max_size=30))
def test_nothing_beats_the_front_and_the_front_beats_the_rest(points):
    front = pareto_front(points)
    for index, (seconds, psnr) in enumerate(points):
        better = [i for i in front if points[i][0] <= seconds and points[i][1] >= psnr]
        assert better
        if index in front:
            assert all(points[i] == (seconds, psnr) for i in better)
