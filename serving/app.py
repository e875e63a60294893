"""Builds the Ray Serve application, for `restore-dit serve` and, as `serving.app:application`, for a cluster."""

from __future__ import annotations

from typing import Any

from ray.serve import Application

from restore_dit.config.loading import load_section
from restore_dit.data.storage import locate
from restore_dit.errors import UserError
from restore_dit.reconstruction.model_description import locate_model
from serving.access import Tokens, tokens_from_environment
from serving.config import AT_ONCE, ReplicasConfig, ServingConfig
from serving.job_manager import JobManager
from serving.reconstructor import Reconstructor
from serving.routes.application import Api
from serving.sampler import Sampler

NAME = "restore-dit"


def application(given: dict[str, Any]) -> Application:
    """The application for a cluster's Serve configuration, whose `args` are the keys of `ServingConfig`. Tokens come
    from the environment.

    Raises:
        UserError: an argument is invalid, or no token is set and `open` is false.
    """
    config = load_section(ServingConfig, [], **given)
    tokens = None if config.open else tokens_from_environment()
    if tokens is None and not config.open:
        raise UserError("no token is set: set RESTORE_DIT_TOKENS or RESTORE_DIT_TOKEN_FILE")
    return build(config, tokens)


def build(config: ServingConfig, tokens: Tokens | None) -> Application:
    """The application for a configuration.

    Raises:
        UserError: the location of the models cannot be used.
    """
    shipped = locate_model(config.models).uri != locate(config.models).uri
    # Every node has the shipped model in its own copy of the package, so its name must not become a path.
    models = config.models if shipped else _absolute(config.models)
    config = config.model_copy(update={"models": models, "state": _absolute(config.state)})
    gpu = 1.0 if config.use_gpu else 0.0
    sampler = Sampler.options(  # type: ignore[attr-defined]
        **_scaled(config.samplers, waiting=2 * config.batch_size),
        ray_actor_options={"num_cpus": config.samplers.cpus, "num_gpus": gpu},
    ).bind(config)
    reconstructor = Reconstructor.options(  # type: ignore[attr-defined]
        **_scaled(config.reconstructors, waiting=AT_ONCE),
        ray_actor_options={"num_cpus": config.reconstructors.cpus},
    ).bind(config, sampler)
    job_manager = JobManager.options(ray_actor_options={"num_cpus": 0}).bind(config, reconstructor)  # type: ignore[attr-defined]
    return Api.options(  # type: ignore[attr-defined]
        **_scaled(config.ingresses, waiting=64),
        ray_actor_options={"num_cpus": config.ingresses.cpus},
    ).bind(config, tokens, reconstructor, job_manager)


def _scaled(replicas: ReplicasConfig, waiting: int) -> dict[str, Any]:
    """Options for a number of replicas that keeps about `waiting` requests at each."""
    if replicas.least == replicas.most:
        return {"num_replicas": replicas.most}
    return {
        "autoscaling_config": {
            "min_replicas": replicas.least,
            "max_replicas": replicas.most,
            "target_ongoing_requests": waiting,
            "downscale_delay_s": replicas.idle_seconds,
        }
    }


def _absolute(address: str) -> str:
    """A local path made absolute, because replicas do not share the working directory."""
    place = locate(address)
    return place.path if place.is_local else address
