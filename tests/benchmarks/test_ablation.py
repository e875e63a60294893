"""What each part is worth: the network is trained without it, and nothing of that stays behind."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.ablation import PARTS, PROTOCOLS, left_out, main
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation import simulate_tiles
from restore_dit.data.store.tile_store import TileStoreWriter
from restore_dit.diffusion import objective
from restore_dit.errors import UserError
from restore_dit.model import pixel_denoiser
from tests.model.test_pixel_denoiser import told

SMALL = (
    "model.hidden_size=16", "model.depth=1", "model.heads=2", "model.members=1", "data.crop=12", "data.frames=12",
    "data.examples_per_tile=1", "data.pixels=20", "training.batch_size=4",
)  # fmt: skip


def test_what_is_left_out_comes_back():
    series, whole = told(12, 6, 1), pixel_denoiser.gather_evidence
    with left_out(PARTS["radar"]):
        assert (pixel_denoiser.evidence_of(series).radar == 0).all()
    assert pixel_denoiser.gather_evidence is whole
    assert (pixel_denoiser.evidence_of(series).radar != 0).any()
    weight = objective._OF_FRAMES
    assert weight > 0
    with left_out(PARTS["the logarithm of each date's error in the loss"]):
        assert objective._OF_FRAMES == 0
    assert weight == objective._OF_FRAMES


@pytest.mark.parametrize("name", PARTS)
def test_every_part_can_be_left_out(name: str):
    """Evidence keeps its shapes, so that networks with and without a part have the same inputs."""
    series = told(9, 5, 2)
    whole = pixel_denoiser.evidence_of(series)
    with left_out(PARTS[name]):
        without = pixel_denoiser.evidence_of(series)
    for field, value in vars(whole).items():
        assert getattr(without, field).shape == value.shape
    changed = any(not torch.equal(value, getattr(without, field)) for field, value in vars(whole).items())
    assert name == "nothing" or changed or PARTS[name].settings or PARTS[name].loss


def test_no_statistic_tells_of_what_is_left_out():
    series = told(9, 5, 3)
    with left_out(PARTS["other ways to interpolate"]):
        statistics = pixel_denoiser.evidence_of(series).departure_statistics
    assert (statistics[:, :, 20:] == 0).all()
    assert (statistics[:, :, :20] != 0).any()
    with left_out(PARTS["the smoother kriging"]):
        statistics = pixel_denoiser.evidence_of(series).departure_statistics
    assert (statistics[:, :, 30:] == 0).all()
    assert (statistics[:, :, 20:30] != 0).any()


@pytest.mark.slow
def test_a_table_of_two_rows(tmp_path, capsys):
    places = []
    for seed, side in ((1, 24), (2, 16)):
        writer = TileStoreWriter(tmp_path / f"store-{seed}")
        for series in simulate_tiles(SimulationConfig(height=side, width=side, varied=True), seed, range(3)):
            writer.add(series)
        writer.commit()
        places.append(str(tmp_path / f"store-{seed}"))
    words = [*places, "--only", "radar", "--frames", "2", "--folder", str(tmp_path / "runs"), "--settings", *SMALL]
    assert main(words) == 0
    *table, line = capsys.readouterr().out.strip().splitlines()
    found = json.loads(line)
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out.strip().splitlines()[-1]) == found, "the same networks, to the second"
    with pytest.raises(UserError, match="other settings"):
        main([*words, "data.gain=0.1"])
    assert [row["without"] for row in found["rows"]] == ["nothing", "radar"]
    for row in found["rows"]:
        (run,) = row["runs"]
        assert run["seconds"] > 0
        assert run["steps"] > 0
        assert all(abs(run[protocol]) < 30 for protocol in PROTOCOLS)
    assert any("radar" in line for line in table)
