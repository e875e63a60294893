"""The optimiser of one rank behind a small interface: step, average, and save and load of the whole state. This one
replicates everything on each rank; that of `zero.py` shards it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from restore_dit.config import TrainingConfig
from restore_dit.trainer import ranks
from restore_dit.trainer.task import Weights

WEIGHT = "weight"
MOMENTS = ("exp_avg", "exp_avg_sq")
"""What belongs to a parameter: its weight, and Adam's moments by Adam's names."""

StateTensors = dict[str, Weights]
"""`weights`, `average`, `exp_avg`, `exp_avg_sq`: tensors by the name of the parameter (or buffer) they belong to."""


class Engine:
    """One rank's AdamW and the exponential moving average of the network's weights. All ranks must call the same
    methods in the same order.

    Args:
        module: from a batch to the sum of its losses; its child `network` is trained, and must have the same weights on
            all ranks.
        config: how it is trained.
        device: where it computes.
    """

    def __init__(self, module: nn.Module, config: TrainingConfig, device: torch.device) -> None:
        self.module: Any = module.to(device)
        self.config = config
        self.device = device
        network: Any = module.network
        self.parameters: dict[str, nn.Parameter] = dict(network.named_parameters())
        self.buffers = {name: value for name, value in network.state_dict().items() if name not in self.parameters}
        self.adam = torch.optim.AdamW(
            self.parameters.values(),
            lr=config.optimiser.learning_rate,
            weight_decay=config.optimiser.weight_decay,
        )
        self.parameter_count = sum(parameter.numel() for parameter in self.parameters.values())
        """Number of trainable parameters in the whole model."""
        self._gradient_norm: Tensor | float | None = None
        self._start()
        self._begin_adam()
        self.restart_average()

    @property
    def gradient_norm(self) -> float | None:
        """Norm of the whole gradient of the last step before clipping; None if it is unknown."""
        return None if self._gradient_norm is None else float(self._gradient_norm)

    def step(self, micro_batches: Sequence[Any], weight: float, learning_rate: float, decay: float) -> Tensor:
        """One optimiser step on this rank's micro-batches. Does not wait for the device.

        Args:
            micro_batches: what the module takes.
            weight: what the sum of all losses, over all ranks, is divided by.
            learning_rate: of this step.
            decay: of the moving average.

        Returns:
            this rank's part of the mean loss, a scalar; the parts of all ranks sum to it.
        """
        for group in self.adam.param_groups:
            group["lr"] = learning_rate
        self.module.train()
        total = torch.zeros((), device=self.device)
        # The total stays a tensor: reading its value here would make the host wait for a GPU at every step.
        for micro_batch in micro_batches:
            total += self._accumulate(micro_batch, weight, len(micro_batches))
        self._update()
        if self.average:
            torch._foreach_lerp_(self.average, self._masters(), 1 - decay)
            # Buffers such as the counters of batch norm are integers, which cannot be averaged: they are copied.
            for name, value in self.average_buffers.items():
                if value.is_floating_point():
                    value.lerp_(self.buffers[name], 1 - decay)
                else:
                    value.copy_(self.buffers[name])
        return total / weight

    def averaged_weights(self) -> Weights:
        """The whole moving average (without one, the weights themselves), on every rank."""
        if not self.average:
            return self._weights(self.buffers)
        masters = self._masters()
        # The average lies in the same shards as the masters. Swapping it in lets one routine
        # gather either of them whole.
        kept = [master.clone() for master in masters]
        try:
            torch._foreach_copy_(masters, self.average)
            return self._weights(self.average_buffers)
        finally:
            torch._foreach_copy_(masters, kept)

    def state(self) -> StateTensors:
        """Everything a run resumes from except its counters: whole tensors, the same for any stage and world size."""
        return {
            "weights": self._weights(self.buffers),
            "average": self.averaged_weights(),
            **{moment: self._gathered(moment) for moment in MOMENTS},
        }

    def load_state(self, state: StateTensors, step: int) -> None:
        """Continues from `state`, saved by any stage and any number of workers after `step` optimiser steps.

        Raises:
            KeyError: the state belongs to another network.
        """
        # The average is not addressable by itself: it is loaded as weights, copied, and then replaced by the weights.
        self.load_weights(state["average"])
        self.restart_average()
        self.load_weights(state["weights"])
        for name, parameter in self.parameters.items():
            for moment in MOMENTS:
                self._set(parameter, moment, state[moment][name].to(self.device))
        for master in self._masters(data=False):
            # Adam corrects the bias of its moments by the step count; from 0 the first updates would be far too large.
            self.adam.state[master]["step"].fill_(step)

    def load_weights(self, weights: Weights) -> None:
        """Sets the network's weights to whole tensors."""
        for name, parameter in self.parameters.items():
            self._set(parameter, WEIGHT, weights[name].to(self.device))
        for name, buffer in self.buffers.items():
            buffer.copy_(weights[name])

    def restart_average(self) -> None:
        """Restarts the moving average from the current weights."""
        averages = bool(self.config.optimiser.ema_decay)
        self.average = [master.clone() for master in self._masters()] if averages else []
        self.average_buffers = {name: value.clone() for name, value in self.buffers.items()} if averages else {}

    def _weights(self, buffers: Weights) -> Weights:
        return self._gathered(WEIGHT) | {name: _copy(value) for name, value in buffers.items()}

    def _gathered(self, part: str) -> Weights:
        return {name: _copy(self._whole(p, part).detach().float()) for name, p in self.parameters.items()}

    def _begin_adam(self) -> None:
        """Creates the state that Adam would create at its first step, so that it can be read and set before."""
        for master in self._masters(data=False):
            self.adam.state[master] = {
                "step": torch.zeros(()),
                **{moment: torch.zeros_like(master) for moment in MOMENTS},
            }

    # What depends on how the state is laid out over the ranks:

    def _start(self) -> None:
        """Prepares the module and the optimiser."""

    def _accumulate(self, micro_batch: Any, weight: float, count: int) -> Tensor:
        """Adds the gradient of one of `count` micro-batches. Returns the sum of its losses."""
        loss = self.module(micro_batch)
        (loss * (1 / weight)).backward()
        return loss.detach()

    def _update(self) -> None:
        """Updates the weights by the accumulated gradients of all ranks."""
        parameters = [*self.parameters.values()]
        for parameter in parameters:
            if parameter.grad is None:  # on this rank; the sum over the ranks needs one
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        ranks.add_up(gradients)
        # Summed as DeepSpeed does, whose engine this replaces; torch's get_total_norm may differ in the last bit.
        norm = torch.stack(torch._foreach_norm(gradients)).square().sum().sqrt()
        if self.config.optimiser.gradient_clip:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.config.optimiser.gradient_clip, norm)
        self.adam.step()
        self.adam.zero_grad()
        self._gradient_norm = norm

    def _masters(self, *, data: bool = True) -> list[Any]:
        """The fp32 tensors that this rank's Adam updates, or with `data`, what they hold."""
        return [p.data if data else p for p in self.parameters.values()]

    def _whole(self, parameter: nn.Parameter, part: str) -> Tensor:
        """The weight, or a moment of Adam, of a parameter."""
        return parameter.data if part == WEIGHT else self.adam.state[parameter][part]

    def _set(self, parameter: nn.Parameter, part: str, value: Tensor) -> None:
        """Sets what `_whole` returns."""
        self._whole(parameter, part).copy_(value)


def _copy(value: Tensor) -> Tensor:
    """A copy on the CPU, laid out as files hold it."""
    return value.cpu().clone(memory_format=torch.contiguous_format)
