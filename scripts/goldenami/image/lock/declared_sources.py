"""What a definition states of sources beside the distribution's, held to what they are: whatever is
wrong is said with the definition's line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from goldenami.core import yaml_lines
from goldenami.core.errors import BadInput, NoFit
from goldenami.core.yaml_lines import Key, YamlFile
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.definition import Definition
from goldenami.packages import mirrors, signing_keys
from goldenami.packages.apt import AptRoot
from goldenami.packages.signing_keys import OtherKey

_NOWHERE = re.compile(r"Unable to locate package (\S+)|Package '?(\S+?)'? has no installation cand")


def demand(root: Path, definition: Definition, apt: AptRoot) -> None:
    """BadInput where a login of `extra_repos` is missing, or a key is not the one that is stated."""
    sources = {source.archive: source for source in apt.sources}
    for index, repo in enumerate(definition.extra_repos):
        at = ("extra_repos", index)
        try:
            mirrors.login(repo.name, repo.login)
            signing_keys.keyring(sources[repo.name], apt.uris[repo.name], apt.folder)
        except BadInput as error:
            raise _lines(root, definition).error((*at, "login"), error.message,
                                                 hint=error.hint) from None
        except OtherKey as error:
            raise _lines(root, definition).error((*at, "fingerprint"), error.message,
                                                 hint=error.hint) from None


def with_line(root: Path, definition: Definition, apt: AptRoot, error: NoFit) -> NoFit:
    """`error`, with the line that names the package that no archive has, where that is why."""
    match = _NOWHERE.search(error.message)
    name = (match[1] or match[2]) if match else None
    source = _lines(root, definition)
    for key in source.lines if name else ():
        if key[0] == "roles" and _value(source, key) == name:
            archives = ", ".join(each.archive for each in apt.sources)
            told = source.error(key, f"no archive has the package `{name}`: looked in {archives}")
            return NoFit(told.message, hint="correct its name, or add its repository to "
                                            "`extra_repos`")
    return error


def _lines(root: Path, definition: Definition) -> YamlFile:
    return yaml_lines.load(definition_file.path_of(root, definition.image))


def _value(source: YamlFile, key: Key) -> Any:
    """What stands at `key`."""
    found: Any = source.data
    for part in key:
        found = found[part]
    return found
