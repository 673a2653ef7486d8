"""Text that may leave the box: what is, or looks like, a secret is taken out of it.

Twice: by the key it stands under (`without_secrets`, for configurations) and by its look, in every
line of text (`scrub`). In doubt more is removed than needed: a support request can be asked about,
a token cannot be taken back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml

REMOVED = "(removed)"

_SECRET_KEY = re.compile(
    r"(?i)(?:^|[_.-])(?:token|secret|password|passwd|pwd|passphrase|api[_-]?keys?|auth|credentials?"
    r"|webhook|cookie|hash|private[_-]?key)(?:$|[_.-])"
)
_WHOLE_KEYS = frozenset({"environment", "command", "body"})
"""Settings whose values are other programs' and may hold anything."""
_NAMED_ROWS = "api_keys"
"""A list of named keys: the names stay."""

_PLAIN_VARIABLES = frozenset(
    {"HOME", "USER", "LOGNAME", "PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_CACHE_HOME"}
)
"""Environment variables that hold no secret; any other may."""

_WORDS = (
    r"token|secret|passw(?:or)?d|passwd|pwd|passphrase|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|credential|webhook|cookie|sessdata|bili_jct|signature"
)
_VALUE = r"(?:\"(?:[^\"\\\n]|\\.)*\"?|'(?:[^'\\\n]|\\.)*'?|[^\s\"',;}\])]+)"

Replace = str | Callable[[re.Match[str]], str]


def _environment(match: re.Match[str]) -> str:
    """`Environment=` of a unit: names stay, values only where they are known to be harmless."""
    names = re.findall(r"(?:^|[\s\"'])([A-Za-z_]\w*)=(\"[^\"]*\"|'[^']*'|[^\s\"']*)", match[2])
    if not names:
        return f"{match[1]}{REMOVED}"
    shown = [f"{n}={v if n in _PLAIN_VARIABLES else REMOVED}" for n, v in names]
    return match[1] + " ".join(shown)


_LOOKS: tuple[tuple[re.Pattern[str], Replace], ...] = (
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)",
            re.DOTALL,
        ),
        REMOVED,
    ),
    # headers: all that follows
    (
        re.compile(
            r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|x-[a-z-]*(?:key|token|secret))"
            r"([\"']?[ \t]*[:=][ \t]*)[^\n]+"
        ),
        rf"\1\2{REMOVED}",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), rf"\1 {REMOVED}"),
    # addresses: who asks, what is asked for, and hooks, whose path is the secret
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@\"'<>]+@"), rf"\1{REMOVED}@"),
    (re.compile(r"(?i)\b(https?://[^\s\"'?#<>]*\?)[^\s\"'<>]+"), rf"\1{REMOVED}"),
    (
        re.compile(
            r"(?i)\b(https?://[^/\s\"'<>]*(?:hook|discord|telegram|dingtalk|feishu)[^/\s\"'<>]*/)"
            r"[^\s\"'<>]+"
        ),
        rf"\1{REMOVED}",
    ),
    (
        re.compile(
            r"(?i)\b(https?://[^/\s\"'<>]+/)[^\s\"'<>]*(?:hook|/bot\d|/services/)[^\s\"'<>]*"
        ),
        rf"\1{REMOVED}",
    ),
    (
        re.compile(r"(?i)(\bhttps?://[^\s\"'<>]*/)(?=[\w-]*\d)(?=[\w-]*[a-z])[\w-]{20,}"),
        rf"\1{REMOVED}",
    ),
    # units
    (re.compile(r"(\bEnvironment=)([^\n]+)"), _environment),
    (re.compile(r"(\bSetCredential(?:Encrypted)?=[^:\n]*:)[^\n]*"), rf"\1{REMOVED}"),
    # --token VALUE, KEY=value and "key": "value", in units, logs and JSON
    (re.compile(rf"(?i)(--?[\w-]*(?:{_WORDS}|auth)[\w-]*[ =]){_VALUE}"), rf"\1{REMOVED}"),
    # (but where a file with one lies may be known)
    (
        re.compile(
            rf"(?i)(?<![\w.-])(?![\w.-]*_file[\"']?[ \t]*[=:][ \t]*/)"
            rf"([\w.-]*(?:{_WORDS})[\w.-]*[\"']?[ \t]*[=:][ \t]*){_VALUE}"
        ),
        rf"\1{REMOVED}",
    ),
    # what is one by its form alone
    (
        re.compile(
            r"\b(?:(?:hf|sk|pk|rk|ghp|gho|ghu|ghs|ghr|glpat|npm|pypi|github_pat|xox[abeprs])[_-]"
            r"[A-Za-z0-9_-]{12,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}|ya29\.[\w-]{20,}"
            r"|eyJ[\w-]{6,}\.[\w-]+\.[\w-]*|\d{6,12}:[A-Za-z0-9_-]{30,})"
        ),
        REMOVED,
    ),
    (re.compile(r"\b(sha256|scrypt)(:[0-9]+)*:[0-9a-f]{16,}(:[0-9a-f]{16,})*"), rf"\1:{REMOVED}"),
)


def scrub(text: str) -> str:
    """Text without what looks like a secret."""
    for pattern, instead in _LOOKS:
        text = pattern.sub(instead, text)
    return text


def without_secrets(config_text: str) -> str:
    """A configuration with the values of secret keys replaced; what is no YAML is left out."""
    try:
        redacted = _redacted(yaml.safe_load(config_text))
    except (yaml.YAMLError, ValueError, RecursionError):
        return "# it is not YAML, and therefore left out\n"
    return yaml.safe_dump(redacted, sort_keys=False, allow_unicode=True)


def _redacted(value: Any, key: str = "") -> Any:
    if isinstance(value, dict) and (key == _NAMED_ROWS or not _secret(key)):
        return {name: _redacted(item, str(name)) for name, item in value.items()}
    if isinstance(value, list) and (key == _NAMED_ROWS or not _secret(key)):
        return [_redacted(item, key) for item in value]
    kept = value is None or isinstance(value, bool) or not _secret(key)
    return value if kept or (key.endswith("_file") and str(value).startswith("/")) else REMOVED


def _secret(key: str) -> bool:
    return key in _WHOLE_KEYS or _SECRET_KEY.search(key) is not None
