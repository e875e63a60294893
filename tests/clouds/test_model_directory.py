import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from restore_dit.clouds.model_directory import load_cloud_model, load_detector, save_cloud_model
from restore_dit.clouds.network.weights import checksum
from restore_dit.config import RunConfig, dump
from restore_dit.config.clouds import CloudNetworkConfig, DetectionConfig
from restore_dit.errors import UserError
from tests.clouds.random_network import assert_same_masks, plain_logits, random_weights, reflectance, tile
from tests.messages import assert_names, refused

BANDS = ("B02", "B11", "B8A")
CONFIG = CloudNetworkConfig(bands=BANDS, missing_bands=True, pixel_size=10)


@pytest.fixture(scope="module")
def weights():
    return random_weights(len(BANDS))


@pytest.fixture
def saved(weights, tmp_path):
    files = {"README.md": b"Trained on clouds.", "confusion.png": b"png"}
    save_cloud_model(tmp_path / "model", CONFIG, weights, {"iou": {"clear": 0.9, "shadow": None}}, files)
    return tmp_path / "model"


def test_round_trip(weights, saved):
    model = load_cloud_model(saved.as_uri())
    assert model.config == CONFIG
    assert model.metrics == {"iou": {"clear": 0.9, "shadow": None}}
    assert model.checksum == checksum(weights)
    assert not model.network.training
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.network.state_dict().items())
    assert (saved / "README.md").read_text() == "Trained on clouds."
    assert sorted(file.name for file in saved.iterdir()) == [
        "README.md",
        "cloud_network.yaml",
        "confusion.png",
        "metrics.json",
        "model.safetensors",
    ]
    assert yaml.safe_load((saved / "cloud_network.yaml").read_text())["bands"] == list(BANDS)


def test_the_same_directory_again(saved):
    other = random_weights(4, seed=1)
    save_cloud_model(saved, CloudNetworkConfig(), other, {}, {})
    assert load_cloud_model(saved).checksum == checksum(other)


def test_the_detector_of_a_directory(weights, saved):
    found = load_detector(DetectionConfig(weights=str(saved), batch_size=4))
    assert found.config == CONFIG
    assert found.origin.method == "network"
    assert found.origin.by.startswith(f"unet mobilenet_v2 {checksum(weights)[:16]},")
    series = tile(0, 4, (64, 64), BANDS)
    (masks,) = found.detect([series])
    assert_same_masks(masks, plain_logits(weights, reflectance(series)))


def test_the_detector_of_a_published_file(tmp_path):
    weights = random_weights(4)
    torch.save(weights, tmp_path / "a.pth")
    found = load_detector(DetectionConfig(weights=str(tmp_path / "a.pth"), batch_size=5))
    assert found.origin.by == f"unet mobilenet_v2 {checksum(weights)[:16]}"
    (masks,) = found.detect([tile(0, 3, (40, 40))])
    save_cloud_model(tmp_path / "model", CloudNetworkConfig(), weights, {}, {})
    same = load_detector(DetectionConfig(weights=str(tmp_path / "model"), batch_size=5))
    assert same.origin == found.origin
    assert np.array_equal(next(same.detect([tile(0, 3, (40, 40))])), masks)


def test_masks_of_other_settings_have_another_origin(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(random_weights(4), path)
    configs = [
        DetectionConfig(weights=str(path)),
        DetectionConfig(weights=str(path), precision="bf16"),
        DetectionConfig(weights=str(path), clear_bias=0.5),
        DetectionConfig(weights=str(path), network=CloudNetworkConfig(pixel_size=10)),
        DetectionConfig(weights=str(path), network=CloudNetworkConfig(bands=("B03", "B02", "B04", "B8A"))),
    ]
    assert len({load_detector(config).origin.by for config in configs}) == len(configs)
    again = DetectionConfig(weights=str(path), batch_size=3, workers=0, use_gpu=True, store="elsewhere")
    assert load_detector(again).origin == load_detector(configs[0]).origin


def refusal(place) -> str:
    with pytest.raises(UserError) as caught:
        load_cloud_model(place)
    message = str(caught.value)
    assert message.startswith(str(place))
    assert "\n" not in message
    return message


def test_what_is_no_cloud_model(saved, tmp_path):
    assert_names(refusal(tmp_path / "nothing"), "cloud_network.yaml")
    assert_names(refusal(tmp_path), f"{tmp_path}/model")
    (tmp_path / "filler").mkdir()
    (tmp_path / "filler" / "config.yaml").write_text(dump(RunConfig()))
    assert_names(refusal(tmp_path / "filler"), "RESTORE-DiT")
    with pytest.raises(UserError, match=f"{saved}$"):
        load_detector(DetectionConfig(weights=f"{saved}/model.safetensors"))
    with refused("network.*"):
        load_detector(DetectionConfig(weights=str(saved), network=CloudNetworkConfig(pixel_size=20)))


@pytest.mark.parametrize("name", ["cloud_network.yaml", "model.safetensors", "metrics.json"])
def test_a_file_that_is_missing_or_damaged(saved, name):
    content = (saved / name).read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"\xff\xfe\x00", b"[1, 2]", b"{"):
        (saved / name).write_bytes(damaged)
        assert name in refusal(saved)
    (saved / name).unlink()
    refusal(saved)


def test_files_that_do_not_belong_together(weights, saved, tmp_path):
    config = (saved / "cloud_network.yaml").read_text()
    (saved / "cloud_network.yaml").write_text(config.replace("missing_bands: true", "missing_bands: false"))
    assert_names(refusal(saved), "cloud_network.yaml")
    (saved / "cloud_network.yaml").write_text(config + "depth: 3\n")
    assert_names(refusal(saved), "'depth'")
    (saved / "cloud_network.yaml").write_text(config)

    content = bytearray((saved / "model.safetensors").read_bytes())
    content[-5000] ^= 1  # a bit of a weight
    (saved / "model.safetensors").write_bytes(content)
    assert_names(refusal(saved), "model.safetensors")

    safetensors.torch.save_file(weights, saved / "model.safetensors")
    assert_names(refusal(saved), "model.safetensors", "restore-dit train-clouds")


def test_a_save_that_was_cut_short_leaves_no_mixture(saved, weights, tmp_path):
    save_cloud_model(tmp_path / "new", CloudNetworkConfig(bands=BANDS), weights, {}, {})
    shutil.copy(tmp_path / "new" / "cloud_network.yaml", saved)
    assert_names(refusal(saved), "cloud_network.yaml")
