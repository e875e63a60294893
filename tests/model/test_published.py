"""Published weights: read as they are saved, and refused where they do not fit."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch

from restore_dit.errors import UserError
from restore_dit.model.denoiser import Denoiser
from restore_dit.model.published import published_names, read_published_checkpoint
from restore_dit.series import S2_BANDS
from tests.messages import assert_names


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [True, False])
def test_every_published_number_arrives(golden, tmp_path, prefix, wrapped):
    numbers = golden("default")
    config, weights = read_published_checkpoint(numbers.saved(tmp_path / "a.pth", prefix=prefix, wrapped=wrapped))
    assert (config.hidden_size, config.depth, config.patch_size, config.heads) == (48, 2, 4, 4)
    assert (config.bands, config.radar_channels, config.mlp_ratio) == (S2_BANDS, ("VV", "VH", "VV-VH"), 4)
    assert (config.radar_attention, config.gap_channel, config.anchor) == ("paired", False, "none")
    Denoiser(config).load_state_dict(weights)
    back = {}
    for name, value in weights.items():
        parts = published_names(name)
        back |= dict(zip(parts, value.chunk(len(parts)), strict=True))
    unused = {"pos_embed", "time_embed", "y_embedder.embedding_table.weight"}
    assert set(back) == set(numbers.weights) - unused
    assert all(torch.equal(value.flatten(), numbers.weights[name].flatten()) for name, value in back.items())


def test_heads_may_be_named(golden, tmp_path):
    config, _ = read_published_checkpoint(golden("default").saved(tmp_path / "a.pth"), heads=8)
    assert config.heads == 8


def refusal(path, **arguments) -> str:
    with pytest.raises(UserError) as caught:
        read_published_checkpoint(path, **arguments)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def changed(golden, path, change):
    numbers = golden("default")
    weights = dict(numbers.weights)
    change(weights)
    torch.save({"model_state_dict": weights}, path)
    return path


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda w: w.pop("blocks.1.mlp.fc2.bias"), ["blocks.1.mlp.fc2.bias"]),
        (lambda w: w.pop("x_embedder.proj.weight"), ["x_embedder.proj.weight"]),
        (lambda w: w.update(extra=torch.zeros(1)), ["extra"]),
        (
            lambda w: w.update({"final_layer.linear.bias": torch.zeros(7)}),
            ["final_layer.linear.bias", "[7]", "[160]"],
        ),
        (lambda w: w.update({"x_embedder.proj.weight": torch.zeros(48, 10)}), ["x_embedder.proj.weight", 4]),
        (lambda w: w.update({"cond_embedder.proj.weight": torch.zeros(48, 9, 4, 4)}), ["9 radar channels"]),
        (lambda w: [w.pop(name) for name in list(w) if name.startswith("blocks.")], ["blocks.0"]),
        (lambda w: [w.pop(name) for name in list(w) if "Temporal" in name], [13]),
    ],
)
def test_a_checkpoint_that_does_not_fit(golden, tmp_path, change, facts):
    assert_names(refusal(changed(golden, tmp_path / "a.pth", change)), *facts)


def test_other_bands_and_heads(golden, tmp_path):
    path = golden("default").saved(tmp_path / "a.pth")
    assert_names(refusal(path, bands=("B02", "B03")), 10, 2)
    assert_names(refusal(path, heads=5), 5)


def of_four_bands_and_two_channels(weights):
    """Weights of the golden network cut to its first four bands and two radar channels, and the whole network with the
    other inputs' weights at zero: both compute the same four bands."""
    cut, whole = dict(weights), dict(weights)
    for name, count in (("x_embedder.proj.weight", 4), ("cond_embedder.proj.weight", 2)):
        cut[name] = weights[name][:, :count].clone()
        whole[name] = weights[name].clone()
        whole[name][:, count:] = 0
    for name in ("final_layer.linear.weight", "final_layer.linear.bias"):  # a pixel's bands lie one below the other
        cut[name] = weights[name].unflatten(0, (16, 10))[:, :4].flatten(0, 1).clone()
    return cut, whole


def test_a_network_of_other_bands_and_radar_channels(golden, tmp_path):
    numbers = golden("default")
    outputs = []
    for index, weights in enumerate(of_four_bands_and_two_channels(numbers.weights)):
        torch.save(weights, tmp_path / f"{index}.pth")
        named = {"bands": ("B08", "B04", "B03", "B02"), "radar": ("VV", "VH")} if index == 0 else {}
        config, ours = read_published_checkpoint(tmp_path / f"{index}.pth", **named)
        denoiser = Denoiser(config).eval()
        denoiser.load_state_dict(ours)
        noisy, conditioning = numbers.arrays["x"], numbers.conditioning
        if index == 0:
            assert (config.bands, config.radar_channels) == (("B08", "B04", "B03", "B02"), ("VV", "VH"))
            noisy, conditioning = noisy[:, :, :4], replace(conditioning, radar=conditioning.radar[:, :, :2])
        with torch.no_grad():
            outputs.append(denoiser(noisy, numbers.arrays["t"], conditioning)[:, :, :4])
    assert outputs[0].abs().max() > 0.1
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("named", "facts"),
    [
        ({}, ("--bands", 4, 10)),
        ({"bands": ("B02", "B03", "B04")}, ("--bands", 4, 3)),
        ({"bands": ("B02", "B03", "B04", "B08"), "radar": ("VV", "VH", "VV-VH")}, ("--radar", 2, 3)),
        ({"bands": ("B02", "B03", "B04", "B08"), "radar": ()}, ("--radar", 2, 0)),
    ],
)
def test_bands_and_channels_that_the_network_does_not_have(golden, tmp_path, named, facts):
    path = tmp_path / "a.pth"
    torch.save(of_four_bands_and_two_channels(golden("default").weights)[0], path)
    assert_names(refusal(path, **named).removeprefix(str(path)), *facts)


def test_radar_channels_of_a_network_without_radar(golden, tmp_path):
    path = changed(golden, tmp_path / "a.pth", lambda w: [w.pop(name) for name in list(w) if "cond_embedder" in name])
    assert_names(refusal(path, radar=("VV",)).removeprefix(str(path)), "--radar", "no", 1, "VV")


class Payload:
    """What a malicious file holds: reading it would run code."""

    def __reduce__(self):
        return (print, ("run",))


def test_nothing_is_unpickled(tmp_path, capsys):
    path = tmp_path / "a.pth"
    torch.save({"model_state_dict": {"x": torch.zeros(1)}, "optimiser": Payload()}, path)
    assert_names(refusal(path), "torch.save", "state_dict")
    path.write_bytes(pickle.dumps(Payload()))
    refusal(path)
    assert capsys.readouterr().out == ""


def test_files_that_are_no_checkpoint(golden, tmp_path):
    path = tmp_path / "a.pth"
    refusal(path)
    refusal(tmp_path)
    for content in (b"", b"hello", bytes(1000), b"PK\x03\x04"):
        path.write_bytes(content)
        refusal(path)
    whole = golden("default").saved(tmp_path / "whole.pth").read_bytes()
    for length in (10, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:length])
        refusal(path)
    torch.save([1, 2], path)
    assert_names(refusal(path), "model_state_dict")
    torch.save({}, path)
    refusal(path)
