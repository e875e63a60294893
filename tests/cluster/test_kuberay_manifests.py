"""The manifests for Kubernetes are what KubeRay takes, and hold what the project promises of every pod."""

import importlib
import re
import subprocess
from typing import Any

import pytest
import yaml

from tests.cluster.kuberay_schemas import (
    MANIFESTS,
    documents,
    needs_schemas,
    pod_template_schema,
    pod_templates,
    problems,
    schema,
)

pytestmark = pytest.mark.slow  # a megabyte of schema for each kind

RAY = {"raycluster.yaml": "RayCluster", "rayjob-train.yaml": "RayJob", "rayservice.yaml": "RayService"}
EVERY = sorted(path.name for path in MANIFESTS.glob("*.yaml"))
PODS = {
    f"{name}:{path}": (document, template)
    for name in EVERY
    for document in documents(name)
    for path, template in pod_templates(document).items()
}
every_pod = pytest.mark.parametrize("pod", PODS.values(), ids=PODS.keys())
every_ray_manifest = pytest.mark.parametrize("name", RAY)


def cluster_spec(name: str) -> dict[str, Any]:
    """The Ray cluster in a manifest, wherever its kind has it."""
    spec = documents(name)[0]["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def groups(name: str) -> list[dict[str, Any]]:
    spec = cluster_spec(name)
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def ray_containers(name: str) -> list[dict[str, Any]]:
    return [group["template"]["spec"]["containers"][0] for group in groups(name)]


def test_no_manifest_and_no_pod_escapes_these_tests():
    assert set(RAY) < set(EVERY)
    assert len(PODS) == 3 + 3 + 2 + 1  # raycluster, rayjob with its submitter, rayservice, redis


@needs_schemas
@every_ray_manifest
def test_it_is_what_kuberay_takes(name):
    [document] = documents(name)
    assert problems(document, schema(RAY[name])) == []


@needs_schemas
@every_pod
def test_its_pods_are_what_kubernetes_takes(pod):
    _, template = pod
    assert problems(template, pod_template_schema()) == []


@needs_schemas
def test_a_field_that_the_schemas_do_not_have_is_refused_at_any_depth():
    [document] = documents("raycluster.yaml")
    spec = document["spec"]
    pod = spec["headGroupSpec"]["template"]["spec"]
    wrong = {
        "enableInTreeAutoscalling": spec,
        "secrets": spec["authOptions"],
        "maxReplica": spec["workerGroupSpecs"][0],
        "nodeSelectors": pod,
        "runAsNonroot": pod["securityContext"],
        "limit": pod["containers"][0]["resources"],
        "size": pod["volumes"][0]["emptyDir"],
    }
    for name, part in wrong.items():
        part[name] = True
    found = problems(document, schema("RayCluster"))
    assert {name for name in wrong if not any(f"'{name}' was unexpected" in problem for problem in found)} == set()


@every_ray_manifest
def test_clients_need_a_token(name):
    spec = cluster_spec(name)
    assert spec["authOptions"]["mode"] == "token"
    given = {variable["name"] for container in ray_containers(name) for variable in container["env"]}
    assert not any("AUTH" in variable or "TOKEN" in variable for variable in given)  # the operator sets them


@every_ray_manifest
def test_the_version_of_ray_is_the_one_that_the_image_installs(name):
    [pinned] = re.findall(r"^ray==(.+)$", (MANIFESTS.parents[1] / "constraints.txt").read_text(), re.MULTILINE)
    assert cluster_spec(name)["rayVersion"] == pinned


@every_pod
def test_nothing_runs_as_root_or_may_become_it(pod):
    _, template = pod
    spec = template["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
    for container in spec["containers"] + spec.get("initContainers", []):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@every_pod
def test_what_a_container_writes_to_is_mounted(pod):
    _, template = pod
    volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
    for container in template["spec"]["containers"]:
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        if "restore-dit" in container["image"]:
            assert volumes == set(mounts)
            assert {"/tmp", "/home/ray"} <= set(mounts.values())


@every_pod
def test_every_container_has_requests_and_limits(pod):
    _, template = pod
    for container in template["spec"]["containers"]:
        resources = container["resources"]
        assert {"cpu", "memory"} <= set(resources["limits"])
        assert set(resources["requests"]) == set(resources["limits"])
        # Ray counts with the limit; memory beyond the request would be taken from others.
        assert resources["requests"].get("nvidia.com/gpu") == resources["limits"].get("nvidia.com/gpu")


@every_pod
def test_images_are_pinned(pod):
    _, template = pod
    for container in template["spec"]["containers"]:
        tag = container["image"].rpartition(":")[2]
        assert re.fullmatch(r"\d+\.\d+\.\d+(-[a-z]+)?", tag), container["image"]


@every_ray_manifest
def test_the_autoscaler_is_as_confined_as_the_rest(name):
    spec = cluster_spec(name)
    if not spec.get("enableInTreeAutoscaling"):
        return
    options = spec["autoscalerOptions"]
    assert options["version"] == "v2"
    assert options["securityContext"]["readOnlyRootFilesystem"] is True
    assert {"cpu", "memory"} <= set(options["resources"]["limits"])
    volumes = {volume["name"] for volume in spec["headGroupSpec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in options["volumeMounts"]} <= volumes


@every_ray_manifest
def test_the_head_computes_nothing_and_shared_memory_fits(name):
    head, *workers = groups(name)
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert not any("nvidia.com/gpu" in c["resources"]["limits"] for c in head["template"]["spec"]["containers"])
    for group in (head, *workers):
        spec = group["template"]["spec"]
        [shm] = [volume["emptyDir"] for volume in spec["volumes"] if volume["name"] == "shm"]
        assert shm["medium"] == "Memory"
        memory = int(spec["containers"][0]["resources"]["limits"]["memory"].removesuffix("Gi"))
        assert int(shm["sizeLimit"].removesuffix("Gi")) < memory / 2


@every_ray_manifest
def test_rays_object_store_lies_in_shared_memory(name, monkeypatch):
    """Asked of Ray, which takes three tenths of the memory unless told, and the disk where that does not fit."""
    from ray._private import services, utils

    for group in groups(name):
        spec = group["template"]["spec"]
        [shm] = [volume["emptyDir"]["sizeLimit"] for volume in spec["volumes"] if volume["name"] == "shm"]
        size, memory = (
            int(given.removesuffix("Gi")) << 30
            for given in (shm, spec["containers"][0]["resources"]["limits"]["memory"])
        )
        monkeypatch.setattr(utils, "get_shared_memory_bytes", lambda size=size: size)
        monkeypatch.setattr(utils, "get_system_memory", lambda memory=memory: memory)
        given = group["rayStartParams"].get("object-store-memory")
        wanted = utils.resolve_object_store_memory(memory, given and int(given))
        assert services.determine_plasma_store_config(wanted, "/tmp")[0] == "/dev/shm"
        assert wanted <= 0.95 * size


@every_ray_manifest
def test_gpus_come_with_their_toleration_and_image(name):
    for group in groups(name):
        spec = group["template"]["spec"]
        [container] = spec["containers"]
        has_gpu = "nvidia.com/gpu" in container["resources"]["limits"]
        assert has_gpu == container["image"].endswith("-gpu")
        assert has_gpu == any(toleration["key"] == "nvidia.com/gpu" for toleration in spec.get("tolerations", []))


def test_clusters_that_stay_survive_their_head():
    [secret] = {
        container["env"][0]["valueFrom"]["secretKeyRef"]["name"]
        for _, template in PODS.values()
        for container in template["spec"]["containers"]
        if container["name"] == "redis"
    }
    service = documents("redis.yaml")[0]
    address = f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    for name in ("raycluster.yaml", "rayservice.yaml"):
        options = cluster_spec(name)["gcsFaultToleranceOptions"]
        assert options["redisAddress"] == address
        assert options["redisPassword"]["valueFrom"]["secretKeyRef"] == {"name": secret, "key": "password"}


def test_the_jobs_workers_are_the_configurations():
    [job] = documents("rayjob-train.yaml")
    [count] = re.findall(r"workers\.count=(\d+)", job["spec"]["entrypoint"])
    [group] = cluster_spec("rayjob-train.yaml")["workerGroupSpecs"]
    assert {group[key] for key in ("replicas", "minReplicas", "maxReplicas")} == {int(count)}
    cpus = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert cpus > 1.5  # one worker and the data tasks beside it
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert job["spec"]["backoffLimit"] <= 1  # each is a cluster of GPUs more, also for what no cluster heals
    assert job["spec"]["activeDeadlineSeconds"] > 0


def test_the_jobs_entrypoint_is_a_configuration_that_loads():
    from restore_dit.config import load

    words = documents("rayjob-train.yaml")[0]["spec"]["entrypoint"].split()
    assert words[:4] == ["python", "-m", "jobs.train", "--config"]
    config = load(words[4], words[5:])
    assert config.workers.use_gpu
    assert config.training.batch_size % config.workers.count == 0


def test_the_services_application_is_there_and_takes_its_arguments():
    from restore_dit.config.loading import load_section
    from serving.config import ServingConfig

    serve = yaml.safe_load(documents("rayservice.yaml")[0]["spec"]["serveConfigV2"])
    (application,) = serve["applications"]
    module, _, name = application["import_path"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    config = load_section(ServingConfig, [], **application["args"])
    assert config.use_gpu
    assert not config.open


def test_serves_configuration_is_one_that_serve_takes():
    from ray.serve.schema import ServeDeploySchema

    ServeDeploySchema.model_validate(yaml.safe_load(documents("rayservice.yaml")[0]["spec"]["serveConfigV2"]))


def test_policies_let_through_what_kuberay_needs_and_select_pods_that_exist():
    policies = {
        item["metadata"]["name"]: item["spec"] for item in documents("access.yaml") if item["kind"] == "NetworkPolicy"
    }
    assert set(policies) == {"restore-dit-ray", "restore-dit-redis"}
    allowed = policies["restore-dit-ray"]["ingress"]
    [submitter] = [source["podSelector"]["matchLabels"] for rule in allowed[1:2] for source in rule["from"]]
    labels = documents("rayjob-train.yaml")[0]["spec"]["submitterPodTemplate"]["metadata"]["labels"]
    assert submitter.items() <= labels.items()
    redis = documents("redis.yaml")[1]["spec"]["template"]["metadata"]["labels"]
    assert policies["restore-dit-redis"]["podSelector"]["matchLabels"].items() <= redis.items()


def test_clients_of_the_endpoint_reach_it_and_nothing_else():
    [policy] = [item["spec"] for item in documents("access.yaml") if item["metadata"]["name"] == "restore-dit-ray"]
    serve = yaml.safe_load(documents("rayservice.yaml")[0]["spec"]["serveConfigV2"])
    client = {"matchLabels": {"restore-dit-client": "yes"}}
    rules = [rule for rule in policy["ingress"] if {"namespaceSelector": client} in rule["from"]]
    [rule] = rules
    assert {"podSelector": client} in rule["from"]
    assert [port["port"] for port in rule["ports"]] == [serve["http_options"]["port"]]
    assert "restore-dit-client=yes" in (MANIFESTS.parents[1] / "docs" / "cluster.md").read_text()


@every_ray_manifest
def test_a_drained_node_waits_for_the_head(name):
    """For pods without a controller that Kubernetes can scale, a budget must be a number that must stay."""
    labels = groups(name)[0]["template"]["metadata"]["labels"] | {"ray.io/node-type": "head"}  # KubeRay adds the latter
    workers = [group["template"]["metadata"]["labels"] | {"ray.io/node-type": "worker"} for group in groups(name)[1:]]
    budgets = [item["spec"] for item in documents("access.yaml") if item["kind"] == "PodDisruptionBudget"]
    [budget] = [budget for budget in budgets if budget["selector"]["matchLabels"].items() <= labels.items()]
    assert {key: value for key, value in budget.items() if key != "selector"} == {"minAvailable": 1}
    assert not any(budget["selector"]["matchLabels"].items() <= worker.items() for worker in workers)


def test_redis_is_the_process_that_is_told_to_end(tmp_path):
    """The container's command, run with a program in the place of Redis that says who it is and what it was told."""
    program = tmp_path / "redis-server"
    program.write_text('#!/bin/sh\necho "$$ $@"\ncat\n')
    program.chmod(0o700)
    [container] = documents("redis.yaml")[1]["spec"]["template"]["spec"]["containers"]
    process = subprocess.Popen(
        [*container["command"], *container["args"]],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "REDIS_PASSWORD": "a$b`c"},
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _ = process.communicate(timeout=10)
    first, *told = said.splitlines()
    assert first == f"{process.pid} -"
    assert told == ["requirepass a$b`c", "appendonly yes", "dir /data", "maxmemory-policy noeviction"]


def test_service_accounts_that_pods_name_exist():
    made = {item["metadata"]["name"] for item in documents("access.yaml") if item["kind"] == "ServiceAccount"}
    named = {template["spec"].get("serviceAccountName") for _, template in PODS.values()} - {None}
    assert named == made


@pytest.mark.parametrize("name", EVERY)
def test_no_secret_is_written_down(name):
    for document in documents(name):
        assert document["kind"] != "Secret"
    key = r"AKIA|BEGIN [A-Z ]*KEY|(?i:secret_access_key|password)[ \t]*[:=][ \t]*\w{8}"
    assert not re.search(key, (MANIFESTS / name).read_text())
