"""The commands in the README and the guides are commands of this version, and those that a laptop can run do run."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import xarray

from restore_dit.cli import main, program
from restore_dit.command_line import SettingsCommand
from restore_dit.config.settings import keys_matching

ROOT = Path(__file__).resolve().parent.parent
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"^(?: {4}|\t.*/)restore-dit ((?:[^\n\\]|\\\n)+)", re.MULTILINE)
ABBREVIATED = re.compile(r"…|--help|\[--|[A-Z]{3,}(?= |$)|\$\(ARGS\)")
"""Marks of a command that is not given in full."""

RUN = ("README", "data", "clouds", "cloud_rule", "training", "evaluation", "reconstruction", "jobs", "simulator")
"""The guides whose commands run, in the order of a reader: each finds what those before it have made."""

ELSEWHERE = re.compile(
    r"s3://|https?://"  # tests/s3, tests/cluster
    r"|^(submit|cluster|job|serve)\b"  # tests/cluster, tests/integration/test_serve_command.py
    r"|^tune|^sweep-report|workers|use_gpu"  # Ray: tests/integration
    r"|csmask"  # its networks take a third of a second a frame: tests/clouds/test_csmask.py
    r"|ingest-pastis|import-checkpoint|stackstac|my_provider|stores/area|=\[a, b\]"  # files that a guide does not have
)
"""Commands for more than one process, or for input that is not at hand."""

SMALLER = {
    "simulate": ["--tiles=4", "height=16", "width=16", "days=150", "field_hectares=0.5"],
    "train": [
        "training.epochs=1", "training.batch_size=2", "data.examples_per_tile=2", "data.crop=8", "data.frames=6",
        "training.validation_examples=2",
    ],
    "train-clouds": ["steps=2", "batch_size=2", "crop=32", "validation.frames=4", "network.pixel_size=20"],
    "evaluate": ["figures=1"],
    "reconstruct": ["figures=false"],
}  # fmt: skip
"""By job, what makes it take seconds."""


ASSUMED = {
    "stores/site": ["ingest-cubes", "data/site", "stores/site"],
    "stores/sim": ["simulate", "stores/sim"],
    "runs/site/model": ["train", "--config", "own_site", "data.store=stores/site", "name=site"],
}
"""What a reader of a guide has from those before it: a path, and the command that makes it."""


def commands(guide: Path) -> list[list[str]]:
    """The words of each complete command after `restore-dit`."""
    found = (match.replace("\\\n", " ").partition(" #")[0] for match in COMMAND.findall(guide.read_text("utf-8")))
    return [shlex.split(text.replace("$", "")) for text in found if not ABBREVIATED.search(text)]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_the_commands_of_a_guide_parse(guide):
    for words in commands(guide):
        context = program.make_context("restore-dit", list(words))
        command: click.Command | None = program
        while isinstance(command, click.Group):
            name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            assert command is not None, words
            context = command.make_context(name, rest, parent=context)
        if isinstance(command, SettingsCommand):
            for override in context.params["overrides"]:
                assert len(keys_matching(command.model, override.partition("=")[0])) == 1, (words, override)


def test_the_guides_show_commands():
    assert sum(len(commands(guide)) for guide in GUIDES) > 50


@pytest.fixture(scope="module")
def desk(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with `data/site`, 160 m of a real site over half a year, and two stores that guides assume."""
    folder = tmp_path_factory.mktemp("desk")
    site = folder / "data" / "site"
    site.mkdir(parents=True)
    for file in (shared / "data" / "sentinel_series" / "0000280849BAC91C").glob("S*.nc"):
        with xarray.open_dataset(file, decode_cf=False) as cube:
            side = round(160 / abs(float(cube.x[1] - cube.x[0])))
            cube.isel(x=slice(side), y=slice(side), timestamp=slice(35)).to_netcdf(site / file.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for store in ("labelled", "other"):
            assert main(["ingest-cubes", "data/site", f"stores/{store}"]) == 0
        yield folder


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("guide", RUN)
def test_the_commands_of_a_guide_run(guide, desk, capfd):
    page = ROOT / f"{guide}.md" if guide == "README" else ROOT / "docs" / f"{guide}.md"
    todo = [words for words in commands(page) if not ELSEWHERE.search(" ".join(words))]
    if "train" in {words[0] for words in todo}:
        shutil.rmtree("runs", ignore_errors=True)
    before = []
    for path, making in ASSUMED.items():  # if this guide is run alone
        uses = next((at for at, words in enumerate(todo) if any(path in word for word in words)), None)
        if uses is not None and not Path(path).exists() and making[0] not in {words[0] for words in todo[: uses + 1]}:
            before.append(making)
    for words in (*before, *todo):
        assert main([*words, *SMALLER.get(words[0], [])]) == 0, f"{shlex.join(words)}\n{capfd.readouterr().err}"
    assert todo
