"""Scan the root tree of a sealed disk with OpenSCAP, with the parameters of the kernel that booted
it.

The guide is ANSSI's BP-028 as the SCAP Security Guide has it for Debian 12: Debian 13 has no rules
of its own yet. Offline, OpenSCAP reads the tree's /proc/sys, which is empty; so the machine's
values are put there.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from goldenami.core import shell
from goldenami.model.builds.hardening_records import HardeningRule, HardeningScan, RuleOutcome
from goldenami.model.supported.scales import HardeningLevel

CONTENT = Path("/usr/share/xml/scap/ssg/content/ssg-debian12-ds.xml")
"""A file of Debian's package ssg-debian."""
READ_PARAMETERS = (
    "cd /proc/sys && grep -rs '' dev fs kernel net/core net/ipv4 net/ipv6/conf/all"
    " net/ipv6/conf/default vm; true"
)
"""Command, run as root, that prints lines `path:value`; a parameter of several lines has
several."""
_XCCDF = "{http://checklists.nist.gov/xccdf/1.2}"
_PROFILE, _RULE = (
    "xccdf_org.ssgproject.content_profile_anssi_bp28_",
    "xccdf_org.ssgproject.content_rule_",
)
_OUTCOMES = {
    "pass": RuleOutcome.PASS,
    "fixed": RuleOutcome.PASS,
    "fail": RuleOutcome.FAIL,
    "error": RuleOutcome.UNREACHABLE,
    "unknown": RuleOutcome.UNREACHABLE,
    "notchecked": RuleOutcome.UNREACHABLE,
}
"""Outcomes by XCCDF's names (1.2, 6.6.4.2); a rule that does not apply to the image is left out."""
_RULES_BROKEN = 2
"""oscap's status if a rule fails (oscap(8))."""


def scan(tree: Path, parameters: str, work: Path) -> HardeningScan:
    """Return what the guide's rules say of the root mounted at `tree`; `parameters` is the output
    of READ_PARAMETERS."""
    if shutil.which("oscap") is None or not CONTENT.exists():
        return HardeningScan(
            problem="no oscap with rules for Debian 12 here; Debian 13 has them: `make setup`"
        )
    results = work / "xccdf.xml"
    with _as_booted(tree, parameters):
        try:
            shell.output(
                [
                    "oscap",
                    "xccdf",
                    "eval",
                    "--profile",
                    f"{_PROFILE}{HardeningLevel.ENHANCED.value}",
                    "--results",
                    str(results),
                    str(CONTENT),
                ],
                env={"OSCAP_PROBE_ROOT": str(tree)},
            )
        except shell.CommandFailed as error:
            if error.status != _RULES_BROKEN:
                return HardeningScan(
                    problem=f"{error.message}: {error.output.strip().splitlines()[-1:]}"
                )
    return read(results)


def read(results: Path) -> HardeningScan:
    """Return the rules in oscap's file of results, sorted by their ids."""
    root = ET.parse(results).getroot()  # noqa: S314 - oscap wrote it, from the distribution's file
    levels = dict[str, HardeningLevel]()
    # A level has the rules of those before it, too: a rule's level is the lowest that selects it.
    for level in reversed(HardeningLevel):
        profile = next(
            candidate
            for candidate in root.iter(f"{_XCCDF}Profile")
            if candidate.get("id") == f"{_PROFILE}{level.value}"
        )
        levels |= {
            select.get("idref", ""): level
            for select in profile.iter(f"{_XCCDF}select")
            if select.get("selected") == "true"
        }
    titles = {
        rule.get("id", ""): rule.findtext(f"{_XCCDF}title", "")
        for rule in root.iter(f"{_XCCDF}Rule")
    }
    answers = {
        result.get("idref", ""): result.findtext(f"{_XCCDF}result", "")
        for result in root.iter(f"{_XCCDF}rule-result")
    }
    rules = [
        HardeningRule(
            id=name.removeprefix(_RULE),
            title=titles[name],
            level=levels[name],
            outcome=_OUTCOMES[answer],
        )
        for name, answer in sorted(answers.items())
        if answer in _OUTCOMES and name in levels
    ]
    version = root.findtext(f".//{_XCCDF}version", "") or "unknown"
    return HardeningScan(content=f"SCAP Security Guide {version} for Debian 12", rules=rules)


@contextlib.contextmanager
def _as_booted(tree: Path, parameters: str) -> Iterator[None]:
    """Let `tree` show the booted kernel's parameters, and the release that the rules are for."""
    release = tree / "etc/debian_version"
    before = release.read_text(encoding="utf-8")
    shell.output(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(tree / "proc")])
    try:
        for line in parameters.splitlines():
            name, _, value = line.partition(":")
            path = tree / "proc/sys" / name
            # The parameters come from the machine that is checked: none may lead out of the tree.
            if ".." not in path.parts:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a", encoding="utf-8") as file:
                    file.write(f"{value}\n")
        release.write_text("12.0\n", encoding="utf-8")
        yield
    finally:
        release.write_text(before, encoding="utf-8")
        shell.output(["umount", "--lazy", str(tree / "proc")], check=False)
