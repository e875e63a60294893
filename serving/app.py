"""The application, put together: `restore-dit serve` runs it, and so does a cluster by `serving.app:application`."""

from __future__ import annotations

from typing import Any

from ray.serve import Application

from restore_dit.config.loading import load_section
from restore_dit.data.storage import locate
from restore_dit.errors import UserError
from restore_dit.reconstruction.model_description import locate_model
from serving.access import Tokens, tokens_from_environment
from serving.api import Api
from serving.config import AT_ONCE, ReplicasConfig, ServingConfig
from serving.desk import Desk
from serving.reconstructor import Reconstructor
from serving.sampler import Sampler

NAME = "restore-dit"


def application(given: dict[str, Any]) -> Application:
    """The application of a cluster's Serve configuration, whose `args` are those of `ServingConfig`. Tokens come from
    the environment.

    Raises:
        UserError: what is wrong with them; no token, unless `open`.
    """
    config = load_section(ServingConfig, [], **given)
    tokens = None if config.open else tokens_from_environment()
    if tokens is None and not config.open:
        raise UserError("no token: set RESTORE_DIT_TOKENS or RESTORE_DIT_TOKEN_FILE")
    return build(config, tokens)


def build(config: ServingConfig, tokens: Tokens | None) -> Application:
    """The application of a configuration.

    Raises:
        UserError: no model there, or a damaged one.
    """
    shipped = locate_model(config.models).uri != locate(config.models).uri
    # Each node has the shipped model in its own copy of the package, so its name stays a name.
    models = config.models if shipped else _whole(config.models)
    config = config.model_copy(update={"models": models, "state": _whole(config.state)})
    gpu = 1.0 if config.use_gpu else 0.0
    sampler = Sampler.options(  # type: ignore[attr-defined]
        **_scaled(config.samplers, waiting=2 * config.batch_size),
        ray_actor_options={"num_cpus": config.samplers.cpus, "num_gpus": gpu},
    ).bind(config)
    reconstructor = Reconstructor.options(  # type: ignore[attr-defined]
        **_scaled(config.reconstructors, waiting=AT_ONCE),
        ray_actor_options={"num_cpus": config.reconstructors.cpus},
    ).bind(config, sampler)
    desk = Desk.options(ray_actor_options={"num_cpus": 0}).bind(config, reconstructor)  # type: ignore[attr-defined]
    return Api.options(  # type: ignore[attr-defined]
        **_scaled(config.ingresses, waiting=64),
        ray_actor_options={"num_cpus": config.ingresses.cpus},
    ).bind(config, tokens, reconstructor, desk)


def _scaled(replicas: ReplicasConfig, waiting: int) -> dict[str, Any]:
    """As many replicas as keep `waiting` requests before each."""
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


def _whole(address: str) -> str:
    """A local path that does not depend on the working directory, which replicas do not share."""
    place = locate(address)
    return place.path if place.is_local else address
