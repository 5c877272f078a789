"""Tests of a value: whether it is random, or was chosen as a password, and is no word, number, path
or code."""

from __future__ import annotations

import re

_FOLLOW = (
    "abcdgilmnprstu baeilosu caehiklortu daeiorsu eacdefgilmnprstvx faefiloru gaeinr haeio "
    "iabcdefglmnoprstvz kei ladeilostuy maeiopsu nacdefginostu obcdglmnoprstuvw paeiloprt qu "
    "racdegimnorstuy sacehilopstu tacehilorstuy uabceilmnprst vaei waei xt yp ze"
)
"""In each group a letter, and those that follow it. Counted in programs and their documentation,
these 200 pairs are 86 % of the pairs in words, and 30 % of the pairs in random letters."""
_PAIRS = frozenset(
    f"{group[0]}{after}".encode() for group in _FOLLOW.split() for after in group[1:]
)
_SURELY, _LIKELY = 3, 5
"""A value is random if its `_wordiness` is below minus its length divided by this. By the second,
99.5 % of 16 random letters and digits are."""
_REFERENCE = re.compile(
    rb"\$\w+(?:[/.:-].*)?|\$[{(\[].*|%[({].*|%\w+%?|\{[{%].*|&(?:lt|quot);.*|![01][,}].*"
    rb"|--?[a-z][a-z-]*|arn:.*|[a-z][a-z+.-]+://.*"
    rb"|<.*>|(?:~|\.{0,2})/[a-z.]{2,}/.*"
    rb"|(?:\d+:)?\d+\.\d+[\w.+~-]*|0x[0-9A-Fa-f]+[UL]*|[0-9A-F]{40}",
    re.DOTALL,
)
"""A variable, template, option, ARN, address, placeholder, path, version or number, or an OpenPGP
fingerprint."""
_PATH = re.compile(rb"([A-Za-z][a-z0-9_.-]{3,})/.*", re.DOTALL)
_CODE = re.compile(rb"((?:\w+(?:\.|->|::))*[A-Za-z_]\w{2,})[!?]?[(\[<].*", re.DOTALL)
"""A path, and a call or an index; the group is the word that each begins with."""
_ODD = re.compile(rb"[^\w./:,@ -]\w|\w[^\w./:,@ -]")
"""A symbol beside a letter, other than those that stand between words."""
_CHOSEN = re.compile(rb"[A-Za-z]\w*(?:\d[\w!?#*+$%&=~^@-]*\.?|[!?#*+$%&=~^]+[\w!?#*+$%&=~^-]*)")


def is_random(value: bytes, length: int = 8, per: int = _SURELY) -> bool:
    """Return whether it has at least `length` bytes, and few of them follow each other as in
    words."""
    return (
        len(value) >= length
        and len(set(value)) >= 6
        and _kinds(value) >= 2
        and not is_reference(value)
        and _wordiness(value) < -max(len(value) / per, 2)
    )


def is_chosen(value: bytes) -> bool:
    """Return whether a person may have chosen it as a password: it is random, or a word with a
    number or a symbol."""
    return is_random(value, per=_LIKELY) or (
        len(value) >= 8
        and len(set(value)) >= 5
        and _CHOSEN.fullmatch(value) is not None
        and not is_reference(value)
    )


def is_code(value: bytes) -> bool:
    """Return whether it continues like a program's source, with a call or an index."""
    begins = _CODE.fullmatch(value)
    return begins is not None and _wordiness(begins[1]) * 2 >= -len(begins[1])


def _kinds(value: bytes) -> int:
    """Return how many of lower case, capitals, digits and symbols it has."""
    kinds = (rb"[a-z]", rb"[A-Z]", rb"\d", rb"[^\w./:@,-]")
    return sum(re.search(kind, value) is not None for kind in kinds)


def is_reference(value: bytes) -> bool:
    """Return whether it only says where a value is, as a variable or a path does."""
    begins = _PATH.fullmatch(value)
    return _REFERENCE.fullmatch(value) is not None or (
        begins is not None and _wordiness(begins[1]) >= -1
    )


def _wordiness(value: bytes) -> float:
    """Return the evidence for words against chance, added up over all pairs of bytes."""
    score = 0.0
    for at in range(len(value) - 1):
        pair = value[at : at + 2]
        if pair.isalpha() and not (pair[:1].islower() and pair[1:].isupper()):
            score += 1 if pair.lower() in _PAIRS else -1.5
        elif pair.isdigit():
            continue
        elif pair.isalpha():
            score -= 1
        elif pair.isalnum():
            score -= 1.5
        elif _ODD.search(pair):
            score -= 1
    return score
