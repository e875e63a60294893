"""The process group and DeepSpeed's choice of accelerator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from restore_dit.errors import UserError


def choose_accelerator(use_gpu: bool) -> None:
    """Must precede the first import of DeepSpeed, which otherwise takes the best device that it finds."""
    if use_gpu and not torch.cuda.is_available():
        raise UserError("workers.use_gpu=true, but this process sees no GPU; set workers.use_gpu=false")
    os.environ["DS_ACCELERATOR"] = "cuda" if use_gpu else "cpu"


def backend(use_gpu: bool) -> str:
    """What the ranks talk through."""
    return "cpu:gloo,cuda:nccl" if use_gpu else "gloo"


@contextmanager
def alone(use_gpu: bool) -> Iterator[None]:
    """A group of this process only, without a port or a network."""
    choose_accelerator(use_gpu)
    environment = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)  # DeepSpeed reads its place from here
    dist.init_process_group(backend(use_gpu), store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        leave()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def leave() -> None:
    """Ends the group; a process that exits inside one may abort."""
    if dist.is_initialized():
        dist.destroy_process_group()
