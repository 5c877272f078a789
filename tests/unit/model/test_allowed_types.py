"""The types that EC2 launches an AMI on, by the families of a lock."""

from __future__ import annotations

import pytest
from goldenami.model.supported import allowed_types
from goldenami.model.supported.allowed_types import AllowedTypes, TypeRule

DECLARED = allowed_types.of_families(TypeRule.DECLARED, ["g5", "c7i"])


@pytest.mark.parametrize(
    ("instance_type", "is_allowed"),
    [
        ("g5.xlarge", True),
        ("g5.48xlarge", True),
        ("c7i.large", True),
        ("c7i.metal-24xl", False),
        ("g5g.xlarge", False),
        ("g6.xlarge", False),
        ("c7i-flex.large", False),
    ],
)
def test_declared_families_are_allowed_without_bare_metal(
    instance_type: str, is_allowed: bool
) -> None:
    assert DECLARED.allows(instance_type) is is_allowed


def test_any_has_no_list() -> None:
    anything = allowed_types.of_families(TypeRule.ANY, ["g5"])
    assert anything == AllowedTypes()
    assert anything.allows("x1.32xlarge")
    assert str(anything) == "any"


def test_unsupported_alone_allows_the_rest() -> None:
    rest = AllowedTypes(unsupported=("t3.*",))
    assert rest.allows("t4g.large")
    assert not rest.allows("t3.large")
