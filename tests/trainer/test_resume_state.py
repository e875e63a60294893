import pytest
import torch
from torch import Tensor, nn

from restore_dit.config import OptimiserConfig, TrainingConfig
from restore_dit.data.storage import locate
from restore_dit.errors import UserError
from restore_dit.trainer import resume_state
from restore_dit.trainer.engine import Engine
from restore_dit.trainer.resume_state import Counters
from restore_dit.trainer.zero import ZeroEngine
from tests.messages import refused


def tensors(value: float) -> dict:
    moments = {part: {"a.weight": torch.full((2, 3), float(value))} for part in ("exp_avg", "exp_avg_sq")}
    weights = {"a.weight": torch.full((2, 3), float(value)), "a.count": torch.tensor(int(value))}  # and a buffer
    return {"weights": weights, "average": weights, **moments}


def test_the_latest_state_comes_back(tmp_path):
    folder = locate(tmp_path)
    for step in (3, 6, 9):
        resume_state.save(folder, tensors(step), Counters(step, best_score=20.0 + step, best_step=step))
    assert resume_state.load_counters(folder) == Counters(9, 29.0, 9)
    loaded = resume_state.load_tensors(folder)
    assert loaded.keys() == tensors(0).keys()
    assert torch.equal(loaded["exp_avg"]["a.weight"], torch.full((2, 3), 9.0))
    assert loaded["weights"]["a.count"] == 9
    assert loaded["weights"]["a.count"].dtype == torch.int64
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-000000006", "step-000000009"]


def test_a_state_that_was_not_finished_does_not_count(tmp_path, monkeypatch):
    folder = locate(tmp_path)
    resume_state.save(folder, tensors(1), Counters(1))
    write = resume_state.write_bytes_atomically

    def full_disk(place, content):
        if place.path.endswith("exp_avg_sq.safetensors"):
            raise UserError("no space left")
        write(place, content)

    monkeypatch.setattr(resume_state, "write_bytes_atomically", full_disk)
    with pytest.raises(UserError):
        resume_state.save(folder, tensors(2), Counters(2))
    assert resume_state.load_counters(folder).step == 1
    assert resume_state.load_tensors(folder)["weights"]["a.weight"][0, 0] == 1


def test_nothing_saved_is_the_start(tmp_path):
    assert resume_state.load_counters(locate(tmp_path)) == Counters()
    assert resume_state.load_tensors(locate(tmp_path)) is None


@pytest.mark.parametrize("keep", [0, 5, 100])
def test_a_truncated_state_is_named(tmp_path, keep):
    resume_state.save(locate(tmp_path), tensors(1), Counters(1))
    file = tmp_path / "step-000000001" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with refused(str(file)):
        resume_state.load_tensors(locate(tmp_path))


class Squares(nn.Module):
    """A network of five parameters, whose loss is the sum of its squared outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(4, 1)

    def forward(self, batch: Tensor) -> Tensor:
        return self.network(batch).square().sum()


def engine(stage: int) -> Engine:
    optimiser = OptimiserConfig(learning_rate=1e-2, ema_decay=0.5)
    config = TrainingConfig(batch_size=2, zero_stage=stage, optimiser=optimiser)
    cpu = torch.device("cpu")
    return ZeroEngine(Squares(), config, cpu, micro_batch_size=2) if stage else Engine(Squares(), config, cpu)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_an_engine_of_any_stage_has_the_state_that_it_was_given_before_its_first_step(stage: int):
    batch = torch.linspace(-1, 1, 8).reshape(2, 4)
    first = engine(0)
    for _ in range(3):
        first.step([batch], 2.0, 1e-2, 0.5)
    given = first.state()
    resumed = engine(stage)
    resumed.load_state(given, 3)
    assert resumed.parameter_count == 5
    for part, tensors in resumed.state().items():
        assert tensors.keys() == given[part].keys()
        for name, value in tensors.items():
            torch.testing.assert_close(value, given[part][name])
    first.step([batch], 2.0, 1e-2, 0.5)
    resumed.step([batch], 2.0, 1e-2, 0.5)
    for part, tensors in resumed.state().items():
        for name, value in tensors.items():
            torch.testing.assert_close(value, first.state()[part][name], msg=f"{part} {name}")
