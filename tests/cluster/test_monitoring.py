"""The monitoring files are well formed, and the alert rules fire when they should."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster.monitoring import dashboard
from cluster.monitoring.prometheus import configuration
from jobs.metrics import DESCRIPTIONS
from tests.cluster.expressions import FOLDER, alert_expressions, dashboard_expressions, metrics_of

HERE = Path(__file__).resolve().parent


def promtool(*arguments: str) -> str:
    if shutil.which("promtool") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("promtool is not installed: apt install prometheus")
    result = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_configuration_and_its_rules_are_valid(tmp_path: Path):
    nodes = tmp_path / "nodes.json"
    nodes.write_text("[]")
    file = tmp_path / "prometheus.yaml"
    file.write_text(configuration(nodes))
    assert str(nodes) in file.read_text()
    assert "12 rules found" in promtool("check", "config", str(file))
    promtool("check", "config", str(FOLDER / "prometheus.yaml"))
    remote = tmp_path / "prometheus-http.yaml"
    for name in ("prometheus-http.yaml", "alerts.yaml"):
        (tmp_path / name).write_text((FOLDER / name).read_text())
    (tmp_path / "auth_token").write_text("token")
    assert "12 rules found" in promtool("check", "config", str(remote))
    local, other = (yaml.safe_load(file.read_text()) for file in (FOLDER / "prometheus.yaml", remote))
    local["scrape_configs"][0].pop("file_sd_configs")
    other["scrape_configs"][0].pop("http_sd_configs")
    assert local == other  # all else is the same


def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path):
    file = tmp_path / "test.yaml"
    text = (HERE / "alerts_test.yaml").read_text()
    file.write_text(text.replace("ALERTS", str(FOLDER / "alerts.yaml")))
    promtool("test", "rules", str(file))
    for line in (FOLDER / "alerts.yaml").read_text().splitlines():
        if "- alert:" in line:
            assert f"alertname: {line.split()[-1]}" in text, f"{line.strip()} is not tested"


def test_panels_of_the_dashboard_have_places_and_numbers_of_their_own():
    tree = json.loads(dashboard.text())
    numbers = [panel["id"] for panel in tree["panels"]]
    assert len(numbers) == len(set(numbers))
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in tree["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))  # no panel lies upon another
    assert max(x for x, _ in cells) < dashboard.COLUMNS


def test_every_metric_of_ours_is_on_the_dashboard_and_no_other_is_named():
    named = {name for e in (*dashboard_expressions(), *alert_expressions()) for name in metrics_of(e)}
    ours = {f"ray_{name}" for name in DESCRIPTIONS}
    assert {name for name in named if name.startswith("ray_restore_dit_")} <= ours
    assert ours <= {name for expression in dashboard_expressions() for name in metrics_of(expression)}


def test_the_guide_starts_prometheus_with_files_that_are_there():
    guide = (FOLDER.parents[1] / "docs" / "monitoring.md").read_text()
    named = yaml.safe_load((FOLDER.parent / "aws.yaml").read_text())["cluster_name"]
    assert f"/tmp/ray_tmp_mount/{named}/tmp/my_monitoring" in guide  # get_docker_host_mount_location of Ray
    assert "ray attach cluster/aws.yaml" not in guide  # it has none of the user's numbers
    assert {"prometheus-http.yaml", "alerts.yaml"} <= {file.name for file in FOLDER.iterdir()}


def test_without_ray_nothing_is_published_and_nothing_breaks():
    code = """
import sys
from jobs.metrics import TileMetrics, TrainingMetrics
from restore_dit.trainer.monitor import EndedReport, StartedReport
training = TrainingMetrics("run")
training.show(StartedReport(0, 10, 1, 1))
training.show(EndedReport(10, True))
training.close()
tiles = TileMetrics("ingest-pastis")
tiles.show(1, 0, 2)
tiles.close()
assert "ray" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=FOLDER.parents[1])
