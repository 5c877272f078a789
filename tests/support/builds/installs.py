"""A scenario: what people install and write on a machine of an immutable image, before a reboot and
after it.

pip is the one of this environment, since a small image has none; the wheel is made here. Where the
image has Docker, an image is loaded and run, too.
"""

from __future__ import annotations

import shlex
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pip
from goldenami.local.vm import vm

from support.builds import guest

TOOLS = "/var/tmp/tools"
WHEEL = "golden_probe-1.0-py3-none-any.whl"
ENVIRONMENTS = ("/home/debian/env", "/opt/env")
ASK = "import golden_probe; print(golden_probe.__file__)"
WRITTEN = (
    "/etc/golden-probe",
    "/home/debian/golden-probe",
    "/opt/golden-probe",
    "/root/golden-probe",
    "/srv/golden-probe",
    "/var/lib/golden-probe",
)
GONE = ("/tmp/golden-probe", "/run/golden-probe")
REFUSED = ("/usr/golden-probe", "/boot/golden-probe", "/golden-probe")
IMAGE = "localhost/golden-probe"
CONTAINER = f"docker run --rm --pull=never --network=none {IMAGE} /usr/lib/klibc/bin/sh -c"
"""The initramfs's own shell, which needs one library: the smallest image that a machine can make of
itself."""


def make_tools(folder: Path) -> Path:
    shutil.copytree(
        Path(pip.__file__).parent, folder / "pip", ignore=shutil.ignore_patterns("__pycache__")
    )
    info = "golden_probe-1.0.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr("golden_probe.py", "")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: golden-probe\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return folder


def as_root(machine: vm.Machine, script: str) -> str:
    """What a script says, both streams, whatever its status."""
    return machine.ssh(
        f"sudo sh -c {shlex.quote(f'({script}) 2>&1 || true')}", timeout_s=600
    ).strip()


def install(machine: vm.Machine) -> dict[str, str]:
    """`pip install` in environments that people make; what the module says of its place."""
    said = {}
    for path in ENVIRONMENTS:
        made = f"python3 -m venv --without-pip {path}"
        got = (
            f"PYTHONPATH={TOOLS} {path}/bin/python -m pip install --no-index --quiet "
            f"{TOOLS}/{WHEEL}"
        )
        user = (
            machine.ssh if path.startswith("/home") else lambda command: as_root(machine, command)
        )
        said[path] = user(f"{made} && {got} && {path}/bin/python -c {shlex.quote(ASK)}").strip()
    return said


def imported(machine: vm.Machine) -> dict[str, str]:
    return {
        path: as_root(machine, f"{path}/bin/python -c {shlex.quote(ASK)}") for path in ENVIRONMENTS
    }


def write(machine: vm.Machine) -> dict[str, str]:
    return {path: as_root(machine, f"echo mine > {path}") for path in (*WRITTEN, *GONE, *REFUSED)}


def read(machine: vm.Machine) -> dict[str, str]:
    return {path: as_root(machine, f"cat {path}") for path in (*WRITTEN, *GONE, *REFUSED)}


def containers(machine: vm.Machine) -> dict[str, str]:
    """An image that is made, saved, removed and loaded again, and a container of it that writes."""
    return {
        "storage": as_root(
            machine, "docker info --format '{{.Driver}}'; findmnt -no FSTYPE -T /var/lib/docker"
        ),
        "loaded": as_root(
            machine,
            "cd / && tar -c usr/lib/klibc usr/lib/klibc-*.so | docker import - "
            f"{IMAGE} "
            f">/dev/null && docker save -o /var/tmp/image.tar {IMAGE} && docker rmi "
            f"{IMAGE} >/dev/null"
            " && docker load -q -i /var/tmp/image.tar",
        ),
        "ran": as_root(
            machine, f"{CONTAINER} 'echo mine > /written && read said < /written && echo $said'"
        ),
    }


def main() -> None:
    """The facts of both boots; the disk after the first one stays as `again.raw`."""
    folder = guest.prepare()
    (folder / "tools").mkdir()
    tools = make_tools(folder / "tools")
    with guest.booted(folder) as machine:
        guest.put(machine, tools, TOOLS)
        before: dict[str, Any] = {"installed": install(machine), "written": write(machine)}
        docker = bool(as_root(machine, "command -v docker"))
        before |= containers(machine) if docker else {}
        audit = as_root(
            machine,
            "command -v ausearch >/dev/null && touch /etc/sudoers.d/golden-probe && "
            "sleep 1 && "
            "ausearch --input-logs -k rights -i | grep -c golden-probe",
        )
        clean = guest.turn_off(machine, folder, "again.raw")
    with guest.booted(folder, disk=folder / "again.raw") as machine:
        after = {
            "imported": imported(machine),
            "read": read(machine),
            "status": as_root(machine, "veritysetup status root"),
            "state": as_root(
                machine, "systemctl is-system-running --wait; systemctl --failed --no-legend"
            ),
            "ran": as_root(machine, f"{CONTAINER} 'echo again'") if docker else "",
        }
    guest.tell(folder, before=before, after=after, clean=clean, audit=audit)


if __name__ == "__main__":
    main()
