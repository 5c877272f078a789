"""The CI definitions of both servers: valid by schema and linter, and by the rules of ci_rules.py."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from goldenami import cli
from goldenami.core import shell
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
KEPT = [f"build/cache/{name}/" for name in ("store", "modules", "wheels")]
"""What a runner has of earlier runs: locked files, and what was compiled from them."""


def loaded(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def test_there_are_all_workflows() -> None:
    assert [path.stem for path in WORKFLOWS] == ["bake", "checks", "costs", "drift", "publish", "tests", "watch"]


def test_schemas() -> None:
    paths = [str(path) for path in WORKFLOWS]
    assert schema_complaints("--builtin-schema", "vendor.github-workflows", *paths) == ""
    assert schema_complaints("--builtin-schema", "vendor.gitlab-ci", str(GITLAB)) == ""
    assert schema_complaints("--builtin-schema", "vendor.renovate", str(RENOVATE)) == ""


def test_every_file_of_pins_is_kept_up_to_date() -> None:
    """Renovate reads a file's command in its header, and knows options of it with `=` only."""
    found = json.loads(RENOVATE.read_text(encoding="utf-8"))
    pattern = found["pip-compile"]["managerFilePatterns"][0].strip("/")
    assert found["enabledManagers"] == ["github-actions", "gitlabci", "pip-compile"]
    for name in requirement_rules.FILES:
        assert re.search(pattern, f"requirements/{name}.txt")
        command = (ROOT / f"requirements/{name}.txt").read_text(encoding="utf-8").splitlines()[1]
        assert re.fullmatch(r"#    uv pip compile( --[a-z-]+(=\S+)?)+ pyproject\.toml", command)


def test_zizmor() -> None:
    assert complaints("zizmor", "--offline", "--no-progress", "--quiet", str(ROOT / ".github")) == ""


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_keeps_the_rules(path: Path) -> None:
    assert ci_rules.github(loaded(path), path.read_text(encoding="utf-8"), KNOWN) == []


def test_the_gitlab_pipeline_keeps_the_rules() -> None:
    pipeline, text = loaded(GITLAB), GITLAB.read_text(encoding="utf-8")
    assert ci_rules.gitlab(pipeline, text, KNOWN) == []
    images = [path.name.removesuffix(".lock.json") for path in trees.scanned(6, ROOT, "packer/locks/*.lock.json")]
    assert ci_rules.matrix(pipeline, ".images", images) == []
    published = [name for name in images if definition_file.load(ROOT, definition_file.path_of(ROOT, name)).publish]
    assert ci_rules.matrix(pipeline, ".published", published) == []
    assert ".published" in pipeline["publish"]["extends"]


def test_a_push_of_several_commits_publishes_all_its_locks() -> None:
    job = loaded(ROOT / ".github/workflows/publish.yml")["jobs"]["images"]
    assert job["steps"][0]["with"]["fetch-depth"] == 0
    assert job["steps"][1]["env"] == {"CHANGED": "${{ github.event.before }}"}
    assert job["steps"][1]["run"].splitlines()[1] == 'sudo -E scripts/golden images --published --changed "$CHANGED"'


def test_what_a_watch_locked_is_proposed_whatever_else_went_wrong() -> None:
    """A source that is down fails the job `watch`, an image that does not bake fails the job `bake`."""
    jobs = loaded(ROOT / ".github/workflows/watch.yml")["jobs"]
    assert jobs["bake"]["if"] == jobs["pull-request"]["if"]
    assert jobs["bake"]["if"].startswith("${{ !cancelled() && needs.watch.outputs.images != ''")
    assert [step["if"] for step in jobs["watch"]["steps"] if step.get("id") == "changed"] == ["${{ !cancelled() }}"]
    assert jobs["pull-request"]["steps"][-1]["with"]["draft"] == "${{ needs.bake.result != 'success' }}"
    assert all("!cancelled()" in job["if"] for job in loaded(ROOT / ".github/workflows/bake.yml")["jobs"].values())
    pipeline = loaded(GITLAB)
    for name in ("bake", "merge-request"):
        assert pipeline[name]["rules"][0]["when"] == "always", name
    assert pipeline["bake"]["rules"][0]["variables"] == {"CHANGED": "HEAD"}


def test_jobs_that_lock_or_bake_have_the_store_of_earlier_runs() -> None:
    """A locked file that its archive has dropped since is in no mirror."""
    for name, job, action in (("watch", "watch", "cache"), ("bake", "bake", "cache"),
                              ("publish", "publish", "cache/restore"), ("watch", "release", "cache/restore")):
        found = loaded(ROOT / f".github/workflows/{name}.yml")["jobs"][job]
        assert found["env"]["GOLDEN_CACHE"] == "${{ github.workspace }}/build/cache", name
        assert ("GOLDEN_STORE_S3" in found["env"]) == (found.get("environment") == "publish"), name
        uses = [step.get("uses", "").partition("@")[0] for step in found["steps"]]
        work = [index for index, step in enumerate(found["steps"])
                if step.get("run", "").startswith(("sudo -E make bake", "sudo -E make watch", "sudo -E make release"))]
        assert uses.index(f"actions/{action}") < work[0], name
        assert found["steps"][uses.index(f"actions/{action}")]["with"]["path"].split() == KEPT, name
    pipeline = loaded(GITLAB)
    assert pipeline["variables"]["GOLDEN_CACHE"] == "$CI_PROJECT_DIR/build/cache"
    watched, image = {"key": "store-watch", "paths": KEPT}, {"key": "store-$IMAGE", "paths": KEPT}
    assert pipeline["watch"]["cache"] == watched
    assert pipeline[".store"]["cache"] == [{**watched, "policy": "pull"}, image]
    assert all(".store" in pipeline[name]["extends"] for name in ("bake", "publish", "release"))


def test_what_a_watch_fetched_is_kept_also_where_the_locks_did_not_change() -> None:
    """GitHub's cache is never overwritten: a key of an earlier run would save nothing."""
    steps = loaded(ROOT / ".github/workflows/watch.yml")["jobs"]["watch"]["steps"]
    cache = next(step["with"] for step in steps if step.get("uses", "").startswith("actions/cache@"))
    assert cache["key"] == "store-watch-${{ github.run_id }}"
    assert cache["restore-keys"].split() == ["store-watch-", "store-"]


def test_a_change_that_is_proposed_bakes_the_images_whose_lock_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    """By what the job says, in a merge as GitHub checks it out: main has gone on meanwhile."""
    workflow = loaded(ROOT / ".github/workflows/bake.yml")
    assert workflow[True]["pull_request"]["paths"] == ["packer/locks/**"]  # `on` is YAML 1.1's true
    job = workflow["jobs"]["images"]
    (look,) = (step for step in job["steps"] if step.get("id") == "images")
    assert job["steps"][0]["with"]["fetch-depth"] == 2
    assert look["env"] == {"CHANGED": "${{ github.event_name == 'pull_request' && 'HEAD^1' || '' }}"}
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
    assert [f"{path.stem}: {said}" for path in WORKFLOWS for said in ci_rules.misplaced(loaded(path), places)] == []


def test_every_job_that_fetches_packages_has_the_addresses_of_all_archives() -> None:
    """Those that the reference names; GitLab gives a project's variables to each job by itself."""
    group = VARIABLES["Sources"]
    known = {"GOLDEN_MIRROR_PYPI"} | set(re.findall(r"`(GOLDEN_MIRROR_[A-Z]+)`", group[f"{MIRROR}_<ARCHIVE>"]))
    known |= {f"{MIRROR}{name}" for name in re.findall(r"`(_[A-Z_]+)`", group[f"{MIRROR}_<ARCHIVE>"])}
    assert len(known) == 6
    for path in WORKFLOWS:
        workflow = loaded(path)
        runs = [step.get("run", "") for job in workflow["jobs"].values() for step in job.get("steps", [])]
        fetches = any(re.search(r"make (bake|watch|release|lock|test)\b(?!-)", run) for run in runs)
        given = {name: value for name, value in workflow.get("env", {}).items() if name in known}
        assert given == ({name: f"${{{{ vars.{name} }}}}" for name in known} if fetches else {}), path.name


def test_publishing_needs_a_token_and_nothing_else_gets_one() -> None:
    asking = [(path.stem, name) for path in WORKFLOWS for name, job in loaded(path)["jobs"].items()
              if "id-token" in job["permissions"]]
    assert asking == [("costs", "costs"), ("drift", "drift"), ("drift", "site"), ("publish", "publish"),
                      ("watch", "release")]
    pipeline = {name: job for name, job in loaded(GITLAB).items() if isinstance(job, dict)}
    assert [name for name, job in pipeline.items() if "id_tokens" in job] == [".publisher"]
    assert [name for name, job in pipeline.items() if ".publisher" in job.get("extends", [])] == [
        "costs", "drift", "publish", "release", "site"]


def test_the_page_over_all_images_is_made_after_each_release_and_each_day() -> None:
    """Also where a build or a look for drift failed: that is what people look for there."""
    jobs = {name: loaded(ROOT / f".github/workflows/{name}.yml")["jobs"] for name in ("drift", "publish", "watch")}
    for job in (jobs["publish"]["publish"], jobs["watch"]["release"], jobs["drift"]["site"]):
        (made,) = (step for step in job["steps"] if "make site" in step.get("run", ""))
        assert made["env"] == {"GOLDEN_SITE_S3": "${{ vars.GOLDEN_SITE_S3 }}"}
        assert made.get("if") == "always()" or job["if"] == "${{ !cancelled() }}"
    pipeline = loaded(GITLAB)
    assert [pipeline[name]["script"][-1] for name in ("publish", "release", "site")] == [
        "make site", "make site", "make site ACCOUNT=1"]
    assert pipeline["site"]["rules"][0]["when"] == "always"


UNATTENDED = re.compile(r"(vars\.|\$)GOLDEN_UNATTENDED (==|!=) ['\"]yes['\"]")


def test_a_job_releases_without_a_person_only_where_a_variable_says_so() -> None:
    """It and the job that publishes what a person merged are never both on."""
    release = loaded(ROOT / ".github/workflows/watch.yml")["jobs"]["release"]
    publish = loaded(ROOT / ".github/workflows/publish.yml")["jobs"]["publish"]
    pipeline = loaded(GITLAB)
    conditions = [release["if"], publish["if"], *(pipeline[name]["rules"][0]["if"] for name in ("release", "publish"))]
    found = [match[2] if (match := UNATTENDED.search(text)) else None for text in conditions]
    assert found == ["==", "!=", "==", "!="]
    assert release["needs"] == "watch" and release["environment"] == publish["environment"] == "publish"
    assert pipeline["release"]["needs"] == [{"job": "watch", "artifacts": True}]
    assert ".published" in pipeline["release"]["extends"]


@pytest.mark.parametrize(("name", "job", "first"), [("watch", "release", "release"), ("publish", "publish", "bake")])
def test_the_credentials_live_as_long_as_the_job_that_asks_for_them(name: str, job: str, first: str) -> None:
    """The role allows it; what is baked may come from the account's bucket."""
    found = loaded(ROOT / f".github/workflows/{name}.yml")["jobs"][job]
    asking = next(index for index, step in enumerate(found["steps"])
                  if step.get("uses", "").startswith("aws-actions/configure-aws-credentials@"))
    assert asking < [step.get("run") for step in found["steps"]].index(f"sudo -E make {first}")
    seconds = found["steps"][asking]["with"]["role-duration-seconds"]
    assert seconds >= 60 * found["timeout-minutes"]
    assert account_plan.TEMPLATE.read_text(encoding="utf-8").count(f"MaxSessionDuration: {seconds}") == 4


def test_slow_and_long_tests_run_each_week() -> None:
    jobs = loaded(ROOT / ".github/workflows/tests.yml")["jobs"]
    assert [job["steps"][-1]["run"] for job in jobs.values()] == ["sudo -E make test", "sudo -E make test LONG=1"]
    pipeline = loaded(GITLAB)
    assert [pipeline[name]["script"] for name in ("tests", "long-tests")] == [["make test"], ["make test LONG=1"]]
    weekly = pipeline["tests"]["rules"][0]["if"]
    daily = {pipeline[name]["rules"][0]["if"] for name in ("watch", "bake", "merge-request", "release")}
    assert "$GOLDEN_SCHEDULE == \"tests\"" in weekly
    assert all("$GOLDEN_SCHEDULE != \"tests\"" in text for text in daily)


def test_what_it_costs_is_looked_up_each_week() -> None:
    workflow, pipeline = loaded(ROOT / ".github/workflows/costs.yml"), loaded(GITLAB)
    assert workflow[True]["schedule"][0]["cron"].split()[2:] == ["*", "*", "1"]
    assert workflow["jobs"]["costs"]["steps"][-1]["run"].splitlines()[-1] == "sudo -E scripts/golden costs"
    assert pipeline["costs"]["script"][-1] == "scripts/golden costs"
    assert pipeline["costs"]["rules"] == pipeline["tests"]["rules"]


# --- each rule and linter has been seen to complain -------------------------------------------------------------------

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


@pytest.mark.parametrize(("old", "new", "said"), [
    ("", "", None),
    ("make test-fast", "make test-fsat", "a calls `make test-fsat`, which does not exist"),
    ("sudo -E make test-fast", "pip install x", "a runs `pip install x`, which is no Make target and no command"),
    ("make test-fast", "make test-fast; curl x", "a runs `sudo -E make test-fast; curl x`, which is no Make target"),
    ("make test-fast", 'scripts/golden images --changed "$REF" --published', None),
    ("make test-fast", "scripts/golden imags", "a calls `scripts/golden imags`, which does not exist"),
    ("make test-fast", "scripts/golden images $(x)", "a runs `sudo -E scripts/golden images $(x)`, which is no Make"),
    ("@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2", "@v6", "`uses: actions/checkout@v6` is not pinned"),
    (" # v6.0.2", "", "is not pinned"), ("actions/checkout@", "$/.github/workflows/bake.yml@", "is not pinned"),
    ("permissions: {}\n", "", "permissions are not `{}` by default"),
    ("    permissions: {contents: read}\n", "", "a does not say its permissions"),
    ("    timeout-minutes: 5\n", "", "a has no timeout-minutes"),
    ("ubuntu-24.04", "ubuntu-latest", "a runs on ubuntu-latest, which is not one version"),
    ("      - run", "      - env: {AWS_SECRET_ACCESS_KEY: x}\n        run", "a stored key: "),
])
def test_a_workflow_that_breaks_a_rule(old: str, new: str, said: str | None) -> None:
    text = GOOD.replace(old, new) if old else GOOD
    found = ci_rules.github(yaml.safe_load(text), text, {"make test-fast", "scripts/golden images"})
    assert (found == []) if said is None else (said in "\n".join(found))


TABLE = """| variable | GitHub | GitLab | value |
| --- | --- | --- | --- |
| `GOLDEN_A` | environment `publish` | scope `publish` | a |
| `GOLDEN_B` | secret of `watch`, and of `publish` | | b |
| `GOLDEN_C_*` | repository | | c |
| `GOLDEN_D` | | scope `publish` | d |
"""


@pytest.mark.parametrize(("environment", "read", "said"), [
    ("publish", "vars.GOLDEN_A", ""), ("watch", "secrets.GOLDEN_B", ""), ("publish", "secrets.GOLDEN_B", ""),
    ("", "vars.GOLDEN_C_ONE", ""), ("watch", "vars.GOLDEN_C_ONE", ""), ("", "github.token", ""),
    ("watch", "vars.GOLDEN_A", "a reads vars.GOLDEN_A, which is an environment's: publish"),
    ("", "secrets.GOLDEN_B", "a reads secrets.GOLDEN_B, which is an environment's: publish, watch"),
    ("publish", "vars.GOLDEN_B", "a reads vars.GOLDEN_B, which is a secret"),
    ("publish", "secrets.GOLDEN_A", "a reads secrets.GOLDEN_A, which is no secret"),
    ("publish", "vars.GOLDEN_D", "a reads vars.GOLDEN_D, of which docs/ci.md says nothing"),
    ("publish", "vars.GOLDEN_E", "a reads vars.GOLDEN_E, of which docs/ci.md says nothing"),
])
def test_a_job_that_reads_what_it_does_not_have(environment: str, read: str, said: str) -> None:
    workflow = yaml.safe_load(GOOD.replace("    steps:", f"    environment: '{environment}'\n    steps:", 1))
    places = ci_rules.places(TABLE)
    for level in (workflow, workflow["jobs"]["a"], workflow["jobs"]["a"]["steps"][-1]):
        level["env"] = {"X": f"${{{{ {read} || 'y' }}}}"}
        assert ci_rules.misplaced(workflow, places) == ([said] if said else [])
        del level["env"]


PIPELINE = f"""default:
  image: debian:bookworm-slim@sha256:{'0' * 64} # bookworm
  before_script: [apt-get update -q && apt-get install -y -q --no-install-recommends make]
.images: {{parallel: {{matrix: [{{IMAGE: [a, b]}}]}}}}
a:
  timeout: 5 minutes
  script: [make test-fast]
"""


@pytest.mark.parametrize(("old", "new", "said"), [
    ("", "", None), ("make test-fast", "make nothing", "a calls `make nothing`, which does not exist"),
    ("make test-fast", "python x", "a runs `python x`, which is no Make target"),
    (f"@sha256:{'0' * 64}", "", "image: debian:bookworm-slim # bookworm` is not pinned"),
    ("  timeout: 5 minutes\n", "", "a has no timeout"),
    ("recommends make", "recommends make; curl x", "which is no Make target"),
])
def test_a_pipeline_that_breaks_a_rule(old: str, new: str, said: str | None) -> None:
    text = PIPELINE.replace(old, new) if old else PIPELINE
    found = ci_rules.gitlab(yaml.safe_load(text), text, {"make test-fast", "scripts/golden images"})
    assert (found == []) if said is None else (said in "\n".join(found))


def test_a_matrix_that_lacks_an_image() -> None:
    pipeline = yaml.safe_load(PIPELINE)
    assert ci_rules.matrix(pipeline, ".images", ["b", "a"]) == []
    assert ci_rules.matrix(pipeline, ".images", ["a", "b", "c"]) == [
        ".images of .gitlab-ci.yml has the images ['a', 'b'], packer/ ['a', 'b', 'c']"]


def test_the_schemas_complain(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text(GOOD.replace("runs-on", "run-on"), encoding="utf-8")
    assert "run-on" in schema_complaints("--builtin-schema", "vendor.github-workflows", str(bad))
    bad.write_text(PIPELINE.replace("script: [", "scripts: ["), encoding="utf-8")
    assert "bad.yml" in schema_complaints("--builtin-schema", "vendor.gitlab-ci", str(bad))
    bad.write_text("semanticCommits: sometimes\n", encoding="utf-8")
    assert "semanticCommits" in schema_complaints("--builtin-schema", "vendor.renovate", str(bad))


def test_zizmor_complains(tmp_path: Path) -> None:
    (tmp_path / ".github/workflows").mkdir(parents=True)
    (tmp_path / ".github/workflows/bad.yml").write_text(
        GOOD.replace("make test-fast", "make ${{ github.event.issue.title }}"), encoding="utf-8")
    assert "template-injection" in complaints("zizmor", "--offline", "--no-progress", str(tmp_path / ".github"))
