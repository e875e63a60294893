"""A cluster that cannot be had is one line."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from jobs.entry import connect
from restore_dit.errors import UserError


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense", "RAY_ADDRESS=nonsense: not the address of a cluster: Invalid address format: nonsense"),
        ("..:6379", r"RAY_ADDRESS=..:6379: not the address of a cluster"),
        ("[::1]:1", r"no cluster answers there: (Connection refused|Cannot assign)"),
    ],
)
def test_what_is_no_cluster(monkeypatch, address, message):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError) as refusal:
        connect()
    assert refusal.match(message.replace("[::", r"\[::"))
    assert "\n" not in str(refusal.value)


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
    """In a process of its own: Ray reads tokens once."""
    program = "import sys; from jobs.entry import *; sys.exit(exit_status(lambda: connect() or 0, 'jobs.train'))"
    environment = {"PATH": "/usr/bin:/bin", "RAY_AUTH_MODE": "token", **tokens}
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        if named:
            environment["RAY_ADDRESS"] = f"127.0.0.1:{somebody.getsockname()[1]}"
        result = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert "no usable token: " in result.stderr
    assert message in result.stderr
