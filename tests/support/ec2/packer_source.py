"""The template's `amazon-ebs` source as it is, but that nobody logs in to what moto launches, or
turns it off."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from goldenami.local.machine import packer

from support.builds.tools import ROOT

_HERE = """\
  communicator            = "none"
  access_key              = "AKIAEMULATOR00000000"
  secret_key              = "none"
  skip_metadata_api_check = true

  aws_polling {
    delay_seconds = 1
    max_attempts  = 60
  }
}

build {
  sources = ["source.amazon-ebs.ec2"]
}
"""


def write(folder: Path) -> Path:
    """Write a template of it; returns its folder, below `folder`."""
    known, made = packer.templates(ROOT, folder), folder / "alone"
    made.mkdir()
    for name in ("variables.pkr.hcl", "locals.pkr.hcl"):
        shutil.copy(known / name, made)
    text = (known / "golden.pkr.hcl").read_text(encoding="utf-8")
    source = re.search(r'^source "amazon-ebs" "ec2" \{\n.*?^\}\n', text, re.MULTILINE | re.DOTALL)
    assert source is not None
    stops = source[0].replace("disable_stop_instance = true", "disable_stop_instance = false")
    (made / "golden.pkr.hcl").write_text(stops.removesuffix("}\n") + _HERE, encoding="utf-8")
    return made
