"""Loss weights over the noise schedule."""

import pytest
import torch

from restore_dit.config import DiffusionConfig
from restore_dit.diffusion.prediction import Prediction, loss_weights


def weights_of(**settings) -> torch.Tensor:
    config = DiffusionConfig(**settings)
    return loss_weights(config, Prediction.from_config(config))


@pytest.mark.parametrize("prediction", ["x0", "epsilon", "v"])
def test_min_snr_is_that_of_diffusers_training(prediction):
    """`compute_snr` and what diffusers' training scripts make of it (min(SNR, γ), over SNR for ε, over SNR + 1 for
    v)."""
    training = pytest.importorskip("diffusers.training_utils")
    ddpm = pytest.importorskip("diffusers.schedulers.scheduling_ddpm")
    oracle = ddpm.DDPMScheduler(beta_start=1e-4, beta_end=0.02)
    snr = training.compute_snr(oracle, torch.arange(1000))
    expected = snr.clamp(max=5) / {"x0": 1, "epsilon": snr, "v": snr + 1}[prediction]
    ours = weights_of(prediction=prediction, loss_weighting="min_snr")
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-6)


def test_an_error_of_the_series_counts_alike_whatever_is_predicted():
    """The same error of x_0, said as ε or v, has the same weighted loss."""
    config = {"loss_weighting": "min_snr", "min_snr_gamma": 3.0}
    of_clean = weights_of(prediction="x0", **config)
    for kind in ("epsilon", "v"):
        prediction = Prediction.from_config(DiffusionConfig(prediction=kind))
        error_of_output = 1 / prediction.of_output
        torch.testing.assert_close(
            weights_of(prediction=kind, **config) * error_of_output.square().float(), of_clean, rtol=1e-4, atol=1e-7
        )


def test_uniform_is_one():
    assert weights_of().tolist() == [1.0] * 1000
