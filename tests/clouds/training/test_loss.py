"""The loss, against PyTorch's own and against what it must not depend on."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from restore_dit.clouds.training.loss import class_weights, cloud_loss
from restore_dit.config.cloud_training import CloudLossConfig

EVEN = torch.ones(4)


def case(seed: int = 0, unknown: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 4, 9, 7, generator=random)
    labels = torch.randint(0, 4, (3, 9, 7), generator=random)
    labels[torch.rand(labels.shape, generator=random) < unknown] = 255
    return logits, labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_plain_loss_is_pytorchs(smoothing):
    logits, labels = case()
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    expected = F.cross_entropy(logits, labels, weights, ignore_index=255, label_smoothing=smoothing)
    found = cloud_loss(logits, labels, weights, CloudLossConfig(label_smoothing=smoothing))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("config", [CloudLossConfig(), CloudLossConfig(focal=2, dice=0.7, label_smoothing=0.05)])
def test_what_is_unknown_does_not_count(config):
    logits, labels = case()
    other = torch.where((labels == 255)[:, None], torch.randn(logits.shape), logits)
    torch.testing.assert_close(cloud_loss(logits, labels, EVEN, config), cloud_loss(other, labels, EVEN, config))
    nothing = torch.full_like(labels, 255)
    logits.requires_grad_()
    loss = cloud_loss(logits, nothing, EVEN, config)
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_focal_loss_by_its_formula():
    logits, labels = case(unknown=0)
    right = logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]
    expected = (-((1 - right) ** 1.5) * right.log()).mean()
    torch.testing.assert_close(cloud_loss(logits, labels, EVEN, CloudLossConfig(focal=1.5)), expected)


def test_dice_loss_is_nothing_for_the_truth_and_one_for_its_opposite():
    labels = torch.tensor([[[0, 0, 1, 255], [3, 3, 1, 0]]])
    truth = 100.0 * F.one_hot(labels.where(labels != 255, 0), 4).movedim(-1, 1)
    only_dice = CloudLossConfig(dice=1.0)

    def dice(logits: torch.Tensor) -> torch.Tensor:
        return cloud_loss(logits, labels, EVEN, only_dice) - cloud_loss(logits, labels, EVEN, CloudLossConfig())

    assert dice(truth) == pytest.approx(0, abs=1e-5)
    assert dice(truth.roll(1, dims=1)) == pytest.approx(1, abs=1e-3)
    half = truth.clone()
    half[0, :, 0, 0] = truth[0, :, 0, 2]  # a clear pixel taken for thick cloud
    assert dice(half) == pytest.approx(1 - (2 * 2 / 5 + 2 * 2 / 5 + 1) / 3, abs=1e-5)


def test_weights_of_classes():
    shares = np.array([0.7, 0.2, 0.1, 0.0])
    for balance in (0.0, 0.5, 1.0):
        weights = class_weights(shares, balance).numpy()
        assert weights[:3] @ shares[:3] == pytest.approx(1)
        assert weights[1] / weights[0] == pytest.approx((0.7 / 0.2) ** balance)
        assert weights[3] == 1
