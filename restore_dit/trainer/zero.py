"""The engine that shards optimiser state, gradients and weights over the ranks: DeepSpeed's ZeRO, stages 1 to 3."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from restore_dit.config import TrainingConfig
from restore_dit.private_interfaces import fp32_parts, import_deepspeed, link_moments
from restore_dit.trainer import ranks
from restore_dit.trainer.engine import MOMENTS, WEIGHT, Engine


class ZeroEngine(Engine):
    """One rank's shard of the optimiser. The moving average covers the fp32 parameters that the rank owns, so it is
    sharded like them. Without a process group, this process joins one alone.

    Args:
        module, config, device: as for `Engine`.
        micro_batch_size: examples per forward pass.
    """

    def __init__(self, module: nn.Module, config: TrainingConfig, device: torch.device, micro_batch_size: int) -> None:
        self.stage = config.zero_stage
        self.micro_batch_size = micro_batch_size
        super().__init__(module, config, device)

    def _start(self) -> None:
        os.environ["DS_ACCELERATOR"] = self.device.type  # otherwise its import picks the best device of the machine
        # DeepSpeed needs a process group even for one process, and would open a port for one.
        ranks.join_alone(self.device.type == "cuda")
        deepspeed = import_deepspeed()  # imported here: it takes seconds, and only sharded training needs it
        logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
        self.module, self.optimiser, _, _ = deepspeed.initialize(
            model=self.module,
            optimizer=self.adam,
            model_parameters=list(self.parameters.values()),
            config=deepspeed_config(self.config, self.micro_batch_size),
            dist_init_required=False,
        )

    def _begin_adam(self) -> None:
        super()._begin_adam()
        # DeepSpeed looks for the moments where it stores them at the first step, which lies ahead.
        if self.stage < 3:
            link_moments(self.optimiser)

    def _accumulate(self, micro_batch: Any, weight: float, count: int) -> Tensor:
        loss = self.module(micro_batch)
        # DeepSpeed averages over ranks and micro-batches.
        self.module.backward(loss * (ranks.world_size() * count / weight))
        self.module.step()  # updates the weights after the last one
        return loss.detach()

    def _update(self) -> None:
        self._gradient_norm = self.module.get_global_grad_norm()

    def _masters(self, *, data: bool = True) -> list[Any]:
        if self.stage == 3:
            masters = fp32_parts(self.optimiser)
        else:
            masters = [master for group in self.adam.param_groups for master in group["params"]]
        return [master.data for master in masters] if data else masters

    def _whole(self, parameter: nn.Parameter, part: str) -> Tensor:
        if part == WEIGHT:
            return deepspeed_utils().safe_get_full_fp32_param(parameter)
        return deepspeed_utils().safe_get_full_optimizer_state(parameter, part)

    # DeepSpeed keeps fp32 masters beside the working copy, which it overwrites from them at
    # the next step: both are set.
    def _set(self, parameter: nn.Parameter, part: str, value: Tensor) -> None:
        kind = "optimizer_state" if part in MOMENTS else "fp32_param"
        of = (part,) if part in MOMENTS else ()
        if part == WEIGHT:  # the master weight below, and here the working copy, which is a separate tensor
            with self._gathered_for_writing(parameter):
                parameter.data.copy_(value)
        if self.stage == 3:
            getattr(deepspeed_utils(), f"safe_set_local_{kind}")(parameter, self._own_part(parameter, value), *of)
        else:
            getattr(deepspeed_utils(), f"safe_set_full_{kind}")(parameter, value, *of)

    def _own_part(self, parameter: Any, value: Tensor) -> Tensor:
        """This rank's slice of a ZeRO-3 parameter. DeepSpeed pads the last slice, but its own setter for whole tensors
        does not."""
        length = deepspeed_utils().safe_get_local_fp32_param(parameter).numel()
        flat = torch.nn.functional.pad(value.flatten(), (0, length * ranks.world_size() - value.numel()))
        return flat.narrow(0, length * ranks.rank(), length)

    def _gathered_for_writing(self, parameter: nn.Parameter) -> Any:
        if self.stage != 3:
            return nullcontext()
        return import_deepspeed().zero.GatheredParameters([parameter], modifier_rank=0)


def deepspeed_config(config: TrainingConfig, micro_batch_size: int) -> dict[str, Any]:
    """DeepSpeed's own configuration for a run."""
    zero: dict[str, Any] = {"stage": config.zero_stage}
    if config.offload_optimiser:
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
