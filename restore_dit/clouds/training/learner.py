"""Network, loss, optimiser and averaged weights: optimisation steps, and the state as named tensors."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from restore_dit.clouds.network.weights import build_network
from restore_dit.clouds.training.examples import LabelledBatch
from restore_dit.config.cloud_training import CloudLossConfig, CloudOptimiserConfig, CloudTrainingConfig
from restore_dit.series import CLOUD_NO_DATA

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


def class_weights(shares: NDArray[np.float64], balance: float) -> Tensor:
    """Weight of each class, float32 [4]: its share to the power of −`balance`, scaled to a mean weight of 1 per pixel.
    A class that does not occur has weight 1."""
    seen = shares > 0
    weights = np.where(seen, np.where(seen, shares, 1.0) ** -balance, 0.0)
    scale = (weights * shares).sum()
    return torch.tensor(np.where(seen, weights / (scale or 1.0), 1.0), dtype=torch.float32)


def cloud_loss(logits: Tensor, labels: Tensor, weights: Tensor, config: CloudLossConfig) -> Tensor:
    """Loss of logits [N, 4, H, W] for labels int64 [N, H, W]. Pixels with label 255 are ignored; without any other, the
    loss is 0.

    The cross-entropy is a weighted mean with the class weights. `focal` multiplies it by (1 − p)^focal, where p is the
    probability of the label (Lin et al. 2017, Focal loss for dense object detection).
    """
    logits, known = logits.float(), labels != CLOUD_NO_DATA
    entropy = F.cross_entropy(
        logits,
        labels,
        weights,
        ignore_index=CLOUD_NO_DATA,
        reduction="none",
        label_smoothing=config.label_smoothing,
    )
    labels = labels.where(known, 0)
    if config.focal:
        right = logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]
        entropy = entropy * (1 - right) ** config.focal
    loss = entropy.sum() / (weights[labels] * known).sum().clamp(min=1e-6)
    return loss + config.dice * dice_loss(logits, labels, known) if config.dice else loss


def dice_loss(logits: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """1 − the mean of 2·Σp·y/(Σp + Σy) over the classes present in the batch, for `known` pixels (Milletari et al.
    2016, V-Net)."""
    probabilities = logits.softmax(dim=1) * known[:, None]
    truth = F.one_hot(labels, logits.shape[1]).movedim(-1, 1) * known[:, None]
    overlap = (probabilities * truth).sum(dim=(0, 2, 3))
    labelled = truth.sum(dim=(0, 2, 3))
    coefficients = 2 * overlap / (probabilities.sum(dim=(0, 2, 3)) + labelled).clamp(min=1e-6)
    present = labelled > 0
    return 1 - coefficients[present].mean() if present.any() else logits.sum() * 0
