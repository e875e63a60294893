"""The ranks of a training: the processes that compute its steps together. Without a process group there is one."""

from __future__ import annotations

import atexit
import os

import torch
import torch.distributed as dist
from torch import Tensor

from restore_dit.errors import UserError


def rank() -> int:
    """Number of this process among the ranks."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of ranks."""
    return dist.get_world_size() if dist.is_initialized() else 1


def choose_device(use_gpu: bool, section: str = "") -> torch.device:
    """The device on which this rank computes.

    Raises:
        UserError: a GPU is requested but this process sees none. `section` precedes the key `use_gpu`.
    """
    if not use_gpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(f"{section}use_gpu=true, but this process sees no GPU; set {section}use_gpu=false")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def backend(use_gpu: bool) -> str:
    """The communication backend of the ranks. Gloo remains for tensors on the CPU, which cost a GPU no wait."""
    return "cpu:gloo,cuda:nccl" if use_gpu else "gloo"


def join_alone(use_gpu: bool) -> None:
    """Joins a process group of this process only, without port or network. The group lasts until the process ends,
    because DeepSpeed keeps the first group it sees: another run in the same process joins the same one."""
    if dist.is_initialized():
        return
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")  # DeepSpeed reads its rank from these
    dist.init_process_group(backend(use_gpu), store=dist.HashStore(), rank=0, world_size=1)
    atexit.register(dist.destroy_process_group)  # a process that exits inside a group may abort


def wait_for_all() -> None:
    """Returns once every rank has called it."""
    if world_size() > 1:
        dist.barrier()


def from_all(values: list[float]) -> list[list[float]]:
    """The values of every rank, in rank order, exchanged without waiting for a GPU."""
    if world_size() == 1:
        return [values]
    # On the CPU even if ranks train on GPUs: gloo exchanges it while the device goes on computing.
    own = torch.tensor(values, dtype=torch.float64)
    everyone = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(everyone, own)
    return torch.stack(everyone).tolist()


def add_up(tensors: list[Tensor]) -> None:
    """Replaces the tensors by their sums over all ranks, in one exchange."""
    if world_size() == 1:
        return
    # One large exchange costs far less than one for each tensor, each of which has its own latency.
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])
