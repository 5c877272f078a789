"""Rules of history: the change log's form, the commits' subjects."""

from __future__ import annotations

import re
from collections.abc import Iterable

_KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def changelog(text: str) -> list[str]:
    """Keep a Changelog: Unreleased first, then dated versions, newest first, each with known kinds
    of changes."""
    heads = re.findall(r"^## (.+)$", text, re.MULTILINE)
    problems = (
        []
        if text.startswith("# Changelog\n")
        else ["CHANGELOG.md does not begin with `# Changelog`"]
    )
    if heads[:1] != ["[Unreleased]"]:
        problems.append("the first section is not `## [Unreleased]`")
    released = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - \d{4}-\d{2}-\d{2}", head)
                for head in heads[1:]]
    problems += [f"`## {head}` is not `## [x.y.z] - yyyy-mm-dd`"
                 for head, match in zip(heads[1:], released, strict=True) if not match]
    versions = [tuple(map(int, match.groups())) for match in released if match]
    if versions != sorted(versions, reverse=True):
        problems.append("versions are not newest first")
    return problems + [f"`### {kind}` is not one of {', '.join(_KINDS)}"
                       for kind in re.findall(r"^### (.+)$", text, re.MULTILINE)
                       if kind not in _KINDS]


def commit_subjects(subjects: Iterable[str]) -> list[str]:
    """`area: Imperative`, without a full stop, of at most 100 characters; git's own merges and
    reverts are exempt."""
    # The ending of a verb of one syllable, such as Bring or Feed, has no vowel before it.
    form = re.compile(r"[a-z][a-z0-9_./-]*(, [a-z][a-z0-9_./-]*)*: "
                      r"(?!\w*[aeiouyAEIOU]\w*(?<!e)(ed|ing)\b)[A-Z].{2,}(?<!\.)")
    return [f"`{subject}` is not `area: Imperative`" for subject in subjects
            if not subject.startswith(("Merge ", "Revert "))
            and not (form.fullmatch(subject) and len(subject) <= 100)]
