"""What a definition means for the driver, and whether the image's own record knows each platform's
packages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from goldenami.model.definitions import definition_file, driver_requests
from goldenami.model.roles import role_packages
from goldenami.model.supported.platforms import PLATFORMS

ROOT = Path(__file__).resolve().parents[3]
IMAGE = definition_file.load(ROOT, definition_file.path_of(ROOT, "debian-13-ml"))
ROLE = "nvidia_driver"


@pytest.mark.parametrize(
    ("families", "flavour", "said", "wanted"),
    [
        (["g4dn", "g5", "g6"], "proprietary", {}, ["g4dn", "g5"]),
        (["g6", "g6e"], "proprietary", {}, []),
        (["g4dn", "g5"], "open", {}, []),
        (["g5"], "proprietary", {driver_requests.GSP_VARIABLE: True}, []),
    ],
)
def test_the_firmware_is_left_out_where_ec2_advises_it(
    families: list[str],
    flavour: str,
    said: dict[str, bool],
    wanted: list[str],
) -> None:
    roles = {**IMAGE.roles, ROLE: {**IMAGE.variables(ROLE), **said}}
    image = IMAGE.model_copy(update={"hardware": families, "roles": roles})
    assert driver_requests.without_gsp(ROOT, image, flavour) == wanted


@pytest.mark.parametrize("release", PLATFORMS)
@pytest.mark.parametrize(
    ("branch", "source"), [("535", "debian"), ("550", "debian"), ("580", "nvidia")]
)
def test_the_record_s_check_knows_the_driver_of_every_platform(
    release: str, branch: str, source: str
) -> None:
    """Provenance looks for the user space's package: one that its pattern misses would count as not
    installed."""
    given = {
        f"{ROLE}_branch": branch,
        f"{ROLE}_source": source,
        f"{ROLE}_version": f"{branch}.1",
        f"{ROLE}_kernel_release": "6",
        f"{ROLE}_modules_package": "",
    }
    facts = role_packages.facts(ROOT, ROLE, PLATFORMS[release], given)
    known = yaml.safe_load((ROOT / "roles/provenance/vars/main.yml").read_text(encoding="utf-8"))
    assert re.match(
        known["__provenance_driver_packages"], facts["__nvidia_driver_userland_package"]
    )


def test_what_ubuntu_s_dkms_package_compiles_is_in_another() -> None:
    image = definition_file.load(ROOT, definition_file.path_of(ROOT, "ubuntu-24.04-ml-gpu"))
    found = driver_requests.requests(ROOT, image, image.variables(ROLE))
    assert [(request.dkms_package, request.source_packages) for request in found] == [
        ("nvidia-dkms-580-open", ["nvidia-kernel-source-580-open"])
    ]
    assert driver_requests.requests(ROOT, IMAGE, IMAGE.variables(ROLE))[0].source_packages == []
