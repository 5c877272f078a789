"""Keys of layers: a change reaches its own step and those above it, and nothing below."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from goldenami.core import records, shell
from goldenami.core.errors import BadInput
from goldenami.image.bake import bake_plan
from goldenami.image.lock.compilation import wheel_builds
from goldenami.model.builds.plans import BakePlan
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock, Package, Step
from goldenami.packages.store import Store
from support.builds import sample_inputs
from support.builds.sample_lock import sample
from support.builds.tools import ROOT


def package(sha256: str) -> Package:
    return sample().packages["bash"].model_copy(update={"sha256": sha256 * 64})


def step(role: str, *packages: str, stand_ins: dict[str, Package] | None = None) -> Step:
    return Step(roles=[role], packages=list(packages), stand_ins=stand_ins or {})


def lock(**changes: Any) -> Lock:
    return sample(
        base_packages=["bash"],
        packages={"bash": package("0"), "toolkit": package("1"), "module": package("2")},
        roles=["os_updates", "cuda", "nvidia_driver", "limits", "seal"],
        steps=[
            step("os_updates"),
            step("cuda", "toolkit", stand_ins={"module": package("s")}),
            step("nvidia_driver", "module"),
            step("limits"),
            step("seal"),
        ],
        variables={"cuda_variant": "toolkit", "limits_nofile": 1, "golden_image": "x"},
        inputs={
            "ansible": "p",
            **{
                f"roles/{role}": role
                for role in ("os_updates", "cuda", "nvidia_driver", "limits", "seal")
            },
        },
    ).model_copy(update=changes)


def keys(found: Lock, work: Path) -> list[str]:
    """The keys of all steps, as a bake's plan has them, the base tree's first."""
    (work / "out").mkdir(parents=True, exist_ok=True)
    everything = {**found.variables, "golden_build_id": "0"}
    (work / "out/vars.json").write_text(json.dumps(everything), encoding="utf-8")
    return [
        bake_plan.base_key(found),
        *(step.key for step in bake_plan.steps(ROOT, found, work)),
    ]


def packages(**changes: str) -> dict[str, Any]:
    return {"packages": lock().packages | {name: package(digit) for name, digit in changes.items()}}


def test_the_layers_below_the_driver_need_no_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = lockfile.read(lockfile.path_of(ROOT, "debian-13-ml"))
    inputs = sample_inputs.of_lock(found, Store(tmp_path))
    assert found.driver and found.driver.modules
    roles = [role for step in found.steps[: inputs.steps_before_modules()] for role in step.roles]
    assert {"os_updates", "cuda", "frameworks", "kernel"} <= set(roles)
    assert "nvidia_driver" not in roles
    with monkeypatch.context() as patch:
        patch.setattr(wheel_builds, "lacking", lambda *_: found.frameworks)
        assert inputs.steps_before_modules() == 0, "wheels take both processors"
    monkeypatch.setattr(Store, "has", lambda *_: True)
    assert inputs.steps_before_modules() == 0, "nothing has to be compiled"


def inputs(name: str) -> dict[str, Any]:
    return {"inputs": lock().inputs | {name: "changed"}}


CHANGES: dict[str, tuple[dict[str, Any], int]] = {
    "base package": (packages(bash="9"), 0),
    "playbook": (inputs("ansible"), 1),
    "first role": (inputs("roles/os_updates"), 1),
    "toolkit": (packages(toolkit="9"), 2),
    "variable": ({"variables": lock().variables | {"cuda_variant": "runtime"}}, 2),
    "driver": (packages(module="9"), 3),
    "tuning": (inputs("roles/limits"), 4),
    "seal": (inputs("roles/seal"), 5),
    "commit": ({"variables": lock().variables | {"golden_image": "y"}}, 6),
    "date": ({"source_date_epoch": 2}, 6),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_reaches_its_step_and_those_above(tmp_path: Path, change: str) -> None:
    changes, first = CHANGES[change]
    before, after = keys(lock(), tmp_path), keys(lock(**changes), tmp_path)
    assert [one == other for one, other in zip(before, after, strict=True)] == [
        number < first for number in range(len(before))
    ]


def test_a_step_sees_its_own_variables_and_packages_and_no_later_ones(tmp_path: Path) -> None:
    keys(lock(), tmp_path)
    variables = json.loads((tmp_path / "step-1.json").read_text(encoding="utf-8"))
    assert variables == {
        "cuda_variant": "toolkit",
        "golden_build_id": "0",
        "golden_image": "x",
        "golden_steps": ["cuda"],
    }
    seen = {
        view: {digest[0] for digest in digests} for view, digests in bake_plan.views(lock()).items()
    }
    assert seen == {
        "step-0": {"0"},
        "step-1": {"0", "1", "s"},
        **{f"step-{number}": {"0", "1", "2"} for number in (2, 3, 4)},
    }
    # The driver's step replaces what stood in for its module.
    replaced = [step.replaces for step in bake_plan.steps(ROOT, lock(), tmp_path)]
    assert replaced == [[], [], ["module"], [], []]


@pytest.mark.parametrize("given", ["", "-1", "1.5"])
def test_a_limit_that_is_none(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDEN_LAYERS_GB", given)
    with pytest.raises(BadInput, match="GOLDEN_LAYERS_GB is"):
        bake_plan.layers_limit_bytes()


def planned(root: Path, found: Lock, digest: str) -> BakePlan:
    (root / "work").mkdir(exist_ok=True)
    inputs = replace(
        sample_inputs.of_lock(found, Store(root)),
        root=root,
        lock_sha256=digest,
        own_layers=root / "layers",
    )
    return inputs.plan(root / "work", root / "log", root / "repo")


def committed(root: Path) -> str:
    git(root, "init", "--quiet")
    git(root, "add", "packer")
    git(root, "commit", "--quiet", "--message", "one")
    return git(root, "rev-parse", "HEAD")


def git(root: Path, *args: str) -> str:
    return shell.output(
        ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *args], cwd=root
    ).strip()


def test_a_bake_keeps_the_lock_that_was_read(tmp_path: Path) -> None:
    """Between the reading and the plan are downloads and compilations: somebody may have pulled
    another lock."""
    path = lockfile.path_of(tmp_path, lock().image)
    digest = lockfile.write(path, lock())
    head = committed(tmp_path)
    planned(tmp_path, lock(), digest)
    variables = tmp_path / "work/out/vars.json"
    assert json.loads(variables.read_text(encoding="utf-8"))["golden_git_commit"] == head

    lockfile.write(path, lock(source_date_epoch=2))
    git(tmp_path, "commit", "--quiet", "--all", "--message", "another")
    kept = planned(tmp_path, lock(), digest).lock
    assert (kept.name, records.sha256_file(kept)) == ("lock.json", digest)
    assert json.loads(variables.read_text(encoding="utf-8"))["golden_git_commit"] == "uncommitted"


def test_a_lock_that_watch_just_made_is_named_by_the_commit_it_was_made_on(tmp_path: Path) -> None:
    path, other = lockfile.path_of(tmp_path, lock().image), tmp_path / "packer/images/test.yml"
    other.parent.mkdir(parents=True)
    digests = [lockfile.write(path, lock(source_date_epoch=epoch)) for epoch in (2, 1)]
    other.write_text("driver branch", encoding="utf-8")
    git(tmp_path, "init", "--quiet")
    assert bake_plan.git_commit(tmp_path, path, digests[1]) == "uncommitted", "there is no commit"
    head = committed(tmp_path)

    lockfile.write(path, lock(source_date_epoch=2))
    other.write_text("another branch", encoding="utf-8")  # as `watch` follows a driver's
    assert bake_plan.git_commit(tmp_path, path, digests[0]) == f"{head}+lock-{digests[0][:12]}"
    (tmp_path / "roles").mkdir()
    (tmp_path / "roles/new.yml").write_text("", encoding="utf-8")
    assert bake_plan.git_commit(tmp_path, path, digests[0]) == "uncommitted", (
        "a commit and a lock are not all of it"
    )


def test_a_lock_of_another_form_is_refused(tmp_path: Path) -> None:
    """What is written would not be what its digest says."""
    with pytest.raises(BadInput, match="has another form than this version writes"):
        planned(tmp_path, lock(), "0" * 64)


of_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has what others own")


@of_root
@pytest.mark.parametrize(
    ("owner", "sudo"), [(4321, None), (4321, "4321"), (4321, "1234"), (0, "4321")]
)
def test_root_reads_the_commit_of_a_users_clone(
    tmp_path: Path,
    owner: int,
    sudo: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With sudo, from a shell of root's, from another user's; and leaves nothing in it that the
    user cannot write."""
    path = lockfile.path_of(tmp_path, lock().image)
    digest = lockfile.write(path, lock())
    head = committed(tmp_path)
    for each in (tmp_path, *tmp_path.rglob("*")):
        os.chown(each, owner, owner)
    path.touch()  # the index has to be refreshed
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.delenv("SUDO_UID", raising=False)
    if sudo:
        monkeypatch.setenv("SUDO_UID", sudo)
    assert bake_plan.git_commit(tmp_path, path, digest) == head
    assert {each.stat().st_uid for each in (tmp_path / ".git").rglob("*")} == {owner}
