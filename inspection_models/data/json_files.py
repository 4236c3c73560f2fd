"""JSON files of annotations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class JsonError(ValueError):
    """A file is no JSON; the message names it and, where there is one, the line."""


def load_json(path: Path) -> Any:
    """The content of a file in UTF-8.

    Raises:
        JsonError: it cannot be read, is in another encoding or is no JSON.
    """
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise JsonError(f"{path} cannot be read ({error.strerror or error}); repair or remove it") from error
    except UnicodeDecodeError as error:
        raise JsonError(f"{path}: not UTF-8 text; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise JsonError(f"{path} line {error.lineno}: {error.msg}; export the file again") from error
    except RecursionError as error:
        raise JsonError(f"{path}: nested too deeply; export the file again") from error
