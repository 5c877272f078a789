"""Runs on the image, as root: gives it local disks and takes them away again; prints as JSON what
the program did.

The disks are files behind the kernel's own NVMe target (nvmet, nvme-loop): NVMe devices of the
model that EC2's local disks have. All that is made here is removed at the end. argv: a name of
SCENES for each scene to play.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MODEL = "Amazon EC2 NVMe Instance Storage"
CONFIG, WORK = Path("/sys/kernel/config/nvmet"), Path("/var/tmp/golden-local-disks")
PERSIST = Path("/persist")
FILES = PERSIST if PERSIST.is_dir() else WORK
"""Of disks. Where the root is read-only WORK is on an overlay, whose files have no size for NVMe's
target."""
SCRATCH, DATA = WORK / "scratch", WORK / "engine-data"
DISK_BYTES = 320 << 20
"""A little more than the 300 MiB that mkfs.xfs wants at least."""
TOLD = Path("/run/motd.d/50-golden-instance-store")
STARTED = ("engine-id", "image/overlay2/repositories.json", "overlay2/l/x", "volumes/metadata.db")
"""Some of what Docker writes when it starts."""
PROGRAM = "/usr/local/libexec/golden-instance-store"


def run(*argv: str) -> tuple[int, str]:
    """A command's exit status and both of its streams."""
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout.strip()


def must(*argv: str) -> str:
    """The output of a command that has to work: it is part of the scenery."""
    status, said = run(*argv)
    if status:
        sys.exit(f"{' '.join(argv)}: {said}")
    return said


class Disk:
    """One local disk: `plug` shows it to the kernel, `unplug` takes it away, what is on it
    stays."""

    def __init__(self, name: str) -> None:
        self.nqn, self.node = f"golden-local-{name}", ""
        self.file = FILES / f"{self.nqn}.img"
        self.subsystem = CONFIG / "subsystems" / self.nqn
        self.blank()

    def blank(self) -> None:
        """As EC2 hands it out after a stop and start."""
        self.file.unlink(missing_ok=True)
        with self.file.open("wb") as file:
            file.truncate(DISK_BYTES)

    def plug(self) -> None:
        """Show it to the kernel."""
        space = self.subsystem / "namespaces/1"
        space.mkdir(parents=True)
        for path, value in (
            (self.subsystem / "attr_allow_any_host", "1"),
            (self.subsystem / "attr_model", MODEL),
            (space / "device_path", str(self.file)),
            (space / "enable", "1"),
        ):
            path.write_text(value, encoding="utf-8")
        (CONFIG / "ports/1/subsystems" / self.nqn).symlink_to(self.subsystem)
        with Path("/dev/nvme-fabrics").open("r+b", buffering=0) as fabrics:
            fabrics.write(f"transport=loop,nqn={self.nqn}".encode())
        for _ in range(200):
            if any(self._controller().glob("nvme*n*")):
                break
            time.sleep(0.05)
        must("udevadm", "settle")
        self.node = next(
            f"/dev/{block.name}"
            for block in Path("/sys/block").glob("nvme*")
            if _named(block / "device", self.nqn) and "c" not in block.name
        )

    def _controller(self) -> Path:
        return next(path for path in Path("/sys/class/nvme").iterdir() if _named(path, self.nqn))

    def unplug(self) -> None:
        """Take it away from the kernel."""
        if self.subsystem.exists():
            with contextlib.suppress(StopIteration):
                (self._controller() / "delete_controller").write_text("1", encoding="utf-8")
            (CONFIG / "ports/1/subsystems" / self.nqn).unlink()
            (self.subsystem / "namespaces/1").rmdir()
            self.subsystem.rmdir()

    @property
    def digest(self) -> str:
        """SHA-256 of its first MiB, where labels and superblocks are: all of it takes long under
        emulation."""
        with self.file.open("rb") as file:
            return hashlib.sha256(file.read(1 << 20)).hexdigest()


def _named(device: Path, nqn: str) -> bool:
    path = device / "subsysnqn"
    return path.exists() and path.read_text(encoding="utf-8").strip() == nqn


@contextlib.contextmanager
def machine(*names: str) -> Iterator[list[Disk]]:
    """A machine with local disks of these names; nothing of it remains."""
    SCRATCH.parent.mkdir(parents=True)
    for module in ("nvmet", "nvme-loop"):
        must("modprobe", module)
    (CONFIG / "ports/1").mkdir()
    (CONFIG / "ports/1/addr_trtype").write_text("loop", encoding="utf-8")
    disks: list[Disk] = []
    try:
        for name in names:
            disks.append(Disk(name))
            disks[-1].plug()
        yield disks
    finally:
        power_off(disks)
        (CONFIG / "ports/1").rmdir()
        run("modprobe", "-r", "nvme-loop", "nvmet")
        for disk in disks:
            disk.file.unlink()
        must("rm", "-r", str(WORK))


def power_off(disks: list[Disk]) -> None:
    """Nothing mounted, no array, no disk."""
    for path in (DATA, SCRATCH):
        run("umount", str(path))
    for array in Path("/sys/block").glob("md*"):
        run("mdadm", "--stop", f"/dev/{array.name}")
    for disk in disks:
        disk.unplug()


def boot(disks: list[Disk]) -> None:
    """The disks again, as they are: the kernel and udev see them for the first time."""
    power_off(disks)
    for disk in disks:
        disk.plug()


def program(*options: str) -> dict[str, object]:
    """What the unit's program says, and what is mounted after it."""
    status, said = run(PROGRAM, "--mount-point", str(SCRATCH), "--mode", "1777", *options)
    mounted = run("findmnt", "-n", "-o", "SOURCE,FSTYPE,OPTIONS", "--mountpoint", str(SCRATCH))[
        1
    ].split()
    here = SCRATCH.is_mount()
    return {
        "status": status,
        "said": said,
        "mounted": here,
        "type": mounted[1] if here else "",
        "mode": oct(SCRATCH.stat().st_mode & 0o7777) if here else "",
        "bytes": _size() if here else 0,
        "kept": (SCRATCH / "kept").exists(),
        "arrays": {
            path.name: (path / "md/level").read_text().strip()
            for path in Path("/sys/block").glob("md*")
        },
        "writable": run(
            "setpriv", "--reuid=65534", "--clear-groups", "touch", str(SCRATCH / "kept")
        )[0]
        == 0
        if here
        else False,
        "told": TOLD.read_text(encoding="utf-8").strip() if TOLD.exists() else "",
    }


def _size() -> int:
    stats = os.statvfs(SCRATCH)
    return stats.f_blocks * stats.f_frsize


def none() -> object:
    """An instance without local disks."""
    WORK.mkdir()
    try:
        return [program()]
    finally:
        WORK.rmdir()


def one() -> object:
    """Made, run again, found after a reboot, made anew after a stop."""
    with machine("a") as disks:
        runs = [program(), program()]
        boot(disks)
        runs.append(program())
        power_off(disks)
        disks[0].blank()
        boot(disks)
        return [*runs, program()]


def two() -> object:
    """The same with an array, and an engine's data on it."""
    with machine("a", "b") as disks:
        first = program("--bind", str(DATA))
        (DATA / "image").touch()
        bound = (SCRATCH / ".container-data" / DATA.name / "image").exists()
        runs = [first, program("--bind", str(DATA))]
        boot(disks)
        there_before = (DATA / "image").exists()
        runs.append(program("--bind", str(DATA)))
        there = (DATA / "image").exists()
        power_off(disks)
        for disk in disks:
            disk.blank()
        boot(disks)
        return {
            "runs": [*runs, program("--bind", str(DATA))],
            "bound": bound,
            "data": [there_before, there],
        }


def half_wiped() -> object:
    """One of two is blank; then the hint is followed."""
    with machine("a", "b") as disks:
        program()
        power_off(disks)
        disks[0].blank()
        boot(disks)
        before = disks[1].digest
        refused = program()
        untouched = disks[1].digest == before
        hint = str(refused["said"]).partition("`")[2].partition("`")[0]
        must("sh", "-c", hint)
        return {"refused": refused, "untouched": untouched, "hint": hint, "after": program()}


def foreign() -> object:
    """Somebody's own file system is left alone."""
    with machine("a") as disks:
        must("mkfs.ext4", "-q", "-L", "mine", disks[0].node)
        before = disks[0].digest
        return {"refused": program(), "untouched": disks[0].digest == before}


def taken() -> object:
    """A mount point with files: they are not hidden, no disk is touched."""
    with machine("a") as disks:
        SCRATCH.mkdir()
        (SCRATCH / "mine").touch()
        before = disks[0].digest
        return {"refused": program(), "untouched": disks[0].digest == before}


def moved() -> object:
    """An engine started without local disks: its folders are taken over, unless somebody's
    container is in one of them."""
    with machine("a"):
        for name in STARTED:
            (DATA / name).parent.mkdir(parents=True, exist_ok=True)
            (DATA / name).touch()
        (DATA / "containers/0a").mkdir(parents=True)
        binds = ("--bind", str(DATA), "--bind", str(WORK / "beside"))
        stays = program(*binds)
        kept = DATA.joinpath("containers/0a").exists() and not (WORK / "beside").is_mount()
        (DATA / "containers/0a").rmdir()
        return {
            "stays": stays,
            "kept": kept,
            "after": program("--bind", str(DATA)),
            "bound": DATA.is_mount(),
        }


SCENES: dict[str, Callable[[], object]] = {
    scene.__name__: scene for scene in (none, one, two, half_wiped, foreign, taken, moved)
}
answers: dict[str, object] = {name: SCENES[name]() for name in sys.argv[1:]}
answers["failed"] = run("systemctl", "--failed", "--plain", "--no-legend")[1]
answers["left"] = [
    str(path)
    for path in (WORK, *Path("/sys/block").glob("md*"), *CONFIG.glob("subsystems/*"))
    if path.exists()
]
print(json.dumps(answers))
