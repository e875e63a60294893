import socket
import subprocess
import sys

import pytest
import torch

from restore_dit.clouds.network.weights import build_network
from restore_dit.config.clouds import CloudNetworkConfig
from tests.clouds.random_network import plain_network
from tests.messages import refused


@pytest.mark.parametrize("config", [CloudNetworkConfig(), CloudNetworkConfig(reference=True)])
def test_it_is_the_published_network(config):
    network = build_network(config)
    published = plain_network(config.channels).state_dict()
    assert {name: value.shape for name, value in network.state_dict().items()} == {
        name: value.shape for name, value in published.items()
    }
    with torch.inference_mode():
        assert network.eval()(torch.zeros(2, config.channels, 32, 64)).shape == (2, 4, 32, 64)


def test_nothing_is_downloaded(monkeypatch):
    def connect(*_):
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", connect)
    build_network(CloudNetworkConfig())


def test_an_unknown_encoder_is_met_with_its_nearest_names():
    with refused("network.encoder", "mobilnet_v2", "mobilenet_v2"):
        build_network(CloudNetworkConfig(encoder="mobilnet_v2"))
    with refused("network.encoder", "resnet18"):
        build_network(CloudNetworkConfig(encoder="0"))


@pytest.mark.slow
def test_who_builds_no_network_does_not_load_its_library():
    code = (
        "import sys, restore_dit.cli, restore_dit.clouds.model_directory;"
        "assert 'segmentation_models_pytorch' not in sys.modules and 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
