"""Runs on the booted image, as root: starts containers as a user would, prints as JSON what they
and the engine say.

argv: engine, the driver's version (empty: containers get no GPU), the text of in_container.py, and
`gpus` where nothing is asked but what a container with all GPUs sees. Where no GPU is on the bus,
two are made up: device nodes without a driver, and what the driver would say in /proc, which only
golden-cdi's unit is shown. All that was made is removed again. The image is of this machine's own
python3 and C library.
"""

import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ENGINE, VERSION, PROGRAM = sys.argv[1:4]
ONLY_GPUS = sys.argv[4:] == ["gpus"]
HERE, UNIT, SPEC = (
    Path("/run/golden-test"),
    "golden-cdi.service",
    Path("/run/cdi/golden-nvidia.json"),
)
DROP_IN = Path(f"/run/systemd/system/{UNIT}.d/test.conf")
LIBRARIES, LOADER = Path("/usr/lib/x86_64-linux-gnu"), Path("/proc/sys/kernel/modprobe")
IMAGE, HOSTILE = "localhost/golden-probe", "localhost/golden-hostile"
NODES = {"nvidia0": (195, 0), "nvidia1": (195, 1), "nvidiactl": (195, 255), "nvidia-uvm": (511, 0)}
"""195 is NVIDIA's (devices.txt of the kernel); nothing answers there: an allowed node ends in
ENXIO, not in EPERM."""
UUIDS = {
    "0000:00:1b.0": ("GPU-00000000-0000-0000-0000-00000000000a", 1),
    "0000:00:1e.0": ("GPU-00000000-0000-0000-0000-00000000000b", 0),
}
SELF = (
    "import ctypes, errno, json, os, pathlib, resource, stat, sys\n"
    "print(*(getattr(m, '__file__', None) or '' for m in sys.modules.values()), sep='\\n')\n"
    "print(*(line.split()[-1] for line in open('/proc/self/maps') if '/' in line), sep='\\n')"
)


JOB = "import resource; open('limits', 'w').write(str(resource.getrlimit(resource.RLIMIT_NOFILE)))"


def run(*argv: str, stdin: bytes = b"") -> dict[str, object]:
    """Exit status, output and seconds of a command."""
    began = time.monotonic()
    done = subprocess.run(argv, input=stdin, capture_output=True, check=False)
    return {
        "rc": done.returncode,
        "out": done.stdout.decode(),
        "err": done.stderr.decode(),
        "seconds": round(time.monotonic() - began, 2),
    }


def files() -> set[Path]:
    """The files that python3 needs for in_container.py, the links by which they are asked for, the
    C library's rest."""
    python = Path(sys.executable).resolve()
    text = subprocess.run(
        [python, "-I", "-S", "-c", SELF], capture_output=True, text=True, check=True
    ).stdout
    found = {Path(line) for line in text.splitlines() if line.startswith("/usr/")}
    found |= {python, Path("/usr/lib64/ld-linux-x86-64.so.2")}
    found |= {
        LIBRARIES / name for name in ("libdl.so.2", "libpthread.so.0", "librt.so.1", "libm.so.6")
    }
    real = {path.resolve() for path in found}
    return (
        found
        | real
        | {
            link
            for link in LIBRARIES.glob("lib*.so.*")
            if link.is_symlink() and link.resolve() in real
        }
    )


def image(name: str, links: dict[str, str], more: tuple[str, ...] = ()) -> dict[str, object]:
    """Import an image of `files()`, of more `links`, path to target, and of files that are no
    libraries."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for folder in ("dev", "proc", "sys", "run", "tmp", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            archive.addfile(entry)
        for path in sorted(files()):
            archive.add(path, recursive=False)
        usr = {folder: f"usr/{folder}" for folder in ("bin", "lib", "lib64")}
        for link, target in {
            **usr,
            "usr/bin/python3": Path(sys.executable).resolve().name,
            **links,
        }.items():
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
        for name_of_file in more:
            archive.addfile(tarfile.TarInfo(name_of_file), io.BytesIO())
    return run(ENGINE, "import", "-", name, stdin=packed.getvalue())


def container(*options: str, name: str = IMAGE, made: tuple[str, ...] = ()) -> dict[str, object]:
    """Run in_container.py in a new container."""
    return run(
        ENGINE,
        "run",
        "--rm",
        "--pull=never",
        *options,
        name,
        "/usr/bin/python3",
        "-I",
        "-S",
        "-c",
        PROGRAM,
        *made,
    )


def lasting() -> dict[str, object]:
    """One container with all GPUs, asked before and after systemd reads its units again (the
    devices stay open)."""
    sleep = ("/usr/bin/python3", "-I", "-S", "-c", "import time; time.sleep(3600)")
    asked = ("exec", "golden-lasting", "/usr/bin/python3", "-I", "-S", "-c", PROGRAM)
    started = run(
        ENGINE,
        "run",
        "--detach",
        "--pull=never",
        "--name=golden-lasting",
        "--device=nvidia.com/gpu=all",
        IMAGE,
        *sleep,
    )
    before = run(ENGINE, *asked)
    reload = run("systemctl", "daemon-reload")
    found: dict[str, object] = {
        "started": started,
        "before": before,
        "reload": reload,
        "after": run(ENGINE, *asked),
    }
    run(ENGINE, "rm", "--force", "golden-lasting")
    return found


def job() -> dict[str, object]:
    """A job by systemd-run, as docs/using-an-image.md has it: its limits, what it left in the
    folder, and whether its container is gone."""
    scratch = HERE / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    said = run(
        "systemd-run",
        "--wait",
        "--collect",
        "--quiet",
        f"--property=ExecStopPost=-{ENGINE} rm --force golden-job",
        ENGINE,
        "run",
        "--rm",
        "--pull=never",
        "--name=golden-job",
        "--ipc=host",
        *(["--init"] if ENGINE == "docker" else []),  # Podman's is in a package of its own
        f"--volume={scratch}:/scratch",
        "--workdir=/scratch/out",
        IMAGE,
        "/usr/bin/python3",
        "-I",
        "-S",
        "-c",
        JOB,
    )
    return {
        "ended": said,
        "left": run(ENGINE, "ps", "--all", "--quiet")["out"],
        "kept": {path.name: path.read_text() for path in scratch.glob("out/*")},
    }


def gpus() -> dict[str, object]:
    """What containers see of GPUs, asked for in every way, by few containers: one costs seconds
    under emulation."""
    outside = HERE / "outside"
    outside.mkdir(parents=True, exist_ok=True)
    climbing = f"{'../' * 12}{str(outside).lstrip('/')}/x"
    hostile = image(
        HOSTILE,
        {
            f"{LIBRARIES}/libcuda.so.1": "libcuda.so.999",
            f"{LIBRARIES}/libnvidia-ml.so.{VERSION}": climbing,
        },
        (f"{LIBRARIES}/libcuda.so.999",),
    )
    device = "--device=nvidia.com/gpu="
    uuid = json.loads(SPEC.read_text())["devices"][-2]["name"]  # a GPU's UUID: `all` is the last
    # Docker's own word for the same devices is a way of its own, by golden-runc.
    other = f"{device}{uuid}" if ENGINE == "podman" else f"--gpus=device={uuid}"
    return {
        "hostile image": hostile,
        "lasting": lasting(),
        "hostile": container(
            "--network=none", "--cap-add=MKNOD", f"{device}0", name=HOSTILE, made=("195:1", "195:0")
        ),
        "careful": container("--network=none", other, "--user=1000:1000", "--read-only"),
        "seventh": container("--network=none", f"{device}7"),
        "outside": [path.name for path in outside.iterdir()],
    }


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def driver(version: str) -> None:
    """What the driver would say in /proc/driver."""
    write(
        HERE / "driver/nvidia/version",
        f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  a day\n",
    )
    for bus, (uuid, minor) in UUIDS.items():
        write(
            HERE / f"driver/nvidia/gpus/{bus}/information",
            f"GPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n",
        )


def described() -> dict[str, object]:
    """Start golden-cdi's unit: how it ended, the last line it said, and whether there is a
    specification."""
    since = f"@{time.time():.3f}"
    run("systemctl", "start", UNIT)
    shown = str(run("systemctl", "show", "-P", "Result", UNIT)["out"]).strip()
    lines = str(
        run("journalctl", "--unit", UNIT, "--since", since, "--output=cat")["out"]
    ).splitlines()
    run("systemctl", "reset-failed", UNIT)
    return {
        "result": shown,
        "said": [line for line in lines if line.startswith("golden-cdi: ")],
        "specification": SPEC.exists(),
    }


@contextmanager
def made_up() -> Iterator[dict[str, object]]:
    """Two GPUs that are not there; yields how golden-cdi described them, a driver that does not
    fit, and nothing.

    What loads the driver before is left out: three programs would try for ten seconds each; they
    only have to be there.
    """
    commands = str(run("systemctl", "show", "-p", "ExecStartPre", "-p", "ExecStart", UNIT)["out"])
    programs = re.findall(r"path=(\S+)", commands)
    found: dict[str, object] = {
        "without": described(),
        "programs": {path: os.access(path, os.X_OK) for path in programs},
    }
    for name, (major, minor) in NODES.items():
        os.mknod(f"/dev/{name}", 0o666 | stat.S_IFCHR, os.makedev(major, minor))
        Path(f"/dev/{name}").chmod(0o666)
    for name, text in (("vendor", "0x10de"), ("class", "0x030200"), ("device", "0x1eb8")):
        write(HERE / f"bus/0000:00:1b.0/{name}", f"{text}\n")
    write(
        HERE / "devices",
        f"{Path('/proc/devices').read_text()}{NODES['nvidia-uvm'][0]} nvidia-uvm\n",
    )
    write(
        DROP_IN,
        f"[Service]\nBindReadOnlyPaths={HERE}/driver:/proc/driver {HERE}/devices:/proc/devices\n"
        f"Environment=GOLDEN_PCI_DEVICES={HERE}/bus\nExecStartPre=\n",
    )
    run("systemctl", "daemon-reload")
    # At each opening of a node without a driver the kernel would load NVIDIA's module, which knows
    # 195: ten seconds under emulation, to hear that there is no GPU. What the engine needs was
    # loaded for the container before.
    loader = LOADER.read_text()
    LOADER.write_text("/bin/true\n")
    try:
        driver("1.2.3")
        found["misfit"] = described()
        driver(VERSION)
        found["fitting"] = described()
        yield found
    finally:
        LOADER.write_text(loader)
        for name in NODES:
            Path(f"/dev/{name}").unlink()
        shutil.rmtree(DROP_IN.parent)
        SPEC.unlink(missing_ok=True)
        run("systemctl", "daemon-reload")
        run("systemctl", "reset-failed", UNIT)


def main() -> dict[str, object]:
    """Ask everything, leave nothing."""
    run("systemctl", "is-system-running", "--wait")  # SSH answers while the engine still starts
    was_active = run("systemctl", "is-active", "docker.service")["rc"] == 0
    on_bus = Path("/usr/local/libexec/golden-nvidia-on-bus")
    gpu = on_bus.exists() and run(str(on_bus), "gpu")["rc"] == 0
    found: dict[str, object] = {"gpu": gpu}
    try:
        found["image"] = image(IMAGE, {})
        if ONLY_GPUS:
            found["all"] = container("--network=none", "--device=nvidia.com/gpu=all")
            return found
        found["info"] = run(ENGINE, "info", "--format", "{{json .}}")
        found["plain"] = container()
        found["job"] = job()
        if VERSION and gpu:
            found["gpus"] = gpus()
        elif VERSION:
            found["no gpu"] = container("--network=none", "--gpus=all")
            found["no device"] = container("--network=none", "--device=nvidia.com/gpu=all")
            found["runtime"] = container("--network=none", "--runtime=nvidia")
            with made_up() as unit:
                found |= {"unit": unit, "gpus": gpus()}
    finally:
        run(ENGINE, "image", "rm", "--force", IMAGE, HOSTILE)
        shutil.rmtree(HERE, ignore_errors=True)
        if ENGINE == "docker" and not was_active:
            run("systemctl", "stop", "docker.socket", "docker.service", "containerd.service")
    return found


print(json.dumps(main()))
