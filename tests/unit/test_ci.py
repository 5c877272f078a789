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
from goldenami.core import shell
from goldenami.core.cache_paths import CachePaths
from goldenami.core.environment import VARIABLES
from goldenami.fleet.account import account_plan
from goldenami.model.definitions import definition_file
from support.builds.tools import ROOT, complaints, schema_complaints
from support.rules import ci_rules, requirement_rules, trees

WORKFLOWS = trees.scanned(6, ROOT, ".github/workflows/*.yml")
GITLAB = ROOT / ".gitlab-ci.yml"
RENOVATE = ROOT / ".github/renovate.json"
KNOWN = ci_rules.calls((ROOT / "Makefile").read_text(encoding="utf-8"), cli.MODULES)


MIRROR = "GOLDEN_" + "MIRROR"
"""What the names of a family begin with; no name by itself."""
CACHE = CachePaths(Path())
KEPT = [f"build/cache/{path}/" for path in (CACHE.store, CACHE.modules, CACHE.wheels)]
"""What a runner has of earlier runs: locked files, and what was compiled from them."""


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


def test_a_push_of_several_commits_publishes_all_its_locks() -> None:
    job = JOBS["publish"]["images"]
    assert job["steps"][0]["with"]["fetch-depth"] == 0
    assert job["steps"][1]["env"] == {"CHANGED": "${{ github.event.before }}"}
    assert (
        job["steps"][1]["run"].splitlines()[1]
        == 'sudo -E scripts/golden images --published --changed "$CHANGED"'
    )


def test_what_a_watch_locked_is_proposed_whatever_else_went_wrong() -> None:
    """A source that is down fails the job `watch`, an image that does not bake fails the job
    `bake`."""
    jobs = JOBS["watch"]
    assert jobs["bake"]["if"] == jobs["pull-request"]["if"]
    assert jobs["bake"]["if"].startswith("${{ !cancelled() && needs.watch.outputs.images != ''")
    assert [step["if"] for step in jobs["watch"]["steps"] if step.get("id") == "changed"] == [
        "${{ !cancelled() }}"
    ]
    assert (
        jobs["pull-request"]["steps"][-1]["with"]["draft"]
        == "${{ needs.bake.result != 'success' }}"
    )
    assert all("!cancelled()" in job["if"] for job in JOBS["bake"].values())
    pipeline = loaded(GITLAB)
    for name in ("bake", "merge-request"):
        assert pipeline[name]["rules"][0]["when"] == "always", name
    assert pipeline["bake"]["rules"][0]["variables"] == {"CHANGED": "HEAD"}


def test_jobs_that_lock_or_bake_have_the_store_of_earlier_runs() -> None:
    """A locked file that its archive has dropped since is in no mirror."""
    for name, job, action in (("watch", "watch", "cache"), ("bake", "bake", "cache"),
                              ("publish", "publish", "cache/restore"),
                              ("watch", "release", "cache/restore")):
        found = JOBS[name][job]
        assert found["env"]["GOLDEN_CACHE"] == "${{ github.workspace }}/build/cache", name
        assert ("GOLDEN_STORE_S3" in found["env"]) == (found.get("environment") == "publish"), name
        uses = [step.get("uses", "").partition("@")[0] for step in found["steps"]]
        work = [
            index
            for index, step in enumerate(found["steps"])
            if step.get("run", "").startswith(
                ("sudo -E make bake", "sudo -E make watch", "sudo -E make release")
            )
        ]
        assert uses.index(f"actions/{action}") < work[0], name
        assert found["steps"][uses.index(f"actions/{action}")]["with"]["path"].split() == KEPT, name
    pipeline = loaded(GITLAB)
    assert pipeline["variables"]["GOLDEN_CACHE"] == "$CI_PROJECT_DIR/build/cache"
    watched, image = {"key": "store-watch", "paths": KEPT}, {"key": "store-$IMAGE", "paths": KEPT}
    assert pipeline["watch"]["cache"] == watched
    assert pipeline[".store"]["cache"] == [{**watched, "policy": "pull"}, image]
    assert all(".store" in pipeline[name]["extends"] for name in ("bake", "publish", "release"))


def test_a_change_that_is_proposed_bakes_the_images_whose_lock_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    """By what the job says, in a merge as GitHub checks it out: main has gone on meanwhile."""
    workflow = loaded(ROOT / ".github/workflows/bake.yml")
    assert workflow[True]["pull_request"]["paths"] == ["packer/locks/**"]  # `on` is YAML 1.1's true
    job = workflow["jobs"]["images"]
    (look,) = (step for step in job["steps"] if step.get("id") == "images")
    assert job["steps"][0]["with"]["fetch-depth"] == 2
    assert look["env"] == {
        "CHANGED": "${{ github.event_name == 'pull_request' && 'HEAD^1' || '' }}"
    }
    assert look["run"].splitlines()[-1] == 'sudo -E scripts/golden images --changed "$CHANGED"'
    assert "needs.images.outputs.images != '[]'" in workflow["jobs"]["bake"]["if"]
    proposed = next(rule for rule in loaded(GITLAB)["bake"]["rules"] if "changes" in rule)
    assert (proposed["changes"], proposed["variables"]) == (
        ["packer/locks/*"], {"CHANGED": "$CI_MERGE_REQUEST_DIFF_BASE_SHA"})

    def git(*args: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
        shell.output(["git", *identity, "-C", str(tmp_path), *args])

    def lock(name: str, text: str) -> None:
        (tmp_path / "packer/locks").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"packer/locks/{name}.lock.json").write_text(text, encoding="utf-8")
        git("add", ".")
        git("commit", "-qm", text)

    git("init", "-q", "-b", "main")
    (tmp_path / "packer/images").mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / f"packer/images/{name}.yml").touch()
        lock(name, "first")
    git("switch", "-qc", "change")
    lock("b", "proposed")
    git("switch", "-q", "main")
    lock("a", "merged meanwhile")
    git("merge", "-q", "--no-edit", "change")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["images", "--changed", "HEAD^1"]) == 0
    assert cli.main(["images", "--changed", ""]) == 0
    assert capsys.readouterr().out == '["b"]\n["a", "b"]\n'


def test_a_job_reads_what_the_page_says_that_it_has() -> None:
    """A variable of an environment is empty in a job of another one; a secret is no variable."""
    places = ci_rules.places((ROOT / "docs/ci.md").read_text(encoding="utf-8"))
    assert len(places) > 10
    assert [
        f"{path.stem}: {said}"
        for path in WORKFLOWS
        for said in ci_rules.misplaced(loaded(path), places)
    ] == []


def test_every_job_that_fetches_packages_has_the_addresses_of_all_archives() -> None:
    """Those that the reference names; GitLab gives a project's variables to each job by itself."""
    group = VARIABLES["Sources"]
    known = set(re.findall(r"`(GOLDEN_MIRROR_[A-Z]+)`", group[f"{MIRROR}_<ARCHIVE>"]))
    known |= {f"{MIRROR}{name}"
              for name in re.findall(r"`(_[A-Z_]+)`", group[f"{MIRROR}_<ARCHIVE>"])}
    assert len(known) == 6
    for path in WORKFLOWS:
        workflow = loaded(path)
        runs = [step.get("run", "") for job in workflow["jobs"].values()
                for step in job.get("steps", [])]
        fetches = any(re.search(r"make (bake|watch|release|lock|test)\b(?!-)", run) for run in runs)
        given = {name: value for name, value in workflow.get("env", {}).items() if name in known}
        assert given == ({name: f"${{{{ vars.{name} }}}}" for name in known} if fetches
                         else {}), path.name


def test_publishing_needs_a_token_and_nothing_else_gets_one() -> None:
    asking = [(path.stem, name) for path in WORKFLOWS for name, job in loaded(path)["jobs"].items()
              if "id-token" in job["permissions"]]
    assert asking == [("costs", "costs"), ("drift", "drift"), ("drift", "site"),
                      ("publish", "publish"),
                      ("watch", "release")]
    pipeline = {name: job for name, job in loaded(GITLAB).items() if isinstance(job, dict)}
    assert [name for name, job in pipeline.items() if "id_tokens" in job] == [".publisher"]
    assert [name for name, job in pipeline.items() if ".publisher" in job.get("extends", [])] == [
        "costs", "drift", "publish", "release", "site"]


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


@pytest.mark.parametrize(("name", "job", "first"), [("watch", "release", "release"), ("publish", "publish", "bake")])
def test_the_credentials_live_as_long_as_the_job_that_asks_for_them(
    name: str, job: str, first: str
) -> None:
    """The role allows it; what is baked may come from the account's bucket."""
    found = JOBS[name][job]
    asking = next(index for index, step in enumerate(found["steps"])
                  if step.get("uses", "").startswith("aws-actions/configure-aws-credentials@"))
    assert asking < [step.get("run") for step in found["steps"]].index(f"sudo -E make {first}")
    seconds = found["steps"][asking]["with"]["role-duration-seconds"]
    assert seconds >= 60 * found["timeout-minutes"]
    assert (
        account_plan.TEMPLATE.read_text(encoding="utf-8").count(f"MaxSessionDuration: {seconds}")
        == 4
    )


def test_slow_and_long_tests_run_each_week() -> None:
    jobs = JOBS["tests"]
    assert [job["steps"][-1]["run"] for job in jobs.values()] == [
        "sudo -E make test",
        "sudo -E make test LONG=1",
    ]
    pipeline = loaded(GITLAB)
    assert [pipeline[name]["script"] for name in ("tests", "long-tests")] == [
        ["make test"],
        ["make test LONG=1"],
    ]
    weekly = pipeline["tests"]["rules"][0]["if"]
    daily = {pipeline[name]["rules"][0]["if"]
             for name in ("watch", "bake", "merge-request", "release")}
    assert "$GOLDEN_SCHEDULE == \"tests\"" in weekly
    assert all("$GOLDEN_SCHEDULE != \"tests\"" in text for text in daily)


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
        GOOD.replace("make test-fast", "make ${{ github.event.issue.title }}"), encoding="utf-8")
    assert "template-injection" in complaints("zizmor", *options, str(tmp_path / ".github"))


BAD = {
    "      - run: sudo -E make test-fast\n": "".join(f"      - run: {line}\n" for line in (
        "make test-fsat", "make test-fast; curl x", "scripts/golden images $(x)")),
    "checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2\n":
        "checkout@v6\n      - uses: $/.github/workflows/bake.yml@v6\n"
        "        env: {AWS_SECRET_X: x}\n",
    "permissions: {}\n": "", "    permissions: {contents: read}\n": "",
    "    timeout-minutes: 5\n": "", "ubuntu-24.04": "ubuntu-latest",
}


def test_a_workflow_that_breaks_every_rule() -> None:
    assert ci_rules.github(yaml.safe_load(GOOD), GOOD, CALLS) == []
    text = GOOD
    for old, new in BAD.items():
        assert old in text
        text = text.replace(old, new, 1)
    assert ci_rules.github(yaml.safe_load(text), text, CALLS) == [
        "permissions are not `{}` by default", "a has no timeout-minutes",
        "a does not say its permissions", "a runs on ubuntu-latest, which is not one version",
        "a calls `make test-fsat`, which does not exist",
        "a runs `make test-fast; curl x`, which is no Make target and no command",
        "a runs `scripts/golden images $(x)`, which is no Make target and no command",
        "`uses: actions/checkout@v6` is not pinned",
        "`uses: $/.github/workflows/bake.yml@v6` is not pinned",
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


PLACES = {"GOLDEN_A": "environment `publish`", "GOLDEN_B": "secret of `watch`",
          "GOLDEN_C_*": "repository"}


@pytest.mark.parametrize(("environment", "read", "said"), [
    ("publish", "vars.GOLDEN_A", ""), ("watch", "secrets.GOLDEN_B", ""),
    ("", "vars.GOLDEN_C_ONE", ""),
    ("watch", "vars.GOLDEN_A", "a reads vars.GOLDEN_A, which is an environment's: publish"),
    ("publish", "vars.GOLDEN_B", "a reads vars.GOLDEN_B, which is a secret"),
    ("publish", "secrets.GOLDEN_A", "a reads secrets.GOLDEN_A, which is no secret"),
    ("publish", "vars.GOLDEN_E", "a reads vars.GOLDEN_E, of which docs/ci.md says nothing"),
])
def test_a_job_that_reads_what_it_does_not_have(environment: str, read: str, said: str) -> None:
    text = GOOD.replace("    steps:", f"    environment: '{environment}'\n    steps:", 1)
    workflow = yaml.safe_load(text)
    for level in (workflow, workflow["jobs"]["a"], workflow["jobs"]["a"]["steps"][-1]):
        level["env"] = {"X": f"${{{{ {read} || 'y' }}}}"}
        assert ci_rules.misplaced(workflow, PLACES) == ([said] if said else [])
        del level["env"]
