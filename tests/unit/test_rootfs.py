"""The tree to compile in: made once, shared by what needs the same packages, made anew where it was
damaged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from goldenami.local import container
from goldenami.local.tree import rootfs
from goldenami.model.builds.plans import Tree, TreePlan

KEY = "0" * 64


@contextlib.contextmanager
def folders(_lowers: Sequence[Path], scratch: Path) -> Iterator[Path]:
    """An overlay's folders; nothing is mounted, so that no test needs root."""
    for name in ("upper", "work", "merged"):
        (scratch / name).mkdir(parents=True)
    yield scratch / "upper"


def test_a_tree_to_compile_in_is_made_once_and_anew_where_it_was_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    bootstrapped: list[str] = []

    def bootstrap(tree: Tree, target: Path, **_: object) -> None:
        bootstrapped.append(tree.suite)
        target.mkdir()
        (target / "gcc").write_text("whole", encoding="utf-8")

    monkeypatch.setattr(rootfs, "bootstrap", bootstrap)
    monkeypatch.setattr(container, "overlay", folders)
    plan = TreePlan(work=tmp_path / "work-0", log=tmp_path / "log", layers=tmp_path / "layers",
                    base_key=KEY,
                    tree=Tree(suite="trixie", repository=tmp_path, include=[]))
    for number in range(2):
        with rootfs.scratch(plan.model_copy(update={"work": tmp_path / f"work-{number}"})) as root:
            assert root == tmp_path / f"work-{number}/layer/upper"
    assert bootstrapped == ["trixie"]
    (tmp_path / "layers" / KEY / "root/gcc").write_text("wrong", encoding="utf-8")
    with rootfs.scratch(plan.model_copy(update={"work": tmp_path / "work-2"})):
        assert (tmp_path / "layers" / KEY / "root/gcc").read_text(encoding="utf-8") == "whole"
    assert bootstrapped == ["trixie"] * 2
