"""What a space gives, and what it refuses before a trial begins."""

from __future__ import annotations

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from restore_dit.config import RunConfig
from restore_dit.errors import UserError
from tests.messages import refused
from tuning.space import Choice, Range, Space, configuration, grid, require_valid, suggest

SPACES = TypeAdapter(Space)

FAMILIES = {
    "family": {
        "bundles": {
            "x0": {"diffusion.prediction": "x0"},
            "flow": {"diffusion.schedule": "straight", "diffusion.prediction": "flow"},
        }
    },
    "diffusion.beta_end": {"low": 0.01, "high": 0.03, "log": True, "when": {"diffusion.schedule": ["linear"]}},
    "diffusion.sampling_steps": {"low": 1, "high": 5, "step": 2, "kind": "int"},
    "diffusion.loss_over": {"values": ["all", "missing"]},
}


def space_of(tree: dict) -> Space:
    return SPACES.validate_python(tree)


def test_parameters_are_told_apart_by_what_they_hold():
    space = space_of(
        FAMILIES | {"model.radar_channels": {"values": [["VV", "VH"], []]}, "data.flips": {"values": [False]}}
    )
    assert isinstance(space["diffusion.beta_end"], Range)
    assert isinstance(space["diffusion.loss_over"], Choice)
    assert space["model.radar_channels"].values == (("VV", "VH"), ())
    assert space["data.flips"].values == (False,)
    assert SPACES.validate_python(SPACES.dump_python(space, mode="json")) == space


@given(seed=st.integers(0, 1000))
def test_every_suggestion_is_a_run_that_has_its_values(seed):
    space = space_of(FAMILIES)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    values = suggest(space, RunConfig(), study.ask())
    run = configuration(space, RunConfig(), values)
    assert ("diffusion.beta_end" in values) == (values["family"] == "x0")
    assert run.diffusion.prediction == values["family"]
    assert run.diffusion.sampling_steps == values["diffusion.sampling_steps"] in (1, 3, 5)
    assert run.diffusion.loss_over == values["diffusion.loss_over"]


def test_a_grid_has_every_combination_once_and_nothing_that_a_trial_does_not_have():
    tree = FAMILIES | {"diffusion.beta_end": {"values": [0.01, 0.02], "when": {"diffusion.schedule": ["linear"]}}}
    combinations = list(grid(space_of(tree), RunConfig()))
    assert len(combinations) == (2 + 1) * 3 * 2
    assert len({str(values) for values in combinations}) == len(combinations)
    assert all(("diffusion.beta_end" in values) == (values["family"] == "x0") for values in combinations)


def test_a_sound_space_is_tried_as_a_whole():
    assert require_valid(space_of(FAMILIES), RunConfig()) == (2 + 1) * 2 * 2  # ranges by their ends


@pytest.mark.parametrize(
    ("tree", "facts"),
    [
        ({}, ["space"]),
        ({"diffusion.sampler": {"values": ["ddim", "heun"]}}, ["diffusion.sampler=heun", "'ddim'"]),
        ({"diffusion.beta_end": {"low": 0.01, "high": 1.5}}, ["diffusion.beta_end=1.5", 1]),
        ({"diffusion.sampling_step": {"values": [1]}}, ["diffusion.sampling_step", "'sampling_steps'"]),
        (
            {"diffusion.prediction": {"values": ["epsilon"]}, "diffusion.zero_terminal_snr": {"values": [False, True]}},
            ["diffusion.prediction=epsilon", "diffusion.zero_terminal_snr=True", "'v'"],
        ),
        ({"diffusion.steps": {"values": [10], "when": {"diffusion.nothing": [1]}}}, ["'diffusion.nothing'"]),
    ],
)
def test_what_the_configuration_would_refuse_is_refused_in_one_line(tree, facts):
    with refused(*facts, status=2):
        require_valid(space_of(tree), RunConfig())


def test_of_a_large_space_every_pair_is_tried():
    many = {f"{key}": {"low": 1, "high": 9, "kind": "int"} for key in _INTEGERS}
    pair = {
        "diffusion.prediction": {"values": ["x0", "epsilon"]},
        "diffusion.zero_terminal_snr": {"values": [False, True]},
    }
    assert 2 ** (len(_INTEGERS) + 2) > 20_000
    with pytest.raises(UserError, match="zero_terminal_snr"):
        require_valid(space_of(many | pair), RunConfig())


_INTEGERS = (
    "diffusion.sampling_steps", "training.epochs", "training.validate_every", "training.save_every",
    "training.log_every", "training.validation_examples", "data.frames", "data.examples_per_tile",
    "data.date_rounding", "data.radar.frames", "model.depth", "seed", "workers.max_failures",
)  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"low": 2, "high": 1},
        {"low": 0, "high": 1, "log": True},
        {"low": 1, "high": 2.5, "kind": "int"},
        {"values": []},
        {"bundles": {}},
        {"low": 1, "high": 2, "steps": 3},
    ],
)
def test_parameters_that_are_none(wrong):
    with pytest.raises(ValueError):
        space_of({"diffusion.beta_end": wrong})
