"""Parts of the site: costs and the digest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goldenami_fleet.costs import cost_review
from goldenami_fleet.costs.cost_review import REVIEW_FILE
from goldenami_fleet.digest import digest, digest_views
from goldenami_fleet.digest.digest import DIGEST_FILE

RECORDS = (REVIEW_FILE, DIGEST_FILE)
"""Names of the records that the site's bucket keeps for them."""


def parts(folder: Path) -> dict[str, Any]:
    """Return what the template of the site takes, or None for a part without a record."""
    return {
        "costs": cost_review.part_of_site(folder),
        "digest": digest_views.part_of_site(digest.newest(folder)),
    }
