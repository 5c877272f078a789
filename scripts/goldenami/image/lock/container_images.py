"""Images of containers that a definition names: resolved in their registries, and fetched into the
store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goldenami.core import yaml_lines
from goldenami.core.errors import BadInput, Replaced, Vanished
from goldenami.core.terminal.progress import Progress
from goldenami.core.yaml_lines import YamlFile
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.definition import Definition
from goldenami.packages import registries
from goldenami.packages.http_documents import NotThere
from goldenami.packages.registries import LockedContainer
from goldenami.packages.store import Store


def have(
    root: Path, definition: Definition, store: Store, progress: Progress
) -> list[LockedContainer]:
    """The images of `definition`, all their blobs in the store; BadInput with file and line where
    one is not what it is said to be."""
    if not definition.containers:
        return []
    source = yaml_lines.load(definition_file.path_of(root, definition.image))
    found = list[LockedContainer]()
    with progress.step("containers", ", ".join(one.name for one in definition.containers)):
        for index, wanted in enumerate(definition.containers):
            with _by_line(source, index):
                found.append(registries.resolve(wanted, definition.base.architecture, store))
    with progress.in_all():  # each blob is hashed
        sizes = {sha256: size for one in found for sha256, size in one.blobs.items()}
        lacking = sum(size for sha256, size in sizes.items() if not store.has(sha256, size))
    if lacking:
        with progress.download("layers", f"{lacking / 1e6:.0f} MB", lacking) as on_bytes:
            for index, one in enumerate(found):
                with _by_line(source, index):
                    registries.fetch(one, store, on_bytes)
    return found


@contextmanager
def _by_line(source: YamlFile, index: int) -> Iterator[None]:
    """What is wrong with one image meanwhile is said with its line in the definition."""
    try:
        yield
    except (BadInput, NotThere, Replaced, Vanished) as error:
        raise source.error(("containers", index), error.message, hint=error.hint) from None


def told(found: list[LockedContainer]) -> list[dict[str, Any]]:
    """What the role is told."""
    return [{"name": one.name, "manifest": one.manifest.sha256, "config": one.config.sha256,
             "layers": [layer.sha256 for layer in one.layers]} for one in found]
