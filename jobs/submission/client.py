"""A client of a cluster's dashboard, based on Ray's, with a time limit on every request and one-line errors."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from ray import __version__ as ray_version
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails

from jobs.submission.target import Target
from restore_dit.errors import UserError
from restore_dit.private_interfaces import job_client

SECONDS_TO_CONNECT = 10
SECONDS_TO_ANSWER = 60

_START = ("POST", "/api/jobs/")
_GATEWAY = ("502", "503", "504")
_FAILED = re.compile(r"status code (\d+): (.*)", re.DOTALL)


class Unreachable(UserError):
    """The cluster does not answer, possibly only for a moment."""


class ClusterClient:
    """The jobs of one cluster. Every method raises `UserError` if the cluster is unreachable or refuses a request."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.start_asked = False
        """Whether the cluster was asked to start a job, which happens after the package is uploaded."""
        self.version = self._check_server()
        with self._user_errors(), _no_other_address(target.url):
            self._client = job_client(target.url, target.headers, _options(target), self._note)

    def submit(
        self, job_id: str, entrypoint: str, package: bytes, metadata: Mapping[str, str], environment: Mapping[str, str],
        *, cpus: float, gpus: float,
    ) -> None:  # fmt: skip
        """Uploads the package, unless the cluster already has it, and starts the job in it."""
        try:
            with tempfile.TemporaryDirectory(prefix="restore-dit-") as folder:
                file = Path(folder) / "package.zip"
                file.write_bytes(package)
                with self._user_errors():
                    self._client.submit_job(
                        entrypoint=entrypoint,
                        submission_id=job_id,
                        runtime_env={"working_dir": str(file), "env_vars": dict(environment)},
                        metadata=dict(metadata),
                        entrypoint_num_cpus=cpus or None,
                        entrypoint_num_gpus=gpus or None,
                    )
        except OSError as error:
            raise UserError(
                f"the package ({len(package) / 1e6:.1f} MB) cannot be written to a temporary folder: {error.strerror}; "
                "free some space or set TMPDIR"
            ) from None

    def job(self, job_id: str) -> JobDetails:
        """Details of a job."""
        with self._user_errors(job_id):
            return self._client.get_job_info(job_id)

    def jobs(self) -> list[JobDetails]:
        """All submitted jobs that the cluster remembers, oldest first."""
        with self._user_errors():
            found = self._client.list_jobs()
        return sorted((job for job in found if job.submission_id), key=lambda job: job.start_time or 0)

    def log(self, job_id: str) -> str:
        """A job's log so far."""
        with self._user_errors(job_id):
            return self._client.get_job_logs(job_id)

    def log_as_it_grows(self, job_id: str) -> AsyncIterator[str]:
        """Streams a job's log from its beginning to its end. Connection errors are passed on unchanged."""
        return self._client.tail_job_logs(job_id)

    def stop(self, job_id: str) -> bool:
        """Asks a job to stop and returns whether it was running."""
        with self._user_errors(job_id):
            return self._client.stop_job(job_id)

    def _note(self, method: str, path: str) -> None:
        self.start_asked = self.start_asked or (method, path) == _START

    def _check_server(self) -> str:
        """Checks that a Ray dashboard of a compatible version answers and accepts the token; returns the version."""
        url = self.target.url
        try:
            answer = requests.get(f"{url}/api/version", **_options(self.target))
        except requests.RequestException as error:
            raise Unreachable(_no_answer(url, error)) from None
        if answer.status_code in (401, 403):
            raise UserError(self._refused(answer.status_code))
        try:
            version = answer.json()["ray_version"] if answer.ok else None
        except (ValueError, KeyError, TypeError):
            version = None
        if not isinstance(version, str):
            raise UserError(
                f"{url}: a server answers, but not a Ray dashboard (HTTP {answer.status_code}); give the address of "
                "the cluster's dashboard, for example http://HEAD:8265"
            )
        check_versions(version, ray_version, url)
        return version

    def _refused(self, status: int) -> str:
        """The message for a refused request: 401 means a missing token, 403 a wrong one."""
        url, origin = self.target.url, self.target.token_origin
        if status == 403 or origin:
            return (
                f"{url}: refuses the token from {origin}; set RAY_AUTH_TOKEN_PATH to the file of this cluster's token"
            )
        return (
            f"{url}: requires a token; set RAY_AUTH_TOKEN_PATH to the file of its token, or RAY_AUTH_TOKEN to the token"
        )

    @contextmanager
    def _user_errors(self, job_id: str | None = None) -> Iterator[None]:
        url = self.target.url
        try:
            yield
        except (ConnectionError, requests.RequestException) as error:
            raise Unreachable(_no_answer(url, error)) from None
        except AuthenticationError:
            raise UserError(self._refused(403 if self.target.token else 401)) from None
        except (RuntimeError, ValueError) as error:
            failed = _FAILED.search(str(error))
            if failed and failed[1] == "404" and job_id:
                raise UserError(f"{job_id}: no such job on {url}; `restore-dit job list` lists them") from None
            if failed and "No available agent" in failed[2]:
                raise UserError(
                    f"{url}: the cluster's head cannot start jobs at the moment (no agent); try again, or see its "
                    "dashboard_agent.log"
                ) from None
            if failed and failed[1] in _GATEWAY:
                raise Unreachable(f"{url}: a gateway answers instead of the cluster (HTTP {failed[1]})") from None
            lines = [line for line in (failed[2] if failed else str(error)).splitlines() if line.strip(" .")]
            raise UserError(f"{url}: {lines[-1].strip() if lines else 'the request failed'}") from None


class _Bearer(requests.auth.AuthBase):
    """Sends only the token. Without an explicit auth object, requests would replace it with credentials for the host
    from a .netrc file."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._headers)
        return request


def _options(target: Target) -> dict[str, Any]:
    """Options for every request. Log streams go through aiohttp, which uses neither a proxy nor .netrc."""
    options: dict[str, Any] = {
        "auth": _Bearer(target.headers),
        "timeout": (SECONDS_TO_CONNECT, SECONDS_TO_ANSWER),
    }
    if target.on_loopback:
        options["proxies"] = {"http": "", "https": ""}  # a proxy from the environment would see the token
    return options


def check_versions(theirs: str, ours: str, url: str) -> None:
    """Raises `UserError` if the cluster runs another minor version of Ray than this machine."""
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        raise UserError(
            f"{url}: the cluster runs Ray {theirs}, but this machine runs {ours}; use the project's container image or "
            "its constraints.txt on the cluster"
        )


def _no_answer(url: str, error: Exception) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return f"{url}: no secure connection: {_innermost(error)}; does the server use http://?"
    if isinstance(error, requests.Timeout):
        return f"{url}: no answer within the time limit; is the cluster up and the tunnel open?"
    return f"{url}: no answer ({_innermost(error)}); is the cluster up and the tunnel open?"


def _innermost(error: BaseException) -> str:
    """Message of the root cause, without the exceptions that wrap it."""
    while True:
        inner = (
            error.__cause__
            or error.__context__
            or next((argument for argument in error.args if isinstance(argument, BaseException)), None)
        )
        reason = getattr(error, "reason", None)
        inner = reason if isinstance(reason, BaseException) else inner
        if inner is None:
            break
        error = inner
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200] or type(error).__name__


@contextmanager
def _no_other_address(url: str) -> Iterator[None]:
    """Sets the address in the environment too, because Ray's client prefers that one to its argument."""
    name = "RAY_API_SERVER_ADDRESS"
    before = os.environ.get(name)
    os.environ[name] = url
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
