"""Sweeps as files: the shipped ones, overrides, and what is refused."""

from __future__ import annotations

import pytest
import yaml

from restore_dit.config import dump, load
from restore_dit.config.loading import build
from tests.messages import refused
from tuning.config import SweepConfig, load_sweep, shipped_sweeps


def test_every_shipped_sweep_is_sound_and_comes_back_from_its_file():
    assert set(shipped_sweeps()) == {"schedules", "sampling-only", "small", "population", "pixels"}
    for name in shipped_sweeps():
        sweep = load_sweep(name, ["model=models/x"] if name == "sampling-only" else [])
        assert build(SweepConfig, yaml.safe_load(dump(sweep)), name) == sweep


def test_the_run_is_its_base_changed(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("base: tiny\nrun: {training: {epochs: 7}}\nspace: {seed: {values: [1, 2]}}\n")
    sweep = load_sweep(str(file), ["run.training.batch_size=4", "search.trials=2"])
    tiny = load("tiny")
    training = tiny.training.model_copy(update={"epochs": 7, "batch_size": 4})
    assert sweep.run == tiny.model_copy(update={"training": training, "output": ""})
    assert sweep.search.trials == 2


@pytest.mark.parametrize(
    ("config", "overrides", "facts"),
    [
        ("nothing", [], ["nothing", "population, sampling-only, schedules, small"]),
        ("small", ["serach.trials=3"], ["'serach'", "'search'"]),
        ("small", ["search.algorithm=bayes"], ["search.algorithm", "'bayes'"]),
        ("small", ["search.objectives=[seconds]"], ["objectives", "[psnr]", "[psnr, seconds]"]),
        ("small", ["run.output=here"], ["run.output=here"]),
        ("schedules", ["search.algorithm=grid"], ["space.diffusion.beta_end", "values", "step"]),
        ("sampling-only", ["model=m", "space.seed.values=[1]"], ["space.seed", "'model'"]),
        ("sampling-only", ["model=m", "seeds.best=1"], ["stopping", "population", "seeds", "'model'"]),
        (
            "small",
            ["space.family.bundles.bad={diffusion.prediction: flow}"],
            ["family=bad", "'flow'", "'straight'"],
        ),
    ],
)
def test_what_is_refused_in_one_line(config, overrides, facts):
    with refused(*facts, status=2):
        load_sweep(config, overrides)
