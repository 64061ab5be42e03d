"""A spec inferred from a table says how the table was read, where that isn't plain."""

from pathlib import Path

import yaml

from treadle_pipelines import init


def test_a_spec_says_how_its_table_was_read(tmp_path: Path) -> None:
    path = tmp_path / "häuser.csv"
    rows = "".join(f"{i % 30 + 1:02d}.01.2024;{i},5;{i * i},25\n" for i in range(60))
    path.write_text(f"\ufeffTag;Größe;Größe\n{rows}", encoding="utf-8")
    spec, why = init.infer(str(path), "Größe_2", "haeuser")
    text = init.render(spec, why)
    said = " ".join(line.strip(" #") for line in text.splitlines() if "#" in line)
    for words in (
        "as it was found: its delimiter is ';'",
        "column 3 'Größe' is called 'Größe_2' here",
        "column 'Größe' has numbers with decimal mark ','",
        "column 'Tag' has dates written as %d.%m.%Y",
    ):
        assert words in said
    assert yaml.safe_load(text)["source"]["path"] == str(path)


def test_a_plain_table_needs_no_words(tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    path.write_text("x,y\n" + "".join(f"{i},{i * i}\n" for i in range(60)))
    assert "source.path" not in init.infer(str(path), "y", "plain")[1]
