"""Roles that the program does not know: where they stand in a bake, what of them is locked, and
what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from goldenami.model.locked import lockfile
from goldenami.model.roles import role_order
from support.builds.definitions import IMAGE, edit, load, refused
from support.files import write

GALAXY = {
    "roles/agent/tasks/main.yml": "- apt: name=cowsay update_cache=yes\n  become: true\n",
    "roles/agent/meta/main.yml": "galaxy_info: {author: somebody}\ndependencies: []\n",
    "roles/agent/defaults/main.yml": "agent_port: 9100\n",
    "roles/agent/README.md": "nothing of ours\n",
}
OTHER = {"roles/other/tasks/main.yml": "[]\n"}
DRIVER, TUNING = ["nvidia_driver"], ["hardening", "limits", "provenance", "seal"]


def placed(**own: dict[str, Any] | None) -> list[list[str]]:
    """The steps of an image with some of the program's roles and `own`."""
    roles = {**own, **dict.fromkeys(["os_updates", "frameworks", "trim", *DRIVER, *TUNING])}
    found = [[role for role in step if role in roles] for step in role_order.steps(roles)]
    return [step for step in found if step]


ABOVE = [["os_updates"], ["frameworks", "trim"]]


@pytest.mark.parametrize(
    ("own", "steps"),
    [
        ({"b": None, "a": {}}, [*ABOVE, DRIVER, ["b", "a"], TUNING]),
        ({"a": {"after": "cuda"}}, [ABOVE[0], ["a"], ABOVE[1], DRIVER, TUNING]),
        ({"a": {"before": "trim"}}, [ABOVE[0], ["a"], ABOVE[1], DRIVER, TUNING]),
        ({"a": {"after": "frameworks"}}, [*ABOVE, ["a"], DRIVER, TUNING]),
        ({"a": {"before": "seal"}}, [*ABOVE, DRIVER, ["a"], TUNING]),
        (
            {"a": {"after": "hardening"}},
            [*ABOVE, DRIVER, ["hardening", "a", "limits", "provenance", "seal"]],
        ),
        (
            {"a": {"after": "b"}, "c": {"before": "b"}, "b": None},
            [*ABOVE, DRIVER, ["c", "b", "a"], TUNING],
        ),
        (
            {"a": {"after": "c"}, "b": {"before": "kernel"}, "c": {"after": "b"}},
            [*ABOVE, ["b", "c", "a"], DRIVER, TUNING],
        ),
    ],
)
def test_the_place_of_an_own_role(own: dict[str, Any], steps: list[list[str]]) -> None:
    assert placed(**own) == steps


def test_a_role_of_galaxy_s_form_is_in_the_lock(root: Path) -> None:
    write(root, GALAXY)
    edit(
        root,
        "  seal:\n",
        "  seal:\n  agent:\n    packages: [cowsay]\n    before: kernel\n    agent_port: 9200\n",
    )
    found = load(root)
    assert found.steps[-2:] == [["kernel"], found.steps[-1]] and found.steps[-3] == ["agent"]
    assert found.packages("agent") == ["cowsay"] and found.packages("seal") == []
    assert found.variables("agent") == {"agent_port": 9200}
    before = lockfile.digests(root, found)["roles/agent"]
    (root / "roles/agent/tasks/main.yml").write_text("[]\n", encoding="utf-8")
    assert lockfile.digests(root, load(root))["roles/agent"] != before


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("  agnet:\n", "18: roles.agnet: unknown role; did you mean `agent`?"),
        ("  a.agent:\n", "18: roles.a.agent: is no name for a role: small letters, digits and `_`"),
        (
            "  agent: {before: kernal}\n",
            "18: roles.agent.before: unknown role `kernal`; did you mean `kernel`?",
        ),
        (
            "  agent: {before: kernel, after: cuda}\n",
            "18: roles.agent.after: and `before` are both",
        ),
        (
            "  agent: {after: other}\n  other: {after: agent}\n",
            "18: roles.agent: never gets its turn: agent, other stand before and after each other",
        ),
        ("  agent: {after: agent}\n", "18: roles.agent: never gets its turn: agent stand"),
        (
            "  agent: {before: os_updates}\n",
            "18: roles.agent.before: no role runs before `os_updates`",
        ),
        (
            "  agent: {after: provenance}\n",
            "18: roles.agent.after: no role runs after `provenance`",
        ),
        (
            "  agent: {packages: cowsay}\n",
            "18: roles.agent.packages: is 'cowsay', no list of packages",
        ),
        ("  agent: {port: 1}\n", "18: roles.agent.port: unknown role variable; "),
        (
            "  trim: {before: kernel}\n",
            "18: roles.trim.before: is for own roles; `trim` is goldenami's",
        ),
        ("  wants:\n", "18: roles.wants: depends on the role `base` (its meta/main.yml)"),
    ],
)
def test_what_cannot_be_placed(root: Path, said: str, complaint: str) -> None:
    write(
        root,
        {
            **GALAXY,
            **OTHER,
            "roles/a.agent/tasks/main.yml": "[]\n",
            "roles/wants/tasks/main.yml": "[]\n",
            "roles/wants/meta/main.yml": "dependencies: [{role: base}]\n",
        },
    )
    edit(root, "  seal:\n", f"  seal:\n{said}")
    assert refused(root).startswith(f"{IMAGE}.yml:{complaint}")
