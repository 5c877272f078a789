"""The command line's grammar: names, choices, help, errors, and which checkout it works on."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from pathlib import Path

import pytest
from goldenami import cli
from goldenami.commands import run_url
from goldenami.commands.checkout import Checkout
from goldenami.core import environment
from goldenami.image.builders.local import LocalBuilder
from support import trees
from support.builds.tools import ROOT

HELP_WIDTH = 100
IMAGE = "debian-13-ml-cpu"
IMAGES = ", ".join(sorted(path.stem for path in trees.scanned(7, ROOT, "packer/images/*.yml")))

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
GOLDEN = [sys.executable, "-m", "goldenami.cli"]
"""The command as an installation has it: nothing but its working directory tells it where a
checkout is."""


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (
            ["bake", IMAGE, "--builder", "foo"],
            "invalid value for '--builder': 'foo' is not one of 'local', 'ec2'",
            "`scripts/golden bake --help` shows what it takes",
        ),
        (
            ["store", "empty"],
            "invalid value for 'action': 'empty' is not one of 'verify', 'gc', 'push'",
            "`scripts/golden store --help` shows what it takes",
        ),
        (["bake"], "missing argument 'IMAGE'", "`scripts/golden bake --help` shows what it takes"),
        (
            ["bake", IMAGE, "y"],
            "got unexpected extra argument(s) (y)",
            "`scripts/golden bake --help` shows what it takes",
        ),
        (
            ["verify-provenance", IMAGE],
            "missing option '--key'",
            "`scripts/golden verify-provenance --help` shows what it takes",
        ),
        (
            ["lock", IMAGE, "--explian"],
            "no such option: --explian (Possible options: --explain)",
            "`scripts/golden lock --help` shows what it takes",
        ),
        (
            ["gpu-test", IMAGE, "--hours", "0"],
            "invalid value for '--hours': Input should be greater than or equal to 0.2",
            "`scripts/golden gpu-test --help` shows what it takes",
        ),
        (
            ["retire", IMAGE, "--set", "keep_last=0"],
            "--set keep_last=0: not a number from 1 to 3650",
            "correct it",
        ),
        (
            ["retire", IMAGE, "--set", "keep_lsat=1"],
            "--set keep_lsat: no such limit; did you mean `keep_last`?",
            "of: keep_last, max_age_days, disable_after_days, deregister_after_days",
        ),
        (
            ["images", "--changed", "nope"],
            "there is no commit `nope` in this clone",
            "correct CHANGED, or fetch it: a shallow clone has the newest alone",
        ),
        (
            ["status", IMAGE, "--region", "us-esat-1"],
            "unknown region `us-esat-1`; did you mean `us-east-1`?",
            "correct `--region`, AWS_REGION or the definition's `publish: regions:`; "
            "a region newer than the pinned botocore needs a newer one in requirements/",
        ),
        (
            ["bake", IMAGE, "--region", "us-wset-2"],
            "unknown region `us-wset-2`; did you mean `us-west-2`?",
            "correct `--region`, AWS_REGION or the definition's `publish: regions:`; "
            "a region newer than the pinned botocore needs a newer one in requirements/",
        ),
        (
            ["bkae"],
            "there is no command `bkae`: did you mean `bake`?",
            "`scripts/golden --help` lists them",
        ),
        (
            ["help", "bkae"],
            "there is no command `bkae`: did you mean `bake`?",
            "`scripts/golden --help` lists them",
        ),
    ],
)
def test_a_wrong_command_line_is_one_line_and_a_hint(
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    message: str,
    hint: str,
) -> None:
    assert cli.main(["--root", str(ROOT), *args]) == 2
    assert capsys.readouterr() == ("", f"golden: error: {message}\ngolden: to do: {hint}\n")


@pytest.mark.parametrize(
    ("image", "message", "hint"),
    [
        (
            "debian-13-mlcpu",
            f"no image `debian-13-mlcpu`: did you mean `{IMAGE}`?",
            "images are the files of packer/images/",
        ),
        (
            f"packer/images/{IMAGE}.yml",
            f"IMAGE is a name and no file, but was `packer/images/{IMAGE}.yml`: "
            f"did you mean `{IMAGE}`?",
            "images are the files of packer/images/",
        ),
        ("", "IMAGE is empty", f"name one of {IMAGES}"),
    ],
)
def test_every_command_knows_the_images(
    image: str,
    message: str,
    hint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One that advised `make lock` or `make bake` of a misspelt name would send its reader round in
    a circle."""
    asked = [
        name
        for name in cli.MODULES
        if any(
            parameter.name in ("image", "target") and parameter.param_type_name == "argument"
            for parameter in cli.command(name).params
        )
    ]
    assert len(asked) > 15
    for name in asked:
        needed = ["--key", "x"] if name == "verify-provenance" else []
        action = ["plan"] if name == "cluster" else []
        assert cli.main(["--root", str(ROOT), name, *action, image, *needed]) == 2
        assert capsys.readouterr() == ("", f"golden: error: {message}\ngolden: to do: {hint}\n"), (
            name
        )


def test_the_help_has_every_command_once_below_what_it_works_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [
        line.removesuffix(":") for line in lines if line in {f"{area}:" for area in cli.AREAS}
    ] == list(cli.AREAS)
    rows = [row[1] for line in lines if (row := re.match(r"  ([a-z][a-z-]*)  +[A-Z]", line))]
    assert rows == [*cli.MODULES]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("words", "as_by"),
    [
        ([], ["--help"]),
        (["-h"], ["--help"]),
        (["help"], ["--help"]),
        (["help", "bake"], ["bake", "--help"]),
        (["bake", "-h"], ["bake", "--help"]),
    ],
)
def test_the_help_comes_by_every_usual_word(
    words: list[str],
    as_by: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also through the checkout's own program, which puts an option in front."""
    assert cli.main(as_by) == 0
    wanted = capsys.readouterr()
    assert cli.main(["--root", str(ROOT), *words]) == 0
    assert capsys.readouterr() == wanted


@pytest.mark.parametrize("name", cli.MODULES)
def test_the_help_of_a_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "╭" not in out
    assert max(map(len, out.splitlines())) <= 80
    command = cli.command(name)
    whole, _, _ = (command.help or "").partition("\n\n")
    assert cli._help_line(name) == " ".join(whole.split()) and whole.endswith(".")
    for parameter in command.params:
        assert len(getattr(parameter, "help", None) or "") <= HELP_WIDTH, parameter.name


def test_what_code_leaves_out_is_what_the_command_line_leaves_out() -> None:
    """A command that another one calls has the defaults of its options."""
    compared = 0
    for name, module in cli.MODULES.items():
        run = getattr(importlib.import_module(module), cli._function(name))
        _, *others = inspect.signature(run, eval_str=True).parameters.values()
        for other in others:
            asked = other.annotation
            if not is_dataclass(other.annotation):
                continue
            typed = cli.command(name).make_context(name, [], resilient_parsing=True).params
            in_code = asked(
                **{each.name: typed[each.name] for each in fields(asked) if _needed(each)}
            )
            assert asdict(in_code) == typed, name
            compared += 1
    assert compared > 10


def _needed(field: Field[object]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def test_the_help_waits_for_no_command_of_its_own() -> None:
    """What publishing and baking import takes half a second."""
    late = ("goldenami.commands", "botocore", "cyclonedx", "packageurl", "securesystemslib")
    code = (
        "import sys; from goldenami import cli; cli.main(['--help'])\n"
        f"assert not [name for name in sys.modules if name.startswith({late})]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=ENVIRONMENT)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("golden verif", ["verify", "verify-provenance"]),
        ("golden bake debian-13-ml-c", ["debian-13-ml-cpu"]),
        ("golden bake --builder ", ["local", "ec2"]),
        ("golden store p", ["push"]),
        ("golden nothing x", []),
    ],
)
def test_a_shell_completes(
    words: str,
    answer: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    assert completed(words, monkeypatch, capsys) == answer


def test_bash_completes_a_checkout_s_own_program(tmp_path: Path) -> None:
    """By the script that the program prints, wherever it stands."""
    program = ROOT / "scripts/golden"
    script = (
        f'eval "$({program} --show-completion bash)"; COMP_WORDS=({program} verif); COMP_CWORD=1\n'
        f'_golden_completion {program}; echo "${{COMPREPLY[*]}}"; complete -p golden'
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert (done.stdout.splitlines(), done.stderr) == (
        ["verify verify-provenance", "complete -o default -F _golden_completion golden"],
        "",
    )


def completed(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """What a shell offers for the last of `words`."""
    for name, value in (
        ("_GOLDEN_COMPLETE", "complete_bash"),
        ("COMP_WORDS", words),
        ("COMP_CWORD", str(words.count(" "))),
    ):
        monkeypatch.setenv(name, value)
    with contextlib.suppress(SystemExit):
        cli.main([])
    said = capsys.readouterr()
    assert said.err == ""
    return said.out.split()


def test_the_checkout_is_the_one_above_the_working_directory_or_the_one_that_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT / "roles/seal")
    assert cli.main(["images"]) == 0
    names = capsys.readouterr().out
    assert "debian-13-ml-cpu" in names
    monkeypatch.chdir(tmp_path)
    assert cli.main(["--root", str(ROOT), "images"]) == 0
    assert capsys.readouterr().out == names
    shim = subprocess.run(
        [ROOT / "scripts/golden", "images"], cwd=tmp_path, capture_output=True, text=True
    )
    assert shim.stdout == names, "a checkout's own command works on it wherever it is called"


@pytest.mark.parametrize("args", [["images"], ["--root", "{}", "images"], ["check"]])
def test_where_there_is_no_checkout_is_said(
    args: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    above = "" if "--root" in args else ", nor is a folder above it"
    assert cli.main([word.format(tmp_path) for word in args]) == 2
    assert capsys.readouterr() == (
        "",
        f"golden: error: {tmp_path} is no checkout of "
        f"goldenami{above}: there is no "
        "packer/images\ngolden: to do: go to a checkout, or name "
        "one: "
        f"`{ROOT}/scripts/golden --root PATH ...`\n",
    )


@pytest.mark.parametrize(
    ("name", "left"),
    [("shell", "nothing is left behind"), ("retire", "the same command continues")],
)
def test_an_interrupt_is_130_and_says_what_is_left(
    name: str,
    left: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Checkout, "definition", interrupt)
    monkeypatch.setattr(LocalBuilder, "shell", interrupt)
    assert cli.main([name, "debian-13-ml-cpu"]) == 130
    assert re.fullmatch(rf"golden: interrupted after \d+ s; {left}\n", capsys.readouterr().err)


def test_what_is_made_has_the_modes_of_umask_022() -> None:
    was = os.umask(0o077)
    try:
        assert cli.main(["--help"]) == 0
    finally:
        assert os.umask(was) == 0o022


@pytest.mark.parametrize("ignored", [True, False])
def test_nohup_is_left_alone(ignored: bool) -> None:
    was = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        assert cli.main(["--help"]) == 0
        assert (signal.getsignal(signal.SIGHUP) is signal.SIG_IGN) == ignored
    finally:
        signal.signal(signal.SIGHUP, was)


def test_a_reader_that_has_gone_is_1_without_a_traceback() -> None:
    with subprocess.Popen(
        [*GOLDEN, "regions"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize("args", [["store", "verify"], ["bake", IMAGE, "--fetch-only"]])
def test_a_cache_that_cannot_be_written_is_the_hosts_matter(
    args: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GOLDEN_CACHE", "/dev/null")
    assert cli.main(["--root", str(ROOT), *args]) == 8
    assert capsys.readouterr().err.startswith(
        "golden: error: /dev/null/store: not a directory\ngolden: to do: "
    )


def test_check_says_what_is_wrong_with_every_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "packer", tmp_path / "packer")
    for name in ("ansible", "roles"):
        (tmp_path / name).symlink_to(ROOT / name)
    images = tmp_path / "packer/images"
    text = (images / f"{IMAGE}.yml").read_text(encoding="utf-8")
    for path in images.glob("*.yml"):
        path.unlink()
    (images / "aa.yml").write_text(
        text.replace(IMAGE, "aa", 1).replace("[c7i,", "[c7x, c7y,"), encoding="utf-8"
    )
    (images / "bb.yml").write_text(
        text.replace(IMAGE, "bb", 1).replace("us-east-1", "us-esat-1"), encoding="utf-8"
    )
    (images / "cc.yml").write_text("image:\n\tc\n", encoding="utf-8")
    assert cli.main(["--root", str(tmp_path), "check"]) == 2
    *lines, error, _ = capsys.readouterr().err.replace(f"{images}/", "").splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "  | aa.yml",
        "  | aa.yml",
        "  | bb.yml",
        "  | cc.yml",
    ]
    assert error == f"golden: error: {images} has 4 mistakes"


def test_a_summary_links_the_run_of_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "GITHUB_SERVER_URL": "https://x.example",
        "GITHUB_REPOSITORY": "me/images",
        "GITHUB_RUN_ID": "7",
    }
    for name in ("CI_PIPELINE_URL", *told):
        monkeypatch.delenv(name, raising=False)
    assert run_url() == ""
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert run_url() == "https://x.example/me/images/actions/runs/7"
    monkeypatch.setenv("CI_PIPELINE_URL", "https://gitlab.example/me/images/-/pipelines/8")
    assert run_url() == "https://gitlab.example/me/images/-/pipelines/8"


def test_the_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"golden {project['version']}\n"


@pytest.mark.parametrize(
    ("name", "code", "meant"),
    [
        ("GOLDEN_CAHCE", 2, "GOLDEN_CACHE"),
        ("GOLDEN_SIGNIN_KEY", 2, "GOLDEN_SIGNING_KEY"),
        ("GOLDEN_STORE", 2, "GOLDEN_STORE_S3"),
        ("GOLDEN_MIRROR_DEBAIN", 0, "GOLDEN_MIRROR_DEBIAN"),
        ("GOLDEN_MIRROR_PIPY", 0, "GOLDEN_MIRROR_PYPI"),
        ("GOLDEN_KEYRING_UBUNTU_KEYRING", 0, "_UBUNTU_ARCHIVE_KEYRING"),
        ("GOLDEN_MIRROR_OWN", 0, ""),
        ("GOLDEN_RETRIEVER", 0, ""),
        ("MY_GOLDEN_CAHCE", 0, ""),
    ],
)
def test_a_misspelt_variable_does_not_pass(
    name: str,
    code: int,
    meant: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, "x")
    assert cli.main(["--root", str(ROOT), "images"]) == code
    said = capsys.readouterr().err
    assert (f"{name}; did you mean `" in said and f"{meant}`?" in said) == bool(meant), said


def test_no_variable_of_ours_is_taken_for_another() -> None:
    """Of those that programs, roles, tests and pipelines name; members of families as they are
    there."""
    names = {
        name
        for path, text in trees.texts(ROOT)
        if path.suffix != ".md" and path.name != Path(__file__).name
        for name in re.findall(r"\bGOLDEN_[A-Z0-9_]*[A-Z0-9]\b", text)
    }
    assert len(names) >= 39
    assert {
        name: meant for name in names if (meant := environment.misspelt(name))[0] and not meant[1]
    } == {}
