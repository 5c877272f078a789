"""The package store: opening it as every command does, and looking after it."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil

from goldenami.aws.remote_store import S3Store
from goldenami.aws.session import Account
from goldenami.bake import bake_inputs
from goldenami.commands import ROOT, Add
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput, ExitCode
from goldenami.model import lockfile
from goldenami.packages import mirrors
from goldenami.packages.store import Store

_SHA256 = re.compile(r'"sha256": "([0-9a-f]{64})"')


def open_store() -> Store:
    """The store of this user, behind apt's proxies, with the remote one that GOLDEN_STORE_S3 names."""
    return Store(CachePaths.default().root, remote=_remote(), proxy=mirrors.proxy)


def _remote() -> S3Store | None:
    location = os.environ.get("GOLDEN_STORE_S3")
    # S3 sends a client of another region to the bucket's own, so any region is a place to begin.
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return S3Store.at(Account().s3(region), location) if location else None


def cmd_store(args: argparse.Namespace) -> int:
    """Find damaged objects (`verify`), list what no lock names (`gc`), fill the remote store (`push`)."""
    action = {"verify": _verify, "gc": _gc, "push": _push}[args.action]
    return action(open_store(), args)


def _verify(kept: Store, _: argparse.Namespace) -> int:
    damaged = kept.verify()
    for name in damaged:
        print(f"damaged and removed: {name}")
    print(f"{len(kept.objects())} objects are whole, {len(damaged)} were damaged")
    return int(ExitCode.STAGE_FAILED) if damaged else 0


def _gc(kept: Store, args: argparse.Namespace) -> int:
    """What no lock or build of this checkout names goes, and the repositories that still hold links to it.

    What goes is looked up while nobody else uses the store: a run that began meanwhile may name what nobody did before.
    """
    with kept.alone() if args.delete else contextlib.nullcontext():
        return _collect(kept, delete=args.delete)


def _collect(kept: Store, *, delete: bool) -> int:
    paths = [*ROOT.glob("packer/locks/*.lock.json"), *ROOT.glob("build/*/*/lock.json")]
    named = {digest for path in paths for digest in _SHA256.findall(path.read_text(encoding="utf-8"))}
    garbage, old = kept.garbage(named), bake_inputs.repositories(kept, named)
    for path, size in garbage.items():
        print(f"{size:>12} {path.name}")
    print(f"{len(garbage)} files, {sum(garbage.values()) / 1e6:.0f} MB, that no lock or build of this checkout names"
          + ("" if delete else " (--delete removes them)"))
    if delete:
        for folder in old:
            shutil.rmtree(folder)
        for path in garbage:
            path.unlink()
        print("deleted")
    return 0


def _push(kept: Store, args: argparse.Namespace) -> int:
    """Send what the committed locks name and the remote store lacks. A file that is not here is left out."""
    if kept.remote is None:
        raise BadInput("no remote store is configured", hint="set GOLDEN_STORE_S3 to s3://bucket/prefix")
    objects = {digest: size for path in sorted(ROOT.glob("packer/locks/*.lock.json"))
               for digest, size in lockfile.read(path)[0].objects().items()}
    here = [digest for digest, size in sorted(objects.items()) if kept.has(digest, size)]
    print(f"{len(here)} files, {sum(objects[digest] for digest in here) / 1e6:.0f} MB, are to be in the remote store; "
          f"{len(objects) - len(here)} that the locks name are not here")
    if not args.dry_run:
        sent = [digest for digest in here if kept.remote.put(digest, kept.path(digest))]
        print(f"sent {len(sent)}, {sum(objects[digest] for digest in sent) / 1e6:.0f} MB; it had the others")
    return 0


def register(add: Add) -> None:
    """Add the commands of this module to the command line."""
    kept = add("store", cmd_store)
    kept.add_argument("action", choices=["verify", "gc", "push"])
    kept.add_argument("--delete", action="store_true", help="with gc: remove, not only list")
    kept.add_argument("--dry-run", action="store_true", help="with push: only say what would be sent")
