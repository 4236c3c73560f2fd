"""The rules of release: a TOML file that its owner edits, read with every mistake named."""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from inspection_models.gate.errors import GateError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SHARES = (
    "escapes.at_most",
    "escapes.not_worse_by",
    "overkill.at_most",
    "overkill.not_worse_by",
    "review.at_most",
    "review.not_worse_by",
    "balanced_accuracy.at_least",
    "balanced_accuracy.not_worse_by",
    "calibration.error_at_most",
    "calibration.error_not_worse_by",
    "calibration.brier_not_worse_by",
    "explanations.ap_not_worse_by",
    "explanations.ebpg_not_worse_by",
)
"""Rules whose limit is a share, 0 to 1."""
FLAGS = ("data.unseen", "data.keeps_classes")
"""Rules that are asked or not."""
_HASH, _CLASSES, _CONFIDENCE = "data.sha256", "escapes.never", "confidence"
_KEYS = (_CONFIDENCE, *FLAGS, _HASH, _CLASSES, *SHARES)
_TABLES = tuple(dict.fromkeys(key.partition(".")[0] for key in _KEYS if "." in key))


class RulesError(GateError):
    """The rules cannot be read; the message names the file, the line where it is known, and what belongs there."""


@dataclass(frozen=True)
class Rules:
    """What a candidate must show.

    Attributes:
        confidence: of every bound by itself, 0.5 to below 1.
        limits: by the name of the rule, ``table.key``; of those in `SHARES` that the file has.
        flags: those of `FLAGS` that are to be asked.
        data_sha256: hash of the only data set to compare on; None takes any.
        never_escape: classes of which no image may be passed as good.
        text: the file, to the letter.
    """

    confidence: float
    limits: Mapping[str, float]
    flags: tuple[str, ...]
    data_sha256: str | None
    never_escape: tuple[str, ...]
    text: str

    @property
    def sha256(self) -> str:
        """Hex digest of the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def default_rules() -> str:
    """The text of the rules that hold where none are given."""
    return resources.files("inspection_models.gate").joinpath("default_rules.toml").read_text(encoding="utf-8")


def read_rules(path: Path) -> Rules:
    """Read a rules file.

    Raises:
        RulesError: it is missing, unreadable, no TOML, or holds something that is no rule.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise RulesError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise RulesError(f"{path}: is not UTF-8 text; save it as such") from error
    return parse_rules(text, str(path))


def parse_rules(text: str, name: str) -> Rules:
    """Read the text of a rules file; `name` is what to call it in errors.

    Raises:
        RulesError: it is no TOML, or holds something that is no rule.
    """
    try:
        # A byte order mark is what some editors begin a file with.
        document = tomllib.loads(text.removeprefix("\ufeff"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RulesError(f"{name}: is not TOML: {error}") from error
    values = dict(_flat(document, text, name))
    for key, value in values.items():
        if problem := _problem(key, value):
            raise RulesError(f"{_place(key, text, name)}: {key} is {_shown(value)}; {problem}")
    rules = Rules(
        confidence=float(values.get(_CONFIDENCE, 0.95)),
        limits={key: float(values[key]) for key in SHARES if key in values},
        flags=tuple(key for key in FLAGS if values.get(key)),
        data_sha256=values.get(_HASH),
        never_escape=tuple(values.get(_CLASSES, ())),
        text=text,
    )
    if not rules.limits:
        raise RulesError(
            f"{name}: there is no limit in it, so nothing would have to be shown; write one of {', '.join(SHARES)}"
        )
    return rules


def _flat(document: Mapping[str, Any], text: str, name: str) -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if key == _CONFIDENCE:
            yield key, value
        elif key not in _TABLES:
            raise RulesError(
                f"{_place(key, text, name)}: there is no {key!r} here; there are confidence and the tables "
                f"{', '.join(_TABLES)}"
            )
        elif not isinstance(value, dict):
            raise RulesError(f"{_place(key, text, name)}: {key} is a table; write [{key}] and the rules below it")
        else:
            for inner, limit in value.items():
                full = f"{key}.{inner}"
                if full not in _KEYS:
                    raise RulesError(
                        f"{_place(full, text, name)}: there is no rule {inner!r} in [{key}]; there are "
                        f"{', '.join(one.partition('.')[2] for one in _KEYS if one.startswith(f'{key}.'))}"
                    )
                yield full, limit


def _problem(key: str, value: Any) -> str | None:
    """What is wrong with the value of a key."""
    if key in FLAGS:
        return None if isinstance(value, bool) else "it must be true or false"
    if key == _HASH:
        is_hash = isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None
        return None if is_hash else "it must be the 64 hexadecimal digits of a data set's hash"
    if key == _CLASSES:
        are_names = isinstance(value, list) and all(isinstance(one, str) and one for one in value)
        return None if are_names and value else 'it must be a list of class names, such as ["crack"]'
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "it must be a number"
    if key == _CONFIDENCE:
        return None if 0.5 <= value < 1 else "it must lie from 0.5 to below 1"
    # NaN fails every comparison.
    return None if 0 <= value <= 1 else "it is a share and must lie from 0 to 1; 2 % is 0.02"


def _place(key: str, text: str, name: str) -> str:
    """The file with the line that a key stands in, where that can be told."""
    wanted, _, inner = key.partition(".")
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*([^\]]*?)\s*\]", line):
            table = header[1].strip("\"' ")
            found = table == wanted and not inner
        else:
            entry = re.match(r"\s*([^=#]+?)\s*=", line)
            stated = entry[1].strip("\"' ").replace(" ", "") if entry else None
            found = stated is not None and (f"{table}.{stated}" if table else stated) in (key, f".{key}")
        if found:
            return f"{name}, line {number}"
    return name


def _shown(value: Any) -> str:
    text = repr(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
