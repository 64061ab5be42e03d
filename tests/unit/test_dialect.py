"""How a delimited file is written: what is plain is told without the sniffer, and alike."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_files import csv

from treadle.ingestion import dialect
from treadle.ingestion.text import TextFile
from treadle.spec import Table

WORDS = st.from_regex(r"[a-zé][a-z0-9 _.é-]{0,5}", fullmatch=True)
CELLS = WORDS | st.integers().map(str) | st.floats(-9, 9).map(str) | st.sampled_from(["", "NA"])
SPACE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@SPACE
@given(st.data(), st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]))
def test_what_is_plain_is_what_the_sniffer_finds(
    tmp_path: Path, data: st.DataObject, mark: str, end: str
) -> None:
    width = data.draw(st.integers(2, 4))
    names = data.draw(st.lists(WORDS, min_size=width - 1, max_size=width - 1, unique=True))
    row = st.lists(CELLS, min_size=width - 1, max_size=width - 1)
    rows = data.draw(st.lists(row, min_size=1, max_size=5))
    numbered = [[str(place), *cells] for place, cells in enumerate(rows)]
    text = end.join(mark.join(line) for line in [["id", *names], *numbered]) + end
    path = csv(tmp_path, text)
    file, table = TextFile(path, "utf-8"), Table(path=str(path))
    plain = dialect._plain(text, file, table)
    assert plain == (mark, "", "", 0, True, "")
    sniffed = dialect._sniffed(path, file, table)
    assert sniffed is not None
    assert (sniffed[0], sniffed[3:5]) == (plain[0], plain[3:5])


@pytest.mark.parametrize(
    "text",
    [
        "a,b\nx,y\n",  # all text: the first line may be a row
        "1,2\n3,4\n",  # no names
        'a,b\n"x, y",2\n',
        "a,b\n# said,2\n",
        "a;b\n1,5;2\n",
        "a,b\n1,2\n1,2,3\n",
        "a,\n1,2\n",
        "Sales of 2024\na,b\n1,2\n",
        "a,b\n",
    ],
)
def test_what_leaves_a_choice_is_for_the_sniffer(text: str, tmp_path: Path) -> None:
    path = csv(tmp_path, text)
    assert dialect._plain(text, TextFile(path, "utf-8"), Table(path=str(path))) is None


def test_what_the_spec_states_is_for_the_sniffer(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,b\n1,2\n")
    table = Table(path=str(path), header=False)
    assert dialect._plain("a,b\n1,2\n", TextFile(path, "utf-8"), table) is None
