"""What several threads prepare for a GPU is what one thread prepares for the CPU."""

from dataclasses import fields

import pytest
import torch

from restore_dit.config import RunConfig
from restore_dit.data.examples.batch import Batch
from restore_dit.training.run import MAX_THREADS, DenoiserTask, prefetch_threads
from restore_dit.training.setup import set_up

CPU = torch.device("cpu")


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    parts = {field.name: getattr(batch, field.name) for field in fields(batch)}
    parts |= {field.name: getattr(batch.conditioning, field.name) for field in fields(batch.conditioning)}
    return {name: value for name, value in parts.items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("network", ["small_run", "pixels_run"])
def test_batches_for_a_gpu_are_those_for_the_cpu(network: str, request: pytest.FixtureRequest, monkeypatch):
    config: RunConfig = request.getfixturevalue(network)
    pins = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pins.append(self.shape) or self)  # needs a GPU
    for_cpu, for_gpu = (DenoiserTask(set_up(config)) for _ in range(2))
    for_gpu.use_gpu = True
    steps = list(zip(for_cpu.batches(1, 6), for_gpu.batches(1, 6), strict=True))
    assert len(steps) == 5
    assert pins
    for expected, found in steps:
        assert [for_gpu.logged(one) for one in found] == [for_cpu.logged(one) for one in expected]
        for one, other in zip(expected, found, strict=True):
            batch, same = for_cpu.to_device(one, CPU), for_gpu.to_device(other, CPU)
            assert tensors(batch).keys() == tensors(same).keys()
            for name, value in tensors(batch).items():
                assert torch.equal(tensors(same)[name], value), name
            assert torch.equal(batch.noise(), same.noise())
            assert batch.examples == same.examples
            assert batch.drawn_frames == same.drawn_frames


@pytest.mark.parametrize(
    ("cpus", "quota", "threads"), [(1, 1e9, 1), (2, 1e9, 1), (5, 1e9, 4), (64, 1e9, 8), (64, 2.5, 2)]
)
def test_one_cpu_is_left_to_launch_the_kernels(cpus, quota, threads, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cpus)))
    monkeypatch.setattr("restore_dit.training.run.cpu_quota", lambda: quota)
    assert prefetch_threads() == threads <= MAX_THREADS
