"""A web address without the login that it may hold: what errors, notes and command lines show."""

from __future__ import annotations

import base64
from urllib.parse import unquote, urlsplit


def without_login(address: str) -> tuple[str, str]:
    """The address, and its login as the value of an `Authorization` header, or "". ValueError where
    it is no address; what is not of HTTP stays as it is."""
    parts = urlsplit(address)
    login, at, host = parts.netloc.rpartition("@")
    if not at or parts.scheme not in ("http", "https"):
        return address, ""
    return parts._replace(
        netloc=host
    ).geturl(), f"Basic {base64.b64encode(unquote(login).encode()).decode()}"
