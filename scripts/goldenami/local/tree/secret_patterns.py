"""What keys, tokens and passwords look like in text: patterns of their issuers' own documentation."""

from __future__ import annotations

import re

_WORD = r"[A-Za-z0-9_-]"
_KNOWN: dict[str, tuple[str, str]] = {
    "private key": ("private key", r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----\s+[A-Za-z0-9+/=:. -]{20}"),
    "PuTTY key": ("putty-user-key", r"^PuTTY-User-Key-File-\d:"),
    "age key": ("age-secret-key", r"\bAGE-SECRET-KEY-1[0-9A-Z]{50,}"),
    "authorized key": (
        " aaaa",
        r"^(?:[^#\n]* )?(?:ssh-(?:rsa|ed25519|dss)|ecdsa-sha2-\S+|sk-\S+@openssh\.com) AAAA[A-Za-z0-9+/]{40,}"),
    "AWS key": ("akia|asia", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "AWS secret": ("aws", r"(?i:aws_?(?:secret_access_key|session_token))[\"']?\s*[=:]\s*[\"']?[A-Za-z0-9+/=]{16,}"),
    "GitHub token": ("gh|github_pat_", r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,})"),
    "GitLab token": ("gl", rf"\bgl(?:pat|dt|rt|cbt|ptt|agent)-{_WORD}{{20,}}"),
    "Hugging Face token": ("hf_", r"\bhf_[A-Za-z0-9]{30,}"),
    "NGC key": ("nvapi-", rf"\bnvapi-{_WORD}{{20,}}"),
    "Slack token": ("xox", rf"\bxox[abeoprs]-{_WORD}{{10,}}"),
    "Google key": ("aiza|ya29.|1//0", rf"\b(?:AIza{_WORD}{{35}}|ya29\.{_WORD}{{20,}}|1//0{_WORD}{{30,}})"),
    "Azure key": ("accountkey=|sharedaccesskey=", r"(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{40,}={0,2}"),
    "Azure secret": ("q~", r"\b[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}"),
    "OpenAI or Anthropic key": ("sk-", rf"\bsk-(?:proj-|ant-[a-z0-9]+-|svcacct-)?{_WORD}{{32,}}"),
    "package index token": (
        "pypi-|npm_|_authtoken", rf"\b(?:pypi-AgE{_WORD}{{30,}}|npm_[A-Za-z0-9]{{30,}}|_authToken\s*=\s*\S{{8,}})"),
    "Docker token": ("dckr_", rf"\bdckr_[po]at_{_WORD}{{20,}}"),
    "registry login": (
        "\"auth\"|identitytoken|registrytoken",
        r"\"(?:auth|identitytoken|registrytoken)\"\s*:\s*\"[A-Za-z0-9+/=._-]{8,}\""),
    "Vault token": ("hvs.|hvb.|hvr.", rf"\bhv[sbr]\.{_WORD}{{20,}}"),
    "Terraform token": (".atlasv1.", rf"\b[A-Za-z0-9]{{14}}\.atlasv1\.{_WORD}{{40,}}"),
    "cloud token": (
        "_v1_|dapi|sg.|k_live_|glsa_|tskey-",
        rf"\b(?:do[opr]_v1_[a-f0-9]{{40,}}|dapi[a-f0-9]{{32}}|SG\.{_WORD}{{16,}}\.{_WORD}{{16,}}"
        rf"|[sr]k_live_[A-Za-z0-9]{{16,}}|glsa_[A-Za-z0-9]{{32}}_|tskey-[a-z]+-{_WORD}{{16,}})"),
    "JSON web token": ("eyj", rf"\beyJ{_WORD}{{10,}}\.eyJ{_WORD}{{10,}}\.{_WORD}{{10,}}"),
    "password hash": (
        "$", r"(?:^|[:\s\"'])\$(?:1|2[abxy]|5|6|7|y|argon2id?)\$[./A-Za-z0-9$,=+]{20,}|^[^:\s]+:\$apr1\$\S{20,}"),
    "password in an address": (
        "://", r"[a-z]://[^\s/:@'\"<>${}()\[\]|\\]*:[^\s/:@'\"<>${}()\[\]|\\*]{3,}@[A-Za-z0-9\[]"),
    "authorization header": (
        "authorization", r"(?i:\bauthorization[\"']?\s*[:=]\s*[\"']?(?:basic|bearer|token)\s+[A-Za-z0-9+/=._-]{8,})"),
    "netrc login": ("machine", r"(?:^|\s)machine\s+\S+\s+login\s+\S+\s+password\s+\S+"),
    "cloud login": (
        "client|refresh|private_key_id",
        r"(?:client-key-data|refresh_?[tT]oken|client_?[sS]ecret|private_key_id)[\"']?\s*[:=]\s*[\"']?[\w+/=.~-]{12,}"),
}
"""By what they find: words, in lower case, of which one is in every such text, and the regular expression."""
_PATTERNS = {kind: (tuple(word.encode() for word in words.split("|")), re.compile(pattern.encode(), re.MULTILINE))
             for kind, (words, pattern) in _KNOWN.items()}

_NAMES = (b"passw", b"passphrase", b"secret", b"token", b"key", b"credential", b"psk")
_ASSIGNED = re.compile(
    rb"^[ \t]*(?:export\s+|set\s+-\S+\s+|Environment=[\"']?|-\s+)?[\"']?[\w.\[\]-]*"
    rb"(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|credentials?|psk|[_\"'-]key)"
    rb"[\w.-]*[\"']?[ \t]*(?::=|=|:|[ \t])[ \t]*[\"']?([A-Za-z0-9+/=_.!@#%^&~-]{10,})[\"']?[,;]?[ \t]*$", re.IGNORECASE)
"""A line that gives something secret by name a value; `_looks_random` says whether that is more than a word."""
_OPTION = re.compile(
    rb"(?:^|[\s,;&?\"'])(?:pass(?:word|wd)?|pwd|secret|token|api_?key)=([^\s,;&\"']{10,})", re.IGNORECASE)
"""The same among other options of a line."""
_WORDS = re.compile(rb"[A-Za-z]+(?:[._-]?\d+)*|/.*")


def found(text: bytes) -> str:
    """What is secret in a text: the kind of the first, "" where there is none."""
    lower = text.lower()
    for kind, (words, pattern) in _PATTERNS.items():
        if any(word in lower for word in words) and pattern.search(text):
            return kind
    if any(name in lower for name in _NAMES):
        for line in text.splitlines():
            if (match := _ASSIGNED.match(line) or _OPTION.search(line)) and _looks_random(match[1]):
                return "a value of something secret"
    return ""


def _looks_random(value: bytes) -> bool:
    """Whether a value is no word, number, version or path: letters of both cases or digits among them, in no order."""
    kinds = sum(any(low <= byte <= high for byte in value) for low, high in (b"az", b"AZ", b"09"))
    return kinds >= 2 and len(set(value)) >= 6 and not _WORDS.fullmatch(value)
