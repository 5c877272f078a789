"""Make the layers of a plan's steps while its modules compile: `python -m
goldenami.local.programs.early_layers PLAN`.

The bake then finds them in the cache. If one turns out to be damaged, the bake goes on from there.
"""

from __future__ import annotations

import contextlib
import sys

from goldenami.local.programs import step_layers
from goldenami.local.sandbox import program
from goldenami.local.tree import layers
from goldenami.model.builds.plans import BakePlan, BakeResult


def make(plan: BakePlan) -> BakeResult:
    """Make the layers of all steps. The result names those that were there already."""
    with layers.Stack(plan.layers, say=step_layers.say) as stack:
        with contextlib.suppress(layers.DamagedLayer):
            step_layers.build_layers(plan, stack, plan.steps)
        return BakeResult(layers=stack.reused)


if __name__ == "__main__":
    sys.exit(program.serve(BakePlan, make))
