"""The arithmetic of the quality benchmark: means over real sites, floors, and what is written and drawn."""

import io
import json
import math

import matplotlib.image
import pytest

from benchmarks.quality.__main__ import named
from benchmarks.quality.document import Document, to_json, to_markdown
from benchmarks.quality.picture import draw
from benchmarks.quality.table import TREES, Row, Score, floors, mean_over_sites, scores_of
from restore_dit.evaluation.frames import Comparison, Coverage
from restore_dit.evaluation.metrics import PUBLISHED_SCALE, AverageScores, SetScores
from restore_dit.evaluation.report import Report
from tests.messages import refused


def score(
    psnr: float, best: float, below: float = 0.1, ssim: float | None = 0.9, covered_hidden: Coverage | None = None
) -> Score:
    gain = psnr - best
    return Score(psnr, gain, (gain - 0.2, gain + 0.2), psnr, None, below, -0.5, ssim, covered_hidden)


def row(site: str, protocol: str, model: float | None, trees: float = 25.5, is_real: bool = True, **changes) -> Row:
    """The best baseline, kriging, has 25 dB and an SSIM of 0.9, and linear interpolation 24."""
    scores = {"linear": score(24, 25, 0, 0.85), "kriging": score(25, 25, 0.4), TREES: score(trees, 25)}
    if model is not None:
        scores["ours"] = score(model, 25, **{"ssim": 0.95} | changes)
    return Row(site, is_real, protocol, scores, frames=10)


@pytest.fixture
def rows() -> list[Row]:
    return [
        row("A", "paper", 26.5),
        row("B", "paper", 25.7, below=0.19),
        row("simulated", "paper", 35, is_real=False),
        Row("C", True, "paper", {}, reason="no frame may be scored"),
        row("A", "missing-frame", 25.6),
        row("B", "missing-frame", 25.1, trees=25.2, ssim=0.89),
    ]


def test_means_are_over_real_sites_that_have_scores(rows):
    mean = mean_over_sites(rows, "paper", "ours")
    assert mean is not None
    assert mean.gain == pytest.approx((1.5 + 0.7) / 2)
    assert mean.lowest == pytest.approx(0.7)
    assert mean.below_linear == pytest.approx(0.145)
    assert mean.sites == 2
    assert mean_over_sites(rows, "paper", "another") is None


def test_floors_are_met_or_not(rows):
    found = {floor.wanted: floor for floor in floors(rows, "ours")}
    assert [floor.met for floor in found.values()] == [True, True, True, True, False, True, False, False]
    assert [floor.found for floor in found.values()] == [
        *("+1.10 dB", "14.5%", "2 of 2 sites", "2 of 2 sites"),
        *("+0.35 dB", "10.0%", "1 of 2 sites", "1 of 2 sites"),
    ]


def test_a_site_that_a_model_cannot_fill_is_a_floor_not_met(rows):
    changed = [row("A", "paper", 28), row("B", "paper", None)]
    gain, below, ssim, trees, missing_frame = floors(changed, "ours")
    assert (gain.found, gain.met) == ("+3.00 dB, 1 of 2 sites", False)
    assert not below.met
    assert (ssim.found, trees.found) == ("1 of 2 sites", "1 of 2 sites")
    assert (missing_frame.found, missing_frame.met) == ("not measured", None)


def test_without_trees_that_floor_is_not_measured(rows):
    without = [
        Row(one.site, one.is_real, one.protocol, {k: v for k, v in one.scores.items() if k != TREES}, one.frames)
        for one in rows
    ]
    assert [floor.met for floor in floors(without, "ours") if "trees" in floor.wanted] == [None, None]


def test_intervals_are_judged_at_each_site_and_in_the_mean(rows):
    """A site of few frames is beyond the tolerance, but not beyond its standard errors; that of many is."""
    few, many = Coverage((0.4, 0.8, 0.95), (0.04, 0.03, 0.01)), Coverage((0.56, 0.85, 0.96), (0.01, 0.01, 0.01))
    hidden = [row(site, "paper", 26, covered_hidden=one) for site, one in (("A", few), ("B", many))]
    mean, sites = (floor for floor in floors(hidden, "ours") if "intervals" in floor.wanted)
    assert (mean.found, mean.met) == ("48.0 / 82.5 / 95.5", True)
    assert (sites.found, sites.met) == ("0 of 2 sites; with two standard errors more, 1", False)
    text = to_markdown(Document([], hidden, {"ours": "m"}, "both", []))
    assert "| 40 ± 4 / 80 ± 3 / 95 ± 1 | – |" in text


def test_scores_are_those_of_the_published_scale():
    def averages(psnr: float) -> AverageScores:
        whole = SetScores(psnr=psnr, ssim=psnr / 30)
        sets = {"missing": whole, "hidden_frames": SetScores(psnr=psnr - 1), "partial_frames": SetScores()}
        empty = {"all": SetScores(), "observed": SetScores()}
        return AverageScores(PUBLISHED_SCALE, **sets, **empty, series=1, counted={})

    comparison = Comparison((23.0, 25.0), -1.0, (-1.5, -0.5), 0.25, -3.0)
    report = Report("", {"linear": {PUBLISHED_SCALE: averages(24.0)}}, 0.5, comparisons={"linear": comparison})
    assert scores_of(report) == {"linear": Score(24.0, -1.0, (-1.5, -0.5), 23.0, None, 0.25, -3.0, 0.8)}


def test_what_is_written_says_why_a_site_has_no_scores(rows):
    document = Document([], rows, {"ours": "runs/ours/model"}, "both", ["a note"])
    text = to_markdown(document)
    assert "**C**: no frame may be scored" in text
    assert "| `paper`: mean over real sites at least 1.0 dB above the best baseline | +1.10 dB | yes |" in text
    assert "| ours | **26.50** | +1.50 | +1.30 to +1.70 | 26.50 | – | 10% | -0.50 | 0.950 |" in text
    content = json.loads(json.dumps(to_json(document), allow_nan=False))
    assert content["means"]["paper"]["ours"]["gain"] == pytest.approx(1.1)
    assert content["rows"][0]["best_baseline"] == "kriging"
    assert [floor["met"] for floor in content["floors"]["ours"]][:2] == [True, True]


def test_a_method_that_errs_nowhere_can_be_written():
    document = Document([], [row("A", "paper", math.inf)], {"ours": "m"}, "both", [])
    assert json.loads(json.dumps(to_json(document), allow_nan=False))["rows"][0]["scores"]["ours"]["psnr"] is None


def test_the_picture_has_a_row_a_site_and_its_means(rows):
    few = matplotlib.image.imread(io.BytesIO(draw(rows[:2], ["ours"])))
    many = matplotlib.image.imread(io.BytesIO(draw(rows, ["ours"])))
    assert many.shape[1] == few.shape[1] == 1500
    assert many.shape[0] - few.shape[0] == pytest.approx(4 * 75, abs=1)  # simulated, A, B and a second mean


def test_models_are_named_by_their_folder():
    places = ["runs/first/model", "s3://bucket/second/", "third"]
    assert named(places) == {"first": places[0], "second": places[1], "third": "third"}
    with refused("first", status=2):
        named(["runs/first/model", "others/first"])
    with refused("linear", status=2):
        named(["linear"])
