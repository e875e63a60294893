import pytest
import yaml

from restore_dit.config import PRESETS, RunConfig, dump, load, paper, shipped
from restore_dit.config.jobs import EvaluationConfig
from restore_dit.config.loading import build, load_section
from restore_dit.errors import UserError


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
    ("override", "message"),
    [
        ("data.stor=x", r"unknown key 'data\.stor': did you mean 'store'\?"),
        (
            "training.optimiser.lerning_rate=1",
            r"unknown key 'training\.optimiser\.lerning_rate': did you mean 'learning_rate'",
        ),
        ("training.epochs=0", r"training\.epochs: .*greater than or equal to 1 \(got 0\)"),
        ("training.epochs=many", r"training\.epochs: .*integer"),
        ("training.zero_stage=4", r"training\.zero_stage: Input should be 0, 1, 2 or 3"),
        ("epochs", r"an override is written key=value"),
        ("a=[", "not valid YAML"),
        ("model.hidden_size=30", r"hidden_size 30 must be a multiple of 4 and of heads 2"),
        ("data.crop=30", r"data\.crop 30 must be a multiple of model\.patch_size 4"),
        ("workers.count=3", r"batch_size 8 must be a multiple of workers\.count 3"),
        ("data.targets.most_haze=-1", r"data\.targets\.most_haze: .*greater than or equal to 0 \(got -1\)"),
        ("data.targets=not_bad", r"data: targets=not_bad is now data\.targets\.by=source_list"),
        ("data.targets=clear_share", r"data: targets=clear_share is now data\.targets\.by=masks"),
        (
            "data.clear_share=0.9",
            r"data: clear_share is now data\.targets\.most_hidden and .*\.most_no_data",
        ),
        ("data.radar=null", r"model\.radar_channels needs data\.radar"),
        ("data.radar.pairing=nearest_date", "go together"),
        ("name=../x", "name: "),
        ("training.optimiser.learning_rate=.inf", "finite number"),
    ],
)
def test_mistakes_are_one_line_that_names_the_key(override, message):
    with pytest.raises(UserError, match=message) as error:
        load("tiny", [override])
    assert error.value.status == 2
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- 1", "must hold keys and values"),
        ("a: [", "cannot be read as YAML"),
        ("preset: papr", "unknown preset 'papr'"),
    ],
)
def test_bad_files_are_one_line(tmp_path, content, message):
    file = tmp_path / "run.yaml"
    file.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        load(file)
    assert str(file) in str(error.value)


def test_a_missing_file_lists_what_is_shipped():
    with pytest.raises(UserError, match="nowhere: no such file; shipped configurations: default, own_site"):
        load("nowhere")


def test_other_jobs_take_the_same_overrides(tmp_path):
    file = tmp_path / "evaluate.yaml"
    file.write_text(yaml.safe_dump({"model": "m", "sampling": {"steps": 3}}))
    config = load_section(EvaluationConfig, ["sampling.seed=4"], file, store="s")
    assert (config.model, config.store, config.sampling.steps, config.sampling.seed) == ("m", "s", 3, 4)
    with pytest.raises(UserError, match=r"unknown key 'sampling\.step': did you mean 'steps'"):
        build(EvaluationConfig, {"sampling": {"step": 1}}, "file")


@pytest.mark.parametrize("path", ["/data/feld #1", "/data/a: b", "%cd/x", "*/x", "&x /y", "- x", "2019-02-31"])
def test_a_path_is_no_yaml(path):
    assert load("tiny", [f"output={path}"]).output == path
