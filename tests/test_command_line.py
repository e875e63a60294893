"""The forms in which a command takes settings, what it says of mistakes, and completion in shells."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from restore_dit.cli import main
from restore_dit.command_line import SettingsCommand, run_program
from restore_dit.config import RunConfig, load
from restore_dit.config.jobs import ReconstructionConfig
from restore_dit.config.loading import load_section
from tests.messages import assert_names

ROOT = Path(__file__).resolve().parent.parent


def overrides_of(model: type, words: str | Sequence[str], arguments: Sequence[str] = ()) -> list[str]:
    """The overrides that a command with this configuration makes of the words."""
    found: list[str] = []
    command = SettingsCommand(
        "fill", model, arguments, defaults=model, callback=lambda overrides: found.extend(overrides) or 0
    )
    assert run_program(command, words.split() if isinstance(words, str) else words, "fill") == 0
    return found


def trained(words: str) -> RunConfig:
    return load("tiny", overrides_of(RunConfig, words))


@pytest.mark.parametrize(
    "words",
    [
        "training.batch_size=4 data.flips=true",
        "--training.batch_size 4 --data.flips true",
        "--training.batch-size=4 --data.flips=true",
        "--batch-size 4 --flips",
        "batch-size=4 flips=yes",
        "--batch_size=8 --no-flips batch_size=4 --flips",
    ],
)
def test_a_setting_has_many_forms_and_the_last_one_counts(words):
    assert trained(words) == load("tiny", ["training.batch_size=4", "data.flips=true"])


@pytest.mark.parametrize("words", ["--no-mask-padding", "--no-data.mask_padding", "--mask-padding false"])
def test_no_before_a_flag_is_false(words):
    assert trained(words).data.mask_padding is False


def test_a_flag_takes_no_other_word():
    words = "--no-figures m --resume in out"
    assert overrides_of(ReconstructionConfig, words, ("model", "input", "output")) == [
        "model=m", "input=in", "output=out", "figures=false", "resume=true",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("in out", ("default", "in", "out")),
        ("m in out", ("m", "in", "out")),
        ("in output=out", ("default", "in", "out")),
        ("in --output out --model m", ("m", "in", "out")),
        ("--output out m in", ("m", "in", "out")),
        ("in", ("default", "in", "")),
    ],
)
def test_words_fill_the_arguments_that_no_setting_gives(words, values):
    found = load_section(ReconstructionConfig, overrides_of(ReconstructionConfig, words, ("model", "input", "output")))
    assert (found.model, found.input, found.output) == values


@pytest.mark.parametrize("path", ["year=2019/a", "'quoted", '"a" b', " a ", "[x]", "-1", "null", "2019-02-28", "1e3"])
def test_a_path_is_taken_as_it_is(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "year=2019" / "a").mkdir(parents=True)
    for words in ([path], ["--", path]) if not path.startswith("-") else (["--", path],):
        found = load_section(ReconstructionConfig, overrides_of(ReconstructionConfig, words, ("input",)))
        assert found.input == path


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        ("--frames 3", ["data.frames", "data.radar.frames"]),
        ("frames=3", ["data.frames", "data.radar.frames"]),
        ("--epoch 3", ["--epoch", "--epochs"]),
        ("epoch=3", ["'epoch'", "'training.epochs'"]),
        ("--training.epoch=3", ["--training.epoch", "--training.epochs"]),
        ("training.epoch=3", ["'training.epoch'", "'epochs'"]),
        ("--epochs", ["--epochs"]),
        ("--epochs --flips", ["--epochs"]),
        ("--epochs many", ["training.epochs", "'many'"]),
        ("--no-epochs", ["--no-epochs"]),
        ("word", ["word"]),
        ("--config", ["--config"]),
        ("--config nowhere", ["nowhere", "tiny"]),
    ],
)
def test_mistakes_are_one_line_that_names_the_word_and_the_closest_key(words, facts, capsys):
    assert main(["train", *words.split()]) == 2
    err = capsys.readouterr().err
    assert_names(err, *facts)
    assert err.count("\n") == 1


def test_the_length_of_the_noise_schedule_is_not_taken_for_that_of_the_training(capsys):
    assert main(["train", "--steps", "3000", "data.store=x", "--dry-run"]) == 2
    assert trained("--diffusion.steps 3000").diffusion.steps == 3000
    assert trained("diffusion.steps=3000").diffusion.steps == 3000


def test_settings_override_the_file_and_the_file_the_defaults(capsys, tmp_path):
    file = tmp_path / "site.yaml"
    file.write_text("preset: tiny\nname: site\ntraining: {epochs: 7}\ndata: {radar: {track: S1D}}\n")
    assert main(["train", "--track", "S1A", "--config", str(file), "name=other", "--dry-run"]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert (found["name"], found["training"]["epochs"], found["data"]["radar"]["track"]) == ("other", 7, "S1A")
    assert found["model"] == load("tiny").model.model_dump(mode="json")


def test_secrets_in_addresses_are_not_shown(capsys):
    words = ["https://me:TOP-SECRET@example.org/p.zip?token=TOP-SECRET", "s3://key:TOP-SECRET@b/store", "--dry-run"]
    assert main(["ingest-pastis", *words]) == 0
    out = capsys.readouterr().out
    assert "example.org/p.zip" in out
    assert "SECRET" not in out


@pytest.fixture(scope="module")
def path_with_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A search path with a program `restore-dit` that runs this checkout."""
    folder = tmp_path_factory.mktemp("bin")
    file = folder / "restore-dit"
    file.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m restore_dit.cli "$@"\n')
    file.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


COMPLETIONS = [
    ("restore-dit detect", {"detect-clouds"}),
    ("restore-dit submit ingest", {"ingest-cubes", "ingest-pastis"}),
    ("restore-dit train --epo", {"--epochs"}),
    ("restore-dit train --training.optimiser.l", {"--training.optimiser.learning-rate"}),
    ("restore-dit submit train name=a --precision ", {"fp32", "bf16"}),
    ("restore-dit inspect store --data.targets.most-h", {"--data.targets.most-hidden", "--data.targets.most-haze"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("line", "wanted"), COMPLETIONS)
def test_bash_completes_commands_settings_and_values(line, wanted, path_with_program):
    words = line.split(" ")
    script = f"""
        eval "$(_RESTORE_DIT_COMPLETE=bash_source restore-dit)"
        COMP_WORDS=({" ".join(words[:-1])} "{words[-1]}"); COMP_CWORD={len(words) - 1}
        _restore_dit_completion restore-dit
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script], env=os.environ | {"PATH": path_with_program}, capture_output=True, text=True, timeout=60
    )
    assert set(done.stdout.split()) == wanted, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_ask_in_their_own_way(shell, path_with_program):
    environment = os.environ | {"PATH": path_with_program, "COMP_CWORD": "2", "COMP_WORDS": "restore-dit train --epo"}
    environment |= {"COMP_CWORD": "--epo"} if shell == "fish" else {}

    def ask(instruction: str) -> str:
        given = environment | {"_RESTORE_DIT_COMPLETE": f"{shell}_{instruction}"}
        return subprocess.run(["restore-dit"], env=given, capture_output=True, text=True, timeout=60).stdout

    assert "restore-dit" in ask("source")
    assert "--epochs" in ask("complete")


@pytest.mark.slow
def test_help_needs_neither_pytorch_nor_ray():
    script = """
import sys
from restore_dit.cli import main
assert main(["submit", "train", "--help"]) == 0
print({"torch", "ray", "pyarrow", "rasterio", "xarray", "scipy"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr
