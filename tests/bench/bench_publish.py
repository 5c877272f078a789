"""What publishing and rolling back cost, against the emulator: calls and seconds by command. `make bench-publish`.

Prints a table and writes build/bench/publish.json. Seconds are those of the whole command, from a process that has
imported everything; server and client share the machine's cores, so compare figures of one run only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from goldenami.core.records import canonical, write_text
from support.aws.kill_proxy import KillProxy
from support.builds import builds
from support.builds.builds import IMAGE

ROOT = Path(__file__).resolve().parents[2]
REGIONS = ("us-east-1", "us-west-2", "us-east-2", "eu-west-1", "eu-central-1", "ap-northeast-1", "ap-southeast-2",
           "ca-central-1")
TRANSFERS = ("ebs:PutSnapshotBlock",)
"""Calls whose number is the disk's, not the command's."""


def measure(kill_proxy: KillProxy, root: Path, what: str, *args: str) -> dict[str, Any]:
    """Run a command; returns its seconds and calls."""
    began = time.monotonic()
    code, text = kill_proxy.run(root, *args)
    seconds = time.monotonic() - began
    if code:
        raise SystemExit(f"{what} ended with {code}:\n{text}")
    calls = Counter[str]()
    for (action, _), count in kill_proxy.calls().items():
        calls[action] += count
    return {"command": what, "seconds": round(seconds, 2), "calls": dict(calls),
            "calls_total": sum(count for action, count in calls.items() if action not in TRANSFERS)}


def life(kill_proxy: KillProxy, folder: Path, regions: int) -> list[dict[str, Any]]:
    """The commands of an image's life in so many regions."""
    root = builds.copy_definitions(folder / f"in-{regions}")
    builds.define(root, f"publish: {{regions: [{', '.join(REGIONS[:regions])}]}}\n")
    first = builds.build(root, 1)
    rows = [measure(kill_proxy, root, "first publish", "publish", IMAGE, "--allow-missing-families"),
            measure(kill_proxy, root, "publish of nothing new", "publish", IMAGE)]
    builds.build(root, 2)
    rows += [measure(kill_proxy, root, "publish of the next", "publish", IMAGE, "--allow-missing-families"),
             measure(kill_proxy, root, "rollback", "rollback", IMAGE),
             measure(kill_proxy, root, "rollback to a name", "rollback", IMAGE, "--to", first.name)]
    return [{"regions": regions, **row} for row in rows]


def main() -> None:
    """Measure in two regions and in eight."""
    emulator = subprocess.Popen([sys.executable, "-m", "ec2_emulator", "--port", "0"], stdout=subprocess.PIPE,
                                text=True)
    assert emulator.stdout is not None
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true",
                   "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    try:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["GOLDEN_CACHE"] = f"{folder}/cache"
            kill_proxy = KillProxy(emulator.stdout.readline().strip().partition("=")[2])
            rows = []
            for regions in (2, 8):
                rows += life(kill_proxy, Path(folder), regions)
                kill_proxy.reset()
            kill_proxy.close()
    finally:
        emulator.terminate()
        emulator.wait()
    print(f"{'regions':>7}  {'command':<24}{'seconds':>8}{'calls':>7}")
    for row in rows:
        print(f"{row['regions']:>7}  {row['command']:<24}{row['seconds']:>8.2f}{row['calls_total']:>7}")
    write_text(ROOT / "build/bench/publish.json", canonical(rows))


if __name__ == "__main__":
    main()
