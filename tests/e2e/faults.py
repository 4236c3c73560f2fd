"""What goes wrong between Label Studio and the desk, in either direction, by a seed."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections import Counter
from random import Random
from typing import Any

from tests.e2e.relay import Forward, Message, answer


class WebhookFates:
    """Webhooks delivered, dropped, doubled, delayed and reordered. Which one meets which fate depends on the seed, the
    event, its annotation and how often that one was told of, not on the order of arrival."""

    FATES = ("delivered", "dropped", "doubled", "delayed", "overtaken")
    _WEIGHTS = (50, 18, 12, 10, 10)
    _LONGEST_DELAY_SECONDS = 3.0

    def __init__(self, seed: int) -> None:
        self.met: Counter[str] = Counter()
        self._seed = seed
        self._seen: Counter[str] = Counter()
        self._held: list[Forward] = []
        self._late: list[threading.Timer] = []
        self._turn = threading.Lock()

    def __call__(self, message: Message, forward: Forward) -> Message | None:
        if message.path != "/webhook":
            return forward()
        fate, random = self._fate(json.loads(message.body))
        accepted = answer(202, {"status": "queued"})
        if fate == "dropped":
            return accepted
        if fate == "delayed":
            self._later(forward, random.uniform(0.5, self._LONGEST_DELAY_SECONDS))
            return accepted
        if fate == "overtaken":
            with self._turn:
                self._held.append(forward)
            return accepted
        given = forward()
        if fate == "doubled":
            self._later(forward, random.choice((0.0, 0.2)))
        self._release()
        return given

    def end(self) -> None:
        """Deliver what is still on its way."""
        self._release()
        for timer in self._late:
            timer.join()

    def _fate(self, event: dict[str, Any]) -> tuple[str, Random]:
        listed = event.get("annotations") or [event.get("annotation") or {}]
        about = f"{event['action']} {sorted(one.get('id', 0) for one in listed)}"
        with self._turn:
            self._seen[about] += 1
            random = Random(f"{self._seed} {about} {self._seen[about]}")
            fate = random.choices(self.FATES, self._WEIGHTS)[0]
            self.met[fate] += 1
        return fate, random

    def _release(self) -> None:
        """What was held comes after its successor, the last one first."""
        with self._turn:
            held, self._held = self._held, []
        for forward in reversed(held):
            forward()

    def _later(self, forward: Forward, seconds: float) -> None:
        timer = threading.Timer(seconds, forward)
        timer.daemon = True
        timer.start()
        self._late.append(timer)


class Weather:
    """What stands between the desk and Label Studio: usually nothing, at times a proxy that fails half of what it gets.

    Attributes:
        is_bad: whether it does now.
        met: what it answered instead of Label Studio, by kind.
    """

    KINDS = ("413", "429", "500", "404 of a proxy", "cut")

    def __init__(self, seed: int) -> None:
        self.is_bad = False
        self.met: Counter[str] = Counter()
        self._seed = seed
        self._seen: Counter[str] = Counter()
        self._void: set[str] = set()
        self._known: set[str] = set()
        self._turn = threading.Lock()

    def void_tokens(self) -> None:
        """Let every access token that was used until now have run out."""
        with self._turn:
            self._void |= self._known

    def __call__(self, message: Message, forward: Forward) -> Message | None:
        token = message.header("authorization")
        with self._turn:
            self._known |= {token} if _is_access_token(token) else set()
            if token in self._void:
                self.met["token has run out"] += 1
                return answer(401, {"detail": "Given token not valid for any token type", "code": "token_not_valid"})
            kind = self._kind(message) if self.is_bad else None
            if kind is not None:
                self.met[kind] += 1
        if kind is None:
            return forward()
        if kind == "cut":
            return None
        if kind == "429":
            return answer(429, {"detail": "Request was throttled."}, retry_after="1")
        if kind == "404 of a proxy":
            return answer(404, "<h1>404</h1>no such upstream")
        return answer(int(kind), f"<h1>{kind}</h1>")

    def _kind(self, message: Message) -> str | None:
        about = f"{message.method} {message.path}"
        self._seen[about] += 1
        random = Random(f"{self._seed} {about} {self._seen[about]}")
        return random.choice(self.KINDS) if random.random() < 0.5 else None


def _is_access_token(header: str) -> bool:
    kind, _, token = header.partition(" ")
    with contextlib.suppress(ValueError):
        claims = token.split(".")[1:2]
        padded = [one + "=" * (-len(one) % 4) for one in claims]
        return kind == "Bearer" and bool(padded) and "exp" in json.loads(base64.urlsafe_b64decode(padded[0]))
    return False
