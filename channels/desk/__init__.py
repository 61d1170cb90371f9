"""The desk (pages and API of operators and agents) on Rasa's own server.

`DeskInput` is loaded on demand: it imports Rasa.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from channels.desk.input import DeskInput

__all__ = ["DeskInput"]


def __getattr__(name: str) -> Any:
    if name == "DeskInput":
        from channels.desk.input import DeskInput

        return DeskInput
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
