"""Replacement of moto's handlers and models by this package's, in this process."""

from __future__ import annotations

import functools

import moto.autoscaling.models
import moto.autoscaling.urls
import moto.cloudformation.models
import moto.cloudformation.parsing
import moto.cloudformation.urls
import moto.cloudwatch.models
import moto.core.responses
import moto.ebs.urls
import moto.ec2.models
import moto.ec2.models.core
import moto.ec2.models.elastic_block_store
import moto.ec2.models.launch_templates
import moto.ec2.urls
import moto.ec2.utils
import moto.kms.urls
import moto.s3.models
import moto.ssm.urls
from moto.autoscaling.models import FakeAutoScalingGroup
from moto.cloudformation.models import CloudFormationBackend
from moto.core.utils import method_names_from_class
from moto.ec2.models.spot_requests import SpotFleetRequest
from moto.ec2.responses import EC2Response
from moto.s3.exceptions import NoSuchUpload
from moto.s3.models import FakeKey, S3Backend

from ec2_emulator.compute import launches, resource_tags, scheduled_actions
from ec2_emulator.compute.image_lifecycle import ImageLifecycleApi, SnapshotApi
from ec2_emulator.compute.images import ImageRegistrationApi
from ec2_emulator.compute.instance_refresh import GroupInstance, InstanceRefreshApi
from ec2_emulator.compute.launch_templates import EmulatedTemplate, LaunchTemplateApi
from ec2_emulator.services import stack_resources, stacks
from ec2_emulator.services.price_list import SpotPriceApi
from ec2_emulator.services.ssm_parameters import ParameterApi
from ec2_emulator.storage import snapshots
from ec2_emulator.storage.ebs_direct import EbsDirectApi
from ec2_emulator.storage.encryption import EncryptionApi, SigningApi
from ec2_emulator.storage.snapshots import EmulatedSnapshot


class Ec2Api(
    ImageRegistrationApi,
    ImageLifecycleApi,
    SnapshotApi,
    LaunchTemplateApi,
    launches.LaunchApi,
    EncryptionApi,
    SpotPriceApi,
    EC2Response,
):
    """EC2's handlers. moto's class is the last base, so this package's handlers come first."""


def upload_part(
    self: S3Backend, bucket_name: str, multipart_id: str, part_id: int, value: bytes
) -> FakeKey:
    """S3 refuses a part of an upload that was aborted or completed; moto ends in a KeyError."""
    upload = self.get_bucket(bucket_name).multiparts.get(multipart_id)
    if upload is None:
        raise NoSuchUpload(multipart_id)
    return upload.set_part(part_id, value)


def install() -> None:
    """Replace moto's handlers and models. Only an application that is made afterwards has them."""
    for owner, name, replacement in (
        (moto.ec2.models.elastic_block_store, "Snapshot", EmulatedSnapshot),
        (moto.ec2.models.launch_templates, "LaunchTemplate", EmulatedTemplate),
        (moto.autoscaling.models, "InstanceState", GroupInstance),
        (moto.ec2.models.core.TaggedEC2Resource, "get_tags", resource_tags.get_tags),
        (moto.ec2.utils, "is_filter_matching", resource_tags.matches),
        (moto.ec2.models.EC2Backend, "get_snapshot", snapshots.get_snapshot),
        (moto.ec2.models.EC2Backend, "run_instances", launches.run_instances),
        (
            moto.ec2.models.EC2Backend,
            "create_default_vpc",
            launches.default_network_leads_outside,
        ),
        (moto.s3.models.S3Backend, "upload_part", upload_part),
        (FakeAutoScalingGroup, "instance_type", property(launches.group_type)),
        (SpotFleetRequest, "spot_fleet_request_config", property(launches.fleet_request)),
        (CloudFormationBackend, "create_change_set", stacks.create_change_set),
        (CloudFormationBackend, "execute_change_set", stacks.execute_change_set),
        (CloudFormationBackend, "delete_stack", stacks.delete_stack),
        (moto.cloudformation.models.ChangeSet, "diff", stacks.differences),
        (moto.cloudformation.models.Stack, "parameter_list", property(stacks.parameter_list)),
        (moto.cloudformation.parsing, "clean_json", stack_resources.clean_json),
        # moto's comparison is no order, so queries for metrics miss some.
        (
            moto.cloudwatch.models.Dimension,
            "__lt__",
            lambda left, right: (left.name, left.value) < (right.name, right.value),
        ),
        # moto lists a handler's methods at each request.
        (moto.core.responses, "method_names_from_class", functools.cache(method_names_from_class)),
    ):
        setattr(owner, name, replacement)
    stack_resources.install()
    scheduled_actions.install()
    for urls, handler in (
        (moto.ec2.urls, Ec2Api),
        (moto.ebs.urls, EbsDirectApi),
        (moto.ssm.urls, ParameterApi),
        (moto.kms.urls, SigningApi),
        (moto.autoscaling.urls, InstanceRefreshApi),
        (moto.cloudformation.urls, stacks.StackApi),
    ):
        vars(urls)["url_paths"] = dict.fromkeys(vars(urls)["url_paths"], handler.dispatch)
