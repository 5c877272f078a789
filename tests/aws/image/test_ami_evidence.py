"""An AMI that was baked on EC2 has a manifest and a list of blocks, as its snapshot was read, for
drift and provenance.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from goldenami.aws import tags
from goldenami.aws.snapshots import ebs
from goldenami.core import records, shell
from goldenami.core.terminal.progress import Progress
from goldenami.image.builders.ec2 import Ec2Builder
from goldenami.image.provenance.signers import KEY
from goldenami.local.disk import disk_manifest
from goldenami.local.reader.block_source import RawFile
from goldenami.local.reader.limits import Unreadable
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import BAKE_FILE, BakeRecord
from goldenami.model.builds.plans import BakeResult
from support.aws.emulator import Emulator
from support.aws.seeded_account import SeededAccount
from support.builds import builds, sample_plan
from support.builds.builds import IMAGE, Checkout, Ran, RegionState
from support.builds.tools import need_disk_tools
from support.drift import publisher_disk, small_image
from support.ec2 import ec2_builds
from support.security import signing_key

REGION = "us-east-1"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_disk_tools()
    return publisher_disk.write(tmp_path_factory.mktemp("publisher"))


def snapshot(account: SeededAccount, disk: Path, folder: Path) -> str:
    """The disk as a snapshot, as CreateImage leaves one."""
    blocks = disk_blocks.scan(disk, folder / "uploaded.blocks")
    return ebs.Upload(
        account.ebs, account.ec2, disk, blocks, tags={}, description="x", journal=folder / "journal"
    ).run()


def baked(account: SeededAccount, root: Path, disk: Path) -> tuple[BuildFolder, BakeResult]:
    """A build whose AMI has the disk: Packer's instance has run, and the bake was killed behind
    it."""
    folder = ec2_builds.build(root, 1, REGION, snapshot=snapshot(account, disk, root))
    record, work = records.read(folder / BAKE_FILE, BakeRecord), root / "work"
    work.mkdir()
    lock = builds.lock(record.image, 1)
    records.write_text(work / "out/vars.json", records.canonical({"golden_git_commit": "0" * 40}))
    result = Ec2Builder(builds.ROOT, account.session, REGION, "m7i.xlarge").bake(
        lock,
        sample_plan.sample(work, lock, record.lock_sha256),
        Progress("bake", record.image, root / "none"),
        force=False,
    )
    for name in ("manifest.json", "disk.blocks"):
        if (work / "out" / name).exists():
            (work / "out" / name).rename(folder / name)
    records.write(
        folder / BAKE_FILE,
        record.model_copy(update={"ami": result.ami, "manifest_sha256": result.manifest_sha256}),
    )
    return BuildFolder(folder), result


def look(checkout: Checkout, instance: str) -> Ran:
    return checkout.golden("drift", IMAGE, "--instance", instance)


def check_evidence(build: BuildFolder, result: BakeResult, disk: Path, folder: Path) -> None:
    """The kernel's own view of the disk is what the manifest is held to."""
    assert result.ami is not None
    again = disk_blocks.scan(disk, folder / "again").path
    digest = records.sha256_file(build.blocks)
    assert result.ami.blocks_sha256 == digest == records.sha256_file(again)
    manifest = json.loads(build.manifest.read_text(encoding="utf-8"))
    rows = {row["path"]: row for row in manifest["entries"]}
    assert [entry["name"] for entry in manifest["boot"]["partitions"]] == ["1", "14", "15"]
    accounts = hashlib.sha256(small_image.ACCOUNTS["passwd"].encode()).hexdigest()
    assert rows["/etc/passwd"]["sha256"] == accounts
    assert "text" not in rows["/etc/hostname"]
    assert rows["/usr/bin/false"]["package"] == "coreutils"
    size = len(small_image.FILES["usr/bin/false"])
    assert result.sizes["coreutils"] == size, "true is another name of a file"
    copy, (offset, size) = small_image.copy_file(disk, folder / "copy.raw"), publisher_disk.ROOT
    with small_image.mounted(copy, folder / "mnt", offset=offset, size=size) as root:
        files = {f"/{path.relative_to(root)}" for path in root.rglob("*")}
        assert files | {"/"} == rows.keys()
        for path in (
            "/usr/lib/large.so",
            "/usr/share/café",
            "/usr/lib/modules/6.1/extra/nvidia.ko",
        ):
            assert rows[path]["sha256"] == records.sha256_file(root / path[1:]), path


def test_the_snapshot_tells_what_drift_and_provenance_go_by(
    account: SeededAccount,
    checkout: Checkout,
    disk: Path,
    tmp_path: Path,
    aws: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkout.define(f"publish: {{regions: [{REGION}]}}\n")
    build, result = baked(account, checkout.root, disk)
    check_evidence(build, result, disk, checkout.root)
    monkeypatch.setenv(KEY, str(tmp_path / "key"))
    public = signing_key.make(tmp_path / "key")
    checkout.run("publish", IMAGE)
    raw = RegionState(REGION).amis()[f"{IMAGE}-{build.build_id}"]
    assert tags.from_list(raw["Tags"])[tags.MANIFEST_SHA256] == build.read_bake().manifest_sha256
    signed = (
        "verify-provenance",
        raw["ImageId"],
        "--region",
        REGION,
        "--key",
        str(public),
        "--blocks",
    )
    checkout.run(*signed)
    instance = account.launch(raw["ImageId"])
    ran = look(checkout, instance)
    assert (ran.code, "as baked" in ran.text) == (0, True), ran.text
    changed = publisher_disk.mounted_once(disk, checkout.root / "changed.raw")
    write(aws, instance, disk, changed)
    assert look(checkout, instance).code == 0, "a mounted EFI partition is no drift"
    small_image.debugfs(
        changed, "set_inode_field /usr/bin/true uid 7", offset=publisher_disk.ROOT[0]
    )
    write(aws, instance, disk, changed)
    ran = look(checkout, instance)
    assert (ran.code, "/usr/bin/true" in ran.text, "owner: 0:0, now 7:0" in ran.text) == (
        6,
        True,
        True,
    ), ran.text


def write(aws: Emulator, instance: str, before: Path, after: Path) -> None:
    old, new = before.read_bytes(), after.read_bytes()
    for at in range(0, len(new), 1 << 20):
        if old[at : at + (1 << 20)] != new[at : at + (1 << 20)]:
            aws.write(instance, REGION, at, new[at : at + (1 << 20)])


def test_a_disk_that_nobody_can_read_has_its_blocks_and_no_manifest(
    account: SeededAccount,
    checkout: Checkout,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    noise = tmp_path / "noise.raw"
    noise.write_bytes(bytes(range(256)) * 4096)
    build, result = baked(account, checkout.root, noise)
    assert (result.manifest_sha256, build.blocks.exists(), build.manifest.exists()) == (
        None,
        True,
        False,
    )
    assert (
        "no manifest, so nothing to compare instances with: could not look"
        in capsys.readouterr().err
    )
    checkout.define(f"publish: {{regions: [{REGION}]}}\n")
    checkout.run("publish", IMAGE)
    ran = look(checkout, account.launch(str(build.read_bake().ami_id)))
    assert (ran.code, "has no manifest: its disk could not be read" in ran.text) == (2, True), (
        ran.text
    )


def test_a_second_file_system_is_no_whole_manifest(disk: Path, tmp_path: Path) -> None:
    two = small_image.copy_file(disk, tmp_path / "two.raw")
    start, size = publisher_disk.ESP
    shell.output(
        [
            shell.require("mke2fs", "e2fsprogs"),
            "-q",
            "-F",
            "-t",
            "ext4",
            "-E",
            f"offset={start}",
            str(two),
            f"{size // 1024}k",
        ]
    )
    with pytest.raises(Unreadable, match="partition 15 is a second file system"):
        disk_manifest.write(RawFile(two), tmp_path / "manifest.json", tmp_path / "lists")
    assert not (tmp_path / "manifest.json").exists()
