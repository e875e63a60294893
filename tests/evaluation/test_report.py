"""The table of an evaluation: what it says, marks and keeps."""

import csv
import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from restore_dit.errors import UserError
from restore_dit.evaluation.frames import Comparison, Coverage
from restore_dit.evaluation.metrics import PUBLISHED_SCALE, REFLECTANCE, AverageScores, SetScores
from restore_dit.evaluation.report import (
    Report,
    comparison_table,
    from_json,
    print_report,
    score_table,
    to_csv,
    to_json,
    to_markdown,
    write_report,
)
from tests.messages import refused

UNCHANGED = SetScores(mae=0.0, mse=0.0, rmse=0.0, psnr=math.inf, sam=0.0, ssim=None)


def averages(scale, mae, ssim=0.9):
    missing = SetScores(mae, mae**2, mae * 1.5, 30.0, 3.0, ssim)
    counted = {"all": 12, "missing": 11, "hidden_frames": 0, "partial_frames": 11, "observed": 12}
    return AverageScores(scale, missing, missing, SetScores(), missing, UNCHANGED, series=12, counted=counted)


@pytest.fixture
def report():
    """Given in another order than it must be shown in."""
    methods = {
        "model": {REFLECTANCE: averages(REFLECTANCE, 0.0112), PUBLISHED_SCALE: averages(PUBLISHED_SCALE, 0.01400001)},
        "linear": {PUBLISHED_SCALE: averages(PUBLISHED_SCALE, 0.0257, ssim=0.95)},
        "model without radar": {PUBLISHED_SCALE: averages(PUBLISHED_SCALE, 0.01400002)},
        "last": {PUBLISHED_SCALE: averages(PUBLISHED_SCALE, 0.03, ssim=None)},
    }
    comparisons = {
        "last": Comparison((29.0, 31.0), 0.0, (-0.5, 0.5), 0.25, -3.25),
        "linear": Comparison(None, 0.0, None, 0.0, 0.0),
        "model": Comparison((29.0, math.inf), 1.5, (0.5, 2.5), 0.125, -0.75),
        "model without radar": Comparison((29.0, 31.0), -0.25, (-1.0, 0.5), 1.0, -4.0),
    }
    facts = {"protocol": "other-dates", "store": "s3://bucket/pastis"}
    coverage = {
        "model": {
            "missing": Coverage((0.5, 0.75, 0.9625), (0.02, 0.03, 0.0125)),
            "hidden_frames": Coverage((0.25, 0.5, 1.0), None),
        }
    }
    return Report("PASTIS-R, fold 5", methods, 0.381, facts, comparisons, coverage)


def test_order_does_not_depend_on_what_came_first(report):
    assert report.method_order == ["last", "linear", "model", "model without radar"]
    assert report.scales == [PUBLISHED_SCALE, REFLECTANCE]


def test_best_of_each_column(report):
    rows = dict(score_table(report, PUBLISHED_SCALE, "missing").rows)
    assert rows["model"][0] == rows["model without radar"][0] == ("0.0140", True)
    assert rows["linear"][0] == ("0.0257", False)
    assert rows["linear"][-1] == ("0.950", True)
    assert rows["last"][-1] == ("–", False)


def test_a_lone_method_is_not_best(report):
    rows = dict(score_table(report, REFLECTANCE, "missing").rows)
    assert not any(best for _, best in rows["model"])


def test_caption_names_scale_and_series(report):
    caption = score_table(report, PUBLISHED_SCALE, "missing").caption
    assert "published scale" in caption
    assert "11 of 12 series" in caption


def test_json_round_trip(report):
    text = to_json(report)
    assert "Infinity" not in text
    assert from_json(text) == report
    assert to_json(from_json(text)) == text
    content = json.loads(text)
    assert content["missing_share"] == 0.381
    assert content["comparisons"]["model"]["interval"] == [29.0, "inf"]


def test_a_report_of_an_earlier_format_is_refused_in_one_line():
    with refused("restore-dit evaluation 1", "restore-dit evaluation 3"):
        from_json('{"format": "restore-dit evaluation 1", "methods": {}}')


def test_methods_beside_the_best_baseline(report):
    table = comparison_table(report)
    assert [method for method, _ in table.rows] == report.method_order
    cells = {method: [text for text, _ in row] for method, row in table.rows}
    assert cells["model without radar"] == ["30.00", "29.00 to 31.00", "-0.25", "-1.00 to +0.50", "100%", "-4.00"]
    assert cells["linear"][1] == cells["linear"][3] == "–"


@pytest.mark.parametrize(("worse", "expected"), [("last", "linear"), ("linear", "last")])
def test_the_best_baseline_has_the_highest_missing_psnr(report, worse, expected):
    methods = dict(report.methods)
    found = methods[worse][PUBLISHED_SCALE]
    methods[worse] = {PUBLISHED_SCALE: replace(found, missing=replace(found.missing, psnr=29.0))}
    assert replace(report, methods=methods).best_baseline == expected


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"formats": "other"}'])
def test_foreign_json_is_refused(text):
    with pytest.raises(UserError, match="not a report"):
        from_json(text)


def test_csv_holds_every_score_in_full(report):
    lines = list(csv.DictReader(io.StringIO(to_csv(report))))
    assert len(lines) == 5 * 5
    one = next(line for line in lines if (line["method"], line["pixels"]) == ("model without radar", "missing"))
    assert float(one["mae"]) == 0.01400002
    assert one["series"] == "11"
    unchanged = next(line for line in lines if line["pixels"] == "observed")
    assert (float(unchanged["psnr"]), unchanged["ssim"]) == (math.inf, "")


def test_markdown_marks_the_best_and_leaves_out_empty_tables(report):
    text = to_markdown(report)
    assert "| linear | 0.0257 | 0.0386 | **3.00** | **30.00** | **0.950** |" in text
    assert "38.1% of pixels" in text
    # Missing pixels, all of partly visible frames, and all pixels, on two scales; comparison and intervals.
    assert text.count("| method |") == 6
    assert "| model, missing pixels of wholly hidden frames | 25.0% | 50.0% | 100.0% |" in text


def test_plain_and_unwrapped_without_a_terminal(report):
    out = io.StringIO()
    print_report(report, Console(file=out, width=20))
    assert "\x1b" not in out.getvalue()
    assert "model without radar   0.0140*   0.0210*     3.00*    30.00*    0.900\n" in out.getvalue()


def test_coloured_in_a_terminal(report):
    out = io.StringIO()
    print_report(report, Console(file=out, width=120, force_terminal=True, color_system="standard"))
    assert "\x1b[1;32m" in out.getvalue()


def test_files_below_a_folder(report, tmp_path):
    written = write_report(report, str(tmp_path / "new" / "folder"))
    assert [uri.rpartition("/")[2] for uri in written] == ["report.json", "report.csv", "report.md"]
    assert from_json((tmp_path / "new" / "folder" / "report.json").read_text()) == report
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "report.csv",
        "report.json",
        "report.md",
    ]
