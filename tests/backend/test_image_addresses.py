"""When two addresses name the same image."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.label_studio.image_addresses import address_sha256, as_in_task

BUCKET = "s3://parts/line 1/a#b.png"
CODE = base64.urlsafe_b64encode(BUCKET.encode()).decode()
# What browsers leave as it is in a query, and what they write as percent signs and digits.
_KEPT = "/?:@!$&()*+,;=-._~%"


@given(st.text(st.characters(exclude_characters="#", exclude_categories=("Cs", "Cc"))))
def test_a_browsers_spelling_is_the_same_address(text: str) -> None:
    address = f"/data/upload/7/{text}".strip()
    assert address_sha256(quote(address, safe=_KEPT)) == address_sha256(address)


@pytest.mark.parametrize(
    "link",
    [
        f"/tasks/7/resolve/?fileuri={CODE}",
        f"http://label-studio:8080/tasks/9/presign/?fileuri={CODE}",
        f"https://plant.example/ls/projects/2/resolve?fileuri={CODE}",
        f"/tasks/7/resolve/?fileuri={quote(BUCKET)}",
    ],
)
def test_a_pages_link_to_an_object_in_a_bucket_is_that_object(link: str) -> None:
    assert as_in_task(link) == BUCKET
    assert address_sha256(link) == address_sha256(BUCKET)


@pytest.mark.parametrize(
    "link",
    [
        "/data/upload/7/a.png",
        f"/data/upload/?fileuri={CODE}",
        "/tasks/7/resolve/?fileuri=",
        "/tasks/7/resolve/?fileuri=%FF",
        f"/tasks/7/resolve/?fileuri={base64.urlsafe_b64encode(b'http://desk/').decode()}",
    ],
)
def test_any_other_address_stays(link: str) -> None:
    assert as_in_task(link) == link


DIFFERENT = (
    "/data/upload/7/a.png",
    "/data/upload/7/b.png",
    "/data/local-files/?d=line/a.png",
    "/data/local-files/?d=line/b.png",
    "https://store/part?id=1",
    "https://store/part?id=2",
    "https://other/part?id=1",
    "http://store/part?id=1",
    BUCKET,
    "s3://parts/line 1/a",
    "gs://parts/line 1/a",
    "",
)


def test_what_tells_files_apart_counts() -> None:
    assert len({address_sha256(one) for one in DIFFERENT}) == len(DIFFERENT)


def test_who_asks_and_for_which_place_in_the_file_does_not_count() -> None:
    assert address_sha256("https://me:secret@Store/part?x=a@b#top") == address_sha256("https://store/part?x=a@b")


@given(st.text())
def test_any_text_has_a_hash(text: str) -> None:
    assert len(address_sha256(text)) == 64


def test_half_a_letter_has_one_too() -> None:
    assert len(address_sha256("/data/upload/\ud800.png")) == len(address_sha256("s3://b/\ud800")) == 64
