"""CUDA under the names and paths of NVIDIA's apt repository, as `Repack`s of NVIDIA's own wheels on
the package index.

Programs and libraries are those of that CUDA release; headers and libraries move to where the
packages have them, /usr/local/cuda-13.0/targets/x86_64-linux. There is what the role `cuda` names
and needs: no NPP, nvJPEG, cuFile or OpenCL, of the tools the compiler's; static libraries as far as
the wheels have them (the runtime's).
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from goldenami.core.cache_paths import CachePaths
from goldenami.packages.pypi import Index, Interpreter
from goldenami.packages.store import Store

from support.debian.repack import Move, Origins, Repack

RELEASES = {"13.0": "cuda-toolkit[{extras}]==13.0.2"}
"""What the index calls a release: a project that names the version of each part."""
_EXTRAS = (
    "cublas,cccl,crt,cudart,cufft,cupti,curand,cusolver,cusparse,nvcc,nvjitlink,nvml,nvrtc,nvvm"
)
_DISASSEMBLER = "nvidia-cuda-cuobjdump"
"""The index has it from 13.2 on only: a newer one reads what an older compiler wrote."""
_LIBRARIES = {"nvidia-cuda-runtime": "cuda-cudart", "nvidia-cuda-nvrtc": "cuda-nvrtc",
              "nvidia-cublas": "libcublas",
              "nvidia-cufft": "libcufft", "nvidia-curand": "libcurand",
              "nvidia-cusolver": "libcusolver",
              "nvidia-cusparse": "libcusparse", "nvidia-nvjitlink": "libnvjitlink"}
_HEADERS = {"nvidia-cuda-crt": "cuda-crt", "nvidia-cuda-cccl": "cuda-cccl",
            "nvidia-nvml-dev": "cuda-nvml-dev"}
_WHEEL = "nvidia/cu13"


def packages(release: str, origins: Origins) -> list[Repack]:
    """The packages of CUDA `release` ("13.0"); fetches the wheels and unpacks them beside what
    `origins` has."""
    return _Toolkit(release, _unpack(release, origins.folder)).all()


def _unpack(release: str, folder: Path) -> dict[str, str]:
    index, store = Index.configured(), Store(CachePaths.default().root)
    wanted = [RELEASES[release].format(extras=_EXTRAS), _DISASSEMBLER]
    files = index.resolve(wanted, [], Interpreter((3, 13), 41))
    index.fetch(files, store)
    for file in files:
        with zipfile.ZipFile(store.path(file.sha256)) as archive:
            for member in archive.infolist():
                if member.filename.startswith(_WHEEL) and not member.is_dir():
                    path = Path(archive.extract(member, folder / file.project))
                    path.chmod(0o755 if member.external_attr >> 16 & 0o100 else 0o644)
    return {file.project: file.version for file in files}


class _Toolkit:
    def __init__(self, release: str, versions: dict[str, str]) -> None:
        self._versions, self._tail = versions, f"-{release.replace('.', '-')}"
        self._home = f"usr/local/cuda-{release}"
        self._target = f"{self._home}/targets/x86_64-linux"

    def all(self) -> list[Repack]:
        libraries = [self._named(name) for name in _LIBRARIES.values()]
        development = [f"{name.replace(self._tail, '')}-dev{self._tail}" for name in libraries]
        compiler = [self._named("cuda-nvcc"), self._named("cuda-cuobjdump")]
        metas = {"cuda-libraries": libraries,
                 "cuda-libraries-dev": [*development, self._named("cuda-cccl")],
                 "cuda-compiler": compiler}
        return [
            *(self._runtime(project, name) for project, name in _LIBRARIES.items()),
            *(self._development(project, name) for project, name in _LIBRARIES.items()),
            *(self._one(name, project, [("include/", f"{self._target}/include/")])
              for project, name in _HEADERS.items()),
            self._one("cuda-cupti", "nvidia-cuda-cupti", [("include/", f"{self._target}/include/"),
                                                          ("lib/", f"{self._target}/lib/")]),
            self._one("libnvvm", "nvidia-nvvm", [("nvvm/", f"{self._home}/nvvm/")]),
            self._one("cuda-nvcc", "nvidia-cuda-nvcc",
                      [("bin/", f"{self._home}/bin/"), ("include/", f"{self._target}/include/")],
                      needs=[self._named("cuda-crt"), self._named("libnvvm"), "gcc"]),
            self._one("cuda-cuobjdump", _DISASSEMBLER, [("bin/", f"{self._home}/bin/")]),
            *(self._meta(name, needs) for name, needs in metas.items()),
            self._meta("cuda-toolkit", [*map(self._named, metas), self._named("cuda-nvml-dev")]),
        ]

    def _named(self, name: str) -> str:
        return f"{name}{self._tail}"

    def _version(self, project: str) -> str:
        return f"{self._versions[project]}-1"

    def _one(
        self, name: str, project: str, moves: list[tuple[str, str]], needs: list[str] | None = None
    ) -> Repack:
        return Repack(self._named(name), self._version(project),
                      depends=", ".join(["libc6", *(needs or [])]),
                      moves=[Move(project, f"{_WHEEL}/{old}", new) for old, new in moves])

    def _runtime(self, project: str, name: str) -> Repack:
        """The shared libraries; that of the runtime by its full version, as the packages have
        it."""
        if name != "cuda-cudart":
            return self._one(name, project, [(r"lib/(?=[^/]*\.so\.)", f"{self._target}/lib/")])
        full = f"libcudart.so.{self._versions[project]}"
        return Repack(self._named(name), self._version(project), depends="libc6",
                      moves=[Move(project, rf"{_WHEEL}/lib/libcudart\.so\.13$",
                                  f"{self._target}/lib/{full}")],
                      links={f"{self._target}/lib/libcudart.so.13": full,
                             f"{self._home}/lib64": "targets/x86_64-linux/lib"})

    def _development(self, project: str, name: str) -> Repack:
        """Headers, static libraries, and the names that the linker looks for."""
        moves = [("include/", f"{self._target}/include/")]
        stems = {"cuda-cudart": "cudart", "cuda-nvrtc": "nvrtc", "libnvjitlink": "nvJitLink"}
        stem = stems.get(name, name.removeprefix("lib"))
        major = {"libcufft": "12", "libcurand": "10", "libcusolver": "12", "libcusparse": "12"}.get(
            name, "13"
        )
        links = {f"{self._target}/lib/lib{stem}.so": f"lib{stem}.so.{major}"}
        if name == "cuda-cudart":
            moves.append((r"lib/(?=[^/]*\.a$)", f"{self._target}/lib/"))
            links[f"{self._home}/include"] = "targets/x86_64-linux/include"
        return Repack(f"{name}-dev{self._tail}", self._version(project), depends=self._named(name),
                      links=links,
                      moves=[Move(project, f"{_WHEEL}/{old}", new) for old, new in moves])

    def _meta(self, name: str, needs: list[str]) -> Repack:
        return Repack(self._named(name), self._version("nvidia-cuda-nvcc"),
                      depends=", ".join(needs))
