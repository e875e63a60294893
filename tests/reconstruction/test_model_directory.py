import pytest
import torch

from restore_dit.reconstruction.model_directory import TrainingData, load_model, save_model
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


def test_what_it_was_trained_on_is_kept(small_model, small_store, tmp_path):
    first, second, *_ = small_store.tile_ids
    data = TrainingData.of(small_store, [second])
    weights = small_model.denoiser.state_dict()
    save_model(tmp_path / "model", small_model.config, weights, small_model.normalisation, {}, data)
    model = load_model(tmp_path / "model")
    assert model.training_data == data == model.on_device(False).training_data
    assert data.store_fingerprint == small_store.fingerprint
    assert data.seen(small_store, [first, second]) == [second]
    assert TrainingData.of(small_store, [first]).after(data).seen(small_store, [first, second]) == [first, second]
    renamed = TrainingData("", {"another": data.tiles[second]})
    assert renamed.seen(small_store, [first, second]) == [second]


def test_a_directory_that_does_not_say_what_it_was_trained_on(saved):
    assert load_model(saved).training_data is None
    (saved / "training_data.json").write_text("[]")
    with refused(f"{saved}/training_data.json"):
        load_model(saved)


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
