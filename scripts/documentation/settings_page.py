"""The reference of the settings, from ``treadle.config``."""

from dataclasses import Field, fields
from typing import Any

from documentation.markdown import code, page, table, words
from treadle.config import PREFIX, Settings

INTRODUCTION = """
Settings say where this machine or cluster keeps things. They come from the environment and are
never part of a [spec](spec.md), so one spec runs anywhere. An unknown `TREADLE_` variable is
refused, with the nearest known name. What is secret is never shown: not in messages, lineage,
reports or logs.
"""


def render() -> str:
    """Return the page."""
    rows = [_row(field) for field in fields(Settings)]
    return page(
        "Settings", INTRODUCTION, table(["variable", "what it is", "default", "secret"], rows)
    )


def name(field: "Field[Any]") -> str:
    """Return the environment variable of a setting."""
    return PREFIX + field.name.upper()


def _row(field: "Field[Any]") -> list[str]:
    said = words(field.metadata.get("words"), name(field))
    said, _, otherwise = said.partition("; default: ")
    default = otherwise if field.default is None else code(f"{field.default}".removesuffix(".0"))
    return [code(name(field)), said, default, "yes" if field.metadata.get("secret") else ""]
