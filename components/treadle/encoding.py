"""Read plain values, as JSON or CSV have them, as a model's features.

A number or boolean becomes float32 (null: NaN), a time epoch seconds in float64 (null: NaN; no
zone means UTC), a category text (null: NULL_CATEGORY). A text that is taken apart (``words`` or
``characters`` in place of ``category``) becomes its tokens with a space between any two (null:
nothing).

The edge runtime carries this very file: it needs numpy and the standard library, nothing else.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

NULL_CATEGORY = "<null>"
# Stands between the words of a text that is taken apart into characters; no letter or digit.
WORD_END = "_"
_BETWEEN_WORDS = re.compile(r"[\W_]+")
# How people write booleans, in lower case.
TRUE_WORDS = frozenset({"true", "t", "yes", "y", "1"})
FALSE_WORDS = frozenset({"false", "f", "no", "n", "0"})
# The largest number that float32 rounds to a finite one; JSON's 3.4028235e38 is float32's largest.
LARGEST = float(np.nextafter(2.0**128 - 2.0**103, 0))

# Up to so many rows are looked at value by value.
FEW_ROWS = 8

# How a time is written as text: ISO 8601 as people use it, with a zone as an offset or none. What
# Python and SQL take beyond that differs.
TIME_TEXT = r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}([.]\d{1,9})?)?(Z|[+-]\d{2}(:\d{2})?)?)?"
_TIME = re.compile(TIME_TEXT, re.ASCII)

Column = npt.NDArray[np.float32] | npt.NDArray[np.float64] | npt.NDArray[np.object_]
Row = Mapping[str, object]
# Row, column, reason.
Fault = tuple[int, str, str]
_PANDAS_NULLS = {"NaTType", "NAType"}


class RowEncoder:
    """Encodes rows for one list of features, each ``(name, kind)``.

    Made once a model: what can be known beforehand isn't asked again for every row.
    """

    def __init__(self, features: Sequence[tuple[str, str]]) -> None:
        self._names = [name for name, _ in features]
        self.width = len(features)
        self._numbers = [name for name, kind in features if kind == "number"]
        self._categories = [name for name, kind in features if kind == "category"]
        self._others = [(name, kind) for name, kind in features
                        if kind not in ("number", "category")]  # fmt: skip
        self._pick_numbers = _picker(self._numbers)
        self._pick_categories = _picker(self._categories)

    def encode(self, rows: Sequence[Row]) -> tuple[dict[str, Column], list[Fault]]:
        """Return the columns, each (n,), and a fault for every value that can't be read. A column
        that a row leaves out is null."""
        faults: list[Fault] = []
        found: dict[str, Column] = {}
        self._add_numbers(rows, found, faults)
        self._add_categories(rows, found)
        for name, kind in self._others:
            found[name] = encode_values([row.get(name) for row in rows], name, kind, faults)
        return {name: found[name] for name in self._names}, faults

    def _add_numbers(
        self, rows: Sequence[Row], found: dict[str, Column], faults: list[Fault]
    ) -> None:
        """Read all numbers as one block; value by value where numpy can't."""
        if not self._numbers:
            return
        picked = self._pick_numbers(rows)
        if len(rows) <= FEW_ROWS and _are_plain(picked):
            few = np.array(picked, dtype=np.float32)
            found.update(zip(self._numbers, np.ascontiguousarray(few.T), strict=True))
            return
        try:
            block = np.array(picked, dtype=np.float64)
        except (ValueError, TypeError, OverflowError):
            block = np.empty(0)
        if block.shape != (len(rows), len(self._numbers)):
            for name in self._numbers:
                values = [row.get(name) for row in rows]
                found[name] = encode_values(values, name, "number", faults)
            return
        found.update(zip(self._numbers, within_float32(block.T), strict=True))

    def _add_categories(self, rows: Sequence[Row], found: dict[str, Column]) -> None:
        if not self._categories:
            return
        texts = [
            [value if type(value) is str else category(value) for value in values]
            for values in zip(*self._pick_categories(rows), strict=True)
        ]
        found.update(zip(self._categories, np.array(texts, dtype=object), strict=True))


def _are_plain(rows: Sequence[tuple[object, ...]]) -> bool:
    """Say whether all values are null or numbers that float32 holds. For a few rows that is said in
    less time than numpy needs to begin."""
    for row in rows:
        for value in row:
            if value is None:
                continue
            if (type(value) is not float and type(value) is not int) or not (
                -LARGEST <= value <= LARGEST
            ):
                return False
    return True


def _picker(names: Sequence[str]) -> Callable[[Sequence[Row]], list[tuple[object, ...]]]:
    """Return what takes the values of these columns out of rows: (rows, columns)."""
    if len(names) < 2:
        return lambda rows: [tuple(row.get(name) for name in names) for row in rows]
    pick = itemgetter(*names)

    def picked(rows: Sequence[Row]) -> list[tuple[object, ...]]:
        try:
            return list(map(pick, rows))
        except KeyError:
            return [tuple(map(row.get, names)) for row in rows]

    return picked


def encode_values(
    values: Sequence[object], name: str, kind: str, faults: list[Fault]
) -> npt.NDArray[Any]:
    """Return one column's values, encoded; what can't be read is NaN and named in ``faults``."""
    if kind == "category":
        return np.array([category(value) for value in values], dtype=object)
    if kind in ("words", "characters"):
        return np.array([tokenised(category(value), kind) for value in values], dtype=object)
    read = {"time": _time, "boolean": _boolean}.get(kind, _number)
    column = np.empty(len(values), dtype=np.float64 if kind == "time" else np.float32)
    for position, value in enumerate(values):
        try:
            column[position] = np.nan if value is None else read(value)
        except (ValueError, TypeError, OverflowError):
            column[position] = np.nan
            faults.append((position, name, f"{value!r:.60} is not a {kind}"))
    return column


def within_float32(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return float32, contiguous; what it can't hold is null, infinities included."""
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(values, dtype=np.float32)
    beyond = np.isinf(found)
    if beyond.any():
        found[beyond] = np.nan
    return found


def ignored_values(rows: Iterable[Row], ignored: Sequence[str]) -> dict[str, int]:
    """Count the values in the columns that a signature names as ``ignored``, as those that were
    null in every training row: the model doesn't use them."""
    return dict(Counter(name for row in rows for name in ignored if row.get(name) is not None))


def feeds(columns: Mapping[str, Column]) -> dict[str, Column]:
    """Return encoded columns as ONNX inputs of shape (n, 1)."""
    return {name: column.reshape(-1, 1) for name, column in columns.items()}


def category(value: object) -> str:
    """Return the text by which a category's value is known: 3, 3.0 and Decimal("3.00") are one, 2.5
    and Decimal("2.50") another."""
    if value is None or type(value).__name__ in _PANDAS_NULLS:
        return NULL_CATEGORY
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating | Decimal):
        if not np.isfinite(float(value)):
            return NULL_CATEGORY
        if value == int(value):
            return str(int(value))
        return f"{value:f}".rstrip("0") if isinstance(value, Decimal) else str(value)
    return str(value)


def tokenised(text: str, tokens: str) -> str:
    """Return the tokens of a text with a space between any two: its words, or their characters
    with WORD_END between words. Letters and digits of every script count, in lower case; what lies
    between them only parts words.

    >>> tokenised("Größe: 12-A", "words"), tokenised("Ab c!", "characters")
    ('größe 12 a', 'a b _ c')
    """
    if text == NULL_CATEGORY:
        return ""
    words = _BETWEEN_WORDS.sub(" ", text.lower()).split()
    return " ".join(words if tokens == "words" else WORD_END.join(words))


def untokenised(encoded: str, tokens: str) -> str:
    """Return a text that ``tokenised`` turns into ``encoded``."""
    if tokens == "words":
        return encoded
    return "".join(encoded.split(" ")).replace(WORD_END, " ")


def _number(value: object) -> float:
    if not isinstance(value, int | float | str | Decimal | np.number):
        raise TypeError(value)
    number = float(value)
    return number if abs(number) <= LARGEST else np.nan


def _boolean(value: object) -> float:
    if isinstance(value, bool | np.bool_):
        return float(value)
    text = category(value).strip().lower()
    if text in TRUE_WORDS | FALSE_WORDS:
        return float(text in TRUE_WORDS)
    raise ValueError(value)


def _time(value: object) -> float:
    if isinstance(value, str):
        if not _TIME.fullmatch(value):
            raise ValueError(value)
        value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise TypeError(value)
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
