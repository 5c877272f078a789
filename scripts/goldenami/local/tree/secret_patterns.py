"""What keys, tokens and passwords look like in text: patterns of their issuers' own
documentation."""

from __future__ import annotations

import base64
import binascii
import re
import zlib

_WORD = r"[A-Za-z0-9_-]"
_KNOWN: dict[str, tuple[str, str]] = {
    "private key": ("private key",
                    r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----\s*[A-Za-z0-9+/=:,. -]{20}"),
    "private key in base64": (
        "mi|b3blb", r"\bMI[\w+/]{2,4}(?:IBADANBgkqhkiG9w0BAQEFAAS|IBAAKC)|\bMI[GH]\w{1,3}AgEAM"
        r"|b3BlbnNzaC1rZXktdjE"),
    "PuTTY key": ("putty-user-key", r"^PuTTY-User-Key-File-\d:"),
    "age key": ("age-secret-key", r"\bAGE-SECRET-KEY-1[0-9A-Z]{50,}"),
    "authorized key": (
        " aaaa",
        r"^(?:[^#\n]* )?(?:ssh-(?:rsa|ed25519|dss)|ecdsa-sha2-\S+|sk-\S+@openssh\.com) AAAA[A-Za-z0-9+/]{40,}"),
    "AWS key": ("akia|asia", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "GitHub token": ("gh|github_pat_",
                     r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,})"),
    "GitLab token": ("gl", rf"\bgl(?:pat|dt|rt|cbt|ptt|agent)-{_WORD}{{20,}}"),
    "Hugging Face token": ("hf_", r"\bhf_[A-Za-z0-9]{30,}"),
    "NGC key": ("nvapi-", rf"\bnvapi-{_WORD}{{20,}}"),
    "Slack token": ("xox", rf"\bxox[abeoprs]-{_WORD}{{10,}}"),
    "Google key": ("aiza|ya29.|1//0",
                   rf"\b(?:AIza{_WORD}{{35}}|ya29\.{_WORD}{{20,}}|1//0{_WORD}{{30,}})"),
    "Azure key": (
        "accountkey=|sharedaccesskey=|sig=",
        r"(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{40,}={0,2}|[?&]sig=[\w%+/]{40,}"),
    "Azure secret": ("q~", r"\b[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}"),
    "OpenAI or Anthropic key": ("sk-", rf"\bsk-(?:proj-|ant-[a-z0-9]+-|svcacct-)?{_WORD}{{32,}}"),
    "package index token": (
        "pypi-|npm_", rf"\b(?:pypi-AgE{_WORD}{{30,}}|npm_[A-Za-z0-9]{{30,}})"),
    "Docker token": ("dckr_", rf"\bdckr_[po]at_{_WORD}{{20,}}"),
    "registry login": (
        "\"auth\"|identitytoken|registrytoken",
        r"\"(?:auth|identitytoken|registrytoken)\"\s*:\s*\"[A-Za-z0-9+/=._-]{8,}\""),
    "Vault token": ("hvs.|hvb.|hvr.", rf"\bhv[sbr]\.{_WORD}{{20,}}"),
    "Terraform token": (".atlasv1.", rf"\b[A-Za-z0-9]{{14}}\.atlasv1\.{_WORD}{{40,}}"),
    "cloud token": (
        "_v1_|dapi|sg.|k_live_|glsa_|tskey-|shpat_|atatt3|lin_api_|pscale_|:aa",
        rf"\b(?:shpat_|ATATT3|lin_api_|pscale_\w+_){_WORD}{{20,}}|\b\d{{8,10}}:AA{_WORD}{{33}}|"
        rf"\b(?:do[opr]_v1_[a-f0-9]{{40,}}|dapi[a-f0-9]{{32}}|SG\.{_WORD}{{16,}}\.{_WORD}{{16,}}"
        rf"|[sr]k_live_[A-Za-z0-9]{{16,}}|glsa_[A-Za-z0-9]{{32}}_|tskey-[a-z]+-{_WORD}{{16,}})"),
    "JSON web token": ("eyj", rf"\beyJ{_WORD}{{10,}}\.eyJ{_WORD}{{10,}}\.{_WORD}{{10,}}"),
    "password hash": (
        "$|pbkdf2|sha", r"grub\.pbkdf2\.sha512\.\d+\.[0-9A-F]{40}|\{S?SHA\d*\}[\w+/=]{20,}|"
        r"SCRAM-SHA-\d+\$\d+:\S{20,}|"
        r"(?:^|[:\s\"'])\$(?:1|2[abxy]|5|6|7|y|argon2id?)\$[./A-Za-z0-9$,=+]{20,}|^[^:\s]+:\$apr1\$\S{20,}"),
    "password in an address": (
        "://", r"[a-z0-9]://[^\s/:@'\"<>${}()\[\]|\\]*:(?!(?i:pass(?:word)?|secret|token)@)"
        r"[^\s/:@'\"<>${}()\[\]|\\*]{3,}@[A-Za-z0-9\[]"),
    "token in an address": ("://", r"://(?=[a-z]*[A-Z0-9])[A-Za-z0-9_-]{20,}@[A-Za-z0-9]"),
    "webhook": (
        "hook", r"hooks\.slack\.com/services/T\w+/B\w+/\w{16,}|webhook\.office\.com/\S{20}|"
        r"/api/webhooks/\d+/[\w-]{40,}"),
    "authorization header": (
        "authorization",
        r"(?i:\bauthorization[\"']?\s*[:=]\s*[\"']?(?:basic|bearer|token)\s+[A-Za-z0-9+/=._-]{8,})"),
    "bearer token": ("bearer", r"(?i:\bbearer)\s+(?=[A-Za-z]*\d)[A-Za-z0-9._~+/=-]{20,}"),
    "netrc login": ("machine", r"^[ \t]*machine\s+\S+\s+login\s+\S+\s+password\s+\S+"),
}
"""By what they find: words, in lower case, of which one is in every such text, and the regular
expression."""
_PATTERNS = {kind: (tuple(word.encode() for word in words.split("|")),
                    re.compile(pattern.encode(), re.MULTILINE))
             for kind, (words, pattern) in _KNOWN.items()}

_NAMES = (b"pass", b"pw", b"secret", b"token", b"key", b"credential", b"psk", b"authtok",
          b"community")
_NAMED = re.compile(
    rb"""
    (?P<name>(?i:passw(?:or)?d|(?:bind|root)pw|(?:require|ssh)pass|passphrase
        |(?<![a-z])(?:pass|pw|pwd)|secret|token|credential|psk|authtok|community
        |(?:api|access|account|auth|private|secret|shared)[_-]?key)
        |(?<=[a-z])Pass|(?i:[_"'-]key)) s?(?![a-z]) (?P<more>[\w.-]{0,40}) ["'\]]*
    (?:(?P<gives>[ \t]*(?::=|=>|=|:|%3[Dd])[ \t]*(?:[|>]-?\n[ \t]+)?|["'],[ ]*|>|</key>\s*<string>
        |[\s,{]*["']?(?:[Vv]alue|default)["']?[ \t]*[:=][ \t]*)|[ \t]+(?:is[ \t]+)?)
    (?="(?P<quoted>[^"\s]{8,999})|'(?P<single>[^'\s]{8,999})|(?P<bare>[^\s"'<>,;&|(){}\[\]]{8,999}))""",
    re.VERBOSE,
)
"""A name that says secret, and a value, anywhere in a line. `more` of the name may deny it."""
_ARGUMENT = re.compile(
    rb"""
    (?:\b(?:sshpass|mongo\w*|7z|az)\s(?:[^\n|;]{0,99}?\s)?-p[ =]?
    |\b(?:mysql|mariadb)[\w-]*\s(?:[^\n|;]{0,99}?\s)?-p |\b(?:un)?zip\s[^\n|;]{0,99}?-P[ ]?
    |\b(?:sqlcmd|ipmitool)\s[^\n|;]{0,99}?\s-P[ ] |\bopenssl\s[^\n|;]{0,99}?\s-k[ ]
    |\b(?:docker|podman|helm|skopeo|oc)\s[^\n|;]{0,99}?login\s(?:[^\n|;]{0,99}?\s)?-p[ =]?
    |\b(?:curl|wget|http|lftp|java)\s(?:[^\n|;]{0,199}?\s)?
        (?:-u|-a|-auth|--user|--proxy-user)[ =]?["']?[\w.@-]+[:,]
    |\bredis-cli\s[^\n|;]{0,99}?-a[ ] |\bldap\w+\s[^\n|;]{0,99}?-w[ ]
    |\bsmb\w+\s[^\n|;]{0,99}?-U[ ]?\S+% |\b(?:wandb|vault)\s+login\s+
    |\bhtpasswd\s+-\w*b\w*\s+\S+\s+\S+\s+ |\brabbitmqctl\s+\w+\s+\S+\s+ |\bcreateUser\s+\S+\s+\S+\s+
    |\becho\s+["']?[\w.-]+:(?=[^\n|]{0,99}\|[ ]*(?:sudo\s)?chpasswd) |\bchpasswd\s*<<<\s*["']?[\w.-]+:
    |\becho\s+(?:-n\s+)?(?=[^\n|]{0,99}\|[^\n]{0,199}(?:\s-S\b|--password-stdin|--stdin))
    |\blist:[ ]*\|?\s+(?:-[ ])?[\w.-]+: |\]:\d+\s+[\w.@-]+:
    |^[\w.*-]+:(?:\d+|\*):[^\s:]+:[^\s:]+:)
    ["']?([^\s"'<>|;]{6,})""",
    re.MULTILINE | re.VERBOSE,
)
"""What is a password by its place: arguments of programs, the last field of .pgpass."""
_NO_VALUE = re.compile(
    rb"\$[\w{(].*|%[(\w].*|[`<*!{@-].*|~?\.{0,2}[\w*]*/.*|[a-z+]+://.*|arn:.*|[0-9A-F]{40}")
"""References, options, paths, addresses, and OpenPGP fingerprints."""
_WORDS = re.compile(
    rb"[A-Za-z]+(?:[._-]?\d+)*|(?:[A-Za-z]{2,}\d{0,4}[a-z]{0,5}|\d+)"
    rb"(?:[._:/@+-]+(?:[A-Za-z]{2,}\d{0,4}[a-z]{0,5}|[a-z]?\d*))*|[\d.:-]+")
_PLAIN = re.compile(rb"[A-Za-z]+|[A-Za-z]{2,}\d*(?:[._:/@-]+(?:[A-Za-z]{2,}\d*|\d+))+")
"""Names such as `scram-sha-256`; the second of values of what is hardly anything but secret."""
_NAMES_ONE = re.compile(rb"[\w.-]*(?i:id|arn|name|type|usage|path|file|alias)s?")
_IN_PATH, _IN_ARN = re.compile(rb"/[\w.-]*$"), re.compile(rb"\barn:[\w:/-]*$")
_WRAP = re.compile(
    rb"(?<=[A-Za-z0-9+/]{40})\r?\n[ \t]*(?=[A-Za-z0-9+/]{4,}={0,2}[ \t]*\r?$)", re.MULTILINE)
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{20,}={0,2}")
_DECODED_BYTES, _DEPTH = 1 << 20, 3


def found(text: bytes, depth: int = 0) -> str:
    """The first kind of secret in a text, or in what it has in base64; "" where there is none."""
    # In strings, as of JSON.
    text = re.sub(rb"(?<!\\)\\+([\"'/])", rb"\1", re.sub(rb"(?<!\\)\\+n", b"\n", text))
    lower = text.lower()
    for kind, (words, pattern) in _PATTERNS.items():
        if any(word in lower for word in words) and pattern.search(text):
            return kind
    if any(_looks_random(match[1], 6) for match in _ARGUMENT.finditer(text)):
        return "a password as an argument"
    if any(name in lower for name in _NAMES) and any(map(_is_secret, _NAMED.finditer(text))):
        return "a value of something secret"
    parts = _BASE64.findall(_WRAP.sub(b"", text)) if depth < _DEPTH else []
    inner = b"\n".join(filter(None, map(_decoded, parts)))
    return found(inner, depth + 1) if inner else ""


def _is_secret(match: re.Match[bytes]) -> bool:
    value = match["quoted"] or match["single"] or match["bare"]
    begins = match.string[max(0, match.start() - 99):match.start()]
    # Still a secret's name.
    more = re.sub(rb"(?i:[_-]?(?:access_?)?(?:key|token|password))$", b"", match["more"])
    if _NAMES_ONE.fullmatch(more) or _IN_ARN.search(begins):
        return False
    weak = more or match["name"][1:].lower() == b"key"
    if not match["gives"]:
        verb = match["name"].lower() in (b"pass", b"pw") and not begins.endswith((b"-", b"_"))
        if more or verb or not value.isascii() or _IN_PATH.search(begins):
            return False
    if weak or not match["gives"]:
        return _looks_random(value, 10 if weak else 8)
    in_no_case = len(re.findall(rb"[a-z][A-Z]", value)) * 4 > len(value)
    return len(set(value)) >= 5 and (in_no_case or re.search(rb"\d", value) is not None) \
        and not _NO_VALUE.fullmatch(value) and not _PLAIN.fullmatch(value)


def _looks_random(value: bytes, length: int) -> bool:
    """Whether a value is no word, number, version or path."""
    kinds = sum(any(low <= byte <= high for byte in value) for low, high in (b"az", b"AZ", b"09"))
    return len(value) >= length and kinds >= 2 and len(set(value)) >= 6 \
        and not _NO_VALUE.fullmatch(value) and not _WORDS.fullmatch(value)


def _decoded(text: bytes) -> bytes:
    """The text that base64 is of, also a compressed one; nothing where it is of something else."""
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4))
        if data.startswith(b"\x1f\x8b"):
            data = zlib.decompressobj(wbits=31).decompress(data, _DECODED_BYTES)
    except (binascii.Error, zlib.error):
        return b""
    return data if data.isascii() and b"\0" not in data else b""
