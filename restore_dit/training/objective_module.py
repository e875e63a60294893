"""The module that is trained: from a batch to its weighted loss, in the run's precision."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from restore_dit.config import DiffusionConfig
from restore_dit.data.examples.batch import Batch
from restore_dit.diffusion.objective import training_loss
from restore_dit.diffusion.prediction import Prediction, loss_weights
from restore_dit.diffusion.schedule import training_steps
from restore_dit.model.denoiser import AnyDenoiser


class ObjectiveModule(nn.Module):
    """Weighted sum of the losses of a batch's examples; for pixel networks, over `pixels` random pixels of each example
    (None: all).

    bf16 runs the forward pass under autocast: the parameters that the optimiser updates stay fp32, so there is no
    second, rounded copy of the weights to keep in sync.
    """

    loss_weights: Tensor

    def __init__(
        self,
        denoiser: AnyDenoiser,
        diffusion: DiffusionConfig,
        precision: str,
        pixels: int | None = None,
    ) -> None:
        super().__init__()
        self.pixels = pixels
        self.network = denoiser
        self.diffusion = diffusion
        self.precision = precision
        self.prediction = Prediction.from_config(diffusion)
        self.register_buffer("loss_weights", loss_weights(diffusion, self.prediction), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Weighted sum of losses, a scalar in fp32."""
        device, conditioning = batch.target.device, batch.conditioning
        if self.pixels is not None:
            conditioning = replace(conditioning, pixels=pixels_to_learn_from(batch, self.pixels))
        step = training_steps(batch.quantile, self.prediction.schedule, self.diffusion)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            losses = training_loss(
                self.network,
                batch.target,
                batch.noise(),
                step,
                conditioning,
                batch.valid,
                self.prediction,
                self.diffusion,
                batch.veiled,
            )
        return (losses.float() * self.loss_weights[step] * batch.weight).sum()


def pixels_to_learn_from(batch: Batch, count: int) -> Tensor:
    """Indices [B, count] of `count` pixels of each example in row-major order, drawn with the example's own seed;
    pixels without anything to learn from are taken last."""
    gaps = batch.conditioning.gap_mask
    assert gaps is not None
    useful = (gaps & batch.valid).any(dim=1).flatten(1)
    order = torch.empty(useful.shape)
    for index, seed in enumerate(batch.noise_seed.tolist()):
        order[index].uniform_(generator=torch.Generator().manual_seed(seed))
    order = order.to(useful.device) + useful
    return order.topk(min(count, order.shape[1]), dim=1).indices
