"""A job made ready for a cluster."""

import subprocess

import pytest

from jobs.registry import JOBS
from jobs.submission import submission
from jobs.submission.submission import prepare


@pytest.mark.parametrize("checkout", [True, False])
def test_the_commit_goes_along_where_there_is_one(monkeypatch, tmp_path, checkout):
    """From a checkout; of an installed package nothing is known but its version."""
    monkeypatch.setattr(submission, "project_root", lambda: tmp_path)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/train.py").write_text("")
    me = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    commands = ["init", "-q"], ["add", "."], [*me, "commit", "-qm", "All"]
    for command in commands if checkout else ():
        subprocess.run(["git", *command], cwd=tmp_path, check=True, timeout=20)
    monkeypatch.setenv("RESTORE_DIT_COMMIT", "of-another-program")
    sent = prepare(JOBS["train"], JOBS["train"].read("tiny", ["data.store=s3://b/s", "output=s3://b/o"]), 120)
    commit = sent.metadata.get("commit")
    assert sent.environment.get("RESTORE_DIT_COMMIT") == commit
    assert (commit is not None and len(commit) == 40) == checkout
