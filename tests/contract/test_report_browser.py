"""The report and the site in a real browser: Debian's chromium, headless, at a desktop's and a
phone's width.

Without chromium the tests are skipped on a laptop and an error in CI.
"""

from __future__ import annotations

import json
import re
import shutil
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest
from goldenami.core import shell
from goldenami.image.report import report
from support.builds import report_data as data
from support.builds import site_data, tools

WIDTHS = (1280, 375)
HEIGHT = 900
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)
CSP = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
PROBE = """<script>addEventListener('load', () => {
const box = (node) => node.getBoundingClientRect();
const boxes = (selector) => [...document.querySelectorAll(selector)].map(box);
document.querySelectorAll('details').forEach((node) => { node.open = true; });
parent.seen[KEY] = {
  inner: window.innerWidth, scroll: document.documentElement.scrollWidth,
  narrowest: Math.min(...boxes('h1, .matter, .verdict').map((box) => box.width)),
  beyond: boxes('main *, header *').filter((box) => box.right > window.innerWidth + 0.5 && box.width > 1).length,
};
});</script>"""
COLLECT = "<script>seen = {}; addEventListener('load', () => { document.title = JSON.stringify(seen); });</script>"
BROKEN = {
    "<p style='width:1400px'>wide</p>": "wider than the window",
    "<style>.verdict { width: 20px; }</style>": "squeezed",
}


def run(scratch: Path, page: Path, width: int, *wanted: str) -> str:
    """What chromium prints for `page` in a window of `width` CSS pixels, with a new profile each
    time."""
    profile = scratch / "profile"
    argv = (tools.find("chromium"), *FLAGS, f"--user-data-dir={profile}",
            f"--window-size={width},{HEIGHT}", *wanted)
    try:
        return shell.output([*argv, page.as_uri()], env={"HOME": str(scratch)}, timeout_s=120)
    finally:
        shutil.rmtree(profile, ignore_errors=True)


def probe(scratch: Path, pages: dict[str, tuple[str, int]]) -> dict[str, dict[str, Any]]:
    """What one browser made of each page (its HTML, its width in CSS pixels), with all details
    open.

    It sees copies that may run one script, the measuring one, in frames: chromium makes no window
    narrower than 500.
    """
    frames = [COLLECT]
    for key, (html, width) in pages.items():
        copy = CSP.sub("", html).replace("</body>",
                                         f"{PROBE.replace('KEY', json.dumps(key))}</body>")
        frames.append(f'<iframe style="width:{width}px;height:{HEIGHT}px;border:0" '
                      f'srcdoc="{escape(copy)}"></iframe>')
    page = scratch / "frames.html"
    page.write_text(f"<meta charset='utf-8'><title></title>{''.join(frames)}", encoding="utf-8")
    title = re.search(r"<title>(\{.*?\})</title>",
                      run(scratch, page, WIDTHS[0], "--dump-dom"))
    assert title is not None, "the probe did not run"
    found: dict[str, dict[str, Any]] = json.loads(unescape(title[1]))
    assert found.keys() == pages.keys()
    return found


def problems(seen: dict[str, Any]) -> list[str]:
    """Everything about a probed page that a reader would call broken."""
    found = []
    if seen["scroll"] > seen["inner"] or seen["beyond"]:
        found.append(f"wider than the window: {seen['scroll']} of {seen['inner']} px, "
                     f"{seen['beyond']} boxes beyond it")
    if seen["narrowest"] < 0.6 * min(seen["inner"], 480):
        found.append(f"a column is squeezed to {seen['narrowest']} px")
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Pages of a failing and a hostile build, and of a site and a hostile one."""
    root = tmp_path_factory.mktemp("pages")
    folder, lock = data.hostile(root / "hostile")
    return {
        "failing": report.render(*data.write_pair(root / "failing", data.FAILING)),
        "hostile": report.render(folder, None, lock), "site": site_data.page(root / "site"),
        "hostile site": site_data.page(root / "bad", bad="W" * 200 + data.HOSTILE),
    }


@pytest.fixture(scope="module")
def measured(
    pages: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Every page at every width, and every broken page, seen by one browser."""
    views = {f"{name} {width}": (html, width) for name, html in pages.items() for width in WIDTHS}
    broken = {
        message: (pages["failing"].replace("</main>", f"{code}</main>"), WIDTHS[0])
        for code, message in BROKEN.items()
    }
    return probe(tmp_path_factory.mktemp("measured"), views | broken)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["failing", "hostile", "site", "hostile site"])
def test_layout_holds(measured: dict[str, dict[str, Any]], name: str, width: int) -> None:
    seen = measured[f"{name} {width}"]
    assert seen["inner"] == width
    assert problems(seen) == []


@pytest.mark.parametrize("message", BROKEN.values())
def test_a_broken_page_is_noticed(measured: dict[str, dict[str, Any]], message: str) -> None:
    assert message in " ".join(problems(measured[message]))


def test_the_page_itself_is_drawn(pages: dict[str, str], tmp_path: Path) -> None:
    """As written, with its policy: where that refuses its style, it looks as if it had none."""
    page, shot = tmp_path / "report.html", tmp_path / "report.png"
    bare = re.sub(r"<style>.*?</style>", "", pages["failing"], flags=re.DOTALL)
    drawn = []
    for html in (pages["failing"], bare, "<title>blank</title>"):
        page.write_text(html, encoding="utf-8")
        run(tmp_path, page, 375, f"--screenshot={shot}")
        drawn.append(shot.read_bytes())
    whole, plain, blank = drawn
    assert len(whole) > 4 * len(blank), "next to nothing is on it"
    assert whole != plain, "its style is not in force"
