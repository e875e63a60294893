"""Published cloud weights: read as they are saved, and refused where they do not fit."""

from __future__ import annotations

import argparse
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from restore_dit.clouds.network.published import load_published, read_published_weights
from restore_dit.clouds.network.weights import checksum
from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.errors import UserError
from restore_dit.series import S2_ALL_BANDS
from tests.clouds.random_network import plain_network
from tests.messages import assert_names

pytestmark = pytest.mark.slow

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def weights() -> Weights:
    return plain_network(4).state_dict()


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def prefixed(weights: Weights, prefix: str) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    "content",
    [
        lambda w: w,
        lambda w: {"state_dict": prefixed(w, "model."), "epoch": 3, "hyper_parameters": {"lr": 1e-3}},
        lambda w: {"model_state_dict": prefixed(w, "module.")},
        lambda w: prefixed(w, "module.model."),
    ],
    ids=["plain", "lightning", "wrapped", "two prefixes"],
)
def test_every_published_number_is_read(weights, tmp_path, content):
    read = read_published_weights(saved(tmp_path / "a.pth", content(weights)))
    assert read.keys() == weights.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in read.items())


def test_they_arrive_in_the_network(weights, tmp_path):
    before_batches_were_counted = {name: tensor for name, tensor in weights.items() if "num_batches" not in name}
    path = saved(tmp_path / "a.pth", before_batches_were_counted)
    network, digest = load_published(path, CloudNetworkConfig())
    assert not network.training
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
    assert digest == checksum(weights)


def test_other_containers(weights, tmp_path):
    safetensors.torch.save_file(weights, tmp_path / "a.safetensors")
    torch.save(weights, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "a.pt"):
        assert checksum(read_published_weights((tmp_path / name).as_uri())) == checksum(weights)


def test_the_checksum_is_that_of_the_numbers(weights):
    name = "decoder.blocks.0.conv1.0.weight"
    changed = weights[name].clone()
    changed[0, 0, 0, 0] += 1e-6
    assert checksum(weights | {name: changed}) != checksum(weights)
    assert checksum(dict(reversed(weights.items()))) == checksum(weights)


def test_thirteen_inputs_do_not_say_which(tmp_path):
    path = saved(tmp_path / "a.pth", plain_network(13).state_dict())
    assert_names(refusal(path), 13, "network.bands=[B01,B02")
    network, _ = load_published(path, CloudNetworkConfig(bands=S2_ALL_BANDS))
    with torch.inference_mode():
        assert network(torch.zeros(1, 13, 32, 32)).shape == (1, 4, 32, 32)
    assert_names(refusal(path, CloudNetworkConfig(bands=("B02", "B03"))), 13, "network.bands", 2, "B02, B03")


def refusal(path: Path, config: CloudNetworkConfig | None = None) -> str:
    with pytest.raises(UserError) as caught:
        load_published(path, config or CloudNetworkConfig())
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


FIRST, HEAD = "encoder.features.0.0.weight", "segmentation_head.0."


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda w: w.pop(FIRST), ["mobilenet_v2", FIRST]),
        (lambda w: [w.pop(HEAD + "weight"), w.pop(HEAD + "bias")], [f"{HEAD}weight", 1]),
        (lambda w: w.update({"loss.weight": torch.ones(4)}), ["loss.weight"]),
        (
            lambda w: w.update({FIRST: torch.zeros(32, 7, 3, 3)}),
            [7, "network.bands", 4, "B02, B03, B04, B8A"],
        ),
        (
            lambda w: w.update({HEAD + "weight": torch.zeros(2, 16, 3, 3)}),
            [2, 4, "clear", "thick cloud"],
        ),
        (lambda w: w.update({HEAD + "bias": torch.zeros(9)}), ["segmentation_head.0.bias", "[9]", "[4]"]),
        (lambda w: w.update({HEAD + "bias": torch.tensor([0, 0, torch.nan, 0])}), ["segmentation_head.0.bias"]),
        (lambda w: w.update({HEAD + "bias": torch.zeros(4, dtype=torch.complex64)}), ["segmentation_head.0.bias"]),
        (lambda w: w.update({HEAD + "bias": torch.zeros(4).to_sparse()}), ["segmentation_head.0.bias"]),
    ],
)
def test_weights_that_do_not_fit(weights, tmp_path, change, facts):
    changed = dict(weights)
    change(changed)
    assert_names(refusal(saved(tmp_path / "a.pth", changed)), *facts)


@pytest.mark.parametrize("content", [{"epoch": 3}, {}, [1, 2]])
def test_no_state_dict(tmp_path, content):
    assert_names(refusal(saved(tmp_path / "a.pth", content)), "state dict")


def test_another_encoder(weights, tmp_path):
    path = saved(tmp_path / "a.pth", weights)
    message = refusal(path, CloudNetworkConfig(encoder="resnet18"))
    assert_names(message, "resnet18", "encoder.conv1.weight", "encoder.features.0.0.weight")
    with_reference = refusal(path, CloudNetworkConfig(reference=True))
    assert_names(with_reference, "4 inputs", "network.bands", "B02, B03, B04, B8A")


class Payload:
    """What a malicious file holds: reading it would run code."""

    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"x": Payload()}, "print"),
        ({"state_dict": {}, "hyper_parameters": argparse.Namespace(a=1)}, "argparse.Namespace"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    ],
)
def test_nothing_is_unpickled(tmp_path, capsys, content, kind):
    message = refusal(saved(tmp_path / "a.pth", content))
    assert_names(message, "Python", kind, "state_dict()")
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Payload()))
    assert_names(refusal(tmp_path / "a.pth"), "Python")
    assert capsys.readouterr().out == ""


def test_files_that_are_no_checkpoint(weights, tmp_path):
    path = tmp_path / "a.pth"
    refusal(path)
    refusal(tmp_path)
    for content in (b"", b"hello", b"<html>404</html>", bytes(1000), safetensors.torch.save({"a": torch.ones(1)})):
        path.write_bytes(content)
        assert_names(refusal(path), ".pth")
    whole = io.BytesIO()
    torch.save(weights, whole)
    for length in (4, 1000, len(whole.getvalue()) // 2, len(whole.getvalue()) - 10):
        path.write_bytes(whole.getvalue()[:length])
        assert_names(refusal(path), "PyTorch")
    for content in (b"", b"hello", bytes(100), safetensors.torch.save({"a": torch.ones(9)})[:-4], whole.getvalue()):
        (tmp_path / "a.safetensors").write_bytes(content)
        assert_names(refusal(tmp_path / "a.safetensors"), "safetensors file")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damaged_bytes_are_one_line(tmp_path, kind):
    numbers = {f"layer.{index}.weight": torch.ones(3, 2) for index in range(3)}
    buffer = io.BytesIO()
    torch.save(numbers, buffer, _use_new_zipfile_serialization=kind == "zip")
    whole = safetensors.torch.save(numbers) if kind == "safetensors" else buffer.getvalue()
    path = tmp_path / ("a.safetensors" if kind == "safetensors" else "a.pth")
    random = np.random.default_rng(0)
    refusals = []
    for _ in range(300):
        content = bytearray(whole)
        for position in random.integers(0, len(content), 3):
            content[position] = random.integers(256)
        path.write_bytes(content)
        try:
            read_published_weights(path)
        except UserError as error:
            refusals.append(str(error))
    assert len(refusals) > 50
    assert all(message.startswith(f"{path}: ") and "\n" not in message for message in refusals)


def test_a_name_shared_by_all_is_no_part_of_them(tmp_path):
    names = ["model.net.a.weight", "model.net.b.weight"]
    path = saved(tmp_path / "a.pth", {name: torch.ones(1) for name in names})
    assert set(read_published_weights(path)) == {"a.weight", "b.weight"}
