"""The process group, and DeepSpeed's accelerator."""

from __future__ import annotations

import atexit
import os

import torch
import torch.distributed as dist

from restore_dit.errors import UserError


def choose_accelerator(use_gpu: bool) -> None:
    """Sets the accelerator for DeepSpeed. Must be called before its first import, which otherwise picks the best device
    available.

    Raises:
        UserError: a GPU is requested but this process sees none.
    """
    if use_gpu and not torch.cuda.is_available():
        raise UserError("workers.use_gpu=true, but this process sees no GPU; set workers.use_gpu=false")
    os.environ["DS_ACCELERATOR"] = "cuda" if use_gpu else "cpu"


def backend(use_gpu: bool) -> str:
    """The communication backend of the ranks."""
    return "cpu:gloo,cuda:nccl" if use_gpu else "gloo"


def join_alone(use_gpu: bool) -> None:
    """Joins a process group of this process only, without port or network. The group lasts until the process ends,
    because DeepSpeed keeps the first group it sees: another run in the same process joins the same one."""
    choose_accelerator(use_gpu)
    if dist.is_initialized():
        return
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")  # DeepSpeed reads its rank from these
    dist.init_process_group(backend(use_gpu), store=dist.HashStore(), rank=0, world_size=1)
    atexit.register(dist.destroy_process_group)  # a process that exits inside a group may abort
