"""EC2 Fleets, Spot fleets and Spot requests: how they are listed, and what they are after their
end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models.spot_requests import SpotInstanceRequest
from moto.ec2.responses._base_response import EC2BaseResponse

from ec2_emulator import listing
from ec2_emulator.errors import ApiError
from ec2_emulator.rules import EC2_API, EC2_GUIDE, rule
from ec2_emulator.state import STATE


class SpotRequest(SpotInstanceRequest):
    """A Spot request that waits for its time, and outlives its instance."""

    is_cancelled = False

    @property
    def state(self) -> str:
        """What it is by now."""
        return state_of(self)

    @state.setter
    def state(self, value: str) -> None:
        """What moto sets: `open`, then `active`."""

    def launch_instance(self) -> Any:
        """The instance, or None before its time."""
        early = self.valid_from is not None and self.valid_from > STATE.now().replace(tzinfo=None)
        return None if early else super().launch_instance()

    @property
    def instance_id(self) -> str | None:  # type: ignore[override]
        """The instance's id, where there is one."""
        return self.instance.id if self.instance else None


@rule(EC2_GUIDE + "spot-instances-request-status-lifecycle.html")
def state_of(request: SpotRequest) -> str:
    """A Spot request is open before its ValidFrom, active with its instance, disabled while that is
    stopped, closed once it is terminated, and cancelled whatever its instance does.
    """
    if request.is_cancelled:
        return "cancelled"
    if request.instance is None:
        return "open"
    return {"stopped": "disabled", "terminated": "closed"}.get(request.instance.state, "active")


@rule(EC2_API + "API_SpotFleetRequestConfigData.html")
def launched_by(backend: Any, config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A Spot fleet has LaunchSpecifications or LaunchTemplateConfigs, not both: each override
    changes the version that its template's specification names.
    """
    plain, configs = config.get("LaunchSpecifications", []), config.get("LaunchTemplateConfigs", [])
    if bool(plain) == bool(configs):
        raise ApiError("InvalidSpotFleetRequestConfig",
                       "either LaunchSpecifications or LaunchTemplateConfigs")
    yield from plain
    for each in configs:
        data = backend._get_template_from_args(each["LaunchTemplateSpecification"]).data
        for override in each.get("Overrides") or [{}]:
            yield {**data, **override}


class FleetApi(EC2BaseResponse):
    """The handlers."""

    @rule(EC2_API + "API_DescribeFleets.html")
    def describe_fleets(self) -> ActionResult:
        """Fleets come in pages, and one of type instant only by its id."""
        ids = self._get_param("FleetIds", [])
        fleets = [fleet for fleet in self.ec2_backend.describe_fleets(ids) if ids or fleet.type
                  != "instant"]
        page, next_token = listing.paginate(fleets, self._get_param("MaxResults"),
                                            self._get_param("NextToken"))
        return ActionResult({"Fleets": page, "NextToken": next_token})

    def request_spot_fleet(self) -> ActionResult:
        """A Spot fleet and its Spot requests."""
        config = {"AllocationStrategy": "lowestPrice",
                  **self._get_param("SpotFleetRequestConfig", {})}
        fleet = self.ec2_backend.request_spot_fleet(
            config.get("SpotPrice"), config["TargetCapacity"], config["IamFleetRole"],
            config["AllocationStrategy"],
            list(launched_by(self.ec2_backend, config)),
            tag_specifications=config.get("TagSpecifications", []))
        fleet.asked = config
        return ActionResult({"SpotFleetRequestId": fleet.id})

    @rule(EC2_API + "API_DescribeSpotFleetRequests.html")
    def describe_spot_fleet_requests(self) -> ActionResult:
        """Spot fleet requests come in pages, as they were asked for, cancelled ones for 48 hours
        too."""
        requests = self.ec2_backend.describe_spot_fleet_requests(
            self._get_param("SpotFleetRequestIds", [])
        )
        page, next_token = listing.paginate(requests, self._get_param("MaxResults"),
                                            self._get_param("NextToken"))
        return ActionResult({"NextToken": next_token, "SpotFleetRequestConfigs": [
            {"SpotFleetRequestId": fleet.id, "SpotFleetRequestState": fleet.state,
             "Tags": fleet.tag_set,
             "SpotFleetRequestConfig": {**fleet.asked,
                                        "FulfilledCapacity": fleet.fulfilled_capacity}}
            for fleet in page]})

    def cancel_spot_fleet_requests(self) -> ActionResult:
        """Cancel Spot fleets with their Spot requests, and where asked terminate their
        instances."""
        state = (
            "cancelled_terminating"
            if self._get_bool_param("TerminateInstances")
            else "cancelled_running"
        )
        done = []
        for name in self._get_param("SpotFleetRequestIds", []):
            fleet = self.ec2_backend.spot_fleet_requests[name]
            done.append({"SpotFleetRequestId": name, "PreviousSpotFleetRequestState": fleet.state,
                         "CurrentSpotFleetRequestState": state})
            fleet.state = state
            for request in fleet.spot_requests:
                request.is_cancelled = True
                if state == "cancelled_terminating":
                    self.ec2_backend.terminate_instances([request.instance_id])
        return ActionResult({"SuccessfulFleetRequests": done, "UnsuccessfulFleetRequests": []})

    @rule(EC2_API + "API_LaunchSpecification.html")
    def request_spot_instances(self) -> ActionResult:
        """A Spot request keeps the block devices that it launches with."""
        made: ActionResult = super().request_spot_instances()  # type: ignore[misc]
        result: Any = made.result
        for request in result["SpotInstanceRequests"]:
            request.launch_specification.block_device_mappings = self._get_param(
                "LaunchSpecification.BlockDeviceMappings", [])
        return made

    @rule(EC2_API + "API_DescribeSpotInstanceRequests.html")
    def describe_spot_instance_requests(self) -> ActionResult:
        """Spot instance requests come in pages of 5 or more, cancelled ones for four hours too."""
        requests = self.ec2_backend.describe_spot_instance_requests(
            self._filters_from_querystring(), self._get_param("SpotInstanceRequestIds", []))
        page, next_token = listing.paginate(requests, self._get_param("MaxResults"),
                                            self._get_param("NextToken"),
                                            least=5)
        return ActionResult({"SpotInstanceRequests": page, "NextToken": next_token})

    def cancel_spot_instance_requests(self) -> ActionResult:
        """Cancel Spot requests; their instances run on."""
        names = self._get_param("SpotInstanceRequestIds", [])
        for name in names:
            self.ec2_backend.spot_instance_requests[name].is_cancelled = True
        return ActionResult({"CancelledSpotInstanceRequests": [
            {"SpotInstanceRequestId": name, "State": "cancelled"} for name in names]})
