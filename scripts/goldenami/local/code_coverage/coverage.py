"""The coverage check: whether the code in a tree runs on every machine that an image is declared
for.

    baseline = CodeBaseline(features=lock.hardware.features, sm=lock.hardware.sm)
    record = coverage.scan(tree, ["opt/ml"], baseline, allowances)
    coverage.demand(record)          # StageFailed with the findings, if there are any

`scan` reads every ELF file below the folders, wherever the tree is: a wheel unpacked into a folder,
an environment, a sealed root. Nothing in it is run.

* CPU: each instruction is decoded and classified. One whose extension is not in `features` is a finding with file,
  function, extension, the number of such instructions and the first of them. What `pip install` compiled with
  -march=native on a newer machine is found so.
* GPU: each fat binary (one a source file that nvcc compiled) must hold, for each of `sm`, SASS of that architecture or
  a lower minor number of the same major, or PTX of it or a lower one. A file without device code is no finding: that
  a wheel compiled with CUDA has any is asked once, when it is made (`demand_device_code`).

Code that a library reaches only after it asked the CPU is allowed by data, an `Allowance` with the
reason; so are source files that are compiled for one GPU alone (symbols "device code *", extensions
"sm_*"), but a file that as a whole lacks an architecture has the symbol "file" and must not be
allowed by the pattern of its parts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from goldenami.core import records
from goldenami.core.errors import StageFailed
from goldenami.local.code_coverage import fatbin, instructions
from goldenami.local.code_coverage.elf import MAGIC, X86_64, Elf, NotElf
from goldenami.local.code_coverage.instructions import Classifier
from goldenami.local.code_coverage.known_code import CodeFacts, KnownCode
from goldenami.model.builds.build_records import (
    COVERAGE_FILE,
    Allowance,
    CodeFile,
    CoverageRecord,
    Finding,
)
from goldenami.model.builds.plans import CoverageRequest

WHOLE = "file"
"""Symbol of a finding about a file as a whole."""
UNREADABLE = "unreadable"
"""Extension of a finding about a file that could not be looked at."""
SHOWN = 8
"""Findings in the error; the record has all."""


@dataclass(frozen=True)
class CodeBaseline:
    """What every declared machine has: `features` of the CPU (names of architectures.py), GPUs'
    `sm` ("86")."""

    features: Sequence[str]
    sm: Sequence[str] = ()


@dataclass
class _Scan:
    """The state of one scan."""

    root: Path
    baseline: CodeBaseline
    allowances: Sequence[Allowance]
    known: KnownCode
    classifier: Classifier = field(default_factory=Classifier)
    files: list[CodeFile] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    allowed: dict[str, int] = field(default_factory=dict)

    def judge(self, finding: Finding) -> None:
        """Record a finding, or count it for the first allowance that fits."""
        for allowance in self.allowances:
            if fits(allowance, finding):
                self.allowed[allowance.reason] += finding.count
                return
        self.findings.append(finding)


def scan(
    root: Path, folders: Sequence[str], baseline: CodeBaseline,
    allowances: Sequence[Allowance] = (),
    known: Path | None = None,
) -> CoverageRecord:
    """Look at all code below `folders` of the tree `root`; a folder that is not there holds none.

    `known` is where KnownCode keeps what is read of a file; what is there already is not read
    again.
    """
    state = _Scan(root, baseline, allowances, KnownCode(known, baseline.features, baseline.sm),
                  allowed={allowance.reason: 0 for allowance in allowances})
    for path in _programs(root, folders):
        _file(state, path)
    return CoverageRecord(folders=list(folders), features=list(baseline.features),
                          sm=list(baseline.sm),
                          files=state.files, findings=state.findings, allowed=state.allowed)


def hold(root: Path, request: CoverageRequest, out: Path, log: Path) -> None:
    """Hold the code of the tree `root` to what a plan asks for; the record goes into `out`."""
    record = scan(root, request.folders, CodeBaseline(request.features, request.sm), request.allow,
                  request.known)
    records.write(out / COVERAGE_FILE, record)
    with log.open("a", encoding="utf-8") as sink:
        sink.writelines(f"coverage: {describe(finding)}\n" for finding in record.findings)
    demand(record)


def demand(record: CoverageRecord) -> None:
    """StageFailed where the record has findings."""
    if record.findings:
        raise StageFailed(f"{len(record.findings)} functions or files cannot run on every "
                          "declared machine: "
                          f"{describe(record.findings[0])}",
                          tail="\n".join(describe(finding) for finding in record.findings[:SHOWN]),
                          hint="compile for the lock's `hardware.options` and `hardware.sm`; "
                               "where the code asks the "
                               "CPU before it uses them, allow it with the reason in "
                               "roles/frameworks/files/dispatching.yml")


def demand_device_code(folder: Path, sm: Sequence[str], whose: str) -> None:
    """StageFailed where all programs below `folder` together have no code for one of `sm`; `whose`
    names the build."""
    images = list[fatbin.DeviceImage]()
    for path in _programs(folder, ["."] if sm else []):
        # `scan` says of the tree what could not be looked at.
        with suppress(NotElf), Elf(path) as elf:
            images += [image for module in fatbin.modules(elf) for image in module]
    if lacking := fatbin.missing(images, sm):
        raise StageFailed(f"{whose}: the wheel has no code for sm_{', sm_'.join(lacking)} "
                          f"({_has(images)})",
                          hint="the recipe's CUDA flags do not reach the build: does it read "
                               "these variables still?")


def describe(finding: Finding) -> str:
    """`opt/ml/x.so: dot: 12 instructions need avx512f (0x1139: vmovups zmm0,[rdi])`."""
    if finding.extension == UNREADABLE or finding.extension.startswith("sm_"):
        return f"{finding.file}: {finding.symbol}: {finding.extension}: {finding.example}"
    what = "instructions need" if finding.count > 1 else "instruction needs"
    return f"{finding.file}: {finding.symbol}: {finding.count} {what} {finding.extension} ({finding.example})"


def fits(allowance: Allowance, finding: Finding) -> bool:
    """Whether the allowance is for this finding. `*` is every instruction set: what a GPU lacks has
    to be named, and so has what could not be looked at."""
    named = finding.extension == UNREADABLE or finding.extension.startswith("sm_")
    patterns = [pattern for pattern in allowance.extensions if pattern != "*" or not named]
    return (
        fnmatchcase(finding.file, allowance.files)
        and fnmatchcase(finding.symbol, allowance.symbols)
        and any(fnmatchcase(finding.extension, pattern) for pattern in patterns)
    )


def _programs(root: Path, folders: Sequence[str]) -> Iterator[Path]:
    """Each ELF file once, in the order of paths; links lead to files that are seen by themselves or
    lie outside."""
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        for place, names, files in os.walk(root / folder):
            names.sort()
            for path in (Path(place) / name for name in sorted(files)):
                status = path.lstat()
                if (
                    path.is_symlink()
                    or not path.is_file()
                    or (status.st_dev, status.st_ino) in seen
                ):
                    continue
                with path.open("rb") as file:
                    if file.read(4) == MAGIC[:4]:
                        seen.add((status.st_dev, status.st_ino))
                        yield path


def _file(state: _Scan, path: Path) -> None:
    name, sha256 = str(path.relative_to(state.root)), records.sha256_file(path)
    facts = state.known.get(sha256)
    if facts is None:
        facts = _read(path, state.baseline, state.classifier)
        state.known.keep(sha256, facts)
    for finding in facts.findings:
        state.judge(finding.model_copy(update={"file": name}))
    if not any(finding.extension == UNREADABLE for finding in facts.findings):
        state.files.append(CodeFile(path=name, sha256=sha256, instructions=facts.instructions,
                                    extensions=facts.extensions, sass=facts.sass, ptx=facts.ptx))


def _read(path: Path, baseline: CodeBaseline, classifier: Classifier) -> CodeFacts:
    """What there is to know of one file, whatever its name."""
    findings = list[Finding]()
    try:
        with Elf(path) as elf:
            if elf.machine != X86_64:
                raise NotElf(f"code for another machine (ELF machine {elf.machine})")
            count, extensions = _cpu(findings, elf, baseline, classifier)
            sass, ptx = _gpu(findings, elf, baseline)
    except NotElf as error:
        findings.append(_finding(WHOLE, UNREADABLE, str(error)))
        return CodeFacts(instructions=0, extensions={}, sass=[], ptx=[], findings=findings)
    return CodeFacts(instructions=count, extensions=extensions, sass=sass, ptx=ptx,
                     findings=findings)


def _finding(symbol: str, extension: str, example: str, count: int = 1) -> Finding:
    return Finding(file="", symbol=symbol, extension=extension, count=count, example=example)


def _cpu(
    findings: list[Finding], elf: Elf, baseline: CodeBaseline, classifier: Classifier,
) -> tuple[int, dict[str, int]]:
    """Number of instructions, and of those that need each extension; adds to `findings` what is
    beyond the baseline."""
    total, extensions = 0, dict[str, int]()
    features = frozenset(baseline.features)
    for address, symbol, code in elf.code():
        count, uses = classifier.uses(code, address)
        total += count
        for extension, use in uses.items():
            extensions[extension] = extensions.get(extension, 0) + use.count
        findings += [_finding(symbol, extension, uses[extension].example, uses[extension].count)
                     for extension in instructions.beyond(uses, features)]
    return total, dict(sorted(extensions.items()))


def _gpu(findings: list[Finding], elf: Elf, baseline: CodeBaseline) -> tuple[list[str], list[str]]:
    """Architectures of the file's SASS and PTX; adds what the file as a whole lacks, then what each
    fat binary does."""
    modules = list(fatbin.modules(elf))
    images = [image for module in modules for image in module]
    whole = fatbin.missing(images, baseline.sm) if images else []
    findings += [_finding(WHOLE, f"sm_{sm}", _has(images)) for sm in whole]
    for number, module in enumerate(modules, 1):
        findings += [_finding(f"device code {number} of {len(modules)}", f"sm_{sm}", _has(module))
                     for sm in fatbin.missing(module,
                                              [sm for sm in baseline.sm if sm not in whole])]
    sass, ptx = ({image.name for image in images if image.ptx is kind} for kind in (False, True))
    return sorted(sass), sorted(ptx)


def _has(images: Sequence[fatbin.DeviceImage]) -> str:
    names = sorted({f"{'compute' if image.ptx else 'sm'}_{image.name}" for image in images})
    return f"has {', '.join(names) or 'no device code'}"
