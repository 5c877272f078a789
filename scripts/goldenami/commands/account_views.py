"""What commands that look at an account have in common: which regions are asked, how it is printed, how it ends."""

from __future__ import annotations

from collections.abc import Iterable

from goldenami.aws import regions
from goldenami.aws.channels import launch_data
from goldenami.aws.channels.pointers import TemplateRef
from goldenami.aws.session import check_regions
from goldenami.commands.checkout import Checkout
from goldenami.core import records
from goldenami.core.errors import GoldenError
from goldenami.core.records import Record


def print_record(record: Record, lines: Iterable[str], as_json: bool) -> None:
    """The record as JSON, or its lines for a person."""
    text = records.canonical(record.model_dump(mode="json")) if as_json else "\n".join(lines) + "\n"
    print(text, end="", flush=True)


def images_by_region(checkout: Checkout, image: str | None, only: list[str]) -> dict[str, list[str]]:
    """The images that are published to each region, by their definitions; `only`: these regions, declared or not."""
    images: dict[str, list[str]] = {}
    for definition in checkout.definitions(image):
        for region in only or definition.regions:
            images.setdefault(region, []).append(definition.image)
    check_regions(images)
    return images


def template_refs(checkout: Checkout, image: str | None) -> dict[str, TemplateRef]:
    """The launch template of each image, by its definition."""
    return {definition.image: launch_data.template_of(definition) for definition in checkout.definitions(image)}


def raise_failed(failed: dict[str, GoldenError], what: str) -> None:
    """One error for the regions that failed, if any."""
    if failed:
        raise regions.combined_error(failed, what, "then run again", {})
