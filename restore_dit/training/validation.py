"""Validation during training: fixed examples sampled with the averaged weights and scored on their missing pixels."""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray

from restore_dit.data.examples.batch import Batch, to_batch
from restore_dit.data.examples.normalisation import published_scale_to_reflectance
from restore_dit.diffusion.prediction import Prediction
from restore_dit.diffusion.samplers import sample_inpainting, to_published_scale
from restore_dit.evaluation.metrics import PUBLISHED_SCALE, score_series
from restore_dit.model.denoiser import AnyDenoiser
from restore_dit.series import DATE_ORIGIN
from restore_dit.trainer import ranks
from restore_dit.trainer.task import Validation
from restore_dit.training.setup import TrainingSetup

SCORES = ("psnr", "mae", "ssim", "sam")
AVERAGED = (*SCORES, "seconds")


@torch.no_grad()
def validate(setup: TrainingSetup, denoiser: AnyDenoiser) -> Validation:
    """Scores the validation examples, each on one rank, and averages over all ranks. The scores are averages over the
    series on the published scale, for missing pixels only (`ssim`: frames with any); `seconds` is the sampling time per
    series; the picture shows the first series."""
    device = next(denoiser.parameters()).device
    prediction = Prediction.from_config(setup.config.diffusion)
    sums = torch.zeros(len(AVERAGED) + 1, dtype=torch.float64)
    picture: bytes | None = None
    denoiser.eval()
    for index in range(ranks.rank(), len(setup.validation), ranks.world_size()):
        tile_id, draw = setup.validation[index]
        example = setup.maker.validation(setup.reader(tile_id), draw)
        batch = to_batch(example, setup.normalisation, mask_padding=setup.config.data.mask_padding, device=device)
        begin = time.perf_counter()
        sampled = _sample(setup, denoiser, batch, prediction)[0].cpu().numpy()
        seconds = time.perf_counter() - begin
        frames = batch.conditioning.frame_mask[0].cpu().numpy() if batch.conditioning.frame_mask is not None else ...
        target = to_published_scale(batch.target)[0].cpu().numpy()[frames]
        gaps = example["gap_mask"][0, frames, 0]
        unknown = ~example["valid"][0, frames, 0]
        estimate = sampled[frames]
        missing = score_series(target, estimate, gaps, unknown, scale_name=PUBLISHED_SCALE).missing
        scores = [getattr(missing, name) for name in SCORES]
        if None not in scores and np.isfinite(scores).all():
            sums += torch.tensor([*scores, seconds, 1.0], dtype=torch.float64)
        if index == 0:
            picture = _picture(setup, target, estimate, gaps, unknown, example["optical_dates"][0, frames])
    sums = sums.to(device)
    ranks.add_up([sums])
    *totals, count = sums.tolist()
    averages = {name: total / max(count, 1) for name, total in zip(AVERAGED, totals, strict=True)}
    return Validation(
        score=averages["psnr"],
        scores=averages,
        summary=f"PSNR {averages['psnr']:.2f} dB, MAE {averages['mae']:.4f} on missing pixels",
        metrics={f"validation_{name}_missing": averages[name] for name in SCORES},
        picture=picture,
    )


def _picture(
    setup: TrainingSetup,
    target: NDArray[np.float32],
    estimate: NDArray[np.float32],
    gaps: NDArray[np.bool_],
    unknown: NDArray[np.bool_],
    days: NDArray[np.float32],
) -> bytes:
    from restore_dit.evaluation.figures import strip_figure, to_png  # imports Matplotlib, which only rank 0 needs

    dates = DATE_ORIGIN + days.astype(np.int64).astype("timedelta64[D]")
    bands = setup.config.model.bands
    reflectance = published_scale_to_reflectance
    figure = strip_figure(
        reflectance(target), {"model": reflectance(estimate)}, gaps, dates, bands, target_cloud_mask=unknown
    )
    return to_png(figure, dots_per_inch=80)


def _sample(setup: TrainingSetup, denoiser: AnyDenoiser, batch: Batch, prediction: Prediction) -> torch.Tensor:
    precision, diffusion = setup.config.training.precision, setup.config.diffusion
    with torch.autocast(batch.target.device.type, torch.bfloat16, enabled=precision == "bf16"):
        sampled = sample_inpainting(
            denoiser,
            batch.noise(),
            batch.conditioning,
            prediction,
            diffusion.sampling_steps,
            sampler=diffusion.sampler,
        )
    return to_published_scale(sampled)
