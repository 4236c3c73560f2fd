from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.redaction import redact_uri


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("/data/upload/3/part%201.jpg", "/data/upload/3/part%201.jpg"),
        ("/data/local-files/?d=lots/17/part 1.jpg", "/data/local-files/?d=lots/17/part%201.jpg"),
        ("/tasks/4/resolve/?fileuri=czM6Ly9i", "/tasks/4/resolve/?fileuri=czM6Ly9i"),
        ("s3://bucket/key.png", "s3://bucket/key.png"),
        ("https://user:pw@[::1]:8080/a.png?token=abc&d=x#frag", "https://[::1]:8080/a.png?token=***&d=x"),
        ("https://h/a.png?X-Amz-Signature=f00&flag", "https://h/a.png?X-Amz-Signature=***&flag=***"),
        ("data:image/png;base64,iVBORw0KGgo", "data:image/png"),
        ("http://[bad", "(unreadable address)"),
        ("http://h:port/x", "(unreadable address)"),
        ("", ""),
    ],
)
def test_addresses_are_kept_without_secrets(uri: str, kept: str) -> None:
    assert redact_uri(uri) == kept


@given(st.text(max_size=20), st.sampled_from(["token", "sig", "X-Amz-Credential"]))
def test_no_secret_gets_through(noise: str, name: str) -> None:
    secret = "S3CR3T"
    assert secret not in redact_uri(f"https://u:{secret}@h/{noise.replace('/', '')}?{name}={secret}")
