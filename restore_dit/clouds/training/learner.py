"""Network, optimiser and averaged weights: optimisation steps, and the state as named tensors."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from restore_dit.clouds.network.architecture import build_network
from restore_dit.clouds.training.examples import LabelledBatch
from restore_dit.clouds.training.loss import cloud_loss
from restore_dit.config.cloud_training import CloudOptimiserConfig, CloudTrainingConfig

Tensors = dict[str, Tensor]


def learning_rate(step: int, steps: int, config: CloudOptimiserConfig) -> float:
    """Learning rate at a step (from 0): linear warm-up over the share `warmup` of all steps, then cosine decay to 0."""
    warmup = round(config.warmup * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


class Learner:
    """Optimises a network step by step; `averaged_network` has the moving average of its weights.

    Args:
        config: settings of the training.
        weights: class weights, float32 [4].
        device: where the network runs.
    """

    def __init__(self, config: CloudTrainingConfig, weights: Tensor, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.class_weights = weights.to(device)
        torch.manual_seed(config.seed)
        self.network = build_network(config.network).to(device).to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.optimiser.learning_rate, weight_decay=config.optimiser.weight_decay
        )
        self._names = [name for name, _ in self.network.named_parameters()]
        self.averaged_network = copy.deepcopy(self.network).eval()
        self._average = self.averaged_network.state_dict()  # the tensors themselves

    @property
    def parameters(self) -> int:
        """Number of parameters of the network."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def is_finite(self) -> bool:
        """Whether the weights and their average are finite."""
        states = (self.network.state_dict(), self._average)
        return all(bool(tensor.isfinite().all()) for state in states for tensor in state.values())

    def learn(self, batch: LabelledBatch, step: int) -> Tensor:
        """Does one optimisation step. Returns the loss before it, as a tensor on the device, without synchronising."""
        torch.manual_seed(hash((self.config.seed, step)) % 2**63)  # for encoders with dropout
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, self.config.steps, self.config.optimiser)
        self.network.train()
        inputs = batch.inputs.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            logits = self.network(inputs)
        loss = cloud_loss(logits, batch.labels.to(self.device), self.class_weights, self.config.loss)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimiser.gradient_clip)
        self.optimiser.step()
        self._follow(step)
        return loss.detach()

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """Updates the moving average, faster at the beginning."""
        decay = min(self.config.optimiser.ema_decay, (1 + step) / (10 + step))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self._average[name].lerp_(value, 1 - decay)
            else:
                self._average[name].copy_(value)

    def state(self) -> dict[str, Tensors]:
        """The state needed to resume: weights, averaged weights and the optimiser's moments."""
        moments = [self.optimiser.state[parameter] for parameter in self.network.parameters()]
        return {
            "weights": dict(self.network.state_dict()),
            "average": dict(self._average),
            **{
                key: {name: one[key] for name, one in zip(self._names, moments, strict=True) if key in one}
                for key in ("exp_avg", "exp_avg_sq")
            },
        }

    def load_state(self, state: dict[str, Tensors], step: int) -> None:
        """Restores a state that `state` returned after `step` steps.

        Raises:
            KeyError, RuntimeError: the state belongs to another network.
        """
        self.network.load_state_dict(state["weights"])
        self.averaged_network.load_state_dict(state["average"])
        for name, parameter in self.network.named_parameters():
            self.optimiser.state[parameter] = {
                "step": torch.tensor(float(step)),
                "exp_avg": torch.empty_like(parameter).copy_(state["exp_avg"][name]),
                "exp_avg_sq": torch.empty_like(parameter).copy_(state["exp_avg_sq"][name]),
            }
