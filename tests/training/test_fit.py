"""The fit in this process: what it writes, and that stopping and going on changes nothing."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from rich.console import Console

from jobs.entry import main
from restore_dit.config import RunConfig, dump, load
from restore_dit.reconstruction.model_directory import TrainingData, load_model, save_model
from restore_dit.trainer.monitor import LocalMonitor, SavedReport, StartedReport, StepReport, ValidationReport
from restore_dit.trainer.run import fit_here
from restore_dit.training.run import DenoiserTask, run_training
from restore_dit.training.setup import set_up
from tests.messages import assert_names, refused

QUIET = Console(quiet=True)


def named(config: RunConfig, name: str, **training) -> RunConfig:
    return config.model_copy(update={"name": name, "training": config.training.model_copy(update=training)})


def weights(config: RunConfig) -> dict[str, torch.Tensor]:
    state = Path(config.output, config.name, "state")
    latest = json.loads((state / "latest.json").read_text())["state"]
    return safetensors.torch.load_file(state / latest / "weights.safetensors")


def computed(config: RunConfig) -> list[tuple[int, str, int, float]]:
    lines = [
        json.loads(line)
        for file in sorted(Path(config.output, config.name, "logs", "examples").iterdir())
        for line in file.read_text().splitlines()
    ]
    return [(line["step"], *entry) for line in lines for batch in line["examples"] for entry in batch]


def recorded_steps(config: RunConfig) -> list[int]:
    lines = Path(config.output, config.name, "logs", "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


@pytest.fixture(scope="module")
def uninterrupted(small_run) -> RunConfig:
    config = named(small_run, "uninterrupted")
    result = run_training(config, QUIET)
    assert result.finished
    return config


def test_what_a_run_leaves(uninterrupted):
    folder = Path(uninterrupted.output, uninterrupted.name)
    setup = set_up(uninterrupted)
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
    model = load_model(str(folder / "model"))
    assert model.config == uninterrupted
    assert model.metrics["validation_psnr_missing"] > 10
    lines = [json.loads(line) for line in (folder / "logs" / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert list(losses) == list(range(1, setup.total_steps + 1))
    best = max(line["validation/psnr"] for line in lines if "validation/psnr" in line)
    assert best == model.metrics["validation_psnr_missing"]
    assert list((folder / "logs" / "tensorboard").iterdir())
    assert load(folder / "config.yaml") == uninterrupted


def test_each_example_once_an_epoch(uninterrupted):
    setup = set_up(uninterrupted)
    epochs: dict[int, Counter] = {}
    for step, tile, draw, weight in computed(uninterrupted):
        epochs.setdefault(setup.plan.epoch(step), Counter())[tile, draw] += weight
    everything = {(tile, draw): 1 for tile in setup.split.train for draw in range(2)}
    assert epochs == {epoch: Counter(everything) for epoch in range(3)}
    assert not set(setup.split.train) & {*setup.split.validation, *setup.split.test}


@pytest.mark.parametrize("stop_after", [1, 7])
def test_stopped_and_resumed_is_the_same_run(small_run, uninterrupted, stop_after):
    config = named(small_run, f"stopped-{stop_after}")
    task = DenoiserTask(set_up(config))
    task.claim()
    monitor = LocalMonitor(
        lambda report: isinstance(report, StepReport) and report.step == stop_after and monitor.request_stop()
    )
    assert not fit_here(task, monitor)
    result = run_training(config, QUIET)
    assert result.finished
    for name, value in weights(uninterrupted).items():
        torch.testing.assert_close(weights(config)[name], value, rtol=0, atol=1e-6)
    assert sorted(computed(config)) == sorted(computed(uninterrupted))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_resumed_is_the_same_run(small_run, uninterrupted, tmp_path, capsys, number):
    config = named(small_run, f"killed-{number.name}")
    file = tmp_path / "run.yaml"
    file.write_text(dump(config))
    command = [sys.executable, "-m", "jobs.train", "--config", str(file)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    latest = Path(config.output, config.name, "state", "latest.json")
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not latest.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    if number == signal.SIGINT:
        assert_names(output, f"{config.output}/{config.name}")
    assert main("train", ["--config", str(file)]) == 0
    assert re.search(r"resuming \D*[1-9]", capsys.readouterr().out)
    for name, value in weights(uninterrupted).items():
        torch.testing.assert_close(weights(config)[name], value, rtol=0, atol=1e-6)
    assert sorted(computed(config)) == sorted(computed(uninterrupted))
    assert recorded_steps(config) == recorded_steps(uninterrupted)


def test_the_loss_falls_below_half_in_a_hundred_steps(small_run):
    optimiser = small_run.training.optimiser.model_copy(update={"learning_rate": 3e-3})
    config = named(small_run, "hundred", epochs=25, optimiser=optimiser, save_every=100, validate_every=1000)
    config = config.model_copy(update={"model": config.model.model_copy(update={"anchor": "none"})})
    assert run_training(config, QUIET).finished
    lines = Path(config.output, config.name, "logs", "metrics.jsonl").read_text().splitlines()
    losses = [line["loss"] for line in map(json.loads, lines) if "loss" in line]
    assert len(losses) == 100
    assert sum(losses[-10:]) < sum(losses[:10]) / 2


def test_accumulation_changes_nothing_but_memory(small_run, uninterrupted):
    config = named(small_run, "accumulated", micro_batch_size=1)
    run_training(config, QUIET)
    for name, value in weights(uninterrupted).items():
        torch.testing.assert_close(weights(config)[name], value, rtol=0, atol=2e-6)


def test_checkpointed_activations_change_nothing(small_run, uninterrupted):
    config = named(small_run, "checkpointed", activation_checkpointing=True)
    run_training(config, QUIET)
    for name, value in weights(uninterrupted).items():
        torch.testing.assert_close(weights(config)[name], value, rtol=0, atol=2e-6)


def test_bf16_computes_in_bf16_and_keeps_fp32_weights(small_run, uninterrupted):
    config = named(small_run, "bf16", precision="bf16")
    run_training(config, QUIET)
    values, exact = weights(config), weights(uninterrupted)
    assert all(value.dtype == torch.float32 for value in values.values())
    head = values["head.weight"]
    assert not torch.equal(head, head.bfloat16().float())  # finer than bf16 could hold
    difference = (head - exact["head.weight"]).norm() / exact["head.weight"].norm()
    assert 1e-4 < difference < 0.3  # not the same arithmetic, but the same fit


def test_a_fit_that_diverges_stops_and_keeps_the_last_good_state(small_run):
    optimiser = small_run.training.optimiser.model_copy(update={"learning_rate": 1e30, "warmup_steps": 0})
    config = named(small_run, "diverging", optimiser=optimiser, save_every=1)
    with refused("training.optimiser.learning_rate"):
        run_training(config, QUIET)
    if Path(config.output, config.name, "state", "latest.json").exists():
        assert all(value.isfinite().all() for value in weights(config).values())


def test_without_validation_the_model_is_that_of_the_lowest_loss(small_run):
    split = small_run.data.split.model_copy(update={"validation_fraction": 0.0})
    config = named(small_run, "unvalidated", log_every=2)
    config = config.model_copy(update={"data": config.data.model_copy(update={"split": split})})
    assert run_training(config, QUIET).finished
    lines = [
        json.loads(line)
        for line in Path(config.output, "unvalidated", "logs", "metrics.jsonl").read_text().splitlines()
    ]
    model = load_model(str(Path(config.output, "unvalidated", "model")))
    assert min(line["loss"] for line in lines) <= model.metrics["training_loss"] <= max(line["loss"] for line in lines)


def reported_losses(config: RunConfig) -> dict[int, float]:
    lines = Path(config.output, config.name, "logs", "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line["loss"] for line in map(json.loads, lines) if "loss" in line}


def test_the_reported_loss_is_a_mean_after_a_stop_too(small_run, uninterrupted):
    config = named(small_run, "sparse", log_every=4)
    task = DenoiserTask(set_up(config))
    task.claim()
    stop = LocalMonitor(lambda report: isinstance(report, StartedReport) and stop.request_stop())
    assert not fit_here(task, stop)  # after one step
    assert run_training(config, QUIET).finished
    losses, each = reported_losses(config), reported_losses(uninterrupted)
    assert sorted(losses) == [*range(4, task.total_steps, 4), task.total_steps]
    assert losses[4] == pytest.approx(sum(each[step] for step in (1, 2, 3, 4)) / 4, rel=1e-3)
    assert losses[8] == pytest.approx(sum(each[step] for step in (5, 6, 7, 8)) / 4, rel=1e-3)


def test_the_radar_stays_on_the_scale_that_the_weights_know(small_run, uninterrupted, tmp_path):
    start = load_model(str(Path(uninterrupted.output, uninterrupted.name, "model")))
    other = replace(start.normalisation, radar_mean=tuple(mean - 5 for mean in start.normalisation.radar_mean))
    place = str(tmp_path / "other")
    save_model(place, start.config, start.denoiser.state_dict(), other, {})
    assert set_up(named(small_run, "adapted", init_from=place)).normalisation == other
    assert set_up(named(small_run, "adapted")).normalisation == start.normalisation


def test_a_fit_begins_with_the_weights_of_another(small_run, uninterrupted):
    start = load_model(str(Path(uninterrupted.output, uninterrupted.name, "model")))
    config = named(small_run, "tuned", init_from=start.origin, epochs=1)
    reports = []
    setup = set_up(config)
    assert set(start.training_data.tiles) == {*setup.split.train, *setup.split.validation}
    task = DenoiserTask(setup)
    task.claim()
    fit_here(task, LocalMonitor(reports.append))
    first = next(report for report in reports if isinstance(report, ValidationReport))
    assert first.scores["psnr"] > 10
    assert any(isinstance(report, SavedReport) for report in reports)
    drift = max((weights(config)[name] - value).abs().max() for name, value in start.denoiser.state_dict().items())
    assert drift < 0.05  # five steps away from where it began; random weights are ten times as far


@pytest.mark.parametrize("fate", ["gone", "changed"])
def test_a_resumed_run_needs_nothing_of_the_model_that_it_began_with(small_run, uninterrupted, tmp_path, fate):
    start = load_model(str(Path(uninterrupted.output, uninterrupted.name, "model")))
    scale = replace(start.normalisation, radar_mean=tuple(mean - 5 for mean in start.normalisation.radar_mean))
    seen = TrainingData("elsewhere", {"there": "checksum"})
    place = tmp_path / "start"

    def begin(name: str) -> RunConfig:
        save_model(str(place), start.config, start.denoiser.state_dict(), scale, {}, seen)
        return named(small_run, name, init_from=str(place), epochs=2)

    whole = begin(f"whole-{fate}")
    assert run_training(whole, QUIET).finished
    config = begin(f"left-{fate}")
    task = DenoiserTask(set_up(config))
    task.claim()
    monitor = LocalMonitor(lambda report: isinstance(report, StartedReport) and stop())

    def stop() -> None:  # before there is a state
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_here(task, monitor)
    if fate == "gone":
        shutil.rmtree(place)
    else:
        other = {name: torch.zeros_like(value) for name, value in start.denoiser.state_dict().items()}
        save_model(str(place), start.config, other, start.normalisation, {})
    assert run_training(config, QUIET).finished
    for name, value in weights(whole).items():
        assert torch.equal(weights(config)[name], value)
    model = load_model(str(Path(config.output, config.name, "model")))
    assert model.normalisation == scale
    assert {"there", *task.setup.split.train} <= set(model.training_data.tiles)


def test_a_run_of_an_earlier_version_goes_on(small_run, uninterrupted):
    """It named the best score otherwise, and counted no unreported losses."""
    config = named(small_run, "earlier")
    task = DenoiserTask(set_up(config))
    task.claim()
    monitor = LocalMonitor(
        lambda report: isinstance(report, StepReport) and report.step == 5 and monitor.request_stop()
    )
    assert not fit_here(task, monitor)
    (file,) = Path(task.folder.state.path).glob("step-000000005/counters.json")
    counters = json.loads(file.read_text())
    best = counters.pop("best_score")
    file.write_text(
        json.dumps({key: counters[key] for key in ("step", "best_step", "best_loss")} | {"best_psnr": best})
    )
    assert run_training(config, QUIET).finished
    for name, value in weights(uninterrupted).items():
        assert torch.equal(weights(config)[name], value)
    models = [load_model(str(Path(one.output, one.name, "model"))) for one in (config, uninterrupted)]
    assert models[0].metrics == models[1].metrics
    assert models[0].normalisation == models[1].normalisation
