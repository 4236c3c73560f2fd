"""Addresses of maps: signed for one project, and brought up to date in place."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.cli.serve import WithoutMapAddresses
from backend.map_addresses import MapAddresses, allowed_project, has_maps

KEY, OTHER = "k" * 32, "o" * 32
PROJECTS = st.integers(1, 10**17)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=32, max_size=40)


def path(address: str) -> str:
    return address.removeprefix("http://desk")


@given(PROJECTS, PROJECTS, KEYS)
def test_an_address_opens_its_own_project_and_no_other(project: int, other: int, key: str) -> None:
    signed = path(MapAddresses("http://desk/", key).of(project))
    assert allowed_project(signed, (key,)) == project
    assert allowed_project(signed, (KEY, OTHER, key)) == project
    assert allowed_project(signed.replace(f"/{project}/", f"/{other}/"), (key,)) == (
        project if project == other else None
    )
    assert allowed_project(signed, (KEY, OTHER)) is None
    assert allowed_project(signed, ()) is None


@given(st.text(max_size=80), st.from_regex(r"[A-Za-z0-9_-]{43}", fullmatch=True), st.integers(0, 42))
def test_nothing_else_opens_anything(anything: str, token: str, place: int) -> None:
    signed = path(MapAddresses("http://desk", KEY).of(7))
    start = signed.index("7/") + 2 + place
    changed = f"{signed[:start]}{'A' if signed[start] != 'A' else 'B'}{signed[start + 1 :]}"
    for guess in (anything, f"/maps/{anything}", f"/maps/7/{token}.jpg", f"/maps/{anything}/{token}.jpg", changed):
        assert allowed_project(guess, (KEY,)) is None


@pytest.mark.parametrize("change", ["/maps/07/", "/maps/7/../7/", "/maps/٧/", "//maps/7/", "/maps/7//"])
def test_an_address_is_taken_only_as_it_was_made(change: str) -> None:
    signed = path(MapAddresses("http://desk", KEY).of(7))
    assert allowed_project(signed, (KEY,)) == 7
    assert allowed_project(signed.replace("/maps/7/", change), (KEY,)) is None
    assert allowed_project(f"{signed}\n", (KEY,)) is None


@pytest.mark.parametrize(
    "text",
    [
        "<Header value='{}'/>",
        "<Header value='see {}'/>",
        "<Image value=http://old{}?image=$p/>",
        "<Image value='http://old{}?picture=$p'/>",
        "<Image value='http://old{}?image=/data/1.png'/>",
        "<Image value='http://old{}/?image=$p'/>",
        "<Image value='http://old{}.png?image=$p'/>",
        "<Image value='http://old/more'/><!-- {}?image=$p -->",
    ],
)
def test_only_an_address_of_maps_is_replaced_in_a_configuration(text: str) -> None:
    old, new = MapAddresses("", OTHER), MapAddresses("http://desk", KEY)
    text = text.format(old.of(3))
    assert new.refreshed(text, 7) == text
    assert not has_maps(text)
    shown = f"{text}<Image value='http://old{old.of(3)}?image=$p'/>"
    assert has_maps(shown)
    assert new.refreshed(shown, 7) == f"{text}<Image value='{new.of(7)}?image=$p'/>"


def test_the_address_of_a_project_without_a_number_is_replaced_and_opens_no_projects_maps() -> None:
    maps = MapAddresses("http://desk", KEY)
    config = '<Image value="{}?image=$p"/>'
    assert has_maps(config.format(maps.of_none))
    assert maps.refreshed(config.format(maps.of_none), 7) == config.format(maps.of(7))
    # A number that PostgreSQL can look up, and that no Label Studio gets to.
    assert allowed_project(path(maps.of_none), (KEY,)) == 2**31 - 1


def test_the_address_of_another_desk_and_key_is_replaced() -> None:
    old, new = MapAddresses("https://old:9/desk", OTHER), MapAddresses("http://new", KEY)
    config = '<Image value="{}?image=$p"/> see {}'
    assert new.refreshed(config.format(old.of(7), "/maps/"), 7) == config.format(new.of(7), "/maps/")
    assert has_maps(config.format(old.of(7), ""))


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(MapAddresses("http://desk", KEY))


def test_the_access_log_does_not_hold_what_lets_a_reader_in() -> None:
    signed = path(MapAddresses("http://desk", KEY).of(7))
    lines = []
    for target in (f"{signed}?image=/data/upload/7/part.png", "/predict"):
        arguments = ("127.0.0.1:1", "GET", target, "1.1", 200)
        record = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, '%s - "%s %s HTTP/%s" %d', arguments, None)
        assert WithoutMapAddresses().filter(record)
        lines.append(record.getMessage())
    assert lines == ['127.0.0.1:1 - "GET /maps/… HTTP/1.1" 200', '127.0.0.1:1 - "GET /predict HTTP/1.1" 200']
