"""Debian's own Docker under the names of its vendor's packages: a real engine, from a repository
that is on loopback."""

from __future__ import annotations

from pathlib import Path

from support.debian import repack
from support.debian.repack import Move, Origins, Repack

NAMES = ("docker-ce", "docker-ce-cli", "containerd.io")
_POSTINST = """#!/bin/sh
set -e
getent group docker > /dev/null || addgroup --system docker
"""
PACKAGES = (
    Repack(
        "docker-ce",
        "5:29.1.0-1",
        depends="containerd.io, docker-ce-cli, iptables, libsystemd0, adduser",
        moves=[Move("docker.io", "(.*)", r"\1"), Move("tini", "(usr/bin/.*)", r"\1")],
        scripts={"postinst": _POSTINST},
    ),
    Repack(
        "docker-ce-cli", "5:29.1.0-1", depends="libc6", moves=[Move("docker-cli", "(.*)", r"\1")]
    ),
    Repack(
        "containerd.io",
        "2.2.0-1",
        depends="libseccomp2",
        moves=[Move("containerd", "(.*)", r"\1"), Move("runc", "(usr/.*bin/.*)", r"\1")],
    ),
)


def build(folder: Path) -> list[Path]:
    origins = Origins(folder / "origins")
    origins.unpack(("docker.io", "docker-cli", "containerd", "runc", "tini"))
    return [repack.build(package, origins, folder) for package in PACKAGES]
