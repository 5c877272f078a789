"""One boot's settings, for tests of what a boot refuses and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goldenami.local.vm import vm
from goldenami.model.builds.build_records import Accel


def config(folder: Path, **changes: Any) -> vm.VmConfig:
    """An emulated boot under BIOS of `folder`/disk.raw, in `folder`/vm; `changes` replace
    settings."""
    settings: dict[str, Any] = {
        "disk": folder / "disk.raw",
        "scratch": folder / "vm",
        "private_key": folder / "key",
        "user": "debian",
        "firmware": vm.Firmware.BIOS,
        "accelerator": Accel.TCG,
    }
    return vm.VmConfig(**{**settings, **changes})
