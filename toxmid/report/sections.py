"""Further parts of a report: a title, and HTML that uses its style sheet."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

__all__ = ["Section"]


@dataclass(frozen=True)
class Section:
    """A part of a report that somebody else has written.

    Attributes
    ----------
    title : str
    body : markupsafe.Markup
        Safe HTML without scripts; nothing in it may need a network.
    """

    title: str
    body: Markup
