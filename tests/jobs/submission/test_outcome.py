"""How a job ended, in its own words."""

import pytest
from ray.job_submission import JobDetails, JobStatus

from jobs.submission.follow import outcome
from tests.messages import assert_names


def details(status: JobStatus, **more: object) -> JobDetails:
    """A job that ended."""
    return JobDetails(type="SUBMISSION", status=status, entrypoint="python", **more)


# As Ray 2.60 words it.
DIED = """Job supervisor actor died: The actor died unexpectedly before finishing this task.
\tclass_name: JobSupervisor
\tactor_id: 3c1bb84b7d0f1b6d9a3d4a5c01000000
\tnamespace: SUPERVISOR_ACTOR_RAY_NAMESPACE
The actor is dead because its node has died. Node Id: 5f04"""


@pytest.mark.parametrize(
    ("ended", "log", "status", "facts"),
    [
        (details(JobStatus.SUCCEEDED, driver_exit_code=0), [], 0, ["succeeded"]),
        (details(JobStatus.STOPPED), ["state saved"], 130, ["stopped"]),
        (
            details(JobStatus.FAILED, driver_exit_code=2),
            ["Traceback (most recent call last):", "python -m jobs.train: error: no store", "(pid=1) later"],
            2,
            [2, "no store"],
        ),
        (
            details(JobStatus.FAILED, driver_exit_code=1),
            ["Traceback (most recent call last):", '  File "x"', "ValueError: seven", ""],
            1,
            [1, "ValueError: seven"],
        ),
        (details(JobStatus.FAILED, driver_exit_code=-9), ["step 3"], 1, ["-9", "memory"]),
        (details(JobStatus.FAILED, driver_exit_code=127), ["sh: 1: python: not found"], 1, [127, "`python`"]),
        (
            details(JobStatus.FAILED, driver_exit_code=1),
            ["ModuleNotFoundError: No module named 'rasterio'"],
            1,
            [1, "'rasterio'", "dependency"],
        ),
        (
            details(JobStatus.FAILED, message="Runtime env failed:\nNo space left on device\n"),
            [],
            1,
            ["before", "No space left on device"],
        ),
        (
            details(JobStatus.FAILED, message=DIED, error_type="JOB_SUPERVISOR_ACTOR_DIED", driver_node_id="5f04"),
            ["step 3", *DIED.splitlines()],
            1,
            ["lost", DIED.splitlines()[0]],
        ),
        (
            details(
                JobStatus.FAILED,
                message="Unexpected error occurred: failed to get job supervisor.",
                error_type="JOB_SUPERVISOR_ACTOR_START_FAILURE",
                driver_node_id="5f04",
            ),
            ["step 3"],
            1,
            ["lost", "failed to get job supervisor"],
        ),
        (
            details(JobStatus.FAILED, message=DIED, error_type="JOB_SUPERVISOR_ACTOR_DIED"),
            [],
            1,
            ["before", DIED.splitlines()[0]],
        ),
        (
            details(
                JobStatus.FAILED,
                message="Traceback (most recent call last):\nOSError: No space left on device",
                error_type="JOB_ENTRYPOINT_COMMAND_START_ERROR",
                driver_node_id="5f04",
            ),
            [],
            1,
            ["before", "OSError: No space left on device"],
        ),
        (details(JobStatus.FAILED, driver_exit_code=1), [], 1, [1]),
    ],
)
def test_outcome(ended, log, status, facts):
    found = outcome(ended, log)
    assert found.status == status
    assert_names(found.text, *facts)
