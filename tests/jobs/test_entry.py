"""A cluster that cannot be had is one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from tests.messages import assert_names


def connecting(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A job that connects and ends, in a process of its own: this one may be connected, and Ray reads tokens once."""
    program = "import sys; from jobs.entry import *; sys.exit(exit_status(lambda: connect() or 0, 'jobs.train'))"
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("nonsense", "Invalid address format"),
        ("..:6379", "address"),
        ("[::1]:1", "cluster"),
        ("127.0.0.1:1", "Connection refused"),
    ],
)
def test_what_is_no_cluster(address, cause):
    result = connecting(os.environ | {"RAY_ADDRESS": address})
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert result.stderr.startswith(f"jobs.train: error: RAY_ADDRESS={address}: ")
    assert_names(result.stderr, cause)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("named", "tokens", "fact"),
    [
        (True, {"RAY_AUTH_TOKEN_PATH": "/nonexistent"}, "/nonexistent"),
        (True, {"HOME": "/nonexistent"}, "RAY_AUTH_TOKEN"),
        (False, {"RAY_AUTH_TOKEN_PATH": "/nonexistent"}, "/nonexistent"),
    ],
)
def test_no_token(named, tokens, fact):
    environment = {"PATH": "/usr/bin:/bin", "RAY_AUTH_MODE": "token", **tokens}
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        if named:
            environment["RAY_ADDRESS"] = f"127.0.0.1:{somebody.getsockname()[1]}"
        result = connecting(environment)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert_names(result.stderr, "token", fact)
