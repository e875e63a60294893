"""Every use of a private interface of Ray or DeepSpeed, each with the reason why no public one does the same.

A private name may vanish with any release. If one is missing, the function that needs it raises a `UserError` that
names the installed version and those that the tests passed with. `tests/test_private_interfaces.py` keeps the rest of
the code free of private names.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

from restore_dit.errors import UserError

if TYPE_CHECKING:
    from ray.data import DataContext
    from ray.job_submission import JobSubmissionClient

TESTED = {"ray": "2.57 to 2.60", "deepspeed": "0.19"}
"""The minor versions of each library that the tests passed with (2026-12-01)."""


@contextmanager
def _private_names(library: str, needed_by: str) -> Iterator[None]:
    """Context in which private names are looked up. One that is missing becomes a `UserError`."""
    try:
        yield
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{library} {version(library)} lacks what {needed_by} needs ({error}): install one of the tested versions, "
            f"{library} {TESTED[library]}"
        ) from error


# Ray: the cluster


def autoscaler_node_types() -> set[str] | None:
    """The types of node that Ray's first autoscaler counts; None if its second one runs, which adds nodes on demand.

    The public interfaces show the nodes, but not whether something would add more.
    """
    with _private_names("ray", needed_by="the search for an autoscaler"):
        from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
        from ray.autoscaler.v2.utils import is_autoscaler_v2
        from ray.experimental.internal_kv import _internal_kv_get
    if is_autoscaler_v2(fetch_from_server=True):
        return None
    status = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    report = (json.loads(status).get("autoscaler_report") if status else None) or {}
    return {*(report.get("active_nodes") or {}), *(report.get("idle_nodes") or {})}


def hide_token_notice() -> None:
    """Silences the notice that a new cluster on this machine has a token, which is expected.

    Only the level of this one logger does that: a higher `logging_level` for `ray.init` would hide other warnings too.
    """
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)


def filter_worker_lines(kept: Callable[[tuple[Any, Any], list[str]], Iterator[str]]) -> None:
    """Replaces what Ray prints of its processes' output by the lines that `kept` returns.

    `ray.init(log_to_driver=…)` forwards either every line or none.

    Args:
        kept: from the sender, as node and process, and its new lines to those that are printed.
    """
    with _private_names("ray", needed_by="the filter of the workers' output"):
        from ray._private.ray_logging import global_worker_stdstream_dispatcher
        from ray._private.worker import print_to_stdstream

    def forward(data: dict[str, Any]) -> None:
        lines = list(kept((data.get("ip"), data.get("pid")), data["lines"]))
        if lines:
            print_to_stdstream({**data, "lines": lines}, False)

    global_worker_stdstream_dispatcher.remove_handler("ray_print_logs")
    global_worker_stdstream_dispatcher.add_handler("ray_print_logs", forward)


RAY_ON_LOOPBACK = f"""
import sys
from ray import __version__
from ray._private import ray_constants, services
from ray.scripts.scripts import main

for module, name in ((ray_constants, "ENABLE_RAY_CLUSTER"), (services, "resolve_ip_for_localhost")):
    if not hasattr(module, name):
        tested = "ray {TESTED["ray"]}"
        sys.exit(f"Error: ray {{__version__}} lacks what local clusters need ({{name}}): install {{tested}}")
ray_constants.ENABLE_RAY_CLUSTER = True
services.resolve_ip_for_localhost = str
main()
"""
"""Program that runs the command `ray` with its nodes on the loopback address.

Ray replaces a loopback address by the host's own, on which its servers would accept connections from anywhere, and
otherwise refuses to run several nodes. It has no option for several nodes on loopback, so both are patched before its
command runs. The program stands alone, because the interpreter that runs it need not have this package.
"""


def aws_node_provider() -> Any:
    """Ray's class that starts and ends EC2 instances. The public `NodeProvider` is an interface without any cloud."""
    with _private_names("ray", needed_by="the cluster on AWS"):
        from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    return AWSNodeProvider


# Ray: jobs and data


def job_client(
    url: str, headers: Mapping[str, str], options: Mapping[str, Any], on_request: Callable[[str, str], object]
) -> JobSubmissionClient:
    """Ray's client for jobs with further options of `requests`, such as a time limit, which it has no way to set.

    Args:
        url: address of the cluster's dashboard.
        headers: sent with every request.
        options: arguments of `requests.request`.
        on_request: called with the method and path of each request before it is sent.
    """
    from ray.job_submission import JobSubmissionClient

    with _private_names("ray", needed_by="the client for jobs"):
        send = JobSubmissionClient._do_request

    class Client(JobSubmissionClient):
        def _do_request(self, method: str, endpoint: str, **given: Any) -> Any:
            on_request(method, endpoint)
            return send(self, method, endpoint, **options, **given)

    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)  # whoever uses the client reports errors
    return Client(url, headers=dict(headers))


def call_at_each_step(context: DataContext, begin: Callable[[], Callable[[], None]]) -> None:
    """Makes Ray Data call a function at each step of a dataset's execution loop.

    The setting for it is public, but the base class that it expects is not.

    Args:
        context: the dataset's.
        begin: returns the function for one execution.
    """
    with _private_names("ray", needed_by="the stream of examples"):
        from ray.data._internal.execution.execution_callback import ExecutionCallback

    class EachStep(ExecutionCallback):
        def __init__(self) -> None:
            self.step = begin()

        def on_execution_step(self, executor: Any) -> None:
            self.step()

    context.custom_execution_callback_classes = [EachStep]


# DeepSpeed


@cache  # the temporary changes below must happen only once, before another thread may use what they change
def import_deepspeed() -> ModuleType:
    """Imports DeepSpeed without what training does not use, for which it has no settings.

    Its Muon optimiser makes `torch.compile` load its compiler, and its autotuner loads MLflow's client: together 6 of
    the 11 seconds of CPU time that building an engine took (AMD, 2026-11-29). On a CPU, it would also compile a
    shared-memory all-reduce whenever a run starts on a new machine.
    """
    with _absent("mlflow"), _not_compiling():
        import deepspeed

        with suppress(ImportError):  # other releases
            import deepspeed.runtime.zero.muon.muon_optimizer
    with _private_names("deepspeed", needed_by="sharded training"):
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def link_moments(optimiser: Any) -> None:
    """Links parameters to Adam's moments, for stages 1 and 2 of ZeRO. The public functions that read and set moments
    need the link, which DeepSpeed otherwise makes at the first step: too late for a run that resumes."""
    with _private_names("deepspeed", needed_by="a run that resumes"):
        link = optimiser._lazy_init_hp_params_optimizer_state
    link()


def fp32_parts(optimiser: Any) -> list[Any]:
    """This rank's parts of the fp32 parameters, for stage 3 of ZeRO. At stages 1 and 2, Adam's parameter groups have
    them; at stage 3, DeepSpeed gives them to Adam only while it makes a step."""
    with _private_names("deepspeed", needed_by="training at stage 3"):
        return list(optimiser.fp32_partitioned_groups_flat)


@contextmanager
def _absent(name: str) -> Iterator[None]:
    """Context in which importing this module fails, unless it is already imported."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def _not_compiling() -> Iterator[None]:
    """Context in which `torch.compile`, used as a decorator, returns functions unchanged."""
    import torch

    def unchanged(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
        return function if function is not None else lambda function: function

    compiling = torch.compile
    torch.compile = unchanged  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = compiling
