"""The wheel, installed away from the checkout, has every command and every file that they need."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from jobs.registry import JOBS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("restore_dit", "jobs", "tuning", "serving", "cluster")
OTHER_SOURCES = ("tests", "benchmarks", "docs", "pyproject.toml", "README.md", "LICENSE")
SHIPPED_SUFFIXES = {".py", ".typed", ".yaml", ".yml", ".json", ".html", ".css", ".js", ".npz", ".svg", ".png", ".sh"}
IMPORT = re.compile(r"^ *(?:import (\w+)|from (\w+)[\w.]* import )", re.MULTILINE)


def run(command: list[str], cwd: Path) -> str:
    """Its output; on failure the test fails with what it said."""
    # What leads Python back to the checkout must not reach the installed wheel.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: a build folder in the checkout could carry files that are long deleted into the wheel."""
    source = tmp_path_factory.mktemp("source")
    for name in (*SHIPPED, *OTHER_SOURCES):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", "."], source)
    [built] = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The bin folder of an environment that has the wheel and, for its dependencies, sees this one's packages."""
    folder = tmp_path_factory.mktemp("installed")
    run([sys.executable, "-m", "venv", "--without-pip", "environment"], folder)
    python = folder / "environment" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], folder)
    site = Path(run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip())
    # A plain path line: the editable install in that folder is not followed, only packages beside it are found.
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("-packages")))
    return python.parent


def test_wheel_carries_every_file_of_its_packages_and_nothing_else(wheel):
    content = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT))
        for package in SHIPPED
        for path in (ROOT / package).rglob("*")
        if (path.suffix in SHIPPED_SUFFIXES or path.name == "Dockerfile" or path.parent.parent.name == "models")
        and "__pycache__" not in path.parts
    }
    assert content == expected


def test_wheel_carries_the_license(wheel):
    assert any(name.endswith("licenses/LICENSE") for name in zipfile.ZipFile(wheel).namelist())


def comes_along() -> set[str]:
    """The distributions that installing the project with its extras for users installs as well."""
    seen: set[tuple[str, str]] = set()
    open_ends = [("restore-dit", "mlflow"), ("restore-dit", "csmask"), ("restore-dit", "")]
    while open_ends:
        name, extra = open_ends.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                open_ends += [(canonicalize_name(needed.name), extra) for extra in ("", *needed.extras)]
    return {name for name, _ in seen}


def test_what_the_packages_import_is_installed_with_them():
    """Here, tools of development are installed as well, and would hide that something is missing."""
    distributions, owners = comes_along(), importlib.metadata.packages_distributions()
    assert {"torch", "starlette", "mlflow-skinny"} <= distributions
    assert not {"pytest", "diffusers"} & distributions
    for package in SHIPPED:
        for path in (ROOT / package).rglob("*.py"):
            if path.name == "canopy_table.py":  # made the simulator's table once, with libraries of development
                continue
            imported = {one or other for one, other in IMPORT.findall(path.read_text(encoding="utf-8"))}
            for name in imported - sys.stdlib_module_names - {*SHIPPED}:
                assert {canonicalize_name(owner) for owner in owners[name]} & distributions, f"{path}: {name}"


def test_the_installed_package_is_the_one_from_the_wheel(installed, tmp_path):
    where = run([str(installed / "python"), "-c", "import restore_dit; print(restore_dit.__file__)"], tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)


HELP = """
import contextlib, io, json, sys
from jobs.entry import main as run_job
from restore_dit.cli import main

texts = []
for program, *words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main([*words, "--help"]) if program == "restore-dit" else run_job(program, [*words, "--help"])
    texts.append(out.getvalue())
print(json.dumps(texts))
"""


def helps(python: Path, cwd: Path, commands: list[tuple[str, ...]]) -> list[str]:
    """What each (program or job, words) of the installed package says to `--help`, in one process: a start takes a
    second."""
    return json.loads(run([str(python), "-c", HELP, json.dumps(commands)], cwd))


def subcommands(help_text: str) -> list[str]:
    """The commands that click lists."""
    _, _, listed = help_text.partition("\nCommands:\n")
    return re.findall(r"^ {2}([a-z][\w-]*)(?: {2,}|$)", listed, re.MULTILINE)


def test_every_command_explains_itself(installed, tmp_path):
    found: list[tuple[str, ...]] = []
    level: list[tuple[str, ...]] = [()]
    while level:
        texts = helps(installed / "python", tmp_path, [("restore-dit", *words) for words in level])
        assert all(text.startswith("Usage: restore-dit") for text in texts)
        level = [(*words, name) for words, text in zip(level, texts, strict=True) for name in subcommands(text)]
        found += level
    assert {("train",), ("evaluate",), ("reconstruct",), ("submit", "tune"), ("cluster", "up")} <= set(found)


def test_every_job_explains_itself(installed, tmp_path):
    texts = helps(installed / "python", tmp_path, [(name,) for name in JOBS])
    modules = [job.module for job in JOBS.values()]
    assert all(text.startswith(f"Usage: python -m {module} ") for module, text in zip(modules, texts, strict=True))


@pytest.mark.parametrize("command", [("restore-dit",), ("python", "-m", "jobs.train")])
def test_programs_start(installed, tmp_path, command):
    program, *words = command
    assert run([str(installed / program), *words, "--help"], tmp_path).startswith("Usage: ")
