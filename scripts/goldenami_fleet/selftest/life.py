"""The steps of `golden selftest` that run goldenami's own commands, and look at what AWS made of
them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import yaml
from goldenami.aws import images, tags
from goldenami.aws.calls import NOT_YET, wait_for
from goldenami.aws.channels import pointers
from goldenami.aws.channels.ledger import Channel
from goldenami.aws.images import Image
from goldenami.aws.instances import instances
from goldenami.aws.instances.instances import Launch
from goldenami.core import records
from goldenami.core.errors import ExitCode, HostNotReady, StageFailed
from goldenami.image.builders import ec2 as ec2_builder
from goldenami.local.checks.image_tests import ImageTests
from goldenami.local.machine import ssh
from goldenami.model.builds.build_records import Outcome
from goldenami.model.definitions import definition_file
from goldenami.model.locked import lockfile

from goldenami_fleet.selftest.plan import LOCAL_DISK, SMALL
from goldenami_fleet.selftest.run import IMAGE, LIFETIME, SelftestRun

REFRESH_S, POLL_S = 1800.0, 10.0
"""Seconds to wait for a refresh of one machine, and between polls."""
_FIRMWARE = "test -d /sys/firmware/efi && echo uefi || echo bios"
_UNASKED_METADATA = (
    "bash -c 'exec 3<>/dev/tcp/169.254.169.254/80;"
    r' printf "GET /latest/meta-data/ HTTP/1.0\r\n\r\n" >&3; head -n 1 <&3'
    "'"
)
"""Asks for the metadata service's status line, by nothing that an image may lack."""
_LOCAL_DISKS = (
    "systemctl is-system-running --wait >/dev/null; "
    "findmnt -n -o FSTYPE {folder} || lsblk -d -n -o NAME,SIZE,MODEL"
)
"""Asks what is mounted at the folder once the boot is over, or else which disks there are."""


def publish(run: SelftestRun) -> None:
    """Publish the first build, and read it back in both regions."""
    _publish(run, 0)
    own, copy = (_image(run, region, run.builds[0]) for region in run.regions)
    run.expect("copy_image", own.tags, copy.tags)
    run.golden("status", IMAGE)


def _publish(run: SelftestRun, number: int) -> None:
    # With a GPU, `latest` moves before its test, so that the other steps do not wait for that.
    accepted = ["--accept-untested-gpu"] if run.gpu else []
    run.golden("publish", IMAGE, "--build", run.builds[number], *accepted)


def _image(run: SelftestRun, region: str, build_id: str) -> Image:
    image = images.find(run.account.ec2(region), f"{IMAGE}-{build_id}")
    if image is None:
        raise StageFailed(f"{region} has no AMI {IMAGE}-{build_id} after its publish")
    return image


def boot(run: SelftestRun) -> None:
    """Boot the build's AMI under UEFI, with all its checks, and its disk under BIOS."""
    _demand_machines(run)
    image = _image(run, run.home, run.builds[0])
    _boots(run, image, "uefi", _look)
    bios = _under_bios(run, image)
    try:
        _boots(run, bios, "bios", _look_for_firmware)
    finally:
        run.account.ec2(run.home).deregister_image(ImageId=bios.ami)


def _demand_machines(run: SelftestRun) -> None:
    """Raise HostNotReady on the emulator, where nobody could log in."""
    if run.emulated:
        raise HostNotReady(
            "instances of the emulator are no machines",
            hint="`golden verify` boots the same disk here",
        )


def _under_bios(run: SelftestRun, image: Image) -> Image:
    """An AMI of the same snapshot that starts under BIOS. EC2 starts one that prefers UEFI under
    BIOS only on types without UEFI, which are of old generations."""
    ec2 = run.account.ec2(run.home)
    made = ec2.register_image(
        Name=f"{IMAGE}-bios-{run.name}",
        Architecture=image.raw["Architecture"],
        RootDeviceName=image.raw["RootDeviceName"],
        VirtualizationType="hvm",
        EnaSupport=True,
        BootMode="legacy-bios",
        ImdsSupport="v2.0",
        BlockDeviceMappings=[
            {
                "DeviceName": image.raw["RootDeviceName"],
                "Ebs": {"SnapshotId": image.snapshot, "VolumeType": "gp3"},
            }
        ],
        TagSpecifications=tags.specifications(tags.temporary(LIFETIME), "image"),
    )
    return images.wait_available(ec2, str(made["ImageId"]))


def _boots(
    run: SelftestRun,
    image: Image,
    firmware: str,
    look: Callable[[SelftestRun, Path], str],
    instance_type: str = SMALL,
) -> None:
    """Launch a machine that should start under `firmware`. `look` sees it by the configuration of
    SSH that lets us in, and returns what it started under."""
    work = run.work / f"{firmware}-{instance_type}"
    work.mkdir()
    key = ssh.new_key(work / "launch_key", "golden")
    launch = Launch(
        name=f"{IMAGE}-{firmware}-{instance_type}-{run.name}",
        image=image,
        instance_type=instance_type,
        public_key=key.with_suffix(".pub"),
        volume_gib=int(image.root["VolumeSize"]) + ec2_builder.GROWTH_GIB,
        user_data=instances.ends_after(30),
        tags=tags.temporary(LIFETIME),
    )
    with contextlib.ExitStack() as stack:
        instance = stack.enter_context(instances.running(run.account.ec2(run.home), launch))
        lock, _ = lockfile.read_copy(run.folder(0).lock)
        config = ssh.write_config(
            work,
            host=instance.address,
            port=instances.SSH,
            key=key,
            user=lock.base.distribution,  # of a bake on this machine
        )
        stack.callback(ssh.hang_up, config)
        rule, login = f"boots_under_{firmware}", "a login by the launch's key"
        try:
            ec2_builder.wait_for_ssh(config, instance, ssh.boot_limit_s())
        except StageFailed as error:
            # Where sshd answers, the machine has booted.
            if ssh.answers(instance.address, instances.SSH):
                rule = "metadata_has_the_key"
            run.expect(rule, login, error.message)
            return
        run.expect("metadata_has_the_key", login, login)
        run.expect(rule, firmware, look(run, config))


def _look(run: SelftestRun, config: Path) -> str:
    """Run every check of the image on the machine; return its firmware."""
    status = ssh.run(config, _UNASKED_METADATA).split()
    run.expect("metadata_wants_a_token", "401", status[1])
    build, log = run.folder(0), run.work / "checks.log"
    lock, _ = lockfile.read_copy(build.lock)
    tests = ImageTests(run.root, lock.checked, build.variables, run.work, log)
    ask = partial(ssh.run_again_if_lost, config, say=run.progress.say, log=log)
    firmware, checks = ec2_builder.look(config, lock, build, tests, ask)
    wrong = [
        f"{check.id}: {check.detail}" for check in checks if check.outcome is not Outcome.CORRECT
    ]
    run.expect("checks_over_ssh", "all correct", "; ".join(wrong) or "all correct")
    return firmware


def _look_for_firmware(_run: SelftestRun, config: Path) -> str:
    return ssh.run(config, _FIRMWARE).strip()


def local_disk(run: SelftestRun) -> None:
    """Boot the AMI on a type with a local disk, which the image mounts."""
    _demand_machines(run)
    image = _image(run, run.home, run.builds[0])
    _boots(run, image, "uefi", _look_for_disk, LOCAL_DISK)


def _look_for_disk(run: SelftestRun, config: Path) -> str:
    lock, _ = lockfile.read_copy(run.folder(0).lock)
    folder = lock.variables["instance_store_mount_point"]
    found = ssh.run(config, _LOCAL_DISKS.format(folder=folder)).strip()
    run.expect("local_disk_has_its_model", "xfs", found)
    return _look_for_firmware(run, config)


def launch(run: SelftestRun) -> None:
    """Launch by the template and by the parameter, as others do."""
    ami = _latest(run, run.home)
    template = {"LaunchTemplateName": pointers.template_name(IMAGE), "Version": "$Default"}
    for rule, how in (
        ("inherited", {"LaunchTemplate": template}),
        ("resolve", {"ImageId": f"resolve:ssm:{pointers.channel_name(IMAGE, Channel.LATEST)}"}),
    ):
        ec2 = run.account.ec2(run.home)
        answer = ec2.run_instances(
            InstanceType=SMALL,
            MinCount=1,
            MaxCount=1,
            InstanceInitiatedShutdownBehavior="terminate",
            UserData=instances.ends_after(15),
            TagSpecifications=tags.specifications(tags.temporary(LIFETIME), "instance", "volume"),
            **how,
        )
        instance = str(answer["Instances"][0]["InstanceId"])
        try:
            described = instances.describe(ec2, instance)
            run.expect(rule, ami, described["ImageId"])
            tokens = described.get("MetadataOptions", {}).get("HttpTokens")
            run.expect("metadata_of", "required", tokens)
        finally:
            instances.terminate(ec2, instance)


def _latest(run: SelftestRun, region: str) -> str | None:
    name = pointers.channel_name(IMAGE, Channel.LATEST)
    return pointers.read(run.account.ssm(region), [name]).get(name)


def refresh(run: SelftestRun) -> None:
    """Publish the second build to a group that follows `latest`, and roll back."""
    autoscaling = run.account.autoscaling(run.home)
    version = pointers.default_version(run.account.ec2(run.home), pointers.template_name(IMAGE))
    assert version is not None
    autoscaling.create_auto_scaling_group(
        AutoScalingGroupName=IMAGE,
        MinSize=1,
        MaxSize=2,
        DesiredCapacity=1,
        VPCZoneIdentifier=",".join(_subnets(run)),
        MixedInstancesPolicy={
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {
                    "LaunchTemplateId": version.template,
                    "Version": str(version.number),
                },
                "Overrides": [{"InstanceType": SMALL}],
            }
        },
        Tags=[
            {"Key": key, "Value": value, "PropagateAtLaunch": True}
            for key, value in run.tags.items()
        ],
    )
    _follow(run)
    _publish(run, 1)
    run.expect("describe_instance_refreshes", "Successful", _refreshed(run))
    run.golden("rollback", IMAGE)
    run.expect("in_progress", "Successful", _refreshed(run))
    for region in run.regions:
        first = _image(run, region, run.builds[0]).ami
        run.expect("put_parameter", first, _latest(run, region))
    # It stays to the end, as the definition names it; its machine costs money.
    autoscaling.update_auto_scaling_group(AutoScalingGroupName=IMAGE, MinSize=0, DesiredCapacity=0)


def _subnets(run: SelftestRun) -> list[str]:
    rows = run.account.ec2(run.home).describe_subnets(
        Filters=[{"Name": "default-for-az", "Values": ["true"]}]
    )["Subnets"]
    if not rows:
        raise HostNotReady(
            f"{run.home} has no default network",
            hint=f"`aws ec2 create-default-vpc --region {run.home}` makes one",
        )
    return [str(row["SubnetId"]) for row in rows]


def _follow(run: SelftestRun) -> None:
    """Let the group follow `latest`: a key of the definition, which is no part of a lock."""
    path = definition_file.path_of(run.root, IMAGE)
    definition = yaml.safe_load(path.read_text(encoding="utf-8"))
    definition["publish"]["instance_refresh"] = {
        "groups": [IMAGE],
        "min_healthy_percent": 0,
        "warmup_seconds": 0,
    }
    records.write_text(path, yaml.safe_dump(definition, sort_keys=False))


def _refreshed(run: SelftestRun) -> str:
    """Wait for the group's newest refresh, and return its last status."""
    autoscaling, seen = run.account.autoscaling(run.home), ""

    def has_ended() -> bool | None:
        nonlocal seen
        found = autoscaling.describe_instance_refreshes(AutoScalingGroupName=IMAGE, MaxRecords=1)
        seen = str(found["InstanceRefreshes"][0]["Status"])
        return seen not in ("Pending", "InProgress", "Baking", "RollbackInProgress") or None

    wait_for(has_ended, *NOT_YET, limit_s=REFRESH_S, pauses=POLL_S, what=f"{IMAGE} is refreshed")
    return seen


def drift(run: SelftestRun) -> None:
    """Change an AMI by hand, as somebody would, and see it named and mended."""
    far = run.regions[-1]
    ami = _latest(run, far)
    run.account.ec2(far).replace_image_instance_type_specification(ImageId=ami)
    run.golden("drift", IMAGE, ends=ExitCode.NOT_VERIFIED)
    _publish(run, 0)
    run.golden("drift", IMAGE)


def gpu_test(run: SelftestRun) -> None:
    """Run the checks of a GPU on one machine."""
    _demand_machines(run)
    # The test's checks are those of the committed lock, which is by now the second build's.
    shutil.copyfile(run.folder(0).lock, lockfile.path_of(run.root, IMAGE))
    run.golden("gpu-test", IMAGE, "--max-usd", f"{run.left_usd:.2f}")


def costs(run: SelftestRun) -> None:
    """Read the bill and the prices."""
    run.golden("costs")


def site(run: SelftestRun) -> None:
    """Write the page over all images, with the account's answers."""
    run.golden("status", "--site", "account")


def account(run: SelftestRun) -> None:
    """Plan the account's stack by a change set, and discard it."""
    # A repository that nobody has; a plan changes nothing.
    repository = "GitHubRepository=golden-selftest/golden-selftest"
    run.golden("account", "plan", "--region", run.home, "--set", repository)


def cluster(run: SelftestRun) -> None:
    """Make the image's groups without a machine, and take them away."""
    nothing = ["--set", "MinInstances=0", "--set", f"Subnets={','.join(_subnets(run))}"]
    run.golden("cluster", "apply", IMAGE, *nothing)
    run.golden("cluster", "remove", IMAGE)


def retire(run: SelftestRun) -> None:
    """Ask for each step of a removal; both builds are still needed, so they stay."""
    limits = ("keep_last=1", "max_age_days=0", "disable_after_days=0", "deregister_after_days=0")
    words = [word for limit in limits for word in ("--set", limit)]
    run.golden("retire", IMAGE, *words)


LIFE: Mapping[str, Callable[[SelftestRun], None]] = {
    "publish": publish,
    "boot": boot,
    "local-disk": local_disk,
    "launch": launch,
    "refresh": refresh,
    "drift": drift,
    "gpu-test": gpu_test,
    "costs": costs,
    "site": site,
    "account": account,
    "cluster": cluster,
    "retire": retire,
}
"""What each step of the plan runs."""
