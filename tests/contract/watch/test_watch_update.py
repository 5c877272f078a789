"""`golden watch --update` where something goes wrong with one image or one source: all else is done
and told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from goldenami.core.cache_paths import CachePaths
from goldenami.local.host import workspace
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.update_policy import UpdateVerdict
from goldenami.model.locked import lockfile
from goldenami.watch import watch
from goldenami.watch.image_watcher import WatchedImage
from goldenami.watch.relock import Relock
from support.debian import debrepo
from support.debian.debrepo import Fault, Package
from support.debian.watch_checkout import IMAGE, KERNEL, LESS, SED, WatchCheckout

OTHER = "debian-13-ml-other"


def another_image(checkout: WatchCheckout) -> Path:
    """A second image of the same archives, whose lock is of the same day; returns its lock's
    path."""
    path = checkout.root / f"packer/images/{OTHER}.yml"
    text = (checkout.root / f"packer/images/{IMAGE}.yml").read_text(encoding="utf-8")
    path.write_text(text.replace(f"image: {IMAGE}", f"image: {OTHER}"), encoding="utf-8")
    where = lockfile.path_of(checkout.root, OTHER)
    lockfile.write(where, checkout.lock().model_copy(update={"image": OTHER}))
    return where


def test_a_source_that_is_down_while_a_lock_is_wanted_is_recorded_and_told(
    checkout: WatchCheckout,
    webhook: Callable[[], list[str]],
) -> None:
    checkout.archive("security", [SED, LESS]).publish(date=debrepo.DATE + 1)
    checkout.mirror.faults = {"/debian/dists/trixie-updates/*": Fault.BROKEN}
    shutil.rmtree(CachePaths.default().apt, ignore_errors=True)
    before = lockfile.path_of(checkout.root, IMAGE).read_bytes()
    code, said = checkout.watch("--update")
    assert code == 4, said
    assert checkout.verdicts() == {"kernel": "unreachable", "packages": "failed"}
    assert "apt could not read the indexes" in checkout.record.rows[-1].reason
    assert "no new lock of debian-13-ml-cpu; could not look at debian" in said
    assert (
        "# newer for debian-13-ml-cpu; no new lock of debian-13-ml-cpu; could not look at debian"
        in checkout.summary
    )
    assert webhook()[0].startswith("*newer for debian-13-ml-cpu; no new lock of debian-13-ml-cpu")
    assert lockfile.path_of(checkout.root, IMAGE).read_bytes() == before


def test_an_image_that_cannot_be_locked_keeps_no_other_from_its_lock(
    checkout: WatchCheckout,
    webhook: Callable[[], list[str]],
) -> None:
    other = another_image(checkout)
    checkout.archive("security", [SED, LESS]).publish(date=debrepo.DATE + 1)
    with workspace.image_lock(checkout.root, IMAGE):
        code, said = checkout.watch("--update", name="")
    assert code == 7, said
    assert [
        (row.image, row.verdict.value)
        for row in checkout.record.rows
        if row.component == "packages"
    ] == [(IMAGE, "failed"), (OTHER, "update")]
    assert [change.image for change in checkout.record.changes] == [OTHER]
    assert lockfile.read(other)[0].packages["less"].version == LESS.version
    assert f"new lock of {OTHER}; no new lock of {IMAGE}" in webhook()[0]


def test_a_lock_that_cannot_be_read_keeps_no_other_image_from_being_looked_at(
    checkout: WatchCheckout,
) -> None:
    other = another_image(checkout)
    other.write_text(other.read_text(encoding="utf-8") + " ", encoding="utf-8")
    code, said = checkout.watch(name="")
    assert code == 2, said
    assert "was edited by hand" in said
    assert {row.image for row in checkout.record.rows} == {IMAGE}
    assert f"could not look at {OTHER}" in checkout.summary


def test_packages_that_cannot_be_judged_are_a_row(checkout: WatchCheckout) -> None:
    """The server has the indexes, and redirects in a circle where a minimum age asks for a file's
    date."""
    checkout.define("watch: {packages: {policy: security, minimum_age_days: 7}}")
    checkout.archive("security", [SED, LESS]).publish(date=debrepo.DATE + 1)
    checkout.mirror.faults = {"/security/pool/*": Fault.CIRCLE}
    code, said = checkout.watch()
    assert code == 4, said
    assert checkout.verdicts() == {"kernel": "current", "packages": "unreachable"}
    assert f"{IMAGE} packages: " in said


def test_a_kernel_moves_to_the_one_that_was_judged(checkout: WatchCheckout) -> None:
    """Not to the newest, which the policy's age forbids; the lock says why."""
    checkout.define("watch: {kernel: {policy: branch, minimum_age_days: 7}}")
    young = [
        *debrepo.kernel_packages("6.1.0-52", "6.1.160-1"),
        Package(
            "linux-image-cloud-amd64",
            "6.1.160-1",
            depends="linux-image-6.1.0-52-cloud-amd64 (= 6.1.160-1)",
        ),
    ]
    made = checkout.archive("security", [SED, *KERNEL, *young]).publish(date=debrepo.DATE + 1)
    for path in made.folder.rglob("linux-*_6.1.150-1_*"):
        os.utime(path, (debrepo.DATE, debrepo.DATE))
    code, said = checkout.watch("--update")
    assert code == 0, said
    assert checkout.lock().kernel.version == "6.1.150-1"
    assert checkout.lock().choices[0].why == "the policy keeps it"


def test_a_lock_that_comes_out_the_same_is_no_change(checkout: WatchCheckout) -> None:
    image = WatchedImage(
        definition_file.load(checkout.root, definition_file.path_of(checkout.root, IMAGE)),
        *lockfile.read(lockfile.path_of(checkout.root, IMAGE)),
    )
    record, [result] = watch.read_sources(
        checkout.root, CachePaths.default(), [image], "2026-11-25T00:00:00Z"
    )
    moving = tuple(row.model_copy(update={"verdict": UpdateVerdict.UPDATE}) for row in result.rows)
    relock = Relock(checkout.root, lambda *_: (image.lock, image.sha256), wait=False)
    done, failures = relock.run(record, [replace(result, rows=moving)])
    assert (done.changes, failures) == ([], [])
    assert {(row.verdict, row.reason.partition(":")[0]) for row in done.rows} == {
        (UpdateVerdict.BLOCKED, "resolved again, the lock is the same")
    }


@pytest.mark.parametrize(
    ("sed", "day", "said"),
    [
        (
            SED,
            -86400,
            "suite trixie-security: goes backwards: its Release file is of 2025-06-14T15:06:40Z",
        ),
        (
            replace(SED, version="12.4+deb13u5.1"),
            1,
            "debian-security: goes backwards: sed 12.4+deb13u6 -> 12.4+deb13u5.1",
        ),
    ],
)
def test_what_goes_backwards_makes_no_new_lock(
    checkout: WatchCheckout, sed: Package, day: int, said: str
) -> None:
    """Although it has something newer, too."""
    checkout.archive("security", [sed, LESS]).publish(date=debrepo.DATE + day)
    before = lockfile.path_of(checkout.root, IMAGE).read_bytes()
    code, printed = checkout.watch("--update")
    assert code == 4, printed
    row = next(row for row in checkout.record.rows if row.component == "packages")
    assert (row.verdict.value, row.reason.startswith(said)) == ("failed", True), row
    assert lockfile.path_of(checkout.root, IMAGE).read_bytes() == before
