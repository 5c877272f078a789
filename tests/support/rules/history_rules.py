"""Rules of history: the change log's form, the commits' subjects."""

from __future__ import annotations

import re
from collections.abc import Iterable


def commit_subjects(subjects: Iterable[str]) -> list[str]:
    """`area: Imperative`, without a full stop, of at most 100 characters; git's own merges and
    reverts are exempt."""
    # The ending of a verb of one syllable, such as Bring or Feed, has no vowel before it.
    form = re.compile(r"[a-z][a-z0-9_./-]*(, [a-z][a-z0-9_./-]*)*: "
                      r"(?!\w*[aeiouyAEIOU]\w*(?<!e)(ed|ing)\b)[A-Z].{2,}(?<!\.)")
    return [f"`{subject}` is not `area: Imperative`" for subject in subjects
            if not subject.startswith(("Merge ", "Revert "))
            and not (form.fullmatch(subject) and len(subject) <= 100)]
