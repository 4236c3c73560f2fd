"""Signing in to Label Studio as a person does, to come by an API key where none was made by hand."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import httpx
from typing_extensions import Self

from backend.label_studio import errors

_SECONDS = 30.0


class LabelStudioSession:
    """A signed-in user's session; use it as a context manager.

    Raises LabelStudioUnauthorisedError where email and password do not fit, LabelStudioUnreachableError where nothing
    answers.
    """

    def __init__(
        self,
        url: str,
        email: str,
        password: str,
        *,
        timeout: float = _SECONDS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._http = httpx.Client(base_url=self._url, timeout=timeout, transport=transport, trust_env=False)
        try:
            self._sign_in(email, password)
        except BaseException:
            self._http.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def create_personal_access_token(self) -> str:
        """A new personal access token. Label Studio shows it this once, and lets each user have one at a time.

        Raises LabelStudioRefusedError (status 409) where the user already has one.
        """
        return str(self._post("api/token/", "make a personal access token").json()["token"])

    def enable_legacy_tokens(self) -> None:
        """Allow legacy tokens in the user's organization, beside personal access tokens."""
        settings = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": True}
        self._post("api/jwt/settings", "allow legacy tokens", settings)

    def legacy_token(self) -> str:
        """The user's legacy token; it works only where legacy tokens are allowed."""
        response = self._send("GET", "api/current-user/token")
        errors.check(response, "read the legacy token")
        return str(response.json()["token"])

    def _sign_in(self, email: str, password: str) -> None:
        errors.check(self._send("GET", "user/login/"), "open the login page")
        form = {"email": email, "password": password, "csrfmiddlewaretoken": self._csrf()}
        response = self._send("POST", "user/login/", data=form)
        if not response.is_redirect:
            errors.check(response, "sign in")
            raise errors.LabelStudioUnauthorisedError(
                f"Label Studio at {self._url} does not accept this email and password", response.status_code
            )

    def _csrf(self) -> str:
        token = self._http.cookies.get("csrftoken")
        if not token:
            raise errors.LabelStudioUnreachableError(f"what answers at {self._url} is not Label Studio: no login form")
        return token

    def _post(self, path: str, doing: str, body: object = None) -> httpx.Response:
        response = self._send("POST", path, json=body, headers={"X-CSRFToken": self._csrf(), "Referer": self._url})
        errors.check(response, doing)
        return response

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise errors.unreachable(self._url, error) from error
