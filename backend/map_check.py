"""Whether the desk answers at the address that a labeling page reads its maps from."""

from __future__ import annotations

import httpx

_SECONDS = 10.0
_ADVICE = "; all else works without the maps"


def what_keeps_maps_away(address: str) -> str | None:
    """A sentence on what is wrong with a project's address of maps and what to do; None where a desk answers there.

    It is asked from here: where only browsers reach the address, there may be nothing wrong at all.
    """
    base = address.partition("/maps/")[0]
    try:
        with httpx.Client(timeout=_SECONDS, trust_env=False, follow_redirects=False) as client:
            answer = client.get(f"{address}?image=")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return (
            f"nothing answers from here at {base} ({type(error).__name__}: {error}), where browsers read the maps; "
            "start the desk, or set INSPECTION_PUBLIC_URL to its address as inspectors' browsers reach it and run this "
            f"again. If only browsers reach that address, open it with /livez in one of theirs{_ADVICE}"
        )
    if answer.status_code == httpx.codes.NOT_FOUND:
        return (
            f"what answers at {base} knows no maps of this project: it is no desk, or one with another key. Give both "
            "the same INSPECTION_MAP_KEY or INSPECTION_DATA_DIR, start the desk again and run this again, or correct "
            f"INSPECTION_PUBLIC_URL{_ADVICE}"
        )
    if not (answer.is_success and answer.headers.get("content-type") == "image/jpeg"):
        return (
            f"what answers at {base} is no desk, or does not work now (status {answer.status_code}); set "
            "INSPECTION_PUBLIC_URL to the desk's address as inspectors' browsers reach it, and run this again"
            f"{_ADVICE}"
        )
    return None
