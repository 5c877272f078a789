"""A scenario: the container of a launch, on a machine with Docker and golden_idle, before it is
turned off and after it.

The first boot names an image that is not there. Then one is made of a static program, and each way
to end it is tried: by itself, by a kill in the middle of a pull, a start and a run, by the agent
before an end, and by the power button. The second boot finds what another machine kept.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
from pathlib import Path
from typing import Any

import boto3
from goldenami.local.vm import vm

from support.aws.emulator import KEY, environment, running
from support.builds import guest
from support.builds.installs import as_root
from support.builds.tools import find
from support.idle.machine import REGION
from support.keep.machine import BUCKET, PLACE, TEAM
from support.waiting import until

UNIT, FILE = "golden-container", "/etc/golden-container.json"
HOST = "10.0.2.2"
"""This machine's loopback, as QEMU's user mode network shows it to its guest."""
KEPT = "/home/debian/keep"
ELSEWHERE = b"of another machine"
STAYS = {"image": "job", "command": ["0", "stay"]}
UP = "systemctl is-system-running --wait; systemctl --failed --plain --no-legend"
LIMIT_S = 600.0
LEAST_DRIVER = "goldenami.least-driver=570.26"
DRIVER = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue"
JOB = """\
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
void make(const char *path) { close(open(path, O_CREAT | O_WRONLY, 0644)); }
void told(int number) { (void)number; make("/keep/told"); _exit(0); }
int main(int count, char **words) {
    signal(SIGTERM, told);
    printf("made: %d, keep: %d, scratch: %d\\n", access("/made", F_OK) == 0,
           access("/keep/result", F_OK) == 0, access("/scratch/dataset", F_OK) == 0);
    make("/made");
    make("/keep/result");
    fflush(stdout);
    if (count > 2) for (;;) pause();
    return count > 1 ? atoi(words[1]) : 0;
}
"""
"""What it makes in the container is new each time, what it makes in /keep stays. Its first word is
its exit status; with two it stays until it is told to end, and says so in /keep."""
USER_DATA = "#cloud-config\n" + json.dumps(
    {
        # Each boot's, as a stop blanks local disks.
        "bootcmd": ["mkdir -p /scratch && mount -t tmpfs tmpfs /scratch && touch /scratch/dataset"],
        "write_files": [{"path": FILE, "content": json.dumps(STAYS)}],
    }
)
TELL = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path("/usr/local/bin/golden-idle").resolve().parent))
from golden_idle import jobs
told = jobs.running(Path("/"))
list(map(jobs.tell, told))
print(len(told))
"""
"""What the agent does with jobs before an end that AWS announces."""


def compile_job(folder: Path) -> Path:
    """The program, for an image of nothing else."""
    (folder / "job.c").write_text(JOB, encoding="utf-8")
    subprocess.run([find("gcc"), "-static", "-o", folder / "job", folder / "job.c"], check=True)
    (folder / "job.c").unlink()
    return folder / "job"


class Launch:
    """The machine's unit."""

    def __init__(self, machine: vm.Machine) -> None:
        self._machine = machine

    def root(self, script: str) -> str:
        """What a script says as root, whatever its status."""
        return as_root(self._machine, script)

    def state(self) -> str:
        """Such as `failed exit-code 3`."""
        asked = "ActiveState Result ExecMainStatus"
        values = f"for name in {asked}; do systemctl show {UNIT} -P $name; done"
        return " ".join(self.root(values).split())

    def lines(self) -> list[str]:
        """What the unit has said since it was last started: the container, its engine and it."""
        identifier = self.root(f"systemctl show {UNIT} -P InvocationID")
        return self.root(f"journalctl -q -o cat _SYSTEMD_INVOCATION_ID={identifier}").splitlines()

    def names(self, settings: dict[str, Any]) -> None:
        self.root(f"echo {shlex.quote(json.dumps(settings))} > {FILE}")

    def ended(self, **settings: Any) -> dict[str, Any]:
        """How a container of these settings ended, and what the unit said."""
        self.names({"image": "job", **settings})
        self.root(f"systemctl restart {UNIT}")
        return self.over()

    def over(self) -> dict[str, Any]:
        """How the unit ended, once it has."""
        until("an end", lambda: self._is("inactive", "failed"), limit_s=LIMIT_S, poll_s=1)
        return {"state": self.state(), "lines": self.lines()}

    def _is(self, *states: str) -> bool:
        return self.state().split()[0] in states

    def runs(self) -> str:
        """The id of the only container there is, once it has said something."""
        until("its line", lambda: "made:" in "".join(self.lines()), limit_s=LIMIT_S, poll_s=1)
        return self.root("docker ps --all --quiet")

    def kill(self) -> None:
        """As whoever is short of memory does: the program and its engine's client."""
        self.root(f"systemctl kill --signal=KILL {UNIT}")
        until("an end", lambda: self._is("failed"), limit_s=LIMIT_S, poll_s=1)
        self.root(f"systemctl reset-failed {UNIT}")

    def fresh(self) -> list[str]:
        """What the next start's container says, and the ids of all that are there then."""
        self.names(STAYS)
        self.root(f"systemctl start {UNIT}")
        return [*self.runs().split(), *self.lines()]


def install(launch: Launch, machine: vm.Machine, folder: Path) -> None:
    """Make two images: `job`, and `newer`, which asks for a newer driver than there is."""
    (folder / "files").mkdir()
    compile_job(folder / "files")
    guest.put(machine, folder / "files", "/var/tmp/job")
    packed = "tar -C /var/tmp/job -c job | docker import"
    launch.root(f"""{packed} --change 'ENTRYPOINT ["/job"]' - job""")
    launch.root(f"{packed} --change 'LABEL {LEAST_DRIVER}' - newer")


def refused(launch: Launch) -> dict[str, Any]:
    """Containers that end, or cannot run."""
    said = {
        "at once": launch.ended(command=["0"]),
        "with an error": launch.ended(command=["3"]),
        "no such image": launch.ended(image="none"),
        "no driver": launch.ended(gpus=True),
    }
    module = "/proc/driver/nvidia"
    launch.root(
        f"mount -t tmpfs tmpfs /proc/driver && mkdir {module} && echo '{DRIVER}' > {module}/version"
    )
    said["newer driver"] = launch.ended(image="newer", gpus=True)
    launch.root("umount /proc/driver")
    return said


def killed(launch: Launch) -> dict[str, Any]:
    """What the start after a kill has."""
    launch.root(f"systemctl reset-failed {UNIT}")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # A registry that takes the connection and says nothing.
        launch.names({"image": f"{HOST}:{silent.getsockname()[1]}/job"})
        launch.root(f"systemctl start {UNIT}")
        with silent.accept()[0]:
            launch.kill()
    told = {"pull": launch.fresh()}
    launch.root(f"systemctl stop {UNIT}")
    launch.root(f"systemctl start {UNIT}; until docker ps -aq | grep .; do :; done")
    launch.kill()
    told["start"] = launch.fresh()
    launch.kill()
    told["run"] = launch.fresh()
    return told


def moves(launch: Launch, port: str) -> None:
    """What the job looks for is in the bucket, as another machine left it, and no longer here. The
    agent does not run: only the container's own start brings it back."""
    s3 = boto3.client("s3", REGION)
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key=f"{TEAM}/debian/result", Body=ELSEWHERE)
    way = [f"region={REGION}", f"endpoint_url=http://{HOST}:{port}"]
    way += [f"aws_access_key_id={KEY}", "aws_secret_access_key=none"]
    settings = json.dumps({"keep": PLACE})
    launch.root(
        f"rm {KEPT}/result; mkdir /home/debian/.aws; chmod 755 /home/debian/.aws; "
        f"printf '%s\\n' '[default]' {' '.join(way)} > /home/debian/.aws/config; "
        f"umask 077; echo {shlex.quote(settings)} > /etc/golden-idle.local.json; "
        "systemctl disable golden-idle"
    )


def main() -> None:
    """The facts of both boots."""
    folder = guest.prepare()
    with running() as emulator:
        os.environ.update(environment(emulator.url, folder))
        boots(folder, emulator.url.rpartition(":")[2])


def boots(folder: Path, port: str) -> None:
    with guest.booted(folder, user_data=USER_DATA) as machine:
        launch = Launch(machine)
        machine.ssh("sudo cloud-init status --wait >/dev/null || true", timeout_s=600)
        told: dict[str, Any] = {"absent": launch.over()}
        install(launch, machine, folder)
        told |= {"refused": refused(launch), "killed": killed(launch)}
        told["jobs"] = launch.root(f"python3 -c {shlex.quote(TELL)}")
        told["told"] = launch.over() | {"kept": launch.root(f"ls {KEPT}; rm {KEPT}/told")}
        launch.fresh()
        moves(launch, port)
        told["clean"] = guest.turn_off(machine, folder, "again.raw")
    with guest.booted(folder, disk=folder / "again.raw", user_data=USER_DATA) as machine:
        launch = Launch(machine)
        told["again"] = [*launch.runs().split(), *launch.lines()]
        told["kept"] = launch.root(f"ls {KEPT}; cat {KEPT}/result")
        told["state"] = launch.root(UP)
    guest.tell(folder, **told)


if __name__ == "__main__":
    main()
