"""Which cluster, and which token: nothing of a token is ever shown."""

import os
from pathlib import Path

import pytest

from cluster.local.record import ClusterRecord, NodeRecord, beginning, record_file, write_record
from jobs.submission.target import find_target
from restore_dit.errors import UserError
from tests.messages import refused

LOCAL = "http://127.0.0.1:8265"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without clusters and tokens."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def local(tmp_path: Path) -> ClusterRecord:
    """A local cluster's record; what lives of it is this process."""
    node = NodeRecord(name="head", pid=os.getpid(), begun=beginning(os.getpid()))
    record = ClusterRecord(
        name="default", folder=tmp_path / "cluster", dashboard=LOCAL, address="127.0.0.1:6379", nodes=[node]
    )
    record.folder.mkdir()
    record.token_file.write_text("local-token\n")
    write_record(record)
    return record


def test_the_option_comes_before_the_environment_before_the_local_cluster(local, monkeypatch):
    assert find_target(None).url == LOCAL
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://ray.example.org/")
    assert find_target(None).url == "https://ray.example.org"
    assert find_target("head:8265").url == "http://head:8265"


def test_nothing_named_is_refused():
    with refused("--address", "RAY_API_SERVER_ADDRESS", "restore-dit cluster up", status=2):
        find_target(None)


def test_a_named_local_cluster_is_not_chosen_but_mentioned(local):
    record_file("default").unlink()
    write_record(local.model_copy(update={"name": "mine"}))
    with refused("--address", LOCAL, "mine", status=2):
        find_target(None)


def test_a_local_cluster_that_died_is_none(local, monkeypatch):
    """Another may be reached at its address now, through a tunnel."""
    write_record(local.model_copy(update={"nodes": [local.nodes[0].model_copy(update={"begun": "another"})]}))
    with refused("--address", "restore-dit cluster up", status=2):
        find_target(None)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-another-cluster")
    assert find_target(LOCAL).token == "of-another-cluster"


@pytest.mark.parametrize("address", ["auto", "ray://head:10001", "local", "http://", "head:port", "ftp://head", "host"])
def test_what_is_no_dashboard_is_refused(address):
    with refused(address if address != "head:port" else "…", "http://HEAD:8265", status=2):  # a word there is a secret
        find_target(address)


def test_an_address_with_a_password_is_refused_and_not_shown():
    with pytest.raises(UserError, match="credentials") as refusal:
        find_target("http://me:TOP-SECRET@head:8265")
    assert "TOP-SECRET" not in str(refusal.value)


def test_the_token_of_a_cluster_elsewhere(tmp_path, local, monkeypatch):
    assert find_target("head:8265").headers == {}
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("users-token")
    assert find_target("head:8265").token == "users-token"
    (tmp_path / "file").write_text("token-in-a-file\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "file"))
    assert find_target("head:8265").token == "token-in-a-file"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "token-itself")
    assert find_target("head:8265").headers == {"Authorization": "Bearer token-itself"}
    assert "token-itself" not in repr(find_target("head:8265"))


@pytest.mark.parametrize("address", [None, LOCAL, "http://localhost:8265/", "127.0.0.1:8265"])
def test_the_local_cluster_gets_its_own_token(local, monkeypatch, address):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-another-cluster")
    assert find_target(address).token == "local-token"
    assert find_target("http://127.0.0.1:8266").token == "of-another-cluster"


def test_every_local_cluster_gets_its_own_token(tmp_path, local, monkeypatch):
    """Whatever its name: `cluster up --name two` prints the address to submit to."""
    two = local.model_copy(update={"name": "two", "folder": tmp_path / "two", "dashboard": "http://127.0.0.1:8299"})
    two.folder.mkdir()
    two.token_file.write_text("token-of-two\n")
    write_record(two)
    assert find_target("http://localhost:8299").token == "token-of-two"
    assert "'two'" in find_target("http://localhost:8299").token_origin
    assert find_target(None).token == "local-token"
    record_file("default").unlink()
    with refused("--address", "http://127.0.0.1:8299", status=2):
        find_target(None)


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("http://127.0.0.1:8265", True),
        ("https://[::1]:8265", True),
        ("LOCALHOST:8265", True),
        ("http://10.0.0.1:8265", False),
        ("http://127.0.0.1.example.org:8265", False),
    ],
)
def test_what_needs_no_network(address, near):
    assert find_target(address).on_loopback == near


def test_a_token_that_cannot_be_one_is_refused_and_not_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "TOP SECRET\nX-Header: 1")
    with refused("RAY_AUTH_TOKEN") as refusal:
        find_target("head:8265")
    assert "SECRET" not in str(refusal.value)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "missing"))
    with refused(f"{tmp_path}/missing", "No such file"):
        find_target("head:8265")
