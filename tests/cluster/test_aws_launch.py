"""What `ray up` and Ray's autoscaler do with the cluster file, against EC2's answers as botocore's stubs give them."""

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

pytest.importorskip("ray")
from botocore.stub import ANY, Stubber
from ray.autoscaler._private import commands
from ray.autoscaler._private.aws.utils import client_cache, resource_cache
from ray.autoscaler._private.constants import BOTO_CREATE_MAX_RETRIES, BOTO_MAX_RETRIES
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler.node_launch_exception import NodeLaunchException

from cluster.aws_nodes import SpotThenOnDemand
from tests.cluster.test_aws import FILE, INSTANCES

pytestmark = pytest.mark.slow  # imports Ray

TAGS = {"ray-node-type": "worker", "ray-user-node-type": "gpu_spot", "ray-node-name": "ray-restore-dit-worker"}


@pytest.fixture
def config(monkeypatch, tmp_path) -> dict[str, Any]:
    """As a user would have it after setting what is theirs; no credentials of this machine, no network."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    resource_cache.cache_clear()
    client_cache.cache_clear()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("t" * 32)
    yield yaml.safe_load(FILE.read_text().replace("sg-SET_ME", "sg-0123456789abcdef0"))
    resource_cache.cache_clear()
    client_cache.cache_clear()


@pytest.fixture
def provider(config) -> SpotThenOnDemand:
    found = _get_node_provider(config["provider"], config["cluster_name"], use_cache=False)
    assert isinstance(found, SpotThenOnDemand)
    return found


def gpu_node(config) -> dict[str, Any]:
    """A worker's configuration as `ray up` hands it to the head: with its subnets."""
    node = config["available_node_types"]["gpu_spot"]["node_config"]
    return {**node, "SubnetIds": ["subnet-a", "subnet-b"], "KeyName": "key"}


def launched(identity: str) -> dict[str, Any]:
    state = {"Code": 0, "Name": "pending"}
    return {"Instances": [{"InstanceId": identity, "State": state, "LaunchTime": datetime.now(tz=UTC)}]}


def asked_for(spot: bool) -> dict[str, Any]:
    keys = ("InstanceType", "ImageId", "IamInstanceProfile", "SecurityGroupIds", "MetadataOptions", "KeyName")
    keys += ("BlockDeviceMappings", "TagSpecifications", "SubnetId", "MinCount", "MaxCount")
    return dict.fromkeys(keys + (("InstanceMarketOptions",) if spot else ()), ANY)


def refusals(stub: Stubber, code: str, spot: bool) -> None:
    for _ in range(BOTO_CREATE_MAX_RETRIES):
        stub.add_client_error("run_instances", code, "no", expected_params=asked_for(spot))


def test_spot_is_asked_for_first(config, provider):
    with Stubber(provider.ec2_fail_fast.meta.client) as stub:
        stub.add_response("run_instances", launched("i-spot"), asked_for(spot=True))
        assert set(provider.create_node(gpu_node(config), TAGS, 2)) == {"i-spot"}
        stub.assert_no_pending_responses()


@pytest.mark.parametrize("code", ["InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded"])
def test_where_the_spot_market_has_none_the_same_is_bought_on_demand(config, provider, code):
    node, tags = gpu_node(config), dict(TAGS)
    with Stubber(provider.ec2_fail_fast.meta.client) as stub:
        refusals(stub, code, spot=True)
        expected = asked_for(spot=False)
        # Its group and its names: Ray must find what it asked for.
        expected["TagSpecifications"] = [
            {
                "ResourceType": "instance",
                "Tags": [
                    {"Key": "ray-cluster-name", "Value": "restore-dit"},
                    {"Key": "ray-node-type", "Value": "worker"},
                    {"Key": "ray-user-node-type", "Value": "gpu_spot"},
                    {"Key": "Name", "Value": "ray-restore-dit-worker"},
                    {"Key": "project", "Value": "restore-dit"},
                ],
            },
            {"ResourceType": "volume", "Tags": [{"Key": "project", "Value": "restore-dit"}]},
        ]
        stub.add_response("run_instances", launched("i-demand"), expected)
        assert set(provider.create_node(node, tags, 1)) == {"i-demand"}
        stub.assert_no_pending_responses()
    assert node["InstanceMarketOptions"]["MarketType"] == "spot"  # the next one is asked of the market again
    assert tags == TAGS


def test_where_there_is_none_on_demand_either_ray_is_told(config, provider):
    with Stubber(provider.ec2_fail_fast.meta.client) as stub:
        refusals(stub, "InsufficientInstanceCapacity", spot=True)
        refusals(stub, "InsufficientInstanceCapacity", spot=False)
        with pytest.raises(NodeLaunchException):
            provider.create_node(gpu_node(config), TAGS, 1)
        stub.assert_no_pending_responses()


def test_a_request_that_is_wrong_is_not_paid_for_on_demand(config, provider):
    with Stubber(provider.ec2_fail_fast.meta.client) as stub:
        refusals(stub, "UnauthorizedOperation", spot=True)
        with pytest.raises(NodeLaunchException):
            provider.create_node(gpu_node(config), TAGS, 1)
        stub.assert_no_pending_responses()


def test_rays_own_autoscaler_would_go_on_asking_the_spot_market():
    """Why the provider does it. Once this fails, Ray passes over a group that was refused, and groups alone will do."""
    from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor
    from ray.core.generated.instance_manager_pb2 import Instance, InstanceUpdateEvent

    monitor = CloudResourceMonitor()
    refused = InstanceUpdateEvent(new_instance_status=Instance.ALLOCATION_FAILED, instance_type="gpu_spot")
    monitor.notify([refused])
    assert monitor.get_recoverable_resource_availabilities() == {}


def wanted(config, requests: list[dict[str, float]]) -> dict[str, int]:
    """The nodes that Ray's scheduler would start for these requests in an empty cluster."""
    from ray.autoscaler.v2.event_logger import AutoscalerEventLogger
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    class Silent(AutoscalerEventLogger):
        def __init__(self) -> None:
            pass

        def log_cluster_scheduling_update(self, *_: Any, **__: Any) -> None:
            pass

    parsed = AutoscalingConfig(config, skip_content_hash=True)
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=parsed.get_node_type_configs(),
        max_num_nodes=parsed.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count([ResourceRequestUtil.make(each) for each in requests]),
    )
    reply = ResourceDemandScheduler(Silent()).schedule(request)
    return {launch.instance_type: launch.count for launch in reply.to_launch}


def test_gpus_are_asked_of_the_spot_group_and_the_rest_of_the_cheap_one(config):
    assert wanted(config, [{"GPU": 1, "CPU": 1}] * 4) == {"gpu_spot": 4}
    assert wanted(config, [{"CPU": 1}] * 10) == {"cpu": 2}
    assert wanted(config, [{"GPU": 1, "CPU": 1}] * 20) == {"gpu_spot": 8}  # no further than its limit


def test_ray_up_resolves_it(config):
    """The loader of `ray up` to the end: resources from EC2's description, key, network and group."""
    region = config["provider"]["region"]
    group, vpc = "sg-0123456789abcdef0", "vpc-1"
    subnets = [
        {"SubnetId": f"subnet-{zone}", "VpcId": vpc, "State": "available", "MapPublicIpOnLaunch": True}
        | {"AvailabilityZone": f"{region}{zone}"}
        for zone in "ab"
    ]
    described = []
    for name, (processors, memory, gpus) in INSTANCES.items():
        kind: dict[str, Any] = {"InstanceType": name, "VCpuInfo": {"DefaultVCpus": processors}}
        kind["MemoryInfo"] = {"SizeInMiB": memory}
        if gpus:
            kind["GpuInfo"] = {"Gpus": [{"Name": "L4", "Manufacturer": "NVIDIA", "Count": gpus}]}
        described.append(kind)
    with Stubber(resource_cache("ec2", region).meta.client) as ec2:
        types = client_cache("ec2", region, BOTO_MAX_RETRIES)
        with Stubber(types) as catalogue:
            same = types is resource_cache("ec2", region).meta.client
            (ec2 if same else catalogue).add_response("describe_instance_types", {"InstanceTypes": described})
            ec2.add_response("describe_key_pairs", {"KeyPairs": []})
            ec2.add_response("create_key_pair", {"KeyName": f"ray-autoscaler_{region}", "KeyMaterial": "key"})
            ec2.add_response("describe_security_groups", {"SecurityGroups": [{"GroupId": group, "VpcId": vpc}]})
            ec2.add_response("describe_subnets", {"Subnets": subnets})
            resolved = commands._bootstrap_config(config, no_config_cache=True)
            ec2.assert_no_pending_responses()
    for name, node_type in resolved["available_node_types"].items():
        node = node_type["node_config"]
        assert node["SecurityGroupIds"] == [group]
        assert node["SubnetIds"] == [f"subnet-{zone}" for zone in "ba"]
        assert node["KeyName"] == f"ray-autoscaler_{region}"
        assert node["ImageId"] == "resolve:ssm:/restore-dit/ami"
        assert node_type["resources"].get("GPU", 0) == (1 if name.startswith("gpu") else 0)
    assert resolved["available_node_types"]["head"]["resources"]["CPU"] == 0
    spot, on_demand = (resolved["available_node_types"][name] for name in ("gpu_spot", "gpu_on_demand"))
    assert spot["resources"] == on_demand["resources"]  # else Ray would choose by them, and not by priority


def test_on_the_head_the_docker_options_of_a_group_are_added_to_those_of_all(config):
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

    parsed = AutoscalingConfig(config, skip_content_hash=True)
    gpu, cpu = parsed.get_docker_config("gpu_spot"), parsed.get_docker_config("cpu")
    assert "--env=RAY_AUTH_MODE=token" in gpu["run_options"]
    assert gpu["worker_run_options"] == ["--gpus=all"]
    assert gpu["image"].endswith("-gpu")
    assert cpu["image"].endswith("-cpu")
    assert not cpu.get("worker_run_options")
