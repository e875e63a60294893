"""The module that is trained: from labelled examples to their loss."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from restore_dit.clouds.network.weights import build_network
from restore_dit.clouds.training.examples import LabelledBatch
from restore_dit.config.cloud_training import CloudLossConfig, CloudTrainingConfig
from restore_dit.series import CLOUD_NO_DATA


class CloudObjective(nn.Module):
    """The mean loss of a batch. It normalises by the labels of the whole batch, as batch normalisation does by its
    values, so a batch is computed in one piece.

    Args:
        config: settings of the training.
        weights: class weights, float32 [4].
    """

    class_weights: Tensor

    def __init__(self, config: CloudTrainingConfig, weights: Tensor) -> None:
        super().__init__()
        self.config = config
        self.network = channels_last(build_network(config.network))
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, batch: LabelledBatch) -> Tensor:
        """The loss, a scalar in fp32."""
        with torch.autocast(batch.inputs.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            logits = self.network(batch.inputs)
        return cloud_loss(logits, batch.labels, self.class_weights, self.config.loss)


def channels_last(network: nn.Module) -> nn.Module:
    """The network with the memory layout in which convolutions are fastest."""
    return network.to(memory_format=torch.channels_last)


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
