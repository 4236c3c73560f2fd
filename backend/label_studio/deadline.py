"""An end to whatever a server sends, however small the pieces and in time each of them comes."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_CONNECTED = "connection.connect_tcp.complete"


class Deadline:
    """Within the `with`, cuts the connections whose requests have `trace` as their extension after `seconds`.

    The time limits of an HTTP client count anew with each piece that comes, and headers can come in very many.
    A connection that was made for an earlier request is not known here, so the client must keep none.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._has_passed = False
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    @property
    def has_passed(self) -> bool:
        """Whether what was read since may be cut off."""
        return self._has_passed

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear of a connection; for the `trace` extension of a request."""
        if event != _CONNECTED:
            return
        # A second handle on the same connection: the first one changes its owner when TLS begins.
        connection = info["return_value"].get_extra_info("socket").dup()
        with self._lock:
            self._connections.append(connection)
            if self._has_passed:
                _shut(connection)

    def _cut(self) -> None:
        with self._lock:
            self._has_passed = True
            for connection in self._connections:
                _shut(connection)


def _shut(connection: socket.socket) -> None:
    # Unlike closing, this wakes a thread that waits for bytes. The server may have been first.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
