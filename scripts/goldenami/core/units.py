"""Numbers as people read them: three significant digits, binary bytes, minutes and hours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

GIB = 1 << 30
"""Bytes of a GiB."""
MINUS = "\N{MINUS SIGN}"
_BINARY = ("KiB", "MiB", "GiB", "TiB")


def _three_digits(value: float) -> str:
    if value < 9.995:
        return f"{value:.2f}"
    if value < 99.95:
        return f"{value:.1f}"
    return f"{value:.0f}"


def size(count: int) -> str:
    """Return a number of bytes as text: "812 B", "3.40 KiB", "1.23 GiB"."""
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in _BINARY:
        value /= 1024
        # 1023.5 would print as "1024 KiB": it is 1.00 MiB
        if value < 1023.5:
            return f"{_three_digits(value)} {unit}"
    return f"{value:.0f} {_BINARY[-1]}"


def duration(seconds: float) -> str:
    """Return seconds as text: "4.21 s", "41.2 s", "3 min 41 s", "1 h 04 min"."""
    if seconds < 59.95:
        return f"{_three_digits(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def clock(seconds: float) -> str:
    """Return seconds as a clock shows them: "1:18", "0:04"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def percent(part: float, whole: float) -> str:
    """Return the share of `part` in `whole` ("34 %", "0.4 %"), or "" if `whole` is 0."""
    if whole <= 0:
        return ""
    share = 100 * part / whole
    if share >= 9.95 or share == 0:
        return f"{share:.0f} %"
    if share >= 0.05:
        return f"{share:.1f} %"
    return "<0.1 %"


def change(now: float, before: float | None) -> str:
    """Return the growth since `before`: "+8 %", "=" if equal, "new" if there was none before; after
    a credit, which has no share, "more" or "less"."""
    if before is None:
        return "new"
    if now == before:
        return "="
    if before == 0:
        return "new"
    if before < 0:
        return "more" if now > before else "less"
    sign = "+" if now > before else MINUS
    return sign + percent(abs(now - before), before)


def dollars(usd: float | None, digits: int = 2) -> str:
    """Return US dollars as text: "$1,234.50", or "unknown" for None, never 0."""
    return "unknown" if usd is None else f"${usd:,.{digits}f}"


def price(usd: float | None, *, exact: bool, per: str = "") -> str:
    """Return a price in US dollars as text: "$1.20 a month", "<= $1.20" if it is an upper bound
    (not `exact`), or "price not known" for None."""
    if usd is None:
        return "price not known"
    bound = "" if exact else "<= "
    return f"{bound}${usd:.2f}{per}"


def total(amounts: Iterable[float | None]) -> float | None:
    """Return the sum of US dollars, or None if any amount is None."""
    all_amounts = list(amounts)
    if None in all_amounts:
        return None
    return sum(usd for usd in all_amounts if usd is not None)


def some(names: Sequence[str], limit: int) -> str:
    """Return the first `limit` names as text, and how many more there are."""
    text = ", ".join(names[:limit])
    if len(names) > limit:
        text += f" and {len(names) - limit} more"
    return text


def growth(count: int) -> str:
    """Return a difference in bytes as text: "12.0 MiB more", "3.00 KiB less", "no more and no
    less"."""
    if count > 0:
        return f"{size(count)} more"
    if count < 0:
        return f"{size(-count)} less"
    return "no more and no less"
