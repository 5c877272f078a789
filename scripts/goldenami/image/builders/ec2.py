"""The builder on EC2: Packer's instance, the AMI that it leaves, and the fresh instance on which
that AMI is verified.

Its results have the form of the local builder's, which uses containers, a disk and QEMU.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import secrets
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from goldenami.aws import images, tags
from goldenami.aws.images import Image, ImageSpec
from goldenami.aws.instances import instance_types, instances
from goldenami.aws.instances.instances import Launch, Subnet
from goldenami.aws.session import Account, Client, translated
from goldenami.aws.snapshots.snapshot_disk import SnapshotDisk
from goldenami.core import process, records
from goldenami.core.errors import BadInput, StageFailed, Unreachable
from goldenami.core.terminal.progress import LongWait, Progress
from goldenami.core.wait import wait_until
from goldenami.local.checks import image_tests
from goldenami.local.checks.image_tests import ImageTests
from goldenami.local.code_coverage import coverage
from goldenami.local.disk import disk_manifest
from goldenami.local.machine import packer, ssh
from goldenami.local.sandbox import how_far
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import (
    Accel,
    Ami,
    BakeRecord,
    Boot,
    BuilderKind,
    Check,
    CoverageRecord,
)
from goldenami.model.builds.plans import BakePlan, BakeResult, VerifyResult
from goldenami.model.definitions.definition import IMMUTABLE
from goldenami.model.locked.lockfile import Lock
from goldenami.model.supported import base_images
from goldenami.model.supported.architectures import ARCHITECTURES

LIFE = timedelta(hours=6)
"""Age at which `golden sweep` may remove what a bake or a verify made in the account. Both take
well under one hour."""
UNPUBLISHED_LIFE = timedelta(days=14)
"""Age at which `golden sweep` may remove an AMI that was never published, since nothing else ever
would."""
WITHOUT_GPU = "m7i"
"""The family on which images for GPUs are baked and verified: only `gpu-test` needs a GPU."""
SIZE = "xlarge"
GROWTH_GIB = 1
"""GiB by which the launched volume is larger than the AMI, so that a check sees the root grow."""
_SILENT = "SSH did not answer"
_FACTS_COMMAND = (
    "test -d /sys/firmware/efi && echo uefi || echo bios; cloud-id; "
    "dpkg-query -W -f '${db:Status-Abbrev}\\t${Package}\\t${Version}\\n'"
)


def instance_type(lock: Lock) -> str:
    """An instance type that runs the image's code: of its first declared family, or of one without
    GPUs."""
    family = WITHOUT_GPU if lock.hardware.sm else lock.hardware.families[0]
    return f"{family}.{SIZE}"


@dataclass(frozen=True)
class Ec2Builder:
    """The builder of the checkout `root` in a region. `kms_key` is an alias, or "" for the
    account's default; `subnets` are ids or names, or empty for the default network."""

    root: Path
    account: Account
    region: str
    instance_type: str
    kms_key: str = ""
    subnets: tuple[str, ...] = ()
    kind: BuilderKind = BuilderKind.EC2

    def _client(self) -> Client:
        return self.account.ec2(self.region)

    def check_host(self) -> None:
        """Any machine can run it."""

    def check_build(self, build: BuildFolder) -> None:
        """Nothing to check here: the launch shows whether the AMI still exists."""

    def built(self, record: BakeRecord) -> bool:
        return record.ami is not None and record.ami.region == self.region

    # --- bake -------------------------------------------------------------------------------------

    def beside(self, plan: BakePlan, progress: Progress, work: Callable[[], None]) -> BakeResult:
        """Only call `work`: an instance has no layers."""
        work()
        return BakeResult()

    def bake(self, lock: Lock, plan: BakePlan, progress: Progress, *, force: bool) -> BakeResult:
        """Run the roles on an instance in the account, register the AMI as `publish` would register
        a disk's, and read its snapshot.

        An AMI that an earlier, killed bake registered is taken. With `force` it is replaced once
        Packer's new one exists. Raises BadInput if it is published, or if the image is immutable,
        whose disk has another layout.
        """
        if IMMUTABLE in lock.roles:
            raise BadInput(
                f"{lock.image} is immutable: an instance cannot write its disk",
                hint=f"bake it on this machine; `golden publish {lock.image}` takes "
                "the disk to EC2",
            )
        variables = json.loads((plan.work / "out/vars.json").read_text(encoding="utf-8"))
        spec = ImageSpec(
            name=f"{lock.image}-{plan.build_id}",
            description=lock.description,
            architecture=ARCHITECTURES[lock.base.architecture].ec2,
            volume_size_gib=lock.disk_size_gib,
            tags=tags.of_build(
                lock.image, plan.lock_sha256, plan.build_id, variables["golden_git_commit"]
            ),
        )
        # The wheels are checked first: an instance that is never launched costs nothing.
        with progress.step("coverage"):
            _cover(lock, plan)
        with translated(self.region):
            image = images.find(self._client(), spec.name)
            if image is not None:
                images.check_ours(image, spec, self.region)
                if force and self._unpublished(image):
                    image = None
            if image is None:
                self._demand_offered()
                with progress.step("instance"):
                    self._packer(plan, variables, spec, progress)
            else:
                progress.say(f"{image.ami} in {self.region} is this build already")
            with progress.step("AMI"):
                ami = self._registered(spec, image, force=force)
        return _evidence(self.account, ami, BuildFolder(plan.work / "out"), plan.work, progress)

    def _demand_offered(self) -> None:
        family = self.instance_type.partition(".")[0]
        if self.instance_type not in instance_types.offered(self._client(), [family]):
            raise BadInput(
                f"{self.region} has no {self.instance_type}",
                hint="name a type in `launch_template: instance_type:`, or another region by "
                "--region (`golden regions` shows them)",
            )

    def _subnet(self) -> Subnet | None:
        return next(iter(instances.subnets(self._client(), self.subnets).values()), None)

    def _packer(
        self, plan: BakePlan, variables: dict[str, Any], spec: ImageSpec, progress: Progress
    ) -> None:
        work, ec2 = plan.work, self._client()
        key, temporary_tags = (
            ssh.new_key(work / "launch_key", "golden"),
            {**spec.tags, **tags.temporary(LIFE)},
        )
        subnet, name = self._subnet(), _name("bake", plan.build_id)
        options = {
            "lock": plan.lock,
            "vars": work / "ec2.json",
            "repo": plan.tree.repository,
            "region": self.region,
            "instance_type": self.instance_type,
            "ec2_endpoint": ec2.meta.endpoint_url,
        }

        def on_line(line: str) -> None:
            if role := packer.role_of(line):
                progress.say(f"role {role}")
            elif match := re.search(r"Instance ID: (i-\w+)", line):
                progress.say(f"instance {match[1]} ({self.instance_type}) in {self.region}")

        with (
            process.scratch() as short,
            instances.access(
                ec2, name, key.with_suffix(".pub"), temporary_tags, subnet.vpc if subnet else ""
            ) as group,
        ):
            launch = {
                "key": name,
                "private_key": str(key),
                "groups": [group],
                "tags": temporary_tags,
                "kms_key": self.kms_key,
                "run_tags": self.account.tags,
                "subnet": subnet.id if subnet else "",
            }
            records.write_text(
                work / "ec2.json", records.canonical({**variables, "golden_ec2": launch})
            )
            # Paths of sockets have 108 bytes at most, hence the short folder. Temporary files are
            # removed with it.
            env = {
                "ANSIBLE_SSH_CONTROL_PATH_DIR": short,
                "TMPDIR": short,
                # A folder in the instance's memory: nothing of it gets into the AMI.
                "ANSIBLE_REMOTE_TMP": "/dev/shm/golden-ansible",  # noqa: S108 - not of this machine
            }
            build = packer.PackerBuild(self.root, work, "ec2", plan.log)
            build.run("amazon-ebs.ec2", options, env=env, on_line=on_line)

    def _unpublished(self, image: Image) -> Image:
        """`image`, whose build is to be made anew. Raises BadInput if it is published, since others
        may launch it already."""
        # Publishing removes the tag that lets `golden sweep` remove an AMI.
        if tags.EXPIRES not in image.tags:
            raise BadInput(
                f"{image.ami} in {self.region} is published: it is not made anew under its name",
                hint="leave FORCE=1 out, or change what the lock is made from: that is "
                "another build",
            )
        return image

    def _registered(self, spec: ImageSpec, image: Image | None, *, force: bool = False) -> Ami:
        """The build's AMI, made of the snapshot of the one that Packer left, which is deregistered.

        With `force` an AMI with the build's name is removed first, with its snapshot.
        """
        ec2 = self._client()
        packer_ami = images.find(ec2, f"{spec.name}-builder")
        if image is None:
            if packer_ami is None:
                raise StageFailed(
                    f"Packer left no AMI {spec.name}-builder in {self.region}", hint="run again"
                )
            base = packer_ami.tags.get(tags.BASE_AMI, "unknown")
            ami_tags = {**spec.tags, tags.BASE_AMI: base, **tags.temporary(UNPUBLISHED_LIFE)}
            if force and (old_ami := images.find(ec2, spec.name)):
                images.remove(ec2, self._unpublished(old_ami))
            ami_spec = spec.model_copy(
                update={"tags": ami_tags, "volume_size_gib": packer_ami.root["VolumeSize"]}
            )
            image = images.wait_available(ec2, images.register(ec2, ami_spec, packer_ami.snapshot))
        if packer_ami is not None:
            # The snapshot stays: it is the build's AMI's now.
            ec2.deregister_image(ImageId=packer_ami.ami)
        return Ami(
            id=image.ami,
            region=self.region,
            snapshot=image.snapshot,
            base=image.tags.get(tags.BASE_AMI, "unknown"),
            volume_gib=image.root["VolumeSize"],
        )

    # --- verify -----------------------------------------------------------------------------------

    def verify(
        self, lock: Lock, build: BuildFolder, work: Path, log: Path, progress: Progress
    ) -> VerifyResult:
        """Launch the AMI once and check the instance."""
        key, limit_s = ssh.new_key(work / "launch_key", "golden"), ssh.boot_limit_s()
        with translated(self.region), contextlib.ExitStack() as stack:
            began = time.monotonic()
            self._demand_offered()
            launch = self._launch(build.read_bake(), key.with_suffix(".pub"))
            with progress.step("launch"):
                instance = stack.enter_context(instances.running(self._client(), launch))
            progress.say(f"instance {instance.id} ({self.instance_type}) at {instance.address}")
            config = ssh.write_config(
                work,
                host=instance.address,
                port=instances.SSH,
                key=key,
                user=user(self.root, lock.base.release),
            )
            # ssh keeps the shared connection open in the background, beyond this process.
            stack.callback(ssh.hang_up, config)
            with progress.step("boot"):
                wait_for_ssh(config, instance, limit_s)
            seconds = round(time.monotonic() - began, 1)
            with progress.step("checks"), progress.relaying(partial(how_far.of_checks, work)):
                ask = partial(
                    ssh.run_again_if_lost, config, say=progress.say, log=log, timeout_s=limit_s
                )
                tests = ImageTests(self.root, lock.checked, build.variables, work, log)
                firmware, checks = look(config, lock, build, tests, ask)
        return VerifyResult(
            accel=Accel.EC2,
            boots=[Boot(firmware=firmware, seconds_to_ssh=seconds)],
            checks=checks,
        )

    def _launch(self, bake: BakeRecord, public_key: Path) -> Launch:
        assert bake.ami is not None
        image = images.get(self._client(), [bake.ami.id]).get(bake.ami.id)
        if image is None:
            raise StageFailed(
                f"{bake.ami.id} is gone from {self.region}", hint="FORCE=1 bakes it again"
            )
        build_tags = tags.of_build(bake.image, bake.lock_sha256, bake.build_id, bake.git_commit)
        return Launch(
            name=_name("verify", bake.build_id),
            image=image,
            instance_type=self.instance_type,
            public_key=public_key,
            volume_gib=bake.ami.volume_gib + GROWTH_GIB,
            subnet=self._subnet(),
            tags={**build_tags, **tags.temporary(LIFE)},
        )


def _evidence(
    account: Account, ami: Ami, out: BuildFolder, work: Path, progress: Progress
) -> BakeResult:
    """Read the AMI's snapshot into the folder `out`: the signed list of its blocks, and the
    manifest that drift compares with. Nothing that ran on the instance is asked.

    A disk that our reader cannot read has no manifest. Raises AWS's errors, and Unreachable if EBS
    does not give the blocks: the AMI stays, and the next bake continues here.
    """
    with (
        tempfile.TemporaryDirectory(dir=work, prefix="snapshot-") as scratch,
        translated(ami.region),
    ):
        disk = SnapshotDisk(account.ebs(ami.region), ami.snapshot, Path(scratch))
        try:
            disk.list()
            with progress.download(
                "snapshot", f"{ami.snapshot} is read", disk.bytes_listed
            ) as on_bytes:
                blocks = records.sha256_file(disk.hashed(out.blocks, on_bytes).path)
            with progress.step("manifest"):
                sizes = _manifest(disk, out.manifest, Path(scratch), progress)
        finally:
            disk.close()
    return BakeResult(
        ami=ami.model_copy(update={"blocks_sha256": blocks}),
        sizes=sizes,
        manifest_sha256=records.sha256_file(out.manifest) if out.manifest.exists() else None,
    )


def _manifest(disk: SnapshotDisk, path: Path, scratch: Path, progress: Progress) -> dict[str, int]:
    """Bytes by package; {} for a disk that cannot be read."""
    try:
        return disk_manifest.write(disk, path, scratch / "lists")
    except Unreachable as error:
        progress.say(f"no manifest, so nothing to compare instances with: {error.message}")
        return {}


def _cover(lock: Lock, plan: BakePlan) -> None:
    """Check the lock's wheels against the declared machines' CPUs and GPUs, before anything is
    launched."""
    with tempfile.TemporaryDirectory(dir=plan.work) as tree:
        for environment, files in lock.environments().items():
            python = ".".join(lock.packages["python3"].version.split(".")[:2])
            for file in files:
                _install(
                    plan.tree.repository / "wheels" / file.filename,
                    Path(tree) / "opt/ml" / environment,
                    python,
                )
        coverage.hold(Path(tree), plan.coverage, plan.work / "out", plan.log)


def _install(wheel: Path, environment: Path, python: str) -> None:
    """Put a wheel's files where pip puts them (binary distribution format, "Installing a
    wheel")."""
    packages = f"lib/python{python}/site-packages/"
    schemes = {"purelib": packages, "platlib": packages, "scripts": "bin/", "data": ""}
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            first, _, rest = entry.filename.partition("/")
            scheme, name = "purelib", entry.filename
            if first.endswith(".data"):
                scheme, _, name = rest.partition("/")
            if scheme in schemes and name:
                entry.filename = f"{schemes[scheme]}{name}"
                archive.extract(entry, environment)


def _name(stage: str, build_id: str) -> str:
    """A name for a key pair or a security group that no other run has."""
    return f"golden-{stage}-{build_id}-{secrets.token_hex(4)}"


def user(root: Path, release: str) -> str:
    """The default user of the publisher's image of a release, which the build keeps."""
    return base_images.of_release(root, release).user


def wait_for_ssh(config: Path, instance: instances.LaunchedInstance, limit_s: float) -> None:
    """Return once SSH accepts the launch's key. Raises StageFailed with the last obstacle after
    `limit_s` seconds."""
    ends, obstacle, next_login_at = time.monotonic() + limit_s, _SILENT, 0.0
    wait = LongWait()

    def let_in() -> bool | None:
        nonlocal obstacle, next_login_at
        if time.monotonic() > next_login_at and ssh.answers(instance.address, instances.SSH):
            refusal = ssh.login(config, ends)
            if refusal is None:
                return True
            obstacle = f"sshd answers and lets nobody in: {refusal}"
            # sshd shuts out an address that asks again too soon (sshd_config(5),
            # PerSourcePenalties).
            next_login_at = time.monotonic() + ssh.PENALTY_S
        wait.tell(f"{instance.id}: {obstacle}")
        return None

    if not wait_until(let_in, limit_s, 1.0):
        hint = (
            "look at its console (`aws ec2 get-console-output`): a launch of the AMI shows the same"
        )
        if obstacle == _SILENT and ipaddress.ip_address(instance.address).is_private:
            hint = (
                f"{instance.address} is private: run in its network, or name in `publish: "
                f"subnets:` some that give public addresses; else {hint}"
            )
        raise StageFailed(f"{instance.id}: {obstacle} within {limit_s:.0f} s", hint=hint)


def look(
    config: Path, lock: Lock, build: BuildFolder, tests: ImageTests, ask: Callable[[str], str]
) -> tuple[str, list[Check]]:
    """Return the firmware that started the instance, and all checks of the image. `ask` runs a
    command there."""
    lines, is_baked_here = ask(_FACTS_COMMAND).splitlines(), build.read_bake().ami is None
    # What a disk holds at rest its own verify has seen: a boot and a login change some of it.
    with tests.running(image_tests.over_ssh(config, everything=not is_baked_here)) as run:
        checks = run.checks()
    if not is_baked_here:
        checks = image_tests.complete(checks, tests.asked)
    checks += image_tests.code(
        records.read(build.coverage, CoverageRecord),
        lambda command: ask(image_tests.as_root(command)),
        # For a bake on EC2 `_cover` read no tree, only wheels: any other library is wrong.
        complete=is_baked_here,
    )
    return lines[0], checks + _checks(lock, lines)


def _checks(lock: Lock, lines: list[str]) -> list[Check]:
    cloud = lines[1].strip() if len(lines) > 1 else ""
    return [
        Check.of_boot(
            "ec2_datasource",
            "cloud-init chose its Ec2 source",
            cloud == "aws",
            f"cloud-id said {cloud}",
        ),
        Check.of_boot(
            "imdsv2",
            "The launch's key came from a metadata service that takes session tokens only",
            cloud == "aws",
            "cloud-init did not ask the metadata service",
        ),
        _packages(lock, lines[2:]),
    ]


def _packages(lock: Lock, lines: Iterable[str]) -> Check:
    """The check that the lock's packages on the instance have the lock's versions. Other packages
    are the publisher's; a role may have removed some of the lock's."""
    rows = [line.split("\t") for line in lines if line.startswith(("ii", "hi"))]
    installed = {name: version for _, name, version in rows}
    wrong = list[str]()
    for name, package in sorted(lock.packages.items()):
        if installed.get(name, package.version) != package.version:
            wrong.append(f"{name} is {installed[name]}, not {package.version}")
    if not installed:
        wrong.append("dpkg names no package")
    check = Check.of_boot(
        "packages", "The lock's packages are in its versions", not wrong, "; ".join(wrong[:8])
    )
    publishers = sorted(installed.keys() - lock.packages.keys())
    if wrong or not publishers:
        return check
    listed = (
        f"{len(publishers)} packages are the publisher's, beside the lock: "
        f"{', '.join(publishers[:12])}"
    )
    return check.model_copy(update={"detail": listed})
