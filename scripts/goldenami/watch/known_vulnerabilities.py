"""What is known against an image's locked packages by the `cve.json` of its build, and what mends
it.

A fix need not come from a suite of security updates: a point release brings many. So what mends
a known vulnerability is a security update, wherever it comes from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from debian.debian_support import Version

from goldenami.core import records
from goldenami.model.builds import lockfile
from goldenami.model.builds.build_folder import ImageFolder
from goldenami.model.builds.security_records import CVE_FILE, CveRecord, Feed, Vulnerability

_FEEDS = (Feed.DEBIAN, Feed.UBUNTU)
"""Lists whose versions are those of the archives."""
_SIGNED = re.compile(r"linux-(signed|meta|aws).*")
"""Sources of the kernel's packages: the lists name `linux`."""
_REBUILT = re.compile(r"\+b\d+$")
"""What a binary package's version has behind its source's, where it was only built again."""


@dataclass(frozen=True)
class KnownVulnerabilities:
    """Those of one lock that a version mends."""

    mendable: tuple[Vulnerability, ...] = ()

    def mended(self, source: str, locked: str, available: str) -> list[str]:
        """What `available` of a source package mends, as `locked` has it. Packages whose
        versions are not their source's are left out: others of the same source say it."""
        name = _SIGNED.sub("linux", source)
        before, after = (_REBUILT.sub("", version) for version in (locked, available))
        return sorted({one.id for one in self.mendable if (one.part, one.version) == (name, before)
                       and Version(before) < Version(one.fix) <= Version(after)})


def of_lock(root: Path, image: str, lock_sha256: str) -> KnownVulnerabilities:
    """What the newest `golden cve` found in the build of a lock; nothing where nobody has asked."""
    path = ImageFolder.of(root, image).build(lock_sha256[:lockfile.ID_LENGTH]).path / CVE_FILE
    if not path.exists():
        return KnownVulnerabilities()
    record = records.read(path, CveRecord)
    found = record.findings if record.lock_sha256 == lock_sha256 else []
    return KnownVulnerabilities(tuple(one for one in found if one.fix and one.feed in _FEEDS))
