"""What goes on on each recorded machine and its peer, as shell: real programs, and people who use them."""

from __future__ import annotations

from dataclasses import dataclass

CLIENT = """
SSH="$PROGRAMS/usr/bin/ssh -F none -i $KEYS/key -o StrictHostKeyChecking=no -o LogLevel=error"
SSH="$SSH -o UserKnownHostsFile=/dev/null"
HOST=root@10.99.0.1
until nc -z 10.99.0.1 22 2>/dev/null || $SSH $HOST true; do sleep 0.5; done
slowly() { while read -rN1 letter; do printf '%s' "$letter"; sleep 0.$((RANDOM % 6 + 1)); done; }
peer() { $PYTHON -m support.idle.peers "$@"; }
"""
LAB = """
cd /root; person env HOME=/root JUPYTER_TOKEN=secret $PYTHON -m jupyterlab --allow-root --no-browser \\
    --ip=0.0.0.0 --port=8888 --ServerApp.root_dir=/root >/root/lab.log 2>&1
"""
LAB_INSIDE = LAB.replace(
    "person env HOME=/root",
    "mkdir -p /srv/in; person unshare --pid --fork --mount-proc env HOME=/tmp/in",
)
"""A container's home is not among those of the machine, so nobody can ask this server for its word."""
EDITOR = """
cd /root; person node $EDITOR/out/server-main.js --host 0.0.0.0 --port 8888 --telemetry-level off \\
    --without-connection-token --accept-server-license-terms >/root/editor.log 2>&1
"""
FILES = """
head -c 60000000 /dev/urandom > /root/data; mkdir /run/far
printf '%s\\n' '/usr/lib/openssh/sftp-server | $PYTHON -m support.idle.jobs trickle' > /run/slow
(enter system.slice/ssh.service; exec sshfs -f -o ssh_command="bash /run/slow" far:/root /run/far) &
until [ -e /run/far/data ]; do sleep 0.5; done
person $PYTHON -m support.idle.jobs files /run/far/data
"""
"""A network's file system of 40 kB/s."""


@dataclass(frozen=True)
class Scene:
    """Commands on the machine, and on its peer; seconds until the recording begins."""

    machine: str = ""
    peer: str = ""
    settle_s: float = 12


def _job(*names: str) -> Scene:
    return Scene("".join(f"person $PYTHON -m support.idle.jobs {name}\n" for name in names))


def _asked(job: str, service: str) -> Scene:
    return Scene(f"sleep 6; person $PYTHON -m support.idle.jobs {job}\n", f"peer {service}")


def _disk(job: str, throttle: str) -> Scene:
    """A job whose disk is slow: a loop device, held back by its cgroup."""
    return Scene(f"""
disk=$(losetup -f --show $SCRATCH/disk) && echo ${{disk#/dev/}} > /run/disk
mkdir -p /run/v1 && mount -t cgroup -o blkio none /run/v1 && mkdir -p /run/v1/$SCENE
numbers=$(cat /sys/block/$(cat /run/disk)/dev)
echo "$numbers {throttle.split()[1]}" > /run/v1/$SCENE/blkio.throttle.{throttle.split()[0]}
(sleep 2; losetup -d $disk) & # it goes with its last user
(echo $BASHPID > /run/v1/$SCENE/cgroup.procs
 enter user.slice/user-1000.slice/session-1.scope; exec $PYTHON -m support.idle.jobs {job} $disk) &
""")


def _lab(mode: str, lab: str = LAB) -> Scene:
    return Scene(lab, f"peer browser {mode} http://10.99.0.1:8888", settle_s=100)


_TUNNEL = "$SSH -N -o ServerAliveInterval=15 -L 9999:127.0.0.1:8888 $HOST & sleep 3; "
_CONTAINER = (
    "(enter user.slice/user-1000.slice/session-1.scope; exec unshare --pid --fork --mount-proc "
    "$PYTHON -m support.idle.jobs {job}) &\n"
)


def _editor(mode: str, tunnel: str = "", port: str = "10.99.0.1:8888") -> Scene:
    commit = "$(grep -o '\"commit\": *\"[0-9a-f]*' $EDITOR/product.json | grep -o '[0-9a-f]*$')"
    return Scene(EDITOR, f"{tunnel}peer page {mode} http://{port} {commit}", settle_s=40)


SCENES = {
    # --- people ---
    "ssh-types": Scene(
        peer="(while :; do echo 'ls -l /usr | head -3' | slowly; sleep 5; done) | $SSH -tt $HOST"
    ),
    "ssh-types-seldom": Scene(
        peer="(while :; do echo uptime | slowly; sleep 200; done) | $SSH -tt $HOST"
    ),
    "ssh-tmux": Scene(
        peer="(echo 'tmux new -s work'; while :; do echo 'echo hello' | slowly; sleep 20; done) "
        "| TERM=xterm $SSH -tt $HOST"
    ),
    "ssh-vim": Scene(
        peer="(echo 'vim /root/train.py'; sleep 3; printf i; while :; do "
        "echo 'loss = model(batch)' | slowly; sleep 10; done) | TERM=xterm $SSH -tt $HOST"
    ),
    "ssh-pdb": Scene(
        peer="(echo \"$PYTHON -m pdb -c next /usr/lib/python3*/this.py\"; while :; do echo 'p 1+1' | slowly; "
        "sleep 30; done) | $SSH -tt $HOST"
    ),
    "sftp-saves": Scene(
        peer="head -c 5000 /dev/urandom | base64 > /tmp/save.$$; (while :; do "
        'echo "put /tmp/save.$$ /root/save.py"; sleep 50; done) '
        "| $PROGRAMS/usr/bin/sftp -b - -S $PROGRAMS/usr/bin/ssh -F none -i $KEYS/key "
        "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@10.99.0.1"
    ),
    "ssh-shell-edits": Scene(
        peer="(while :; do printf 'cat > /root/a.py <<END\\n'; head -c 3000 /dev/urandom "
        "| base64; echo END; sleep 25; done) | $SSH $HOST bash"
    ),
    "ssh-slow-upload": Scene(
        peer="(while :; do head -c 20000 /dev/urandom; sleep 1; done) | $SSH $HOST 'cat >/dev/null'"
    ),
    "lab-runs": _lab("runs"),
    "lab-edits": _lab("edits"),
    "lab-sleeps": _lab("sleeps"),
    "lab-asks": Scene(LAB, "peer api 45 & peer browser asks http://10.99.0.1:8888", settle_s=100),
    "lab-terminal": _lab("terminal"),
    "lab-tunnel-runs": Scene(
        LAB.replace("0.0.0.0", "127.0.0.1"),
        _TUNNEL + "peer browser runs http://127.0.0.1:9999",
        settle_s=100,
    ),
    "lab-container-edits": _lab("edits", LAB_INSIDE),
    "editor-saves": _editor("saves"),
    "editor-tunnel-saves": _editor("saves", _TUNNEL, "127.0.0.1:9999"),
    "editor-forgotten": _editor("rests"),
    "editor-tunnel-forgotten": _editor("rests", _TUNNEL, "127.0.0.1:9999"),
    # --- jobs ---
    "loader-bytes": _disk("direct", "read_bps_device 1000000"),
    "loader-requests": _disk("random", "read_iops_device 100"),
    "loader-mapped": _disk("mapped", "read_bps_device 500000"),
    "slow-files": Scene(FILES),
    "asks-slowly": _asked("ask http://10.99.0.2:9000", "api 30"),
    "asks-at-once": _asked("ask_many http://10.99.0.2:9000", "api 20"),
    "asks-by-curl": Scene(
        "sleep 6; (enter user.slice/user-1000.slice/session-1.scope; while :; do "
        "curl -s http://10.99.0.2:9000; sleep 2; done) &\n",
        "peer api 50",
    ),
    "asks-locally": Scene(
        "person $PYTHON -m support.idle.peers api 25\nsleep 3\n"
        "person $PYTHON -m support.idle.jobs ask http://127.0.0.1:9000\n"
    ),
    "downloads-slowly": Scene(
        "sleep 6; (enter user.slice/user-1000.slice/session-1.scope; "
        "curl -s --limit-rate 20k -o /dev/null http://10.99.0.2:9000/big) &\n",
        "peer api 0",
    ),
    "serves": Scene(
        "person $PYTHON -m support.idle.jobs serve\n", "peer ask_often http://10.99.0.1:8000"
    ),
    "container-works": Scene(_CONTAINER.format(job="tenth")),
    "container-asks": Scene(
        "sleep 6\n" + _CONTAINER.format(job="ask http://10.99.0.2:9000"), "peer api 30"
    ),
    "one-thread": _job("compute"),
    "no-call-compute": Scene("person $SCRATCH/native compute\n"),
    "makes": Scene(
        "(enter user.slice/user-1000.slice/session-1.scope; while :; do echo 'int x;' "
        "| cc -O2 -c -x c - -o /dev/null; $PYTHON -c 'import json, ssl'; done) >/dev/null &\n"
    ),
    "bursts": _job("bursts"),
    "ranks-share-memory": Scene("person $SCRATCH/native ranks\n"),
    "ranks-by-socket": Scene("person $SCRATCH/native exchange\n"),
    "cron-trains": Scene(
        "(enter system.slice/cron.service; exec $PYTHON -m support.idle.jobs compute) &\n"
    ),
    # --- nobody ---
    "nobody": Scene("(enter system.slice/cron.service; exec cron -f) &\n"),
    "lab-closed": _lab("once"),
    "lab-forgotten": _lab("idle"),
    "lab-tunnel-forgotten": Scene(
        LAB.replace("0.0.0.0", "127.0.0.1"),
        _TUNNEL + "peer browser idle http://127.0.0.1:9999",
        settle_s=100,
    ),
    "lab-container-closed": _lab("once", LAB_INSIDE),
    "lab-container-forgotten": _lab("idle", LAB_INSIDE),
    "files-hang": Scene(FILES + "sleep 3; pkill -STOP -x sftp-server\n", settle_s=20),
    "debugger-stopped": Scene(
        "(enter user.slice/user-1000.slice/session-1.scope; exec gdb -q -batch -ex 'break nanosleep' "
        "-ex run -ex 'shell sleep 3000' --args sleep 1000) >/dev/null 2>&1 &\n"
        "person $PYTHON -m support.idle.jobs compute\nsleep 3; kill -STOP $!\n"
    ),
    "pdb-in-tmux": Scene(
        "(enter user.slice/user-1000.slice/session-1.scope; "
        'TERM=xterm tmux new -d -s a "$PYTHON -m pdb -m this") &\n'
    ),
    "tmux-forgotten": Scene(
        "(enter user.slice/user-1000.slice/session-1.scope; TERM=xterm tmux new -d -s a 'vim /root/a'; "
        "TERM=xterm tmux new -d -s b top) &\n"
    ),
    "ssh-forgotten": Scene(peer="sleep infinity | $SSH -tt -o ServerAliveInterval=15 $HOST"),
    "ssh-watches": Scene(
        peer='(echo "watch -n 2 $SCRATCH/native figures"; sleep infinity) '
        "| TERM=xterm $SSH -tt -o ServerAliveInterval=15 $HOST"
    ),
    "watch-in-tmux": Scene(
        "(enter user.slice/user-1000.slice/session-1.scope; TERM=xterm tmux new -d -s a "
        '"watch -n 2 $SCRATCH/native figures") &\n'
    ),
    "spins-in-calls": Scene("person $SCRATCH/native spin\n"),
    "spins-outside": Scene("person $SCRATCH/native busy\n"),
    "hourly-cron": Scene(
        "(enter system.slice/cron.service; exec $PYTHON -m support.idle.jobs cron) &\n"
    ),
    "hourly-timer": Scene(
        "mkdir -p /etc/systemd/system; touch /etc/systemd/system/backup.timer\n"
        "(enter system.slice/backup.service; exec $PYTHON -m support.idle.jobs cron) &\n"
    ),
    "serves-nobody": Scene(
        "person $PYTHON -m support.idle.jobs serve\n", "peer health http://10.99.0.1:8000"
    ),
    "container-idle": Scene(_CONTAINER.format(job="ticks")),
    "tail-in-tmux": Scene(
        "(enter user.slice/user-1000.slice/session-1.scope; touch /root/log; "
        "TERM=xterm tmux new -d -s a 'tail -f /root/log') &\n"
        "(while :; do date >> /root/log; sleep 20; done) &\n"
    ),
    "client-answered": _asked("keep http://10.99.0.2:9000", "api 0"),
    "nobody-scraped": Scene(
        "(enter system.slice/ssh.service; exec $PYTHON -m support.idle.jobs serve) &\n",
        "peer health http://10.99.0.1:8000",
    ),
}
