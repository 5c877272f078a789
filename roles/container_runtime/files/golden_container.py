#!/usr/bin/python3 -I
"""Run the container that the image or the launch names, a new one at each boot.

    golden-container ENGINE [--root FOLDER]
    golden-container check FILE

/etc/golden-container.json has `image`, and may have `command` (words) and `gpus` (true). The
container goes when it ends; /scratch, where local disks are mounted there, and the first user's
~/keep, as /keep, stay. Where ~/keep is kept, what other machines left there comes first. Before
the machine's end the container is told. FOLDER is for tests: a tree that is taken for `/`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FILE, NAME = "etc/golden-container.json", "golden-container"
LEAST_DRIVER = "goldenami.least-driver"
"""The label of an image of `golden container`: the oldest driver that runs its CUDA."""
FIRST_USER = 1000
REASONS = {
    125: "the engine did not start it, or was restarted",
    126: "its command is no program",
    127: "its image has no such command",
}
"""Texts by the exit status of `docker run` and `podman run`."""


class Refused(Exception):
    """The container cannot run. The text is one line that says what to do."""


def settings(path: Path) -> dict[str, Any]:
    """Return the file's values. Raises Refused for the first one that is wrong."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        unknown = sorted(values.keys() - {"image", "command", "gpus"})
    except (OSError, ValueError, AttributeError) as error:
        raise Refused(
            f'{path} is no JSON object, such as {{"image": "golden-ml"}}: {error}'
        ) from None
    if unknown:
        raise Refused(f"{path}: unknown key `{unknown[0]}`; known: command, gpus, image")
    values = {"image": "", "command": [], "gpus": False, **values}
    image, command = values["image"], values["command"]
    # A name that begins with - would be an option of the engine.
    if not isinstance(image, str) or not re.fullmatch(r"\w[\w./:@-]*", image):
        raise Refused(f"{path}: `image` has to be an image's name, such as golden-ml")
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise Refused(f'{path}: `command` has to be a list of words, such as ["python3", "a.py"]')
    if not isinstance(values["gpus"], bool):
        raise Refused(f"{path}: `gpus` has to be true or false")
    return values


def labels(engine: str, image: str) -> dict[str, str]:
    """Return the image's labels; pull it if the engine lacks it and its name has a registry."""
    inspect = [engine, "image", "inspect", "--format", "{{json .Config.Labels}}", image]
    found = subprocess.run(inspect, capture_output=True, text=True, check=False)
    if found.returncode:
        # Without a registry, the engine would take whatever has that name on a public one.
        if not re.match(r"(localhost|[^/]*[.:][^/]*)/", image):
            raise Refused(
                f"{image} is not on this machine: `{engine} images` lists what is; a "
                "name with its registry would be pulled"
            )
        pulled = subprocess.run([engine, "pull", "--quiet", image], check=False)
        if pulled.returncode:
            raise Refused(f"{image} is not on this machine, and cannot be pulled: see above")
        found = subprocess.run(inspect, capture_output=True, text=True, check=True)
    return json.loads(found.stdout) or {}


def check_driver(root: Path, image: str, least: str) -> None:
    """Raise Refused if the image asks for a newer driver than the one that is loaded."""
    path = root / "proc/driver/nvidia/version"
    loaded = re.search(
        r"^NVRM version:.*?\s(\d+(?:\.\d+)+)\s", path.read_text() if path.is_file() else ""
    )
    if loaded is None:
        raise Refused(
            f"{image} wants GPUs, and no driver is loaded: see `systemctl status golden-cdi`"
        )
    wanted, present = (list(map(int, re.findall(r"\d+", text))) for text in (least, loaded[1]))
    if present < wanted:
        raise Refused(
            f"{image} asks for driver {least}, and {loaded[1]} is loaded: launch a newer "
            "machine image, or name an older container image"
        )


def mounts(root: Path) -> list[str]:
    """Return the engine's options for the folders whose files stay."""
    folders = {}
    if re.search(r"^\S+ /scratch ", (root / "proc/mounts").read_text(), re.MULTILINE):
        folders["/scratch"] = root / "scratch"
    for line in (root / "etc/passwd").read_text().splitlines():
        name, _, uid, _, _, home, _ = line.split(":")
        keep = root / home.lstrip("/") / "keep"
        # Not a link: its owner could have root mount any folder.
        if int(uid) == FIRST_USER and keep.is_dir() and not keep.is_symlink():
            restore(root, name)
            folders["/keep"] = keep
    return [f"--volume={path}:{place}" for place, path in folders.items()]


def restore(root: Path, user: str) -> None:
    """Bring back what the user kept on other machines; a job that resumes looks for it at once."""
    program, place = root / "usr/local/bin/golden-keep", root / "run/golden-keep/place"
    if not program.exists() or subprocess.run([program, "place"], check=False).returncode:
        return
    if place.read_text(encoding="utf-8"):
        # Without an answer of the bucket in a minute, it starts all the same.
        command = ["runuser", "--user", user, "--", program, "restore", "--wait", "60"]
        if subprocess.run(command, check=False).returncode:
            print(f"{NAME}: /keep may lack files: see above", file=sys.stderr)


def run(engine: str, root: Path) -> int:
    """Run the container until it ends. Return its exit status."""
    values = settings(root / FILE)
    image = values["image"]
    least = labels(engine, image).get(LEAST_DRIVER, "")
    options = mounts(root)
    if values["gpus"]:
        check_driver(root, image, least)
        options.append("--device=nvidia.com/gpu=all")
    # One that a power failure left would have the name.
    subprocess.run([engine, "rm", "--force", NAME], capture_output=True, check=False)
    # The output comes here, and so to the journal; the engine need not keep it, too.
    command = [engine, "run", "--rm", f"--name={NAME}", "--ipc=host", "--log-driver=none"]
    # What is there golden_idle tells of the machine's end. Without systemd there are no slices.
    if (root / "run/systemd/system").is_dir():
        command.append("--cgroup-parent=keep.slice")
    began = time.monotonic()
    status = subprocess.run([*command, *options, image, *values["command"]], check=False).returncode
    reason = REASONS.get(status, f"exit status {status}")
    print(
        f"{NAME}: {image} has ended after {time.monotonic() - began:.0f} s: {reason}",
        file=sys.stderr,
    )
    return status


def main(arguments: list[str]) -> int:
    """Run the command; a refusal is one line."""
    try:
        if arguments[0] == "check":
            settings(Path(arguments[1]))
            return 0
        return run(arguments[0], Path(arguments[2] if len(arguments) > 1 else "/"))
    except Refused as refusal:
        print(f"{NAME}: {refusal}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
