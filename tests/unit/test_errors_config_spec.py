"""Faults end with their exit code and one line of words: what, with which value, and what next."""

import errno
import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle import errors
from treadle.config import Settings
from treadle.errors import (
    DataError,
    EnvironmentFault,
    GateRefused,
    ModelError,
    RegistryError,
    SpecError,
    StoreError,
    TreadleError,
    from_os_error,
    nearest,
)
from treadle.records import Task
from treadle.signature import RowErrors
from treadle.spec import Family, SplitBy
from treadle_pipelines.spec_file import load, parse

# Errors

EXIT_CODES = {
    TreadleError: 1,
    SpecError: 2,
    DataError: 1,
    RowErrors: 1,
    ModelError: 1,
    StoreError: 1,
    RegistryError: 1,
    EnvironmentFault: 1,
    GateRefused: 3,
}


@pytest.mark.parametrize(("kind", "code"), EXIT_CODES.items())
def test_every_fault_ends_with_its_exit_code(kind: type[TreadleError], code: int) -> None:
    assert issubclass(kind, TreadleError)
    assert kind.exit_code == code


def test_every_fault_that_is_defined_is_in_the_drawn_tree() -> None:
    defined = [
        kind.__name__
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, TreadleError)
    ]
    assert {kind.__name__ for kind in EXIT_CODES} >= set(defined)
    for name in defined:
        assert f"{name} " in (errors.__doc__ or "")


def test_the_nearest_known_word_is_named_and_a_far_one_is_not() -> None:
    assert nearest("colum", ["row", "column"]) == "; did you mean 'column'?"
    assert nearest("xyz", ["row", "column"]) == nearest("row", []) == ""


def test_faults_of_the_machine_are_put_in_words_with_their_place() -> None:
    full = from_os_error(OSError(errno.ENOSPC, "No space left on device", "/data/x"))
    assert isinstance(full, EnvironmentFault)
    assert str(full).startswith("/data/x: the disk is full")
    assert from_os_error(OSError(errno.ENOENT, "No such file", "x")) is None
    assert from_os_error(OSError("without a number")) is None


# Settings


def test_settings_come_from_the_environment_and_defaults(tmp_path: Path) -> None:
    environment = {
        "TREADLE_HOME": str(tmp_path),
        "TREADLE_S3_ENDPOINT": "localhost:9000",
        "TREADLE_MLFLOW_URI": "",
        "TREADLE_RUN_ID": "set by the launcher",
        "PATH": "/bin",
    }
    assert Settings.from_environment(environment) == Settings(
        home=tmp_path, s3_endpoint="localhost:9000"
    )


def test_the_home_is_made_absolute_and_knows_the_tilde(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert Settings.from_environment({}).home == tmp_path / ".treadle"
    assert Settings.from_environment({"TREADLE_HOME": "~/t"}).home == tmp_path / "t"


def test_a_child_process_gets_the_same_settings(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, s3_secret_key="hunter2", server_url="http://h:1")
    assert Settings.from_environment(settings.as_environment()) == settings


def test_an_unknown_setting_is_named_with_the_nearest() -> None:
    words = r"^unknown setting TREADLE_S3_ENDPIONT; did you mean 'TREADLE_S3_ENDPOINT'\?$"
    with pytest.raises(SpecError, match=words):
        Settings.from_environment({"TREADLE_S3_ENDPIONT": "x"})


def test_an_address_of_no_known_kind_is_refused() -> None:
    with pytest.raises(SpecError, match=r"^TREADLE_MLFLOW_URI='mlflow:5000' is not an http"):
        Settings.from_environment({"TREADLE_MLFLOW_URI": "mlflow:5000"})


def test_a_secret_key_is_not_shown() -> None:
    settings = Settings.from_environment({"TREADLE_S3_SECRET_KEY": "hunter2"})
    assert settings.s3_secret_key == "hunter2"
    assert "hunter2" not in repr(settings) + str(settings)


@pytest.mark.parametrize("scheme", ["http", "ftp"])
def test_a_password_within_an_address_is_not_shown(scheme: str) -> None:
    environment = {"TREADLE_MLFLOW_URI": f"{scheme}://me:hunter2@host"}
    try:
        shown = repr(Settings.from_environment(environment))
    except SpecError as error:
        shown = str(error)
    assert "hunter2" not in shown


# The spec file

SMALLEST = "name: prices\ntarget: price\nsource: rows.csv\n"
PLACE = Path("/somewhere/spec.yaml")


def refusal(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse(text, PLACE)
    words = str(caught.value)
    assert words.startswith(str(PLACE))
    assert "\n" not in words
    return words.removeprefix(f"{PLACE}: ")


def test_the_smallest_spec_has_every_default_and_a_path_beside_it() -> None:
    spec = parse(SMALLEST, PLACE)
    assert spec.source.tables["data"].path == "/somewhere/rows.csv"
    assert (spec.task, spec.preprocessing.split) == (None, SplitBy.RANDOM)
    assert spec.training.families == list(Family)


def test_addresses_of_packages_and_absolute_paths_stay_as_they_are() -> None:
    tables = "{a: {path: 'package://sklearn/x.csv'}, b: {path: /data/b.csv}}"
    spec = parse(f"{{name: a, target: y, source: {{tables: {tables}, sql: 'FROM a'}}}}", PLACE)
    paths = [table.path for table in spec.source.tables.values()]
    assert paths == ["package://sklearn/x.csv", "/data/b.csv"]


@pytest.mark.parametrize("example", sorted(Path(__file__).parents[2].glob("examples/*/*.yaml")))
def test_every_example_is_a_spec(example: Path) -> None:
    assert load(example).name == example.parent.name.replace("_", "-")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("trainning: {}", "unknown key 'trainning'; did you mean 'training'?"),
        ("training: {trails: 3}", "unknown key 'trails' in training; did you mean 'trials'?"),
        (
            "validation: {columns: {price: {minimun: 3}}}",
            "unknown key 'minimun' in validation.columns.price; did you mean 'minimum'?",
        ),
        (
            "source: {path: x.csv, delimeter: ';'}",
            "unknown key 'delimeter' in source.tables.data; did you mean 'delimiter'?",
        ),
        (
            "source: {tables: {t: {path: x.csv, skip_row: 1}}}",
            "unknown key 'skip_row' in source.tables.t; did you mean 'skip_rows'?",
        ),
        (
            "analysis: {zzz: 1}",
            "unknown key 'zzz' in analysis (known: bootstrap, must_beat_by, slices)",
        ),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest_at_its_place(more: str, words: str) -> None:
    assert refusal(f"{SMALLEST}{more}\n") == words


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("task: banana", "task: 'banana' is none of 'regression', 'binary' or 'multiclass'"),
        (
            "training: {families: [linear, tree]}",
            "training.families.1: 'tree' is none of 'linear', 'hist_gradient_boosting' or 'forest'",
        ),
        ("training: {trials: 0}", "training.trials: 0: input should be greater than or equal to 1"),
        ("training: {trials: many}", "training.trials: 'many': input should be a valid integer"),
        ("preprocessing: {test_share: .nan}", "preprocessing.test_share: nan: input should be"),
        ("name: No Spaces", "name: 'No Spaces': string should match pattern"),
        ("feedback: {window: 30 days}", "feedback.window: '30 days': string should match pattern"),
        ("training: fast", "training: 'fast': input should be a valid dictionary"),
        ("target: [a]", "target: ['a']: input should be a valid string"),
        ("1: one", "1: 1: keys should be strings"),
    ],
)
def test_a_wrong_value_is_named_by_its_place(more: str, words: str) -> None:
    assert refusal(f"{SMALLEST}{more}\n").startswith(words)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("preprocessing: {split: time}", "preprocessing: split: time needs split_column"),
        (
            "preprocessing: {split_column: day}",
            "preprocessing: split_column is set, but split is random",
        ),
        (
            "preprocessing: {exclude: [price]}",
            "the spec: the target 'price' can't be excluded",
        ),
        ("feedback: {watch_at: 0.5}", "feedback: watch_at 0.5 is above drift_at 0.2"),
        ("source: {tables: {}}", "source: names no table"),
        (
            "source: {tables: {a: {path: x}, b: {path: y}}}",
            "source: has 2 tables, so it needs `sql` to join them",
        ),
    ],
)
def test_keys_that_contradict_each_other_are_told_as_such(more: str, words: str) -> None:
    assert refusal(f"{SMALLEST}{more}\n") == words


def test_what_is_missing_is_named_and_every_fault_is_told_at_once() -> None:
    assert refusal("name: prices\ntask: banana\ntraning: {}\n") == (
        "target is missing; task: 'banana' is none of 'regression', 'binary' or 'multiclass'; "
        "source is missing; unknown key 'traning'; did you mean 'training'?"
    )
    assert refusal(f"{SMALLEST}source: {{tables: {{t: {{}}}}}}\n") == (
        "source.tables.t.path is missing"
    )


@pytest.mark.parametrize(
    "text",
    ["a: b: c\n", "name: [\n", f"{SMALLEST}\ttask: x\n", "\0", "a: !!python/name:os.system\n"],
)
def test_what_is_no_yaml_is_told_in_one_line(text: str) -> None:
    assert " is not YAML: " in refusal(text)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n", "42\n"])
def test_what_is_no_mapping_is_no_spec(text: str) -> None:
    assert "holds no spec: expected keys such as name, source and target" in refusal(text)


def test_a_spec_file_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(SMALLEST, encoding="utf-8")
    with pytest.raises(SpecError, match=r"no such spec file: .*; did you mean 'prices.yaml'\?$"):
        load(tmp_path / "price.yaml")
    with pytest.raises(SpecError, match=r"^no such spec file: .*spec.yaml$"):
        load(tmp_path / "nowhere" / "spec.yaml")


def test_a_spec_file_that_is_no_text_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match=r"spec.yaml can't be read: "):
        load(tmp_path / "spec.yaml")
    with pytest.raises(SpecError, match="can't be read: "):
        load(tmp_path)


@given(st.text(max_size=40))
def test_no_text_is_anything_but_a_spec_or_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse(text, PLACE)


def test_a_task_is_read_as_the_one_it_names() -> None:
    assert parse(f"{SMALLEST}task: multiclass\n", PLACE).task is Task.MULTICLASS


# Known faults


def test_a_key_of_two_lines_is_told_in_one() -> None:
    refusal(f'{SMALLEST}"two\\nlines": x\n')


@pytest.mark.parametrize("name", ["kind", "minimum", "required"])
def test_a_column_may_be_called_like_a_field_of_its_rule(name: str) -> None:
    words = refusal(f"{SMALLEST}validation: {{columns: {{{name}: {{minimun: 3}}}}}}\n")
    assert words.endswith("; did you mean 'minimum'?")


def test_a_section_that_is_there_twice_is_refused() -> None:
    refusal(f"{SMALLEST}training: {{seed: 1}}\ntraining: {{trials: 3}}\n")
