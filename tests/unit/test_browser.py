"""The page's encoder, in JavaScript, reads values as Python's does; and how the page comes to its
files."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import treadle_browser
from treadle.adapters import npm
from treadle.bundle import Bundle
from treadle.encoding import RowEncoder
from treadle.errors import StoreError
from treadle.records import (
    ColumnProfile,
    Feature,
    Kind,
    Profile,
    Share,
    Signature,
    Task,
    Tokens,
)
from treadle.signature import frame_of, read_frame
from treadle_serving import csv_bodies

PAGE = Path(treadle_browser.__path__[0]) / "page"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")
FEATURES = [
    Feature(name="number", kind=Kind.NUMBER),
    Feature(name="boolean", kind=Kind.BOOLEAN),
    Feature(name="time", kind=Kind.TIME),
    Feature(name="category", kind=Kind.CATEGORY),
    Feature(name="words", kind=Kind.CATEGORY, tokens=Tokens.WORDS),
    Feature(name="characters", kind=Kind.CATEGORY, tokens=Tokens.CHARACTERS),
]


def in_javascript(features: list[Feature], **asked: Any) -> tuple[dict[str, Any], list[Any]]:
    """What the page's encoder makes of rows, or of a CSV file."""
    told = {"features": [feature.model_dump(mode="json") for feature in features], **asked}
    script = Path(__file__).with_name("encode.mjs")
    assert NODE is not None
    done = subprocess.run(
        [NODE, str(script), str(PAGE)], input=json.dumps(told), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found["columns"], [(f["row"], f["column"]) for f in found["faults"]]


def as_bits(columns: dict[str, Any]) -> dict[str, Any]:
    """Encoded columns, numbers by their bits; one nan is as good as another."""
    found = {}
    for name, column in columns.items():
        if column.dtype == object:
            found[name] = column.tolist()
        else:
            plain = np.where(np.isnan(column), column.dtype.type(np.nan), column)
            found[name] = plain.tobytes().hex()
    return found


def without_signs_of_nan(columns: dict[str, Any]) -> dict[str, Any]:
    kinds = {"number": np.float32, "boolean": np.float32, "time": np.float64}
    found = {}
    for name, column in columns.items():
        if isinstance(column, list):
            found[name] = column
        else:
            kind = kinds[name.split()[0]]
            found[name] = np.frombuffer(bytes.fromhex(column), kind)
    return {**{n: c for n, c in found.items() if isinstance(c, list)},
            **as_bits({n: c for n, c in found.items() if not isinstance(c, list)})}  # fmt: skip


def assert_alike(rows: list[dict[str, Any]], features: list[Feature] = FEATURES) -> None:
    encoder = RowEncoder([(feature.name, feature.read_as) for feature in features])
    # As a page has them: whole floats are whole numbers in JSON.
    columns, faults = encoder.encode(rows)
    got, got_faults = in_javascript(features, rows=rows)
    assert sorted(got_faults) == sorted((row, name) for row, name, _ in faults)
    wanted = as_bits(columns)
    found = without_signs_of_nan(got)
    for name, column in wanted.items():
        assert found[name] == column, (name, rows)


CELLS: list[Any] = [
    *[None, True, False, 0, 1, -3, 3.0, 2.5, -0.0, 1e-5, 1.5e-7, 123456.789, 0.0001, 1e22, 2**53],
    *[1e300, 3.4028235e38, 3.4028235677973362e38, 3.4028235677973365e38, 1e39, 5e-324, 1e-46],
    *["", " ", "0", "1", "-3", "3.0", "+2.5", ".5", "5.", "1e5", "1E-5", "1_000", "1__0", "_1"],
    *["1_", "0x10", "inf", "-Infinity", "nan", "NaN", " 12 ", "\x1c7", "7\x85", "\x1ctrue\x1f"],
    *["\ufeff7", "١٢٣", "１２.５", "1e400", "1,5", "1 000", "0.1", "1.0", "007", "2"],
    *["true", "True", " YES ", "t", "f", "No", "maybe", "y", "N"],
    *["2024-02-29", "2023-02-29", "2024-02-29T10:00", "2024-02-29 10:00:59.123456789Z"],
    *["1969-12-31T23:59:59.5", "0001-01-01", "0000-01-01", "9999-12-31T23:59:59.999999"],
    *["2024-02-29T10:00+05:30", "2024-02-29T10:00-23:59", "2024-02-29T10:00+24:00"],
    *["2024-02-29T10:60", "2024-02-29T10:00:60", "2024-02-29T10", "2024-02-29T10:00Z"],
    *["2024-2-29", "٢٠٢٤-02-29", "2024-02-29T10:00:00.1234567", "1931-07-04T00:00:00.000001"],
    *["<null>", "Größe: 12-A", "snake_case", "名前 x", "İstanbul ΟΔΟΣ ß", "a\u0301b", "½ ² Ⅷ"],
    *["🙂 ok", "x\u200by", "one  two\tthree\n", "never seen before"],
]  # fmt: skip


@needs_node
def test_every_kind_of_value_is_read_in_the_page_as_in_python() -> None:
    assert_alike([{feature.name: cell for feature in FEATURES} for cell in CELLS])


@needs_node
def test_what_a_row_leaves_out_is_null_in_the_page_too() -> None:
    assert_alike([{}, {"number": 1, "other": 2}, {"category": "a"}])


@needs_node
def test_every_letter_is_a_letter_in_the_page_too() -> None:
    """Each character of Unicode that this Python knows, between two others."""
    known = [chr(code) for code in range(sys.maxunicode) if is_known(chr(code))]
    parts = [known[begin : begin + 500] for begin in range(0, len(known), 500)]
    texts = ["a" + "b".join(part) + "c" for part in parts]
    assert_alike([{"words": text} for text in texts], [FEATURES[4]])


FINITE = st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.fixed_dictionaries(
    {
        "number": FINITE | st.integers(-(2**53), 2**53) | FINITE.map(repr),
        "category": FINITE | st.floats(-1e-3, 1e-3) | st.text(max_size=8) | st.booleans(),
        "time": st.datetimes().map(lambda at: at.isoformat()),
        "words": st.text(max_size=12),
        "characters": st.text(max_size=12),
    }
)


@needs_node
@settings(deadline=None, max_examples=4, suppress_health_check=list(HealthCheck))
@given(st.lists(ROWS, min_size=50, max_size=100))
def test_any_values_are_read_in_the_page_as_in_python(rows: list[dict[str, Any]]) -> None:
    assert_alike([row for row in rows if all(is_known(value) for value in row.values())])


def is_known(value: object) -> bool:
    """Text that JSON carries and that older Unicode knows."""
    return not isinstance(value, str) or all(
        unicodedata.category(each) not in ("Cn", "Cs") for each in value
    )


KNOWN = ["7", "2.5", "3.0", "true", "größer", "10"]
TABLES = {
    "plain": "number,category,time,boolean\n1,a,2024-02-29,true\n,b,,false\n2,,2024-03-01T10:00,\n",
    "numbers as categories": "category,number\n7,1\n7.0,2\n007,3\n3.0,4\n3,5\n2.50,6\n1e1,7\n,\n",
    "words for no value": 'category,number\nNA,1\nN/A,2\nnull,3\n-,-\n"NA",?\n"",NA\n nan ,N/A\n',
    "texts": "words,characters\nA b-c,A b\n,\n007,3.0\nNA,n/a\n",
    "blanks": "number,boolean,category\n 1 , true , a \n",
    "semicolons": "number;category\n1.5;a,b\n2.25;7,0\n",
    "quotes": 'category,number\n"a, ""b""",1\n"two\nlines",2\n',
    "a mark and other line ends": "\ufeffcategory,number\r\ngrößer,1\r\nb,2\r\n",
    "tabs": "category\tnumber\na\t1\nb\t2\n",
    "big numbers": "category,number\n9007199254740993,1\n12,9007199254740993\n",
    "what can't be read": "number,boolean,time\nmuch,maybe,soon\n1,1,2024-02-29\n,2,x\n",
}


@needs_node
@pytest.mark.parametrize("name", TABLES)
def test_a_csv_file_is_read_in_the_page_as_on_the_server(name: str, tmp_path: Path) -> None:
    body = TABLES[name].encode()
    names = body.decode("utf-8-sig").splitlines()[0]
    features = [f for f in FEATURES if f.name in names]
    bundle = Bundle.__new__(Bundle)
    bundle.signature = Signature(task=Task.REGRESSION, target="y", features=features)
    bundle.files = {"reference.json": tmp_path / "reference.json"}
    top = [Share(value=value, count=1) for value in KNOWN]
    column = ColumnProfile(
        name="category", kind=Kind.CATEGORY, rows=9, nulls=0, distinct=9, whole=False, top=top
    )
    Profile(rows=9, columns=[column]).write(bundle.files["reference.json"])
    columns, faults = read_frame(frame_of(csv_bodies.read(body, bundle)), bundle.signature)
    asked = base64.b64encode(body).decode()
    got, got_faults = in_javascript(features, csv=asked, known=KNOWN)
    assert sorted(got_faults) == sorted((row, name) for row, name, _ in faults)
    assert without_signs_of_nan(got) == as_bits(columns)


# Where the runtime comes from


def integrity(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def test_a_package_is_downloaded_once_and_held_against_its_digest(tmp_path: Path) -> None:
    place = tmp_path / "registry/@scope/thing/-/thing-1.0.0.tgz"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"package")
    registry = (tmp_path / "registry").as_uri()
    good = integrity(b"package")
    found = npm.fetched("@scope/thing", "1.0.0", good, registry, tmp_path / "cache")
    assert found.read_bytes() == b"package"
    place.unlink()
    assert npm.fetched("@scope/thing", "1.0.0", good, registry, tmp_path / "cache") == found
    found.write_bytes(b"altered")
    with pytest.raises(StoreError, match="remove it, and it is downloaded again"):
        npm.fetched("@scope/thing", "1.0.0", good, registry, tmp_path / "cache")
    found.unlink()
    with pytest.raises(StoreError, match=r"can't be downloaded.*NPM_REGISTRY.*put it to"):
        npm.fetched("@scope/thing", "1.0.0", good, registry, tmp_path / "cache")
    place.write_bytes(b"another")
    with pytest.raises(StoreError, match="gave another package"):
        npm.fetched("@scope/thing", "1.0.0", good, registry, tmp_path / "cache")
    assert not found.exists()
