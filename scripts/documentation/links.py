"""Links between the documents, which are read in three places: in the repository, on the site, and
on the page of the package."""

import re
from collections.abc import Callable
from os.path import relpath
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^(```.*?^```)", re.DOTALL | re.MULTILINE)


def on_site(text: str, source: Path, pages: dict[Path, str]) -> str:
    """Return a document's text with its links as they are on the site.

    ``source`` is where the document is, relative to the repository; ``pages`` says of documents
    where they are on the site. What isn't on the site is named by its path.
    """
    here = Path(pages[source]).parent

    def placed(found: re.Match[str]) -> str:
        picture, words, target, anchor = found.groups(default="")
        path = Path(relpath(ROOT / source.parent / target, ROOT))
        place = pages.get(path)
        if place is not None:
            return f"{picture}[{words}]({relpath(place, here)}{anchor})"
        if not (ROOT / path).exists():
            return found[0]  # the strict build says so
        return f"{words.strip('`')} (`{path}`)" if words.strip("`") != str(path) else f"`{path}`"

    return outside_code(text, lambda part: _LINK.sub(placed, part))


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Change a text but for its blocks of code."""
    parts = _FENCE.split(text)
    return "".join(part if part.startswith("```") else change(part) for part in parts)
