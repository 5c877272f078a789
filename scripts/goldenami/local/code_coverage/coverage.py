"""The coverage check: whether the code in a tree runs on every machine that an image is declared
for. Nothing in the tree is run.

* CPU: each instruction whose extension the baseline lacks is a finding. This also finds what `pip
  install` compiled with -march=native on a newer machine.
* GPU: each fat binary (one for each source file that nvcc compiled) must hold, for each of `sm`,
  SASS of that architecture or of a lower minor number of the same major, or PTX of it or of a lower
  one. A file without device code is no finding: whether a wheel compiled with CUDA has any is
  checked once, when it is made (`demand_device_code`).

Code that a library reaches only after it asked the CPU is allowed by data, an `Allowance` with the
reason. So are source files that are compiled for one GPU alone (symbols "device code *", extensions
"sm_*"). A file that as a whole lacks an architecture has the symbol "file".
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import metadata
from pathlib import Path

from goldenami.core import records
from goldenami.core.errors import StageFailed
from goldenami.core.records import Record
from goldenami.local.code_coverage import fatbin
from goldenami.local.code_coverage.elf import MAGIC, X86_64, Elf, NotElf
from goldenami.local.code_coverage.instructions import Classifier
from goldenami.model.builds.build_records import COVERAGE_FILE, CodeFile, CoverageRecord, Finding
from goldenami.model.builds.plans import CoverageRequest
from goldenami.model.roles.recipes import Allowance

WHOLE = "file"
"""Symbol of a finding about a file as a whole."""
UNREADABLE = "unreadable"
"""Extension of a finding about a file that could not be read."""
SHOWN = 8
"""Findings that the error names; the record has all."""
_READERS = ("coverage", "elf", "fatbin", "instructions")
"""Modules that decide what is read of a file."""
_DECODER = "iced-x86"


class CodeFacts(Record):
    """A file's instructions and architectures, as a CodeFile has them, and what is beyond the
    baseline.

    `findings` have no file's name; one with the extension `unreadable` is the last.
    """

    instructions: int
    extensions: dict[str, int]
    sass: list[str]
    ptx: list[str]
    findings: list[Finding]


@cache
def _reader() -> str:
    """Return the identity of the reading code: what was read by another version is read again."""
    texts = {name: records.sha256_file(Path(__file__).with_name(f"{name}.py")) for name in _READERS}
    return records.canonical({**texts, _DECODER: metadata.version(_DECODER)})


@dataclass(frozen=True)
class KnownCode:
    """Facts of files that were read for the CPUs and GPUs of a request, kept in its folder by the
    file's SHA-256 (`known` of None: nothing is kept).

    Decoding PyTorch takes a minute, hashing it two seconds. Paths and allowances belong to an
    image, and are applied each time.
    """

    request: CoverageRequest

    def get(self, sha256: str) -> CodeFacts | None:
        path = self._path(sha256)
        return records.read_if_whole(path, CodeFacts) if path else None

    def keep(self, sha256: str, facts: CodeFacts) -> None:
        if path := self._path(sha256):
            records.write(path, facts)

    def _path(self, sha256: str) -> Path | None:
        if self.request.known is None:
            return None
        key = records.sha256_text(
            records.canonical(
                {
                    "file": sha256,
                    "features": sorted(self.request.features),
                    "sm": self.request.sm,
                    "reader": _reader(),
                }
            )
        )
        return self.request.known / key[:2] / key


def scan(tree: Path, request: CoverageRequest) -> CoverageRecord:
    """Read all code of `tree` that `request` names, and return the record. A folder that does not
    exist holds none, and a file that is known already is not read again."""
    known_code, classifier = KnownCode(request), Classifier()
    files, findings = list[CodeFile](), list[Finding]()
    allowed = {allowance.reason: 0 for allowance in request.allow}
    for path in _programs(tree, request.folders):
        name, sha256 = str(path.relative_to(tree)), records.sha256_file(path)
        facts = known_code.get(sha256)
        if facts is None:
            facts = _read(path, request, classifier)
            known_code.keep(sha256, facts)
        for unnamed in facts.findings:
            finding = unnamed.model_copy(update={"file": name})
            fitting = (allowance.reason for allowance in request.allow if fits(allowance, finding))
            reason = next(fitting, None)
            if reason is None:
                findings.append(finding)
            else:
                allowed[reason] += finding.count
        if not any(finding.extension == UNREADABLE for finding in facts.findings):
            files.append(
                CodeFile(
                    path=name,
                    sha256=sha256,
                    instructions=facts.instructions,
                    extensions=facts.extensions,
                    sass=facts.sass,
                    ptx=facts.ptx,
                )
            )
    return CoverageRecord(
        folders=request.folders,
        features=request.features,
        sm=request.sm,
        files=files,
        findings=findings,
        allowed=allowed,
    )


def hold(tree: Path, request: CoverageRequest, out: Path, log: Path) -> None:
    """Check the code of `tree` against what a plan asks for, and write the record into `out`.
    Raises StageFailed if it has findings."""
    record = scan(tree, request)
    # Before the demand, so that a failed bake has its record, too.
    records.write(out / COVERAGE_FILE, record)
    with log.open("a", encoding="utf-8") as sink:
        sink.writelines(f"coverage: {describe(finding)}\n" for finding in record.findings)
    demand(record)


def demand(record: CoverageRecord) -> None:
    """Raise StageFailed if the record has findings."""
    if record.findings:
        raise StageFailed(
            f"{len(record.findings)} functions or files cannot run on every "
            f"declared machine: {describe(record.findings[0])}",
            tail="\n".join(describe(finding) for finding in record.findings[:SHOWN]),
            hint="compile for the lock's `hardware.options` and `hardware.sm`; "
            "where the code asks the CPU before it uses them, allow it with "
            "the reason in roles/frameworks/files/dispatching.yml",
        )


def demand_device_code(folder: Path, sm: Sequence[str], build: str) -> None:
    """Raise StageFailed if all programs below `folder` together have no code for one of `sm`;
    `build` is its name."""
    images = list[fatbin.DeviceImage]()
    for path in _programs(folder, ["."] if sm else []):
        # `scan` of the tree reports files that cannot be read.
        with suppress(NotElf), Elf(path) as elf:
            images += list(itertools.chain.from_iterable(fatbin.modules(elf)))
    if lacking := fatbin.missing(images, sm):
        raise StageFailed(
            f"{build}: the wheel has no code for sm_{', sm_'.join(lacking)} ({_has(images)})",
            hint="the recipe's CUDA flags do not reach the build: does it read "
            "these variables still?",
        )


def describe(finding: Finding) -> str:
    """Return a finding as text: `opt/ml/x.so: dot: 12 instructions need avx512f (0x1139: vmovups
    zmm0,[rdi])`."""
    if finding.extension == UNREADABLE or finding.extension.startswith("sm_"):
        return f"{finding.file}: {finding.symbol}: {finding.extension}: {finding.example}"
    verb = "instructions need" if finding.count > 1 else "instruction needs"
    return (
        f"{finding.file}: {finding.symbol}: "
        f"{finding.count} {verb} {finding.extension} ({finding.example})"
    )


def fits(allowance: Allowance, finding: Finding) -> bool:
    """Return whether the allowance is for this finding. `*` stands for every instruction set; what
    a GPU lacks has to be named, and so has what could not be read."""
    named = finding.extension == UNREADABLE or finding.extension.startswith("sm_")
    patterns = [pattern for pattern in allowance.extensions if pattern != "*" or not named]
    return (
        fnmatchcase(finding.file, allowance.files)
        and fnmatchcase(finding.symbol, allowance.symbols)
        and any(fnmatchcase(finding.extension, pattern) for pattern in patterns)
    )


def _programs(tree: Path, folders: Sequence[str]) -> Iterator[Path]:
    """Yield each ELF file once, in the order of paths."""
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        for place, names, files in os.walk(tree / folder):
            names.sort()
            for name in sorted(files):
                path = Path(place) / name
                status = path.lstat()
                if (
                    # A link leads to a file that is seen by itself, or that lies outside.
                    path.is_symlink()
                    or not path.is_file()
                    or (status.st_dev, status.st_ino) in seen
                ):
                    continue
                with path.open("rb") as file:
                    if file.read(4) == MAGIC[:4]:
                        seen.add((status.st_dev, status.st_ino))
                        yield path


def _read(path: Path, request: CoverageRequest, classifier: Classifier) -> CodeFacts:
    """Return the facts of one file."""
    findings = list[Finding]()
    try:
        with Elf(path) as elf:
            if elf.machine != X86_64:
                raise NotElf(f"code for another machine (ELF machine {elf.machine})")
            count, extensions = _cpu(findings, elf, request.features, classifier)
            sass, ptx = _gpu(findings, elf, request.sm)
    except NotElf as error:
        findings.append(_finding(WHOLE, UNREADABLE, str(error)))
        return CodeFacts(instructions=0, extensions={}, sass=[], ptx=[], findings=findings)
    return CodeFacts(
        instructions=count, extensions=extensions, sass=sass, ptx=ptx, findings=findings
    )


def _finding(symbol: str, extension: str, example: str, count: int = 1) -> Finding:
    return Finding(file="", symbol=symbol, extension=extension, count=count, example=example)


def _cpu(
    findings: list[Finding],
    elf: Elf,
    features: Sequence[str],
    classifier: Classifier,
) -> tuple[int, dict[str, int]]:
    """Add the findings about instructions, and return how many there are, in all and by
    extension."""
    total, extensions = 0, dict[str, int]()
    for address, symbol, code in elf.code():
        count, uses = classifier.uses(code, address)
        total += count
        for extension, use in uses.items():
            extensions[extension] = extensions.get(extension, 0) + use.count
        findings += [
            _finding(symbol, extension, uses[extension].example, uses[extension].count)
            for extension in sorted(uses)
            if extension not in features
        ]
    return total, dict(sorted(extensions.items()))


def _gpu(findings: list[Finding], elf: Elf, declared: Sequence[str]) -> tuple[list[str], list[str]]:
    """Add the findings about device code, and return the architectures of SASS and of PTX."""
    modules = list(fatbin.modules(elf))
    images = list(itertools.chain.from_iterable(modules))
    whole = fatbin.missing(images, declared) if images else []
    findings += [_finding(WHOLE, f"sm_{sm}", _has(images)) for sm in whole]
    others = [sm for sm in declared if sm not in whole]
    for number, module in enumerate(modules, 1):
        symbol = f"device code {number} of {len(modules)}"
        for sm in fatbin.missing(module, others):
            findings.append(_finding(symbol, f"sm_{sm}", _has(module)))
    sass = {image.name for image in images if not image.ptx}
    ptx = {image.name for image in images if image.ptx}
    return sorted(sass), sorted(ptx)


def _has(images: Sequence[fatbin.DeviceImage]) -> str:
    sass = {f"sm_{image.name}" for image in images if not image.ptx}
    ptx = {f"compute_{image.name}" for image in images if image.ptx}
    return f"has {', '.join(sorted(sass | ptx)) or 'no device code'}"
