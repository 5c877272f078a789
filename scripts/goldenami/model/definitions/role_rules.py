"""The rules that a role asserts in its preflight, asked of a definition: a bake would come to them
minutes later.

A rule that wants more than the role's variables (what is derived, the machine's facts) is left to
the bake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from goldenami.model.definitions.role_files import known
from goldenami.model.definitions.role_packages import variables
from goldenami.model.definitions.role_specs import table, tasks


def broken(root: Path, role: str, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Variables among `given` whose values the role refuses, and why."""
    folder = root / "roles" / role
    context = {**variables(root, role, given), **table(folder / "vars/main.yml")}
    for task in tasks(folder, "preflight"):
        rule, items = task.get("ansible.builtin.assert"), task.get("loop", [{}])
        if not isinstance(rule, dict) or not isinstance(items, list):
            continue
        own = {name: known(value, context) for name, value in (task.get("vars") or {}).items()}
        for item in items:
            within = {**context, **own}
            within["item"] = known(item, within) if isinstance(item, dict) else {}
            if within["item"] is None:
                continue
            message = " ".join(str(known(rule.get("fail_msg", ""), within)).split())
            named = within["item"].get("name") or next(iter(re.findall(rf"\b{role}_\w+", message)),
                                                       "")
            if named in given and known(f"{{{{ {rule.get('that')} }}}}", within) is False:
                yield named, message.removeprefix(f"{named} ")
