import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_dit.config import OptimiserConfig, paper
from restore_dit.trainer.loop import learning_rate


def rate(step: int, config: OptimiserConfig, total: int = 1000, epoch: int = 10) -> float:
    return learning_rate(step, steps_per_epoch=epoch, total_steps=total, config=config)


@given(step=st.integers(0, 999), warmup=st.integers(0, 400), decay=st.sampled_from(["none", "cosine"]))
def test_it_rises_to_the_peak_and_never_above(step, warmup, decay):
    config = OptimiserConfig(learning_rate=0.3, warmup_steps=warmup, decay=decay)
    assert 0 < rate(step, config) <= 0.3
    if step < warmup:
        assert rate(step, config) < rate(step + 1, config)
    assert rate(warmup, config) == pytest.approx(0.3)


def test_cosine_ends_near_zero():
    config = OptimiserConfig(learning_rate=1.0, warmup_steps=0, decay="cosine")
    assert rate(999, config) < 1e-5
    assert rate(500, config) == pytest.approx(0.5)


def test_the_paper_halves_at_its_epochs():
    config = paper().training.optimiser
    rates = {
        epoch: learning_rate(152 * epoch, steps_per_epoch=152, total_steps=152 * 3000, config=config)
        for epoch in (0, 99, 100, 499, 500, 1000, 1500, 2500, 2999)
    }
    assert rates == {
        0: 2e-4, 99: 2e-4, 100: 1e-4, 499: 1e-4, 500: 5e-5, 1000: 2.5e-5, 1500: 1.25e-5, 2500: 6.25e-6, 2999: 6.25e-6,
    }  # fmt: skip
