"""The publisher of the images on which the EC2 builder works, in an emulated account of its own."""

from __future__ import annotations

import boto3

KEY = "AKIAPUBLISHER0000000"
ACCOUNTS = {KEY: "136693071363"}
"""The emulator's setting `accounts`: Debian's account, which packer/base_images.json names."""


def offer(url: str, region: str = "us-east-1", *, major: int = 13) -> str:
    """Have a public AMI of Debian `major` in the emulator at `url`, of 8 GiB as theirs is; its
    snapshot is empty.

    Returns its id.
    """
    ec2, ebs = (
        boto3.client(
            service,
            region_name=region,
            endpoint_url=url,
            aws_access_key_id=KEY,
            aws_secret_access_key="none",
        )
        for service in ("ec2", "ebs")
    )
    snapshot = ebs.start_snapshot(VolumeSize=8)["SnapshotId"]
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)
    made = ec2.register_image(
        Name=f"debian-{major}-amd64-20261101-1",
        Architecture="x86_64",
        VirtualizationType="hvm",
        EnaSupport=True,
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
    )
    ec2.modify_image_attribute(
        ImageId=made["ImageId"], LaunchPermission={"Add": [{"Group": "all"}]}
    )
    return str(made["ImageId"])
