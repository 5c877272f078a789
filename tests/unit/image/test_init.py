"""A repository of somebody's own, and a role in it, as `golden` writes them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

import goldenami
import pytest
import yaml
from goldenami import cli
from goldenami.core import records
from goldenami.core.errors import ExitCode
from goldenami.image.bake import bake_plan
from goldenami.image.scaffold import molecule_project
from goldenami.model.locked import lockfile
from goldenami.model.roles import role_files
from goldenami.watch import proposal
from support.builds.definitions import edit, load, refused
from support.builds.tools import ROOT, complaints, schema_complaints
from support.files import write
from support.rules import role_rules

IMAGE = "debian-13-base"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `init` writes into an empty folder: the wheel in it takes seconds to make."""
    folder = tmp_path_factory.mktemp("init") / "company-images"
    folder.mkdir()
    assert cli.main(["init", str(folder)]) == 0
    return folder


@pytest.fixture
def company(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / made.name))


def test_its_definition_is_right(
    capfd: pytest.CaptureFixture[str], company: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(company)
    assert cli.main(["check"]) == 0
    assert f"{IMAGE}: no lock" in capfd.readouterr().out
    assert "customize" in load(company, IMAGE).role_names
    assert (company / "README.md").read_text().startswith("# company-images\n")


def test_what_the_last_line_says_finds_the_program_and_nothing_but_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An index offers the same version with a build number, which pip takes before the file beside
    requirements.txt if it looks for a name."""
    assert cli.main(["init", str(tmp_path / "a company")]) == 0
    line = capfd.readouterr().err
    assert line == f"next: cd '{tmp_path}/a company' && make bake\n"
    command = line.removeprefix("next: ").replace("make bake", "make setup")
    wheel = next((tmp_path / "a company/wheels").glob("*.whl"))
    name, version, *rest = wheel.name.split("-")
    (tmp_path / "index").mkdir()
    with zipfile.ZipFile(tmp_path / f"index/{name}-{version}-9-{'-'.join(rest)}", "w") as other:
        other.writestr("goldenami/__init__.py", "raise SystemExit('of the index')\n")
        other.writestr(
            f"goldenami-{version}.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: goldenami\nVersion: {version}\n",
        )
        other.writestr(f"goldenami-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        other.writestr(f"goldenami-{version}.dist-info/RECORD", "")
    # The rest of what `make setup` does takes minutes: it is seen where a company's image is baked.
    env = {**os.environ, "PIP_FIND_LINKS": str(tmp_path / "index"), "PIP_NO_INDEX": "1"}
    pip = "python3 -m venv .venv && .venv/bin/python -m pip install -q --no-deps --require-hashes"
    subprocess.run(
        ["sh", "-ec", f"{command.partition('&&')[0]} && {pip} -r requirements.txt"],
        env=env,
        check=True,
    )
    installed = tmp_path / "a company/.venv/bin/golden"
    assert "import main" in installed.read_text()
    with zipfile.ZipFile(wheel, "a") as changed:
        changed.writestr("goldenami/more.py", "")
    done = subprocess.run(
        ["make", "check"],
        cwd=wheel.parents[1],
        env=env,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2 and "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr
    assert "make: to do: put the file that requirements.txt names into wheels/" in done.stderr


def test_git_leaves_the_line_ends_of_locks_alone(company: Path) -> None:
    """Also where it is set to write those of Windows."""
    lock = write(company, {"packer/locks/a.lock.json": "{}\n"}) / "packer/locks/a.lock.json"
    git = ["git", "-c", "core.autocrlf=true", "-C", str(company)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    lock.unlink()
    subprocess.run([*git, "checkout", "--", "."], check=True)
    assert lock.read_bytes() == b"{}\n"


def test_make_without_a_right_to_write_says_so(made: Path) -> None:
    """Python's own word is `[Errno 13]`."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        shutil.copy(made / "Makefile", folder)
        done = subprocess.run(
            ["make", "check"], cwd=folder, user=65534, text=True, capture_output=True, check=False
        )
    assert done.returncode == 2 and done.stderr.splitlines()[:2] == [
        f"make: error: this user may not write {folder}/.venv",
        "make: to do: run as root",
    ]


def test_the_image_of_a_target_is_the_first_that_is_there(company: Path) -> None:
    path = company / f"packer/images/{IMAGE}.yml"
    path.rename(path.with_name("web.yml"))
    done = subprocess.run(
        ["make", "--dry-run", "lock"], cwd=company, text=True, capture_output=True, check=True
    )
    assert done.stdout.splitlines()[-1] == ".venv/bin/golden lock web"


@pytest.fixture(scope="module")
def monorepo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with a subfolder that `init` filled."""
    top = tmp_path_factory.mktemp("monorepo")
    git(top, "init", "--quiet", "--initial-branch=main")
    write(top, {"README.md": "theirs\n", ".gitlab-ci.yml": "stages: [test]\n", "app/x": ""})
    assert cli.main(["init", str(top / "infra/images")]) == 0
    git(top, "add", ".")
    git(top, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "images")
    return top


def git(folder: Path, *argv: str) -> str:
    return subprocess.run(
        ["git", *argv], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def test_ci_of_a_subfolder_is_at_the_top_and_works_in_the_subfolder(monorepo: Path) -> None:
    assert git(monorepo, "ls-files", ".g*", "R*").split() == [
        ".github/workflows/infra-images.yml",
        ".gitlab-ci.yml",
        ".gitlab/infra-images.yml",
        "README.md",
    ]
    assert (monorepo / "README.md").read_text(encoding="utf-8") == "theirs\n"
    github = yaml.safe_load((monorepo / ".github/workflows/infra-images.yml").read_text())
    gitlab = yaml.safe_load((monorepo / ".gitlab/infra-images.yml").read_text())
    assert github["defaults"]["run"]["working-directory"] == "./infra/images/"
    assert 'cd "./infra/images/"' in gitlab[".infra-images"]["before_script"]
    locks = "infra/images/packer/locks/"
    assert github[True]["push"]["paths"] == [f"{locks}**"]
    assert gitlab["infra-images-bake"]["rules"][0]["changes"] == [f"{locks}*"]
    # What a file of another folder includes must not change that folder's own jobs.
    assert all("infra-images" in name for name in gitlab)


def test_commands_that_ask_git_work_in_a_subfolder(
    monorepo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    top = Path(shutil.copytree(monorepo, tmp_path / "top"))
    folder = top / "infra/images"
    write(folder, {f"packer/locks/{IMAGE}.lock.json": "{}", "packer/new.yml": ""})
    write(top, {"app/x": "changed"})
    monkeypatch.chdir(folder)
    assert cli.main(["images", "--changed", "HEAD"]) == 0
    assert capsys.readouterr().out == f'["{IMAGE}"]\n'
    changes = proposal.files(folder)
    assert changes == [
        f"infra/images/packer/{name}" for name in (f"locks/{IMAGE}.lock.json", "new.yml")
    ]
    proposal.commit(folder, changes, "summary")
    assert git(top, "show", "--format=", "--name-only", "golden/watch").split() == changes
    lock = folder / f"packer/locks/{IMAGE}.lock.json"
    digest = records.sha256_file(lock)
    assert bake_plan.git_commit(folder, lock, digest) == git(top, "rev-parse", "HEAD").strip()


def test_what_is_there_stays_and_is_told_what_it_lacks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    theirs = {"README.md": "mine\n", ".gitignore": "/x\n/build/", "src/a": "", ".gitlab-ci.yml": ""}
    write(tmp_path, theirs)
    git(tmp_path, "init", "--quiet")
    assert cli.main(["init", str(tmp_path)]) == 0
    assert {name: (tmp_path / name).read_text(encoding="utf-8") for name in theirs} == theirs
    told = capfd.readouterr().out
    assert f"{tmp_path}/README.md stays\n" in told
    assert f"{tmp_path}/.gitignore stays: it has to have\n  /.venv/\n  /.venv.lock\n  __py" in told
    assert (
        '.gitlab-ci.yml stays: it has to have\n  include: [{local: ".gitlab/images.yml"}]\n' in told
    )


def test_all_that_is_in_the_way_is_named_and_nothing_is_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(
        tmp_path, {"Makefile": "mine", "wheels": "a file", ".github/workflows/images.yml": "mine"}
    )
    (tmp_path / "requirements.txt").symlink_to("nowhere")
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["init", str(tmp_path)]) == ExitCode.BAD_INPUT
    assert sorted(tmp_path.rglob("*")) == before
    names = ".github/workflows/images.yml, Makefile, requirements.txt, wheels/README.md"
    assert f"{tmp_path} has {names} already: nothing is written" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("/proc/x", "no such file or directory"),
        ("/dev/null", "file exists"),
        ("/dev/null/x", "not a directory"),
        ("/" + "x" * 300, "file name too long"),
    ],
)
def test_a_folder_that_cannot_be_made(
    folder: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["init", folder]) == ExitCode.BAD_INPUT
    assert f"{folder} cannot be made: {why}\ngolden: to do: name a folder" in capfd.readouterr().err


def test_its_makefile_calls_commands_that_exist(company: Path) -> None:
    said = subprocess.run(["make", "help"], cwd=company, capture_output=True, text=True, check=True)
    assert "make bake " in said.stdout and f"    {IMAGE}\n" in said.stdout
    words = [line.split() for line in (company / "Makefile").read_text().splitlines()]
    called = {line[1] for line in words if line[:1] == ["@$(GOLDEN)"]}
    assert called >= {"bake", "check", "lock", "new-role"} and called <= cli.MODULES.keys()


@pytest.mark.parametrize("name", ["images", "infra-images"])
def test_its_ci_is_valid(company: Path, monorepo: Path, name: str) -> None:
    top = company if name == "images" else monorepo
    workflow, gitlab = top / f".github/workflows/{name}.yml", top / f".gitlab/{name}.yml"
    assert schema_complaints("--builtin-schema", "vendor.github-workflows", str(workflow)) == ""
    needs = "custom.github-workflows-require-timeout"
    assert schema_complaints("--builtin-schema", needs, str(workflow)) == ""
    for path in (gitlab, top / ".gitlab-ci.yml"):
        assert schema_complaints("--builtin-schema", "vendor.gitlab-ci", str(path)) == ""
    assert complaints("zizmor", "--offline", "--quiet", "--no-progress", str(workflow)) == ""
    settings = str(ROOT / ".yamllint")
    assert complaints("yamllint", "--strict", "--config-file", settings, str(top)) == ""


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ('">=1.2"', f"4: goldenami: wants >=1.2, and this is {goldenami.__version__}"),
        ("1.2", '4: goldenami: is 1.2, no versions such as ">=1.2"'),
    ],
)
def test_another_version_is_refused_before_all_else(company: Path, wanted: str, said: str) -> None:
    edit(company, f'">={goldenami.__version__}"', wanted, IMAGE)
    edit(company, "kernel: cloud", "kernal: cloud", IMAGE)
    assert refused(company, IMAGE) == f"{IMAGE}.yml:{said}"


def test_the_version_is_no_part_of_the_image(company: Path) -> None:
    before = lockfile.digests(company, load(company, IMAGE))
    edit(company, f'goldenami: ">={goldenami.__version__}"\n', "", IMAGE)
    assert lockfile.digests(company, load(company, IMAGE)) == before


def test_a_new_role_keeps_the_contract_of_roles(
    company: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(company)
    assert cli.main(["new-role", "agent"]) == 0
    assert "roles/agent/\ntests/image/agent/\nmolecule/agent/\n" in capfd.readouterr().out
    assert "\n".join(line for rule in role_rules.RULES for line in rule(company, "agent")) == ""
    settings = str(ROOT / ".ansible-lint")
    assert (
        complaints(
            "ansible-lint", "-q", "--offline", "--config-file", settings, "roles/agent", cwd=company
        )
        == ""
    )
    assert complaints("ruff", "check", "--config", str(ROOT / "pyproject.toml"), str(company)) == ""
    edit(company, "  limits:\n", "  agent:\n    agent_interval_s: 0\n  limits:\n", IMAGE)
    assert refused(company, IMAGE) == (
        f"{IMAGE}.yml:17: roles.agent.agent_interval_s: is 0: it has to be 1 or more"
    )
    edit(company, "interval_s: 0", "interval_s: 5", IMAGE)
    assert ["agent"] in load(company, IMAGE).steps
    assert "/etc/agent.conf" in role_files.brought(company, "agent", {})


def test_molecule_finds_in_one_folder_what_a_clone_has(
    company: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(company)
    assert cli.main(["new-role", "agent"]) == 0
    folder = molecule_project.make(company)
    assert molecule_project.make(company) == folder, "a second time"
    seen = complaints("molecule", "list", "--scenario-name", "agent", cwd=folder)
    assert seen == ""
    for name in ("roles/agent", "molecule/agent/molecule.yml", "tests/image/agent"):
        assert (folder / name).samefile(company / name)
    for name in (
        "roles/limits",
        "tests/image/conftest.py",
        "tests/image/pytest.ini",
        "molecule/shared/create.yml",
        "ansible.cfg",
    ):
        assert (folder / name).samefile(ROOT / name)
    asked = subprocess.run(
        [folder / "scripts/golden", "check"],
        cwd="/",
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT / "scripts")},
        check=True,
    )
    assert f"{IMAGE}: no lock" in asked.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("limits", "there is a role limits, which is goldenami's"),
        ("mine", "there is a role mine"),
        ("half", "tests/image/half is there already"),
        ("A-b", "`A-b` is no name for a role"),
        ("../x", "`../x` is no name"),
        ("", "`` is no name"),
    ],
)
def test_a_name_that_is_taken_or_none_is_refused(
    company: Path,
    name: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    write(company, {"roles/mine/tasks/main.yml": "[]\n", "tests/image/half/test_half.py": "\n"})
    monkeypatch.chdir(company)
    assert cli.main(["new-role", name]) == ExitCode.BAD_INPUT
    assert f"golden: error: {said}" in capfd.readouterr().err
