"""Which vendors' archives an image wants beside its distribution's, by what its definition sets."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from goldenami.core.errors import BadInput
from goldenami.model.definitions import definition_file, driver_requests
from goldenami.model.locked import lockfile, vendor_archives
from goldenami.model.supported import compatibility
from goldenami.packages.mirrors import VendorArchive
from support.builds import builds
from support.builds.definitions import edit, load
from support.files import write

ROOT = Path(__file__).resolve().parents[3]
NVIDIA = "https://developer.download.nvidia.com/compute/cuda/repos"
OLDER = "EB693B3035CD5710E231E123A4B469963BF863CC"
NEWER = "02182E60104FCDC26EAE1B8597A5D4CB8793F200"
DEBIAN = VendorArchive(
    name="nvidia", uri=f"{NVIDIA}/debian13/x86_64", key="8793F200.pub", fingerprint=(NEWER,)
)


def archives(image: str, **roles: dict[str, Any]) -> tuple[VendorArchive, ...]:
    """Those of a committed definition whose roles have these variables besides; a role may be
    new."""
    loaded = definition_file.load(ROOT, definition_file.path_of(ROOT, image))
    wanted = {
        **loaded.roles,
        **{role: {**loaded.variables(role), **given} for role, given in roles.items()},
    }
    return vendor_archives.declared_archives(ROOT, loaded.model_copy(update={"roles": wanted}))


def test_the_driver_of_nvidias_repository() -> None:
    ubuntu = VendorArchive(
        name="nvidia", uri=f"{NVIDIA}/ubuntu2404/x86_64", key="3bf863cc.pub", fingerprint=(OLDER,)
    )
    assert archives("debian-13-nvidia") == (DEBIAN,)
    assert archives("ubuntu-24.04-ml-gpu") == (ubuntu,)


def test_the_page_s_two_lines_move_the_first_image_to_a_branch_that_lasts(
    tmp_path: Path,
) -> None:
    page = (ROOT / "docs/drivers-and-repositories.md").read_text(encoding="utf-8")
    lines = dict(re.findall(r"^ +(nvidia_driver_\w+): (.+)$", page, re.M))
    assert lines.keys() == {"nvidia_driver_source", "nvidia_driver_branch"}
    root = builds.copy_definitions(tmp_path / "checkout")
    for name, value in lines.items():
        old = {"nvidia_driver_source": "debian", "nvidia_driver_branch": "newest"}[name]
        edit(root, f"    {name}: {old}\n", f"    {name}: {value}\n", "debian-13-ml")
    definition = load(root, "debian-13-ml")
    assert vendor_archives.declared_archives(root, definition) == (DEBIAN,)
    first, *_ = driver_requests.requests(root, definition, definition.variables("nvidia_driver"))
    assert (first.branch, first.flavour) == ("580", "open")
    end = compatibility.load(root).branches[first.branch].last_day
    assert end is not None and end > date(2028, 1, 1)


def test_address_and_fingerprint_may_be_the_definitions() -> None:
    found = archives(
        "debian-13-nvidia",
        nvidia_driver={
            "nvidia_driver_repository_url": "https://mirror.example/cuda",
            "nvidia_driver_repository_key_fingerprint": "A" * 40,
        },
    )
    assert (found[0].uri, found[0].fingerprint) == (
        "https://mirror.example/cuda/debian13/x86_64",
        ("A" * 40,),
    )


def test_a_lock_names_the_same_as_its_definition() -> None:
    """Another machine than that of the lock fetches its files."""
    lock, _ = lockfile.read(lockfile.path_of(ROOT, "debian-13-ml"))
    assert vendor_archives.of_lock(ROOT, lock) == ()
    for role, given in (
        ("container_runtime", {"container_runtime_gpu_source": "nvidia"}),
        ("nvidia_driver", {"nvidia_driver_source": "nvidia"}),
        ("cuda", {"cuda_source": "nvidia", "cuda_release": "12.8"}),
    ):
        changed = lock.model_copy(update={"variables": lock.variables | given})
        found = archives("debian-13-ml", **{role: given})
        assert vendor_archives.of_lock(ROOT, changed) == found
        assert found == (DEBIAN,) or role == "container_runtime"


def test_a_role_of_somebody_s_own_states_archives_in_the_same_form(root: Path) -> None:
    write(
        root,
        {
            "roles/agent/tasks/main.yml": "[]\n",
            "roles/agent/defaults/main.yml": "agent_branch: stable\n",
            "roles/agent/vars/main.yml": """
__agent_archives:
  - {name: agent, uri: https://v.example/apt, suites: ["{{ agent_branch }}"], components: [main],
     key: https://v.example/key, fingerprint: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA,
     login: AGENT_LOGIN}
""",
        },
    )
    edit(root, "roles:\n", "roles:\n  agent:\n")
    (found,) = vendor_archives.declared_archives(root, load(root))
    assert (found.suites, found.login) == (("stable",), "AGENT_LOGIN")
    path = root / "roles/agent/vars/main.yml"
    path.write_text(path.read_text(encoding="utf-8").replace("key: h", "kee: h"), encoding="utf-8")
    with pytest.raises(BadInput, match="roles/agent/vars: __agent_archives: key: Field required"):
        vendor_archives.declared_archives(root, load(root))
