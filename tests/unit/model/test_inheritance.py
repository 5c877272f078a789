"""Definitions that extend another: what they become, where each value is from, what gets stale."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami import cli
from goldenami.core.errors import BadInput
from goldenami.image.bake import bake_plan
from goldenami.model.definitions import definition_file
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Step
from goldenami.model.roles import recipes
from support.builds.definitions import IMAGE, edit, load, refused
from support.builds.sample_lock import sample
from support.files import write

WEB = "image: web\nextends: {}\nroles: {{customize: {{customize_packages: [nginx]}}}}\n"
BASE = "  customize:\n    customize_packages: [htop]\n    customize_timezone: Europe/Berlin\n"


@pytest.fixture
def company(root: Path) -> Path:
    """Two images: `web` is IMAGE with one more package, in three lines."""
    edit(root, "  limits:\n", f"{BASE}  limits:\n")
    return write(root, {"packer/images/web.yml": WEB.format(IMAGE)})


def test_an_image_that_differs_by_a_package_is_three_lines(company: Path) -> None:
    base, web = load(company), load(company, "web")
    assert web.variables("customize") == {
        "customize_packages": ["htop", "nginx"],
        "customize_timezone": "Europe/Berlin",
    }
    same = {
        "image": IMAGE,
        "extends": None,
        "roles": {**web.roles, "customize": base.roles["customize"]},
    }
    assert web.model_copy(update=same) == base


def test_a_list_that_begins_with_only_replaces_the_inherited_one(company: Path) -> None:
    more = "hardware: [only, m7a]\nkernel: cloud\ndisk_size_gib: 9\n"
    write(company, {"packer/images/db.yml": f"{WEB.format('web')}{more}".replace("web", "db", 1)})
    db = load(company, "db")
    assert (db.hardware, db.disk_size_gib) == (["m7a"], 9)
    assert db.variables("customize")["customize_packages"] == ["htop", "nginx"], "given once"
    edit(company, "customize_packages: [nginx]", "customize_packages: [only, jq]", "web")
    edit(company, "customize_packages: [nginx]", "limits_x: 1", "db")
    assert refused(company, "db").startswith("db.yml:3: roles.customize.limits_x: unknown role var")
    edit(company, "{customize: {limits_x: 1}}", "{limits:}", "db")
    assert load(company, "db").variables("customize")["customize_packages"] == ["jq"]


def test_each_value_is_shown_with_its_file(
    company: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--root", str(company), "check", "--explain", "web"]) == 0
    lines = capsys.readouterr().out.splitlines()
    base = (company / f"packer/images/{IMAGE}.yml").read_text(encoding="utf-8").splitlines()
    number = base.index("    customize_packages: [htop]") + 1
    key = "roles.customize.customize_packages"
    assert f'packer/images/{IMAGE}.yml:{number}: {key}.1: "htop"' in lines
    assert f'packer/images/web.yml:3: {key}.2: "nginx"' in lines
    assert 'packer/images/web.yml:1: image: "web"' in lines
    assert not any(f"{IMAGE}.yml:1: " in line for line in lines)


def test_an_inherited_mistake_names_the_file_that_has_it(company: Path) -> None:
    edit(company, "Europe/Berlin", "Europe/Berln")
    edit(company, "[nginx]", "[nginx, Jq]", "web")
    with pytest.raises(BadInput) as caught:
        load(company, "web")
    at = f"{company}/packer/images"
    assert [line.partition(": roles")[0] for line in caught.value.tail.splitlines()] == [
        f"{at}/{IMAGE}.yml:14",
        f"{at}/web.yml:3",
    ]


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"web": "wab"}, "web.yml:2: extends: no image `wab`; did you mean `web`?"),
        ({"web": "web"}, "web.yml:2: extends: leads in a circle: web -> web"),
        (
            {"web": "a", "a": "b", "b": "a"},
            "b.yml:2: extends: leads in a circle: web -> a -> b -> a",
        ),
        (
            {"web": "a", "a": "b", "b": IMAGE},
            f"web.yml:2: extends: leads through more than 3 files: web -> a -> b -> {IMAGE}",
        ),
        ({"web": "[a]"}, "web.yml:2: extends: no image `['a']`; "),
        ({"web": "../images/a"}, "web.yml:2: extends: no image `../images/a`; "),
    ],
)
def test_what_cannot_be_extended(company: Path, files: dict[str, str], complaint: str) -> None:
    for name, parent in files.items():
        text = WEB.format(parent).replace("image: web", f"image: {name}")
        write(company, {f"packer/images/{name}.yml": text})
    assert refused(company, "web").startswith(complaint)


def test_a_name_is_each_image_s_own(company: Path) -> None:
    edit(company, "image: web\n", "", "web")
    assert refused(company, "web") == "web.yml:1: image: is required and missing"


def test_the_branch_moves_in_the_file_that_states_it(company: Path) -> None:
    branch = "  nvidia_driver:\n    nvidia_driver_branch: '550'\n"
    edit(company, "  provenance:\n", f"{branch}  provenance:\n")
    source = definition_file.source_of(company, "web")
    assert source.file_of(definition_file.BRANCH).stem == IMAGE
    assert definition_file.with_branch(source, "580") == source.file_of(
        definition_file.BRANCH
    ).read_text(encoding="utf-8").replace("'550'", '"580"')


def stale(root: Path, before: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    """The inputs that changed, by image, of the images that have any."""
    changed = dict[str, list[str]]()
    for image, inputs in before.items():
        now = lockfile.digests(root, load(root, image))
        names = [name for name in now | inputs if now.get(name) != inputs.get(name)]
        if names:
            changed[image] = names
    return changed


def test_which_locks_a_change_makes_stale(company: Path) -> None:
    file = "customize_files: [{source: web.conf, path: /etc/web.conf}]"
    write(company, {"roles/customize/files/web.conf": "colour = blue\n"})
    edit(company, "[nginx]", f"[nginx], {file}", "web")
    before = {name: lockfile.digests(company, load(company, name)) for name in (IMAGE, "web")}
    conf = "roles/customize/files/web.conf"
    write(company, {"roles/customize/files/other.conf": "new\n"})
    assert stale(company, before) == {}, "a file that no definition names"
    write(company, {conf: "colour = red\n"})
    assert stale(company, before) == {"web": [conf]}
    write(company, {conf: "colour = blue\n"})
    edit(company, "[nginx]", "[nginx, jq]", "web")
    assert stale(company, before) == {"web": ["definition"]}
    edit(company, "[nginx, jq]", "[nginx]", "web")
    edit(company, "[htop]", "[htop, jq]")
    assert stale(company, before) == {IMAGE: ["definition"], "web": ["definition"]}
    edit(company, "[htop, jq]", "[htop]  # what everybody has")
    assert stale(company, before) == {}, "a comment"
    edit(company, "disk_size_gib: 4", "disk_size_gib: 4\nsecurity: {signed: true}")
    assert stale(company, before) == {}, "what shapes no image"


def test_a_recipe_that_no_image_names_leaves_their_locks_fresh(company: Path) -> None:
    edit(company, "disk_size_gib: 4", "disk_size_gib: 4\nframeworks: [numpy]")
    edit(company, "  limits:\n", "  frameworks:\n  limits:\n")
    before = {IMAGE: lockfile.digests(company, load(company))}
    write(company, {f"{recipes.FOLDER}/model/recipe.yml": "version: '1.0'\n"})
    recipes.known.cache_clear()
    assert stale(company, before) == {}
    write(company, {f"{recipes.FOLDER}/numpy/smoke.py": "import numpy\n"})
    assert stale(company, before) == {IMAGE: ["roles/frameworks"]}


def test_the_layers_of_an_image_follow_the_files_that_it_names() -> None:
    """The role's digest no longer has them."""
    steps = [Step(roles=[role], packages=[], stand_ins={}) for role in ("limits", "customize")]
    inputs = {"roles/limits": "1", "roles/customize": "2"}
    keys = [
        [
            bake_plan.step_key(sample(inputs=inputs | more), step, "parent", "tools")
            for step in steps
        ]
        for more in ({}, {"roles/customize/files/a.conf": "3", "tests/image/limits": "4"})
    ]
    assert keys[0][0] == keys[1][0] and keys[0][1] != keys[1][1]
