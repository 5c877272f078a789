"""`python -m goldenami.local.programs.benchmark PLAN`: a benchmark in two environments, in turns.

In turns, so that what else the machine does meets both alike; each run is a process of its own with one thread.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from goldenami.core import records, shell
from goldenami.core.errors import GoldenError, StageFailed, space
from goldenami.local import events
from goldenami.local.programs import build_wheel
from goldenami.local.vm.cpu import shown

SIDES = ("image", "generic")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def main() -> int:
    """Run the plan; an expected failure becomes an event and an exit status."""
    plan: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        with space(Path(plan["work"])), build_wheel.tree(plan) as root:
            for side in SIDES:
                build_wheel.environment(root, side, plan[side], Path(plan["log"]))
            result = _measure(plan, root)
    except GoldenError as error:
        return events.fail(error)
    records.write_text(Path(plan["work"]) / "result.json", records.canonical(result))
    return 0


def _measure(plan: dict[str, Any], root: Path) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for number in range(plan["rounds"]):
        for side in SIDES if number % 2 else SIDES[::-1]:  # neither is always the one that finds warm caches
            found[side].append(_run(plan, root, side))
        events.emit("say", text=f"{plan['name']}: round {number + 1} of {plan['rounds']}")
    return found


def _run(plan: dict[str, Any], root: Path, side: str) -> dict[str, float]:
    argv = ["chroot", str(root), "env", "-i", "HOME=/build", "TMPDIR=/tmp", "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8",
            "PYTHONPATH=/build/programs", *(f"{name}={value}" for name, value in ONE_THREAD.items()),
            f"/build/{side}/bin/python", "-B", f"/build/programs/{plan['name']}/bench.py"]
    try:
        return figures(shell.output(argv), plan["name"], side)
    except shell.CommandFailed as error:
        needs = plan["needs"][side] if error.status == -signal.SIGILL else []
        lacks = lacking(needs, Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        why = f": this machine's CPU lacks {', '.join(lacks)}" if lacks else ""
        raise StageFailed(f"the benchmark of {plan['name']} {error.message.partition(' ')[2]} with the {side} build"
                          f"{why}", tail=error.tail, hint="see roles/frameworks/files") from None


def figures(text: str, name: str, side: str) -> dict[str, float]:
    """The JSON object in the last line of a benchmark's output."""
    try:
        found: dict[str, float] = json.loads((text.splitlines() or [""])[-1])
    except ValueError:
        raise StageFailed(f"the benchmark of {name} prints no figures with the {side} build", tail=text,
                          hint="the last line of its bench.py has to be a JSON object of rates") from None
    return found


def lacking(needs: Collection[str], cpuinfo: str) -> list[str]:
    """Those of the features (GCC's names) that the machine of /proc/cpuinfo lacks."""
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "").split()
    return sorted(set(needs) - shown(flags, needs))


if __name__ == "__main__":
    sys.exit(main())
