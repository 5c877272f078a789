"""A realistic build to render: records, lock and a previous build, with one place to make each part
bad."""

from __future__ import annotations

import hashlib
import html
import re
from pathlib import Path
from typing import Any

from goldenami.core import records
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import (
    Accel,
    BakeRecord,
    Boot,
    Check,
    Component,
    Disk,
    Host,
    Outcome,
    Timing,
    Verdict,
    VerifyRecord,
)

IMAGE = "debian-13-ml"
MIB = 1 << 20
KERNEL = "6.1.0-56-cloud-amd64"
HOSTILE = "</style></title><script>alert('x')</script><img src=x onerror=alert(1)>{{ 7*7 }}\"'&"
LONG = "libnvidia-" + "extraordinarily-long-name-" * 12 + "end"

PHASES = {"base": 41.2, "cuda": 176.0, "limits+network_tuning+provenance+seal": 21.4, "disk": 48.7}
ROLES = {"cuda": 171.6, "limits": 2.1, "network_tuning": 1.9, "provenance": 1.4, "seal": 15.2}
COMPONENTS = {"CUDA toolkit": 4172, "NVIDIA driver": 612, "Tuning and records": 1}
CHECKS = {
    "cuda": ("nvcc compiles for sm_75",),
    "network_tuning": ("the default qdisc is fq", "the kernel took bbr"),
    "provenance": ("golden-image.json names this build",),
    "seal": ("machine-id was empty on the sealed disk", "no shell history", "journals are gone"),
}


def package(
    version: str, *, size: int = 120_000, origin: str = "debian", seed: str = ""
) -> dict[str, Any]:
    return {
        "version": version,
        "architecture": "amd64",
        "size": size,
        "installed_size": size * 4,
        "origin": origin,
        "sha256": hashlib.sha256(f"{version}{size}{seed}".encode()).hexdigest(),
        "path": "pool/x.deb",
        "source": "x",
    }


CHOICES = [
    {
        "component": "driver",
        "taken": "535.309.01 proprietary",
        "why": "the newest of branch 535 in the archive",
        "passed_over": [{"what": "535.216.03", "reason": "older; from trixie-backports"}],
    },
    {
        "component": "cuda",
        "taken": "11.8 toolkit",
        "passed_over": [],
        "why": "the only one of the archive; the driver supports 12.2",
    },
]
"""What a lock took and passed over."""


def packages_of() -> dict[str, Any]:
    return {
        "libcuda1": package("535.309.01-1~deb13u1"),
        f"linux-image-{KERNEL}": package("6.1.172-1", size=30 * MIB),
        "openssl": package("3.0.19-1~deb13u1"),
        "tzdata": package("2026c-0+deb13u1"),
        "libxml2": package("2.9.14+dfsg-1.3~deb13u6"),
        "cloud-init": package("22.4.2-1+deb13u4"),
        f"golden-nvidia-modules-{KERNEL}": package("535.309.01-1", size=18 * MIB, origin="built"),
    }


def lock(**changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "image": IMAGE,
        "source_date_epoch": 1795219200,
        "disk_size_gib": 10,
        "description": "Debian 13 with NVIDIA's driver and the CUDA toolkit, "
        "for training and inference on EC2",
        "base": {
            "distribution": "debian",
            "release": "trixie",
            "major": 13,
            "architecture": "amd64",
            "suites": [
                {"suite": suite, "date": "Sat, 21 Nov 2026 10:12:30 UTC", "sha256": "0" * 64}
                for suite in ("trixie", "trixie-updates", "trixie-security")
            ],
        },
        "kernel": {"release": KERNEL, "package": f"linux-image-{KERNEL}", "version": "6.1.172-1"},
        "driver": {
            "version": "535.309.01",
            "branch": "535",
            "flavour": "proprietary",
            "source": "debian",
            "cuda": "12.2",
            "modules": {
                "package": f"golden-nvidia-modules-{KERNEL}",
                "compiler": "gcc 14.2.0-19",
                "signature": None,
                "key": "0" * 64,
            },
        },
        "cuda": {"version": "11.8", "variant": "toolkit", "why": "the archive's"},
        "hardware": {
            "families": ["g4dn", "g5", "g6", "p4d", "p5"],
            "sm": ["75", "80", "86", "89", "90"],
            "cpus": ["cascadelake", "znver2", "znver3"],
            "gcc": "14.2",
            "march": "skylake",
            "options": ["-march=skylake", "-mtune=generic"],
            "features": ["avx2"],
        },
        "choices": CHOICES,
        "packages": packages_of(),
        "roles": list(ROLES),
        "steps": [],
        "base_packages": [],
        "variables": {},
        "inputs": {},
        **changes,
    }


def previous_lock() -> dict[str, Any]:
    """The lock before: an older driver, a package fewer and one more, one rebuilt under its
    version."""
    old = lock()
    old["driver"]["version"] = "535.261.03"
    old["packages"] |= {
        "libcuda1": package("535.261.03-1~deb13u1", size=500_000),
        "openssl": package("3.0.9-1~deb13u1"),
        "tzdata": package("2026d-0+deb13u1"),
        "libxml2": package("2.9.14+dfsg-1.3~deb13u6", seed="rebuilt"),
        "nvidia-kernel-dkms": package("535.261.03-1~deb13u1"),
    }
    del old["packages"]["cloud-init"]
    return old


def bake_record(of: dict[str, Any], *, scale: float = 1.0, **changes: Any) -> BakeRecord:
    """What a bake of lock `of` wrote; `scale` multiplies times and sizes."""
    digest = records.sha256_text(records.canonical(of))
    parts = {
        "image": of["image"],
        "build_id": digest[:12],
        "lock_sha256": digest,
        "git_commit": "4f0c2d9be1a7" + "0" * 28,
        "started_at": "2026-11-24T22:10:04Z",
        "seconds": sum(PHASES.values()) * scale,
        "host": Host(cpus=2, accel="tcg", python="3.11.2", packer="1.6.6"),
        "phases": [
            Timing(name=name, seconds=round(value * scale, 2)) for name, value in PHASES.items()
        ],
        "roles": [
            Timing(name=name, seconds=round(value * scale, 2)) for name, value in ROLES.items()
        ],
        "components": [
            Component(name=name, bytes=int(value * MIB * scale))
            for name, value in COMPONENTS.items()
        ],
        "disk": Disk(
            path=f"build/{of['image']}/{digest[:12]}/disk.raw",
            bytes_apparent=10 << 30,
            bytes_allocated=int(5.58 * (1 << 30) * scale),
            sha256="c" * 64,
            blocks_sha256="e" * 64,
        ),
        "packages_count": len(of["packages"]),
        "layers": ["base"],
        "manifest_sha256": "d" * 64,
    }
    return BakeRecord.model_validate(parts | changes)


def checks(outcomes: dict[str, Outcome] | None = None) -> list[Check]:
    wrong = outcomes or {}
    return [
        Check(
            id=f"{role}::{number:02d}",
            role=role,
            title=title,
            outcome=wrong.get(title, Outcome.CORRECT),
            detail=DETAILS.get(wrong.get(title, Outcome.CORRECT), ""),
            seconds=0.7 + number / 10,
        )
        for role, titles in CHECKS.items()
        for number, title in enumerate(titles)
    ]


DETAILS = {
    Outcome.INCORRECT: "expected net.ipv4.tcp_congestion_control = bbr\n"
    "the running kernel says cubic\n"
    "available: reno cubic (tcp_bbr.ko is not in this kernel's modules)",
    Outcome.MISSING: "/etc/golden-image.json: no such file",
    Outcome.UNREACHABLE: "ssh: connection closed by the guest after 12 s; the check could not look",
}
FAILING = {
    "the kernel took bbr": Outcome.INCORRECT,
    "golden-image.json names this build": Outcome.MISSING,
    "no shell history": Outcome.UNREACHABLE,
    "journals are gone": Outcome.INCORRECT,
}


def verify_record(
    bake: BakeRecord, outcomes: dict[str, Outcome] | None = None, **changes: Any
) -> VerifyRecord:
    """What verify wrote about `bake`, honest about its verdict."""
    found = checks(outcomes)
    good = all(check.outcome is Outcome.CORRECT for check in found)
    parts = {
        "image": bake.image,
        "build_id": bake.build_id,
        "verdict": Verdict.VERIFIED if good else Verdict.NOT_VERIFIED,
        "boots": [
            Boot(firmware="BIOS", seconds_to_ssh=39.4),
            Boot(firmware="UEFI", seconds_to_ssh=46.8),
        ],
        "accel": Accel.TCG,
        "checks": found,
        "seconds": 187.3,
    }
    return VerifyRecord.model_validate(parts | changes)


def hostile(root: Path) -> BuildFolder:
    """A build in which every free text is markup, or has no place to break."""
    bad, endless = HOSTILE + LONG, "W" * 400
    choice = {
        "component": endless,
        "taken": bad,
        "why": endless,
        "passed_over": [{"what": endless, "reason": bad}],
    }
    of = lock(
        description=bad,
        choices=[choice],
        frameworks=[{"name": bad, "version": endless, "origin": "source"}],
        packages=lock()["packages"] | {bad: package("1"), endless: package(bad, origin=endless)},
    )
    steps = [Timing(name=endless, seconds=9_000), Timing(name=bad, seconds=0)]
    bake = bake_record(
        of,
        git_commit=endless,
        layers=[endless],
        phases=steps,
        roles=steps,
        components=[Component(name=endless, bytes=1023 << 20)],
    )
    found = [
        Check(
            id=endless,
            role=role,
            title=endless,
            outcome=outcome,
            detail=f"{bad}\n{endless}",
            seconds=5_000,
        )
        for outcome in Outcome
        for role in (bad, endless)
    ]
    verify = verify_record(bake, checks=found, verdict=Verdict.NOT_VERIFIED)
    return write_build(root, bake, verify, of)


def write_build(
    path: Path,
    bake: BakeRecord,
    verify: VerifyRecord | None,
    lock: dict[str, Any],
) -> BuildFolder:
    folder = BuildFolder(path)
    records.write(folder.bake, bake)
    if verify is not None:
        records.write(folder.verify, verify)
    records.write_text(folder.lock, records.canonical(lock))
    return folder


Pair = tuple[BuildFolder, BuildFolder]


def write_pair(root: Path, outcomes: dict[str, Outcome] | None = None) -> Pair:
    now, then = lock(), previous_lock()
    bake, old = bake_record(now), bake_record(then, scale=0.93, started_at="2026-11-03T21:40:51Z")
    return (
        write_build(root / bake.build_id, bake, verify_record(bake, outcomes), now),
        write_build(root / old.build_id, old, verify_record(old), then),
    )


def text(page: str) -> str:
    """What a page says, on one line."""
    body = re.sub(r"<[^>]+>", " ", page.partition("</style>")[2])
    return " ".join(html.unescape(body).split())
