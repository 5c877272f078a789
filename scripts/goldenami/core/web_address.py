"""Web addresses without the login that they may hold, as errors, notes and command lines show
them."""

from __future__ import annotations

import base64
from urllib.parse import unquote, urlsplit


def without_login(address: str) -> tuple[str, str]:
    """Return the address without its login, and the login as the value of an `Authorization`
    header, or "" if there is none. An address that is not of HTTP stays as it is. Raises ValueError
    if `address` is none."""
    parts = urlsplit(address)
    login, at, host = parts.netloc.rpartition("@")
    if not at or parts.scheme not in ("http", "https"):
        return address, ""
    return parts._replace(
        netloc=host
    ).geturl(), f"Basic {base64.b64encode(unquote(login).encode()).decode()}"
