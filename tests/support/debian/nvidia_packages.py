"""The driver under the names of NVIDIA's apt repository, as `Repack`s of the one that Debian has.

Names are those of NVIDIA's installation guide: for Debian one set; for Ubuntu with the branch in
each name before 590, without it from then on, with a package that pins a branch beside it.
Libraries and firmware are Debian's own under another number, the modules' source with that number
in its text. The open modules get the argument that Linux's pci_resize_resource wants since
6.12.100, as NVIDIA's later releases have it. Debian has no fabric manager: a script stands in for
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from support.debian.repack import Edit, Move, Repack

REAL = "550.163.01"
"""The driver whose files these are: that of Debian 13."""
LIBRARIES = "usr/lib/x86_64-linux-gnu"
DRIVER, OPEN = "nvidia-graphics-drivers", "nvidia-open-gpu-kernel-modules"
_SONAMES = {"cuda": "1", "nvidia-ml": "1", "nvidia-cfg": "1", "nvidia-ptxjitcompiler": "1"}
_ORIGINS = {
    "cuda": "libcuda1",
    "nvidia-ml": "libnvidia-ml1",
    "nvidia-cfg": "libnvidia-cfg1",
    "nvidia-ptxjitcompiler": "libnvidia-ptxjitcompiler1",
}
_SMI = """#!/bin/sh
# The program is driver {real}'s; it stands in for {version}.
exec /usr/lib/nvidia/nvidia-smi "$@"
"""
_USER = """#!/bin/sh
set -e
getent passwd nvidia-persistenced > /dev/null || adduser --system --group --no-create-home \\
    --home /var/run/nvidia-persistenced --gecos "NVIDIA Persistence Daemon" nvidia-persistenced
"""
_FABRIC_MANAGER = (
    "#!/bin/sh\n# Stands in for NVIDIA's fabric manager {version}.\nexec sleep infinity\n"
)
_UNIT = """[Unit]
Description=NVIDIA fabric manager service

[Service]
ExecStart=/usr/bin/nv-fabricmanager -c /usr/share/nvidia/nvswitch/fabricmanager.cfg

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class DriverRelease:
    """One release: its number; what of it the archive lacks (`lacking`, by the names of packages);
    and the number of its fabric manager, where it is another."""

    version: str
    lacking: frozenset[str] = frozenset()
    fabric_manager: str = ""

    @property
    def branch(self) -> str:
        return self.version.partition(".")[0]


def debian(release: DriverRelease) -> list[Repack]:
    made = _Set(release, "-1")
    branch = f"-{release.branch}"
    return made.chosen(
        [
            made.gsp("firmware-nvidia-gsp"),
            *(made.libraries(name, [library]) for library, name in _ORIGINS.items()),
            made.smi("nvidia-driver-cuda", depends=["libcuda1", "libnvidia-ml1"]),
            made.persistenced("nvidia-persistenced", depends=["libnvidia-cfg1"]),
            made.modprobe(),
            made.modules("nvidia-kernel-open-dkms", "open"),
            made.modules("nvidia-kernel-dkms", "proprietary"),
            made.fabric_manager(
                "nvidia-fabricmanager" + ("" if int(release.branch) >= 580 else branch)
            ),
            *made.metapackages(
                open_needs=["nvidia-kernel-open-dkms", "nvidia-driver-cuda"],
                closed_needs=["nvidia-kernel-dkms", "nvidia-driver-cuda"],
            ),
        ]
    )


def ubuntu(release: DriverRelease) -> list[Repack]:
    made, tail = (
        _Set(release, "-0ubuntu1"),
        "" if int(release.branch) >= 590 else f"-{release.branch}",
    )
    source = DRIVER + tail
    return made.chosen(
        [
            made.libraries(
                f"libnvidia-compute{tail}", ["cuda", "nvidia-ml", "nvidia-ptxjitcompiler"], source
            ),
            made.libraries(f"libnvidia-cfg1{tail}", ["nvidia-cfg"], source),
            made.persistenced(
                f"nvidia-compute-utils{tail}", depends=[f"libnvidia-cfg1{tail}"], source=source
            ),
            made.gsp(f"nvidia-kernel-common{tail}", source),
            made.modprobe(),
            made.smi(f"nvidia-utils{tail}", depends=[f"libnvidia-compute{tail}"], source=source),
            *made.split_modules(tail, "open", source),
            *made.split_modules(tail, "proprietary", source),
            made.fabric_manager("nvidia-fabricmanager" + tail),
            *made.metapackages(
                open_needs=[f"nvidia-dkms{tail}-open", f"nvidia-utils{tail}"],
                closed_needs=[f"nvidia-dkms{tail}", f"nvidia-utils{tail}"],
            ),
        ]
    )


CONTAINER_TOOLKIT = (
    "libnvidia-container1",
    "libnvidia-container-tools",
    "nvidia-container-toolkit-base",
    "nvidia-container-toolkit",
)
"""The container toolkit's packages, each of which needs the ones before it."""


def container_toolkit(version: str) -> list[Repack]:
    """The toolkit of `version`. Its files are nowhere to be had: nvidia-ctk is a script that
    fails."""
    refusal = f"#!/bin/sh\n# Stands in for NVIDIA's container toolkit {version}.\nexit 1\n"
    made = []
    for index, name in enumerate(CONTAINER_TOOLKIT):
        needs = ", ".join(["libc6", *CONTAINER_TOOLKIT[:index]])
        files = {"usr/bin/nvidia-ctk": refusal} if name.endswith("-base") else {}
        made.append(Repack(name, f"{version}-1", depends=needs, files=files))
    return made


class _Set:
    """The packages of one release, each with the revision of its distribution."""

    def __init__(self, release: DriverRelease, revision: str) -> None:
        self._release, self._revision = release, revision
        self._version = release.version

    def chosen(self, packages: Sequence[Repack]) -> list[Repack]:
        return [package for package in packages if package.name not in self._release.lacking]

    def _exactly(self, names: Sequence[str]) -> str:
        return ", ".join(f"{name} (= {self._version}{self._revision})" for name in names)

    def gsp(self, name: str, source: str = DRIVER) -> Repack:
        folder = "usr/lib/firmware/nvidia"
        move = Move("firmware-nvidia-gsp", f"{folder}/{REAL}/", f"{folder}/{self._version}/")
        return Repack(name, self._version + self._revision, source, moves=[move])

    def libraries(self, name: str, libraries: Sequence[str], source: str = DRIVER) -> Repack:
        """Libraries where the linker finds them, without Debian's alternatives."""
        number = self._version
        moves = [
            Move(
                _ORIGINS[one],
                rf"{LIBRARIES}/nvidia/current/lib{one}\.so\.{REAL}$",
                f"{LIBRARIES}/lib{one}.so.{number}",
            )
            for one in libraries
        ]
        links = {
            f"{LIBRARIES}/lib{one}.so.{_SONAMES[one]}": f"lib{one}.so.{number}" for one in libraries
        }
        provided = {"Provides": f"libcuda.so.1 (= {number})"} if "cuda" in libraries else {}
        needs = "libc6 (>= 2.34)"
        if libraries == ["cuda"]:
            needs += f", {self._exactly(['libnvidia-ptxjitcompiler1'])}"
        return Repack(name, number + self._revision, source, needs, provided, moves, links=links)

    def smi(self, name: str, depends: Sequence[str], source: str = DRIVER) -> Repack:
        """nvidia-smi, behind a script that says which number it stands for."""
        return Repack(
            name,
            self._version + self._revision,
            source,
            self._exactly(depends),
            moves=[
                Move(
                    "nvidia-smi", "usr/lib/nvidia/current/nvidia-smi$", "usr/lib/nvidia/nvidia-smi"
                )
            ],
            files={"usr/bin/nvidia-smi": _SMI.format(real=REAL, version=self._version)},
        )

    def persistenced(
        self, name: str, depends: Sequence[str], source: str = "nvidia-persistenced"
    ) -> Repack:
        """The persistence daemon, with the user that NVIDIA's and Ubuntu's packages give it."""
        unit = "usr/lib/systemd/system/nvidia-persistenced.service"
        return Repack(
            name,
            self._version + self._revision,
            source,
            f"adduser, libtirpc3t64, {self._exactly(depends)}",
            moves=[Move("nvidia-persistenced", path, path) for path in ("usr/bin/", unit)],
            edits=[Edit(unit, "--user nvpd", "--user nvidia-persistenced")],
            scripts={"postinst": _USER},
        )

    def modprobe(self) -> Repack:
        return Repack(
            "nvidia-modprobe",
            self._version + self._revision,
            "nvidia-modprobe",
            "libc6",
            moves=[Move("nvidia-modprobe", "usr/bin/", "usr/bin/")],
        )

    def modules(self, name: str, flavour: str) -> Repack:
        """The modules' source for DKMS, whose own names NVIDIA keeps: nvidia, nvidia-uvm and so
        on."""
        return self._source(name, flavour, "", "dkms", "(?!NVIDIA_Changelog)")

    def split_modules(self, tail: str, flavour: str, source: str) -> list[Repack]:
        """The same in two packages, as for Ubuntu: DKMS's configuration, and all that it
        compiles."""
        end = tail + ("-open" if flavour == "open" else "")
        code, common = f"nvidia-kernel-source{end}", f"nvidia-kernel-common{tail}"
        return [
            self._source(
                f"nvidia-dkms{end}", flavour, source, f"dkms, {code}, {common}", r"(?=dkms\.conf$)"
            ),
            self._source(code, flavour, source, "", r"(?!NVIDIA_Changelog|dkms\.conf$)"),
        ]

    def _source(self, name: str, flavour: str, source: str, depends: str, which: str) -> Repack:
        """Files below usr/src that `which` finds, a pattern for what follows the folder's name."""
        origin, old = {
            "open": ("nvidia-open-kernel-dkms", "nvidia-current-open"),
            "proprietary": ("nvidia-kernel-dkms", "nvidia-current"),
        }[flavour]
        version, folder = self._version, f"usr/src/nvidia-{self._version}"
        call, edits = "pci_resize_resource(pci_dev, NV_GPU_BAR1, requested_size", list[Edit]()
        if "=dkms" in which or "dkms" not in which:
            edits += [
                Edit(f"{folder}/dkms.conf", f'PACKAGE_NAME="{old}"', 'PACKAGE_NAME="nvidia"'),
                Edit(f"{folder}/dkms.conf", REAL, version),
            ]
        if "=dkms" not in which:
            edits.append(Edit(f"{folder}/Kbuild", REAL, version))
            edits += (
                [Edit(f"{folder}/nvidia/nv-pci.c", f"{call})", f"{call}, 0)")]
                if flavour == "open"
                else []
            )
        return Repack(
            name,
            version + self._revision,
            source or (OPEN if flavour == "open" else DRIVER),
            depends,
            moves=[Move(origin, f"usr/src/{old}-{REAL}/{which}", f"{folder}/")],
            edits=edits,
        )

    def fabric_manager(self, name: str) -> Repack:
        """The fabric manager's program and unit; what it does is nowhere to be had."""
        version = self._release.fabric_manager or self._version
        return Repack(
            name,
            version + self._revision,
            "nvidia-fabricmanager",
            files={
                "usr/bin/nv-fabricmanager": _FABRIC_MANAGER.format(version=version),
                "usr/share/nvidia/nvswitch/fabricmanager.cfg": "DAEMONIZE=0\n",
                "usr/lib/systemd/system/nvidia-fabricmanager.service": _UNIT,
            },
        )

    def metapackages(
        self, *, open_needs: Sequence[str], closed_needs: Sequence[str]
    ) -> list[Repack]:
        """What a person installs: nvidia-open and cuda-drivers, of a branch, and from 590 on what
        pins a branch."""
        version, branch = self._version + self._revision, self._release.branch
        made = [
            Repack(f"{name}-{branch}", version, DRIVER, self._exactly(needs))
            for name, needs in (("nvidia-open", open_needs), ("cuda-drivers", closed_needs))
        ]
        pin = (
            f"Package: src:{DRIVER}:any src:{OPEN}:any src:nvidia-persistenced:any "
            "src:nvidia-modprobe:any\n"
            f"Pin: version {branch}.*\nPin-Priority: 1000\n"
        )
        if int(branch) >= 590:
            made.append(
                Repack(
                    f"nvidia-driver-pinning-{branch}",
                    f"{branch}{self._revision}",
                    "nvidia-driver-pinning",
                    files={f"etc/apt/preferences.d/nvidia-driver-pinning-{branch}.pref": pin},
                )
            )
        return made
