"""Python packages of a definition, from what a person writes to what a lock holds: real pip, a
public and a private index on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput, ExitCode, GoldenError, NoFit
from goldenami.core.terminal.progress import Progress
from goldenami.image.lock import from_index
from goldenami.image.lock.compilation import wheel_builds
from goldenami.image.lock.resolution import Resolution
from goldenami.model.locked.lockfile import Lock
from goldenami.model.roles import recipes
from goldenami.model.roles.role_packages import rendered
from goldenami.model.roles.role_specs import tasks
from goldenami.model.supported.platforms import PLATFORMS
from goldenami.packages import local_repository
from goldenami.packages.pypi import VARIABLE
from goldenami.packages.store import Store
from support.builds import sample_inputs
from support.builds.definitions import IMAGE, edit, edited, load, refused
from support.builds.sample_lock import sample
from support.debian import pyindex
from support.debian.debrepo import Package
from support.debian.pyindex import PyIndex
from support.debian.resolver import Resolver

ROLE = "  frameworks:\n    frameworks_shared_environment: ml\n"
LOGIN = "COMPANY_PYPI"
SECRET = "s3cret/of@ann"
TOOLS = [
    Package("python3", "3.13.5-1", depends="libc6"),
    Package("libc6", "2.41-12"),
    Package("base-files", fields={"Essential": "yes", "Priority": "required"}),
    Package("apt"),
    *(Package(name, depends="python3") for name in wheel_builds.PACKAGES),
]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            "python_packages: [einops, =>1]",
            "10: python_packages.2: `=>1` is no requirement such as `einops` or",
        ),
        (
            "python_packages: [--index-url=x]",
            "10: python_packages.1: `--index-url=x` is no requirement",
        ),
        (
            "python_packages: [einops==0.8, Einops]",
            "10: python_packages.2: `einops` stands there twice, first as `einops==0.8`",
        ),
        (
            "python_packages: ['tool @ https://example.org/tool.whl']",
            "10: python_packages.1: `tool` is asked for by an address, "
            "and a lock takes what an index",
        ),
        (
            "python_packages: ['tool; python_version > \"3\"']",
            "10: python_packages.1: `tool` has a condition, and an image has one Python",
        ),
        (
            "python_packages: [numpy==1.26.4]",
            "10: python_packages.1: `numpy` is the framework numpy of this image: its recipe says",
        ),
        (
            "python_index: {url: https://pypi.example.org/simple, packages: [company-*]}",
            "10: python_index: gives nothing: there are no `python_packages`",
        ),
        (
            "python_packages: [a]\n"
            "python_index: {url: http://pypi.example.org, packages: [a], login: L}",
            "11: python_index.url: would carry the login in clear text",
        ),
        (
            "python_packages: [a]\n"
            "python_index: {url: 'https://ann:pw@pypi.example.org', packages: [a]}",
            "11: python_index.url: string should match pattern",
        ),
    ],
)
def test_what_check_refuses(root: Path, lines: str, said: str) -> None:
    edit(root, "roles:\n", f"{lines}\nframeworks: [numpy]\nroles:\n{ROLE}")
    line, _, rest = said.partition(": ")
    assert refused(root).startswith(f"{IMAGE}.yml:{int(line) - 1}: {rest}")


def test_packages_need_the_role_and_one_place(root: Path) -> None:
    edit(root, "roles:\n", f"python_packages: [einops]\nroles:\n{ROLE}")
    assert load(root).python_packages == ["einops"], "an image without frameworks has them, too"
    with edited(root, ROLE, ""):
        assert refused(root).endswith(
            "yml:9: python_packages: needs the role `frameworks`, which installs them"
        )
    edit(root, "python_packages", "frameworks: [numpy]\npython_packages")
    edit(root, "_shared_environment: ml", '_shared_environment: ""')
    assert "python_packages: has no place: each framework has an environment of its own" in refused(
        root
    )


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> Iterator[PyIndex]:
    with pyindex.serve() as index:
        for version in ("1.0", "1.1", "2.0", "3.0rc1"):
            index.wheel("lib", version)
        index.wheel("company-model", "9.9")
        index.sdist("source-only", "1.0", {"setup.py": ""})
        monkeypatch.setenv(VARIABLE, index.url)
        yield index


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> Iterator[PyIndex]:
    with pyindex.serve() as index:
        index.login = f"ann:{SECRET}"
        index.wheel("company-model", "1.0", ("lib<2", "company-base"))
        index.wheel("company-base", "0.1")
        index.wheel("lib", "1.9")
        monkeypatch.setenv(LOGIN, index.login)
        yield index


@pytest.fixture
def resolution(root: Path, resolver: Resolver, tmp_path: Path) -> Resolution:
    cache = tmp_path / "cache"
    return Resolution(
        root,
        load(root),
        Store(cache),
        Progress.of("lock", IMAGE, CachePaths(cache)),
        tmp_path / "log",
        PLATFORMS["trixie"],
        resolver.root(TOOLS),
    )


def ask(resolution: Resolution, *packages: str, index: str = "") -> Resolution:
    """Let the image ask for `packages`, from `index`, and resolve them."""
    more = f"python_index: {{url: '{index}', packages: [company-*], login: {LOGIN}}}\n"
    edit(
        resolution.root,
        "roles:\n",
        f"python_packages: {list(packages)}\n{more if index else ''}roles:\n{ROLE}",
    )
    resolution.definition = load(resolution.root)
    from_index.resolve(resolution)
    return resolution


def locked(resolution: Resolution) -> Lock:
    """A lock with what was resolved."""
    return sample(python=resolution.python)


def test_packages_without_frameworks_are_locked_with_all_that_they_need(
    resolution: Resolution,
    public: PyIndex,
) -> None:
    public.wheel("app", "1.0", ("lib<2",))
    found = ask(resolution, "app").python
    assert found is not None
    assert (found.environment, found.asked) == ("ml", {"app": "app"})
    assert [f"{file.project} {file.version}" for file in found.wheels] == ["app 1.0", "lib 1.1"]
    given = resolution.derived["frameworks"]
    assert given["frameworks_installed"] == []
    assert given["frameworks_python_packages"] == [
        {
            "environment": "ml",
            "projects": ["app"],
            "wheels": {
                file.project: {"version": file.version, "sha256": file.sha256}
                for file in found.wheels
            },
        }
    ]
    lock = locked(resolution)
    assert lock.environments() == {"ml": found.wheels}
    assert {file.sha256 for file in found.wheels} < lock.objects().keys()


def test_a_lock_without_packages_stays_as_it_was() -> None:
    assert "python" not in sample().model_dump(mode="json")


@pytest.mark.parametrize(
    ("packages", "said", "code"),
    [
        (["lib==1.2"], "has no `lib==1.2`; the nearest are 1.0, 1.1, 2.0", ExitCode.BAD_INPUT),
        (["no-such-thing"], "has no project `no-such-thing`: is it misspelt", ExitCode.BAD_INPUT),
        (
            ["source-only"],
            "has no wheel of `source-only`, only source: build a wheel",
            ExitCode.BAD_INPUT,
        ),
    ],
)
def test_a_package_that_is_nowhere(
    resolution: Resolution,
    public: PyIndex,
    packages: list[str],
    said: str,
    code: ExitCode,
) -> None:
    with pytest.raises(GoldenError) as caught:
        ask(resolution, *packages)
    told = f"{caught.value.message}: {caught.value.hint}"
    assert f"{IMAGE}.yml:9: python_packages.1: the package index {said}" in told
    assert caught.value.exit_code is code


def test_frameworks_and_packages_have_one_environment_and_one_choice_of_versions(
    resolution: Resolution,
    public: PyIndex,
) -> None:
    """`app` would take lib 2.0, which pandas does not: and who insists is told of both."""
    version = recipes.load(resolution.root, "pandas").version
    public.wheel("pandas", version, ("lib<2",))
    public.wheel("app", "1.0", ("lib",))
    edit(resolution.root, "roles:\n", "frameworks: [pandas]\nroles:\n")
    found = ask(resolution, "app").python
    assert found is not None
    wheels = [f"{file.project} {file.version}" for file in found.wheels]
    assert wheels == ["app 1.0", "lib 1.1"], "its framework's own wheel is not theirs"
    lock = sample(frameworks=resolution.frameworks.frameworks, python=found)
    assert {file.project for file in lock.environments()["ml"]} == {"app", "lib", "pandas"}
    edit(resolution.root, "['app']", "[app, lib==2.0]")
    resolution.definition = load(resolution.root)
    with pytest.raises(NoFit) as caught:
        from_index.resolve(resolution)
    assert "python_packages.2: " in caught.value.message
    assert "requested lib==2.0" in caught.value.message
    assert f"pandas {version} depends on lib<2" in caught.value.message


def test_a_named_project_is_the_private_index_s_alone(
    resolution: Resolution,
    public: PyIndex,
    private: PyIndex,
) -> None:
    """Not the public 9.9 of the same name, and not the private `lib`, which nobody named."""
    found = ask(resolution, "company-model", index=private.url).python
    assert found is not None
    assert [f"{file.project} {file.version}" for file in found.wheels] == [
        "company-base 0.1",
        "company-model 1.0",
        "lib 1.1",
    ]
    assert [(one.component, one.taken, one.why) for one in resolution.choices] == [
        ("company-model", "1.0", "what python_index has for `company-model` of python_packages")
    ]
    assert not any("company" in path for path in public.asked), public.asked
    assert not any("lib" in path for path in private.asked), private.asked


def test_a_private_package_is_fetched_once_and_its_login_is_nowhere(
    resolution: Resolution,
    public: PyIndex,
    private: PyIndex,
    capfd: pytest.CaptureFixture[str],
) -> None:
    lock = locked(ask(resolution, "company-model", index=private.url))
    inputs = sample_inputs.of_lock(
        lock.model_copy(update={"packages": {}}), resolution.store, resolution.root
    )
    inputs.fetch()
    assert lock.python is not None
    assert all(resolution.store.check(file.sha256) for file in lock.python.wheels)
    before = len(private.asked)
    inputs.fetch()
    assert len(private.asked) == before
    written = [
        path.read_bytes() for path in resolution.store.cache.folder.rglob("*") if path.is_file()
    ]
    said = lock.model_dump_json() + "".join(capfd.readouterr())
    for secret in (SECRET, "s3cret%2Fof%40ann"):
        assert secret not in said
        assert not any(secret.encode() in content for content in written)


def test_a_private_package_is_installed_without_a_network_the_same_each_time(
    resolution: Resolution,
    public: PyIndex,
    private: PyIndex,
    tmp_path: Path,
) -> None:
    """By the command that the role has, in an environment whose Python is this one."""
    lock = locked(ask(resolution, "company-model", index=private.url))
    inputs = sample_inputs.of_lock(
        lock.model_copy(update={"packages": {}}), resolution.store, resolution.root
    )
    inputs.fetch()
    (folder := tmp_path / "wheels").mkdir()
    home = tmp_path / "ml"
    for path, sha256 in wheel_builds.installed_wheels(lock).items():
        local_repository.link(resolution.store.path(sha256), folder / Path(path).name)
    given = {
        "item": "ml",
        "__frameworks_home": str(tmp_path),
        "__frameworks_wheels": str(folder),
        **resolution.derived["frameworks"],
    }
    task = next(
        one
        for one in tasks(resolution.root / "roles/frameworks", "install")
        if "wheels" in one["name"]
    )
    argv = [rendered(word, given) for word in task["ansible.builtin.command"]["argv"]]
    template = resolution.root / "roles/frameworks/templates/requirements.j2"
    jinja = jinja2.Environment(trim_blocks=True)
    jinja.filters["combine"] = lambda first, second: {**first, **second}
    wanted = jinja.from_string(template.read_text(encoding="utf-8")).render(given)
    trees = []
    for _ in range(2):
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", home], check=True)
        subprocess.run(
            ["unshare", "--net", sys.executable, *argv[1:]],
            input=wanted,
            text=True,
            env={**os.environ, **task["environment"]},
            check=True,
        )
        trees.append(
            {
                str(path.relative_to(home)): path.read_bytes()
                for path in home.rglob("*")
                if path.is_file()
            }
        )
    assert trees[0] == trees[1]
    assert sum(path.endswith("company_model.py") for path in trees[0]) == 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, f"{LOGIN} does not hold `user:password`"),
        ("token", f"{LOGIN} does not hold `user:password`"),
        ("ann:another", "company-model/ answered 401"),
    ],
)
def test_a_login_that_is_missing_or_refused(
    resolution: Resolution,
    public: PyIndex,
    private: PyIndex,
    monkeypatch: pytest.MonkeyPatch,
    value: str | None,
    said: str,
) -> None:
    monkeypatch.delenv(LOGIN)
    if value is not None:
        monkeypatch.setenv(LOGIN, value)
    with pytest.raises(BadInput) as caught:
        ask(resolution, "company-model", index=private.url)
    assert f"{IMAGE}.yml:10: python_index.login: " in caught.value.message
    assert said in caught.value.message
    wanted = "its login is wrong, or may not" if "401" in said else LOGIN
    assert wanted in caught.value.hint and "another" not in str(vars(caught.value))
