"""A small model that does something, without training one."""

import pytest
import torch

from restore_dit.config import RunConfig
from restore_dit.data.examples.normalisation import Normalisation
from restore_dit.model.denoiser import Denoiser
from restore_dit.reconstruction.model_directory import Model


@pytest.fixture(scope="session")
def small_model(small_run: RunConfig) -> Model:
    """Random weights, so that every input has a say."""
    torch.manual_seed(0)
    denoiser = Denoiser(small_run.model)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Model(denoiser.eval(), small_run, Normalisation(("VV", "VH", "VV-VH"), (-11, -18, 7), (3, 3, 3)), {"a": 1.5})
