"""Commands on one machine: from a definition to a verified disk."""

from __future__ import annotations

import argparse
from pathlib import Path

from goldenami.aws import session
from goldenami.aws.channels import channels
from goldenami.bake import bake, bake_inputs, molecule, reproduce
from goldenami.builders import ec2
from goldenami.builders.builder import Builder
from goldenami.builders.ec2 import Ec2Builder
from goldenami.builders.local import LocalBuilder
from goldenami.commands import ROOT, Add
from goldenami.commands.stores import open_store
from goldenami.core import records
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput, ExitCode, Vanished
from goldenami.core.progress import Progress
from goldenami.lifecycle import clean
from goldenami.local import workspace
from goldenami.lock import lint, resolve
from goldenami.model import definition, definition_file, hardware, lockfile
from goldenami.model.build_folder import BuildFolder, ImageFolder
from goldenami.model.build_records import BakeRecord, BuilderKind, Verdict
from goldenami.report import report
from goldenami.verify import verify
from goldenami.watch import proposal


def _log(image: str, stage: str) -> Path:
    path = ImageFolder.of(ROOT, image).log(stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("", encoding="utf-8")
    return path


def _load(image: str) -> definition.Definition:
    return definition_file.load(ROOT, definition_file.path_of(ROOT, image))


def _locked(image: str) -> tuple[lockfile.Lock, str]:
    """The lock of `image`, checked against the checkout and in itself."""
    wanted = _load(image)
    found, digest = lockfile.read(lockfile.path_of(ROOT, image))
    lockfile.check_fresh(ROOT, found, wanted)
    lint.demand(found, hardware.load(ROOT))
    return found, digest


def cmd_lock(args: argparse.Namespace) -> int:
    """Resolve the definition to exact files and prove that the driver compiles."""
    wanted = _load(args.image)
    if args.explain:
        lockfile.explain(lockfile.read(lockfile.path_of(ROOT, args.image))[0], print)
        return 0
    with workspace.image_lock(ROOT, args.image, wait=args.wait):
        _relock(wanted)
    return 0


def _relock(wanted: definition.Definition) -> tuple[lockfile.Lock, str]:
    progress = Progress.of("lock", wanted.image, CachePaths.default())
    found, digest = resolve.run(ROOT, wanted, open_store(), progress, _log(wanted.image, "lock"))
    progress.remember()
    for finding in lint.check(found, hardware.load(ROOT)):
        progress.say(f"{finding.severity.value}: {finding.message}")
    progress.say(f"build {digest[:lockfile.ID_LENGTH]}: {lockfile.path_of(ROOT, wanted.image).relative_to(ROOT)}")
    return found, digest


def cmd_fetch(args: argparse.Namespace) -> int:
    """Have every file of the lock in the store, so that a bake needs no network."""
    _load(args.image)  # a definition that is wrong is refused before anything is written
    with workspace.image_lock(ROOT, args.image, wait=args.wait):
        _fetched(args)
    return 0


def cmd_bake(args: argparse.Namespace) -> int:
    """Bake, verify, report: a lock becomes a proven disk; --changed REF: only where it differs from that commit's."""
    _load(args.image)  # a definition that is wrong is refused before anything is written
    if args.changed and args.image not in proposal.changed(ROOT, args.changed):
        print(f"the lock of {args.image} is that of {args.changed}: nothing to bake")
        return 0
    with workspace.image_lock(ROOT, args.image, wait=args.wait):
        found, digest = _fetched(args)
        builder = _ec2_builder(args, found) if args.builder is BuilderKind.EC2 else LocalBuilder(ROOT)
        progress = Progress.of(_stage("bake", builder), args.image, CachePaths.default())
        build = bake.run(ROOT, found, digest, open_store(), progress, builder, force=args.force)
        if args.no_verify:
            return 0
        if not args.force and build.is_verified:
            progress.say(f"verified already; report: {build.report}")
            return 0
        return _verify(build, found, builder)


def _ec2_builder(args: argparse.Namespace, found: lockfile.Lock, region: str | None = None) -> Ec2Builder:
    """For the region asked for, else the first that the image is published to."""
    asked = channels.publish_section(_load(args.image))
    where = region or args.region or asked.regions[0]
    session.check_regions([where])
    workspace.note_region(ROOT, args.image, where)
    kind = args.instance_type or asked.launch_template.instance_type or ec2.instance_type(found)
    return Ec2Builder(ROOT, session.Account(), where, kind, asked.kms_key or "")


def _stage(name: str, builder: Builder) -> str:
    """What timings are remembered under: an instance takes other times than this machine."""
    return name if builder.kind is BuilderKind.LOCAL else f"{name}-{builder.kind.value}"


def _fetched(args: argparse.Namespace) -> tuple[lockfile.Lock, str]:
    """The lock with its files present. A file that upstream deleted is an error, or with --relock a new lock."""
    wanted = _load(args.image)
    path = lockfile.path_of(ROOT, args.image)
    if args.relock and not path.exists():
        return _relock(wanted)
    found, digest = _locked(args.image)
    progress = Progress.of("bake", args.image, CachePaths.default())
    try:
        bake_inputs.fetch(found, open_store(), progress)
    except Vanished as error:
        if not args.relock:
            raise
        progress.say(f"{error.message}: making a new lock (see `git diff packer/locks`)")
        return _relock(wanted)
    return found, digest


def _verify(build: BuildFolder, found: lockfile.Lock, builder: Builder) -> int:
    progress = Progress.of(_stage("verify", builder), found.image, CachePaths.default())
    record = verify.run(build, found, progress, builder)
    progress.say(f"report: {_report(build, found)}")
    ami = build.read_bake().ami
    progress.say(f"AMI:    {ami.id} in {ami.region}" if ami else f"disk:   {build.disk}")
    progress.say(f"{record.verdict}: {verify.summary(record)}")
    if record.verdict is not Verdict.VERIFIED:
        raise verify.failure(record, build)
    return 0


def _report(build: BuildFolder, found: lockfile.Lock) -> Path:
    return report.write_report(build, verify.previous(build), found.model_dump(mode="json"))


def _baked(image: str) -> tuple[lockfile.Lock, BuildFolder]:
    """The lock of `image` and its build, or BadInput where it is not baked."""
    found, digest = lockfile.read(lockfile.path_of(ROOT, image))
    build = ImageFolder.of(ROOT, image).build(digest[:lockfile.ID_LENGTH])
    if not build.is_baked:
        raise BadInput(f"{build.path} is not baked", hint=f"run `make bake IMAGE={image}`")
    return found, build


def cmd_verify(args: argparse.Namespace) -> int:
    """Boot the newest disk of the image's lock as if on EC2 and check it; an AMI is launched."""
    found, build = _baked(args.image)
    with workspace.image_lock(ROOT, args.image, wait=args.wait):
        ami = build.read_bake().ami
        return _verify(build, found, _ec2_builder(args, found, ami.region) if ami else LocalBuilder(ROOT))


def cmd_reproduce(args: argparse.Namespace) -> int:
    """Bake the lock twice from nothing and compare the disks byte for byte."""
    found, digest = _locked(args.image)
    progress = Progress.of("reproduce", args.image, CachePaths.default())

    def bake_once(work: Path, layers: Path) -> BakeRecord:
        return bake.bake(ROOT, found, digest, open_store(), progress, LocalBuilder(ROOT), work=work, layers=layers)

    with workspace.image_lock(ROOT, args.image, wait=args.wait), \
            workspace.scratch_in(ImageFolder.of(ROOT, args.image).path, "reproduce") as folder:
        print(reproduce.run(bake_once, folder))
    return 0


def cmd_report(args: argparse.Namespace) -> int:
    """Render the report of the image's newest build again and print its path."""
    found, build = _baked(args.image)
    print(_report(build, found))
    return 0


def cmd_shell(args: argparse.Namespace) -> int:
    """Boot the newest verified disk and open an SSH session in it; changes are thrown away."""
    return LocalBuilder(ROOT).shell(args.image)


def cmd_container(args: argparse.Namespace) -> int:
    """Start or stop the throw-away container of a Molecule scenario."""
    if args.action == "up":
        found, digest = _locked(args.image)
        instance = molecule.up(ROOT, args.name, found, digest, open_store(), role=args.role, tools=args.tools)
        print(records.canonical(instance.model_dump(mode="json")))
    else:
        molecule.down(args.name, open_store())
    return 0


def cmd_check(args: argparse.Namespace) -> int:
    """Check definitions and committed locks, and that the parts of each lock fit; resolve nothing."""
    paths = [definition_file.path_of(ROOT, args.image)] if args.image \
        else sorted((ROOT / "packer/images").glob("*.yml"))
    wrong = 0
    for path in paths:
        wanted = definition_file.load(ROOT, path)
        where = lockfile.path_of(ROOT, wanted.image)
        if not where.exists():
            print(f"{wanted.image}: no lock")
            continue
        found, digest = lockfile.read(where)
        lockfile.check_fresh(ROOT, found, wanted)
        print(f"{wanted.image}: build {digest[:lockfile.ID_LENGTH]}")
        for finding in lint.check(found, hardware.load(ROOT)):
            print(f"  {finding.severity.value}: {finding.message} [{finding.rule}]")
            wrong += args.strict or finding.severity is lint.Severity.ERROR
    return int(ExitCode.BAD_INPUT) if wrong else 0


def cmd_clean(args: argparse.Namespace) -> int:
    """Free what builds and the demo hold; the newest verified build of each image stays unless --all."""
    for image in sorted(path.name for path in (ROOT / "build").glob("*/") if (path / "logs").is_dir()):
        with workspace.image_lock(ROOT, image, wait=args.wait):
            for line in clean.run(ImageFolder.of(ROOT, image), everything=args.all):
                print(line)
    if (demo := ROOT / "build/demo").is_dir():
        with workspace.image_lock(ROOT, demo.name, wait=args.wait):
            print(clean.free(demo, demo.name))
    return 0


def register(add: Add) -> None:
    """Add the commands of this module to the command line."""
    locks, fetches, bakes = (add(name, run, "1") for name, run in (
        ("lock", cmd_lock), ("fetch", cmd_fetch), ("bake", cmd_bake)))
    verifies, reproduces = add("verify", cmd_verify, "1"), add("reproduce", cmd_reproduce, "1")
    cleans = add("clean", cmd_clean)
    for command in (locks, fetches, bakes, verifies, reproduces, cleans):
        command.add_argument("--wait", action="store_true", help="wait for another run on the same image")
    for command in (fetches, bakes):
        command.add_argument("--relock", action="store_true", help="make a new lock where upstream deleted a file")
    locks.add_argument("--explain", action="store_true", help="show the choices of the existing lock")
    bakes.add_argument("--changed", metavar="REF", help="bake only if the lock differs from REF's")
    bakes.add_argument("--force", action="store_true", help="bake again although this build exists")
    bakes.add_argument("--no-verify", action="store_true", help="stop after the disk is written")
    bakes.add_argument("--builder", type=BuilderKind, choices=list(BuilderKind), default=BuilderKind.LOCAL,
                       help="a container on this machine, or an EC2 instance of the publisher's image")
    bakes.add_argument("--region", help="where --builder ec2 works (default: the first that the image is published to)")
    for command in (bakes, verifies):
        command.add_argument("--instance-type", help="of the EC2 instances (default: of the first declared family)")
    add("report", cmd_report, "1")
    add("shell", cmd_shell, "1")
    add("check", cmd_check, "?").add_argument("--strict", action="store_true", help="warnings count as errors")
    cleans.add_argument("--all", action="store_true", help="also the newest verified builds")
    box = add("container", cmd_container)
    box.add_argument("action", choices=["up", "down"])
    box.add_argument("name")
    box.add_argument("--image", default="debian-12-ml-cpu")
    box.add_argument("--role", default="", help="start from the layers that a bake has below this role")
    box.add_argument("--tools", action="store_true", help="have what compiles the driver among the packages")
