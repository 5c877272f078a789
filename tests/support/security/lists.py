"""Public lists of vulnerabilities in their real form, with what a test puts into them, and a server
of them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from goldenami.image.cve import feeds
from goldenami.model.builds.security_records import Feed

from support.loopback import Loopback, QuietHandler

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
"""The product's clock in tests that ask by day: midnight may come between import and run."""
TODAY = NOON.date()
FILLING = 200
"""Entries of no image: a list that has none of them is half of one."""


State = dict[str, Any]
"""What the tracker says of a vulnerability in one release."""


def tracker(
    issues: Mapping[str, Mapping[str, State]], codenames: Iterable[str] = ("bookworm", "trixie")
) -> bytes:
    """Debian's tracker: source -> CVE -> state in each codename."""
    found: dict[str, dict[str, Any]] = {
        "filling": {
            f"CVE-2020-{number:04}": {
                "description": "x",
                "scope": "local",
                "releases": {name: release("resolved", "1") for name in codenames},
            }
            for number in range(FILLING)
        }
    }
    for source, states in issues.items():
        found[source] = {
            identifier: {"description": "ä", "releases": dict.fromkeys(codenames, state)}
            for identifier, state in states.items()
        }
    return json.dumps(found).encode()


def release(status: str, fixed: str = "", urgency: str = "not yet assigned") -> State:
    found: State = {"status": status, "repositories": {}, "urgency": urgency}
    return found | ({"fixed_version": fixed} if fixed else {})


def packed(files: Mapping[str, Any]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, json.dumps(content))
    return sink.getvalue()


def osv(*entries: dict[str, Any], ecosystem: str = "PyPI", modified: date = TODAY) -> bytes:
    filling = [
        osv_entry(f"PYSEC-2020-{number}", f"none{number}", ("0", "1"), ecosystem=ecosystem)
        for number in range(FILLING)
    ]
    return packed(
        {
            f"{entry['id']}.json": entry | {"modified": f"{modified}T01:02:03.456Z"}
            for entry in [*filling, *entries]
        }
    )


def osv_entry(
    identifier: str,
    name: str,
    *ranges: tuple[str, str],
    ecosystem: str = "PyPI",
    **more: Any,
) -> dict[str, Any]:
    """A vulnerability of a project from one version to before another ("": nothing mends it)."""
    spans = [
        {
            "type": "ECOSYSTEM",
            "events": [{"introduced": since}, *([{"fixed": fixed}] if fixed else [])],
        }
        for since, fixed in ranges
    ]
    return {
        "id": identifier,
        "schema_version": "1.6.0",
        "affected": [{"package": {"ecosystem": ecosystem, "name": name}, "ranges": spans}],
        **more,
    }


def bulletin(
    number: int,
    released: date,
    fixes: Mapping[str, str],
    cves: Mapping[str, str],
    *,
    title: str = "Security Bulletin: GPU Display Driver",
    words: str = "All driver versions prior to {}",
) -> dict[str, Any]:
    """A bulletin of NVIDIA's: the version that mends each branch, and the severity of each
    vulnerability."""
    branches = [
        {
            "category": "architecture",
            "name": f"Linux(R{branch})",
            "branches": [
                _version(branch, words.format(fix), "affected"),
                _version(branch, fix, "fixed"),
            ],
        }
        for branch, fix in fixes.items()
    ]
    branches.append(
        {
            "category": "architecture",
            "name": "Windows(R535)",
            "branches": [_version("w", "All driver versions prior to 539.72", "windows")],
        }
    )
    affected = [f"r{branch}_affected" for branch in fixes] + ["rw_windows"]
    return {
        "document": {
            "title": title,
            "csaf_version": "2.0",
            "tracking": {
                "id": str(number),
                "initial_release_date": f"{released}T00:00:00Z",
                "current_release_date": f"{released}T00:00:00Z",
            },
        },
        "product_tree": {
            "branches": [{"category": "vendor", "name": "NVIDIA", "branches": branches}]
        },
        "vulnerabilities": [
            {
                "cve": name,
                "product_status": {"known_affected": affected},
                "scores": [
                    {"cvss_v3": {"baseScore": 5.0, "baseSeverity": severity}, "products": affected}
                ],
            }
            for name, severity in cves.items()
        ],
    }


def _version(branch: str, words: str, kind: str) -> dict[str, Any]:
    return {
        "category": "product_version",
        "name": "Tesla",
        "product": {"name": words, "product_id": f"r{branch}_{kind}"},
    }


def bulletins(*found: dict[str, Any]) -> bytes:
    numbered = [(one["document"]["tracking"]["id"], one) for one in found]
    files = {f"product-security-main/2026/{number}/{number}.json": one for number, one in numbered}
    return packed(files | {"product-security-main/2026/1/CVE-2026-1.json": {"cveMetadata": {}}})


NVIDIA = (
    bulletin(
        5700,
        TODAY - timedelta(days=120),
        {"535": "535.288.01", "550": "550.163.02"},
        {"CVE-2026-1001": "HIGH"},
    ),
    bulletin(
        5821,
        TODAY - timedelta(days=20),
        {"535": "535.309.01", "580": "580.159.03", "595": "595.71.05"},
        {"CVE-2026-1002": "MEDIUM", "CVE-2026-1003": "CRITICAL"},
    ),
)


def kev(*identifiers: str, released: date = TODAY) -> bytes:
    names = [*identifiers, *(f"CVE-2019-{number:04}" for number in range(FILLING))]
    return json.dumps(
        {
            "title": "CISA Catalog",
            "dateReleased": f"{released}T14:00:00.0000Z",
            "count": len(names),
            "vulnerabilities": [{"cveID": name, "vendorProject": "x"} for name in names],
        }
    ).encode()


def quiet() -> dict[Feed, bytes]:
    """Lists that have nothing against any image, but for ended driver branches."""
    return {
        Feed.DEBIAN: tracker({}),
        Feed.PYPI: osv(),
        Feed.NVIDIA: bulletins(*NVIDIA),
        Feed.KEV: kev(),
        Feed.ALPINE: osv(ecosystem="Alpine:v3.20"),
        Feed.UBUNTU: osv(osv_entry("UBUNTU-1", "x", ("0", "1"), ecosystem="Ubuntu:24.04:LTS")),
    }


class ListServer:
    """Serves `lists` below the name of each feed, dated `changed`; a feed that is not there is
    404."""

    def __init__(self) -> None:
        self.lists = quiet()
        self.changed = NOON
        outer = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:
                data = outer.lists.get(Feed(self.path[1:]))
                changed = format_datetime(outer.changed, usegmt=True)
                self.answer(404 if data is None else 200, data or b"", Last_Modified=changed)

        self._loopback = Loopback(Handler)
        self.close = self._loopback.close

    @property
    def options(self) -> list[str]:
        addresses = [f"{feed.value}={self._loopback.url}/{feed.value}" for feed in feeds.PLACES]
        return [word for address in addresses for word in ("--data", address)]
