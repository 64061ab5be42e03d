"""What the documents tell people to type."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *(ROOT / name / "README.md" for name in ("manifests", "airgap")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_BLOCK = re.compile(r"^( *)```console\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_ASSIGNMENT = re.compile(r"[A-Z_]+=")


@dataclass(frozen=True)
class Line:
    """A command as it is typed, without what is set before it."""

    document: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}: {shlex.join(self.words)}"


def lines() -> Iterator[Line]:
    """Yield every command in every document."""
    for document in DOCUMENTS:
        for block in _BLOCK.finditer(document.read_text(encoding="utf-8")):
            joined = block[2].replace("\\\n", " ")
            for line in re.findall(r"^ *\$ (.*)$", joined, re.MULTILINE):
                words = shlex.split(line)
                while words and _ASSIGNMENT.match(words[0]):
                    words.pop(0)
                yield Line(document, tuple(words))


def treadle_lines() -> list[tuple[str, ...]]:
    """Return what is typed after ``treadle``, each once."""
    found = (line.words[1:] for line in lines() if line.words[0] == "treadle")
    return list(dict.fromkeys(found))
