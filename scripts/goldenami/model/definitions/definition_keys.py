"""The keys of a definition for a reader: values, default, meaning, from the models' schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from goldenami.model.definitions.definition import Definition

Schema = dict[str, Any]


class DefinitionKey(NamedTuple):
    """One key of a section, in the words of a reader."""

    name: str
    values: str
    default: str
    meaning: str


def sections() -> Iterator[tuple[str, list[DefinitionKey]]]:
    """Each section once, by the first path that has it ("" is the top), with its keys."""
    schema = Definition.model_json_schema()
    yield from _below("", "Definition", {**schema["$defs"], "Definition": schema}, {})


def _below(
    path: str, model: str, models: Schema, seen: dict[str, str]
) -> Iterator[tuple[str, list[DefinitionKey]]]:
    """`seen` has the path of each model."""
    keys, inner = [], {}
    for name, given in models[model]["properties"].items():
        key = _one(given)
        where = f"{path}.{name}".lstrip(".") + (".NAME" if "additionalProperties" in given else "")
        values, default = _values(key, models), _default(given, models)
        if (other := _model(key, models)) and other not in seen:
            seen[other] = inner[other] = where
        if other:
            several = "items" in given
            values = f"{'list of sections' if several else 'section'} `{seen[other]}`"
        keys.append(
            DefinitionKey(
                name,
                values,
                "required" if name in models[model].get("required", []) else default,
                " ".join(given.get("description", "").split()),
            )
        )
    yield path, keys
    for other, where in inner.items():
        yield from _below(where, other, models, seen)


def _one(key: Schema) -> Schema:
    key = next((each for each in key.get("anyOf", []) if each.get("type") != "null"), key)
    inner = key.get("additionalProperties") or key.get("items")
    return inner if isinstance(inner, dict) and "$ref" in inner else key


def _model(key: Schema, models: Schema) -> str | None:
    name = str(key.get("$ref", "")).rpartition("/")[2]
    return name if "properties" in models.get(name, {}) else None


def _values(key: Schema, models: Schema) -> str:
    """`1 to 100`, `debian, ubuntu`, `list of text`."""
    if "$ref" in key:
        key = models[key["$ref"].rpartition("/")[2]]
    if "enum" in key:
        return ", ".join(f"`{value}`" for value in key["enum"])
    if "minimum" in key:
        return f"{key['minimum']} to {key['maximum']}"
    kinds = {
        "integer": "whole number",
        "string": "text",
        "boolean": "`true`, `false`",
        "object": "mapping",
    }
    if key.get("format") == "date":
        return "date"
    return f"list of {_values(key['items'], models)}" if "items" in key else kinds[key["type"]]


def _default(key: Schema, models: Schema) -> str:
    default = key.get("default")
    if isinstance(default, dict):
        model = _model(_one(key), models)
        own = models[model]["properties"] if model else {}
        default = {
            name: value
            for name, value in default.items()
            if value and value != own.get(name, {}).get("default")
        }
        return (
            f"`{{{', '.join(f'{name}: {value}' for name, value in default.items())}}}`"
            if default
            else ""
        )
    return "" if default in (None, "") else f"`{json.dumps(default).strip(chr(34))}`"
