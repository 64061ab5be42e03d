"""How a column of text is read: proven on its values, never guessed from the first ones.

The kinds are tried in order, and the first that every value fits is the column's: whole numbers,
numbers, booleans, dates and times as ISO 8601 writes them, numbers with a decimal comma or
thousands, dates as people write them. A sample proposes; reading proves, as Arrow refuses what
doesn't fit; where it refuses, the whole column is looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import pyarrow as pa
import pyarrow.compute as pc

NULL_WORDS = ("", "NA", "NULL", "null")
# In columns that are otherwise numbers, booleans or times, these mean no value too.
NULL_SIGNS = ("N/A", "n/a", "#N/A", "nan", "NaN", "NAN", "None", "none", "Null", "-", "--", "?",
              "\\N", "<NA>", "NaT")  # fmt: skip
TRUE, FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
ISO = "ISO 8601"
_DAY, _CLOCK = "[0-9]{4}-[0-9]{2}-[0-9]{2}", r"[ T][0-9]{2}(:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?)?"
_ISO_NAIVE = f"^{_DAY}({_CLOCK})?$"
_ISO_AWARE = f"^{_DAY}{_CLOCK}(Z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)$"
_EITHER = ("%Y/%m/%d", "%Y.%m.%d", "%d %b %Y", "%d-%b-%Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y")
_DAY_FIRST = ("%d.%m.%Y", "%d/%m/%Y", "%d-%m-%Y")
_MONTH_FIRST = ("%m/%d/%Y", "%m-%d-%Y")
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_MARKS = ((".", ","), (",", "."), (",", ""), (",", " "), (".", " "), (".", "'"), (",", "\u00a0"),
          (",", "\u202f"))  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """How text becomes values of ``type``: numbers by their marks, times by their ``formats`` (as
    strptime has them), each tried in turn. Without either, as Arrow reads it."""

    type: pa.DataType
    decimal: str = "."
    thousands: str = ""
    formats: tuple[str, ...] = ()

    @property
    def is_native(self) -> bool:
        """Say whether Arrow's CSV reader does it by itself."""
        return self.decimal == "." and not self.thousands and not self.formats

    @property
    def words(self) -> str | None:
        """How values are read, where that isn't plain."""
        if self.formats:
            return f"dates written as {' and as '.join(self.formats)}"
        if not self.is_native:
            parts = f" and thousands {self.thousands!r}" if self.thousands else ""
            return f"numbers with decimal mark {self.decimal!r}{parts}"
        return None


TEXT, NOTHING = Reading(pa.string()), Reading(pa.null())
INTEGER, LARGE, NUMBER = (Reading(t) for t in (pa.int64(), pa.decimal128(38, 0), pa.float64()))
BOOLEAN, DATE = Reading(pa.bool_()), Reading(pa.date32())
NAIVE = tuple(Reading(pa.timestamp(unit)) for unit in ("us", "ns"))
AWARE = tuple(Reading(pa.timestamp(unit, "UTC")) for unit in ("us", "ns"))
_NATIVE = (INTEGER, LARGE, NUMBER, BOOLEAN, DATE, *NAIVE, *AWARE)


@dataclass(frozen=True)
class Words:
    """What a table's spec states of its texts; what is None is found."""

    nulls: tuple[str, ...] | None = None
    decimal: str | None = None
    thousands: str | None = None
    dates: tuple[str, ...] | None = None

    @property
    def no_value(self) -> tuple[str, ...]:
        """The words that mean no value in a column that isn't text."""
        return NULL_WORDS + NULL_SIGNS if self.nulls is None else self.nulls

    @property
    def no_text(self) -> tuple[str, ...]:
        """The words that mean no value in a column of text."""
        return NULL_WORDS if self.nulls is None else self.nulls

    @property
    def numbers(self) -> tuple[Reading, ...]:
        """How numbers may be read that Arrow doesn't read by itself."""
        stated = (self.decimal or ("," if self.thousands == "." else "."), self.thousands or "")
        fitting = [
            marks
            for marks in (*_MARKS, stated)
            if self.decimal in (None, marks[0]) and self.thousands in (None, marks[1])
        ]
        return tuple(
            Reading(kind, *marks)
            for marks in fitting
            if marks != (".", "")
            for kind in (pa.int64(), pa.float64())
        )

    @property
    def natives(self) -> tuple[Reading, ...]:
        """How Arrow reads by itself."""
        stated = self.decimal == "," or self.thousands == "."
        return tuple(r for r in _NATIVE if not (stated and r in (NUMBER, LARGE)))


@dataclass
class Proof:
    """Finds a column's reading from all its values, batch by batch. ``is_all``: there is but one
    batch. ``odd`` is the value that made a text of what else would be numbers."""

    words: Words
    is_all: bool = False
    signs: set[str] = field(default_factory=set)
    has_leading_zeros: bool = False
    odd: str | None = None
    _left: list[Reading] = field(default_factory=list)
    _has_values: bool = False
    _times: "_Times" = field(default_factory=lambda: _Times())

    def __post_init__(self) -> None:  # noqa: D105 - what is left to try follows from the words
        self._left = [*self.words.natives, *self.words.numbers]
        self._times = _Times(self.words.dates)

    def add(self, text: pa.Array) -> None:
        """Take more of the column's values."""
        values = pc.unique(text).drop_null()
        unknown = pc.is_in(values, value_set=pa.array(self.words.no_value, pa.string()))
        self.signs |= set(values.filter(unknown).to_pylist()) - set(self.words.no_text)
        values = pc.utf8_trim_whitespace(values.filter(pc.invert(unknown)))
        if not len(values):
            return
        self._has_values = True
        zeros = pc.match_substring_regex(values, "^0[0-9]+$")
        self.has_leading_zeros |= bool(pc.any(zeros).as_py())
        had = bool(self._left)
        fitting = (reading for reading in self._left if fits(values, reading))
        first = next(fitting, None)
        # Where all there is to see is here, what fits first is enough: but for numbers, whose dot
        # might be one between thousands.
        is_clear = self.is_all and first is not None and first.is_native and first != NUMBER
        self._left = [] if first is None else [first] if is_clear else [first, *fitting]
        if is_clear:
            return
        if had and not self._left:
            self.odd = _odd_one(values)
        self._times.add(values)

    def reading(self, has_comma: bool = False) -> Reading:
        """Return how the column is read; ``has_comma``: other columns show a decimal comma."""
        if not self._has_values:
            return NOTHING
        marked = [r for r in self._left if not r.is_native and r.decimal == ","]
        if has_comma and marked and INTEGER not in self._left:
            return marked[0]
        if self._left:
            return self._left[0]
        formats = self._times.formats
        return by_formats(formats) if formats else TEXT

    @property
    def shows_comma(self) -> bool:
        """Say whether its values are numbers only where a comma is the decimal mark."""
        return bool(self._left) and all(r.decimal == "," for r in self._left)

    @property
    def mixes_zones(self) -> bool:
        """Say whether its values are times, some with a zone and some without."""
        return self._times.mixes_zones

    @property
    def doubt(self) -> str | None:
        """What else the column could be read as, in words."""
        if self._has_values and not self._left and self._times.is_ambiguous:
            return "each of these dates could be day first as well as month first"
        marked = {r.decimal for r in self._left if not r.is_native}
        if self._left and not self._left[0].is_native and len(marked) > 1:
            return "the comma in these numbers could be a decimal mark as well as one of thousands"
        return None


def _odd_one(values: pa.Array) -> str | None:
    """Return the first value that is no number, where most are; None where they aren't."""
    for mark in (".", ","):
        numbers = pc.match_substring_regex(values, f"^[+-]?[0-9]*[{mark}]?[0-9]+$")
        if pc.mean(numbers).as_py() > 0.5 and not _all(numbers):
            odd: str = values.filter(pc.invert(numbers))[0].as_py()
            return odd
    return None


class _Times:
    """Which date formats a column's values need; day first and month first never go together."""

    def __init__(self, stated: Sequence[str] | None = None) -> None:
        self._stated = stated
        families = {
            "day": (*_DAY_FIRST, *_EITHER),
            "month": (*_MONTH_FIRST, *_EITHER),
        }
        spelled = {
            name: tuple(date + clock for date, clock in product(dates, _CLOCKS))
            for name, dates in families.items()
        }
        self._families = {"stated": tuple(stated)} if stated else spelled
        self._used: dict[str, set[str]] = {name: set() for name in self._families}
        self._has_naive = self._has_aware = False
        self._is_open = True

    def add(self, values: pa.Array) -> None:
        if not self._is_open:
            return
        naive, aware = (pc.match_substring_regex(values, form) for form in (_ISO_NAIVE, _ISO_AWARE))
        self._has_naive |= _any(naive)
        self._has_aware |= _any(aware)
        iso = pc.or_(naive, aware)
        if not fits(values.filter(naive), NAIVE[1]) and not fits(values.filter(naive), NAIVE[0]):
            self._families.clear()  # as 2023-02-30
        others = values.filter(pc.invert(iso))
        dated = (
            len(others) == 0
            or self._stated
            or _all(pc.match_substring_regex(others, r"^[\w.,/: -]*(^|\D)[0-9]{4}(\D|$)"))
        )
        for name, forms in list(self._families.items()):
            used = self._covering(others, forms) if dated else None
            if used is None:
                del self._families[name]
            else:
                self._used[name] |= used | ({ISO} if _any(iso) else set())
        self._is_open = bool(self._families)

    @staticmethod
    def _covering(values: pa.Array, forms: Sequence[str]) -> set[str] | None:
        """Return the formats that read the values, each value by one; None where one stays."""
        used: set[str] = set()
        for form in forms:
            if not len(values):
                break
            unread = pc.is_null(_strptime(values, form))
            if not _all(unread):
                used.add(form)
                values = values.filter(unread)
        return used if not len(values) else None

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats that together read every value; none where there are no such."""
        if not self._families or self._has_aware:
            return ()
        slashes = any("/" in form for form in self._used.get("month", ()))
        first = "month" if "month" in self._families and slashes else next(iter(self._families))
        order = (ISO, *self._families[first])
        found = tuple(form for form in order if form in self._used[first])
        return () if found == (ISO,) else found

    @property
    def is_ambiguous(self) -> bool:
        numeric = {*_DAY_FIRST, *_MONTH_FIRST}
        both = len(self._families) > 1 and self._used["day"] != self._used["month"]
        return both and any(form[:8] in numeric for form in self._used["day"])

    @property
    def mixes_zones(self) -> bool:
        named = any(form != ISO for used in self._used.values() for form in used)
        return self._is_open and self._has_aware and (self._has_naive or named)


def fits(values: pa.Array, reading: Reading) -> bool:
    """Say whether every value can be read so."""
    try:
        # The first value alone rules most readings out, in a fraction of the time that all take.
        first = convert(values.slice(0, 1), reading)
        return not (first.null_count or convert(values, reading).null_count)
    except pa.ArrowInvalid:
        return False


def convert(text: pa.Array, reading: Reading) -> pa.Array:
    """Read texts without surrounding blanks; null stays null, and what no format fits becomes it.
    Raises ArrowInvalid for what is no number, boolean or ISO time."""
    if reading.formats:
        parts = [_strptime(text, form) for form in reading.formats]
        return pc.coalesce(*parts).cast(reading.type) if parts else text
    if not reading.is_native:
        return _unmarked(text, reading).cast(reading.type)
    if reading == BOOLEAN:
        true, known = (pc.is_in(text, value_set=pa.array(w)) for w in (TRUE, TRUE + FALSE))
        return pc.if_else(known, true, pa.scalar(None, pa.bool_()))
    if reading == LARGE:
        # Beyond 38 digits Arrow's cast overflows, and doesn't say so.
        whole = pc.match_substring_regex(text, "^[+-]?[0-9]{1,38}$")
        return pc.if_else(whole, text, pa.scalar(None, pa.string())).cast(reading.type)
    return text.cast(reading.type)


def _unmarked(text: pa.Array, reading: Reading) -> pa.Array:
    """Write numbers as Arrow reads them; what doesn't keep to the marks becomes null."""
    mark, group = ("\\" + c if c in ".'" else c for c in (reading.decimal, reading.thousands))
    whole = f"([0-9]{{1,3}}({group}[0-9]{{3}})+|[0-9]+)" if group else "[0-9]+"
    rest = "" if pa.types.is_integer(reading.type) else f"({mark}[0-9]+)?"
    fitting = pc.match_substring_regex(text, f"^[+-]?{whole}{rest}$")
    text = pc.if_else(fitting, text, pa.scalar(None, pa.string()))
    if reading.thousands:
        text = pc.replace_substring(text, reading.thousands, "")
    return pc.replace_substring(text, reading.decimal, ".")


def _strptime(text: pa.Array, form: str) -> pa.Array:
    if form == ISO:
        iso = pc.match_substring_regex(text, _ISO_NAIVE)
        return pc.if_else(iso, text, pa.scalar(None, pa.string())).cast(pa.timestamp("us"))
    return pc.strptime(text, format=form, unit="us", error_is_null=True)


def by_formats(formats: Sequence[str]) -> Reading:
    """Return the reading of a column whose dates are written so."""
    has_clock = any("%H" in form or "%I" in form or form == ISO for form in formats)
    return Reading(pa.timestamp("us") if has_clock else pa.date32(), formats=tuple(formats))


def _any(flags: pa.Array) -> bool:
    return bool(pc.any(flags).as_py())


def _all(flags: pa.Array) -> bool:
    return bool(pc.all(flags, min_count=0).as_py())
