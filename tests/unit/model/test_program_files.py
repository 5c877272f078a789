"""Where the program's own files are found: beside the definitions of a clone, or in the package for
a repository that has none."""

from __future__ import annotations

import shutil
from pathlib import Path

import goldenami
import pytest
from goldenami.core.errors import BadInput
from goldenami.model import program_files
from goldenami.model.locked import lockfile
from goldenami.model.roles import recipes
from goldenami.model.supported import hardware
from support.builds.definitions import IMAGE, edit, load, refused
from support.builds.sample_lock import sample
from support.files import write

ROOT = Path(__file__).resolve().parents[3]
CONF = "roles/customize/files/company.conf"
HARDWARE = """\
families:
  x9: {cpu: znver4, source: co}
  c7a: {cpu: znver5, source: co}
"""
AGENT = {"roles/agent/tasks/main.yml": "[]\n", "tests/image/agent/test_agent.py": "\n"}


@pytest.fixture
def company(tmp_path: Path) -> Path:
    """A repository of definitions, with nothing of the program's."""
    folder = tmp_path / "company"
    (folder / "packer/images").mkdir(parents=True)
    shutil.copy(ROOT / f"packer/images/{IMAGE}.yml", folder / "packer/images")
    return folder


def test_rows_of_a_repository_add_to_the_program_s_or_stand_for_one(company: Path) -> None:
    write(
        company, {"packer/hardware.yml": HARDWARE, recipes.DISPATCHING: "torch: []\ncompany: []\n"}
    )
    given, families = hardware.load(ROOT), hardware.load(company)
    assert (families["x9"].cpu, families["c7a"].cpu.name) == (given["c7a"].cpu, "znver5")
    assert families["c7i"] == given["c7i"] and len(families) == len(given) + 1
    assert recipes.dispatching(company) == {**recipes.dispatching(ROOT), "torch": [], "company": []}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("x9: {cpu: znver4", "x9: {cpu: znver44", ":2: families.x9.cpu: unknown cpu `znver44`"),
        (
            "c7a: {cpu: znver5, source: co",
            "c7a: {cpu: znver5",
            ":3: families.c7a.source: is required",
        ),
        ("families", "family", ":1: family: unknown key; did you mean `families`?"),
    ],
)
def test_a_wrong_row_is_named_with_its_file(company: Path, old: str, new: str, said: str) -> None:
    write(company, {"packer/hardware.yml": HARDWARE.replace(old, new)})
    with pytest.raises(BadInput) as caught:
        hardware.load(company)
    assert caught.value.message.startswith(f"{company}/packer/hardware.yml{said}")


def test_a_recipe_of_a_repository_is_as_one_of_the_program_s(company: Path) -> None:
    text = (
        "version: '1.0'\ndistribution: company-model\nmodule: model\n"
        "wheel: {distribution: company-model}\n"
    )
    write(
        company,
        {
            f"{recipes.FOLDER}/model/recipe.yml": text,
            f"{recipes.FOLDER}/model/smoke.py": "import model\n",
        },
    )
    edit(company, "frameworks: [numpy,", "frameworks: [model, numpy,")
    assert load(company).frameworks[0] == "model"
    assert recipes.load(company, "model").module == "model"
    assert recipes.load(company, "numpy") == recipes.load(ROOT, "numpy")
    linked = Path(program_files.roles_path(company, company / "work").split(":")[0], "frameworks")
    for name, folder in (("model", company), ("numpy", ROOT)):
        smoke = folder / f"{recipes.FOLDER}/{name}/smoke.py"
        assert (linked / f"files/{name}/smoke.py").samefile(smoke)
    assert (linked / "tasks").samefile(ROOT / "roles/frameworks/tasks")


def test_the_same_content_has_the_same_digests_in_both(company: Path, root: Path) -> None:
    for each in (company, root):
        write(each, {CONF: "colour = blue\n", "roles/agent/tasks/main.yml": "[]\n"})
        row = "{source: company.conf, path: /etc/company.conf}"
        edit(
            each,
            "  limits:\n",
            f"  customize:\n    customize_files: [{row}]\n  agent:\n  limits:\n",
        )
    shutil.copy(root / f"packer/images/{IMAGE}.yml", company / "packer/images")
    theirs = lockfile.digests(company, load(company))
    assert theirs == lockfile.digests(root, load(root))
    write(company, {CONF: "colour = red\n"})
    changed = lockfile.digests(company, load(company))
    assert [name for name in theirs if changed[name] != theirs[name]] == [CONF]


def test_own_checks_count_and_the_program_s_do_not(company: Path) -> None:
    """Of roles that the image has, and of the image itself."""
    write(company, {**AGENT, "tests/image/other/test_other.py": "\n"})
    edit(company, "  limits:\n", "  agent:\n  limits:\n")
    write(company, {f"tests/image/{IMAGE}/test_image.py": "\n"})
    before = lockfile.digests(company, load(company))
    checks = ["tests/image/agent", f"tests/image/{IMAGE}"]
    assert [name for name in before if name.startswith("tests/")] == checks
    write(company, {f"{checks[0]}/test_agent.py": "# new\n", "tests/image/other/new.py": "\n"})
    after = lockfile.digests(company, load(company))
    assert [name for name in before if after[name] != before[name]] == checks[:1]


def test_a_stale_lock_tells_whose_inputs_changed(company: Path) -> None:
    write(company, {"roles/agent/tasks/main.yml": "[]\n"})
    edit(company, "  limits:\n", "  agent:\n  limits:\n")
    wanted = load(company)
    inputs = lockfile.digests(company, wanted)

    def said(root: Path, *changed: str) -> str:
        lock = sample(inputs=inputs | dict.fromkeys(changed, "of another version"))
        with pytest.raises(BadInput) as caught:
            lockfile.check_fresh(root, lock, wanted)
        return caught.value.message.partition("since it was made: ")[2]

    names = ("ansible", "definition", "hardware", "roles/agent", "roles/limits")
    here = goldenami.__version__
    assert said(company, *names) == (
        f"definition, roles/agent; ansible, hardware, roles/limits of goldenami {here}"
    )
    assert said(company, "roles/limits") == f"roles/limits of goldenami {here}"
    assert said(company, "roles/agent") == "roles/agent"
    write(company, {CONF: "colour = blue\n"})
    assert said(company, "roles/customize") == f"roles/customize of goldenami {here}"
    write(
        company,
        {CONF: "", program_files.PLAYBOOK: "a clone\n", "roles/limits/tasks/main.yml": "[]"},
    )
    assert said(company, "hardware").startswith("ansible, hardware")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("roles/limits/tasks/main.yml", "roles/limits"),
        ("roles/frameworks/tasks/main.yml", "roles/frameworks"),
        ("roles/customize/tasks/main.yml", "roles/customize"),
        ("tests/image/limits/test_limits.py", "tests/image/limits"),
    ],
)
def test_two_of_one_name_are_refused(company: Path, name: str, folder: str) -> None:
    write(company, {name: "[]\n"})
    edit(company, "  limits:\n", "  customize:\n  limits:\n")
    role = folder.rpartition("/")[2]
    assert f": roles.{role}: is goldenami's, and {folder} has its name" in refused(company)


def test_ansible_finds_both_and_files_that_a_repository_adds(company: Path, tmp_path: Path) -> None:
    write(company, {CONF: "colour = blue\n", **AGENT})
    folders = program_files.roles_path(company, tmp_path).split(":")

    def found(name: str) -> Path:
        return next(path for folder in folders if (path := Path(folder, name)).exists())

    assert found("customize/files/company.conf").read_text() == "colour = blue\n"
    assert found("customize/tasks/main.yml").samefile(ROOT / "roles/customize/tasks/main.yml")
    assert found("limits") == ROOT / "roles/limits" and found("agent") == company / "roles/agent"
    assert program_files.roles_path(company, tmp_path).split(":") == folders, "a second time"


def test_a_role_of_a_collection_is_as_one_of_roles(company: Path) -> None:
    """As `ansible-galaxy collection install -p collections` puts it there."""
    folder = "collections/ansible_collections/company/base/roles"
    write(company, {f"{folder}/agent/tasks/main.yml": "[]\n"})
    edit(company, "  limits:\n", "  agent: {packages: [htop]}\n  limits:\n")
    assert "agent" in load(company).role_names
    before = lockfile.digests(company, load(company))["roles/agent"]
    write(company, {f"{folder}/agent/tasks/main.yml": "[] # new\n"})
    assert lockfile.digests(company, load(company))["roles/agent"] != before
    assert str(company / folder) in program_files.roles_path(company, company / "work").split(":")
    write(company, {"roles/agent/tasks/main.yml": "[]\n"})
    assert f"is the name of two roles; {folder}/agent is the second" in refused(company)
