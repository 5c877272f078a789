"""Record machines' lives: `python -m support.idle.record MINUTES NAME...` from tests/, as root.

Each machine is a set of namespaces with a cgroup of its own, and a peer beyond a network cable,
from which people and other machines come. Its cgroup says what a whole machine says in /proc/stat
and /proc/pressure: others work here. Cgroups of version 2 are below /sys/fs/cgroup/unified.

By environment: PYTHON, of a virtual environment with jupyterlab and websocket-client; PROGRAMS, a
folder in which openssh's packages, sshfs and cron are unpacked; EDITOR, the folder `lib/vscode` of
npm's code-server; KEYS, with ssh-keygen's `key`, `key.pub` and `host`; SCRATCH, with `native` (of
native.c) and a file `disk` of some 100 MB; OUT, where recordings go.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from golden_idle import evidence, machine
from golden_idle.machine import Reading

from support.idle import recording, scenes

CGROUPS = Path("/sys/fs/cgroup/unified/golden-idle")
THROTTLES = Path("/sys/fs/cgroup/blkio")
"""Cgroups of version 1, where a machine's disk is held back."""
OWN = Path("/sys/fs/cgroup/system.slice/golden-idle.service")
SETUP = """
mount --make-rprivate /
mount -t tmpfs none /mnt && mkdir -p /mnt/up /mnt/work
mount -t overlay -o lowerdir=/etc,upperdir=/mnt/up,workdir=/mnt/work none /etc
mount -t overlay -o lowerdir=$PROGRAMS/usr:/usr none /usr
prefix=$($PYTHON -c 'import sys; print(sys.base_prefix)') # it may be in a home
mkdir /mnt/python && mount --bind $prefix /mnt/python
for folder in /root /home /run /tmp; do mount -t tmpfs none $folder; done
mkdir -p $prefix && mount --bind /mnt/python $prefix
mount -t devpts -o newinstance,ptmxmode=0666,gid=5,mode=620 none /dev/pts
mount --bind /dev/pts/ptmx /dev/ptmx
umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/system.slice/{golden-idle,ssh,cron,backup}.service
mkdir -p /sys/fs/cgroup/user.slice/user-1000.slice/session-1.scope /run/sshd /var/empty
id sshd >/dev/null 2>&1 || useradd -r -d /run/sshd -s /usr/sbin/nologin sshd
ip link set lo up
until ip link set cable up 2>/dev/null; do sleep 0.1; done
ip address add 10.99.0.1/24 dev cable
enter() { echo $BASHPID > /sys/fs/cgroup/$1/cgroup.procs; }
daemon() { unit=$1; shift; (enter system.slice/$unit.service; exec "$@") & }
person() { (enter user.slice/user-1000.slice/session-1.scope; exec "$@") & }
mkdir -p /root/.ssh; cp $KEYS/key.pub /root/.ssh/authorized_keys; chmod 700 /root /root/.ssh
cp $KEYS/host /run/host; chmod 600 /run/host
cat > /run/session <<'END'
echo $$ > /sys/fs/cgroup/user.slice/user-1000.slice/session-1.scope/cgroup.procs
[ -z "$SSH_ORIGINAL_COMMAND" ] || exec bash -c "$SSH_ORIGINAL_COMMAND"
exec bash -i
END
printf '%s\n' 'ForceCommand bash /run/session' 'UsePAM no' 'StrictModes no' 'SetEnv HOME=/root' \
    'Subsystem sftp /usr/lib/openssh/sftp-server' 'HostKey /run/host' > /run/sshd_config
daemon ssh /usr/sbin/sshd -D -e -f /run/sshd_config
"""
"""The command that sshd is led to puts a session into its cgroup, as pam_systemd does."""


def main() -> None:
    """Record the named scenes at the same time, or all of a batch."""
    if sys.argv[1] == "inside":
        _inside(sys.argv[2], float(sys.argv[3]))
        return
    minutes = float(sys.argv[1])
    started = [(name, _start(name, minutes)) for name in sys.argv[2:]]
    for name, process in started:
        print(name, process.wait(), flush=True)


def _start(name: str, minutes: float) -> subprocess.Popen[bytes]:
    """A process that records one scene."""
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from support.idle import record; record.one(sys.argv[1], float(sys.argv[2]))",
            name,
            str(minutes),
        ]
    )


def one(name: str, minutes: float) -> None:
    """Set up a machine and its peer, record, and remove both."""
    group = CGROUPS / name
    group.mkdir(parents=True, exist_ok=True)
    peer = ["unshare", "--net", "--pid", "--fork", "--kill-child", "sleep", "infinity"]
    started = [_run(["bash", str(_script(name, minutes, group))], name), _run(peer, name)]
    try:
        time.sleep(2)
        other = _cable(*started)
        said = ("ip link set lo up; ip link set cable up; ip address add 10.99.0.2/24 dev cable; "
                + scenes.CLIENT + scenes.SCENES[name].peer)
        started.append(_run(["nsenter", "-t", other, "-n", "bash", "-c", said], name))
        started[0].wait()
    finally:
        for process in reversed(started):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        time.sleep(1)
        inner = (path for path in group.rglob("*") if path.is_dir())
        for folder in (*sorted(inner, reverse=True), group, THROTTLES / name):
            with suppress(FileNotFoundError):
                folder.rmdir()


def _run(words: list[str], name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, env={**os.environ, "SCENE": name}, start_new_session=True)


def _script(name: str, minutes: float, group: Path) -> Path:
    """What makes the machine, and what runs as its first process."""
    script = Path(os.environ["SCRATCH"]) / f"{name}.sh"
    script.write_text(f"echo $$ > {group}/cgroup.procs\nexec unshare --net --pid --mount --ipc "
                      f"--cgroup --fork --kill-child --mount-proc bash {script}.inside\n",
                      encoding="utf-8")
    Path(f"{script}.inside").write_text(
        f"{SETUP}{scenes.SCENES[name].machine}\n(enter system.slice/golden-idle.service\n"
        f"exec $PYTHON -m support.idle.record inside {name} {minutes})\nkill -9 -1\n",
        encoding="utf-8")
    return script


def _cable(machine: subprocess.Popen[bytes], peer: subprocess.Popen[bytes]) -> str:
    """Put a network cable between both; the process in the peer's namespaces."""
    link, (here, there) = f"g{machine.pid}", (_children(each.pid)[0] for each in (machine, peer))
    subprocess.run(["ip", "link", "add", link, "type", "veth", "peer", "name", link + "p"],
                   check=True)
    for end, owner in ((link, here), (link + "p", there)):
        subprocess.run(["ip", "link", "set", end, "netns", owner, "name", "cable"], check=True)
    return there


def _children(pid: int) -> list[str]:
    while not (
        found := Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    ):
        time.sleep(0.1)
    return found


def _inside(name: str, minutes: float) -> None:
    """The agent's own readings and looks, in the machine's namespaces."""
    time.sleep(scenes.SCENES[name].settle_s)
    root, lines, earlier = Path("/"), list[str](), None
    until = time.monotonic() + minutes * 60 + 5
    number = 0
    while time.monotonic() < until:
        reading, look = _of_cgroup(machine.read(root)), None
        if number % 6 == 0:
            earlier = look = evidence.look(root, reading.at, earlier)
        lines.append(recording.encode(reading, look))
        number += 1
        time.sleep(max(0.0, 10 - (time.clock_gettime(time.CLOCK_BOOTTIME) - reading.at)))
    path = Path(os.environ["OUT"]) / f"{name}.jsonl"
    # The second look is the first that knows which threads run.
    path.write_text("\n".join(lines[6:]) + "\n", encoding="utf-8")


def _of_cgroup(found: Reading) -> Reading:
    """The reading with what is of this machine alone: its cgroup, its cable."""
    used, stalled = (
        _usage(Path("/sys/fs/cgroup")) - _usage(OWN),
        machine._stalled(Path("/sys/fs/cgroup/io.pressure")),
    )
    cable = Path("/proc/net/dev").read_text(encoding="ascii").partition("cable:")[2].split()
    return dataclasses.replace(
        found,
        busy_s=round(used, 4),
        idle_s=0.0,
        all_s=0.0,
        networks={"cable": int(cable[0]) + int(cable[8])},
        stalled_s=stalled,
        timers=dict(machine._timers(Path("/"))),
    )


def _usage(group: Path) -> float:
    return int((group / "cpu.stat").read_text(encoding="ascii").split()[1]) / 1e6


if __name__ == "__main__":
    main()
