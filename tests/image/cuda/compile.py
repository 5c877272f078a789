"""Runs on the image: prints as JSON what its CUDA compiler makes of a program for every
architecture.

argv: architectures joined by commas, source of the program. Needs only the standard library; writes
only to a temporary folder.
"""

import base64
import json
import re
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

ARCHITECTURES, SOURCE = sys.argv[1].split(","), sys.argv[2]


def shell(command: str) -> dict[str, object]:
    """What a login shell answers: the one that reads /etc/profile.d."""
    done = subprocess.run(["bash", "-lc", command], capture_output=True, text=True, check=False)
    return {"rc": done.returncode, "out": done.stdout.strip(), "err": done.stderr.strip()}


with tempfile.TemporaryDirectory() as folder:
    Path(folder, "add.cu").write_text(SOURCE)
    codes = " ".join(f"-gencode arch=compute_{one},code=sm_{one}" for one in ARCHITECTURES)
    built = shell(f"cd {folder} && nvcc --threads 0 {codes} -o add add.cu -lcublas")
    images = shell(f"cuobjdump --list-elf {folder}/add")
    program = Path(folder, "add").read_bytes() if built["rc"] == 0 else b""
    print(
        json.dumps(
            {
                "built": built,
                "images": sorted(set(re.findall(r"sm_(\d+)", str(images["out"])))),
                "ran": shell(f"{folder}/add"),
                "program": base64.b64encode(zlib.compress(program)).decode(),
            }
        )
    )
