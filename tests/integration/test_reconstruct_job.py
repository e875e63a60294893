"""A reconstruction by actors has the pixels of one process, also over object storage and when an actor dies."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from jobs import evaluate, reconstruct
from restore_dit.config import RunConfig
from restore_dit.config.jobs import EvaluationConfig, ReconstructionConfig, SamplingConfig
from restore_dit.data import storage
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from restore_dit.model.denoiser import Denoiser
from restore_dit.program import console
from restore_dit.reconstruction.model_directory import save_model
from restore_dit.training.setup import set_up
from tests.integration.workers import ACTOR, one_killed
from tests.messages import assert_names

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240), pytest.mark.usefixtures("ray_cluster")]

ONE_STEP = SamplingConfig(steps=1)


@pytest.fixture(scope="module")
def model(small_run: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random weights, so that every input has a say."""
    torch.manual_seed(0)
    weights = {
        name: value + 0.05 * torch.randn_like(value) if value.is_floating_point() else value
        for name, value in Denoiser(small_run.model).state_dict().items()
    }
    folder = str(tmp_path_factory.mktemp("model"))
    save_model(folder, small_run, weights, set_up(small_run).normalisation, {})
    return folder


def pixels(folder: str) -> dict[str, np.ndarray]:
    """Every raster below a folder of results, local or in a bucket."""
    found = {}
    for tile_id in (name for name in storage.list_names(folder) if "." not in name):
        for name in storage.list_names(storage.locate(folder).join(tile_id)):
            content = storage.read_bytes(storage.locate(folder).join(tile_id, name))
            with rasterio.MemoryFile(content) as memory, memory.open() as file:
                found[name] = file.read()
    return found


def assert_same(here: str, there: str, tiles: int) -> None:
    expected, found = pixels(here), pixels(there)
    assert len({name.rpartition("_2")[0] for name in expected if "_gap" not in name}) == tiles
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.s3
def test_over_object_storage_with_two_actors_as_in_one_process(model, small_store, tmp_path, bucket, capfd):
    """The model and a store with a tile that is gone lie in a bucket, as the results do."""
    place, gone = f"s3://{bucket}", small_store.tile_ids[1]
    for folder, source in (("model", Path(model)), ("store", Path(small_store.uri))):
        for file in source.rglob("*"):
            if file.is_file() and file.stem != gone:
                storage.write_bytes_atomically(f"{place}/{folder}/{file.relative_to(source)}", file.read_bytes())
    config = ReconstructionConfig(model=f"{place}/model", input=f"{place}/store", output=f"{place}/clear")
    config = config.model_copy(update={"tiles": small_store.tile_ids[:3], "workers": 2, "sampling": ONE_STEP})
    assert reconstruct.run(config, console()) == 1
    captured = capfd.readouterr()
    assert captured.err.count(f"{gone}: ") == 1
    assert re.search(r"^reconstruct: 3\D+3\b", captured.out, re.MULTILINE)
    assert storage.exists(f"{place}/clear/{small_store.tile_ids[0]}.png")

    others = tuple(tile for tile in config.tiles if tile != gone)
    here = config.model_copy(update={"model": model, "output": str(tmp_path / "here"), "workers": 0, "tiles": others})
    assert reconstruct.run(here, console()) == 0
    assert_same(str(tmp_path / "here"), f"{place}/clear", tiles=2)
    assert reconstruct.run(config.model_copy(update={"tiles": others}), console()) == 0
    assert_names(capfd.readouterr().out, "2 tiles")

    scored = EvaluationConfig(
        model=f"{place}/model", store=f"{place}/store", output=f"{place}/scores", part="all", workers=2
    )
    scored = scored.model_copy(update={"tiles": 1, "figures": 1, "sampling": ONE_STEP})
    assert evaluate.run(scored, console()) == 0
    names = storage.list_names(f"{place}/scores")
    assert {name.rpartition(".")[2] for name in names} == {"csv", "json", "md", "png"}
    with pytest.raises(UserError, match=f"{gone}.parquet") as error:
        evaluate.run(scored.model_copy(update={"tiles": 2}), console())
    assert "\n" not in str(error.value)


@pytest.mark.faults
def test_the_tile_of_an_actor_that_is_killed_is_done_by_another(model, small_store, tmp_path, monkeypatch):
    """SIGKILL for the actor that is at it once two tiles are there; paths are relative, and mean the driver's."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_store.uri, "store")
    shutil.copytree(model, "model")
    config = ReconstructionConfig(model="model", input="store", output="there", figures=False, workers=1)
    config = config.model_copy(update={"tiles": TileStore.open("store").tile_ids[:5], "sampling": ONE_STEP})
    with one_killed(ACTOR, lambda: len(list((tmp_path / "there").glob("*.json"))) >= 2):
        assert reconstruct.run(config, console()) == 0
    assert reconstruct.run(config.model_copy(update={"output": "here", "workers": 0}), console()) == 0
    assert_same(str(tmp_path / "here"), str(tmp_path / "there"), tiles=5)
