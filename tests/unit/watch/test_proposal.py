from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from goldenami import cli
from goldenami.core import records
from goldenami.core.errors import StageFailed
from goldenami.watch import proposal
from goldenami.watch.watch_records import WatchRecord
from support.files import write
from support.loopback import Loopback, QuietHandler


def git(folder: Path, *args: str) -> str:
    return subprocess.run(
        ["git", *args], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of a server that takes push options, with one changed lock and a record of what
    `watch` saw."""
    server, made = tmp_path / "server.git", tmp_path / "clone"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(server))
    git(server, "config", "receive.advertisePushOptions", "true")
    hook = server / "hooks/pre-receive"
    hook.write_text(
        '#!/bin/sh\nenv | grep ^GIT_PUSH_OPTION_ | sort > "$GIT_DIR/options"\n', encoding="utf-8"
    )
    hook.chmod(0o755)
    git(tmp_path, "clone", "--quiet", str(server), str(made))
    images = dict.fromkeys((f"packer/images/{name}.yml" for name in ("a", "new", "none")), "")
    write(
        made,
        {
            "packer/locks/a.lock.json": "{}",
            **images,
            "build/watch/summary.md": "# new lock of a\n\n| a | b |\n",
        },
    )
    git(made, "add", "packer")
    git(made, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "packer: Lock")
    git(made, "push", "--quiet", "origin", "HEAD:main")
    records.write(
        made / "build/watch/watch.json",
        WatchRecord(looked_at="2026-11-25T00:00:00Z", sources=[], rows=[], warnings=[]),
    )
    monkeypatch.chdir(made)
    monkeypatch.delenv("CI_DEFAULT_BRANCH", raising=False)
    monkeypatch.delenv(proposal.URL, raising=False)
    return made


def test_nothing_changed(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["watch", "--propose"]) == 0
    assert capsys.readouterr().out == "no new lock: nothing to propose\n"
    assert git(clone, "ls-remote", "--heads", "origin").endswith("refs/heads/main")


def test_a_branch_with_a_merge_request(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_DEFAULT_BRANCH", "trunk")
    for text in ("first", "second"):  # tomorrow's replaces today's
        (clone / "packer/locks/a.lock.json").write_text(text, encoding="utf-8")
        (clone / "scrap").write_text("not below packer/", encoding="utf-8")
        assert cli.main(["watch", "--propose"]) == 0
    server = clone.parent / "server.git"
    assert git(server, "show", "golden/watch:packer/locks/a.lock.json") == "second"
    assert "scrap" not in git(server, "ls-tree", "--name-only", "golden/watch")
    assert git(server, "log", "-1", "--format=%B", "golden/watch") == (
        "packer: Lock what `make watch` found\n\n# new lock of a\n\n| a | b |"
    )
    assert [
        line.partition("=")[2]
        for line in (server / "options").read_text(encoding="utf-8").splitlines()
        if "COUNT" not in line
    ] == [
        "merge_request.create",
        "merge_request.target=trunk",
        "merge_request.title=nothing newer that matters",
        "merge_request.remove_source_branch",
    ]


def test_the_token_is_sent_and_in_no_message_and_on_no_command_line(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which every user of a machine may read: git notes its own, and those of the programs that it
    starts."""
    asked: list[str | None] = []

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Authorization"])
            self.send_error(403)

    (clone / "packer/locks/a.lock.json").write_text("x", encoding="utf-8")
    proposal.commit(clone, proposal.files(clone), "s")
    monkeypatch.setenv("GIT_TRACE", str(clone.parent / "lines"))
    with Loopback(Handler) as server, pytest.raises(StageFailed) as caught:
        url = f"http://watch:glpat%2Dsecret@127.0.0.1:{server.port}/golden.git"
        proposal.push(clone, url, target="main", title="t")
    assert asked[0] == f"Basic {base64.b64encode(b'watch:glpat-secret').decode()}"
    lines = (clone.parent / "lines").read_text(encoding="utf-8")
    assert f"127.0.0.1:{server.port}/golden.git" in lines and "secret" not in lines
    assert caught.value.message == "the branch golden/watch could not be pushed"
    assert "127.0.0.1" in caught.value.tail  # git's own words are there
    assert "secret" not in caught.value.tail + caught.value.hint
    assert caught.value.__cause__ is None


def test_the_images_of_a_matrix(
    clone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    (clone / "packer/locks/new.lock.json").write_text("{}", encoding="utf-8")
    assert cli.main(["images"]) == 0
    assert cli.main(["images", "--changed", "HEAD"]) == 0
    assert capsys.readouterr().out == '["a", "new"]\n["new"]\n'
    assert (tmp_path / "output").read_text(
        encoding="utf-8"
    ) == 'images=["a", "new"]\nimages=["new"]\n'
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path))
    assert cli.main(["images"]) == 8
    assert f"{tmp_path}: is a directory" in capsys.readouterr().err


def test_images_that_are_published_nowhere_are_left_out(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(root)
    (root / "packer/locks").mkdir()
    for name in ("debian-13-ml", "debian-13-ml-frameworks"):
        (root / f"packer/locks/{name}.lock.json").write_text("{}", encoding="utf-8")
    assert cli.main(["images"]) == 0
    assert cli.main(["images", "--published"]) == 0
    assert (
        capsys.readouterr().out == '["debian-13-ml", "debian-13-ml-frameworks"]\n["debian-13-ml"]\n'
    )


def test_an_image_whose_lock_is_the_committed_one_is_not_baked(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(root)
    git(root, "init", "--quiet")
    git(
        root,
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@localhost",
        "commit",
        "--allow-empty",
        "-qm",
        "x",
    )
    assert cli.main(["bake", "debian-13-ml-cpu", "--changed", "HEAD"]) == 0
    assert (
        capsys.readouterr().out == "the lock of debian-13-ml-cpu is that of HEAD: nothing to bake\n"
    )
    (root / "packer/locks").mkdir()
    (root / "packer/locks/debian-13-ml-cpu.lock.json").write_text("{}", encoding="utf-8")
    # It goes on, to a lock that is none.
    assert cli.main(["bake", "debian-13-ml-cpu", "--changed", "HEAD"]) == 2
