"""The cluster file for AWS: as Ray's loader takes it, offline, and with the properties that it promises."""

import ipaddress
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray")
from ray.autoscaler._private.util import fillout_defaults, prepare_config, validate_config

pytestmark = pytest.mark.slow  # imports Ray

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "cluster" / "aws.yaml"
IAM = ROOT / "cluster" / "iam"

INSTANCES = {  # (processors, MiB of memory, GPUs), as EC2 describes them
    "m6i.xlarge": (4, 16384, 0),
    "m6i.2xlarge": (8, 32768, 0),
    "g6.2xlarge": (8, 32768, 1),
}
WORKERS = ("gpu_spot", "gpu_on_demand", "cpu")


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


@pytest.fixture
def node_types(config) -> dict[str, dict[str, Any]]:
    return config["available_node_types"]


def test_rays_loader_takes_it(config):
    whole = prepare_config(config)
    validate_config(whole)  # Ray's own JSON schema
    assert set(fillout_defaults(config)["available_node_types"]) == {
        "head",
        *WORKERS,
    }  # no type of Ray's defaults stays


@pytest.mark.parametrize("key", ["availble_node_types", "idle_timeout"])
def test_rays_schema_refuses_what_it_does_not_know(config, key):
    import jsonschema

    with pytest.raises(jsonschema.ValidationError, match=key):
        validate_config(prepare_config({**config, key: {}}))


def test_spot_and_on_demand_differ_in_nothing_else(node_types):
    spot, on_demand = (dict(node_types[name]["node_config"]) for name in ("gpu_spot", "gpu_on_demand"))
    assert spot.pop("InstanceMarketOptions")["MarketType"] == "spot"
    assert spot == on_demand
    assert node_types["gpu_spot"]["priority"] > node_types["gpu_on_demand"]["priority"]


def test_the_head_computes_nothing(config, node_types):
    head = node_types[config["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert INSTANCES[head["node_config"]["InstanceType"]][2] == 0
    assert any("--num-cpus=0" in command for command in config["head_start_ray_commands"])


@pytest.mark.parametrize("name", WORKERS)
def test_resources_are_those_of_the_instance(node_types, name):
    processors, _, gpus = INSTANCES[node_types[name]["node_config"]["InstanceType"]]
    assert node_types[name]["resources"] == {"CPU": processors} | ({"GPU": gpus} if gpus else {})
    options = node_types[name]["docker"]
    assert ("--gpus=all" in options.get("worker_run_options", [])) == bool(gpus)


def test_no_worker_runs_without_being_asked_for(config, node_types):
    assert all(node["min_workers"] == 0 for node in node_types.values())
    assert sum(node["max_workers"] for node in node_types.values()) <= config["max_workers"]
    assert 0 < config["idle_timeout_minutes"] <= 15
    assert config["provider"]["cache_stopped_nodes"] is False


@pytest.mark.parametrize("name", ["head", *WORKERS])
def test_every_node_has_a_role_and_asks_for_it_safely(node_types, name):
    node = node_types[name]["node_config"]
    assert node["IamInstanceProfile"] == {"Name": "restore-dit-head" if name == "head" else "restore-dit-worker"}
    assert node["MetadataOptions"]["HttpTokens"] == "required"
    assert node["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    assert node["ImageId"] == "resolve:ssm:/restore-dit/ami"  # no id: they differ by region
    for disk in node["BlockDeviceMappings"]:
        assert disk["Ebs"]["Encrypted"] is True
        assert disk["Ebs"]["DeleteOnTermination"] is True
    assert {spec["ResourceType"] for spec in node["TagSpecifications"]} == {"instance", "volume"}


def test_nothing_is_open_to_the_world(config, node_types):
    """The group is the user's own: one that Ray makes would have SSH open to every address."""
    assert all(node["node_config"]["SecurityGroupIds"] == ["sg-SET_ME"] for node in node_types.values())
    assert "security_group" not in config["provider"]
    for text in (FILE.read_text(), (ROOT / "docs" / "cluster.md").read_text()):
        for found in re.findall(r"\d+\.\d+\.\d+\.\d+/\d+", text):
            assert ipaddress.ip_network(found).num_addresses < 2**16, found
    started = " ".join(config["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in started


def test_private_subnets_come_with_the_way_around_the_nat():
    """A NAT gateway costs by the GB, and a training reads its store many times over."""
    _, private, rest = FILE.read_text().partition("use_internal_ips: true")
    assert "gateway endpoint for S3" in rest.partition("cache_stopped_nodes")[0]
    assert private
    assert "create-vpc-endpoint" in (ROOT / "docs" / "cluster.md").read_text()


def test_clients_and_nodes_need_the_token(config):
    assert "--env=RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"] == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}
    made = (ROOT / "cluster" / "image" / "install.sh").read_text()
    assert "/home/$RUN_USER/.ray" in made
    assert "RUN_USER=ray " in made


@pytest.mark.parametrize("path", [FILE, *sorted(IAM.glob("*.json"))], ids=lambda path: path.name)
def test_no_credentials_are_written_down(path):
    key = r"A[KS]IA[A-Z0-9]{8}|BEGIN [A-Z ]*KEY|(?i:secret_access_key|aws_credentials|auth_token\s*[:=]\s*\w{16})"
    assert not re.search(key, path.read_text())
    for account in re.findall(r"\b\d{12}\b", path.read_text()):
        assert account == "123456789012"  # the number that AWS uses in examples


def test_images_are_pinned(config, node_types):
    images = [
        config["docker"]["head_image"],
        config["docker"]["image"],
        node_types["cpu"]["docker"]["worker_image"],
    ]
    assert [image.rpartition(":")[2] for image in images] == ["0.1.0-cpu", "0.1.0-gpu", "0.1.0-cpu"]


def statements(name: str) -> list[dict[str, Any]]:
    return json.loads((IAM / name).read_text())["Statement"]


def test_the_heads_rights_end_at_its_own_cluster(config, node_types):
    by_action: dict[str, list[dict[str, Any]]] = {}
    for statement in statements("head.json"):
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        for action in actions:
            assert "*" not in action
            by_action.setdefault(action, []).append(statement)
        if statement["Resource"] == "*":
            assert all(action.startswith("ec2:Describe") for action in actions)
    [terminate] = by_action["ec2:TerminateInstances"]
    assert terminate["Condition"] == {"StringEquals": {"aws:ResourceTag/ray-cluster-name": config["cluster_name"]}}
    start = by_action["ec2:RunInstances"][0]["Condition"]
    assert set(start["StringEquals"]["ec2:InstanceType"]) == {
        node_types[name]["node_config"]["InstanceType"] for name in WORKERS
    }
    [pass_role] = by_action["iam:PassRole"]
    assert pass_role["Resource"].endswith("role/restore-dit-worker")  # and not the head's, which could start more


def test_the_buckets_rights_are_those_that_the_storage_tests_hold_to_every_operation():
    text = (ROOT / "docs" / "object_storage.md").read_text()
    [documented] = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert json.loads((IAM / "bucket.json").read_text()) == json.loads(documented)


def test_the_guides_commands_leave_nothing_unset(tmp_path):
    """What the guide says to run before `ray up`, run."""
    guide = (ROOT / "docs" / "cluster.md").read_text()
    [command] = re.findall(r"^    (sed .* cluster/aws\.yaml) > my_cluster\.yaml$", guide, re.MULTILINE)
    own = {"ACCOUNT": "210987654321", "AWS_REGION": "us-west-2", "GROUP": "sg-0123", "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=own, capture_output=True, text=True, timeout=10, check=True
    )
    config = yaml.safe_load(ended.stdout)
    assert "123456789012" not in ended.stdout
    assert "SET_ME" not in json.dumps(config)
    assert config["provider"]["region"] == "us-west-2"
    assert "--region us-west-2" in config["initialization_commands"][0]
    registry = "210987654321.dkr.ecr.us-west-2.amazonaws.com"
    assert config["docker"]["image"].startswith(f"{registry}/restore-dit:")
    assert config["initialization_commands"][0].endswith(registry)


@pytest.mark.parametrize(
    "words", re.findall(r"restore-dit submit ((?:.*\\\n)*.*)", (ROOT / "docs" / "cluster.md").read_text())
)
def test_the_guides_jobs_are_configurations_that_load(words):
    from restore_dit.cli import main

    given = shlex.split(words.replace("\\\n", " ").replace("$BUCKET", "bucket"))
    assert main(["submit", *given, "--dry-run"]) == 0
