"""What is sent to a cluster: the project and nothing else, always the same bytes."""

import io
import os
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from jobs.submission import submission
from jobs.submission.submission import PACKAGES, project_files, project_root
from restore_dit.program import commit_of
from tests.messages import refused


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project in git, with what lies about in one."""
    root = tmp_path / "checkout"
    contents = {
        ".gitignore": "*.log\nbuild/\njobs/private.yaml\n",
        "restore_dit/__init__.py": "",
        "restore_dit/py.typed": "",
        "restore_dit/config/default.yaml": "preset: default\n",
        "jobs/train.py": "print()\n",
        "jobs/removed.py": "",
        "jobs/__pycache__/train.cpython-311.pyc": "x",
        "jobs/private.yaml": "password: x\n",
        "jobs/build/made.py": "",
        "jobs/notes.log": "",
        "jobs/key.pem": "-----BEGIN",
        "jobs/.env": "TOKEN=x",
        "tuning/__init__.py": "",
        "serving/viewer/index.html": "<html>",
        "cluster/aws.yaml": "a: 1\n",
        "tests/test_train.py": "",
        "docs/guide.md": "",
        ".venv/lib/site.py": "",
        "stores/site/manifest.json": "{}",
    }
    for name, text in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for command in (["init", "-q"], ["add", "jobs/removed.py", "jobs/train.py"]):
        subprocess.run(["git", *command], cwd=root, check=True, timeout=20)
    (root / "jobs/removed.py").unlink()
    return root


SENT = [
    "cluster/aws.yaml",
    "jobs/train.py",
    "restore_dit/__init__.py",
    "restore_dit/config/default.yaml",
    "restore_dit/py.typed",
    "serving/viewer/index.html",
    "tuning/__init__.py",
]


def test_of_a_checkout_goes_what_git_does_not_ignore(checkout, monkeypatch):
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as within a hook
    assert list(project_files(checkout)) == SENT


def test_of_an_installation_goes_every_file_of_the_packages(checkout):
    (checkout / ".git").rename(checkout / "no-git")
    assert set(project_files(checkout)) == {*SENT, "jobs/private.yaml", "jobs/build/made.py"}


def test_what_is_sent_is_known_by_its_commit(checkout, monkeypatch):
    """Where it differs from it, new files included, it says so; what is not sent does not count."""
    assert commit_of(checkout, *PACKAGES) is None  # no commit yet
    identity = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    for command in (["add", "."], [*identity, "commit", "-q", "-m", "All"]):
        subprocess.run(["git", *command], cwd=checkout, check=True, timeout=20)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    commit = commit_of(checkout, *PACKAGES)
    assert re.fullmatch("[0-9a-f]{40}", commit)
    (checkout / "docs/guide.md").write_text("changed")
    (checkout / "docs/new.md").write_text("new")
    assert commit_of(checkout, *PACKAGES) == commit
    (checkout / "jobs/new.py").write_text("")
    assert commit_of(checkout, *PACKAGES) == f"{commit}-changed"
    (checkout / ".git").rename(checkout / "no-git")
    assert commit_of(checkout, *PACKAGES) is None


def test_a_checkout_without_git_is_refused(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with refused("git"):
        project_files(checkout)


def test_this_project_goes_whole():
    files = project_files(project_root())
    assert {name.partition("/")[0] for name in files} == set(PACKAGES)
    assert {"restore_dit/data/simulation/canopy_table.npz", "restore_dit/config/shipped/tiny.yaml"} <= set(files)


def test_the_same_content_gives_the_same_bytes(checkout):
    first = submission.pack(project_files(checkout), {"submitted/config.yaml": b"seed: 1\n"})
    for path in checkout.rglob("*"):
        os.utime(path, (1, 1))
    (checkout / "jobs/train.py").chmod(0o600)
    assert submission.pack(project_files(checkout), {"submitted/config.yaml": b"seed: 1\n"}) == first
    assert submission.pack(project_files(checkout), {"submitted/config.yaml": b"seed: 2\n"}) != first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert archive.namelist() == sorted([*SENT, "submitted/config.yaml"])
        assert archive.read("jobs/train.py") == b"print()\n"
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o644}


def test_too_large_a_package_names_what_makes_it_large(checkout, monkeypatch):
    monkeypatch.setattr(submission, "MAX_BYTES", 100_000)
    (checkout / "jobs/weights.npz").write_bytes(os.urandom(200_000))
    with refused("0 MB", "jobs/weights.npz", ".gitignore"):
        submission.pack(project_files(checkout), {})


def test_what_is_sent_is_what_the_wheel_carries():
    from tests.test_packaging import SHIPPED, SHIPPED_SUFFIXES

    assert submission.SUFFIXES == SHIPPED_SUFFIXES
    assert submission.PACKAGES == SHIPPED
    sent = project_files(submission.project_root())
    assert {"restore_dit/models/default/model.safetensors", "restore_dit/models/default/config.yaml"} <= set(sent)
