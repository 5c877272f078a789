"""Compile kernel modules in a scratch tree and package them: `python -m
goldenami.local.programs.compile_modules PLAN`.

A compiler's error is a result. So is a lack of space or memory on this machine, which says nothing
about the source. Only a scratch tree that cannot be made is a failure.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from pathlib import Path

from goldenami.core import records, shell
from goldenami.local.kernel import dkms_source, module_signing
from goldenami.local.sandbox import program
from goldenami.local.tree import rootfs
from goldenami.model.builds.plans import ModulesPlan, ModulesResult

_ERROR = re.compile(
    r"^(?P<file>[^\s:(]+)(?::(?P<line>\d+):(?:\d+:)? (?:fatal )?[Ee]rror: |"
    r"\((?P<nvcc>\d+)\): (?:catastrophic )?error(?: #\S+)?: )(?P<text>.*)$"
)
_SIGNERS = (
    "usr/lib/linux-kbuild-*/scripts/sign-file",
    "usr/src/linux-headers-*/scripts/sign-file",
    "usr/bin/kmodsign",
)
"""Programs that sign modules: the kernel's own in Debian and in Ubuntu, and Ubuntu's, which DKMS
prefers there (dkms 3.2, prepare_signing)."""
_UNPACK = {".xz": ("xz", "-d"), ".gz": ("gzip", "-d"), ".zst": ("zstd", "-d", "-q", "--rm")}
"""Commands by suffix that unpack a module: DKMS compresses modules if the kernel's configuration
says so."""
_FRAMEWORK = (
    "etc/dkms/framework.conf.d/golden.conf",
    'compress_gzip_opts="-1"\ncompress_xz_opts="-0 --check=crc32"\n',
)
"""Path and text of settings for DKMS. At DKMS' own level xz takes 41 s of a core for the 88 MB of
driver 550, at this one 12 s."""
_OTHER = re.compile(
    r"(\S*(?:cc|cc1|clang|ld|[cg]\+\+)\S*: (?:fatal )?error: .*|.*: undefined reference to .*|"
    r"\S*\bld\S*: (?:cannot find |unrecognized |.*: relocation |.*: multiple definition ).*|"
    r"^\s*(?:nvcc|ptxas|nvlink|fatbinary) .*\b(?:fatal|error) *: .*|"
    r"^\s*[^\s:]+\.p(?:yx|xd|xi):\d+:\d+: .*|ERROR: .*|.*: not found$|"
    r"make\S*: \S+: No such file or directory|\*\*\* .*|Error! .*|"
    r"includes a BUILD_EXCLUSIVE directive|CMake Error(?: at .*|: .*))"
)
_PYTHON = re.compile(r"([\w.]*[a-z]Error: .*)")
"""Error line of a Python traceback. It is tried last: if a program of the build fails, the
traceback only says that it did."""
_NO_MEMORY = re.compile(
    "|".join(
        (
            # GCC's driver
            r".*: (?:fatal error: Killed signal terminated program|"
            r"internal compiler error: Killed) .*",
            r".*out of memory allocating \d+ bytes.*",
            r".*virtual memory exhausted.*",
            r"\S*ld\S*: .*memory exhausted",
            # nvcc, collect2
            r"\S+ [^|]*\b(?:died due to|died with|terminated with|terminated by|killed by) "
            r"signal 9\b.*",
            r"\S+ exited with status 137",
            r".* failed with exit code (?:-9|137)",  # setuptools
            r"ptxas fatal *: Memory allocation failure.*",
            r"\S*clang\S*: error: unable to execute command: Killed.*",
            r"LLVM ERROR: out of memory.*",
            r".*\(signal: 9, SIGKILL.*",
            r".*\bdied with <Signals\.SIGKILL: 9>.*",
            r"terminate called after throwing an instance of 'std::bad_alloc'",
            r"MemoryError(?:: .*)?",
            r".*: Cannot allocate memory(?: \(os error 12\))?",
            r".*\[Errno 12\] .*",
            r"\S*make\S*: \*\*\* .* (?:Killed|Error 137)",
            r"ninja: .*\bKilled\b.*",
            r"FAILED: \[code=137\] .*",
            r"Killed",
            r"\S+: (?:line )?\d+: +\d+ Killed\b.*",  # dash, bash
        )
    )
)
"""A line in which a program says that the kernel killed it or another one, or denied it memory;
also shell.py's line for a command that ended so."""
_NO_SPACE = re.compile(
    r".*: (?:No space left on device|Disk quota exceeded)|.*\[Errno (?:28|122)\] .*"
)
"""Messages for a full disk: strerror(3)'s, and Python's form of it."""
LEAST_FREE_BYTES = 16 << 20
"""Below this the disk was full: then the log had no room for the compiler's own message either."""


def lacks(log: str, free_bytes: int) -> str:
    """Return the line that says what the machine ran out of, or "" if the source is to blame."""
    line = denied_memory(log) or _line(_NO_SPACE, log)
    if not line and free_bytes < LEAST_FREE_BYTES:
        return f"{free_bytes} bytes are free on its disk"
    return line


def denied_memory(log: str) -> str:
    """Return the line that says that a program was killed or got no memory, or ""."""
    return _line(_NO_MEMORY, log)


def _line(pattern: re.Pattern[str], log: str) -> str:
    return next((line.strip() for line in log.splitlines() if pattern.fullmatch(line.strip())), "")


def first_error(log: str) -> str:
    """Return the compiler's first error line, with paths shortened to the file's name, else the
    first complaint of another tool."""
    for line in log.splitlines():
        if match := _ERROR.match(line.strip()):
            return (
                f"{Path(match['file']).name}:{match['line'] or match['nvcc']}: "
                f"error: {match['text']}"
            )
    for pattern in (_OTHER, _PYTHON):
        for line in log.splitlines():
            if match := pattern.search(line):
                return match[1].strip()
    return "the build failed without an error line"


def main() -> None:
    """Make the tree, compile, package, and write result.json beside the plan."""
    program.use_own_temporary_folder()
    plan = records.read(Path(sys.argv[1]), ModulesPlan)
    with rootfs.scratch(plan) as tree:
        name, version = dkms_source.unpack(plan.source, tree)
        for pattern in _SIGNERS:
            for signer in list(tree.glob(pattern)):
                # Otherwise DKMS signs with a key that it makes up: never the same bytes twice.
                signer.unlink(missing_ok=True)
        shell.output(["mount", "-t", "proc", "proc", str(tree / "proc")])
        rootfs.devices(tree)
        framework, text = _FRAMEWORK
        (tree / framework).parent.mkdir(parents=True, exist_ok=True)
        (tree / framework).write_text(text, encoding="utf-8")
        began = time.monotonic()
        error, lacking = _build(tree, plan, name, version)
        seconds = round(time.monotonic() - began, 1)
        compiler = shell.output(
            ["chroot", str(tree), "sh", "-c", "$(ls /usr/bin/gcc-[0-9]* | head -1) --version"]
        )
        deb, modules, installed = (None, [], 0) if error else _package(tree, plan)
    records.write(
        plan.work / program.RESULT_FILE,
        ModulesResult(
            deb=deb,
            modules=modules,
            installed_size=installed,
            first_error=error,
            lacks=lacking,
            compiler=compiler.splitlines()[0],
            seconds=seconds,
        ),
    )


def _build(tree: Path, plan: ModulesPlan, name: str, version: str) -> tuple[str, str]:
    """Compile. Return the first error line and what the machine lacked, each "" if there is
    none."""
    release = plan.kernel_release
    env = [
        f"SOURCE_DATE_EPOCH={plan.source_date_epoch}",
        f"KBUILD_BUILD_TIMESTAMP=@{plan.source_date_epoch}",
        "KBUILD_BUILD_USER=golden",
        "KBUILD_BUILD_HOST=golden",
        "LC_ALL=C.UTF-8",
        "HOME=/root",
        "TMPDIR=/tmp",
        # No variable of the caller's: KCFLAGS and MAKEFLAGS change modules.
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    ]
    try:
        shell.stream(
            [
                "chroot",
                str(tree),
                "env",
                "-i",
                *env,
                "dkms",
                "build",
                "-m",
                name,
                "-v",
                version,
                "-k",
                release,
                "-a",
                "x86_64",
                "-j",
                str(os.cpu_count() or 1),
                "--kernelsourcedir",
                f"/usr/src/linux-headers-{release}",
            ],
            log=plan.log,
        )
    except shell.CommandFailed as failure:
        # DKMS itself prints little: the compiler's messages are in its make.log.
        make_log = next(tree.glob(f"var/lib/dkms/{name}/{version}/build/make.log"), None)
        text = failure.output
        if make_log:
            text = make_log.read_text(encoding="utf-8", errors="replace")
        with plan.log.open("a", encoding="utf-8") as sink:
            sink.write(text)
        return first_error(text), lacks(
            f"{text}\n{failure.output}\n{failure.message}", shutil.disk_usage(tree).free
        )
    return "", ""


def _package(tree: Path, plan: ModulesPlan) -> tuple[Path, list[str], int]:
    """Make the deb. Return it, the names of its modules, and its installed size in bytes."""
    release = plan.kernel_release
    staged = plan.work / "deb"
    target = staged / "usr/lib/modules" / release / "updates/dkms"
    target.mkdir(parents=True)
    signer = module_signing.configured() if plan.signed else None
    for module in sorted(tree.glob(f"var/lib/dkms/*/*/{release}/x86_64/module/*.ko*")):
        # xz gives other bytes with another number of threads; the package is compressed anyway.
        if module.suffix in _UNPACK:
            shell.output([*_UNPACK[module.suffix], str(module)])
            module = module.with_suffix("")  # noqa: PLW2901 - the file that the tool leaves
        content = module.read_bytes()
        if signer:
            content = signer.sign(content)
        (target / module.name).write_bytes(content)
        (target / module.name).chmod(0o644)
    size = sum(path.stat().st_size for path in target.iterdir())
    control = staged / "DEBIAN"
    control.mkdir(mode=0o755)
    (control / "control").write_text(
        f"Package: {plan.package}\nVersion: {plan.version}-1\n"
        f"Architecture: {plan.tree.architecture}\nSection: kernel\nPriority: optional\n"
        f"Maintainer: goldenami <root@localhost>\nInstalled-Size: {size // 1024}\n"
        f"Depends: {', '.join(plan.depends)}\n"
        + (f"Provides: {', '.join(plan.provides)}\n" if plan.provides else "")
        + f"Description: {plan.title} {plan.version} kernel modules compiled for {release}\n",
        encoding="utf-8",
    )
    for script in ("postinst", "postrm"):
        text = f"#!/bin/sh\nset -e\n[ ! -e /sbin/depmod ] || depmod {release}\n"
        (control / script).write_text(text, encoding="utf-8")
        (control / script).chmod(0o755)
    deb = plan.work / f"{plan.package}.deb"
    shell.output(
        ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z3", "--build", str(staged), str(deb)],
        # One thread: zstd, too, gives other bytes with other numbers of threads.
        env={"SOURCE_DATE_EPOCH": str(plan.source_date_epoch), "DPKG_DEB_THREADS_MAX": "1"},
    )
    return deb, sorted(path.stem for path in target.iterdir()), size


if __name__ == "__main__":
    main()
