"""Kernel modules compiled for a real kernel in a real scratch tree: one that fits, and one that
does not."""

from __future__ import annotations

import dataclasses
import struct
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from goldenami.core.errors import BadInput, HostNotReady
from goldenami.core.records import sha256_file
from goldenami.image.lock.compilation.kernel_modules import (
    ModuleBuild,
    ModuleOutcome,
    compile_modules,
)
from goldenami.local.kernel import module_signing
from goldenami.model.locked import lockfile
from goldenami.packages import store
from goldenami.packages.apt import Deb
from support.builds import sample_inputs
from support.builds.checkout import ROOT
from support.debian import debrepo, module_keys
from support.debian.debrepo import Package
from support.files import write

pytestmark = pytest.mark.slow
IMAGE = "debian-13-ml"
SOURCE = """
#include <linux/module.h>
#include <linux/pci.h>
int golden_test_resize(struct pci_dev *device);
int golden_test_resize(struct pci_dev *device) { CALL }
MODULE_LICENSE("GPL");
MODULE_VERSION("1.0");
"""
FITS = "return pci_enable_device(device);"
DOES_NOT_FIT = "return pci_enable_device(device, 1, 2);"
"""As a driver that was written for another kernel: a function of the kernel has other arguments."""


CONFIGURATION = """\
PACKAGE_NAME="golden-test"
PACKAGE_VERSION="1.0"
BUILT_MODULE_NAME[0]="golden_test"
DEST_MODULE_LOCATION[0]="/updates/dkms"
AUTOINSTALL="yes"
MAKE[0]="make -C ${kernel_source_dir} M=${dkms_tree}/golden-test/1.0/build modules"
"""
KILLED = "-include $(shell kill -9 $$PPID)"
"""In the Makefile: make is killed, as the kernel does where memory runs out."""


def dkms_source(folder: Path, call: str, *, tarball: bool) -> Path:
    """A DKMS source package as distributions ship them, or a tarball of a vendor's; `call` is the
    module's only statement, or KILLED."""
    first = f"{call}\n" if call == KILLED else ""
    files = {
        "golden_test.c": SOURCE.replace("CALL", call),
        "Makefile": f"{first}obj-m := golden_test.o\n",
        "dkms.conf": CONFIGURATION,
    }
    name = "golden-test-1.0"
    if tarball:
        target = folder / f"{name}.tar.gz"
        write(folder / name, files)
        subprocess.run(
            ["tar", "--create", "--gzip", f"--file={target}", f"--directory={folder}", name],
            check=True,
        )
        return target
    inside = {f"usr/src/{name}/{file}": text for file, text in files.items()}
    return debrepo.build(
        Package("golden-test-dkms", "1.0-1", files=inside), folder / "golden-test-dkms.deb"
    )


def recipe(kept: store.Store, folder: Path, call: str, *, tarball: bool = False) -> ModuleBuild:
    """The lock's own scratch tree and kernel, with a small source in the driver's place."""
    package = dkms_source(folder, call, tarball=tarball)
    lock, _ = lockfile.read(lockfile.path_of(ROOT, IMAGE))
    sample_inputs.of_lock(lock, kept).fetch(tools=True)
    source = Deb(
        name="golden-test-dkms",
        version="1.0-1",
        architecture="amd64",
        sha256=kept.add(package),
        size=package.stat().st_size,
        installed_size=1024,
        archive="built",
        path=package.name,
        source="golden-test",
    )
    return dataclasses.replace(
        ModuleBuild.of(lock)[0], source=source, version="1.0", name="test", provides=[]
    )


@pytest.mark.parametrize("tarball", [False, True], ids=["package", "tarball"])
def test_a_module_that_fits_becomes_a_package_of_that_kernel(
    kept: store.Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tarball: bool,
) -> None:
    """Whatever whoever asks tells his own compilers."""
    monkeypatch.setenv("KCFLAGS", "-no-such-option")
    wanted = recipe(kept, tmp_path, FITS, tarball=tarball)
    outcome = compile_modules(wanted, kept, log=tmp_path / "log")
    assert (outcome.first_error, outcome.modules) == ("", ["golden_test"])
    assert outcome.deb_sha256 is not None
    subprocess.run(
        ["dpkg-deb", "--extract", str(kept.path(outcome.deb_sha256)), str(tmp_path / "out")],
        check=True,
    )
    module = tmp_path / f"out/usr/lib/modules/{wanted.kernel_release}/updates/dkms/golden_test.ko"
    content = module.read_bytes()
    assert f"vermagic={wanted.kernel_release} ".encode() in content
    assert b"~Module signature appended~" not in content
    again = compile_modules(wanted, kept, log=tmp_path / "log")
    assert again == outcome, "the cache gives what was compiled"
    assert sha256_file(kept.path(outcome.deb_sha256)) == outcome.deb_sha256


def test_modules_are_signed_with_the_users_key(
    kept: store.Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the kernel's own sign-file signs, and with the same bytes in two builds; modinfo shows by
    whom."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = module_keys.write(tmp_path, key, module_keys.certificate(key))
    monkeypatch.setenv(module_signing.KEY, str(path))
    plain = recipe(kept, tmp_path, FITS)
    wanted = dataclasses.replace(plain, signature=module_signing.load(path).signature)
    assert wanted.key != plain.key
    first = compile_modules(wanted, kept, log=tmp_path / "log")
    (kept.cache.modules / f"{wanted.key}.json").unlink()
    assert first.deb_sha256 is not None
    assert compile_modules(wanted, kept, log=tmp_path / "log").deb_sha256 == first.deb_sha256
    signed = unpacked(kept, first, tmp_path)
    unsigned = unpacked(kept, compile_modules(plain, kept, log=tmp_path / "log"), tmp_path)
    shown = subprocess.run(
        ["modinfo", "-F", "signer", str(signed)], check=True, capture_output=True, text=True
    ).stdout
    assert shown == "Test signer\n"
    kbuild = next(deb for deb in wanted.toolchain if deb.name.startswith("linux-kbuild-"))
    subprocess.run(
        ["dpkg-deb", "--extract", str(kept.path(kbuild.sha256)), str(tmp_path / "kbuild")],
        check=True,
    )
    program = next((tmp_path / "kbuild").rglob("sign-file"))
    argv = [str(program), "sha256", str(path), str(tmp_path / "cert.pem"), str(unsigned)]
    subprocess.run(argv, check=True)
    assert parts(signed.read_bytes()) == parts(unsigned.read_bytes())
    monkeypatch.delenv(module_signing.KEY)
    (kept.cache.modules / f"{wanted.key}.json").unlink()
    with pytest.raises(
        BadInput, match=r"the modules are signed by Test signer .* GOLDEN_MODULE_KEY is not set"
    ):
        compile_modules(wanted, kept, log=tmp_path / "log")
    kept.path(first.deb_sha256).unlink()


def parts(signed: bytes) -> tuple[bytes, bytes, bytes]:
    """Module, RSA signature and trailer without its length (linux/module_signature.h).

    PKCS#7 may write the parameters of an algorithm that has none as NULL, as sign-file does, or
    leave them out.
    """
    trailer = signed[-12 - len(module_signing.MAGIC) :]
    (length,) = struct.unpack(">I", trailer[8:12])
    end = len(signed) - len(trailer)
    return signed[: end - length], signed[end - 256 : end], trailer[:8] + trailer[12:]


def unpacked(kept: store.Store, outcome: ModuleOutcome, folder: Path) -> Path:
    assert outcome.deb_sha256 is not None
    target = folder / outcome.deb_sha256
    subprocess.run(
        ["dpkg-deb", "--extract", str(kept.path(outcome.deb_sha256)), str(target)], check=True
    )
    return next(target.rglob("golden_test.ko"))


def test_one_that_does_not_fit_gives_the_compilers_first_error(
    kept: store.Store, tmp_path: Path
) -> None:
    outcome = compile_modules(recipe(kept, tmp_path, DOES_NOT_FIT), kept, log=tmp_path / "log")
    assert outcome.deb_sha256 is None
    assert outcome.first_error.startswith("golden_test.c:5: error: too many arguments to function")


def test_a_build_that_was_killed_is_no_result(kept: store.Store, tmp_path: Path) -> None:
    wanted = recipe(kept, tmp_path, KILLED)
    with pytest.raises(
        HostNotReady, match=r"compiling golden-test-modules-\S+ broke off: .*Killed"
    ):
        compile_modules(wanted, kept, log=tmp_path / "log")
    assert not (kept.cache.modules / f"{wanted.key}.json").exists()
