"""YAML read with the line of every key, so that an error can say where it is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from goldenami.core.errors import BadInput, together

Key = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)

MOST_KEYS = 10_000
"""Of a file; packer/hardware.yml has 739. A few aliases of aliases would be millions."""
LOADER = yaml.CSafeLoader
"""That of libyaml, which PyYAML's wheels have: a tenth of the time."""
_OTHER_NUMBER = re.compile(
    r"[-+]?0[0-7_]+|[-+]?0[bx][0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"
)
"""What YAML 1.1 reads as another number than people do: octal, other bases, base 60."""
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
SHOWN = 12
"""Known words that an error names: two lines of a terminal."""


@dataclass(frozen=True)
class YamlFile:
    """Plain data, and the 1-based line of each key path; messages count items from 1, too. `others`
    are the files of keys that are not in `path`."""

    path: Path
    data: dict[str, Any]
    lines: dict[Key, int]
    others: dict[Key, Path] = field(default_factory=dict)

    def error(self, key: Key, problem: str, *, hint: str = "") -> BadInput:
        name = ".".join(str(part + 1 if isinstance(part, int) else part) for part in key)
        path = self.others.get(self._nearest(key), self.path)
        return BadInput(
            f"{path}:{self.line_of(key)}: {name + ': ' if name else ''}{problem}", hint=hint
        )

    def repeated(
        self, key: Key, names: Sequence[str], *rest: str, hint: str = ""
    ) -> Iterator[BadInput]:
        """What the list at `key` has twice; in each item its name stands at `rest`."""
        for index, name in enumerate(names):
            if name in names[:index]:
                yield self.error((*key, index, *rest), f"`{name}` is given twice", hint=hint)

    def line_of(self, key: Key) -> int:
        """Its own line, or that of the nearest key above it that the file has."""
        return self.lines.get(self._nearest(key), 1)

    def _nearest(self, key: Key) -> Key:
        while key and key not in self.lines:
            key = key[:-1]
        return key

    def with_rows(self, more: YamlFile, depth: int) -> YamlFile:
        """This table with the rows of `more`, to which `depth` keys lead: one that both have is
        that of `more`."""
        replaced = {key for key in more.lines if len(key) == depth}
        lines = {key: line for key, line in self.lines.items() if key[:depth] not in replaced}
        others = dict.fromkeys(more.lines.keys() - lines.keys(), more.path)
        return YamlFile(self.path, _merged(self.data, more.data, depth), more.lines | lines, others)


def _merged(given: Any, more: Any, depth: int) -> Any:
    if not depth or not isinstance(given, dict) or not isinstance(more, dict):
        return more
    rows = {key: _merged(given[key], more[key], depth - 1) for key in given.keys() & more.keys()}
    return {**given, **more, **rows}


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word nearest to `word`, or the known ones if none is near."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=3, cutoff=0.5)
    # Two letters in the wrong order are the likeliest slip.
    close.sort(key=lambda near: sorted(near) != sorted(word))
    if close:
        return f"did you mean `{close[0]}`?"
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return f"known: {', '.join(words[:SHOWN])}{more}" if words else "there is none yet"


def validate(source: YamlFile, model: type[M], data: Any = None, *, at: Key = ()) -> M:
    """`data` at the key `at` of `source` (default: all of it) as `model`, or BadInput with file,
    line, key and the nearest valid key of all that is wrong."""
    try:
        return model.model_validate(source.data if data is None else data)
    except ValidationError as error:
        found = sorted(
            error.errors(),
            key=lambda problem: (
                source.line_of((*at, *problem["loc"])),
                problem["type"] == "missing",
            ),
        )
    said = {problem["loc"]: _problem(problem, model) for problem in found}
    # A misspelt key is both unknown and missing: that it is unknown, and what it may mean, says
    # more.
    unknown = " ".join(
        said[problem["loc"]] for problem in found if problem["type"] == "extra_forbidden"
    )
    told = [
        source.error((*at, *problem["loc"]), said[problem["loc"]])
        for problem in found
        if problem["type"] != "missing" or f"`{problem['loc'][-1]}`" not in unknown
    ]
    raise together(told, source.path)


def _problem(found: ErrorDetails, model: type[BaseModel]) -> str:
    key: Key = found["loc"]
    match found["type"]:
        case "extra_forbidden":
            return f"unknown key; {nearest(str(key[-1]), _keys_of(model, key[:-1]))}"
        case "missing":
            return "is required and missing"
        case "value_error":
            return str(found["ctx"]["error"])
    wanted = found["type"].partition("_")[0]
    quotes = _about_quotes(wanted.replace("string", "str"), found["input"])
    return f"{found['msg'][0].lower()}{found['msg'][1:]} (got {found['input']!r}){quotes}"


def _about_quotes(wanted: str, value: Any) -> str:
    """What to do where quotes are all that is wrong with the type of `value`; else ""."""
    if wanted == "str" and isinstance(value, bool | int | float | date):
        return f'; put it in quotes: "{value}"'
    if wanted in ("int", "float", "bool", "list", "dict") and isinstance(value, str):
        try:
            without = yaml.safe_load(value)
        except yaml.YAMLError:
            return ""
        return "; take the quotes away" if type(without).__name__ == wanted else ""
    return ""


def _keys_of(model: type[BaseModel], path: Key) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        # An index or an entry's name is no field.
        model = (field and _model_in(field.annotation)) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(
        (model for part in getattr(annotation, "__args__", ()) if (model := _model_in(part))), None
    )


def _parsed(text: str) -> tuple[yaml.Node | None, Any]:
    """What libyaml refuses PyYAML reads again: its messages are better."""
    try:
        return yaml.compose(text, Loader=LOADER), yaml.load(text, LOADER)  # noqa: S506 - a safe one
    except yaml.YAMLError:
        return yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)


def load(path: Path) -> YamlFile:
    """Read a YAML mapping, or BadInput for a missing, empty, truncated, duplicate or other
    document."""
    try:
        text = path.read_text(encoding="utf-8")
        node, data = _parsed(text)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file", hint="see packer/images/ for what exists") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}:1: not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or "not YAML"
        raise BadInput(f"{path}:{line}: not valid YAML: {problem}", hint=_cure(problem)) from None
    except (
        RecursionError,
        ValueError,
    ) as error:  # an alias inside itself; a date such as 2026-13-45
        raise BadInput(f"{path}:1: not usable YAML: {error}") from None
    if node is None:
        raise BadInput(
            f"{path}:1: the file is empty", hint="copy one of packer/images/ and adapt it"
        )
    if not isinstance(node, yaml.MappingNode):
        raise BadInput(f"{path}:1: expected a mapping of keys to values")
    lines: dict[Key, int] = {}
    try:
        _walk(path, node, (), lines)
    except RecursionError:
        raise BadInput(f"{path}:1: an alias stands inside its own anchor") from None
    return YamlFile(path=path, data=data, lines=lines)


def _cure(problem: str) -> str:
    if r"'\t'" in problem:
        return "indent with spaces: YAML takes no tabs there"
    if "end" in problem:
        return "is the file truncated, or a quote or bracket open?"
    return "look at the indentation, colons, quotes and brackets of this line and the one above"


def _walk(path: Path, node: yaml.Node, at: Key, lines: dict[Key, int]) -> None:
    if len(lines) > MOST_KEYS:
        raise BadInput(
            f"{path}:1: has more than {MOST_KEYS} keys, those of aliases counted each time"
        )
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            key = (*at, str(name.value))
            line = name.start_mark.line + 1
            if key in lines:
                raise BadInput(
                    f"{path}:{line}: {name.value}: given twice (first on line {lines[key]})"
                )
            lines[key] = line
            _walk(path, value, key, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*at, index)] = value.start_mark.line + 1
            _walk(path, value, (*at, index), lines)
    elif node.tag in _NUMBERS and _OTHER_NUMBER.fullmatch(node.value):
        name = ".".join(str(part + 1 if isinstance(part, int) else part) for part in at)
        raise BadInput(
            f"{path}:{node.start_mark.line + 1}: {name}: YAML reads {node.value} as "
            f"another number, {yaml.safe_load(node.value)}",
            hint=f'write it in quotes, "{node.value}", or as a decimal number',
        )
