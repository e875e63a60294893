"""Job that runs a sweep: `python -m jobs.tune`."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console

from cluster.connection import connect
from jobs.entry import main
from jobs.items import JobProgress
from tuning.config import SweepConfig
from tuning.records import Exploit, Trial


def run(config: SweepConfig, display: Console) -> int:
    """Runs the remaining trials, writes the report and prints its address. Returns the exit status: 1 if no trial has a
    score."""
    from tuning.report import write_sweep_report
    from tuning.sweep import generations, passed, plan_sweep, ranked, run_sweep

    plan = plan_sweep(config)
    before = plan.trials
    over = sum(trial.is_over for trial in before)
    if before:
        display.print(f"{over} trials have ended, {len(before) - over} resume where they stopped", highlight=False)
    connect(display)
    of_each = generations(plan)
    unit = "trials" if of_each == 1 else "generations of trials"
    repeats = 0 if config.population else config.seeds.best * config.seeds.repeats
    told = {trial.name: trial for trial in before}
    known = sum(passed(plan, trial) for trial in before)
    left = of_each * (config.search.trials + repeats) - known
    where = plan.folder.location.uri
    display.print(f"{left} {unit} to run; records, logs and models in {where}", highlight=False, soft_wrap=True)
    with JobProgress("tune", unit, left, display) as progress:

        def on_trial(trial: Trial) -> None:
            last, told[trial.name] = told.get(trial.name), trial
            if last is None or len(trial.exploits) > len(last.exploits):
                for exploit in trial.exploits[-1:]:
                    display.print(_copied(trial, exploit), highlight=False, soft_wrap=True)
            if trial.is_over and not (last and last.is_over):
                if trial.status == "failed":
                    progress.fail()
                    print(f"{trial.name}: failed: {trial.error}", file=sys.stderr, flush=True)
                else:
                    display.print(_line(trial), highlight=False, soft_wrap=True)
            further = passed(plan, trial) - (passed(plan, last) if last else 0)
            if further:
                progress.advance(further)

        trials = run_sweep(plan, on_trial)
    best = ranked(trials)
    if not best:
        print(f"{where}: no trial has a score", file=sys.stderr)
        return 1
    display.print(f"best: {_line(best[0])}", highlight=False, soft_wrap=True)
    display.print(f"report: {write_sweep_report(plan.folder).uri}", highlight=False, soft_wrap=True)
    if config.model is None:
        display.print(f"best configuration: {where}/best.yaml", highlight=False, soft_wrap=True)
    return 0


def _line(trial: Trial) -> str:
    score = trial.best
    assert score is not None
    ended = "" if trial.status == "finished" else f" ({trial.status} at step {trial.step})"
    return f"{trial.name}: {score.psnr:.2f} dB, {score.seconds:.3f} s per series{ended}: {_shown(trial.best_values)}"


def _copied(trial: Trial, exploit: Exploit) -> str:
    return f"{trial.name}: continues from {exploit.source} at step {exploit.step}: {_shown(trial.values)}"


def _shown(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items()
    )


if __name__ == "__main__":
    sys.exit(main("tune"))
