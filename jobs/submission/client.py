"""Talking to a cluster's dashboard through Ray's client, with a time limit on every request and errors of one line."""

from __future__ import annotations

import logging
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
from ray.job_submission import JobDetails, JobSubmissionClient

from jobs.submission.target import Target
from restore_dit.errors import UserError

SECONDS_TO_CONNECT = 10
SECONDS_TO_ANSWER = 60

_START = ("POST", "/api/jobs/")
_GATEWAY = ("502", "503", "504")
_FAILED = re.compile(r"status code (\d+): (.*)", re.DOTALL)


class Unreachable(UserError):
    """Nobody answers: perhaps for a moment only."""


class _LimitedClient(JobSubmissionClient):
    """Ray's client, which would wait for ever, and ask whom the environment names."""

    def __init__(self, target: Target) -> None:
        self._options = _options(target)
        self.start_asked = False
        super().__init__(target.url, headers=target.headers)

    def _do_request(self, method: str, endpoint: str, **options: Any) -> requests.Response:
        self.start_asked = self.start_asked or (method, endpoint) == _START
        return super()._do_request(method, endpoint, **self._options, **options)


class ClusterClient:
    """The jobs of one cluster. Every method raises `UserError` where the cluster does not do what it is asked."""

    def __init__(self, target: Target) -> None:
        self.target = target
        for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
            logging.getLogger(name).setLevel(logging.ERROR)  # what is worth saying is said here
        self.version = self._check_server()
        with self._explained(), _no_other_address(target.url):
            self._client = _LimitedClient(target)

    @property
    def start_asked(self) -> bool:
        """Whether the cluster was asked to start a job: the package is there by then."""
        return self._client.start_asked

    def submit(
        self, job_id: str, entrypoint: str, package: bytes, metadata: Mapping[str, str], environment: Mapping[str, str],
        *, cpus: float, gpus: float,
    ) -> None:  # fmt: skip
        """Sends the package, unless the cluster has it already, and starts the job in it."""
        try:
            with tempfile.TemporaryDirectory(prefix="restore-dit-") as folder:
                file = Path(folder) / "package.zip"
                file.write_bytes(package)
                with self._explained():
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
        """What the cluster knows of a job."""
        with self._explained(job_id):
            return self._client.get_job_info(job_id)

    def jobs(self) -> list[JobDetails]:
        """Every submitted job that the cluster remembers, the oldest first."""
        with self._explained():
            found = self._client.list_jobs()
        return sorted((job for job in found if job.submission_id), key=lambda job: job.start_time or 0)

    def log(self, job_id: str) -> str:
        """A job's log up to now."""
        with self._explained(job_id):
            return self._client.get_job_logs(job_id)

    def log_as_it_grows(self, job_id: str) -> AsyncIterator[str]:
        """Pieces of a job's log from its beginning to its end; errors of the connection are passed on as they come."""
        return self._client.tail_job_logs(job_id)

    def stop(self, job_id: str) -> bool:
        """Asks a job to stop; whether it was running."""
        with self._explained(job_id):
            return self._client.stop_job(job_id)

    def _check_server(self) -> str:
        """That a Ray dashboard of a fitting version answers, and takes the token; its version."""
        url = self.target.url
        try:
            answer = requests.get(f"{url}/api/version", **_options(self.target))
        except requests.RequestException as error:
            raise Unreachable(_nobody(url, error)) from None
        if answer.status_code in (401, 403):
            raise UserError(self._refused(answer.status_code))
        try:
            version = answer.json()["ray_version"] if answer.ok else None
        except (ValueError, KeyError, TypeError):
            version = None
        if not isinstance(version, str):
            raise UserError(
                f"{url}: answers, but not as a Ray dashboard does (HTTP {answer.status_code}); give the address of the "
                "cluster's dashboard, such as http://HEAD:8265"
            )
        check_versions(version, ray_version, url)
        return version

    def _refused(self, status: int) -> str:
        """Why: 401 no token, 403 a wrong one."""
        url, origin = self.target.url, self.target.token_origin
        if status == 403 or origin:
            return f"{url}: refuses the token from {origin}; set RAY_AUTH_TOKEN_PATH to the file with this cluster's"
        return (
            f"{url}: asks for a token; set RAY_AUTH_TOKEN_PATH to a file that holds the cluster's (or RAY_AUTH_TOKEN)"
        )

    @contextmanager
    def _explained(self, job_id: str | None = None) -> Iterator[None]:
        url = self.target.url
        try:
            yield
        except (ConnectionError, requests.RequestException) as error:
            raise Unreachable(_nobody(url, error)) from None
        except AuthenticationError:
            raise UserError(self._refused(403 if self.target.token else 401)) from None
        except (RuntimeError, ValueError) as error:
            failed = _FAILED.search(str(error))
            if failed and failed[1] == "404" and job_id:
                raise UserError(f"{job_id}: no such job on {url}; `restore-dit job list` shows them") from None
            if failed and "No available agent" in failed[2]:
                raise UserError(
                    f"{url}: the cluster's head takes no job now (no agent); try again, or look at its "
                    "dashboard_agent.log"
                ) from None
            if failed and failed[1] in _GATEWAY:
                raise Unreachable(f"{url}: its gateway answers in its place (HTTP {failed[1]})") from None
            said = [line for line in (failed[2] if failed else str(error)).splitlines() if line.strip(" .")]
            raise UserError(f"{url}: {said[-1].strip() if said else 'the request failed'}") from None


class _Bearer(requests.auth.AuthBase):
    """The token and nothing else: without one of these, requests puts what a .netrc file has for the host in its
    place."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._headers)
        return request


def _options(target: Target) -> dict[str, Any]:
    """What goes with every request. Ray follows logs through aiohttp, which asks no proxy and reads no .netrc."""
    options: dict[str, Any] = {
        "auth": _Bearer(target.headers),
        "timeout": (SECONDS_TO_CONNECT, SECONDS_TO_ANSWER),
    }
    if target.on_loopback:
        options["proxies"] = {"http": "", "https": ""}  # one that the environment names would get to see the token
    return options


def check_versions(theirs: str, ours: str, url: str) -> None:
    """Raises `UserError` where the cluster runs another minor version of Ray: the project is made for one."""
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        raise UserError(
            f"{url}: the cluster runs Ray {theirs}, and this project is made for {ours}, as here; use the project's "
            "container image, or its constraints.txt, on the cluster"
        )


def _nobody(url: str, error: Exception) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return f"{url}: no secure connection: {_innermost(error)}; is it http:// there?"
    if isinstance(error, requests.Timeout):
        return f"{url}: no answer within the time limit; is the cluster up, and a tunnel to it open?"
    return f"{url}: nobody answers there ({_innermost(error)}); is the cluster up, and a tunnel to it open?"


def _innermost(error: BaseException) -> str:
    """The cause's own words, without the layers around it."""
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
    """Ray's client prefers an address from the environment to the one that it is given."""
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
