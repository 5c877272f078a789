"""`golden status --site` with an account: what runs where, and the bucket that keeps the page."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import boto3
import pytest
from goldenami.aws.services.site_bucket import SiteBucket
from goldenami.image.report import site
from goldenami.image.report.site import SITE_FILE
from goldenami.model.builds.build_folder import ImageFolder
from support.aws import unbound
from support.aws.emulator import Emulator
from support.aws.seeded_account import IMAGE, SeededAccount, build_id
from support.builds import report_data as data
from support.builds import site_data
from support.builds.builds import Checkout

BUCKET, REGION = "golden-site", "us-east-1"


@pytest.fixture
def s3(aws: Emulator) -> Any:
    client = boto3.client("s3", REGION)
    client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture
def bucket(s3: Any) -> SiteBucket:
    return SiteBucket.at(unbound.account().s3(REGION), f"s3://{BUCKET}/pages")


def test_the_bucket_keeps_builds_that_no_machine_has(
    bucket: SiteBucket, s3: Any, tmp_path: Path
) -> None:
    here, there = tmp_path / "here/site", tmp_path / "there/site"
    assert bucket.pull(there, SITE_FILE) == 0
    gone = site_data.builds(tmp_path)[0]
    site.collect([ImageFolder.of(tmp_path, data.IMAGE)], here)
    (here / "index.html").write_text("<p>x", encoding="utf-8")
    sent = bucket.push(here)
    assert sent == sum(path.is_file() for path in here.rglob("*")) and bucket.push(here) == 0, (
        "nothing is sent twice"
    )
    page = s3.head_object(Bucket=BUCKET, Key="pages/index.html")
    assert page["ContentType"] == "text/html; charset=utf-8"
    assert bucket.pull(there, SITE_FILE) == site_data.COUNT and bucket.pull(there, SITE_FILE) == 0
    assert [build.build_id for build in site.builds(there, [])[data.IMAGE]][-1] == gone.build_id
    assert not list(there.rglob("report.html")), "the page alone needs no reports"
    s3.put_object(Bucket=BUCKET, Key=f"pages/../../{SITE_FILE}", Body=b"{}")
    bucket.pull(there, SITE_FILE)
    assert not (tmp_path / SITE_FILE).exists()


def test_the_page_shows_what_the_account_says(account: SeededAccount, checkout: Checkout) -> None:
    """A region that is silent is on the page, and the command says so, too."""
    first = account.ami(1)
    account.point(f"/golden-ami/{IMAGE}/latest", first)
    account.launch(first)
    account.emulator.set(disabled_regions=["us-west-2"])
    ran = checkout.golden("status", "--site", "account")
    page = (checkout.root / "build/site/index.html").read_text(encoding="utf-8")
    assert f"1 of {build_id(1)}" in page, page
    assert "us-west-2" in page and ran.code != 0 and "the page is written, but" in ran.text
    shutil.rmtree(checkout.root / "build/site")
    ran = checkout.golden("status", "--site", "here")
    assert ran.code == 0 and "not asked" in (checkout.root / "build/site/index.html").read_text(
        encoding="utf-8"
    )
