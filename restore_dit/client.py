"""Reconstruct series from Python, through a running service or in this process, with the same calls.

client = Client("http://127.0.0.1:8000", token)      # or LocalClient("runs/site/model")
clear = client.reconstruct(series, seed=1)
clear.series.optical.values, clear.gap_mask
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.exchange import netcdf
from restore_dit.data.storage import Place
from restore_dit.data.storage.addresses import retry_after, web_opener
from restore_dit.errors import UserError
from restore_dit.series import NEVER_OBSERVED, SAMPLES, SUSPECT, THICK_CLOUD, TileSeries

TIMEOUT = 600.0
"""Seconds without a byte from the service after which a request fails."""

PATIENCE = 600.0
"""Seconds for which a request is retried while the service is busy, and a job is polled while the service does not
answer."""


class NoAnswer(UserError):
    """The service does not answer, or its response breaks off."""


@dataclass(frozen=True)
class Reconstruction:
    """A reconstructed series, and the mask of its gaps, [T, H, W]."""

    series: TileSeries
    gap_mask: NDArray[np.bool_]

    @property
    def never_observed(self) -> NDArray[np.bool_]:
        """[H, W], true where no date of the input series observes the pixel."""
        return self.series.layers[NEVER_OBSERVED] == 1

    @property
    def samples(self) -> NDArray[np.integer]:
        """The possible series, [K, T, C, H, W] in reflectance × 10000; K is 0 if none were asked for."""
        frames, *rest = self.series.optical.values.shape
        return self.series.layers.get(SAMPLES, np.empty((frames, 0, *rest), np.int16)).swapaxes(0, 1)

    @property
    def suspect(self) -> NDArray[np.bool_]:
        """[T, H, W], true where a pixel counts as observed, but is probably cloud, haze or shadow; with
        `replace_suspect`, where it was filled for that reason."""
        return self.series.layers[SUSPECT] == 1


@dataclass(frozen=True)
class Job:
    """A reconstruction that runs asynchronously on the service."""

    client: Client
    id: str

    def state(self) -> dict[str, Any]:
        """The job's status, progress in windows, and links to its files."""
        return self.client.get(f"/v1/reconstructions/{self.id}")

    def wait(self, on_progress: Callable[[int, int], None] = lambda done, total: None) -> dict[str, Any]:
        """Waits until the job is done and returns its last state. The job survives a restart of the service.

        Args:
            on_progress: called with the numbers of windows done and in total.

        Raises:
            UserError: the job failed or was cancelled.
            NoAnswer: the service did not answer for `PATIENCE` seconds.
        """
        silent_since: float | None = None
        while True:
            try:
                for state in self._events():
                    silent_since = None
                    on_progress(state["done"], state["total"])
                    if state["status"] == "done":
                        return state
                    if state["status"] in ("failed", "cancelled"):
                        raise UserError(f"reconstruction {self.id}: {state['error'] or state['status']}")
            except NoAnswer:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > PATIENCE:
                    raise
            time.sleep(1)

    def cancel(self) -> None:
        """Cancels the job, or deletes it if it has ended."""
        self.client.fetch("DELETE", f"/v1/reconstructions/{self.id}")

    def download(self, folder: str | Path) -> list[Path]:
        """Waits until the job is done, downloads its files into `folder` and returns their paths."""
        state = self.wait()
        paths = []
        for name, link in state["files"].items():
            path = Path(folder) / Path(name).name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.client.fetch("GET", link)[1])
            paths.append(path)
        return paths

    def _events(self) -> Iterator[dict[str, Any]]:
        with self.client.call("GET", f"/v1/reconstructions/{self.id}/events") as answer, _unbroken(self.client.address):
            for line in answer:
                if line.startswith(b"data: ") and line.endswith(b"\n"):
                    yield json.loads(line[6:])


@dataclass(frozen=True)
class Client:
    """A client of a running service.

    Args:
        address: for example http://127.0.0.1:8000.
        token: access token; None for a service without authentication.
    """

    address: str
    token: str | None = field(default=None, repr=False)

    def reconstruct(self, series: TileSeries, **options: Any) -> Reconstruction:
        """Fills the gaps of a series. If the service makes it a job, waits until the job is done.

        Args:
            series: with cloud masks, or without them if the service is to detect clouds.
            options: those of `POST /v1/reconstructions`: model, steps, sampler, seed, mask_dilation,
                replace_suspect, dates, outputs, samples. With `outputs="uncertainty"`, the result has that layer if the
                model estimates it; with `samples=8`, eight possible series.

        Raises:
            UserError: the service's error message, on one line.
            NoAnswer: the service does not answer.
        """
        query = {name: value for name, value in options.items() if value is not None}
        status, content = self._post(netcdf.encode(series), query | {"format": "netcdf"})
        if status == 202:
            state = Job(self, json.loads(content)["id"]).wait()
            link = next(link for name, link in state["files"].items() if name.endswith(".nc"))
            _, content = self.fetch("GET", link)
        found = netcdf.decode(content, "answer")
        assert found.clouds is not None
        return Reconstruction(found, found.clouds == THICK_CLOUD)

    def submit(self, series: TileSeries | str | Path, **options: Any) -> Job:
        """Submits a series as a job.

        Args:
            series: a series, or the path of a NetCDF file or ZIP archive, which is uploaded unchanged.
            options: those of `reconstruct`, and format: netcdf, geotiff or json. Outputs may be reflectance, ndvi,
                previews and uncertainty.

        Raises:
            UserError: the service's error message, on one line.
            NoAnswer: the service does not answer.
        """
        content = netcdf.encode(series) if isinstance(series, TileSeries) else Path(series).read_bytes()
        query = {name: value for name, value in options.items() if value is not None} | {"wait": "false"}
        # Sent again while the service is busy or restarts, it stays one job.
        return Job(self, json.loads(self._post(content, query, {"Idempotency-Key": str(uuid.uuid4())})[1])["id"])

    def models(self) -> list[dict[str, Any]]:
        """Descriptions of the models that are served."""
        return self.get("/v1/models")

    def get(self, path: str) -> Any:
        """The JSON response to `GET path`."""
        return json.loads(self.fetch("GET", path)[1])

    def fetch(
        self, method: str, path: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Sends a request, with these headers beside the client's own, and returns the status and body of the response.

        Raises:
            UserError: the service's error message, on one line.
            NoAnswer: the service does not answer, or the response breaks off.
        """
        with self.call(method, path, content, headers) as answer, _unbroken(self.address):
            return answer.status, answer.read()

    def call(
        self, method: str, path: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Sends a request and returns the open response. Retries after `Retry-After` while the service is busy.

        Raises:
            UserError: the service's error message, on one line.
            NoAnswer: the service does not answer.
        """
        headers = dict(headers or {})
        if content is not None:
            headers["Content-Type"] = "application/octet-stream"
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        opener = web_opener(self.address)
        deadline = time.monotonic() + PATIENCE
        while True:
            request = urllib.request.Request(self.address.rstrip("/") + path, content, headers, method=method)
            try:
                return opener.open(request, timeout=TIMEOUT)
            except urllib.error.HTTPError as error:
                wait = retry_after(error.headers.get("Retry-After"))
                if wait and time.monotonic() + wait < deadline:
                    error.close()
                    time.sleep(wait)
                    continue
                raise UserError(f"{self.address}: {_message(error)}") from None
            except (OSError, http.client.HTTPException) as error:
                raise NoAnswer(f"{self.address}: no answer: {getattr(error, 'reason', error)}") from None

    def _post(
        self, content: bytes, query: dict[str, Any], headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        for name in ("dates", "outputs"):
            if not isinstance(query.get(name, ""), str):
                query = query | {name: ",".join(map(str, query[name]))}
        return self.fetch("POST", f"/v1/reconstructions?{urlencode(query)}", content, headers)


class LocalClient:
    """Reconstructs series in this process, with a model directory."""

    def __init__(self, model: Place, *, use_gpu: bool = False) -> None:
        from restore_dit.reconstruction.model_directory import load_model  # PyTorch, which `Client` does not need

        self._model = load_model(model).on_device(use_gpu)

    def reconstruct(
        self, series: TileSeries, *, dates: Sequence[str] = (), every: int | str | None = None, **options: Any
    ) -> Reconstruction:
        """Fills the gaps of a series, on these `dates` or `every` so many days if given (see `dates_wanted`). The other
        options are those of `SamplingOptions`."""
        from restore_dit.reconstruction.dates import dates_wanted
        from restore_dit.reconstruction.gap_free import fill_gaps
        from restore_dit.reconstruction.sampling import SamplingOptions

        wanted = dates_wanted(series.optical.dates, dates, every)
        filled = fill_gaps(self._model, series, SamplingOptions.named(options), dates=wanted)
        return Reconstruction(filled.series, filled.gap_mask)


@contextmanager
def _unbroken(address: str) -> Iterator[None]:
    """Raises `NoAnswer` if the response that is read inside breaks off."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"{address}: the response broke off: {error}") from None


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {error.code}"
