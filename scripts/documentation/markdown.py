"""Markdown from values: what the pages of the reference share."""

from collections.abc import Iterable, Sequence


class UndocumentedError(Exception):
    """Something that people can say or see has no words."""


def words(text: str | None, what: str) -> str:
    """Return what is said of ``what``. Raises UndocumentedError where nothing is."""
    if not text or not text.strip():
        raise UndocumentedError(f"{what} has no words: say what it is, where it is defined")
    return " ".join(text.split())


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines) + "\n"


def cell(text: str) -> str:
    """Return a text that breaks out of no cell."""
    return text.replace("|", r"\|").replace("\n", " ")


def code(text: str) -> str:
    """Return a text as code."""
    return f"`{text}`" if text else ""


def page(title: str, *parts: str) -> str:
    """Return a page; the reader is told where its facts come from, so as not to mend them here."""
    return "\n\n".join([f"# {title}", *(part.strip("\n") for part in parts)]) + "\n"
