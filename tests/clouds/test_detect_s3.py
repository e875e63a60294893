"""Masks for a store in a bucket, with weights in a bucket, and what happens when the server goes away."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from restore_dit.clouds.detect import plan_detection
from restore_dit.clouds.network.weights import build_network
from restore_dit.config.clouds import CloudNetworkConfig, DetectionConfig
from restore_dit.data import storage
from restore_dit.data.runner import run
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from restore_dit.inspection.verification import verify_store
from tests.data.store.tiles import tile
from tests.s3.ceph_server import CephServer

pytestmark = pytest.mark.s3


def store_in(bucket: str) -> str:
    from restore_dit.data.store.tile_store import TileStoreWriter

    uri = f"s3://{bucket}/store"
    writer = TileStoreWriter(uri, source="test")
    for name in "abcde":
        writer.add(tile(name))
    writer.commit()
    return uri


def test_store_and_weights_in_a_bucket(bucket: str) -> None:
    uri = store_in(bucket)
    content = io.BytesIO()
    torch.manual_seed(2)
    torch.save(build_network(CloudNetworkConfig()).state_dict(), content)
    weights = f"s3://{bucket}/published.pth"
    storage.write_bytes_atomically(weights, content.getvalue())
    config = DetectionConfig(store=uri, method="network", weights=weights, workers=0)
    plan = plan_detection(config)
    report = run(plan)
    assert (len(report.results), report.failed) == (5, {})
    after = TileStore.open(uri)
    assert verify_store(after, deep=True) == []
    series = tile("a")
    (expected,) = plan.work.detector.detect([series])  # type: ignore[attr-defined]
    np.testing.assert_array_equal(after.load("a").series().clouds, expected)
    assert plan_detection(config).todo == []


@pytest.mark.slow
def test_a_server_that_goes_away_is_one_line_and_the_next_run_goes_on(bucket: str, s3: CephServer) -> None:
    uri = store_in(bucket)
    config = DetectionConfig(store=uri, workers=0, commit_every=0)
    plan = plan_detection(config)

    def stop(_: object, done: int, total: int) -> None:
        if done == 3:
            s3.stop_gateway()

    with pytest.raises(UserError, match=r"s3://.*store"):
        run(plan, on_outcome=stop)
    s3.start_gateway()
    again = plan_detection(config)
    assert len(again.todo) == 2
    assert len(run(again).results) == 2
    layers = {record.masks_in_use for record in TileStore.open(uri).manifest.tiles.values()}
    assert layers == {plan.writer.origin.layer}
