"""What a stopped training goes on from."""

import pytest
import torch

from restore_dit.clouds.training.resume_state import LossPoint, Progress, identity, load_state, save_state, state_file
from restore_dit.config.cloud_training import CloudTrainingConfig
from restore_dit.data.storage import locate
from tests.messages import refused

CONFIG = CloudTrainingConfig(stores=("a", "b"))
PARTS = {"weights": {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(7)}, "best": {}}


def saved(tmp_path) -> Progress:
    progress = Progress(identity=identity(CONFIG, ["x", "y"]), step=12, best_criterion=0.75, best_step=10)
    progress.losses.append(LossPoint(step=10, loss=0.123456789))
    save_state(locate(tmp_path), progress, PARTS)
    return progress


def test_a_state_comes_back(tmp_path):
    progress = saved(tmp_path)
    found, parts = load_state(locate(tmp_path), CONFIG, ["x", "y"])
    assert found == progress
    assert parts.keys() == {"weights"}
    for name, value in PARTS["weights"].items():
        assert torch.equal(parts["weights"][name], value)
        assert parts["weights"][name].dtype == value.dtype


def test_nothing_saved_is_the_start(tmp_path):
    found, parts = load_state(locate(tmp_path), CONFIG, ["x", "y"])
    assert (found.step, parts) == (0, {})


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_state_is_one_line(tmp_path, keep):
    saved(tmp_path)
    file = state_file(locate(tmp_path)).path
    with open(file, "rb") as stream:
        content = stream.read()
    with open(file, "wb") as stream:
        stream.write(content[:keep])
    with refused("state.safetensors"):
        load_state(locate(tmp_path), CONFIG, ["x", "y"])


def test_another_format_is_refused_by_its_number(tmp_path):
    save_state(locate(tmp_path), saved(tmp_path).model_copy(update={"format": 1}), PARTS)
    with refused("state.safetensors", 1, 2):
        load_state(locate(tmp_path), CONFIG, ["x", "y"])


def test_how_it_runs_may_change(tmp_path):
    saved(tmp_path)
    elsewhere = CONFIG.model_copy(update={"stores": ("c", "d"), "threads": 3, "save_every": 7, "output": "e"})
    assert load_state(locate(tmp_path), elsewhere, ["x", "y"])[0].step == 12


def test_another_configuration_is_refused_by_its_key(tmp_path):
    saved(tmp_path)
    loss = CONFIG.loss.model_copy(update={"dice": 0.5})
    with refused(str(tmp_path), "loss.dice=0.0", 0.5):
        load_state(locate(tmp_path), CONFIG.model_copy(update={"loss": loss}), ["x", "y"])


def test_other_stores_are_refused(tmp_path):
    saved(tmp_path)
    with refused(str(tmp_path), "stores"):
        load_state(locate(tmp_path), CONFIG, ["x", "z"])
