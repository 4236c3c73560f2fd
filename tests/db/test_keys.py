from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.keys import (
    CanonicalJsonError,
    canonical_json,
    canonical_sha256,
    decision_key,
    read_canonical_json,
    review_key,
    sha256_hex,
)
from tests.db import samples

NUMBERS = st.one_of(
    st.integers(-(2**53) + 1, 2**53 - 1), st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=True)
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=12,
)
# Texts that would run into one another were they only put side by side.
SHIFTY = st.text('01a"|,:{}\\', max_size=5)


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: reordered(value[name]) for name in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(JSON)
def test_canonical_text_says_the_same_and_forgets_the_order_of_keys(value: Any) -> None:
    text = canonical_json(value)
    assert read_canonical_json(text) == value
    assert canonical_json(reordered(value)) == text
    assert canonical_json(read_canonical_json(text)) == text
    # As another reader of JSON sees it, to whom all numbers are floats.
    assert json.loads(text, parse_int=float) == json.loads(json.dumps(value), parse_int=float)


def test_canonical_text_is_that_of_the_standards_example() -> None:
    # RFC 8785, section 3.2.2 and 3.2.4.
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": '\u20ac$\u000f\nA\'B"\\\\"/',
        "literals": [None, True, False],
    }
    assert canonical_json(value) == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_any_mapping_and_tuple_is_written() -> None:
    assert canonical_json(MappingProxyType({"b": (1, 2.0), "a": MappingProxyType({})})) == '{"a":{},"b":[1,2]}'


def endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "make",
    [
        lambda: math.nan,
        lambda: math.inf,
        lambda: 2**53,
        lambda: b"bytes",
        lambda: {1: "a"},
        lambda: "\ud800",
        lambda: {"\udfff": 1},
        lambda: {1, 2},
        endless,
    ],
)
def test_what_has_no_canonical_form_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(CanonicalJsonError, match="canonical JSON"):
        canonical_json(make())


@given(st.binary(max_size=64))
def test_hashes_are_sha256(data: bytes) -> None:
    assert sha256_hex(data) == hashlib.sha256(data).hexdigest()
    assert canonical_sha256(["\u00e4"]) == hashlib.sha256('["\u00e4"]'.encode()).hexdigest()


@given(SHIFTY, SHIFTY)
def test_decision_keys_differ_when_anything_differs(one: str, other: str) -> None:
    parts = {
        "image_sha256": samples.sha("i"),
        "model_fingerprint": samples.sha("m"),
        "settings_sha256": samples.sha("s"),
        "environment_class": one,
    }
    key = decision_key(**parts)
    assert (decision_key(**{**parts, "environment_class": other}) == key) is (one == other)
    swapped = {**parts, "image_sha256": parts["model_fingerprint"], "model_fingerprint": parts["image_sha256"]}
    assert decision_key(**swapped) != key
    for name in ("image_sha256", "model_fingerprint", "settings_sha256"):
        assert decision_key(**{**parts, name: samples.sha("another")}) != key


def test_the_decision_key_stays_what_it_is() -> None:
    # Spelled out, as a change of the recipe would make every recorded decision a stranger.
    text = '{"environment":"e","image":"%s","kind":"decision","model":"%s","settings":"%s"}'
    hashes = [samples.sha(name) for name in ("i", "m", "s")]
    expected = hashlib.sha256((text % tuple(hashes)).encode()).hexdigest()
    image, model, settings = hashes
    assert expected == decision_key(
        image_sha256=image, model_fingerprint=model, settings_sha256=settings, environment_class="e"
    )


@pytest.mark.parametrize("bad", ["", "abc", "A" * 64, "g" * 64, "0" * 65])
@pytest.mark.parametrize("name", ["image_sha256", "model_fingerprint", "settings_sha256"])
def test_malformed_hashes_are_refused(name: str, bad: str) -> None:
    parts = dict.fromkeys(("image_sha256", "model_fingerprint", "settings_sha256"), "0" * 64)
    with pytest.raises(ValueError, match=name):
        decision_key(**{**parts, name: bad}, environment_class="e")


REVIEWED = st.fixed_dictionaries(
    {
        "instance": SHIFTY,
        "annotation_id": st.integers(0, 11),
        "action": st.just("updated"),
        "annotation_updated_at": st.one_of(
            st.none(), st.integers(0, 3).map(lambda n: samples.NOON + timedelta(microseconds=n))
        ),
        "payload_sha256": SHIFTY,
    }
)


@given(REVIEWED, REVIEWED)
def test_reviews_are_one_when_they_are_of_one_state_of_one_annotation(one: Any, other: Any) -> None:
    def state(review: Any) -> tuple[Any, ...]:
        instant = review["annotation_updated_at"]
        return (review["instance"], review["annotation_id"], instant, review["payload_sha256"] if not instant else None)

    assert (review_key(**one) == review_key(**other)) is (state(one) == state(other))


def test_a_review_is_known_again_in_another_zone_and_by_another_action() -> None:
    seen = samples.review(action="created")
    east = samples.NOON.astimezone(timezone(timedelta(hours=9)))
    assert samples.review(action="updated", annotation_updated_at=east, payload_sha256=samples.sha("x")).key == seen.key


def test_an_annotation_is_deleted_once() -> None:
    deleted = samples.review(action="deleted", outcome=None)
    again = samples.review(action="deleted", outcome=None, annotation_updated_at=None, payload_sha256=samples.sha("x"))
    assert deleted.key == again.key != samples.review().key


def test_a_review_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        _ = samples.review(annotation_updated_at=datetime(2026, 5, 3)).key


@pytest.mark.parametrize(
    "change",
    [
        {"method": "grad-cam"},
        {"explanation": {"mu": 0.1}},
        {"thresholds": {}},
        {"batch_shape": (4, 3, 224, 224)},
        {"seed": 0},
        {"environment_class": "linux aarch64 cpu"},
    ],
)
def test_every_setting_makes_another_decision(change: dict[str, Any]) -> None:
    assert samples.decision(settings=samples.settings(**change)).key != samples.decision().key
