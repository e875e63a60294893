"""EC2 nodes that are bought on the spot market, and on demand where the market has none."""

from __future__ import annotations

import logging
from typing import Any

from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException

logger = logging.getLogger(__name__)

NO_SPOT = frozenset({"InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded", "SpotMaxPriceTooLow"})
"""EC2's errors that say that there is no spot instance to be had, while one on demand might be."""


class SpotThenOnDemand(AWSNodeProvider):
    """Ray's own provider of EC2 nodes, but for what it does when a spot request is refused.

    Ray would ask for the same spot instances again and again: its autoscaler passes over a group of nodes only when
    they were granted and did not come up in time, not when they were refused (`CloudResourceMonitor`). Here the same
    request goes out once more without the market options. The node keeps its group and its tags, so that Ray counts it
    as what it asked for. It stays on demand until it is idle or the cluster ends; the next node is asked of the spot
    market first again.
    """

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        """Starts up to `count` instances; by instance id. Raises `NodeLaunchException` where neither kind is there."""
        try:
            return super().create_node(node_config, dict(tags), count)
        except NodeLaunchException as refused:
            if "InstanceMarketOptions" not in node_config or refused.category not in NO_SPOT:
                raise
            logger.warning("no spot instance of %s (%s): on demand", node_config["InstanceType"], refused.category)
        on_demand = {name: value for name, value in node_config.items() if name != "InstanceMarketOptions"}
        return super().create_node(on_demand, dict(tags), count)
