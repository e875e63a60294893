"""The tile store on a real S3 server: the same store as on a disk, whoever dies or goes away meanwhile."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from restore_dit.cli import main
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data import storage
from restore_dit.data.simulation.simulator import simulate_tile
from restore_dit.data.store.tile_store import TileStore, TileStoreWriter
from tests.messages import assert_names
from tests.s3.ceph_server import CephServer
from tests.s3.failing_proxy import FailingProxy

pytestmark = pytest.mark.s3

SMALL = SimulationConfig(height=16, width=16, days=120, field_hectares=0.8)
CLI = [sys.executable, "-m", "restore_dit.cli"]
SMALL_WORDS = ["height=16", "width=16", "days=120", "field_hectares=0.8"]


@pytest.fixture(scope="module")
def local_store(tmp_path_factory: pytest.TempPathFactory) -> TileStore:
    """Twelve tiles on this machine's disk."""
    folder = tmp_path_factory.mktemp("local") / "store"
    write(str(folder), range(12))
    return TileStore.open(folder)


def write(uri: str, indices: range, commits: bool = False) -> None:
    writer = TileStoreWriter(uri, source="simulation, seed 0")
    for index in indices:
        writer.add(simulate_tile(SMALL, 0, index))
        if commits:
            writer.commit(recover=False)
    writer.commit()


def contents(s3: CephServer, bucket: str) -> dict[str, bytes]:
    client = s3.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    found = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in found}


def test_a_store_on_s3_is_the_store_on_a_disk(s3: CephServer, bucket: str, local_store: TileStore) -> None:
    uri = f"s3://{bucket}/deep/store"
    write(uri, range(12))
    store = TileStore.open(uri)
    assert store.fingerprint == local_store.fingerprint
    folder = Path(local_store.uri)
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert contents(s3, bucket) == {f"deep/store/{path.relative_to(folder)}": path.read_bytes() for path in files}
    for tile_id in store.tile_ids:
        ours, theirs = store.load(tile_id).series(), local_store.load(tile_id).series()
        np.testing.assert_array_equal(ours.optical.values, theirs.optical.values)
        np.testing.assert_array_equal(ours.optical.dates, theirs.optical.dates)
        np.testing.assert_array_equal(ours.clouds, theirs.clouds)


def test_processes_that_commit_to_one_store_lose_none_of_their_tiles(
    s3: CephServer, bucket: str, local_store: TileStore
) -> None:
    uri = f"s3://{bucket}/store"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write, args=(uri, range(begin, begin + 6), True)) for begin in (0, 6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0]
    store = TileStore.open(uri)
    assert store.tile_ids == local_store.tile_ids
    assert store.fingerprint == local_store.fingerprint
    # Each commit is one; two that write the very same manifest at the same time, each with the other's tile, are one.
    assert 8 <= store.manifest.generation <= 14


def test_inspect_finds_each_kind_of_damage(
    s3: CephServer, bucket: str, local_store: TileStore, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"s3://{bucket}/store"
    write(uri, range(12))
    assert main(["inspect", uri, "--verify"]) == 0
    assert "verified 12 tiles: 0 damaged" in capsys.readouterr().out
    client = s3.client()
    flipped, short, gone = sorted(key for key in contents(s3, bucket) if "/tiles/" in key)[1:10:4]
    content = bytearray(client.get_object(Bucket=bucket, Key=flipped)["Body"].read())
    content[len(content) // 2] ^= 1
    client.put_object(Bucket=bucket, Key=flipped, Body=bytes(content))
    content = client.get_object(Bucket=bucket, Key=short)["Body"].read()
    client.put_object(Bucket=bucket, Key=short, Body=content[:-100])
    client.delete_object(Bucket=bucket, Key=gone)
    assert main(["inspect", uri, "--verify"]) == 1
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert len(lines) == 3
    assert_names(lines[0], f"s3://{bucket}/{flipped}", "checksum")
    assert_names(lines[1], f"s3://{bucket}/{short}", f"{len(content) - 100} bytes")
    assert_names(lines[2], f"s3://{bucket}/{gone}")
    assert "3 damaged" in said.out


@pytest.mark.parametrize(
    ("uri", "facts"),
    [
        ("s3://{bucket}/absent", ["s3://{bucket}/absent"]),
        ("s3://{bucket}", ["s3://{bucket}"]),
        ("s3://no-such-bucket/store", ["s3://no-such-bucket/"]),
        ("s3://tester:sesame@{bucket}/store", ["credentials", "AWS_ACCESS_KEY_ID"]),
        ("s3:///store", ["s3:///store"]),
    ],
)
def test_where_no_store_is_inspect_says_so_in_a_line(
    bucket: str, uri: str, facts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", uri.format(bucket=bucket)]) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert_names(said, *(fact.format(bucket=bucket) for fact in facts))
    assert "sesame" not in said


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
@pytest.mark.parametrize("command", ["simulate", "inspect"])
def test_wrong_keys_are_one_line_without_any_key(
    s3: CephServer,
    proxy: FailingProxy,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    variable: str,
    command: str,
) -> None:
    monkeypatch.setenv(variable, "sesame")
    assert main([command, f"s3://{bucket}/store"]) == 1
    said = "".join(capfd.readouterr())
    assert len(said.splitlines()) == 1
    assert_names(said, f"s3://{bucket}/store", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    assert not [key for key in ("sesame", s3.keys.secret, s3.keys.access) if key in said]


def tiles_written(bucket: str) -> int:
    return len(storage.list_names(f"s3://{bucket}/store/tiles"))


def test_a_simulation_killed_again_and_again_is_the_one_made_in_one_go(
    s3: CephServer, bucket: str, local_store: TileStore
) -> None:
    uri = f"s3://{bucket}/store"
    rest = random.Random(0)
    words = [*CLI, "simulate", uri, "--tiles", "12", *SMALL_WORDS]
    for kill in range(4):
        before = tiles_written(bucket)
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
            while tiles_written(bucket) < before + 1 + (kill == 0) and process.poll() is None:
                time.sleep(0.005)
            time.sleep(rest.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
    assert 0 < tiles_written(bucket) <= 12
    assert subprocess.run(words, stdout=subprocess.DEVNULL).returncode == 0
    assert TileStore.open(uri).fingerprint == local_store.fingerprint
    assert main(["inspect", uri, "--verify"]) == 0


def test_a_simulation_whose_server_goes_away_ends_in_a_line_and_is_taken_up_again(
    s3: CephServer, bucket: str, local_store: TileStore
) -> None:
    uri = f"s3://{bucket}/store"
    words = [*CLI, "simulate", uri, "--tiles", "12", *SMALL_WORDS]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while tiles_written(bucket) < 2:
            time.sleep(0.005)
        s3.stop_gateway()
        _, said = process.communicate(timeout=60)
    s3.start_gateway()
    assert process.returncode == 1
    assert len(said.splitlines()) == 1
    assert_names(said, f"{uri}/", "AWS_ENDPOINT_URL")
    assert 2 <= tiles_written(bucket) < 12
    assert subprocess.run(words, stdout=subprocess.DEVNULL).returncode == 0
    assert TileStore.open(uri).fingerprint == local_store.fingerprint


def test_from_simulation_to_rasters_on_s3_alone(
    s3: CephServer, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    root = f"s3://{bucket}/work"
    small = ["height=16", "width=16", "days=220", "field_hectares=0.8"]
    train = [
        "train", "--config", "tiny", f"data.store={root}/store", f"output={root}/runs", "name=run", "workers.count=0",
        "data.frames=6", "data.crop=16", "data.radar.frames=6", "model.hidden_size=16", "model.depth=1",
        "model.heads=2", "training.batch_size=2", "training.validation_examples=2", "training.save_every=2",
        "training.validate_every=8", "training.epochs=8",
    ]  # fmt: skip
    run, model = f"{root}/runs/run", f"{root}/runs/run/model"
    assert main(["simulate", f"{root}/store", "--tiles", "12", *small]) == 0
    with subprocess.Popen([*CLI, *train], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while not storage.exists(f"{run}/state/latest.json") and process.poll() is None:
            time.sleep(0.05)
        s3.stop_gateway()
        _, said = process.communicate(timeout=120)
    s3.start_gateway()
    assert process.returncode == 1, said
    assert_names(said.splitlines()[-1], f"{root}/", "AWS_ENDPOINT_URL")
    assert "Traceback" not in said
    commands = [
        train,
        ["inspect", model],
        ["evaluate", model, f"{root}/store", "--output", f"{root}/evaluation", "sampling.steps=2", "tiles=1"],
        ["reconstruct", model, f"{root}/store", f"{root}/clear", "tiles=[sim-0-000000]", "sampling.steps=2"],
    ]
    for words in commands:
        assert main(words) == 0, capsys.readouterr().err
    assert not list(itertools.islice(tmp_path.rglob("*"), 1))  # everything is on the server
    for folder in ("evaluation", "clear/sim-0-000000", "runs/run/model"):
        assert storage.list_names(f"{root}/{folder}")
    assert s3.client().list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    assert not [key for key in contents(s3, bucket) if key.endswith("/") or os.path.basename(key).startswith(".")]
