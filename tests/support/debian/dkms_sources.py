"""A small kernel module as vendors ship it: DKMS source in a package, or in a tarball."""

from __future__ import annotations

import hashlib
import io
import tarfile

NAME, VERSION = "golden-agent", "1.2"
CODE = """
#include <linux/module.h>
#include <linux/pci.h>
int golden_agent_enable(struct pci_dev *device);
int golden_agent_enable(struct pci_dev *device) { return pci_enable_device(device); }
MODULE_LICENSE("GPL");
MODULE_VERSION("1.2");
"""


def files(module: str = "golden_agent") -> dict[str, str]:
    """What the folder of the source holds; `module` is the name of the module."""
    conf = (
        f'PACKAGE_NAME="{NAME}"\nPACKAGE_VERSION="{VERSION}"  # of the vendor\n'
        f'BUILT_MODULE_NAME[0]="{module}"\nDEST_MODULE_LOCATION[0]="/updates/dkms"\n'
        f'MAKE[0]="make -C ${{kernel_source_dir}} M=${{dkms_tree}}/{NAME}/{VERSION}/build '
        'modules"\n'
    )
    return {"dkms.conf": conf, "Makefile": f"obj-m := {module}.o\n", f"{module}.c": CODE}


def tarball(content: dict[str, str], folder: str = "vendor-kit/driver/") -> bytes:
    """`content` below `folder`, compressed, always the same bytes."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, text in sorted(content.items()):
            entry = tarfile.TarInfo(f"{folder}{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return data.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
