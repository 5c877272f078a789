"""roles/container_runtime's golden-gpus and golden-runc: what `--gpus` of Docker becomes in a
container's configuration. The image's own checks ask Docker itself."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import files

FILES = Path(__file__).resolve().parents[3] / "roles/container_runtime/files"
HOOK = "/usr/local/bin/nvidia-container-runtime-hook"
OTHERS = {"path": "/usr/bin/true"}
LIBRARY = {
    "hostPath": "/usr/lib/libcuda.so.550",
    "containerPath": "/usr/lib64/libcuda.so.1",
    "options": ["ro", "rbind"],
}
SPECIFICATION = {
    "containerEdits": {"deviceNodes": [{"path": "/dev/zero"}], "mounts": [LIBRARY]},
    "devices": [
        {"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/null"}]}},
        {"name": "1", "containerEdits": {"deviceNodes": [{"path": "/dev/full"}]}},
    ],
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle, the programs that golden-runc calls, and a GPU or two that are other devices."""
    specification = tmp_path / "cdi.json"
    specification.write_text(json.dumps(SPECIFICATION), encoding="utf-8")
    gpus = (FILES / "golden_gpus.py").read_text(encoding="utf-8")
    runtime = (FILES / "golden-runc").read_text(encoding="utf-8")
    files.write_programs(
        tmp_path,
        {
            "golden-gpus": gpus.replace("/run/cdi/golden-nvidia.json", str(specification)),
            **dict.fromkeys(
                ["golden-runc", "golden-nvidia"],
                runtime.replace("/usr/local/libexec", str(tmp_path)),
            ),
            "bin/runc": '#!/bin/sh\necho "runc $*"\n',
        },
    )
    return tmp_path


def created(
    bundle: Path,
    *env: str,
    hook: bool = True,
    runtime: str = "golden-runc",
    hooks: bool = True,
) -> tuple[int, dict[str, Any], str]:
    """What a runtime ends with, the container's configuration, and what Docker would show."""
    config: dict[str, Any] = {"process": {"env": list(env)}, "mounts": [{"destination": "/proc"}]}
    if hooks:
        config["hooks"] = {"prestart": [OTHERS, *([{"path": HOOK}] if hook else [])]}
    (bundle / "config.json").write_text(json.dumps(config), encoding="utf-8")
    log = bundle / "log.json"
    done = subprocess.run(
        [bundle / runtime, "--log", log, "create", "--bundle", bundle, "a-name"],
        capture_output=True,
        text=True,
        env={"PATH": f"{bundle}/bin:/usr/bin:/bin"},
    )
    shown = json.loads(log.read_text(encoding="utf-8"))["msg"] if log.exists() else done.stdout
    return done.returncode, json.loads((bundle / "config.json").read_text(encoding="utf-8")), shown


def number(path: str) -> dict[str, Any]:
    device = Path(path).stat().st_rdev
    return {"type": "c", "major": os.major(device), "minor": os.minor(device)}


def test_a_gpu_becomes_a_device_that_is_allowed(bundle: Path) -> None:
    """Docker's own word is the last: an image's does not count."""
    status, config, shown = created(bundle, "NVIDIA_VISIBLE_DEVICES=1", "NVIDIA_VISIBLE_DEVICES=0")
    assert (status, shown) == (0, f"runc --log {bundle}/log.json create --bundle {bundle} a-name\n")
    assert config["hooks"] == {"prestart": [OTHERS]}
    assert config["linux"]["devices"] == [
        {"path": "/dev/zero", "fileMode": 0o666, **number("/dev/zero")},
        {"path": "/dev/null", "fileMode": 0o666, **number("/dev/null")},
    ]
    assert config["linux"]["resources"]["devices"] == [
        {"allow": True, "access": "rwm", **number(path)} for path in ("/dev/zero", "/dev/null")
    ]
    assert config["mounts"][1:] == [
        {
            "destination": "/usr/lib64/libcuda.so.1",
            "source": "/usr/lib/libcuda.so.550",
            "type": "bind",
            "options": ["ro", "rbind"],
        }
    ]


@pytest.mark.parametrize(
    ("env", "hook"),
    [
        (["NVIDIA_VISIBLE_DEVICES=void"], True),
        ([], True),
        (["NVIDIA_VISIBLE_DEVICES=0"], False),
    ],
)
def test_who_asks_for_no_gpu_gets_none(bundle: Path, env: list[str], hook: bool) -> None:
    """Images set the variable themselves, and have no say."""
    status, config, _ = created(bundle, *env, hook=hook)
    assert (status, config["hooks"]["prestart"]) == (0, [OTHERS])
    assert "linux" not in config and len(config["mounts"]) == 1


def test_a_gpu_that_is_not_there_is_named(bundle: Path) -> None:
    status, config, shown = created(bundle, "NVIDIA_VISIBLE_DEVICES=0,7")
    assert (status, "linux" in config) == (1, False)
    assert shown == "golden-gpus: no GPU is named `7`: take one of 0, 1"


def test_without_gpus_the_error_says_where_to_look(bundle: Path) -> None:
    (bundle / "cdi.json").unlink()
    status, _, shown = created(bundle, "NVIDIA_VISIBLE_DEVICES=all")
    assert (status, shown) == (
        1,
        "golden-gpus: this machine has no GPU for containers: "
        "`systemctl status golden-cdi` says why",
    )


@pytest.mark.parametrize("hook", [True, False])
@pytest.mark.parametrize("hooks", [True, False])
def test_the_runtime_nvidia_gives_what_the_image_asks_for(
    bundle: Path,
    hook: bool,
    hooks: bool,
) -> None:
    """As pages elsewhere write it: with `--gpus` or without."""
    status, config, _ = created(
        bundle,
        "NVIDIA_VISIBLE_DEVICES=all,0",
        "NVIDIA_VISIBLE_DEVICES=0",
        hook=hook,
        runtime="golden-nvidia",
        hooks=hooks,
    )
    assert status == 0
    assert [device["path"] for device in config["linux"]["devices"]] == ["/dev/zero", "/dev/null"]
    assert not hooks or config["hooks"] == {"prestart": [OTHERS]}


def test_the_runtime_nvidia_gives_no_gpu_to_who_asks_for_none(bundle: Path) -> None:
    status, config, _ = created(bundle, "PATH=/bin", hook=False, runtime="golden-nvidia")
    assert (status, "linux" in config) == (0, False)


def test_another_runtime_is_told_to_leave(bundle: Path) -> None:
    done = subprocess.run(
        ["sh", FILES / "nvidia-container-runtime-hook", "prestart"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (
        1,
        "golden-gpus: --gpus needs Docker's default runtime here: leave out --runtime\n",
    )
