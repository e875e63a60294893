"""The order of trials: unfinished ones first, nothing that is over again, and what Optuna learns from records."""

from __future__ import annotations

import pytest
from ray.tune.search import Searcher

from tuning.config import SweepConfig, load_sweep
from tuning.records import Score, Trial
from tuning.search import StudySearch, study_of


def score(psnr: float, seconds: float = 0.1) -> Score:
    return Score(step=10, psnr=psnr, mae=0.1, ssim=0.9, sam=3.0, seconds=seconds)


def begun(sweep: SweepConfig, trials: list[Trial], new: list[Trial] | None = None) -> StudySearch:
    return StudySearch(sweep.search, sweep.space, sweep.run, trials, (new if new is not None else []).append)


def run_out(search: StudySearch, quality=lambda values: 20.0) -> list[Trial]:
    """Takes suggestions until there are none, each ended at once."""
    trials = []
    while (suggestion := search.suggest(f"id-{len(trials)}")) != Searcher.FINISHED:
        trials.append(Trial.model_validate(suggestion["trial"]))
        result = {"psnr": quality(trials[-1].values), "seconds": 0.1}
        search.on_trial_complete(f"id-{len(trials) - 1}", result)
    return trials


def ended(trials: list[Trial], status: str = "finished") -> list[Trial]:
    """As a later process reads them."""
    return [
        Trial.model_validate_json(t.model_copy(update={"status": status, "best": score(20.0)}).model_dump_json())
        for t in trials
    ]


@pytest.mark.parametrize("algorithm", ["tpe", "random", "grid"])
def test_as_many_trials_as_asked_for_whether_stopped_between_or_not(algorithm):
    sweep = load_sweep("small", [f"search.algorithm={algorithm}", "search.trials=14"])
    new: list[Trial] = []
    first = run_out(begun(sweep, [], new))
    assert [trial.name for trial in first] == [f"trial-{number:03d}" for number in range(14)]
    assert new == first
    half = ended(first[:6]) + ended(first[6:7], "failed") + ended(first[7:8], "running")
    later = run_out(begun(sweep, half))
    assert later[0].name == "trial-007"
    assert later[0].values == first[7].values
    assert [trial.name for trial in later[1:]] == [f"trial-{number:03d}" for number in range(8, 14)]


def test_a_grid_ends_with_its_last_combination_and_repeats_none():
    sweep = load_sweep("small", ["search.algorithm=grid", "search.trials=100"])
    trials = run_out(begun(sweep, []))
    assert len(trials) == 5 * 2 * 2
    assert run_out(begun(sweep, ended(trials))) == []
    rest = run_out(begun(sweep, ended(trials[:13])))
    assert [trial.values for trial in rest] == [trial.values for trial in trials[13:]]


def test_a_sweep_that_goes_on_does_not_draw_again_what_it_drew():
    sweep = load_sweep("schedules", ["search.algorithm=random", "search.trials=12"])
    first = run_out(begun(sweep, []))
    later = run_out(begun(sweep, ended(first[:6])))
    assert not [trial for trial in later if trial.values in [known.values for known in first[:6]]]


def test_tpe_seeks_where_earlier_trials_were_good():
    sweep = load_sweep("schedules", ["search.trials=60", "search.startup_trials=20", "search.objectives=[psnr]"])

    def quality(values):
        return 20.0 + 5 * values["family"].endswith("v") + 5 * (values["diffusion.sampling_steps"] == 10)

    reached = [quality(trial.values) for trial in run_out(begun(sweep, []), quality)]
    assert sum(reached[20:]) / 40 > sum(reached[:20]) / 20 + 2


@pytest.mark.parametrize("algorithm", ["tpe", "random"])
def test_no_trial_comes_twice_and_a_space_that_is_exhausted_ends_the_sweep(algorithm):
    """The same values and seed would give the same result."""
    sweep = load_sweep("small", [f"search.algorithm={algorithm}", "search.trials=40"])
    trials = run_out(begun(sweep, []), lambda values: 30.0 if values["family"] == "flow" else 10.0)
    assert len({str(trial.values) for trial in trials}) == len(trials) == 20


def test_what_optuna_knows_follows_from_the_records():
    sweep = load_sweep("schedules", ["search.trials=5"])
    trials = ended(run_out(begun(sweep, [])))
    trials[3] = trials[3].model_copy(update={"status": "failed", "best": None, "error": "diverged"})
    trials[4] = trials[4].model_copy(update={"status": "running"})
    study = study_of(sweep.search, sweep.space, trials)
    assert [trial.values for trial in study.trials] == [[20.0, 0.1]] * 3 + [None]
    for known, trial in zip(study.trials, trials, strict=False):
        assert set(known.params) == set(trial.values)
