import pytest
import yaml

from restore_dit.config import PRESETS, RunConfig, dump, load, paper, shipped
from restore_dit.config.jobs import EvaluationConfig
from restore_dit.config.loading import build, differences, load_section
from tests.messages import refused


@pytest.mark.parametrize("preset", PRESETS)
def test_a_saved_configuration_rebuilds_the_run(preset, tmp_path):
    config = PRESETS[preset]()
    file = tmp_path / "config.yaml"
    file.write_text(dump(config))
    assert load(file) == config


@pytest.mark.parametrize("name", shipped())
def test_shipped_configurations_load(name):
    assert isinstance(load(name), RunConfig)


def test_shipped_paper_is_the_published_method():
    assert load("paper_pastis").data.targets.by == "source_list"
    assert load("paper_pastis", ["name=paper", "data.targets.by=masks"]) == paper()


def test_masks_are_widened_but_for_the_published_method():
    dilation = {name: load(name).data.gaps.dilation for name in shipped()}
    assert dilation.pop("paper_pastis") == 0
    assert set(dilation.values()) == {2}
    assert not any(load(name).data.gaps.errors.any for name in shipped())


def test_overrides_reach_into_sections():
    config = load("tiny", ["training.optimiser.learning_rate=0.5", "data.radar=null", "model.radar_channels=[]"])
    assert config.training.optimiser.learning_rate == 0.5
    assert config.data.radar is None
    assert config.training.optimiser.warmup_steps == PRESETS["tiny"]().training.optimiser.warmup_steps


@pytest.mark.parametrize(
    ("override", "facts"),
    [
        ("data.stor=x", ["'data.stor'", "'store'"]),
        ("training.optimiser.lerning_rate=1", ["'training.optimiser.lerning_rate'", "'learning_rate'"]),
        ("training.epochs=0", ["training.epochs", 1, 0]),
        ("training.epochs=many", ["training.epochs", "integer", "'many'"]),
        ("training.zero_stage=4", ["training.zero_stage", 3, 4]),
        ("epochs", ["'epochs'", "key=value"]),
        ("a=[", ["'a=['", "YAML"]),
        ("model.hidden_size=30", ["hidden_size 30", 4, "heads 2"]),
        ("data.crop=30", ["data.crop 30", "model.patch_size 4"]),
        ("workers.count=3", ["training.batch_size 8", "workers.count 3"]),
        ("data.targets.most_haze=-1", ["data.targets.most_haze", 0, "-1"]),
        ("data.targets=not_bad", ["targets=not_bad", "data.targets.by=source_list"]),
        ("data.targets=clear_share", ["targets=clear_share", "data.targets.by=masks"]),
        ("data.clear_share=0.9", ["clear_share", "data.targets.most_hidden", "data.targets.most_no_data"]),
        ("data.radar=null", ["model.radar_channels", "data.radar"]),
        ("data.radar.pairing=nearest_date", ["model.radar_attention", "data.radar.pairing"]),
        ("name=../x", ["name: ", "'../x'"]),
        ("training.optimiser.learning_rate=.inf", ["training.optimiser.learning_rate", "inf"]),
    ],
)
def test_mistakes_are_one_line_that_names_the_key(override, facts):
    with refused(*facts, status=2):
        load("tiny", [override])


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        ("- 1", ["keys"]),
        ("a: [", ["YAML"]),
        ("preset: papr", ["'papr'"]),
    ],
)
def test_bad_files_are_one_line(tmp_path, content, facts):
    file = tmp_path / "run.yaml"
    file.write_text(content)
    with refused(str(file), *facts, status=2):
        load(file)


def test_a_missing_file_lists_what_is_shipped():
    with refused("nowhere", "default, own_site", status=2):
        load("nowhere")


def test_other_jobs_take_the_same_overrides(tmp_path):
    file = tmp_path / "evaluate.yaml"
    file.write_text(yaml.safe_dump({"model": "m", "sampling": {"steps": 3}}))
    config = load_section(EvaluationConfig, ["sampling.seed=4"], file, store="s")
    assert (config.model, config.store, config.sampling.steps, config.sampling.seed) == ("m", "s", 3, 4)
    with refused("'sampling.step'", "'steps'", status=2):
        build(EvaluationConfig, {"sampling": {"step": 1}}, "file")


@pytest.mark.parametrize("path", ["/data/feld #1", "/data/a: b", "%cd/x", "*/x", "&x /y", "- x", "2019-02-31"])
def test_a_path_is_no_yaml(path):
    assert load("tiny", [f"output={path}"]).output == path


def test_differences_are_named_by_their_whole_key():
    old = {"seed": 1, "name": "a", "data": {"frames": 6, "radar": {"track": "S1A"}, "targets": {"by": "masks"}}}
    new = {"seed": 1, "crop": 2, "data": {"frames": 7, "radar": None, "targets": {"by": "masks"}}}
    assert differences(old, new) == {
        "crop": (None, 2),
        "data.frames": (6, 7),
        "data.radar": ({"track": "S1A"}, None),
        "name": ("a", None),
    }
    assert list(differences(old, new)) == ["crop", "data.frames", "data.radar", "name"]
    assert differences(old, old) == {}
