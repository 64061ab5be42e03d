"""CSV as body. It has no types: every value is read as text, and becomes what the signature says.
007 stays 007 where the model knows a category.

The first line names the columns; commas part them, or tabs or semicolons where the first line has
more of these. What is empty is null, and so are the words that ingestion takes for null.
"""

import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from treadle.bundle import Bundle
from treadle.encoding import category
from treadle.records import Kind
from treadle_serving.requests import Refused

NULLS = ["", "NA", "NULL", "null"]
# In columns that aren't categories, these mean no value too.
SIGNS = ["N/A", "n/a", "#N/A", "nan", "NaN", "NAN", "None", "none", "Null", "-", "--", "?"]
_PARTS = ",\t;"


def read(body: bytes, bundle: Bundle) -> pa.Table:
    """Return the table: numbers as numbers where all of them are, else as the texts they are, for
    the encoder to name those that aren't. Raises Refused, or pyarrow's errors."""
    if not body.strip():
        raise Refused("the body is empty: send a line with the columns' names, then the rows")
    first = body.partition(b"\n")[0].decode("utf-8-sig", "replace")
    table = _texts(body, max(_PARTS, key=first.count))
    for feature in bundle.signature.features:
        place = table.schema.get_field_index(feature.name)
        if place < 0:
            continue
        column = table.column(place)
        if feature.kind is not Kind.CATEGORY:
            read = _without_signs(column)
            read = _numbers(read) if feature.kind is Kind.NUMBER else read
        elif feature.tokens is None:
            read = _known(column, bundle, feature.name)
        else:
            continue
        table = table.set_column(place, feature.name, read)
    return table


def _texts(body: bytes, delimiter: str) -> pa.Table:
    options = {
        "strings_can_be_null": True,
        "null_values": NULLS,
        "quoted_strings_can_be_null": False,
    }
    parsing = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with pacsv.open_csv(io.BytesIO(body), parse_options=parsing) as reader:
        try:
            names = reader.schema.names
        except UnicodeDecodeError as error:
            raise Refused(f"the columns' names are not UTF-8: {error}") from error
    types = dict.fromkeys(names, pa.string())
    converting = pacsv.ConvertOptions(column_types=types, **options)
    return pacsv.read_csv(io.BytesIO(body), parse_options=parsing, convert_options=converting)


def _without_signs(column: pa.ChunkedArray) -> pa.ChunkedArray:
    column = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.is_in(column, pa.array(SIGNS)), None, column)


def _numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid:
        return column


def _known(column: pa.ChunkedArray, bundle: Bundle, name: str) -> pa.ChunkedArray:
    """Return categories by the texts that the model knows: 3.0 is 3 to one that learned from
    numbers, and stays 3.0 to one that knows that."""
    profile = bundle.reference.column(name)
    known = set() if profile is None else {share.value for share in profile.top}
    coded = column.combine_chunks().dictionary_encode()
    texts = [_by_number(text, known) for text in coded.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(coded.indices)


def _by_number(text: str, known: set[str]) -> str:
    if text in known:
        return text
    try:
        number = category(float(text))
    except ValueError:
        return text
    return number if number in known else text
