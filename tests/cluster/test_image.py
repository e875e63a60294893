"""The image's definition keeps the rules of its trade; that its steps work is for `make image-check` to show."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.image.ingredients import digest

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / "cluster" / "image"
DOCKERFILE = (IMAGE / "Dockerfile").read_text()
INSTALL = (IMAGE / "install.sh").read_text()


def stages() -> dict[str, str]:
    """The text of each stage, by its name."""
    found = re.split(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def test_hadolint_has_nothing_to_say():
    lint = Path(sys.executable).parent / "hadolint"
    ended = subprocess.run([lint, str(IMAGE / "Dockerfile")], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


@pytest.mark.parametrize("script", ["install.sh", "check.sh"])
def test_scripts_are_executable_and_parse(script):
    assert (IMAGE / script).stat().st_mode & 0o111
    assert (IMAGE / script).read_text().startswith("#!/usr/bin/env bash\n")
    subprocess.run(["bash", "-n", str(IMAGE / script)], check=True, timeout=10)


def test_the_base_is_pinned_and_both_targets_exist():
    [base] = re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"debian:bookworm-\d{8}-slim(@sha256:[0-9a-f]{64})?", base)
    assert {"cpu", "gpu"} <= set(stages())
    assert len(re.findall(r"^FROM \$\{BASE\}", DOCKERFILE, re.MULTILINE)) == 1  # every stage descends from it


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_a_target_ends_as_the_user_whom_the_steps_make(target):
    [uid] = re.findall(r"RUN_UID=(\d+)", INSTALL)
    assert re.findall(r"^USER (.+)$", stages()[target], re.MULTILINE) == [f"{uid}:{uid}"]
    assert "org.opencontainers.image.revision" in stages()[target]


def test_the_version_is_the_packages():
    [version] = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert set(re.findall(r'image\.version="(.+?)"', DOCKERFILE)) == {version}


def test_every_step_of_the_dockerfile_is_one_that_the_check_runs():
    words = r"install\.sh (\w+)"
    by_docker = set(re.findall(words, DOCKERFILE))
    functions = set(re.findall(r"^(\w+)\(\) \{", INSTALL, re.MULTILINE))
    by_check = set(re.findall(r"^step (\w+)", (IMAGE / "check.sh").read_text(), re.MULTILINE))
    assert by_docker <= functions
    assert by_docker <= by_check


def test_the_image_is_checked_anew_where_what_it_is_made_of_has_changed(tmp_path):
    shutil.copytree(IMAGE, tmp_path / "cluster" / "image", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    seen = {digest(tmp_path)}
    assert seen == {digest(ROOT)}

    def change(name: str, old: str, new: str) -> str:
        file = tmp_path / name
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
        return digest(tmp_path)

    assert change("pyproject.toml", "timeout = 300", "timeout = 301") in seen
    assert change("pyproject.toml", '"pytest>=9,<10"', '"pytest>=9,<11"') in seen
    (tmp_path / "cluster" / "image" / "checked.txt").write_text("0")
    assert digest(tmp_path) in seen
    for name, old, new in (
        ("pyproject.toml", '"psutil>=7,<8"', '"psutil>=7,<9"'),
        ("constraints.txt", "psutil==", "psutil==0"),
        ("cluster/image/install.sh", "rsync", "rsync tar"),
    ):
        found = change(name, old, new)
        assert found not in seen
        seen.add(found)


def test_the_build_sees_what_the_wheel_is_made_of():
    copied = set(re.findall(r"^COPY (?!--)(.+) \S+$", stages()["wheel"], re.MULTILINE))
    names = {word.split("/")[0] for line in copied for word in line.split()}
    let_through = {
        line[1:] for line in (IMAGE / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    assert names == let_through
    assert "*" in (IMAGE / "Dockerfile.dockerignore").read_text().splitlines()
    assert all((ROOT / name).exists() for name in names)


def test_what_kuberay_and_ray_up_call_for_is_installed():
    for package in ("wget", "rsync", "openssh-client", "ca-certificates"):
        assert re.search(rf"apt-get install [^;]*\b{package}\b", INSTALL.replace("\\\n", " "))
