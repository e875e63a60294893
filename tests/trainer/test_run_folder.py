import json

import pytest

from restore_dit.config import RunConfig
from restore_dit.errors import UserError
from restore_dit.training.setup import run_folder
from tests.messages import refused


@pytest.fixture
def config(tmp_path) -> RunConfig:
    return RunConfig(name="one", output=str(tmp_path))


def changed(config: RunConfig, section: str, **values) -> RunConfig:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def test_the_same_run_may_go_on(config):
    run_folder(config).claim("store-a")
    run_folder(config).claim("store-a")


def test_how_it_runs_may_change(config):
    run_folder(config).claim("store-a")
    elsewhere = changed(changed(config, "workers", count=2), "training", zero_stage=3, save_every=7)
    run_folder(elsewhere).claim("store-a")


def test_another_configuration_is_refused_by_its_key(config):
    run_folder(config).claim("store-a")
    with refused("training.epochs=100", 7, "name"):
        run_folder(changed(config, "training", epochs=7)).claim("store-a")


def test_another_store_is_refused(config):
    run_folder(config).claim("store-a")
    with pytest.raises(UserError, match="another tile store"):
        run_folder(config).claim("store-b")


def test_a_finished_run_is_refused(config):
    folder = run_folder(config)
    folder.claim("store-a")
    folder.finish()
    with pytest.raises(UserError, match="finished"):
        run_folder(config).claim("store-a")


@pytest.mark.parametrize("change", [lambda text: text[:14], lambda text: text.replace('"format": 1', '"format": 2')])
def test_a_record_that_is_damaged_or_of_another_format_is_refused(config, tmp_path, change):
    run_folder(config).claim("store-a")
    file = tmp_path / "one" / "run.json"
    file.write_text(change(file.read_text()))
    with refused(f"{tmp_path}/one/run.json"):
        run_folder(config).claim("store-a")


def test_a_run_goes_on_under_a_version_with_more_keys(config, tmp_path):
    run_folder(config).claim("store-a")
    file = tmp_path / "one" / "run.json"
    record = json.loads(file.read_text())
    del record["identity"]["data"]["flips"]  # as if this version had brought the key
    file.write_text(json.dumps(record))
    run_folder(config).claim("store-a")
    with refused("data.flips=False", "True"):
        run_folder(changed(config, "data", flips=True)).claim("store-a")
