"""The beginning of a lock: its inputs, and a resolution with today's indexes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from goldenami.core.records import sha256_text
from goldenami.core.terminal.progress import Progress
from goldenami.image.lock import addressed_files, declared_sources
from goldenami.image.lock.addressed_files import AddressedFile
from goldenami.image.lock.compilation.driver_fit import LockConstraints
from goldenami.image.lock.resolution import Resolution
from goldenami.model.definitions import source_checks
from goldenami.model.definitions.definition import CONTAINERS, Definition
from goldenami.model.locked import vendor_archives
from goldenami.model.locked.lockfile import Package
from goldenami.model.supported.platforms import PLATFORMS
from goldenami.packages import mirrors
from goldenami.packages.apt import AptRoot
from goldenami.packages.mirrors import Source
from goldenami.packages.store import Store


@dataclass(frozen=True)
class LockInputs:
    """The inputs of a lock of `definition`: the roles of the checkout `root`, and the files of
    `store`. What `constraints` name keeps its version."""

    root: Path
    definition: Definition
    store: Store
    progress: Progress
    log: Path
    constraints: LockConstraints = field(default_factory=LockConstraints)


@contextmanager
def opened(inputs: LockInputs) -> Iterator[Resolution]:
    """A resolution with today's indexes. Its apt root is locked until the block ends."""
    root, definition, store = inputs.root, inputs.definition, inputs.store
    progress = inputs.progress
    files = addressed_files.have(root, definition, store, progress)
    resolution = _open(replace(inputs, constraints=_with_files(inputs.constraints, files)))
    resolution.files = files
    if files:
        variables = {source_checks.VARIABLE: [file.told for file in files]}
        resolution.derived[source_checks.ROLE] = variables
    resolution.containers = declared_sources.containers(root, definition, store, progress)
    if resolution.containers:
        resolution.derived[CONTAINERS] = {
            "containers_images": declared_sources.told_of(resolution.containers),
            "containers_engine": resolution.setting(source_checks.ENGINE, "engine"),
        }
    apt = resolution.apt
    with apt.locked():
        (apt.folder / "built").mkdir(parents=True, exist_ok=True)
        # The repository has to exist before apt reads its sources, and may have an earlier run's
        # packages.
        resolution.offer([])
        with declared_sources.by_line(root, definition, apt):
            apt.configure()
            apt.pin({})
            with progress.step("indexes", ", ".join(source.archive for source in apt.sources)):
                apt.update()
        packages = {**resolution.constraints.packages, **declared_sources.pins(resolution)}
        resolution.constraints = replace(resolution.constraints, packages=packages)
        yield resolution


def _with_files(constraints: LockConstraints, files: Sequence[AddressedFile]) -> LockConstraints:
    """`constraints` with the .deb files of `files`, which stay as they are, whatever the archives
    have."""
    packages, stock = {**constraints.packages}, {**constraints.stock}
    for file in files:
        if deb := file.deb:
            packages[deb.name] = deb.version
            stock[deb.name] = Package.of(deb)
    return replace(constraints, packages=packages, stock=stock)


def sources_of(root: Path, definition: Definition) -> list[Source]:
    """The archives that `definition` is resolved from."""
    base = definition.base
    return mirrors.sources(
        base.distribution,
        base.release,
        backports=base.backports,
        vendors=vendor_archives.declared_archives(root, definition),
    )


def _open(inputs: LockInputs) -> Resolution:
    definition, constraints = inputs.definition, inputs.constraints
    base, sources = definition.base, sources_of(inputs.root, definition)
    vendors = [source.vendor for source in sources if source.vendor]
    uris = mirrors.locate([source.archive for source in sources], vendors)
    # One apt root for an image and its archives, kept between runs: apt fetches only changed
    # indexes.
    key = sha256_text(repr((definition.image, sources, sorted(uris.items()))))
    folder = inputs.store.cache.apt / key[:16]
    apt = AptRoot(
        folder=folder,
        sources=tuple(sources),
        uris=uris,
        architecture=base.architecture,
        local_repo=folder / "built",
        stock={package.sha256: package.deb(name) for name, package in constraints.stock.items()},
    )
    return Resolution(
        inputs.root,
        definition,
        inputs.store,
        inputs.progress,
        inputs.log,
        PLATFORMS[base.release],
        apt,
        constraints=constraints,
    )
