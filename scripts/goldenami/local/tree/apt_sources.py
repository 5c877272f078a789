"""apt's sources of a container, as cloud-init writes them at a machine's first boot: a container has
no such boot, and no mirror's host is a fact of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import yaml

from goldenami.model.builds.plans import Tree
from goldenami.model.supported.platforms import RELEASES

PATH = "etc/apt/sources.list.d/golden.sources"


def of_cloud_init(root: Path, tree: Tree) -> str:
    """The sources that cloud-init in `root` would write, by its template and configuration."""
    mirrors = _mirrors(root / "etc/cloud", tree.architecture)
    name = f"sources.list.{RELEASES[tree.suite].distribution.lower()}.deb822.tmpl"
    template = (root / "etc/cloud/templates" / name).read_text(encoding="utf-8")
    rules = jinja2.Environment(trim_blocks=True)  # noqa: S701 - no HTML
    text = rules.from_string(template).render(
        codename=tree.suite, mirror=mirrors["primary"], security=mirrors["security"])
    return "\n".join(line for line in text.splitlines() if not line.startswith("#")).strip() + "\n"


def _mirrors(folder: Path, architecture: str) -> dict[str, str]:
    """Mirrors that the definition names, else the distribution's. One alone is for both."""
    named = dict[str, str]()
    for path in [folder / "cloud.cfg", *sorted((folder / "cloud.cfg.d").glob("*.cfg"))]:
        settings: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for row in settings.get("system_info", {}).get("package_mirrors", []):
            if {architecture, "default"} & {*row["arches"]}:
                found = row["failsafe"]
        named |= {kind: rows[0]["uri"] for kind, rows in settings.get("apt", {}).items()
                  if kind in ("primary", "security")}
    if "primary" in named:
        found = {"security": named["primary"]}
    return found | named
