"""A small network of pixels that nobody trained."""

from __future__ import annotations

import torch

from restore_dit.config import RunConfig
from restore_dit.data.examples.normalisation import Normalisation
from restore_dit.model.denoiser import build_denoiser
from restore_dit.reconstruction.model_directory import Model


def pixels_model(run: RunConfig) -> Model:
    """The network of this run, with the same weights each time."""
    torch.manual_seed(0)
    return Model(build_denoiser(run.model).eval(), run, Normalisation(("VV", "VH"), (-11, -18), (3, 3)))
