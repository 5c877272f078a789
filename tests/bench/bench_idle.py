"""What golden-idle costs and how often it is wrong: memory, processor, decisions over traces. `make bench-idle`.

Prints tables and writes build/bench/idle.json. The agent runs on this machine's own counters at its own pace for
MINUTES, with metrics that nobody takes, so that boto3 is loaded; its figures are /proc's. Decisions are asked of each
sample of tests/support/idle/traces.py; the other rule is the average of five minutes that alarms on CPUUtilization use.
"""

from __future__ import annotations

import http.server
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from goldenami.core.records import canonical, write_text
from support.idle import machine, traces

ROOT = Path(__file__).resolve().parents[2]
MINUTES = int(os.environ.get("MINUTES", "5"))
MEMORY_MIB, CORE_PERCENT = 256, 1.0
"""The aims: the unit's MemoryMax, and a hundredth of a core."""
TICKS = os.sysconf("SC_CLK_TCK")


class _Accepts(http.server.BaseHTTPRequestHandler):
    """An account that takes everything and says nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def account() -> Iterator[dict[str, str]]:
    """The environment that leads to such an account."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Accepts)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_ACCESS_KEY_ID": "none",
           "AWS_SECRET_ACCESS_KEY": "none"}
    server.shutdown()


def used(pid: int) -> tuple[float, float]:
    """Seconds of processor and the most memory (MiB) of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / TICKS, peak / 1024


def costs() -> dict[str, float]:
    """The agent on this machine's own /proc and /sys, after its start."""
    with tempfile.TemporaryDirectory() as folder, account() as environment, \
            machine.metadata_service("i-0") as imds:
        here = machine.IdleMachine(Path(folder), protection_enabled=False)
        for name in ("proc", "sys", "dev"):
            (here.root / name).rename(here.root / f"unused-{name}")
            (here.root / name).symlink_to(f"/{name}")
        with here.agent(imds, speed=1, **environment) as agent:
            agent.wait(lambda state: state["instance"])  # boto3 is loaded
            before, _ = used(agent.process.pid)
            time.sleep(60 * MINUTES)
            after, memory = used(agent.process.pid)
    return {"start_s": before, "core_percent": 100 * (after - before) / (60 * MINUTES), "memory_mib": memory}


def main() -> None:
    """Measure, print, keep."""
    wrong = {trace.name: (traces.wrong(trace, traces.ours), traces.wrong(trace, traces.average))
             for trace in traces.TRACES}
    width = max(map(len, wrong))
    print(f"{'decisions that are wrong':<{width}}  ours  average of 5 minutes")
    for name, (ours, average) in wrong.items():
        print(f"{name:<{width}}  {ours:>4}  {average:>20}")
    found = costs()
    print(f"\n{MINUTES} minutes: {found['core_percent']:.2f} % of a core (aim {CORE_PERCENT:g}), at most "
          f"{found['memory_mib']:.0f} MiB (aim {MEMORY_MIB}), start {found['start_s']:.2f} s of processor")
    write_text(ROOT / "build/bench/idle.json", canonical({"minutes": MINUTES, **found, "wrong": wrong}))


if __name__ == "__main__":
    main()
