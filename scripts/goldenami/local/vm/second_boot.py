"""Boot a disk beside another boot, and read its identity: `python -m goldenami.local.vm.second_boot
PLAN`.

It has a network namespace of its own: in that of the first boot, the metadata's address and SSH's
port are taken.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from goldenami.core import records, shell
from goldenami.core.errors import ExitCode, GoldenError, space
from goldenami.core.records import Record
from goldenami.local.drift import baked_disk, disk_check
from goldenami.local.drift.launched_with import LaunchedWith
from goldenami.local.host import host_tools
from goldenami.local.sandbox import events, namespaces
from goldenami.local.vm import imds, vm
from goldenami.model.builds.build_folder import BuildFolder

_IDENTITY = (
    "cat /etc/machine-id; cat /etc/ssh/ssh_host_*_key.pub | cut -d' ' -f2; cloud-id; uname -r"
)


class Booted(Record):
    """A boot that has ended. `identity` is the result of the function of that name; `powered_off`
    says whether the machine did so itself; `drift` is how its disk differs from its bake, or None
    if it was not compared."""

    seconds_to_ssh: float
    identity: list[str]
    powered_off: bool
    drift: list[str] | None


def identity(machine: vm.Machine) -> list[str]:
    """Return the machine's id, its SSH host keys, cloud-init's name for the cloud, and the kernel's
    release."""
    return machine.ssh(_IDENTITY).split()


def drift(config: vm.VmConfig) -> list[str]:
    """Return how the disk of a machine that is off differs from its bake, as `golden drift` sees
    it."""
    build = BuildFolder(config.disk.parent)
    launch = LaunchedWith((config.user_data or "").encode(), config.public_key, imds.HOSTNAME)
    record = disk_check.check(build, baked_disk.opened(config.overlay, build, launch))
    return [f"{row.path}: {', '.join(row.what)}" for row in record.drift]


@dataclass(frozen=True)
class Second:
    """A second boot in progress."""

    process: subprocess.Popen[bytes]
    config: vm.VmConfig
    log: Path

    @property
    def has_ended(self) -> bool:
        """Whether its machine is off. Its failure is raised."""
        self.demand()
        return self.process.poll() is not None

    def demand(self) -> None:
        """Raise its failure, if it has failed already."""
        if status := self.process.poll():
            raise _failure(self.log, self.config.firmware.value, status)

    def outcome(self) -> Booted:
        """Wait for its end and return what the boot was."""
        self.process.wait()
        self.demand()
        return records.read(self.config.scratch / "booted.json", Booted)


@contextlib.contextmanager
def beside(config: vm.VmConfig) -> Iterator[Second]:
    """Start the second boot. It is stopped at the end of the block, and if this process ends."""
    path, log = config.scratch / "plan.json", config.scratch / "boot.log"
    records.write(path, config)
    argv = shell.python_argv("goldenami.local.vm.second_boot", str(path))
    process = shell.start(namespaces.unshare_argv(argv), log=log, env=shell.python_env())
    try:
        yield Second(process, config, log)
    finally:
        # unshare ignores TERM; its KILL takes the whole pid namespace along.
        shell.stop(process, grace_s=0)


def _failure(log: Path, firmware: str, status: int) -> GoldenError:
    """Return the error that the boot's log reports."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [event for event in map(events.read, lines) if event and event["kind"] == "error"]
    if errors:
        event = errors[0]
    else:
        event = {
            "message": f"the boot broke off with status {status}: "
            f"{host_tools.business(log.parent)}",
            "hint": "see the log",
            "tail": shell.end_of(log),
            "code": ExitCode.HOST,
        }
    return events.failure(event | {"message": f"{firmware}: {event['message']}"}, log)


def main() -> int:
    """Boot, read the identity, power off, compare the disk."""
    config = records.read(Path(sys.argv[1]), vm.VmConfig)
    try:
        with space(config.scratch), vm.running(config) as machine:
            words = identity(machine)
            booted = Booted(
                seconds_to_ssh=machine.seconds_to_ssh,
                identity=words,
                powered_off=vm.power_off(machine),
                drift=drift(config),
            )
    except GoldenError as error:
        return events.fail(error)
    records.write(config.scratch / "booted.json", booted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
