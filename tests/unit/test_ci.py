"""The CI definitions of both servers: valid by schema and linter, and by the rules of
ci_rules.py."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from goldenami import cli
from goldenami.model.definitions import definition_file
from support.builds.tools import ROOT, complaints, schema_complaints
from support.rules import ci_rules, requirement_rules, trees

WORKFLOWS = trees.scanned(6, ROOT, ".github/workflows/*.yml")
GITLAB = ROOT / ".gitlab-ci.yml"
RENOVATE = ROOT / ".github/renovate.json"
KNOWN = ci_rules.calls((ROOT / "Makefile").read_text(encoding="utf-8"), cli.MODULES)


def loaded(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


JOBS = {path.stem: loaded(path)["jobs"] for path in WORKFLOWS}


def test_every_file_of_pins_is_kept_up_to_date() -> None:
    """Renovate reads a file's command in its header, and knows options of it with `=` only."""
    found = json.loads(RENOVATE.read_text(encoding="utf-8"))
    pattern = found["pip-compile"]["managerFilePatterns"][0].strip("/")
    assert found["enabledManagers"] == ["github-actions", "gitlabci", "pip-compile"]
    for name in requirement_rules.FILES:
        assert re.search(pattern, f"requirements/{name}.txt")
        command = (ROOT / f"requirements/{name}.txt").read_text(encoding="utf-8").splitlines()[1]
        assert re.fullmatch(r"#    uv pip compile( --[a-z-]+(=\S+)?)+ pyproject\.toml", command)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_keeps_the_rules(path: Path) -> None:
    assert ci_rules.github(loaded(path), path.read_text(encoding="utf-8"), KNOWN) == []


def test_the_gitlab_pipeline_keeps_the_rules() -> None:
    pipeline, text = loaded(GITLAB), GITLAB.read_text(encoding="utf-8")
    assert ci_rules.gitlab(pipeline, text, KNOWN) == []
    images = [path.name.removesuffix(".lock.json")
              for path in trees.scanned(6, ROOT, "packer/locks/*.lock.json")]
    assert ci_rules.matrix(pipeline, ".images", images) == []
    published = [name for name in images
                 if definition_file.load(ROOT, definition_file.path_of(ROOT, name)).publish]
    assert ci_rules.matrix(pipeline, ".published", published) == []
    assert ".published" in pipeline["publish"]["extends"]


def test_publishing_needs_a_token_and_nothing_else_gets_one() -> None:
    asking = [(path.stem, name) for path in WORKFLOWS for name, job in loaded(path)["jobs"].items()
              if "id-token" in job["permissions"]]
    assert asking == [("digest", "digest"), ("drift", "drift"), ("drift", "site"),
                      ("publish", "publish"),
                      ("watch", "release")]
    pipeline = {name: job for name, job in loaded(GITLAB).items() if isinstance(job, dict)}
    assert [name for name, job in pipeline.items() if "id_tokens" in job] == [".publisher"]
    assert [name for name, job in pipeline.items() if ".publisher" in job.get("extends", [])] == [
        "digest", "drift", "publish", "release", "site"]


UNATTENDED = re.compile(r"(vars\.|\$)GOLDEN_UNATTENDED (==|!=) ['\"]yes['\"]")


def test_a_job_releases_without_a_person_only_where_a_variable_says_so() -> None:
    """It and the job that publishes what a person merged are never both on."""
    release = JOBS["watch"]["release"]
    publish = JOBS["publish"]["publish"]
    pipeline = loaded(GITLAB)
    conditions = [release["if"], publish["if"],
                  *(pipeline[name]["rules"][0]["if"] for name in ("release", "publish"))]
    found = [match[2] if (match := UNATTENDED.search(text)) else None for text in conditions]
    assert found == ["==", "!=", "==", "!="]
    assert (
        release["needs"] == "watch"
        and release["environment"] == publish["environment"] == "publish"
    )
    assert pipeline["release"]["needs"] == [{"job": "watch", "artifacts": True}]
    assert ".published" in pipeline["release"]["extends"]


# --- each rule and linter, of the files and of what it has to complain of -------------------------

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
PIPELINE = f"""default:
  image: debian:bookworm-slim@sha256:{'0' * 64} # bookworm
  before_script: [apt-get update -q && apt-get install -y -q --no-install-recommends make]
.images: {{parallel: {{matrix: [{{IMAGE: [a, b]}}]}}}}
a:
  timeout: 5 minutes
  script: [make test-fast]
"""
CALLS = {"make test-fast", "scripts/golden images"}


@pytest.mark.parametrize(("schema", "paths", "bad", "said"), [
    ("github-workflows", WORKFLOWS, GOOD.replace("runs-on", "run-on"), "run-on"),
    ("gitlab-ci", [GITLAB], PIPELINE.replace("script: [", "scripts: ["), ""),
    ("renovate", [RENOVATE], "semanticCommits: sometimes\n", "semanticCommits"),
])
def test_schemas(
    tmp_path: Path, schema: str, paths: list[Path], bad: str, said: str,
) -> None:
    (tmp_path / "bad.yml").write_text(bad, encoding="utf-8")
    names = [str(path) for path in (*paths, tmp_path / "bad.yml")]
    complaint = schema_complaints("--builtin-schema", f"vendor.{schema}", *names)
    assert "bad.yml" in complaint and said in complaint
    assert [name for name in names[:-1] if name in complaint] == []


def test_zizmor(tmp_path: Path) -> None:
    options = ("--offline", "--no-progress", "--quiet")
    assert complaints("zizmor", *options, str(ROOT / ".github")) == ""
    (tmp_path / ".github/workflows").mkdir(parents=True)
    (tmp_path / ".github/workflows/bad.yml").write_text(
        GOOD.replace("make test-fast", "make ${{ github.event.issue.title }}")
        .replace("@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2", "@v6")
        .replace("permissions: {}\n", "").replace("    permissions: {contents: read}\n", ""),
        encoding="utf-8")
    said = complaints("zizmor", *options, str(tmp_path / ".github"))
    for name in ("template-injection", "unpinned-uses", "excessive-permissions"):
        assert name in said


BAD = {
    "      - run: sudo -E make test-fast\n": "".join(f"      - run: {line}\n" for line in (
        "make test-fsat", "make test-fast; curl x", "scripts/golden images $(x)")),
    " # v6.0.2\n": " # v6.0.2\n        env: {AWS_SECRET_X: x}\n",
    "    timeout-minutes: 5\n": "", "ubuntu-24.04": "ubuntu-latest",
}


def test_a_workflow_that_breaks_every_rule() -> None:
    assert ci_rules.github(yaml.safe_load(GOOD), GOOD, CALLS) == []
    text = GOOD
    for old, new in BAD.items():
        assert old in text
        text = text.replace(old, new, 1)
    assert ci_rules.github(yaml.safe_load(text), text, CALLS) == [
        "a has no timeout-minutes", "a runs on ubuntu-latest, which is not one version",
        "a calls `make test-fsat`, which does not exist",
        "a runs `make test-fast; curl x`, which is no Make target and no command",
        "a runs `scripts/golden images $(x)`, which is no Make target and no command",
        "a stored key: `env: {AWS_SECRET_X: x}`"]


def test_a_pipeline_that_breaks_every_rule() -> None:
    assert ci_rules.gitlab(yaml.safe_load(PIPELINE), PIPELINE, CALLS) == []
    text = PIPELINE.replace(f"@sha256:{'0' * 64}", "").replace("  timeout: 5 minutes\n", "")
    text = text.replace("recommends make]", "recommends make; curl x]")
    pipeline = yaml.safe_load(text)
    setup, timeout, image = ci_rules.gitlab(pipeline, text, CALLS)
    assert setup.endswith("recommends make; curl x`, which is no Make target and no command")
    assert timeout == "a has no timeout"
    assert image == "`image: debian:bookworm-slim # bookworm` is not pinned"
    assert ci_rules.matrix(pipeline, ".images", ["a", "b", "c"]) != []
