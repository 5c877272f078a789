"""Commands on what this machine keeps: the package store, and builds."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from goldenami.commands import Wait
from goldenami.commands.checkout import Checkout
from goldenami.core.errors import BadInput, ExitCode
from goldenami.image.bake import clean, garbage
from goldenami.local.host import workspace
from goldenami.model.builds.build_folder import ImageFolder


class StoreAction(StrEnum):
    """What `golden store` does."""

    VERIFY = "verify"
    GC = "gc"
    PUSH = "push"


def cmd_store(
    checkout: Checkout,
    action: StoreAction,
    *,
    delete: Annotated[
        bool, typer.Option("--delete", help="with gc: remove, not only list")
    ] = False,
) -> int:
    """Find damaged objects (`verify`), list what no lock names (`gc`), fill the remote store
    (`push`)."""
    match action:
        case StoreAction.VERIFY:
            return _verify(checkout)
        case StoreAction.GC:
            if not delete:
                return _collect(checkout, delete=False)
            # Alone, so that no bake needs a file that is just deleted.
            with checkout.store.alone():
                return _collect(checkout, delete=True)
        case StoreAction.PUSH:
            return _push(checkout)


def _verify(checkout: Checkout) -> int:
    damaged = checkout.store.verify()
    for name in damaged:
        print(f"damaged and removed: {name}")
    print(f"{len(checkout.store.objects())} objects are whole, {len(damaged)} were damaged")
    if damaged:
        return ExitCode.STAGE_FAILED
    return 0


def _collect(checkout: Checkout, *, delete: bool) -> int:
    unnamed = garbage.find(checkout.root, checkout.store)
    for path, size in unnamed.files.items():
        print(f"{size:>12} {path.name}")
    count, size_mb = len(unnamed.files), sum(unnamed.files.values()) / 1e6
    text = f"{count} files, {size_mb:.0f} MB, that no lock or build of this checkout names"
    if not delete:
        text += " (--delete removes them)"
    print(text)
    if delete:
        unnamed.remove()
        print("deleted")
    return 0


def _push(checkout: Checkout) -> int:
    if checkout.store.remote is None:
        raise BadInput(
            "no remote store is configured", hint="set GOLDEN_STORE_S3 to s3://bucket/prefix"
        )
    present, lacking = garbage.shareable(checkout.root, checkout.store)
    print(
        f"{len(present)} files, {sum(present.values()) / 1e6:.0f} MB, are to be in the remote "
        f"store; {lacking} that the locks name are not here",
        flush=True,
    )
    sent = checkout.store.send(present)
    size = sum(present[digest] for digest in sent)
    print(f"sent {len(sent)}, {size / 1e6:.0f} MB; it had the others")
    return 0


def cmd_clean(
    checkout: Checkout,
    *,
    wait: Wait = False,
    everything: Annotated[
        bool, typer.Option("--all", help="also the newest verified builds")
    ] = False,
) -> int:
    """Free what builds hold, also those of `selftest`, whose answers stay; the newest verified
    build of each image stays unless --all."""
    # Images are found by their folders, so one without a definition is cleaned, too.
    builds, images = checkout.root / "build", list[str]()
    for path in builds.glob("*/"):
        if (path / "logs").is_dir() or ImageFolder(path).builds:
            images.append(path.name)
    for image in sorted(images):
        with workspace.image_lock(checkout.root, image, wait=wait):
            for line in clean.run(checkout.builds(image), everything=everything):
                print(line)
    # selftest.json and its page are no builds: AWS was paid for them.
    if (selftest := builds / "selftest/build").is_dir():
        with workspace.image_lock(checkout.root, "selftest", wait=wait):
            print(clean.free(selftest, "selftest/build"))
    return 0
