"""Who follows whom in a population, with which values, and what is copied."""

from __future__ import annotations

import json
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from restore_dit.data.storage import write_bytes_atomically
from restore_dit.trainer import resume_state
from restore_dit.trainer.resume_state import Counters
from tests.messages import refused
from tuning.config import SweepConfig, load_sweep
from tuning.population import exploit, explored, followers, generation_ends
from tuning.records import Score, SweepFolder, Trial
from tuning.space import configuration, may_change

STEP = 40


@pytest.fixture
def sweep(tmp_path) -> SweepConfig:
    return load_sweep(
        "population",
        [f"output={tmp_path}", "run.data.store=stores/sim", "population.every_steps=40", "population.share=0.25"],
    )


@pytest.fixture
def folder(sweep) -> SweepFolder:
    """Eight trials that came to the end of the first generation, the better the higher their number; the first failed
    before."""
    folder = SweepFolder.of(sweep)
    folder.claim(sweep)
    for number in range(8):
        values = {
            "family": ("linear x0", "cosine v")[number % 2],
            "training.optimiser.learning_rate": 0.001 + number / 1e4,
            "training.optimiser.ema_decay": 0.97,
            "diffusion.sampled_share": 0.4,
        }
        trial = Trial(name=f"trial-{number:03d}", values=values, step=STEP, paused_at=STEP)
        if number == 0:
            trial = trial.model_copy(update={"status": "failed", "step": 0, "paused_at": 0})
        else:
            log(folder, trial.name, [(20, 15.0 + number), (STEP, 20.0 + number)])
            save_state(folder, trial.name, STEP, float(number))
        folder.write(trial)
    return folder


def log(folder: SweepFolder, run: str, curve: list[tuple[int, float]]) -> None:
    rest = {f"validation/{name}": 0.1 for name in ("mae", "ssim", "sam", "seconds")}
    lines = [json.dumps({"step": step, "validation/psnr": psnr} | rest) for step, psnr in curve]
    place = folder.trials.join(run, "logs", "metrics.jsonl")
    write_bytes_atomically(place, "\n".join(lines).encode())


def save_state(folder: SweepFolder, run: str, step: int, value: float) -> None:
    tensors = {part: {"w": torch.full((3,), value)} for part in ("weights", "average")}
    resume_state.save(folder.trials.join(run, "state"), tensors, Counters(step, best_score=99.0, best_step=20))


def state_of(folder: SweepFolder, run: str) -> tuple[Counters, float]:
    place = folder.trials.join(run, "state")
    tensors = resume_state.load_tensors(place)
    assert tensors is not None
    return resume_state.load_counters(place), tensors["weights"]["w"][0].item()


def test_the_last_go_on_from_the_state_and_near_the_values_of_the_first(sweep, folder):
    before = {trial.name: trial for trial in folder.read()}
    replaced = exploit(folder, folder.read(), STEP, sweep, sweep.run)
    after = {trial.name: trial for trial in folder.read()}
    assert [trial.name for trial in replaced] == ["trial-001", "trial-002"]
    for name, trial in after.items():
        if name not in ("trial-001", "trial-002"):
            assert trial == before[name]
            continue
        (new,) = trial.exploits
        assert (new.step, new.before) == (STEP, before[name].values)
        assert new.source in ("trial-006", "trial-007")
        assert trial.values["family"] == before[new.source].values["family"]
        assert trial.values != before[new.source].values
        counters, value = state_of(folder, f"{name}-from-000040")
        assert counters == Counters(step=STEP)  # its own best model is yet to come
        assert value == float(new.source[-1])
        assert state_of(folder, name)[1] == float(name[-1])


def test_again_after_an_interruption_it_is_the_same_and_nothing_more(sweep, folder):
    whole = {trial.name: trial for trial in exploit(folder, folder.read(), STEP, sweep, sweep.run)}
    folder.write(
        whole["trial-002"].model_copy(update={"exploits": [], "values": whole["trial-002"].exploits[0].before})
    )
    again = exploit(folder, folder.read(), STEP, sweep, sweep.run)
    assert again == [whole["trial-002"]]
    failed = whole["trial-002"].model_copy(update={"status": "failed"})
    folder.write(failed)
    assert exploit(folder, folder.read(), STEP, sweep, sweep.run) == []


def test_the_curve_of_a_trial_goes_through_all_of_its_runs(sweep, folder):
    replaced = exploit(folder, folder.read(), STEP, sweep, sweep.run)[0]
    log(folder, replaced.run_name, [(60, 30.0), (80, 31.0)])
    log(folder, replaced.name, [(20, 16.0), (STEP, 21.0), (60, 0.0)])  # had it gone on before it copied
    assert [(score.step, score.psnr) for score in folder.curve(replaced)] == [(20, 16), (40, 21), (60, 30), (80, 31)]
    best = replaced.model_copy(update={"best": Score(step=STEP, psnr=21, mae=0, ssim=0, sam=0, seconds=0)})
    assert (best.best_values, best.run_at(STEP)) == (replaced.exploits[0].before, replaced.name)
    assert (replaced.values_at(60), replaced.run_at(60)) == (replaced.values, replaced.run_name)


def test_a_state_that_is_not_there_is_one_line(sweep, folder):
    with refused("nobody/state"):
        resume_state.copy_latest(folder.trials.join("nobody", "state"), folder.trials.join("new", "state"))


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.floats(0, 40), max_size=20), st.floats(0.01, 0.5))
def test_only_the_last_follow_and_only_the_first_are_followed(scores, share):
    found = followers(scores, share, random.Random(0))
    assert len(found) <= len(scores) // 2
    assert (len(found) > 0) == (len(scores) > 1)
    rest = scores.keys() - found.keys()
    for name, source in found.items():
        assert source in rest
        assert all(scores[name] <= scores[other] for other in rest)
        assert sum(scores[other] > scores[source] for other in scores) < max(len(found), 1)


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_explored_values_are_those_of_a_possible_run_with_the_same_network(seed, fresh):
    sweep = load_sweep("population", [])
    values = {
        "family": "cosine v",
        "training.optimiser.learning_rate": 2e-4,
        "training.optimiser.ema_decay": 0.997,
        "diffusion.sampled_share": 0.8,
    }
    new = explored(sweep.space, sweep.run, values, fresh, random.Random(seed))
    run = configuration(sweep.space, sweep.run, new)
    assert new.keys() == values.keys()
    assert new["family"] == "cosine v"
    assert 2e-4 <= run.training.optimiser.learning_rate <= 5e-3 * 1.0000001
    assert run.diffusion.sampled_share == pytest.approx(round(run.diffusion.sampled_share / 0.2) * 0.2)
    if fresh == 0:
        assert new["training.optimiser.learning_rate"] == pytest.approx(2e-4 * 25 ** (new_step(new) / 10))
        assert new["training.optimiser.ema_decay"] in (0.99, 0.997)
        assert new["diffusion.sampled_share"] in (pytest.approx(0.6), pytest.approx(0.8))


def new_step(values) -> int:
    """0 at the lower end, where it stays, or one step up."""
    return int(values["training.optimiser.learning_rate"] > 2.1e-4)


def test_what_the_weights_depend_on_may_not_change():
    space = load_sweep("schedules", []).space
    assert {name for name, parameter in space.items() if may_change(name, parameter)} == {
        "diffusion.loss_weighting",
        "diffusion.timestep_sampling",
        "diffusion.sampled_share",
        "diffusion.sampling_steps",
        "diffusion.sampler",
    }


def test_generations_end_with_the_training():
    config = load_sweep("population", ["population.every_steps=40"]).population
    assert config is not None
    assert generation_ends(config, 100) == [40, 80, 100]
    assert generation_ends(config, 80) == [40, 80]
    assert generation_ends(config, 30) == [30]


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ("search.algorithm=tpe", ["population", "search.algorithm", "'random'", "'grid'"]),
        ("stopping={grace_steps: 40}", ["population", "stopping", "seeds"]),
        ("seeds.best=1", ["population", "stopping", "seeds"]),
        ("population.every_steps=30", ["population.every_steps 30", "run.training.validate_every 20"]),
        ("search.trials=1", ["population", "search.trials=2"]),
    ],
)
def test_what_a_population_cannot_be(change, facts):
    with refused(*facts, status=2):
        load_sweep("population", [change])


@pytest.mark.parametrize(
    ("space", "facts"),
    [
        ("{diffusion.schedule: {values: [linear, cosine]}}", ["population", "training.optimiser.learning_rate"]),
        (
            "{data.flips: {values: [true, false]}, training.batch_size: {values: [8, 16]}}",
            ["space.training.batch_size", "population"],
        ),
        (
            "{data.flips: {values: [true, false]}, model.depth: {values: [1, 2], when: {data.flips: [true]}}}",
            ["space.model.depth", "'data.flips'", "'when'"],
        ),
    ],
)
def test_a_space_that_a_population_cannot_have(tmp_path, space, facts):
    file = tmp_path / "mine.yaml"
    file.write_text(f"space: {space}\nsearch: {{algorithm: grid}}\npopulation: {{every_steps: 100}}\n")
    with refused(str(file), *facts, status=2):
        load_sweep(str(file), [])
