"""An account that no residency binds, as of a repository that has no rule."""

from __future__ import annotations

from goldenami.aws.session import Account
from goldenami.model.operation.residency import AllowedRegions


def account() -> Account:
    return Account(AllowedRegions(rules=()))
