"""A cloud network of random weights that answers with all four classes, tiles for it, and what plain PyTorch says."""

from __future__ import annotations

import copy
import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from restore_dit.series import Acquisitions, Georeference, TileSeries

PUBLISHED_BANDS = ("B02", "B03", "B04", "B8A")


def random_weights(channels: int, sample: Tensor | None = None, seed: int = 0) -> dict[str, Tensor]:
    """A state dict of the published architecture: batch normalisation's statistics are those of `sample`
    [N, channels, H, W], and no class is favoured."""
    torch.manual_seed(seed)
    network = plain_network(channels)
    for parameter in network.parameters():  # those of a template that others may have made before
        if parameter.dim() == 4:
            nn.init.kaiming_uniform_(parameter, nonlinearity="relu")
    if sample is None:
        sample = torch.from_numpy(landscape(np.random.default_rng(seed), 4, channels, (64, 64))).float() / 10000
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # statistics of all that it has seen
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    with torch.no_grad():
        network.train()(sample)
        logits = network.eval()(sample)
        head = network.segmentation_head[0]
        spread = logits.std(dim=(0, 2, 3))
        head.weight /= spread[:, None, None, None]
        head.bias.copy_((head.bias - logits.mean(dim=(0, 2, 3))) / spread)
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def plain_network(channels: int) -> nn.Module:
    """The published architecture, straight from its library."""
    return copy.deepcopy(_template(channels))


@functools.cache
def _template(channels: int) -> nn.Module:
    import segmentation_models_pytorch as smp  # seconds, which collecting the tests need not take

    return smp.Unet("mobilenet_v2", encoder_weights=None, in_channels=channels, classes=4)


def plain_logits(weights: dict[str, Tensor], frames: Tensor, *, as_published: bool = False) -> Tensor:
    """Logits [N, 4, H, W] of reflectance [N, channels, H, W]; `as_published`: sizes that are multiples of 32 are padded
    by 32 more, as the published script does."""
    network = plain_network(frames.shape[1]).eval().to(frames.dtype)
    network.load_state_dict(weights)
    height, width = frames.shape[-2:]
    down, right = (math.ceil((size + as_published) / 32) * 32 - size for size in (height, width))
    top, left = down // 2, right // 2
    with torch.no_grad():
        logits = network(F.pad(frames, (left, right - left, top, down - top), mode="reflect"))
    return logits[:, :, top : top + height, left : left + width]


def rounding(weights: dict[str, Tensor], frames: Tensor) -> float:
    """How far fp32 logits of plain PyTorch lie from exact ones at most; that is the processor's business."""
    exact = {name: value.double() if value.is_floating_point() else value for name, value in weights.items()}
    return float((plain_logits(weights, frames) - plain_logits(exact, frames.double())).abs().max())


def assert_same_masks(
    masks: NDArray[np.uint8], logits: Tensor, share: float = 3e-4, rounded_by: float = 2.5e-4
) -> None:
    """Every pixel bears the likeliest class. Convolutions of another batch size or memory layout round otherwise (each
    logit by `rounded_by` at most), so two classes that come within four times that count as equal; at most `share` of
    the pixels may make use of it."""
    classes = logits.argmax(dim=1).numpy()
    best = logits.topk(2, dim=1).values
    undecided = (best[:, 0] - best[:, 1] < 4 * rounded_by).numpy()
    assert set(np.unique(classes)) == {0, 1, 2, 3}
    assert np.array_equal(masks[~undecided], classes[~undecided])
    assert (masks != classes).mean() <= share


def landscape(random: np.random.Generator, frames: int, channels: int, size: tuple[int, int]) -> NDArray[np.int16]:
    """Reflectance × 10000 [frames, channels, H, W] with structures of some pixels' size."""
    coarse = torch.from_numpy(random.random((frames, channels, 9, 9))).float()
    smooth = F.interpolate(coarse, size=size, mode="bilinear")
    rough = torch.from_numpy(random.random((frames, channels, *size))).float()
    return (6000 * smooth**2 + 800 * rough).numpy().astype(np.int16)


def tile(
    seed: int,
    frames: int,
    size: tuple[int, int],
    bands: tuple[str, ...] = PUBLISHED_BANDS,
    pixel_size: float = 10.0,
) -> TileSeries:
    random = np.random.default_rng(seed)
    dates = np.datetime64("2018-09-01") + 5 * np.arange(frames)
    values = landscape(random, frames, len(bands), size) if frames else np.zeros((0, len(bands), *size), np.int16)
    return TileSeries(
        f"tile{seed}",
        Acquisitions(values, dates, bands),
        georeference=Georeference("EPSG:32631", (pixel_size, 0.0, 574680.0, 0.0, -pixel_size, 5622440.0)),
    )


def reflectance(series: TileSeries) -> Tensor:
    """The tile's values as the published script reads them."""
    return torch.from_numpy((series.optical.values / 10000.0).astype(np.float32))
