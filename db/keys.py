"""Keys that follow from content: canonical JSON (RFC 8785), SHA-256, and what makes two records the same one."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import rfc8785

_EXACT_BELOW = 2**53
_SHA256 = re.compile(r"[0-9a-f]{64}")


class CanonicalJsonError(ValueError):
    """A value has no canonical JSON form: not JSON, not finite, an integer beyond 2^53, or text that is not Unicode."""


def canonical_json(value: Any) -> str:
    """A JSON value as RFC 8785 text: one text for one value, whatever the order of its keys.

    Raises:
        CanonicalJsonError: the value has no such form.
    """
    try:
        return bytes(rfc8785.dumps(_plain(value))).decode("utf-8")
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeError) as error:
        raise CanonicalJsonError(f"not writable as canonical JSON: {error}") from error


def read_canonical_json(text: str) -> Any:
    """The value of a canonical text. `canonical_json` makes the same text of it again.

    JSON has one kind of number, and the canonical form writes a float without fraction like an integer. Such a number
    comes back as an int where every integer of its size is exact, and as the float it was beyond.
    """
    return json.loads(text, parse_int=_number)


def _number(digits: str) -> int | float:
    number = int(digits)
    return number if abs(number) < _EXACT_BELOW else float(digits)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def sha256_hex(data: bytes | str) -> str:
    """SHA-256 in 64 lower-case hexadecimal digits; text is taken as UTF-8."""
    return hashlib.sha256(data.encode("utf-8") if isinstance(data, str) else data).hexdigest()


def canonical_sha256(value: Any) -> str:
    """SHA-256 of a JSON value's canonical text.

    Raises:
        CanonicalJsonError: the value has no canonical form.
    """
    return sha256_hex(canonical_json(value))


def decision_key(*, image_sha256: str, model_fingerprint: str, settings_sha256: str, environment_class: str) -> str:
    """What makes two decisions one: same image, same model version, same settings, same kind of machine.

    Nothing of Label Studio goes in, so that one decision serves every task and labeling configuration that shows the
    image.

    Args:
        image_sha256: of the image file's bytes as fetched.
        model_fingerprint: of the model version, which covers weights, classes, preprocessing and calibration.
        settings_sha256: `DecisionSettings.sha256`.
        environment_class: names machines on which the same bits are expected.

    Raises:
        ValueError: one of the hashes is not 64 lower-case hexadecimal digits.
    """
    for name, digest in (
        ("image_sha256", image_sha256),
        ("model_fingerprint", model_fingerprint),
        ("settings_sha256", settings_sha256),
    ):
        if not _SHA256.fullmatch(digest):
            raise ValueError(f"{name} is not a SHA-256 in lower-case hexadecimal: {digest!r}")
    return canonical_sha256(
        {
            "kind": "decision",
            "image": image_sha256,
            "model": model_fingerprint,
            "settings": settings_sha256,
            "environment": environment_class,
        }
    )


def review_key(
    *,
    instance: str,
    annotation_id: int,
    action: str,
    annotation_updated_at: datetime | None,
    payload_sha256: str,
) -> str:
    """What makes two messages about an annotation the same judgement, however often and by whatever way they arrive.

    An annotation is deleted once. Otherwise it is the state at one instant that was judged; where the instant is
    unknown, the message's content has to stand for it. "created" and "updated" are not told apart, as a reconciler
    that reads the annotation later cannot.

    Raises:
        ValueError: the instant has no time zone.
    """
    if action == "deleted":
        state = "deleted"
    elif annotation_updated_at is not None:
        if annotation_updated_at.tzinfo is None:
            raise ValueError("annotation_updated_at has no time zone")
        state = f"at {annotation_updated_at.astimezone(timezone.utc).isoformat(timespec='microseconds')}"
    else:
        state = f"payload {payload_sha256}"
    return canonical_sha256({"kind": "review", "instance": instance, "annotation": annotation_id, "state": state})
