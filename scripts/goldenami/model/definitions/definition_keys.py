"""Describes the keys of a definition for docs/reference.md: values, default and meaning, from the
models' schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from goldenami.model.definitions.definition import Definition

Schema = dict[str, Any]


class DefinitionKey(NamedTuple):
    """One key of a section, as text."""

    name: str
    values: str
    default: str
    meaning: str


def sections() -> Iterator[tuple[str, list[DefinitionKey]]]:
    """Yield each section once with its keys, by the first path that has it ("" is the top)."""
    schema = Definition.model_json_schema()
    yield from _below("", "Definition", {**schema["$defs"], "Definition": schema}, {})


def _below(
    path: str, model: str, models: Schema, seen: dict[str, str]
) -> Iterator[tuple[str, list[DefinitionKey]]]:
    """Yield the section of `model` at `path`, then the new sections below it. `seen` has the path
    of each model so far."""
    keys, new_sections = [], {}
    for name, field in models[model]["properties"].items():
        key = _inner_schema(field)
        section_path = f"{path}.{name}".lstrip(".")
        if "additionalProperties" in field:
            section_path += ".NAME"
        values, default = _values(key, models), _default(field, models)
        if (section := _model(key, models)) and section not in seen:
            seen[section] = new_sections[section] = section_path
        if section:
            kind = "list of sections" if "items" in field else "section"
            values = f"{kind} `{seen[section]}`"
        if name in models[model].get("required", []):
            default = "required"
        meaning = " ".join(field.get("description", "").split())
        keys.append(DefinitionKey(name, values, default, meaning))
    yield path, keys
    for section, section_path in new_sections.items():
        yield from _below(section_path, section, models, seen)


def _inner_schema(key: Schema) -> Schema:
    """Return the schema of a key's value without `null`; of a list or a mapping of sections, that
    of the section."""
    for alternative in key.get("anyOf", []):
        if alternative.get("type") != "null":
            key = alternative
            break
    inner = key.get("additionalProperties") or key.get("items")
    return inner if isinstance(inner, dict) and "$ref" in inner else key


def _model(key: Schema, models: Schema) -> str | None:
    name = str(key.get("$ref", "")).rpartition("/")[2]
    return name if "properties" in models.get(name, {}) else None


def _values(key: Schema, models: Schema) -> str:
    """Return a key's values as text: `1 to 100`, `debian, ubuntu`, `list of text`."""
    if "$ref" in key:
        key = models[key["$ref"].rpartition("/")[2]]
    if "enum" in key:
        return ", ".join(f"`{value}`" for value in key["enum"])
    if "minimum" in key:
        return f"{key['minimum']} to {key['maximum']}"
    if key.get("format") == "date":
        return "date"
    if "items" in key:
        return f"list of {_values(key['items'], models)}"
    kinds = {
        "integer": "whole number",
        "string": "text",
        "boolean": "`true`, `false`",
        "object": "mapping",
    }
    return kinds[key["type"]]


def _default(key: Schema, models: Schema) -> str:
    default = key.get("default")
    if isinstance(default, dict):
        return _section_default(default, _model(_inner_schema(key), models), models)
    if default in (None, ""):
        return ""
    return f"`{json.dumps(default).strip(chr(34))}`"


def _section_default(default: dict[str, Any], model: str | None, models: Schema) -> str:
    """Return those keys of a section's default that differ from the model's own: `{name: value}`,
    or "" if none does."""
    model_keys = models[model]["properties"] if model else {}
    differences = list[str]()
    for name, value in default.items():
        if value and value != model_keys.get(name, {}).get("default"):
            differences.append(f"{name}: {value}")
    if not differences:
        return ""
    return f"`{{{', '.join(differences)}}}`"
