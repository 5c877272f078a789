"""What AWS might do instead of what we take it to do: an answer in place of each rule that refuses
more than a call, by the setting `broken`. The answers are well-formed, as AWS's own would be."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.ssm.models import ssm_backends

from ec2_emulator import listing
from ec2_emulator.compute import images
from ec2_emulator.rules import SEEDS, ApiError
from ec2_emulator.state import STATE, ApiCall

Seed = Callable[..., Any]


def _refused_by(code: str) -> Seed:
    """Refuse with another code."""

    def seed(keep: Seed, *args: Any, **kwargs: Any) -> Any:
        try:
            return keep(*args, **kwargs)
        except ServiceException:
            raise ApiError(code, "The call is refused by another name.") from None

    return seed


def _instead(value: Callable[..., Any]) -> Seed:
    """Answer what is refused."""

    def seed(keep: Seed, *args: Any, **kwargs: Any) -> Any:
        try:
            return keep(*args, **kwargs)
        except ServiceException:
            return value(*args)

    return seed


def _new_each_time(_: Seed, _call: ApiCall, _body: bytes, make: Callable[[], Any]) -> Any:
    return make()


def _without_boot_mode(keep: Seed, api: Any) -> Any:
    answer: Any = keep(api)
    api.ec2_backend.amis[answer.result["ImageId"]].fields.pop("BootMode", None)
    return answer


def _copy_without_tags(keep: Seed, api: Any) -> Any:
    answer: Any = keep(api)
    api.ec2_backend.tags.pop(answer.result["ImageId"], None)
    return answer


def _to_the_second(_: Seed, requested: datetime.datetime) -> datetime.datetime:
    return requested.replace(tzinfo=datetime.UTC)


def _any_types(_: Seed, requested: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {name: list(entries) for name, entries in requested.items()}


def _types_stay(keep: Seed, api: Any) -> Any:
    if api._get_param("InstanceTypeSpecification"):
        return keep(api)
    return ActionResult({"ReturnValue": True})


def _appears_at_once(_: Seed) -> None:
    """Parameters appear whether their AMI is there or not."""
    with STATE.lock:
        for pending in STATE.pending_parameters:
            backend = ssm_backends[pending.account][pending.region]
            backend._parameters[pending.parameter.name].append(pending.parameter)
        STATE.pending_parameters.clear()


def _all_types(_: Seed, api: Any) -> ActionResult:
    """List what the region offers without a filter."""
    offered = api.ec2_backend.describe_instance_type_offerings(api._get_param("LocationType"), {})
    return listing.answer(api, "InstanceTypeOfferings", offered, least=5)


def _oldest_first(keep: Seed, api: Any) -> Any:
    answer: Any = keep(api)
    answer.result["InstanceRefreshes"].reverse()
    return answer


def _first_is_missing(keep: Seed, api: Any) -> Any:
    answer: Any = keep(api)
    answer.result["LaunchTemplates"] = answer.result["LaunchTemplates"][1:]
    return answer


def _no_bill(keep: Seed, call: ApiCall, body: bytes) -> Any:
    """Cost Explorer refuses everybody."""
    if call.service == "ce":
        raise ApiError("BillExpirationException", "The bill has expired.")
    return keep(call, body)


def install() -> None:
    """Let each rule have its seed."""
    SEEDS.update(
        block_is_what_was_signed=lambda _, data, *_more: hashlib.sha256(data).digest(),
        pending_until_complete=lambda _, _snapshot: "completed",
        same_token_same_answer=_new_each_time,
        key_of_new=lambda _, _backend, _encrypted, key: key,
        key_works=lambda *_: True,
        get_ebs_default_kms_key_id=lambda _, _api: ActionResult({"KmsKeyId": "1234abcd-12ab"}),
        snapshot_is_ready=_refused_by("InvalidSnapshotID.Malformed"),
        register_image=_without_boot_mode,
        tags_for=lambda *_: {},
        copy_image=_copy_without_tags,
        find=_refused_by("InvalidAMIID.Malformed"),
        image_filter=_instead(lambda *_: ["gold"]),
        deprecation_date=_to_the_second,
        type_lists=_any_types,
        replace_image_instance_type_specification=_types_stay,
        put_parameter=_refused_by("UnsupportedParameterType"),
        settle=_appears_at_once,
        inherited=lambda _, _source, changes: dict(changes),
        launchable=lambda _, backend, image: images.find(backend, image),
        resolve=_refused_by("InvalidAMIID.Malformed"),
        devices_of=lambda keep, image, *_: keep(image),
        metadata_of=lambda *_: {"HttpTokens": "optional"},
        describe_instance_type_offerings=_all_types,
        group_type=_instead(lambda *_: "t3.micro"),
        in_progress=_refused_by("ValidationError"),
        describe_instance_refreshes=_oldest_first,
        set_instance_health=lambda *_: ActionResult({}),
        readable_when_complete=lambda _, snapshot: snapshot,
        describe_snapshots=_instead(lambda *_: ActionResult({"Snapshots": []})),
        stated=_no_bill,
        deprecated_is_hidden=lambda _, image, *more: image.deprecation is not None and not more[-1],
        describe_launch_templates=_first_is_missing,
        paginate=lambda _, items, *_more, **_kwargs: (items, None),
    )
