from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from goldenami.core.errors import BadInput
from goldenami.model.definitions.definition import ANY
from goldenami.model.roles import role_packages
from goldenami.model.roles.role_order import ROLE_ORDER
from goldenami.model.roles.role_specs import role_spec
from goldenami.model.supported.platforms import PLATFORMS, Platform
from support.files import write

ROOT = Path(__file__).resolve().parents[3]
NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
"""Debian policy, 5.6.1: lower case letters, digits and +-., at least two, the first one
alphanumeric."""
DERIVED: dict[str, dict[str, Any]] = {
    "kernel": {"kernel_package": "linux-image-6.1.0-50-cloud-amd64", "kernel_release": "x"},
    "nvidia_driver": {
        "nvidia_driver_version": "535.309.01",
        "nvidia_driver_kernel_release": "6.1.0-50-cloud-amd64",
        "nvidia_driver_modules_package": "golden-nvidia-modules-6.1.0-50-cloud-amd64",
    },
    "cuda": {"cuda_architectures": ["75"], "cuda_version": "12.8"},
}
ELSEWHERE = {role: {"Ubuntu_24.yml"} for role in ("hardening", "immutable", "jupyterhub")}
"""Roles that know not every platform: those that they refuse."""
TARGETS = list(PLATFORMS.values())


def combinations(role: str) -> list[dict[str, Any]]:
    """Every combination of a role's choices, with all of its switches off and with all of them on.

    `any` is for the lock, which puts a real value in its place: no role ever gets it.
    """
    options = role_spec(ROOT, role).options
    axes = [
        [(name, value) for value in option["choices"] if value != ANY]
        for name, option in options.items()
        if "choices" in option
    ]
    switches = [name for name, option in options.items() if option.get("type") == "bool"]
    return [
        {**dict(chosen), **dict.fromkeys(switches, state)}
        for chosen in itertools.product(*axes)
        for state in (False, True)
    ]


@pytest.mark.parametrize("role", ROLE_ORDER)
@pytest.mark.parametrize("platform", TARGETS, ids=lambda platform: platform.vars_file)
def test_every_setting_of_a_role_gives_package_names(role: str, platform: Platform) -> None:
    given = {"cuda_release": "12.8"} if role == "cuda" else {}
    if platform.vars_file in ELSEWHERE.get(role, ()):
        with pytest.raises(
            BadInput, match=f"role {role} does not know {platform.distribution} {platform.major}"
        ):
            role_packages.packages(ROOT, role, platform, given)
        return
    for chosen in combinations(role):
        names = role_packages.packages(
            ROOT, role, platform, {**DERIVED.get(role, {}), **given, **chosen}
        )
        assert [name for name in names if not NAME.fullmatch(name)] == []
        assert len(names) == len(set(names))


def role(root: Path, text: str, platform: str = "Debian_13.yml") -> Path:
    """A role `limits` whose platform file is `text`."""
    write(
        root / "roles/limits",
        {
            "defaults/main.yml": "limits_nofile: 5\nlimits_extra: [b]\n",
            "meta/argument_specs.yml": "argument_specs: {main: {}}\n",
            f"vars/{platform}": text,
        },
    )
    return root


def test_a_list_or_an_expression(tmp_path: Path) -> None:
    plain = role(tmp_path / "a", "__limits_packages: [a, 'lib-{{ limits_nofile }}']\n")
    assert role_packages.packages(plain, "limits", PLATFORMS["trixie"], {}) == ["a", "lib-5"]
    assert role_packages.packages(plain, "limits", PLATFORMS["trixie"], {"limits_nofile": 7}) == [
        "a",
        "lib-7",
    ]
    root = role(
        tmp_path / "b",
        "__limits_packages: \"{{ ['a'] + limits_extra + __limits_more }}\"\n"
        "__limits_more: \"{{ ['c'] if limits_nofile > 4 else [] }}\"\n",
    )
    assert role_packages.packages(root, "limits", PLATFORMS["trixie"], {"limits_extra": ["x"]}) == [
        "a",
        "x",
        "c",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("__limits_packages: '{{ [limits_nofil] }}'\n", "'limits_nofil' is undefined"),
        (
            "__limits_packages: '{{ limits_extra + 5 }}'\n",
            'can only concatenate list (not "int") to list',
        ),
        ("__limits_packages: '{{ ansible_facts.packages }}'\n", "'ansible_facts' is undefined"),
        (
            "__limits_packages: '{{ __limits_a }}'\n__limits_a: '{{ __limits_packages }}'\n",
            "use each other in a circle",
        ),
    ],
)
def test_an_expression_that_fails_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(BadInput) as caught:
        role_packages.packages(role(tmp_path, text), "limits", PLATFORMS["trixie"], {})
    assert caught.value.message.startswith(f"{tmp_path}/roles/limits/vars/Debian_13.yml: __limits_")
    assert complaint in caught.value.message


def test_a_role_that_is_the_same_everywhere(tmp_path: Path) -> None:
    root = role(tmp_path, "__limits_packages: [htop, 'lib{{ limits_nofile }}']\n", "main.yml")
    for release in PLATFORMS:
        assert role_packages.packages(root, "limits", PLATFORMS[release], {}) == ["htop", "lib5"]
    nothing = role(tmp_path / "b", "{}\n", "main.yml")
    assert role_packages.packages(nothing, "limits", PLATFORMS["noble"], {}) == []
    with (nothing / "roles/limits/defaults/main.yml").open("a", encoding="utf-8") as defaults:
        defaults.write("__limits_packages: [htop]\n")
    assert role_packages.packages(nothing, "limits", PLATFORMS["noble"], {}) == ["htop"]


@pytest.mark.parametrize("name", ["Debian.yml", "packages.yaml"])
def test_packages_in_a_file_that_is_not_read(tmp_path: Path, name: str) -> None:
    root = role(tmp_path, "__limits_packages: [htop]\n", name)
    with pytest.raises(
        BadInput, match=f"vars/{name}: __limits_packages: the lock does not read"
    ) as caught:
        role_packages.packages(root, "limits", PLATFORMS["trixie"], {})
    assert caught.value.hint.startswith("write it into main.yml or Debian_13.yml beside it, or")
    declared = role_packages.packages(root, "limits", PLATFORMS["trixie"], {}, ["htop"])
    assert declared == ["htop"]
