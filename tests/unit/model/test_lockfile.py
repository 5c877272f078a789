from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest
from goldenami.core.errors import BadInput, ExitCode
from goldenami.model.definitions import definition_file
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from goldenami.model.supported import hardware
from support import trees
from support.builds.sample_lock import IMAGE, sample

ROOT = Path(__file__).resolve().parents[3]


def locked(root: Path) -> Lock:
    """A lock whose inputs are those of `root`."""
    wanted = definition_file.load(root, definition_file.path_of(root, IMAGE))
    return sample(inputs=lockfile.digests(root, wanted))


def check(root: Path, lock: Lock) -> None:
    lockfile.check_fresh(
        root, lock, definition_file.load(root, definition_file.path_of(root, IMAGE))
    )


def test_a_lock_is_canonical_and_its_name_is_its_digest(tmp_path: Path) -> None:
    path = lockfile.path_of(tmp_path, IMAGE)
    digest = lockfile.write(path, sample())
    text = path.read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert lockfile.read(path) == (sample(), digest)
    assert lockfile.write(path, sample()) == digest
    assert lockfile.write(path, sample(disk_size_gib=5)) != digest
    lockfile.write(path, sample())
    done = subprocess.run(
        ["sha256sum", "-c", f"{path.name}.sha256"],
        cwd=path.parent,
        text=True,
        check=False,
        capture_output=True,
    )
    assert (done.returncode, done.stdout) == (0, f"{path.name}: OK\n")
    assert re.fullmatch(
        rf"{digest}  {path.name}\n",
        path.with_name(f"{path.name}.sha256").read_text(encoding="utf-8"),
    )


def test_a_lock_that_was_touched_is_refused(tmp_path: Path) -> None:
    path = lockfile.path_of(tmp_path, IMAGE)
    beside = path.with_name(f"{path.name}.sha256")
    with pytest.raises(BadInput, match="no lock") as caught:
        lockfile.read(path)
    assert caught.value.hint == f"run `make lock IMAGE={IMAGE}`"
    lockfile.write(path, sample())
    text, digest = path.read_text(encoding="utf-8"), beside.read_text(encoding="utf-8")
    for edited, sidecar in (
        (text.replace('"size": 7', '"size": 8'), digest),
        (text + "\n", digest),
        (text, ""),
        (text, "0" * 64 + f"  {path.name}\n"),
        (text, "\udcff"),
        (text, None),
    ):
        path.write_text(edited, encoding="utf-8")
        if sidecar is None:
            beside.unlink()
        else:
            beside.write_text(sidecar, encoding="utf-8", errors="surrogateescape")
        with pytest.raises(
            BadInput, match=r"does not match .*\.sha256: it was edited by hand"
        ) as caught:
            lockfile.read(path)
        assert caught.value.exit_code is ExitCode.BAD_INPUT


def test_line_ends_of_windows_are_no_edit_by_hand(tmp_path: Path) -> None:
    path = lockfile.path_of(tmp_path, IMAGE)
    lockfile.write(path, sample())
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(BadInput, match=r"has the line ends of Windows \(CRLF\)") as caught:
        lockfile.read(path)
    assert "`packer/locks/* text eol=lf` into .gitattributes" in caught.value.hint


def test_the_lock_of_a_renamed_image_is_made_by_its_new_name(root: Path) -> None:
    lock = locked(root)
    path = definition_file.path_of(root, IMAGE)
    text = path.read_text(encoding="utf-8").replace(IMAGE, "renamed", 1)
    path.rename(path.with_name("renamed.yml")).write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=r"the lock of renamed is stale: .*: definition$") as caught:
        lockfile.check_fresh(
            root, lock, definition_file.load(root, definition_file.path_of(root, "renamed"))
        )
    assert "`make lock IMAGE=renamed`" in caught.value.hint


def test_a_stale_lock_says_what_changed(root: Path) -> None:
    lock = locked(root)
    for path, changed in (
        ("roles/limits/templates/new.j2", "roles/limits"),
        ("ansible/bake.yml", "ansible"),
        (f"packer/images/{IMAGE}.yml", "definition"),
    ):
        file = root / path
        text = file.read_text(encoding="utf-8") if file.exists() else None
        changed_text = f"# changed\n{text or ''}".replace("disk_size_gib: 4", "disk_size_gib: 5")
        file.write_text(changed_text, encoding="utf-8")
        with pytest.raises(BadInput) as caught:
            check(root, lock)
        said = f"the lock of {IMAGE} is stale: changed since it was made: {changed}"
        assert caught.value.message == said
        assert f"make lock IMAGE={IMAGE}" in caught.value.hint
        if text is None:
            file.unlink()
        else:
            file.write_text(text, encoding="utf-8")


def test_a_family_that_changed_makes_the_lock_stale_and_another_does_not(root: Path) -> None:
    lock = locked(root)
    path = root / "packer/hardware.yml"
    text = path.read_text(encoding="utf-8")

    def with_row(old: str, new: str) -> None:
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        hardware.load.cache_clear()
        check(root, lock)

    with_row("c5n: {cpu: skylake-avx512", "c5n: {cpu: cascadelake")
    with_row("m7i: {cpu: sapphirerapids", "m7i: {note: dear, cpu: sapphirerapids")
    with pytest.raises(BadInput, match=r"changed since it was made: hardware$"):
        with_row("m7i: {cpu: sapphirerapids", "m7i: {cpu: icelake-server")


def test_modes_names_and_absences_count(root: Path) -> None:
    lock = locked(root)
    file = root / "roles/limits/handlers/main.yml"
    file.chmod(0o755)
    with pytest.raises(BadInput, match=r"roles/limits$"):
        check(root, lock)
    file.chmod(0o644)
    check(root, lock)
    file.rename(file.with_name("other.yml"))
    with pytest.raises(BadInput, match=r"roles/limits$"):
        check(root, lock)


def test_documentation_caches_and_what_shapes_no_image_do_not_count(root: Path) -> None:
    lock = locked(root)
    for name in ("README.md", "files/__pycache__/seal.cpython-311.pyc"):
        path = root / "roles/seal" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"changed\n")
    (root / "roles/README.md").write_text("changed\n", encoding="utf-8")
    # Not a role of this image.
    (root / "roles/cuda/defaults/main.yml").write_text("---\n", encoding="utf-8")
    path = root / f"packer/images/{IMAGE}.yml"
    later = "  # how it is written\n  keep_last: 9\nwatch: {driver: {policy: newest}}\n"
    path.write_text(path.read_text(encoding="utf-8") + later, encoding="utf-8")
    wanted = definition_file.load(root, path)
    assert wanted.publish is not None and wanted.publish.keep_last == 9
    assert wanted.watch.driver.policy.value == "newest"
    check(root, lock)


def test_files_of_a_role_whose_tasks_another_includes_count(root: Path) -> None:
    path = root / f"packer/images/{IMAGE}.yml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("  limits:\n", "  limits:\n  golden_health:\n"), encoding="utf-8")
    lock = locked(root)
    (root / "roles/golden_idle/files/golden_idle/new.py").write_text("NEW = 1\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"made: roles/golden_health$"):
        check(root, lock)


def test_no_layer_below_the_drivers_holds_anything_of_it() -> None:
    """Else each driver release would unpack CUDA anew."""
    lock, _ = lockfile.read(lockfile.path_of(ROOT, "debian-13-ml"))
    below = list(itertools.takewhile(lambda step: "nvidia_driver" not in step.roles, lock.steps))
    assert ["+".join(step.roles) for step in below] == [
        "os_updates",
        "cuda",
        "frameworks+trim",
        "container_runtime+instance_store+tools+golden_health",
        "kernel",
    ]
    assert [
        name
        for step in below
        for name in step.packages
        if "nvidia-graphics" in lock.packages[name].source
    ] == []
    assert [step.roles for step in below if step.stand_ins] == [], (
        "CUDA's wheels need no dummy of the driver"
    )


def test_the_committed_locks_are_whole() -> None:
    for path in trees.scanned(5, ROOT, "packer/locks/*.lock.json"):
        lock, _ = lockfile.read(path)
        assert lock.image == path.name.removesuffix(".lock.json")
        assert "://" not in path.read_text(encoding="utf-8").replace(
            "https://developer.download.nvidia.com", ""
        )
