"""The site: what it says of builds and account, what it links, and what it keeps of builds that are
gone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from goldenami.core.errors import GoldenError
from goldenami.image.report import site
from goldenami.image.report.site import SITE_FILE
from goldenami.model.builds.build_folder import ImageFolder
from support.builds import report_data as data
from support.builds import site_data


def test_the_page_says_what_is_known_of_each_image(tmp_path: Path) -> None:
    html = site_data.page(tmp_path)
    newest = site.builds(tmp_path / "site", [])[data.IMAGE][0]
    said = data.text(html)
    # A silent region is unknown: not unpublished, and not without instances.
    for expected in (
        "no build is known Where it runs: unknown.",
        "no GPU has run it",
        "NVIDIA driver ended 2026-06-30",
        "1 high",
        "1 stops a publish",
        "not verified",
        f"3 of {newest.build_id}",
        "<= $0.42",
        "Silent: 1 of 2 regions",
        "no build is known",
        "+10 %",
        "2026-10-24 22:10",
        "6 min 43 s",
    ):
        assert expected in said, f"{expected} is not in {said}"


def test_the_newest_is_first_and_what_is_not_built_is_a_line(tmp_path: Path) -> None:
    site_data.builds(tmp_path)
    site.collect([ImageFolder.of(tmp_path, data.IMAGE)], tmp_path / "site")
    found = site.builds(tmp_path / "site", [])
    older = [
        build.model_copy(update={"image": "another", "started_at": "2020-01-01T00:00:00Z"})
        for build in found[data.IMAGE]
    ]
    html = site.render(
        tmp_path, ["a-bare", "another", data.IMAGE], {**found, "another": older}, site_data.MADE_AT
    )
    assert re.findall(r'<section id="([^"]+)"', html) == ["images", data.IMAGE, "another"]
    said = data.text(html)
    assert "a-bare no build is known make bake IMAGE=a-bare" in said
    assert f"{found[data.IMAGE][0].build_id}, 2026-10-24" in said[: said.index("a-bare")]


def test_what_nobody_asked_is_said_and_never_a_zero(tmp_path: Path) -> None:
    site_data.builds(tmp_path)
    site.collect([ImageFolder.of(tmp_path, data.IMAGE)], tmp_path / "site")
    said = data.text(
        site.render(tmp_path, [], site.builds(tmp_path / "site", []), site_data.MADE_AT)
    )
    assert "Where it runs: not asked." in said and "$" not in said


def test_every_link_leads_to_a_file_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    html = site_data.page(tmp_path)
    pages = {tmp_path / "site/index.html": html}
    pages |= {
        path: path.read_text(encoding="utf-8")
        for path in (tmp_path / "site").glob("*/*/report.html")
    }
    assert len(pages) == 1 + site_data.COUNT
    for path, content in pages.items():
        for link in re.findall(r'href="([^"#][^"]*)"', content):
            assert (path.parent / link).is_file(), f"{path.name}: {link}"
        assert not re.findall(r"(?:src|srcset)=|<script|<link|url\(|@import", content)


def test_a_build_that_is_gone_stays_and_one_that_is_damaged_is_named(tmp_path: Path) -> None:
    images, folder = [ImageFolder.of(tmp_path, data.IMAGE)], tmp_path / "site"
    gone, damaged, *_ = site_data.builds(tmp_path)
    site.collect(images, folder)
    shutil.rmtree(gone.path)
    lock = damaged.lock.read_text(encoding="utf-8")
    damaged.lock.write_text("[]", encoding="utf-8")
    (error,) = site.collect(images, folder)
    assert error.message == f"{damaged.lock} is no record"
    damaged.lock.write_text(lock, encoding="utf-8")
    damaged.bake.write_text("{}", encoding="utf-8")
    (error,) = site.collect(images, folder)
    assert str(damaged.bake) in error.message
    assert len(site.builds(folder, [])[data.IMAGE]) == site_data.COUNT
    kept = folder / data.IMAGE / damaged.build_id / SITE_FILE
    kept.write_text("{}", encoding="utf-8")
    errors: list[GoldenError] = []
    assert len(site.builds(folder, errors)[data.IMAGE]) == site_data.COUNT - 1
    assert str(kept) in errors[0].message
    kept.unlink()
    oldest = site.builds(folder, [])[data.IMAGE][-1]
    assert oldest.build_id == gone.build_id, "newest first"
