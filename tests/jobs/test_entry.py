"""A cluster that cannot be had is one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from jobs.entry import _give_token, connect, console
from restore_dit.errors import UserError


def connecting(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A job that connects and ends, in a process of its own: this one may be connected, and Ray reads tokens once."""
    program = "import sys; from jobs.entry import *; sys.exit(exit_status(lambda: connect() or 0, 'jobs.train'))"
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense", "RAY_ADDRESS=nonsense: not the address of a cluster: Invalid address format: nonsense"),
        ("..:6379", "RAY_ADDRESS=..:6379: not the address of a cluster"),
        ("[::1]:1", "RAY_ADDRESS=[::1]:1: no cluster answers there: "),
        ("127.0.0.1:1", "RAY_ADDRESS=127.0.0.1:1: no cluster answers there: Connection refused"),
    ],
)
def test_what_is_no_cluster(address, message):
    result = connecting(os.environ | {"RAY_ADDRESS": address})
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert result.stderr.startswith(f"jobs.train: error: {message}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("named", "tokens", "message"),
    [
        (True, {"RAY_AUTH_TOKEN_PATH": "/nonexistent"}, "cannot be opened or is empty: /nonexistent"),
        (True, {"HOME": "/nonexistent"}, "no authentication token was found"),
        (False, {"RAY_AUTH_TOKEN_PATH": "/nonexistent"}, "cannot be opened or is empty: /nonexistent"),
    ],
)
def test_no_token(named, tokens, message):
    environment = {"PATH": "/usr/bin:/bin", "RAY_AUTH_MODE": "token", **tokens}
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        if named:
            environment["RAY_ADDRESS"] = f"127.0.0.1:{somebody.getsockname()[1]}"
        result = connecting(environment)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert "no usable token: " in result.stderr
    assert message in result.stderr


def test_brackets_in_the_name_of_a_folder_are_shown(capsys):
    console().print("/data/[x]/[/b]/:smile:/st", soft_wrap=True)
    assert capsys.readouterr().out == "/data/[x]/[/b]/:smile:/st\n"


@pytest.mark.parametrize(
    ("given", "own"),
    [
        ({"HOME": "/proc/nowhere"}, True),
        ({"HOME": "{folder}/.ray/auth_token"}, True),  # a file
        ({"HOME": "{folder}"}, False),
        ({"HOME": "/proc/nowhere", "RAY_AUTH_TOKEN_PATH": "/some/file"}, False),
        ({"HOME": "/proc/nowhere", "RAY_AUTH_MODE": "disabled"}, False),
    ],
)
def test_without_a_home_a_cluster_of_its_own_has_a_token_of_its_own(tmp_path, monkeypatch, given, own):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("known")
    for name, value in given.items():
        monkeypatch.setenv(name, value.format(folder=tmp_path))
    monkeypatch.setitem(os.environ, "RAY_AUTH_TOKEN", "")  # so that it is taken back
    _give_token()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == (64 if own else 0)


@pytest.mark.ray
def test_a_cluster_of_its_own_starts_without_a_home():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = connecting(environment | {"HOME": "/proc/nowhere"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("cluster: ")


def test_workers_cannot_be_started_from_a_path_with_a_space(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(sys, "executable", "/with space/bin/python")
    with pytest.raises(UserError, match="/with space/bin/python"):
        connect()
