"""`python -m support.builds.checks_at_rest ROOT BUILD WORK`: ask the checks that need no boot of a
build's disk, as `verify` does, but measure nothing, and print each one's outcome as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from goldenami.local.checks import image_tests
from goldenami.local.checks.image_tests import ImageTests
from goldenami.local.programs import disk_at_rest
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.locked import lockfile


def outcomes(root: Path, build: BuildFolder, work: Path) -> dict[str, str]:
    """The outcome of each check by its id, with its detail where it is not `correct`."""
    roles = lockfile.read_copy(build.lock)[0].roles
    with (
        disk_at_rest.root_tree(build.disk, work / "root") as tree,
        ImageTests(root, roles, build.variables, work, work / "log").running(
            [*image_tests.without_boot(tree), "-k", "not are_measured"]
        ) as tests,
    ):
        return {
            check.id: f"{check.outcome} {check.detail}".strip()
            if check.outcome != "correct"
            else "correct"
            for check in tests.checks()
        }


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:]]
    print(json.dumps(outcomes(given[0], BuildFolder(given[1]), given[2])))
