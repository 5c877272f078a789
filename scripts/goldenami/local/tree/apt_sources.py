"""apt's sources of a container: those that cloud-init writes at a machine's first boot."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import yaml

from goldenami.model.supported.platforms import RELEASES

PATH = "etc/apt/sources.list.d/golden.sources"


def of_cloud_init(tree: Path, suite: str) -> str:
    """Return the sources that cloud-init in `tree` would write, by its configuration and
    template."""
    folder = tree / "etc/cloud"
    files = [folder / "cloud.cfg", *folder.glob("cloud.cfg.d/62_customize.cfg")]
    settings = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in files]
    mirrors = settings[0]["system_info"]["package_mirrors"][0]["failsafe"]
    if own_mirrors := {
        kind: rows[0]["uri"]
        for kind, rows in settings[-1].get("apt", {}).items()
        if kind in mirrors
    }:
        mirrors = {"security": own_mirrors["primary"]} | own_mirrors  # a single mirror serves both
    name = f"templates/sources.list.{RELEASES[suite].distribution.lower()}.deb822.tmpl"
    text = re.sub("(?m)^#.*\n", "", (folder / name).read_text(encoding="utf-8"))
    rules = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True)  # noqa: S701 - no HTML
    return rules.from_string(text).render(
        codename=suite, mirror=mirrors["primary"], security=mirrors["security"]
    )
