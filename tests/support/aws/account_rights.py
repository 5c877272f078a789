"""The rights in the account's template are those of the policy files: a rule, and what writes them
there.

`scripts/policies` runs it. Who adds a policy file names it in one of the template's `Commands`.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from support import trees

TEMPLATE, POLICIES = "scripts/goldenami/aws/account.yml", "scripts/goldenami/aws/policies"
NARROWED = {
    "arn:aws:s3:::*/store/*": '!Sub "${Bucket.Arn}/store/*"',
    "arn:aws:s3:::*": "!GetAtt Bucket.Arn",
    "arn:aws:s3:::*/site/*": '!Sub "${Bucket.Arn}/site/*"',
    "arn:aws:s3:::KEEP_BUCKET": "!GetAtt UsersBucket.Arn",
    "arn:aws:s3:::KEEP_BUCKET/${aws:PrincipalTag/goldenami:team}/*": (
        '!Sub "${UsersBucket.Arn}/${!aws:PrincipalTag/goldenami:team}/*"'
    ),
    "arn:aws:sns:*:*:*": "!Ref Topic",
    "*": "'*'",
}
"""What a policy leaves open and the template knows: the buckets and the topic."""
_WIDTH = 116
_STATEMENTS = re.compile(
    r"(Metadata: \{Commands: \[([^]]*)\]\}\n(?: {4}[^\n]*\n)*? {8}Statement:\n)"
    r"((?: {10}[^\n]*\n)+)"
)


def _flow(items: Iterable[str], indent: int) -> str:
    """A list of YAML, over lines where it is long."""
    text = ", ".join(items)
    if len(text) + indent + 2 <= _WIDTH:
        return f"[{text}]"
    filled = textwrap.fill(text, _WIDTH - 14, break_on_hyphens=False)
    return "[\n" + textwrap.indent(filled, " " * 4) + "]"


def _statement(
    effect: str, resources: Iterable[str], condition: Any, actions: Iterable[str]
) -> str:
    known = [NARROWED.get(each, each) for each in resources]
    action, resource = _flow(sorted(actions), 20), known[0] if len(known) == 1 else _flow(known, 22)
    whole = " " * 10 + f"- {{Effect: {effect}, Action: {action}, Resource: {resource}}}"
    if not condition and "\n" not in whole and len(whole) <= _WIDTH:
        return f"{whole}\n"
    lines = [f"- Effect: {effect}", f"  Action: {action}", f"  Resource: {resource}"]
    if condition:
        lines.append(f"  Condition: {json.dumps(condition)}")
        if len(lines[-1]) + 10 > _WIDTH:
            lines[-1:] = [
                "  Condition:",
                *(
                    f"    {json.dumps(operator)}: {json.dumps(keys)}"
                    for operator, keys in sorted(condition.items())
                ),
            ]
    return textwrap.indent("\n".join(lines), " " * 10) + "\n"


def statements(root: Path, commands: Iterable[str]) -> str:
    """The rights of all `commands` as YAML, each once: one statement for what has the same
    resources and condition."""
    places: dict[tuple[str, str, str], set[str]] = {}
    for command in commands:
        policy = json.loads((root / POLICIES / f"{command}.json").read_text(encoding="utf-8"))
        for each in policy["Statement"]:
            given = each["Resource"]
            resources = [given] if isinstance(given, str) else given
            for action in each["Action"]:
                key = each["Effect"], json.dumps(each.get("Condition"), sort_keys=True), action
                places.setdefault(key, set()).update(resources)
    groups: dict[tuple[str, tuple[str, ...], str], list[str]] = {}
    for (effect, condition, action), where in places.items():
        groups.setdefault((effect, tuple(sorted(where)), condition), []).append(action)
    return "".join(
        _statement(effect, where, json.loads(condition), actions)
        for (effect, where, condition), actions in sorted(groups.items())
    )


def written(root: Path) -> str:
    """The template with the rights of the policy files."""

    def replace(match: re.Match[str]) -> str:
        return match[1] + statements(root, match[2].split(", "))

    return _STATEMENTS.sub(replace, (root / TEMPLATE).read_text(encoding="utf-8"))


def template(root: Path) -> list[str]:
    """The template has each policy file, and its rights."""
    if not (text := trees.read(root / TEMPLATE)):
        return []
    named = {name for match in _STATEMENTS.finditer(text) for name in match[2].split(", ")}
    there = {path.stem for path in trees.glob(root, f"{POLICIES}/*.json")}
    if named != there:
        return [
            f"{TEMPLATE} has no policy with the rights of {name}.json: name it in one of its "
            "`Commands`"
            for name in sorted(there - named)
        ] + [
            f"{TEMPLATE} names {name}.json, which does not exist" for name in sorted(named - there)
        ]
    if written(root) != text:
        return [f"{TEMPLATE} has other rights than {POLICIES}: run scripts/policies"]
    return []


if __name__ == "__main__":
    checkout = Path(sys.argv[1])
    (checkout / TEMPLATE).write_text(written(checkout), encoding="utf-8")
