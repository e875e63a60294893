"""A cluster that cannot be had is one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

CONNECT = """
import os, sys
from jobs.entry import connect, exit_status

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
    messages = {
        "nonsense": "RAY_ADDRESS=nonsense: not the address of a cluster: Invalid address format: nonsense",
        "..:6379": "RAY_ADDRESS=..:6379: not the address of a cluster",
        "[::1]:1": "RAY_ADDRESS=[::1]:1: no cluster answers there: ",
        "127.0.0.1:1": "RAY_ADDRESS=127.0.0.1:1: no cluster answers there: Connection refused",
    }
    statuses, lines = connecting(dict(os.environ), *messages)
    assert statuses == ["1"] * 4
    assert len(lines) == 4, lines
    for line, message in zip(lines, messages.values(), strict=True):
        assert line.startswith(f"jobs.train: error: {message}")


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
        address = f"127.0.0.1:{somebody.getsockname()[1]}" if named else ""
        statuses, (line,) = connecting(environment, address)
    assert statuses == ["1"]
    assert "no usable token: " in line
    assert message in line
