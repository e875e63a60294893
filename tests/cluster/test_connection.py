"""A cluster that cannot be had is one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from cluster.connection import _give_token, connect
from restore_dit.errors import UserError
from restore_dit.program import console
from tests.messages import assert_names

CONNECT = """
import os, sys
from cluster.connection import connect
from restore_dit.program import exit_status

for address in sys.argv[1:]:
    if address:
        os.environ["RAY_ADDRESS"] = address
    status = exit_status(lambda: connect() or 0, "jobs.train")
    print(status)
"""


def connecting(environment: dict[str, str], *addresses: str) -> tuple[list[str], list[str]]:
    """What jobs that connect to these addresses, one after the other, end with, and their lines on standard error.

    In a process of its own: this one may be connected, and Ray reads tokens once."""
    command = [sys.executable, "-c", CONNECT, *addresses]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return result.stdout.split(), result.stderr.splitlines()


@pytest.mark.slow
def test_what_is_no_cluster():
    causes = {
        "nonsense": "Invalid address format",
        "..:6379": "address",
        "[::1]:1": "cluster",
        "127.0.0.1:1": "Connection refused",
    }
    statuses, lines = connecting(dict(os.environ), *causes)
    assert statuses == ["1"] * 4
    assert len(lines) == 4, lines
    for line, (address, cause) in zip(lines, causes.items(), strict=True):
        assert line.startswith(f"jobs.train: error: RAY_ADDRESS={address}: ")
        assert_names(line, cause)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("named", "tokens", "fact"),
    [
        (True, {"RAY_AUTH_TOKEN_PATH": "/nonexistent"}, "/nonexistent"),
        (True, {"HOME": "/nonexistent"}, "RAY_AUTH_TOKEN_PATH"),
        (False, {"RAY_AUTH_TOKEN_PATH": "/nonexistent"}, "/nonexistent"),
    ],
)
def test_no_token(named, tokens, fact):
    environment = {"PATH": "/usr/bin:/bin", "RAY_AUTH_MODE": "token", **tokens}
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        address = f"127.0.0.1:{somebody.getsockname()[1]}" if named else ""
        statuses, (line,) = connecting(environment, address)
    assert statuses == ["1"]
    assert_names(line, "token", fact)


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
    said, errors = connecting(environment | {"HOME": "/proc/nowhere"}, "")
    assert (said[0], said[-1], errors) == ("cluster:", "0", [])


def test_workers_cannot_be_started_from_a_path_with_a_space(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(sys, "executable", "/with space/bin/python")
    with pytest.raises(UserError, match="/with space/bin/python"):
        connect()
