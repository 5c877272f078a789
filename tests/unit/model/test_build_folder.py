from __future__ import annotations

from pathlib import Path

from goldenami.image.verify import verify
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from support.builds import builds


def test_builds_are_the_folders_with_a_record_and_latest_is_none_of_its_own(tmp_path: Path) -> None:
    image = ImageFolder.of(tmp_path, builds.IMAGE)
    assert (image.builds, image.latest) == ([], None)
    first, second = (BuildFolder(builds.build(tmp_path, number)) for number in (1, 2))
    (image.path / ".work-1-1").mkdir()
    (image.path / "logs").mkdir()
    verify.point_latest(first)
    assert image.builds == sorted([first, second], key=lambda build: build.build_id)
    assert image.latest == image.build(first.build_id) == first
    assert (
        first.log("bake")
        == tmp_path / "build" / builds.IMAGE / "logs" / f"bake-{first.build_id}.log"
    )
