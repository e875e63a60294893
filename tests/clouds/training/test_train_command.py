"""`restore-dit train-clouds` as a user meets it: what it reads of its words, what it leaves, and Ctrl-C."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from jobs import entry
from restore_dit.cli import main
from restore_dit.config import dump
from restore_dit.data.store.tile_store import TileStore
from tests.data.store.tiles import store_of, tile
from tests.messages import assert_names

pytestmark = pytest.mark.slow

SMALL = ("crop=32", "batch_size=4", "threads=1", "validation.frames=10", "network.pixel_size=10")


def resolved(capsys, *words: str) -> dict:
    assert main(["train-clouds", *words, "--dry-run"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_a_dry_run_prints_what_would_be_trained_and_leaves_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = resolved(capsys, "a", "steps=7", "b", "--output", "m", "optimiser.learning_rate=0.1", "seed=3")
    assert found["stores"] == ["a", "b"]
    assert found["output"] == "m"
    assert (found["steps"], found["seed"], found["optimiser"]["learning_rate"]) == (7, 3, 0.1)
    assert list(tmp_path.iterdir()) == []


def test_a_store_whose_path_has_an_equals_sign_is_a_store(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b" / "zs").mkdir(parents=True)
    words = ("a=b/zs", "steps=7", "s3://bucket/year=2019/site", "data/year=2019/site", "./steps=8")
    found = resolved(capsys, *words)
    assert found["stores"] == [words[0], *words[2:]]
    assert found["steps"] == 7


@pytest.mark.parametrize(
    ("words", "status", "facts"),
    [
        (("steps=3",), 2, ["stores"]),
        (("nowhere",), 1, ["nowhere"]),
        (("nowhere", "stepps=3"), 2, ["stepps", "'steps'"]),
        (("nowhere", "a=b/zs"), 2, ["'a'"]),  # neither a key nor a folder
        (("nowhere", "validation.share=0.7"), 2, ["validation.share", 0.5, 0.7]),
        ((), 2, ["stores"]),
    ],
)
def test_mistakes_end_in_one_line_and_a_status(capsys, tmp_path, monkeypatch, words, status, facts):
    monkeypatch.chdir(tmp_path)
    try:
        found = main(["train-clouds", *words])
    except SystemExit as stop:
        found = stop.code
    assert found == status
    assert_names(capsys.readouterr().err, *facts)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_was_trained_makes_masks(capsys, tmp_path, cloud_store):
    store, model = str(tmp_path / "year=2019"), str(tmp_path / "model")
    shutil.copytree(cloud_store.uri, store)
    words = ["train-clouds", store, "steps=4", *SMALL, "--output", model, "validation.every=2"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert_names(out, "step 2", "year=2019", model)
    assert main(["detect-clouds", store, "--weights", model, "--workers", "0"]) == 0
    after = TileStore.open(store)
    origins = {record.masks[record.masks_in_use].origin.method for record in after.manifest.tiles.values()}
    assert origins == {"network"}
    assert main(words) == 1
    assert_names(capsys.readouterr().err, model)


def test_the_job_reads_the_same_configuration(capsys, tmp_path, training):
    config = training(steps=3)
    file = tmp_path / "clouds.yaml"
    file.write_text(dump(config))
    assert entry.main("train-clouds", ["--config", str(file), "--dry-run", "seed=4"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(file.read_text()) | {"seed": 4}


@pytest.mark.slow
def test_interrupted_and_started_again_it_goes_on(tmp_path, capsys):
    store = store_of(tmp_path / "store", *(tile(name, seed=n, size=(32, 32)) for n, name in enumerate("abc")))
    model = tmp_path / "model"
    words = ["train-clouds", store.uri, "--output", str(model), "steps=8", "save_every=1", *SMALL]
    command = [sys.executable, "-m", "restore_dit.cli", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    state = model / "training" / "state" / "latest.json"
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not state.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert_names(output, "step")
    assert not Path(model, "model.safetensors").exists()
    assert main(words) == 0
    assert_names(capsys.readouterr().out, "step 8", str(model))
    assert Path(model, "model.safetensors").exists()
