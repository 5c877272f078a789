"""A launch template of the user's, and a security group that the definition names."""

from __future__ import annotations

import boto3
from goldenami.aws import tags

from support.builds.builds import IMAGE, Checkout


def use(checkout: Checkout, *, soak: int = 0) -> None:
    """Make both in us-east-1, and have the image published by them there."""
    ec2 = boto3.client("ec2", "us-east-1")
    ec2.create_security_group(GroupName="front", Description="x")
    ec2.create_launch_template(
        LaunchTemplateName="web", LaunchTemplateData={"InstanceType": "m7i.large"},
        TagSpecifications=tags.specifications({tags.IMAGE: IMAGE}, "launch-template"))
    checkout.define(f"publish: {{regions: [us-east-1], soak_hours: {soak}, left_regions: [us-west-2], "
                    "launch_template: {name: web, security_groups: [front]}}\n")
