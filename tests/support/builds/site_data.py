"""A site over several builds, with what an account would say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goldenami.core import records
from goldenami.image.report import report, site
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from goldenami.model.builds.build_records import Outcome
from goldenami.model.builds.security_records import (
    CVE_FILE,
    CveRecord,
    Feed,
    FeedStatus,
    Vulnerability,
)
from goldenami.model.supported.scales import Rating

from support.builds import report_data as data

MADE_AT = "2026-11-26T20:00:00Z"
BARE = "debian-13-ml-cpu"
COUNT = 4


def builds(root: Path) -> list[BuildFolder]:
    """Builds of one image, the oldest first, the last but one not verified."""
    made: list[BuildFolder] = []
    for number in range(COUNT):
        lock = data.lock(disk_size_gib=10 + number)
        bake = data.bake_record(
            lock,
            scale=1 + number / 10,
            seconds=400.0 + number,
            started_at=f"2026-{number + 7:02}-24T22:10:04Z",
        )
        verify = data.verify_record(bake, data.FAILING if number == COUNT - 2 else None)
        build = data.write_build(
            ImageFolder.of(root, data.IMAGE).path / bake.build_id, bake, verify, lock
        )
        records.write(
            build.path / CVE_FILE,
            CveRecord(
                image=bake.image,
                build_id=bake.build_id,
                lock_sha256=bake.lock_sha256,
                checked_at=MADE_AT,
                fail_on=Rating.HIGH,
                feeds=[FeedStatus(feed=Feed.DEBIAN, address="x")],
                warnings=[],
                outcome=Outcome.INCORRECT,
                findings=[
                    Vulnerability(
                        id="CVE-2026-1",
                        feed=Feed.DEBIAN,
                        part="expat",
                        version="1",
                        rating=Rating.HIGH,
                        fails=True,
                    )
                ],
            ),
        )
        records.write_text(build.path / "provenance/us-east-1.json", "{}\n")
        report.write_report(build, made[-1] if made else None)
        made.append(build)
    return made


def answers(build_id: str) -> dict[str, Any]:
    """Three instances of a build in one region; another region is silent."""
    pointer = {"ami": "ami-1", "build_id": build_id, "exists": True, "gpu": ""}
    amis: list[dict[str, Any]] = [
        {"build_id": build_id, "instances": 3, "usd_month": 0.31, "bytes_exact": True},
        {"build_id": "0" * 12, "instances": 0, "usd_month": 0.11, "bytes_exact": False},
    ]
    return {
        "unreachable": {"eu-west-1": "AWS did not answer"},
        "regions": {
            "us-east-1": [{"image": data.IMAGE, "latest": pointer, "candidate": None, "amis": amis}]
        },
    }


def page(root: Path) -> str:
    made = builds(root)
    folder = root / "site"
    assert site.collect([ImageFolder.of(root, data.IMAGE)], folder) == []
    parts = {"status": answers(made[-1].build_id)}
    return site.render(root, [BARE, data.IMAGE], site.builds(folder, []), MADE_AT, parts)
