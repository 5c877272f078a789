"""Print as JSON how a job that is stopped and started again ends, and how one that never stops.

argv: a command that runs a program in PyTorch's environment, in JSON; the job's program, whose
argument is its number of steps. Each job has a home of its own.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

RUN, PROGRAM = json.loads(sys.argv[1]), sys.argv[2]
EQUAL = """import sys, torch
saved = [torch.load(path) for path in sys.argv[1:]]
ends = [weights.values() for _, weights, *_ in saved]
assert all(torch.equal(*pair) for pair in zip(*ends, strict=True)), "the weights differ"
print(*(step for step, *_ in saved))"""


def home(folder: str, name: str) -> Path:
    """A home with a folder that is kept, for everybody."""
    path = Path(folder, name)
    (path / "keep").mkdir(parents=True)
    for each in (path.parent, path, path / "keep"):
        each.chmod(0o777)
    return path


def start(program: str, at: Path, *arguments: str) -> subprocess.Popen[str]:
    # A fixed number of threads: sums depend on it.
    environment = {**os.environ, "HOME": str(at), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*RUN, "python", "-B", "-c", program, *arguments],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
    )


def said(process: subprocess.Popen[str]) -> list[str]:
    out, _ = process.communicate()
    assert process.returncode == 0, f"{process.returncode}: {out}"
    return out.splitlines()


with tempfile.TemporaryDirectory() as folder:
    stopped, whole = home(folder, "stopped"), home(folder, "whole")
    job = start(PROGRAM, stopped, str(10**9))
    assert job.stdout is not None
    first = job.stdout.readline().strip()
    job.send_signal(signal.SIGTERM)
    last = said(job)[-1]
    steps = str(int(last.split()[-1]) + 100)
    resumed, once = (said(start(PROGRAM, at, steps)) for at in (stopped, whole))
    ends = [str(at / "keep/job.pt") for at in (stopped, whole)]
    print(
        json.dumps(
            {
                "first": first,
                "last": last,
                "resumed": resumed,
                "once": once,
                "ends": said(start(EQUAL, whole, *ends)),
            }
        )
    )
