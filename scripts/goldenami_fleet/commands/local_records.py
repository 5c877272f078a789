"""What is known of builds by records here or in the site: support and vulnerabilities."""

from __future__ import annotations

from goldenami.commands.checkout import Checkout
from goldenami.commands.site_page import SITE
from goldenami.core import records
from goldenami.image.report.site import SITE_FILE, SiteBuild
from goldenami.model.builds.build_folder import ImageFolder
from goldenami.model.builds.security_records import CVE_FILE, CveRecord
from goldenami.model.supported import support

from goldenami_fleet.digest.digest import LocalRecords
from goldenami_fleet.digest.findings import Gap, Kind


def read(checkout: Checkout, builds: list[tuple[str, str]]) -> LocalRecords:
    """Return the support and the vulnerabilities of builds, by the locks and records that are here
    or in the site."""
    records_found = LocalRecords(
        {
            definition.image: definition.publish.keep_last
            for definition in checkout.definitions(None)
            if definition.publish
        },
        {},
        {},
        [],
    )
    for image, build_id in builds:
        build_folder, site_folder = (
            folder.build(build_id).path
            for folder in (checkout.builds(image), ImageFolder(checkout.root / SITE / image))
        )
        site_build = records.read_if_whole(site_folder / SITE_FILE, SiteBuild)
        if lock := checkout.lock_of(image, build_id) or (site_build.lock if site_build else None):
            records_found.parts.setdefault(image, []).extend(support.of_lock(checkout.root, lock))
        else:
            records_found.gaps.append(
                Gap(
                    what=f"support of {image} {build_id}",
                    kinds=[Kind.ENDED],
                    why="its lock is neither here nor in the site",
                    is_failure=False,
                )
            )
        record = records.read_if_whole(build_folder / CVE_FILE, CveRecord) or records.read_if_whole(
            site_folder / CVE_FILE, CveRecord
        )
        if record:
            records_found.cves.setdefault(image, []).append(record)
        else:
            records_found.gaps.append(
                Gap(
                    what=f"vulnerabilities of {image} {build_id}",
                    kinds=[Kind.VULNERABLE],
                    why=f"nobody has asked: `golden cve {image}`",
                    is_failure=False,
                )
            )
    return records_found
