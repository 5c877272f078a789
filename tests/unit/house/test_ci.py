"""The CI definitions of both servers: valid by schema and linter, and what no linter knows of
them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from goldenami.model.definitions import definition_file
from support import trees
from support.builds.tools import ROOT, complaints, schema_complaints

WORKFLOWS = trees.scanned(6, ROOT, ".github/workflows/*.yml")
GITLAB = ROOT / ".gitlab-ci.yml"
RENOVATE = ROOT / ".github/renovate.json"


def loaded(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


JOBS = {path.stem: loaded(path)["jobs"] for path in WORKFLOWS}


def test_every_file_of_pins_is_kept_up_to_date() -> None:
    """Renovate reads a file's command in its header, and knows options of it with `=` only."""
    found = json.loads(RENOVATE.read_text(encoding="utf-8"))
    pattern = found["pip-compile"]["managerFilePatterns"][0].strip("/")
    assert found["enabledManagers"] == ["github-actions", "gitlabci", "pip-compile"]
    for name in ("run", "emulator", "test"):
        assert re.search(pattern, f"requirements/{name}.txt")
        command = (ROOT / f"requirements/{name}.txt").read_text(encoding="utf-8").splitlines()[1]
        assert re.fullmatch(r"#    uv pip compile( --[a-z-]+(=\S+)?)+ pyproject\.toml", command)


def test_gitlab_has_every_image() -> None:
    """Its matrix has to be written out."""
    pipeline = loaded(GITLAB)
    images = sorted(
        path.name.removesuffix(".lock.json")
        for path in trees.scanned(5, ROOT, "packer/locks/*.lock.json")
    )
    published = [
        name
        for name in images
        if definition_file.load(ROOT, definition_file.path_of(ROOT, name)).publish
    ]
    for name, wanted in ((".images", images), (".published", published)):
        assert pipeline[name]["parallel"]["matrix"][0]["IMAGE"] == wanted
    assert ".published" in pipeline["publish"]["extends"]


def test_publishing_needs_a_token_and_nothing_else_gets_one() -> None:
    asking = [
        (path.stem, name)
        for path in WORKFLOWS
        for name, job in loaded(path)["jobs"].items()
        if "id-token" in job["permissions"]
    ]
    assert asking == [
        ("digest", "digest"),
        ("drift", "drift"),
        ("drift", "site"),
        ("publish", "publish"),
        ("watch", "release"),
    ]
    pipeline = {name: job for name, job in loaded(GITLAB).items() if isinstance(job, dict)}
    assert [name for name, job in pipeline.items() if "id_tokens" in job] == [".publisher"]
    assert [name for name, job in pipeline.items() if ".publisher" in job.get("extends", [])] == [
        "digest",
        "drift",
        "publish",
        "release",
        "site",
    ]


UNATTENDED = re.compile(r"(vars\.|\$)GOLDEN_UNATTENDED (==|!=) ['\"]yes['\"]")


def test_a_job_releases_without_a_person_only_where_a_variable_says_so() -> None:
    """It and the job that publishes what a person merged are never both on."""
    release = JOBS["watch"]["release"]
    publish = JOBS["publish"]["publish"]
    pipeline = loaded(GITLAB)
    conditions = [
        release["if"],
        publish["if"],
        *(pipeline[name]["rules"][0]["if"] for name in ("release", "publish")),
    ]
    found = [match[2] if (match := UNATTENDED.search(text)) else None for text in conditions]
    assert found == ["==", "!=", "==", "!="]
    assert (
        release["needs"] == "watch"
        and release["environment"] == publish["environment"] == "publish"
    )
    assert pipeline["release"]["needs"] == [{"job": "watch", "artifacts": True}]
    assert ".published" in pipeline["release"]["extends"]


# --- each rule and linter, of the files and of what it has to complain of ---

GOOD = """name: x
on: [push]
permissions: {}
jobs:
  a:
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    permissions: {contents: read}
    steps:
      - uses: actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2
      - run: sudo -E make test-fast
"""


@pytest.mark.parametrize(
    ("schema", "paths", "bad", "said"),
    [
        ("vendor.github-workflows", WORKFLOWS, GOOD.replace("runs-on", "run-on"), "run-on"),
        (
            "custom.github-workflows-require-timeout",
            WORKFLOWS,
            GOOD.replace("    timeout-minutes: 5\n", ""),
            "timeout-minutes",
        ),
        ("vendor.gitlab-ci", [GITLAB], "a: {scripts: [make test-fast]}\n", ""),
        ("vendor.renovate", [RENOVATE], "semanticCommits: sometimes\n", "semanticCommits"),
    ],
)
def test_schemas(
    tmp_path: Path,
    schema: str,
    paths: list[Path],
    bad: str,
    said: str,
) -> None:
    (tmp_path / "bad.yml").write_text(bad, encoding="utf-8")
    names = [str(path) for path in (*paths, tmp_path / "bad.yml")]
    complaint = schema_complaints("--builtin-schema", schema, *names)
    assert "bad.yml" in complaint and said in complaint
    assert [name for name in names[:-1] if name in complaint] == []


def test_zizmor(tmp_path: Path) -> None:
    options = ("--offline", "--no-progress", "--quiet")
    assert complaints("zizmor", *options, str(ROOT / ".github")) == ""
    (tmp_path / ".github/workflows").mkdir(parents=True)
    (tmp_path / ".github/workflows/bad.yml").write_text(
        GOOD.replace("make test-fast", "make ${{ github.event.issue.title }}")
        .replace("@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2", "@v6")
        .replace("permissions: {}\n", "")
        .replace("    permissions: {contents: read}\n", ""),
        encoding="utf-8",
    )
    said = complaints("zizmor", *options, str(tmp_path / ".github"))
    for name in ("template-injection", "unpinned-uses", "excessive-permissions"):
        assert name in said
