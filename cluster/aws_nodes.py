"""EC2 nodes bought on the spot market, with a fallback to on-demand instances."""

from __future__ import annotations

import logging
from typing import Any

from ray.autoscaler.node_launch_exception import NodeLaunchException

from restore_dit.private_interfaces import aws_node_provider

logger = logging.getLogger(__name__)

NO_SPOT = frozenset({"InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded", "SpotMaxPriceTooLow"})
"""EC2 error codes that mean that no spot instance is available, although an on-demand one may be."""


AWSNodeProvider: Any = aws_node_provider()


class SpotThenOnDemand(AWSNodeProvider):
    """Ray's EC2 node provider, except that it falls back to on-demand instances when a spot request is refused.

    Ray would request the same spot instances over and over: its autoscaler skips a node group only if instances were
    granted but did not come up in time, not if the request was refused (`CloudResourceMonitor`). This provider repeats
    a refused request without the market options. The node keeps its group and tags, so Ray counts it as the one it
    requested. It stays on demand until it is idle or the cluster ends; the next node is requested from the spot market
    again.
    """

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        """Starts up to `count` instances and returns them by instance id.

        Raises:
            NodeLaunchException: neither a spot nor an on-demand instance is available.
        """
        try:
            return super().create_node(node_config, dict(tags), count)
        except NodeLaunchException as refused:
            if "InstanceMarketOptions" not in node_config or refused.category not in NO_SPOT:
                raise
            logger.warning(
                "no spot instance of %s (%s): using on-demand", node_config["InstanceType"], refused.category
            )
        on_demand = {name: value for name, value in node_config.items() if name != "InstanceMarketOptions"}
        return super().create_node(on_demand, dict(tags), count)
