"""Facts that the packages and wheels of a sealed tree state about themselves: licence, supplier,
and what each needs of the rest. Only the tree has all of them: a lock has no copyright file."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from debian.deb822 import Packages
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from goldenami.core import records
from goldenami.local.tree import owners
from goldenami.model.builds.part_facts import PARTS_FILE, PartFacts, TreeFacts, wheel_key

_FORMAT = re.compile(r"^Format: .*copyright-format", re.MULTILINE)
_LICENCE = re.compile(r"^License:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
"""Fields of a machine-readable copyright file (Debian's copyright-format 1.0, DEP-5)."""
_GNU = re.compile(r"([AL]?GPL)-(\d)(?:\.(\d))?(?:\.0)?(\+?)")
_SAME = {"Expat": "MIT", "Artistic": "Artistic-1.0-Perl", "Apache-2": "Apache-2.0"}
"""SPDX's names of licences that Debian names otherwise; those of GNU follow a pattern (`_GNU`)."""


def write(tree: Path, out: Path) -> None:
    """Write the facts of the tree into the folder `out`."""
    records.write(out / PARTS_FILE, gather(tree))


def gather(tree: Path) -> TreeFacts:
    """Return the facts of all packages and wheels of the tree."""
    return TreeFacts(parts=dict(sorted([*_packages(tree), *_wheels(tree)])))


def _packages(tree: Path) -> Iterator[tuple[str, PartFacts]]:
    text = (tree / "var/lib/dpkg/status").read_text(encoding="utf-8", errors="replace")
    stanzas = {
        stanza["Package"]: stanza
        for stanza in Packages.iter_paragraphs(text, use_apt_pkg=False)
        if stanza.get("Status", "").endswith(" installed")
    }
    providers: dict[str, list[str]] = {}
    for name, stanza in stanzas.items():
        for (relation,) in stanza.relations["provides"] or []:
            providers.setdefault(relation["name"], []).append(name)
    # A package of a name meets it before any that provides it.
    providers |= {name: [name] for name in stanzas}
    for name, stanza in stanzas.items():
        needs = set[str]()
        for field in ("pre-depends", "depends"):
            for choices in stanza.relations[field] or []:
                met = (providers.get(relation["name"]) for relation in choices)
                needs.update(next(filter(None, met), []))
        yield (
            name,
            PartFacts(
                licence=_of_copyright(tree, name),
                supplier=_person(stanza.get("Maintainer", "")),
                depends=sorted(needs - {name}),
            ),
        )


def _of_copyright(tree: Path, name: str) -> str:
    """Return the licences of a package's copyright file, or "" if the file is prose."""
    documents = tree / "usr/share/doc"
    folder = documents / name
    if folder.is_symlink():  # the folder of a package of the same source
        folder = documents / folder.readlink().name
    path = folder / "copyright"
    if path.is_symlink():
        path = documents / path.readlink().parent.name / "copyright"
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")
    return expression(_LICENCE.findall(text)) if _FORMAT.search(text) else ""


def _wheels(tree: Path) -> Iterator[tuple[str, PartFacts]]:
    folders: dict[Path, list[Message]] = {}
    for record in owners.wheel_lists(tree):
        text = (record.parent / "METADATA").read_text(encoding="utf-8", errors="replace")
        folders.setdefault(record.parents[1], []).append(HeaderParser().parsestr(text))
    for folder, wheels in folders.items():
        installed = {
            canonicalize_name(wheel["Name"]): wheel_key(wheel["Name"], wheel["Version"])
            for wheel in wheels
        }
        python = folder.parent.name.removeprefix("python")
        target = {"extra": "", "python_version": python, "python_full_version": f"{python}.0"}
        for wheel in wheels:
            names = {
                canonicalize_name(requirement.name)
                for requirement in _required(wheel)
                if requirement.marker is None or requirement.marker.evaluate(target)
            }
            facts = PartFacts(
                licence=_of_metadata(wheel),
                depends=sorted(installed[name] for name in names & installed.keys()),
                supplier=_supplier(wheel),
            )
            yield wheel_key(wheel["Name"], wheel["Version"]), facts


def _required(wheel: Message) -> Iterator[Requirement]:
    """Yield the requirements of a wheel."""
    for text in wheel.get_all("Requires-Dist", []):
        # Older tools wrote forms that pip refuses today.
        with contextlib.suppress(InvalidRequirement):
            yield Requirement(text)


def _supplier(wheel: Message) -> str:
    """Return whoever a wheel names first as its maintainer or author, or ""."""
    for field in ("Maintainer", "Author", "Maintainer-email", "Author-email"):
        if person := _person(wheel.get(field, "")):
            return person
    return ""


def _of_metadata(wheel: Message) -> str:
    """Return a wheel's licence: from its field of that name, else the older field's first line,
    else a classifier."""
    classes = [
        classifier.rpartition(" :: ")[2]
        for classifier in wheel.get_all("Classifier", [])
        if classifier.startswith("License ::")
    ]
    older = wheel.get("License", "").strip()
    if len(older) >= 60:
        older = ""
    statements = [wheel.get("License-Expression", ""), older, *classes]
    return expression([next(filter(None, statements), "")])


def _person(text: str) -> str:
    """Return a maintainer's name without the address, or the address if there is no name."""
    return text.partition("<")[0].strip().strip('"') or text.strip(" <>")


def expression(names: Iterable[str]) -> str:
    """Return licences as one SPDX expression (2.3, annex D). Names are joined as Debian's copyright
    format joins them: by `or`, `and` and commas."""
    licences = set[str]()
    for name in filter(None, names):
        if ("(" in name or " WITH " in name) and (whole := _identified(name)):
            licences.add(f"({whole})" if " OR " in whole else whole)
            continue
        for group in re.split(r",\s*(?:and\s+)?", name):
            choices = [
                " AND ".join(map(_licence, re.split(r"\s+and\s+", choice, flags=re.IGNORECASE)))
                for choice in re.split(r"\s+(?:and/)?or\s+", group, flags=re.IGNORECASE)
            ]
            if len(choices) == 1:
                licences.update(choices[0].split(" AND "))
            else:
                licences.add(f"({' OR '.join(choices)})")
    return " AND ".join(sorted(licences))


def _licence(name: str) -> str:
    """Return SPDX's identifier of a licence, else a reference that is valid in this document
    alone."""
    if match := _GNU.fullmatch(name):
        kind, major, minor, later = match.groups()
        return f"{kind}-{major}.{minor or 0}-{'or-later' if later else 'only'}"
    letters = re.sub(r"[^A-Za-z0-9.]+", "-", name.replace("+", "-plus")).strip("-")
    return _identified(_SAME.get(name, name)) or f"LicenseRef-{letters or 'other'}"


def _identified(name: str) -> str:
    """Return the name as an SPDX expression, or "" if SPDX has none."""
    try:
        return canonicalize_license_expression(name)
    except InvalidLicenseExpression:
        return ""
