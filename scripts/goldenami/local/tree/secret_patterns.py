"""Forms of keys, tokens and passwords in text: by the prefixes of their issuers, by their form, by
the program that takes them, and by a name that says secret.

Each row has a name and an example, in which `…40` stands for 40 random characters. A row is tried
only if one of its words is in the text in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from goldenami.local.tree import packed_text, secret_values

ISSUED = {
    "Anthropic or OpenAI key": "sk-ant-api03- sk-proj- sk-svcacct- sk-",
    "Atlassian token": "ATATT3",
    "Databricks token": "dapi",
    "DigitalOcean token": "dop_v1_ doo_v1_ dor_v1_",
    "Docker token": "dckr_pat_ dckr_oat_",
    "GitHub token": "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
    "GitLab token": "glpat- gldt- glrt- glcbt- glptt- glagent-",
    "Google key": "AIza ya29. 1//0",
    "Grafana token": "glsa_ glc_",
    "Hugging Face token": "hf_",
    "Linear key": "lin_api_",
    "NGC key": "nvapi-",
    "PlanetScale password": "pscale_pw_ pscale_tkn_ pscale_oauth_",
    "SendGrid key": "SG.",
    "Shopify token": "shpat_",
    "Slack token": "xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs- xapp-",
    "Stripe key": "sk_live_ rk_live_",
    "Tailscale key": "tskey-auth- tskey-api- tskey-client-",
    "Vault token": "hvs. hvb. hvr.",
    "package index token": "pypi-AgE npm_",
}
"""Beginnings of tokens, by issuer. At least 20 random letters, digits, dots or dashes follow."""


class Row(NamedTuple):
    """A form of a secret. If the expression has a group, the group has to be random, too."""

    name: str
    words: str
    expression: str
    example: str


FORMS = (
    Row(
        "private key",
        "private key",
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----\s*(?!-)[\w+/=:,. -]{20}",
        "-----BEGIN RSA PRIVATE KEY-----\n…64",
    ),
    Row(
        "RSA key in base64",
        "mii",
        # PKCS #8, and PKCS #1.
        r"\bMI[\w+/]{2,4}(?:IBADANBgkqhkiG9w0BAQEFAAS|IBAAKC)",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
    ),
    Row("elliptic key in base64", "ageam", r"\bMI[GH]\w{1,3}AgEAM", "MIGHAgEAMBMGByqGSM49"),
    Row("OpenSSH key in base64", "b3blb", "b3BlbnNzaC1rZXktdjE", "b3BlbnNzaC1rZXktdjEAAAAA"),
    Row(
        "private key of PuTTY",
        "putty-user-key",
        r"^PuTTY-User-Key-File-\d:",
        "PuTTY-User-Key-File-3: ssh-rsa",
    ),
    Row(
        "private key of age",
        "age-secret-key",
        r"\bAGE-SECRET-KEY-1[0-9A-Z]{50,}",
        "AGE-SECRET-KEY-1…U58",
    ),
    Row(
        "authorized key",
        " aaaa",
        r"^(?:[^#\n]* )?(?:ssh-(?:rsa|ed25519|dss)|ecdsa-sha2-\S+|sk-\S+@openssh\.com)"
        r" AAAA[A-Za-z0-9+/]{40,}",
        "ssh-ed25519 AAAA…64 ada@laptop",
    ),
    Row("AWS key", "akia|asia", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", "AKIA…U16"),
    Row(
        "Azure key",
        "accountkey=|sharedaccesskey=",
        "(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{40,}",
        "AccountKey=…86==",
    ),
    Row("Azure signature", "sig=", r"[?&]sig=[\w%+/]{40,}", "?sv=1&sig=…43%3D"),
    Row("Azure secret", "q~", r"\b[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}", "abc8Q~…34"),
    Row("Telegram token", ":aa", r"\b\d{8,10}:AA[\w-]{33}", "123456789:AA…33"),
    Row("Terraform token", ".atlasv1.", r"\b\w{14}\.atlasv1\.[\w-]{40,}", "…14.atlasv1.…60"),
    Row(
        "JSON web token", "eyj", r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}", "eyJ…20.eyJ…40.…43"
    ),
    Row(
        "registry login",
        'auth"|identitytoken|registrytoken',
        r'"(?:auth|identitytoken|registrytoken)"\s*:\s*"[\w+/=.-]{8,}"',
        '"auth": "…24"',
    ),
    Row(
        "password hash of GRUB",
        "grub.pbkdf2",
        r"grub\.pbkdf2\.sha512\.\d+\.[0-9A-F]{40}",
        "grub.pbkdf2.sha512.10000.…X64",
    ),
    Row("password hash of LDAP", "sha", r"\{S?SHA\d*\}[\w+/=]{20,}", "{SSHA}…32"),
    Row(
        "password hash of PostgreSQL",
        "scram-sha-",
        r"SCRAM-SHA-\d+\$\d+:\S{20,}",
        "SCRAM-SHA-256$4096:…44",
    ),
    Row("password hash of Apache", "$apr1$", r"^[^:\s]+:\$apr1\$\S{20,}", "ada:$apr1$…8$…22"),
    Row(
        "password hash",
        "$",
        # MD5, bcrypt, SHA-256, SHA-512, scrypt, yescrypt, Argon2.
        r"(?:^|[:\s\"'])\$(?:1|2[abxy]|5|6|7|y|argon2id?)\$[\w./$,=+]{20,}",
        "ada:$6$…8$…86:1",
    ),
    Row(
        "password in an address",
        "://",
        # Neither the name alone (`https://ada:password@`) nor a variable (`https://ada:${PASS}@`).
        r"[a-z0-9]://[^\s/:@'\"<>${}()\[\]|\\]*:(?!(?i:pass(?:word)?|secret|token)@)"
        r"[^\s/:@'\"<>${}()\[\]|\\*]{3,}@[A-Za-z0-9\[]",
        "https://ada:…8@host.example/",
    ),
    Row(
        "token in an address",
        "://",
        r"://(?=[a-z]*[A-Z0-9])[\w-]{20,}@[A-Za-z0-9]",
        "https://…24@host.example/",
    ),
    Row(
        "webhook of Slack",
        "hooks.slack",
        r"hooks\.slack\.com/services/T\w+/B\w+/\w{16,}",
        "hooks.slack.com/services/T…U8/B…U8/…24",
    ),
    Row(
        "webhook of Teams",
        "webhook.office",
        r"webhook\.office\.com/\S{20}",
        "x.webhook.office.com/webhookb2/…32",
    ),
    Row(
        "webhook of Discord",
        "/api/webhooks",
        r"/api/webhooks/\d+/[\w-]{40,}",
        "/api/webhooks/123/…60",
    ),
    Row(
        "authorization header",
        "authorization",
        r"(?i:\bauthorization[\"']?\s*[:=]\s*[\"']?(?:basic|bearer|token))"
        r"\s+([\w+/=.-]{8,})",
        "Authorization: Basic …24",
    ),
    Row(
        "licence key",
        "licen|activation|product|registration|serial|unlock",
        # Groups of capitals and digits as vendors print them, which need not be random; not the
        # XXXX-XXXX of their pages.
        r"(?i:licen[cs]e(?:[_-]?(?:key|code|string))?"
        r"|(?:activation|product|registration|serial|unlock)[_-]?(?:key|code))[^\w\n]{1,9}"
        r"(?!(?:X+-)+X)(?:[A-Z0-9]{2,8}-)?"
        r"(?:[A-Z0-9]{4}(?:-[A-Z0-9]{4}){3,}|[A-Z0-9]{5}(?:-[A-Z0-9]{5}){3,}|[0-9A-F]{40})(?![\w-])",
        "licenseKey: 12345-ABCDE-67890-…U5-…U5",
    ),
    Row("bearer token", "bearer", r"(?i:\bbearer)\s+([\w.~+/=-]{20,})", "bearer …32"),
    Row(
        "netrc login",
        "machine",
        r"^[ \t]*machine\s+\S+\s+login\s+\S+\s+password\s+\S+",
        "machine x login ada password …8",
    ),
)
"""Secrets that are recognised by their form."""
PROGRAMS = {
    "sshpass mongo mongosh mongodump 7z az mysql mysqldump mysqladmin mariadb mariadb-dump": "-p",
    "docker podman helm skopeo oc": "-p",
    "zip unzip sqlcmd ipmitool": "-P",
    "openssl": "-k pass:",
    "redis-cli": "-a",
    "ldapsearch ldapadd ldapmodify ldapwhoami ldappasswd": "-w",
    "smbclient smbget rpcclient": "-U*%",
    "curl wget http https java": "-u*: -a*: -auth*: --user*: --proxy-user*:",
    "lftp": "-u*,",
    "wandb vault": "login",
}
"""Programs, and the options before a password. `*` stands for what is between them."""
FIELDS = (
    Row(
        "htpasswd",
        "htpasswd",
        r"\bhtpasswd\s+-\w*b\w*\s+\S+\s+\S+\s+",
        "htpasswd -cb /etc/x ada …8",
    ),
    Row("rabbitmqctl", "rabbitmqctl", r"\brabbitmqctl +\w+ +\S+ +", "rabbitmqctl add_user a …8"),
    Row(
        "user of SNMP",
        "createuser",
        r"(?i:\bcreateUser)(?:[ \t]+\S+){2}\s",
        "createUser a SHA …8 AES",
    ),
    Row(
        "PowerShell",
        "securestring",
        r"(?i:-SecureString)\s+(?:-String\s+)?",
        "ConvertTo-SecureString '…12'",
    ),
    Row(
        "chpasswd",
        "chpasswd",
        # By a pipe, and by a here-string: `chpasswd <<< ada:…`.
        r"\becho\s+[\"']?[\w.-]+:(?=[^\n|]{0,99}\| *(?:sudo\s)?chpasswd)"
        r"|\bchpasswd\s*<<<\s*[\"']?[\w.-]+:",
        "echo 'ada:…8' | chpasswd",
    ),
    Row(
        "standard input",
        "echo",
        # `sudo -S`, `docker login --password-stdin`, `passwd --stdin`.
        r"\becho\s+(?:-n\s+)?(?=[^\n|]{0,99}\|[^\n]{0,199}"
        r"(?:\s-S\b|--password-stdin|--stdin))",
        "echo …8 | docker login -u a --password-stdin",
    ),
    Row(
        "users of cloud-init",
        "list:",
        r"\blist: *\|?\s+(?:- )?[\w.-]+:",
        "chpasswd:\n  list: |\n    ada:…8",
    ),
    Row(
        "debconf",
        "password",
        r"^(?:[\w.+-]+\s+)?[\w.+-]+/\S+\s+password\s+",
        "mysql mysql/root password …12",
    ),
    Row("postfix", "]:", r"\]:\d+\s+[\w.@-]+:", "[smtp.example]:587 ada:…8"),
    Row(".pgpass", ":", r"^[\w.*-]+:(?:\d+|\*):[^\s:]+:[^\s:]+:", "db.example:5432:app:ada:…8"),
    Row("rsync", "secrets", r"secrets: +[\w.-]+:", "secrets: ada:…8"),
)
"""Commands and files in which a password has its place: the expression is for what stands before
it."""
STEMS = (
    "pass",
    "pw",
    "secret",
    "token",
    "key",
    "credential",
    "psk",
    "authtok",
    "community",
    "cookie",
    "activation",
    "licen",
)
"""Parts of names that say secret: each such name has one of them."""
_LONG_NAMES = (
    "passw(?:or)?d",  # passwd, PASSWORD
    "passphrase",
    "secret",  # client_secret
    "token",  # GITHUB_TOKEN
    "credential",  # credentials
    "psk",  # wpa_psk
    "authtok",  # ldap_default_authtok
    "community",  # rocommunity of SNMP
    "activation[_-]?code",
)
"""Parts of names that are those of a secret wherever they stand."""
_SURE = "|".join(
    (
        f"(?i:{'|'.join(_LONG_NAMES)})",
        "(?<![a-z])(?:pass|pwd?)",  # db_pass, pw: not compass
        "(?<![A-Z])(?:Pass|PASS|Pwd?|PWD?)",  # dbPass, DB_PWD: not BYPASS
    )
)
_UNSURE = "(?i:key|cookie|pass|pwd?|licen[cs]e[_-]?code)"
"""Names of secrets, and names whose value is a secret only if it is random."""
_KINDS_OF_KEYS = (
    "api",  # api_key
    "access",  # AccessKey
    "account",
    "activation",
    "auth",
    "encryption",
    "licen[cs]e",  # license_key, licence-key
    "master",
    "private",
    "secret",
    "shared",
    "signing",
)
_OWNERS_OF_PASSWORDS = (
    "admin",  # adminpass
    "bind",
    "db",
    "ftp",
    "ldap",
    "mail",
    "my",
    "pg",  # pgpass
    "require",  # requirepass of Redis
    "root",  # rootpw
    "smtp",
    "sql",
    "ssh",
    "user",
)
_QUALIFIED = re.compile(
    f"(?i:(?:{'|'.join(_KINDS_OF_KEYS)})[_-]?k|(?:{'|'.join(_OWNERS_OF_PASSWORDS)})p)$".encode()
)
"""Text up to a short name's first letter that makes the name sure: `api_k` of api_key, `rootp` of
rootpw."""
_IN_WORD = re.compile(rb"[a-z]{2}$|[A-Z]{2}$")
"""Text up to a short name's first letter that makes it a part of a longer word: `nk` of monkey."""
GIVES = {
    "assignment": r"[ \t]*(?:[=!]?={1,2}|:=|=>|:|%3[Dd])[ \t]*(?:[|>]-?\n[ \t]+)?",
    "declaration": r"[ \t]*:[ \t]*&?[A-Za-z][\w\[\].]{0,30}[ \t]*=[ \t]*",
    "argument": r"[\"'],[ ]*(?=[bru]?[\"'])",
    "element": r">(?:<!\[CDATA\[)?|</\w+>\s*<\w+>",
    "attribute": r"[\s,{]*[\"']?(?:[Vv]alue|default)[\"']?[ \t]*[:=][ \t]*",
}
"""Ways in which a name is given a value."""
_ENDS = r"[\s,;:)}\]<]|$"
"""What follows the quotation mark that ends a value; any other one is in the value."""
_WORD_ENDS = "(?:(?<=[a-z])(?![a-z])|(?<=[A-Z])(?![A-Za-z]))"
"""The end of a name's word: `api_key2`, `tokenFile`, not `keyboard` or `Tokenizer`."""
_GIVEN = "|".join(sorted(GIVES.values(), key=len, reverse=True))
_IN_PROSE = r"[ \t]+(?:is[ \t]+)?"
"""What stands between name and value in a sentence or after an option: "the password is hunter2",
`--token abc`."""
_QUOTED = rf'"(?P<quoted>(?:[^\s"]|"(?!{_ENDS})){{8,999}})"'
_SINGLE = rf"'(?P<single>(?:[^\s']|'(?!{_ENDS})){{8,999}})'"
_BARE = r"""(?P<bare>(?!["'])(?:[^\s<]|<(?!/)){8,999})"""
"""Values of at least 8 characters: "hunter2hunter2", 'hunter2hunter2' and hunter2hunter2. A bare
one goes up to a closing tag or a space."""
_NAMED = re.compile(
    rf"""
    (?:(?P<sure>{_SURE})|{_UNSURE}) [sS]?{_WORD_ENDS}
    (?P<more>[\w.-]{{0,40}}+) ["'\]]*?
    (?:(?P<gives>{_GIVEN})|{_IN_PROSE})
    [\[(]?[bru]?(?:
        {_QUOTED}|{_SINGLE}
        |{_BARE})
    """.encode(),
    re.VERBOSE,
)
"""A name that may be a secret's, and its value. `more` is the rest of the name: `_file` of
token_file."""
_OTHER = re.compile(
    # public_key, verify_token, cache_key, sort_key, hostkey; `k` is the first letter of `key`.
    rb"(?i:pub|public|verify\w*|cache|sort|partition|primary|foreign|host)[_-]?\w$"
    # arn:aws:secretsmanager:eu-west-1:1:secret
    rb"|\barn:[\w:/-]*$"
)
# key_id, secret_arn, token_type, password-file, SecretName, token_url
_DENIED = re.compile(rb"[\w.-]*(?i:id|arn|name|type|usage|path|file|alias|fingerprint|url)s?")
"""Texts before and behind a name with which it is no secret's."""
_NAME = re.compile(rb"[Pp]assw|PASSW|[Ss]ecret|SECRET|[Tt]oken|TOKEN|[Kk]ey|KEY|PSK|pwd|[Cc]ookie")
"""Text that shows that a value is itself a name."""
_VERB = re.compile(rb"(?i:pass|pwd?)\b")
_OPTION, _IN_PATH = re.compile(rb"(?:^|\s)--?[\w-]*$"), re.compile(rb"/[\w.-]*$")
_DEPTH = 3
"""Levels of encoding in which a text is searched."""
ARGUMENT = "a password as an argument"
_VALUE = r"[\"']?([^\s\"'<>|;]{6,})"


def _issued(begins: list[str]) -> str:
    """Return the expression of tokens with these beginnings."""
    # Neither within another value in base64, nor as the digest in a wheel's RECORD.
    return rf"(?<![A-Za-z0-9_-])(?<!sha256=)(?:{'|'.join(map(re.escape, begins))})([\w.-]{{20,}})"


def _program(names: str, options: list[str]) -> str:
    """Return the expression of a password after one of `options` of one of the programs `names`."""
    any_option = "|".join(
        re.escape(option).replace(r"\*", r"[ =]?[\"']?[\w.@-]+") for option in options
    )
    return (
        rf"\b(?:{names.replace(' ', '|')})\s(?:[^\n|;]{{0,199}}?\s)?(?:{any_option})[ =]*{_VALUE}"
    )


_ROWS = [
    *FORMS,
    *(
        Row(name, "|".join(begins.split()), _issued(begins.split()), begins)
        for name, begins in ISSUED.items()
    ),
    *(
        Row(ARGUMENT, re.sub(r"\*\S*| ", "|", options), _program(names, options.split()), options)
        for names, options in PROGRAMS.items()
    ),
    *(row._replace(name=ARGUMENT, expression=f"(?:{row.expression}){_VALUE}") for row in FIELDS),
]
"""All rows, in the order in which a text is searched for them."""
_PATTERNS = [
    (
        row.name,
        list(filter(None, row.words.lower().encode().split(b"|"))),
        re.compile(row.expression.encode(), re.MULTILINE),
    )
    for row in _ROWS
]
"""Name, words in lower case, and compiled expression of each row."""


def in_file(data: bytes) -> str:
    """Return the first kind of secret in a file, or ""."""
    text, is_text = packed_text.readable(data)
    # Programs and databases have words and test values side by side, which look like arguments and
    # hashes.
    return found(text, without=() if is_text else (ARGUMENT, "password hash"))


def found(text: bytes, depth: int = 0, without: Collection[str] = ()) -> str:
    """Return the first kind of secret in a text, or in what it encodes, except the kinds `without`;
    "" if there is none."""
    text = packed_text.unescaped(text)
    if kind := next((kind for kind in kinds(text) if kind not in without), ""):
        return kind
    inner = packed_text.inner(text) if depth < _DEPTH else b""
    return found(inner, depth + 1, without) if inner else ""


def kinds(text: bytes) -> Iterator[str]:
    """Yield the kinds of secrets in a text, without what it encodes."""
    lower = text.lower()
    for kind, words, pattern in _PATTERNS:
        if any(word in lower for word in words) and any(map(_is_made, pattern.finditer(text))):
            yield kind
    # A search for the stems is fast; the large expression then runs only at the places where one
    # is.
    if any(_names_secret(text, lower, word.encode()) for word in STEMS):
        yield "a value of something secret"


def _names_secret(text: bytes, lower: bytes, stem: bytes) -> bool:
    """Return whether a name with this stem gives a secret; `lower` is the text in lower case."""
    for place in re.finditer(stem, lower):
        match = _NAMED.match(text, place.start())
        if match and _is_secret(match):
            return True
    return False


def _is_made(match: re.Match[bytes]) -> bool:
    """Return whether a match's group, if it has one, is random."""
    return match.re.groups == 0 or secret_values.is_random(match[1], 6)


def _is_secret(match: re.Match[bytes]) -> bool:
    """Return whether a name says secret, and its value looks like one."""
    before = match.string[max(0, match.start() - 99) : match.start() + 1]
    # `secret_access_key` is still a secret's name.
    more = re.sub(rb"(?i:[_-]?(?:access_?)?(?:key|token|password))$", b"", match["more"])
    qualified = _QUALIFIED.search(before) is not None
    sure = match["sure"] is not None or qualified
    if _OTHER.search(before) or _DENIED.fullmatch(more) or (not sure and _IN_WORD.search(before)):
        return False
    sure = sure and not more
    if not match["gives"] and _OPTION.search(before) is None:
        # In prose, such as "the password is", a path or the verb "pass" names no secret.
        if not sure or _IN_PATH.search(before) or (not qualified and _VERB.match(match[0])):
            return False
    elif sure:
        return any(map(secret_values.is_chosen, _values(match)))
    length = 8 if sure else 10
    return any(
        secret_values.is_random(value, length) and not _NAME.search(value)
        for value in _values(match)
    )


def _values(match: re.Match[bytes]) -> list[bytes]:
    """Return the values that a name may be given: the rest of the line, and its part up to a sign
    that ends a value."""
    if value := match["quoted"] or match["single"]:
        return [value]
    whole = match["bare"].rstrip(b"\"'>,.;)]}")
    first = re.split(rb"[\"',;&|(){}\[\]]", whole)[0]
    if secret_values.is_reference(whole) or secret_values.is_code(whole) or _NAME.search(first):
        return []
    return [first, whole] if match["sure"] and match["gives"] and len(whole) <= 64 else [first]
