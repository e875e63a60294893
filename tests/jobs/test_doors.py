"""`restore-dit JOB`, `restore-dit submit JOB` and `python -m jobs.JOB` read the same from the same words."""

import re

import pytest
import yaml

from jobs.entry import main as run_job
from jobs.registry import JOBS
from restore_dit.cli import main
from restore_dit.config.settings import settings_of
from tests.messages import assert_names

WORDS = {
    "simulate": ("s3://b/sim --tiles 3 seed=4 --no-varied --start=2020-01-31", {"tiles": 3, "seed": 4}),
    "ingest-cubes": (
        "s3://b/cubes s3://b/store --mapping stackstac --own-mapping.crs EPSG:32633 --allow-bad-tiles",
        {"mapping": "stackstac", "own_mapping.crs": "EPSG:32633", "allow_bad_tiles": True},
    ),
    "ingest-pastis": (
        "s3://b/P.zip s3://b/store --radar S1D --patches 10000,10001 folds=[1,2] --bad_frames s3://b/bad.json",
        {"radar": ["S1D"], "patches": ["10000", "10001"], "folds": [1, 2], "transfer.timeout": 60},
    ),
    "detect-clouds": (
        "s3://b/store --weights s3://b/clouds --tiles 10,11 --use-gpu true --cloud-excess 0.06",
        {"method": "network", "tiles": ["10", "11"], "use_gpu": True, "rule.cloud_excess": 0.06},
    ),
    "train-clouds": (
        "s3://b/1 steps=3000 s3://b/2 --output s3://b/clouds --learning-rate 1e-3 --reference=false",
        {"stores": ["s3://b/1", "s3://b/2"], "steps": 3000, "optimiser.learning_rate": 0.001},
    ),
    "train": (
        "--config tiny --data.store s3://b/st output=s3://b/runs --init-from default --epochs 5 radar.frames=7 seed=1",
        {"training.epochs": 5, "data.radar.frames": 7, "seed": 1, "training.init_from": "default"},
    ),
    "evaluate": (
        "s3://b/m s3://b/store --protocol missing-frame --output=s3://b/e --steps 3 --no-sampling.calibrate",
        {"model": "s3://b/m", "protocol": "missing-frame", "sampling.steps": 3, "sampling.calibrate": False},
    ),
    "reconstruct": (
        "s3://b/store s3://b/clear --format netcdf --tiles [a,b] --mask-dilation null --replace-suspect",
        {"model": "default", "tiles": ["a", "b"], "mask_dilation": None, "sampling.replace_suspect": True},
    ),
    "tune": (
        "--config schedules --store s3://b/st --output s3://b/sweeps --trials 3 run.training.epochs=2 --stopping null",
        {"run.data.store": "s3://b/st", "search.trials": 3, "run.training.epochs": 2, "stopping": None},
    ),
}
"""For each job, words in all forms, and some of what they mean."""


LACKING = {
    "reconstruct": ("input and output", "reconstruct [MODEL] INPUT OUTPUT"),
    "reconstruct in": ("output", "reconstruct [MODEL] INPUT OUTPUT"),
    "reconstruct in model=m": ("output", "reconstruct [MODEL] INPUT OUTPUT"),
    "reconstruct output=o": ("input", "reconstruct [MODEL] INPUT OUTPUT"),
    "evaluate": ("store", "evaluate [MODEL] STORE"),
    "ingest-cubes in": ("output", "ingest-cubes SOURCE OUTPUT"),
    "ingest-pastis in": ("output", "ingest-pastis SOURCE OUTPUT"),
    "detect-clouds": ("store", "detect-clouds STORE"),
    "train-clouds": ("stores", "train-clouds STORES…"),
    "simulate": ("output", "simulate OUTPUT"),
    "train": ("data.store", "train data.store=URI"),
}
"""Words that leave something out → what it is, and the order of the words."""


def doors(name: str) -> dict:
    """The ways to run a job, each called with the words after the job's name."""
    return {
        "restore-dit": lambda words: main([name, *words]),
        "submit": lambda words: main(["submit", name, *words]),
        "module": lambda words: run_job(name, words),
    }


@pytest.mark.parametrize("name", JOBS)
def test_the_same_words_mean_the_same_at_every_door(name, capsys):
    words, meant = WORDS[name]
    read = {}
    for door, run in doors(name).items():
        if name == "ingest-cubes" and door != "submit":
            continue  # its dry run lists the files of the source; the next test reads the same from a folder
        assert run([*words.split(), "--dry-run"]) == 0, capsys.readouterr().err
        read[door] = yaml.safe_load(capsys.readouterr().out)
    first = next(iter(read.values()))
    assert all(found == first for found in read.values())
    for key, value in meant.items():
        found = first
        for part in key.split("."):
            found = found[part]
        assert found == value, key


def test_cubes_are_read_by_the_same_mapping_at_every_door(capsys, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "s2.nc").touch()
    (tmp_path / "own.yaml").write_text("source: own\noptical: [{files: 's2*', bands: {B04: red, B08: nir}}]\n")
    words = [
        f"file://{tmp_path}",
        f"file://{tmp_path}/store",
        "mapping=" + str(tmp_path / "own.yaml"),
        "crs=EPSG:32631",
    ]
    read = {}
    for door, run in doors("ingest-cubes").items():
        assert run([*words, "--dry-run"]) == 0, capsys.readouterr().err
        out = capsys.readouterr().out
        assert ("# site: s2.nc" in out) == (door != "submit")  # only there may the source be out of reach
        read[door] = yaml.safe_load(out)["own_mapping"]
    assert read["restore-dit"] == read["module"] == read["submit"]
    assert (read["submit"]["crs"], read["submit"]["source"]) == ("EPSG:32631", "own")


@pytest.mark.parametrize("name", JOBS)
def test_help_lists_every_setting_at_every_door(name, capsys):
    for door, run in doors(name).items():
        assert run(["--help"]) == 0
        text = capsys.readouterr().out
        listed = re.findall(r"^ +(--[\w.-]+)", text, re.MULTILINE)
        for setting in settings_of(JOBS[name].config).values():
            assert listed.count(setting.option) == 1, (door, setting.option)
            assert setting.description, setting.key
            assert " ".join(setting.description.split()[:3]) in re.sub(r"\s+", " ", text)
        usage, _, rest = text.partition("\n\n")
        assert all(key.upper() in usage for key in JOBS[name].arguments)
        assert "Example: " in rest


@pytest.mark.parametrize("name", JOBS)
def test_no_setting_has_the_name_of_an_option_of_submit(name):
    options = {"--config", "--dry-run", "--address", "--detach", "--cpus", "--gpus", "--stop-wait", "--help"}
    assert not options & {setting.option for setting in settings_of(JOBS[name].config).values()}


@pytest.mark.parametrize("name", [name for name in JOBS if "-" in name])
def test_underscores_name_the_same_job(name, capsys):
    words = [name.replace("-", "_"), *WORDS[name][0].split(), "--dry-run"]
    assert main(["submit", *words]) == 0
    assert f"python -m jobs.{words[0]} " in capsys.readouterr().out


def test_options_of_submit_may_stand_before_the_job(capsys):
    assert main(["submit", "--stop-wait", "-1", "evaluate", "--dry-run"]) == 2
    assert_names(capsys.readouterr().err, "--stop-wait", "-1")
    words = ["s3://b/store", "--output", "s3://b/e", "--dry-run"]
    assert main(["submit", "--cpus", "2", "evaluate", *words]) == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ingest cube a b", ["ingest-cubes"]),
        ("ingest pastis a b --workers 0", ["ingest-pastis"]),
        ("ingest --help", ["ingest-cubes", "ingest-pastis"]),
        ("clouds detect a", ["detect-clouds"]),
        ("clouds train a", ["train-clouds"]),
        ("clouds compare a --json", ["compare-clouds"]),
        ("clouds", ["detect-clouds", "train-clouds", "compare-clouds"]),
        ("tune report sweeps/first", ["sweep-report"]),
        ("submit ingest source=a", ["ingest-pastis"]),
        ("submit clouds store=a", ["detect-clouds"]),
        ("submit train-cloud", ["train-clouds"]),
        ("evaluat m s", ["evaluate"]),
    ],
)
def test_a_former_or_mistyped_command_is_refused_with_its_name(old, new, capsys):
    assert main(old.split()) == 2
    err = capsys.readouterr().err
    assert_names(err, *new)
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", LACKING)
def test_what_is_left_out_is_named_beside_the_order_of_the_words(words, capsys):
    lacking, usage = LACKING[words]
    name, *others = words.split()
    for door in doors(name).values():
        assert door(others) == 2
        error = capsys.readouterr().err
        assert_names(error, lacking, usage)
        assert error.count("\n") == 1


def test_a_single_word_is_the_input(capsys):
    assert main(["reconstruct", "there", "--dry-run"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["model"], shown["input"], shown["output"]) == ("default", "there", "")
