import pytest
import torch

from restore_dit.reconstruction.model_directory import load_model, save_model
from tests.messages import refused


@pytest.fixture
def saved(small_model, tmp_path):
    save_model(
        tmp_path / "model",
        small_model.config,
        small_model.denoiser.state_dict(),
        small_model.normalisation,
        {"psnr": 31.5},
    )
    return tmp_path / "model"


def test_round_trip(small_model, saved):
    model = load_model(saved)
    assert model.config == small_model.config
    assert model.normalisation == small_model.normalisation
    assert model.metrics == {"psnr": 31.5}
    for name, tensor in small_model.denoiser.state_dict().items():
        assert torch.equal(model.denoiser.state_dict()[name], tensor)
    assert not model.denoiser.training
    assert "31.5" in (saved / "README.md").read_text()


def test_refusals(saved, tmp_path):
    with refused(str(tmp_path), f"{tmp_path}/model"):
        load_model(tmp_path)
    weights = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(weights[:-10])
    with refused(f"{saved}/model.safetensors"):
        load_model(saved)
    (saved / "model.safetensors").write_bytes(weights)
    config = (saved / "config.yaml").read_text()
    (saved / "config.yaml").write_text(config.replace("hidden_size: 16", "hidden_size: 32"))
    with refused(str(saved), "config.yaml"):
        load_model(saved)
    (saved / "config.yaml").write_text(config)
    (saved / "normalisation.json").write_text("{}")
    with refused(f"{saved}/normalisation.json"):
        load_model(saved)
