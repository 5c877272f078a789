"""Reads YAML with the line of every key, so that an error can say where the mistake is."""

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

from goldenami.core import units
from goldenami.core.errors import BadInput, together

Key = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)

MOST_KEYS = 10_000
"""Limit for a file, because a few aliases of aliases would be millions of keys.
packer/hardware.yml has 739."""
LOADER = yaml.CSafeLoader
"""The loader of libyaml, which PyYAML's wheels include: it takes a tenth of the time."""
_OTHER_NUMBER = re.compile(
    r"[-+]?0[0-7_]+|[-+]?0[bx][0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"
)
"""Numbers that YAML 1.1 reads otherwise than people do: octal, other bases, base 60."""
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
ONLY, MOST_DEPTH = "only", 99
"""First item of a list that replaces the one below it; more keys than lead to any value."""
SHOWN = 12
"""How many known words an error lists at most: about two lines of a terminal."""
GONE = {
    "data_center": "gone since December 2026; `golden regions` says how far each region is",
}
"""Commands and keys that went: since when, and what to type instead."""


@dataclass(frozen=True)
class YamlFile:
    """Data of a YAML file, and the 1-based line of each key. Messages count list items from 1, too.
    `others` has the files of keys that come from another file than `path`."""

    path: Path
    data: dict[str, Any]
    lines: dict[Key, int]
    others: dict[Key, Path] = field(default_factory=dict)

    def error(self, key: Key, problem: str, *, hint: str = "") -> BadInput:
        place = f"{self.file_of(key)}:{self.line_of(key)}: "
        if name := dotted(key):
            place += f"{name}: "
        return BadInput(f"{place}{problem}", hint=hint)

    def repeated(
        self, key: Key, names: Sequence[str], *rest: str, hint: str = ""
    ) -> Iterator[BadInput]:
        """Yield an error for each name that the list at `key` has twice. `rest` is the key of the
        name within an item."""
        for index, name in enumerate(names):
            if name in names[:index]:
                yield self.error((*key, index, *rest), f"`{name}` is given twice", hint=hint)

    def line_of(self, key: Key) -> int:
        """Return the line of `key`, or of the nearest key above it that the file has, or 1."""
        return self.lines.get(self._nearest(key), 1)

    def file_of(self, key: Key) -> Path:
        """Return the file that has `key`, or the nearest key above it."""
        return self.others.get(self._nearest(key), self.path)

    def _nearest(self, key: Key) -> Key:
        while key and key not in self.lines:
            key = key[:-1]
        return key

    def under(self, top: YamlFile, depth: int = MOST_DEPTH) -> YamlFile:
        """Return this file with the values of `top` over it. Maps merge by key, down to `depth`
        keys; the items of a list come after those below it, unless it begins with `only`; any other
        value replaces what is below it. Each key keeps its file and line."""
        places = {key: (self.file_of(key), line) for key, line in self.lines.items()}
        data = _Merge(top, depth, places).over(self.data, top.data, ())
        lines = {key: line for key, (_, line) in places.items()}
        others = {key: path for key, (path, _) in places.items() if path != top.path}
        return YamlFile(top.path, data, lines, others)


@dataclass(frozen=True)
class _Merge:
    """`top` over another file; `places` has the file and line of each key, and is changed."""

    top: YamlFile
    depth: int
    places: dict[Key, tuple[Path, int]]

    def over(self, base: Any, value: Any, at: Key) -> Any:
        is_map, is_list = isinstance(value, dict), isinstance(value, list)
        is_joined = (is_map or is_list) and type(base) is type(value) and len(at) < self.depth
        first = int(is_list and value[:1] == [ONLY])
        if first or not is_joined:
            base = {} if is_map else []
            for key in [key for key in self.places if key[: len(at)] == at]:
                del self.places[key]
        if at in self.top.lines:
            self.places[at] = (self.top.path, self.top.lines[at])
        if is_map:
            inner = {
                name: self.over(base.get(name), value[name], (*at, str(name))) for name in value
            }
            return {**base, **inner}
        if not is_list:
            return value
        items = list(base)
        for number, item in enumerate(value[first:], first):
            if item not in base:
                self._take((*at, number), (*at, len(items)))
                items.append(item)
        return items

    def _take(self, at: Key, to: Key) -> None:
        """Note for the key `to` what `top` has at the key `at`, and below it."""
        for key, line in self.top.lines.items():
            if key[: len(at)] == at:
                self.places[(*to, *key[len(at) :])] = (self.top.path, line)


def dotted(key: Key) -> str:
    """Return a key as messages show it: parts joined by dots, items of lists counted from 1."""
    words = list[str]()
    for part in key:
        if isinstance(part, int):
            words.append(str(part + 1))
        else:
            words.append(part)
    return ".".join(words)


def leaves(value: Any, at: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Yield each value below `value`, which is at the key `at`, with its key."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = [(str(name), one) for name, one in value.items()]
    elif isinstance(value, list):
        inner = list(enumerate(value))
    if not inner:
        yield at, value
    for name, one in inner:
        yield from leaves(one, (*at, name))


def nearest(word: str, known_words: Iterable[str]) -> str:
    """Return a message that proposes the known word nearest to `word`, or what took its place, or
    lists the known ones if none is near."""
    if word in GONE:
        return GONE[word]
    sorted_words = sorted(known_words)
    close = difflib.get_close_matches(word, sorted_words, n=3, cutoff=0.5)
    # Two letters in the wrong order are the likeliest slip.
    close.sort(key=lambda candidate: sorted(candidate) != sorted(word))
    if close:
        return f"did you mean `{close[0]}`?"
    if not sorted_words:
        return "there is none yet"
    return f"known: {units.some(sorted_words, SHOWN)}"


def validate(source: YamlFile, model: type[M], data: Any = None, *, at: Key = ()) -> M:
    """Return `data` (default: all of `source`), which is at the key `at` of `source`, as `model`.
    Raises one BadInput for all mistakes, each with file, line, key and the nearest valid key."""
    try:
        return model.model_validate(source.data if data is None else data)
    except ValidationError as error:
        problems = sorted(
            error.errors(),
            key=lambda problem: (
                source.line_of((*at, *problem["loc"])),
                problem["type"] == "missing",
            ),
        )
    messages = {problem["loc"]: _problem(problem, model) for problem in problems}
    # A misspelt key is both unknown and missing. Only the first is said, since it proposes the
    # right key.
    unknown = " ".join(
        messages[problem["loc"]] for problem in problems if problem["type"] == "extra_forbidden"
    )
    mistakes = [
        source.error((*at, *problem["loc"]), messages[problem["loc"]])
        for problem in problems
        if problem["type"] != "missing" or f"`{problem['loc'][-1]}`" not in unknown
    ]
    raise together(mistakes, source.path)


def _problem(problem: ErrorDetails, model: type[BaseModel]) -> str:
    key: Key = problem["loc"]
    match problem["type"]:
        case "extra_forbidden":
            return f"unknown key; {nearest(str(key[-1]), _keys_of(model, key[:-1]))}"
        case "missing":
            return "is required and missing"
        case "value_error":
            return str(problem["ctx"]["error"])
    expected_type = problem["type"].partition("_")[0]
    quotes = _about_quotes(expected_type.replace("string", "str"), problem["input"])
    return f"{problem['msg'][0].lower()}{problem['msg'][1:]} (got {problem['input']!r}){quotes}"


def _about_quotes(expected_type: str, value: Any) -> str:
    """Return advice if only quotes give `value` the wrong type, else ""."""
    if expected_type == "str" and isinstance(value, bool | int | float | date):
        return f'; put it in quotes: "{value}"'
    if expected_type in ("int", "float", "bool", "list", "dict") and isinstance(value, str):
        try:
            unquoted = yaml.safe_load(value)
        except yaml.YAMLError:
            return ""
        if type(unquoted).__name__ == expected_type:
            return "; take the quotes away"
    return ""


def _keys_of(model: type[BaseModel], path: Key) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        # A list's index or a mapping's key is no field: the model stays.
        model = (field and _model_in(field.annotation)) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        if model := _model_in(part):
            return model
    return None


def _parsed(text: str) -> tuple[yaml.Node | None, Any]:
    try:
        return yaml.compose(text, Loader=LOADER), yaml.load(text, LOADER)  # noqa: S506 - a safe one
    except yaml.YAMLError:
        # PyYAML's own loader refuses the same text, with better messages than libyaml's.
        return yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)


def load(path: Path) -> YamlFile:
    """Read a YAML mapping. Raises BadInput if the file is missing, empty or not valid YAML, has a
    key twice or holds something else."""
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
        raise BadInput(
            f"{path}:{node.start_mark.line + 1}: {dotted(at)}: YAML reads {node.value} as "
            f"another number, {yaml.safe_load(node.value)}",
            hint=f'write it in quotes, "{node.value}", or as a decimal number',
        )
