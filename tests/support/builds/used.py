"""A scenario: a machine that was used, and a second one whose root is a snapshot of the first's.

The second has another instance id, key and user data, as a launch of an AMI made from the first's
volume has.
"""

from __future__ import annotations

from typing import Any

from goldenami.core import shell
from goldenami.local.vm import second_boot, vm

from support.builds import guest
from support.builds.installs import CONTAINER, as_root, containers

SECOND = "i-0fedcba9876543210"
USER_DATA = "#cloud-config\nwrite_files: [{path: /run/golden-launch, content: %s}]\n"


def seen(machine: vm.Machine) -> dict[str, Any]:
    machine.ssh("sudo cloud-init status --wait >/dev/null || true", timeout_s=600)
    machine_id, *words = second_boot.identity(machine)
    return {
        "machine_id": machine_id,
        "host_keys": [word for word in words if word.startswith("AAAA")],
        "instance": as_root(machine, "cloud-init query instance_id"),
        "launch": as_root(machine, "cat /run/golden-launch"),
        "state": as_root(
            machine, "systemctl is-system-running --wait; systemctl --failed --no-legend"
        ),
        "scratch": as_root(machine, "journalctl -b -q -o cat -u golden-instance-store"),
    }


def main() -> None:
    folder = guest.prepare()
    with guest.booted(folder, user_data=USER_DATA % "first") as machine:
        told: dict[str, Any] = {"containers": containers(machine), "first": seen(machine)}
        as_root(machine, CONTAINER.replace("--rm", "--name kept") + " 'echo kept > /written'")
        machine.ssh("echo mine > ~/mine")
        guest.turn_off(machine, folder, "used.raw")
    (folder / "key").rename(folder / "key-first")
    (folder / "key.pub").rename(folder / "key-first.pub")
    shell.output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")])
    with guest.booted(
        folder, disk=folder / "used.raw", instance_id=SECOND, user_data=USER_DATA % "second"
    ) as machine:
        told |= {
            "second": seen(machine),
            "mine": machine.ssh("cat ~/mine").strip(),
            "copied": as_root(machine, "docker cp kept:/written - | tar -xO"),
            "ran": as_root(machine, f"{CONTAINER} 'echo again'"),
        }
    guest.tell(folder, **told)


if __name__ == "__main__":
    main()
