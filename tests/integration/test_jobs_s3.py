"""Jobs with workers whose every input and output lies in a bucket: nothing is left on this machine's disk."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.entry import main
from restore_dit.clouds.network.weights import build_network
from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.data import storage
from restore_dit.data.pastis.write import plan_pastis
from restore_dit.data.runner import run
from restore_dit.data.store.tile_store import TileStore
from tests.data.pastis.miniature import SIDE, SMALL

pytestmark = [
    pytest.mark.ray,
    pytest.mark.s3,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("ray_cluster"),
]


def upload(folder: Path, place: str) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            storage.write_bytes_atomically(f"{place}/{file.relative_to(folder)}", file.read_bytes())


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the job."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_patches_with_their_lists_and_masks_then_masks_by_a_network(tmp_path, bucket, empty, capfd):
    place, source = f"s3://{bucket}", tmp_path / "source" / "PASTIS-R"
    run(plan_pastis(SMALL, str(source), 6))
    upload(source / "REAL_MASKS", f"{place}/lists/masks")
    (source / "bad_frames.json").write_text(json.dumps({"10000": [0, 2]}))
    storage.write_bytes_atomically(f"{place}/lists/bad.json", (source / "bad_frames.json").read_bytes())
    for file in (*source.glob("REAL_MASKS/*"), source / "bad_frames.json"):
        file.unlink()
    (source / "REAL_MASKS").rmdir()
    upload(source, f"{place}/PASTIS-R")
    words = [f"source={place}/PASTIS-R", f"cloud_masks={place}/lists/masks", f"bad_frames={place}/lists/bad.json"]
    assert main("ingest-pastis", [*words, f"output={place}/store", f"patch_size={SIDE}", "workers=2"]) == 0
    store = TileStore.open(f"{place}/store")
    assert len(store.tile_ids) == 6
    assert np.flatnonzero(store.load("10000").bad_frames).tolist() == [0, 2]
    assert store.manifest.tiles["10000"].clouds is not None

    torch.manual_seed(1)
    torch.save(build_network(CloudNetworkConfig()).state_dict(), tmp_path / "weights.pth")
    storage.write_bytes_atomically(f"{place}/weights.pth", (tmp_path / "weights.pth").read_bytes())
    (tmp_path / "weights.pth").unlink()
    assert main("detect-clouds", [f"store={place}/store", f"weights={place}/weights.pth", "workers=2"]) == 0
    assert "detect-clouds: 6 of 6 tiles" in capfd.readouterr().out
    masked = TileStore.open(f"{place}/store").manifest.tiles.values()
    assert {record.masks[str(record.masks_in_use)].origin.method for record in masked} == {"network"}
    assert list(empty.iterdir()) == []
