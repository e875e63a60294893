"""DeepSpeed behind a small interface, the same for every ZeRO stage: step, average, and save and load of the whole
state; and the process group that it needs, with the choice of its accelerator."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from restore_dit.config import TrainingConfig
from restore_dit.data.examples.batch import Batch
from restore_dit.errors import UserError
from restore_dit.training.objective_module import ObjectiveModule


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


FIRST_MOMENT, SECOND_MOMENT = "exp_avg", "exp_avg_sq"
"""Adam's names for its moments."""

StateTensors = dict[str, dict[str, Tensor]]
"""`weights`, `average`, `exp_avg`, `exp_avg_sq`: parameter name → whole fp32 tensor on the CPU."""


class Engine:
    """One rank's part of the optimiser. All ranks must call the same methods in the same order.

    The module is wrapped by DeepSpeed, which needs an initialised process group. The exponential moving average covers
    the fp32 parameters that the rank owns, so it is sharded like them.
    """

    def __init__(self, module: ObjectiveModule, config: TrainingConfig, micro_batch_size: int) -> None:
        deepspeed = import_deepspeed()  # imported here: it takes seconds, and only training processes need it
        logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
        # Otherwise DeepSpeed compiles a shared-memory all-reduce whenever a CPU run starts on a new machine.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        self.config = config
        self.stage = config.zero_stage
        optimiser = torch.optim.AdamW(
            module.parameters(), lr=config.optimiser.learning_rate, weight_decay=config.optimiser.weight_decay
        )
        self.engine, self.optimiser, _, _ = deepspeed.initialize(
            model=module,
            optimizer=optimiser,
            model_parameters=list(module.parameters()),
            config=deepspeed_config(config, micro_batch_size),
            dist_init_required=False,
        )
        self.parameters = {name.removeprefix("denoiser."): p for name, p in self.engine.module.named_parameters()}
        self.adam = optimiser
        self._begin_adam()
        self.decay = config.optimiser.ema_decay
        self._gradient_norm: Tensor | float | None = None
        self.restart_average()

    @property
    def device(self) -> torch.device:
        """The device that batches must be on."""
        return torch.device(self.engine.device)

    @property
    def parameter_count(self) -> int:
        """Number of trainable parameters in the whole model."""
        return sum(getattr(p, "ds_numel", p.numel()) for p in self.parameters.values())

    @property
    def gradient_norm(self) -> float | None:
        """Norm of the whole gradient of the last step before clipping; None if DeepSpeed did not compute it."""
        return None if self._gradient_norm is None else float(self._gradient_norm)

    def step(self, micro_batches: Sequence[Batch], real_examples: float, learning_rate: float) -> Tensor:
        """One optimiser step on this rank's micro-batches.

        Args:
            real_examples: number of examples with nonzero weight in the whole step, over all ranks, which the loss is
                divided by.

        Returns:
            this rank's part of the mean loss, a scalar; the parts of all ranks sum to it.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        total = torch.zeros((), device=self.device)
        # DeepSpeed averages over ranks and micro-batches; the plan's mean is over real examples.
        scale = dist.get_world_size() * len(micro_batches) / real_examples
        for batch in micro_batches:
            loss = self.engine(batch)
            self.engine.backward(loss * scale)
            if self.stage == 0 and self.engine.is_gradient_accumulation_boundary():
                gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
                self._gradient_norm = torch.nn.utils.get_total_norm(gradients)  # DeepSpeed keeps it for ZeRO only
            self.engine.step()
            total += loss.detach()
        if self.stage:
            self._gradient_norm = self.engine.get_global_grad_norm()
        if self.decay:
            torch._foreach_lerp_(self.average, self._masters(), 1 - self.decay)
        return total / real_examples

    def averaged_weights(self) -> dict[str, Tensor]:
        """The whole moving average (without one, the weights themselves) on the CPU, on every rank."""
        if not self.decay:
            return self._gathered(self._whole_weight)
        masters = self._masters()
        kept = [master.clone() for master in masters]
        try:
            torch._foreach_copy_(masters, self.average)
            return self._gathered(self._whole_weight)
        finally:
            torch._foreach_copy_(masters, kept)

    def state(self) -> StateTensors:
        """Everything a run resumes from except its counters: whole tensors, the same for any stage and world size."""
        return {
            "weights": self._gathered(self._whole_weight),
            "average": self.averaged_weights(),
            FIRST_MOMENT: self._gathered(lambda p: self._whole_moment(p, FIRST_MOMENT)),
            SECOND_MOMENT: self._gathered(lambda p: self._whole_moment(p, SECOND_MOMENT)),
        }

    def load_state(self, state: StateTensors, step: int) -> None:
        """Continues from `state`, saved by any stage and any number of workers after `step` optimiser steps."""
        self.load_weights(state["average"])
        self.restart_average()
        self.load_weights(state["weights"])
        for name, parameter in self.parameters.items():
            for key in (FIRST_MOMENT, SECOND_MOMENT):
                self._set_moment(parameter, key, state[key][name])
        for master in self._masters(data=False):
            self.adam.state[master]["step"].fill_(step)

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Sets the fp32 master weights, and the working copy where it is a separate tensor, to whole tensors."""
        for name, parameter in self.parameters.items():
            value = weights[name].to(self.device)
            with self._gathered_for_writing(parameter):
                parameter.data.copy_(value)
            if self.stage == 3:
                deepspeed_utils().safe_set_local_fp32_param(parameter, self._own_part(parameter, value))
            elif self.stage:
                deepspeed_utils().safe_set_full_fp32_param(parameter, value)

    def restart_average(self) -> None:
        """Restarts the moving average from the current weights."""
        self.average = [master.clone() for master in self._masters()] if self.decay else []

    def _masters(self, *, data: bool = True) -> list[Tensor]:
        """The fp32 tensors that this rank's Adam updates: whole parameters, or its flat partitions of them (ZeRO
        1-3)."""
        if self.stage == 0:
            masters = list(self.parameters.values())
        elif self.stage == 3:
            masters = self.optimiser.fp32_partitioned_groups_flat
        else:
            masters = self.optimiser.single_partition_of_fp32_groups
        return [master.data for master in masters] if data else masters

    def _begin_adam(self) -> None:
        """Creates the state that Adam would create at its first step, so that it can be read and set before."""
        for master in self._masters(data=False):
            self.adam.state[master] = {
                "step": torch.zeros(()),
                FIRST_MOMENT: torch.zeros_like(master),
                SECOND_MOMENT: torch.zeros_like(master),
            }
        if self.stage in (1, 2):
            # DeepSpeed links parameters to their moments only at the first step; the safe_… functions need the link.
            self.optimiser._lazy_init_hp_params_optimizer_state()

    def _gathered(self, whole: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        return {name: whole(p).detach().float().cpu().clone() for name, p in self.parameters.items()}

    def _whole_weight(self, parameter: Tensor) -> Tensor:
        return deepspeed_utils().safe_get_full_fp32_param(parameter) if self.stage else parameter.data

    def _whole_moment(self, parameter: Tensor, key: str) -> Tensor:
        if self.stage == 0:
            return self.adam.state[parameter][key]
        return deepspeed_utils().safe_get_full_optimizer_state(parameter, key)

    def _set_moment(self, parameter: Tensor, key: str, value: Tensor) -> None:
        value = value.to(self.device)
        if self.stage == 0:
            self.adam.state[parameter][key].copy_(value)
        elif self.stage == 3:
            deepspeed_utils().safe_set_local_optimizer_state(parameter, self._own_part(parameter, value), key)
        else:
            deepspeed_utils().safe_set_full_optimizer_state(parameter, value, key)

    def _own_part(self, parameter: Any, value: Tensor) -> Tensor:
        """This rank's slice of a ZeRO-3 parameter. DeepSpeed pads the last slice, but its own setter for whole tensors
        does not."""
        length = parameter.ds_tensor.numel()
        flat = torch.nn.functional.pad(value.flatten(), (0, length * dist.get_world_size() - value.numel()))
        return flat.narrow(0, length * dist.get_rank(), length)

    def _gathered_for_writing(self, parameter: Tensor) -> Any:
        if self.stage != 3:
            return nullcontext()
        import deepspeed

        return deepspeed.zero.GatheredParameters([parameter], modifier_rank=0)


def deepspeed_config(config: TrainingConfig, micro_batch_size: int) -> dict[str, Any]:
    """DeepSpeed's own configuration for a run."""
    zero: dict[str, Any] = {"stage": config.zero_stage}
    if config.offload_optimiser and config.zero_stage:
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        "train_batch_size": config.batch_size,
        "train_micro_batch_size_per_gpu": micro_batch_size,
        "gradient_clipping": config.optimiser.gradient_clip or 0.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**62,
    }


def deepspeed_utils() -> Any:
    """DeepSpeed's access functions for partitioned tensors."""
    import deepspeed.utils

    return deepspeed.utils


@cache  # the temporary changes below must happen only once, before another thread may use what they change
def import_deepspeed() -> ModuleType:
    """Imports DeepSpeed without two unused dependencies.

    Its Muon optimiser makes `torch.compile` load its compiler, and its autotuner loads MLflow's client: together 6 of
    the 11 seconds of CPU time that building an engine took (AMD, 2026-11-29).
    """
    with _absent("mlflow"), _not_compiling():
        import deepspeed

        with suppress(ImportError):  # other releases
            import deepspeed.runtime.zero.muon.muon_optimizer
    return deepspeed


@contextmanager
def _absent(name: str) -> Iterator[None]:
    """Context in which importing this module fails, unless it is already imported."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def _not_compiling() -> Iterator[None]:
    """Context in which `torch.compile`, used as a decorator, returns functions unchanged."""
    compiling = torch.compile
    torch.compile = _unchanged  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = compiling


def _unchanged(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
    return function if function is not None else lambda function: function
