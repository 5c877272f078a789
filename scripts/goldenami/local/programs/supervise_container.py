"""Keep one container until told to end: `python -m goldenami.local.programs.supervise_container
PLAN`."""

from __future__ import annotations

import math
import signal
import sys
from pathlib import Path

from goldenami.core import records, shell
from goldenami.core.process import ProcessId
from goldenami.core.wait import wait_until
from goldenami.local.machine import container
from goldenami.local.programs.run_container import UP_FILE
from goldenami.local.sandbox import namespaces
from goldenami.model.builds.plans import BakePlan, ContainerAccess

_CONNECT = Path(__file__).parents[1] / "sandbox/connect.py"


def main() -> None:
    """Start the container's namespaces, say how to reach it, wait."""
    plan_path = Path(sys.argv[1])
    work = plan_path.parent
    # image/bake/molecule.py ends the container by a SIGTERM to this process.
    (work / "pid").write_text(str(ProcessId.current()), encoding="utf-8")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log = records.read(plan_path, BakePlan).log
    with namespaces.own_cgroup() as cgroup:
        argv = shell.python_argv("goldenami.local.programs.run_container", str(plan_path))
        process = namespaces.start(argv, cgroup=cgroup, log=log)
        try:
            wait_until(
                lambda: process.poll() is not None or (work / UP_FILE).exists() or None,
                math.inf,
                0.05,
            )
            if process.poll() is None:
                _announce(work, process.pid)
            sys.exit(process.wait())
        finally:
            shell.stop(process, grace_s=0)


def _announce(work: Path, pid: int) -> None:
    """Write how to reach the container."""
    # `pid` is unshare's: it stays outside the pid namespace, but is in the network namespace.
    proxy = f"nsenter --target {pid} --net {sys.executable} {_CONNECT} %h %p"
    records.write(
        work / "ready.json",
        ContainerAccess(address=container.ADDRESS, ssh_key=work / "ssh_key", proxy_command=proxy),
    )


if __name__ == "__main__":
    main()
