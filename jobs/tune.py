"""A sweep as a job: `python -m jobs.tune --config F key=value`."""

from __future__ import annotations

import sys

from rich.console import Console

from jobs.entry import connect, job_main
from jobs.progress import JobProgress
from tuning.config import SweepConfig, load_sweep
from tuning.records import Trial


def run(config: SweepConfig, display: Console) -> int:
    """Runs the trials that are left, makes the report and says where it is; 1 if no trial has a score."""
    from tuning.report import write_sweep_report
    from tuning.sweep import plan_sweep, ranked, run_sweep

    plan = plan_sweep(config)
    before = plan.trials
    over = sum(trial.is_over for trial in before)
    if before:
        display.print(f"{over} trials are over, {len(before) - over} go on where they were", highlight=False)
    connect(display)
    done = {trial.name for trial in before if trial.is_over}
    total = config.search.trials + config.seeds.best * config.seeds.repeats - len(done)
    with JobProgress("tune", "trials", total, display) as progress:

        def on_trial(trial: Trial) -> None:
            if trial.is_over and trial.name not in done:
                done.add(trial.name)
                if trial.status == "failed":
                    progress.fail()
                    print(f"{trial.name}: failed: {trial.error}", file=sys.stderr, flush=True)
                else:
                    display.print(_line(trial), highlight=False, soft_wrap=True)
                progress.advance()

        trials = run_sweep(plan, on_trial)
    best = ranked(trials)
    if not best:
        print(f"{plan.folder.location.uri}: no trial has a score", file=sys.stderr)
        return 1
    display.print(f"best: {_line(best[0])}", highlight=False, soft_wrap=True)
    display.print(f"report: {write_sweep_report(plan.folder).uri}", highlight=False, soft_wrap=True)
    return 0


def _line(trial: Trial) -> str:
    score = trial.best
    assert score is not None
    values = ", ".join(f"{name}={value}" for name, value in trial.values.items())
    ended = "" if trial.status == "finished" else f" ({trial.status} at step {trial.step})"
    return f"{trial.name}: {score.psnr:.2f} dB, {score.seconds:.3f} s a series{ended}: {values}"


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    description = "A sweep over diffusion schedules; the same configuration as `restore-dit tune`."
    return job_main("tune", description, load_sweep, run, argv)


if __name__ == "__main__":
    sys.exit(main())
