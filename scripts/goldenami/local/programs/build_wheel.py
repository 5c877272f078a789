"""Compile a wheel in a scratch tree, pack it and try it: `python -m
goldenami.local.programs.build_wheel PLAN`.

The tree is a layer of exactly the image's Python, glibc and compiler. All paths in it are fixed, so
that ccache recognises what it has seen, and the same source gives the same bytes.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import HostNotReady, StageFailed
from goldenami.local.code_coverage import coverage, elf
from goldenami.local.programs.compile_modules import denied_memory, first_error, lacks
from goldenami.local.sandbox import events, program
from goldenami.local.tree import rootfs
from goldenami.model.builds.plans import WheelPlan, WheelResult, WheelTests

BUILD = "/build"
"""The only folder in the tree that a build writes to."""
_NVCC = Path("usr/bin/nvcc")
"""Debian's nvcc: a script that calls the program of its toolkit."""
_SAME_NVCC = """#!/bin/sh
TMPDIR=$(mktemp --directory) && export TMPDIR || exit
trap 'rm -rf "$TMPDIR"' EXIT
unshare --pid --fork --kill-child /usr/lib/nvidia-cuda-toolkit/bin/nvcc "$@"
"""
"""Replacement for _NVCC that gives the same bytes each time.

nvcc 11.8 names modules by its process id and has no --frandom-seed, so it runs as the first process
of a namespace. Its temporary files then have the same names each time, so they go into a folder of
their own.
"""


@contextlib.contextmanager
def scratch_tree(plan: WheelPlan) -> Iterator[Path]:
    """Yield the scratch tree: the toolchain's layer below a folder that goes with the build."""
    with rootfs.scratch(plan) as tree, contextlib.ExitStack() as stack:
        for source, target in (
            (plan.work / "wheels", "build/wheels"),
            (plan.programs, "build/programs"),
            *plan.mounts,
        ):
            (tree / target).mkdir(parents=True, exist_ok=True)
            _mount(stack, "--bind", str(source), tree / target)
        if (tree / _NVCC).exists():
            (tree / _NVCC).write_text(_SAME_NVCC, encoding="utf-8")
        _mount(stack, "-tproc", "proc", tree / "proc")
        stack.callback(shell.output, ["umount", "--lazy", str(rootfs.devices(tree))], check=False)
        yield tree


def _mount(stack: contextlib.ExitStack, option: str, source: str, target: Path) -> None:
    shell.output(["mount", option, source, str(target)])
    stack.callback(shell.output, ["umount", "--lazy", str(target)], check=False)


def build(plan: WheelPlan) -> WheelResult:
    """Compile, pack and try the wheel."""
    with scratch_tree(plan) as tree:
        return _build(plan, tree)


def _build(plan: WheelPlan, tree: Path) -> WheelResult:
    environment(tree, "venv", plan.requires, plan.log)
    source, began = unpack(plan, tree), time.monotonic()
    with events.step(f"compile {plan.name} for {plan.target}"):
        jobs = _compile(plan, tree, source)
    seconds = round(time.monotonic() - began, 1)
    wheel = _pack(plan, tree)
    coverage.demand_device_code(
        tree / "build/unpacked", plan.sm, f"recipe {plan.name} for {plan.target}"
    )
    _smoke(plan, tree, wheel)
    tests = _test(plan, plan.tests, tree, jobs) if plan.tests else ""
    kept = plan.work / wheel.name
    shutil.copyfile(wheel, kept)
    return WheelResult(
        wheel=kept,
        jobs=jobs,
        seconds=seconds,
        tests=tests,
        compiler=compiler(tree),
        cache=_cache_counts(tree),
    )


def run_in(tree: Path, argv: list[str], log: Path, env: dict[str, str] | None = None) -> None:
    """Run `argv` in the tree with a small environment of its own."""
    words = [
        "chroot",
        str(tree),
        "env",
        "-i",
        "HOME=/build",
        "LC_ALL=C.UTF-8",
        "LANG=C.UTF-8",
        "TMPDIR=/tmp",
        "PATH=/usr/lib/ccache:/build/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        *(f"{name}={value}" for name, value in sorted((env or {}).items())),
        "nice",
        *argv,
    ]
    shell.stream(words, log=log)


def environment(tree: Path, name: str, wheels: list[str], log: Path) -> None:
    """Make the virtual environment /build/<name> of exactly `wheels` (paths below /build)."""
    run_in(tree, ["python3", "-m", "venv", f"{BUILD}/{name}"], log)
    run_in(
        tree,
        [
            f"{BUILD}/{name}/bin/python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-index",
            "--no-deps",
            "--force-reinstall",
            *(f"{BUILD}/{wheel}" for wheel in wheels),
        ],
        log,
    )


def unpack(plan: WheelPlan, tree: Path) -> str:
    """Extract the source, change it as the recipe says, and return its folder in the tree."""
    (tree / "build/src").mkdir()
    shell.output(
        [
            "tar",
            "--extract",
            "--gzip",
            "--no-same-owner",
            "--file",
            str(plan.source),
            "--directory",
            str(tree / "build/src"),
        ]
    )
    folder = next((tree / "build/src").iterdir())
    for name, text in plan.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    for patch in plan.patches:
        path = folder / patch.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if (count := text.count(patch.find)) != patch.count:
            raise StageFailed(
                f"recipe {plan.name}: `{patch.find}` stands {count} times in "
                f"{patch.file}, not {patch.count}",
                hint="the source of this version is another: adapt the patch",
            )
        path.write_text(text.replace(patch.find, patch.replace), encoding="utf-8")
    return f"{BUILD}/src/{folder.name}"


def _compile(plan: WheelPlan, tree: Path, source: str) -> int:
    """Run `pip wheel` with as many compilers as fit, and return their number. If one is killed for
    memory, try once more with half of them."""
    title, jobs = f"recipe {plan.name} for {plan.target}", plan.jobs
    failure = _attempt(plan, tree, source, jobs)
    if failure and denied_memory(failure) and jobs > 1:
        jobs //= 2
        events.emit(
            "say", text=f"{title}: a compiler was killed for memory: again with {jobs} at a time"
        )
        failure = _attempt(plan, tree, source, jobs)
    if failure is None:
        return jobs
    if denied_memory(failure):
        raise HostNotReady(
            f"{title}: a compiler was killed for memory, also with {jobs} at a time",
            hint="use a machine with more memory",
        )
    if lacking := lacks(failure, shutil.disk_usage(tree).free):
        raise HostNotReady(
            f"{title}: compiling broke off: {lacking}",
            hint="free space and run again: nothing is concluded about the recipe",
        )
    raise StageFailed(
        f"{title} does not compile: {first_error(failure)}",
        log=plan.log,
        hint="see the log: a module that is missing belongs into `build: requires:`, "
        "else the flags or the version do not fit this release",
    )


def _attempt(plan: WheelPlan, tree: Path, source: str, jobs: int) -> str | None:
    """Build the wheel once. Return None, or the build's output if it failed, followed by how it
    ended."""
    env = {name: value.replace("{jobs}", str(jobs)) for name, value in plan.environment.items()}
    settings = list[str]()
    for name, values in plan.settings.items():
        for value in values:
            settings.append(f"--config-settings={name}={value.replace('{jobs}', str(jobs))}")
    log = plan.log
    # The log may have an earlier attempt, whose output does not count.
    log_start = log.stat().st_size if log.exists() else 0
    try:
        run_in(
            tree,
            [
                f"{BUILD}/venv/bin/python",
                "-m",
                "pip",
                "wheel",
                "--verbose",
                "--no-index",
                "--no-deps",
                "--no-build-isolation",
                f"--wheel-dir={BUILD}/out",
                *settings,
                source,
            ],
            log,
            env,
        )
    except shell.CommandFailed as error:
        with log.open("rb") as text:
            text.seek(log_start)
            return f"{text.read().decode('utf-8', 'replace')}\n{error.message}"
    return None


def _pack(plan: WheelPlan, tree: Path) -> Path:
    """Write the wheel anew, with the same bytes for the same content.

    Libraries lose their debug information. A search path that names the build folder becomes the
    recipe's, or is removed.
    """
    # It runs in the tree on the image's own Python, which has none of this package.
    shutil.copyfile(Path(__file__).with_name("wheel_pack.py"), tree / "build/pack.py")
    wheel, folder = next((tree / "build/out").glob("*.whl")), tree / "build/unpacked"
    step, log = [f"{BUILD}/venv/bin/python", f"{BUILD}/pack.py"], plan.log
    run_in(tree, [*step, "unpack", f"{BUILD}/out/{wheel.name}", f"{BUILD}/unpacked"], log)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.read_bytes()[:4] != elf.MAGIC[:4]:
            continue
        name = f"/{path.relative_to(tree)}"
        run_in(tree, ["strip", "--strip-debug", name], log)
        rpath = shell.output(["chroot", str(tree), "patchelf", "--print-rpath", name]).strip()
        if BUILD in rpath:
            folders = [folder for folder in rpath.split(":") if not folder.startswith(BUILD)]
            if plan.library_path:
                folders.append(plan.library_path)
            rpath = ":".join(folders)
            change = ["--set-rpath", rpath] if rpath else ["--remove-rpath"]
            run_in(tree, ["patchelf", *change, name], log)
    run_in(tree, [*step, "pack", f"{BUILD}/out/{wheel.name}", f"{BUILD}/unpacked"], log)
    return wheel


def _smoke(plan: WheelPlan, tree: Path, wheel: Path) -> None:
    """Try the wheel."""
    environment(tree, "try", [f"out/{wheel.name}", *plan.runs_with], plan.log)
    argv = [f"{BUILD}/try/bin/python", f"{BUILD}/programs/{plan.name}/smoke.py"]
    try:
        run_in(tree, argv, plan.log)
    except shell.CommandFailed as error:
        title = f"recipe {plan.name} for {plan.target}"
        # Code for another CPU than this machine's dies of SIGILL: then the image's tests have to
        # try it.
        if error.status != -signal.SIGILL:
            last = (error.output.strip().splitlines() or [error.message])[-1]
            raise StageFailed(
                f"{title}: the wheel does not work: {last}",
                log=plan.log,
                tail=error.tail,
                hint="see smoke.py beside the recipe",
            ) from None
        events.emit(
            "say", text=f"{title}: not tried, this machine's CPU lacks what it was compiled for"
        )


def _test(plan: WheelPlan, tests: WheelTests, tree: Path, jobs: int) -> str:
    last, log = list[str](), plan.log
    with events.step(f"tests of {plan.name}"):
        environment(
            tree,
            "tests",
            [
                f"out/{next((tree / 'build/out').glob('*.whl')).name}",
                *plan.runs_with,
                *tests.wheels,
            ],
            log,
        )
        words = [word.replace("{jobs}", str(jobs)) for word in tests.arguments]
        log_start = log.stat().st_size
        try:
            run_in(
                tree,
                [f"{BUILD}/tests/bin/python", "-m", "pytest", *words],
                log,
                # Some tests run the programs that the wheel brings.
                {"PATH": f"{BUILD}/tests/bin:/usr/bin:/bin"},
            )
        except shell.CommandFailed as error:
            output = error.output.splitlines()
            failed = [line for line in output if line.startswith(("FAILED", "ERROR"))]
            raise StageFailed(
                f"recipe {plan.name}: its own tests fail on the wheel for "
                f"{plan.target}: {(failed or [error.message])[0]}",
                log=log,
                tail="\n".join(failed[: shell.TAIL_LINES]),
                hint="the index's wheel is taken where the recipe's `only` has no such CPU",
            ) from None
        with log.open(encoding="utf-8", errors="replace") as text:
            text.seek(log_start)
            last = [line.strip("= \n") for line in text if re.search(r"\d+ passed", line)]
    return re.sub(r" in [\d.]+s.*", "", last[-1]) if last else "no tests ran"


def compiler(tree: Path) -> str:
    """Return the first line of the tree's `gcc --version`."""
    return shell.output(["chroot", str(tree), "/usr/bin/gcc", "--version"]).splitlines()[0]


def _cache_counts(tree: Path) -> dict[str, int]:
    path = tree / "build/ccache-log"
    lines = path.read_text(encoding="utf-8").split() if path.exists() else []
    counts = Counter(lines)
    return {
        "hits": counts["direct_cache_hit"] + counts["preprocessed_cache_hit"],
        "misses": counts["cache_miss"],
    }


if __name__ == "__main__":
    sys.exit(program.serve(WheelPlan, build))
