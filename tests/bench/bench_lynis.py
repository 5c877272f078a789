"""What Lynis says of an image: its hardening index, asked of the booted disk. `make bench-lynis IMAGE=...`.

Prints a table and writes build/bench/lynis-IMAGE.json. Lynis is this machine's archive's; the image does not have it.
It takes a quarter of an hour under emulation, so that `verify` does not ask it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from goldenami.core.records import canonical, write_text
from goldenami.model.builds.build_folder import ImageFolder
from support.builds import guest
from support.debian import unpacked

ROOT = Path(__file__).resolve().parents[2]
AIM = 75
"""Higher ones want AIDE and remote logs (docs/hardening.md)."""


def main() -> None:
    """Measure, print, keep."""
    image = sys.argv[1]
    build = ImageFolder.of(ROOT, image).latest
    if build is None:
        raise SystemExit(f"{image} has no verified build here: run `make bake IMAGE={image}`")
    print(f"Lynis in the booted {image}, a quarter of an hour under emulation ...", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpacked.unpack("lynis", folder / "lynis").rename(folder / "tools")
        (folder / "disk.raw").symlink_to(build.disk.resolve())
        found = guest.facts("support.security.lynis", folder)
    found |= {"image": image, "build_id": build.path.resolve().name, "minutes": round((time.monotonic() - began) / 60)}
    print("points lost, by test:")
    print("\n".join(f"  {count:3} {test}" for test, count in found["lost"].items()))
    for kind in ("warnings", "suggestions"):
        print(f"{len(found[kind])} {kind}:")
        print("\n".join(f"  {' '.join(each)}" for each in found[kind]))
    print(f"{image} {found['build_id']}: index {found['index']} (aim {AIM}) of Lynis {found['version']}, "
          f"{found['tests']} tests, {found['minutes']} minutes")
    write_text(ROOT / f"build/bench/lynis-{image}.json", canonical(found))


if __name__ == "__main__":
    main()
