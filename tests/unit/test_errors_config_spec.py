"""Faults end with their exit code and one line of words: what, with which value, and what next."""

import errno
import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from treadle import errors
from treadle.config import Settings
from treadle.encoding import category
from treadle.errors import (
    DataError,
    EnvironmentFault,
    GateRefused,
    Interrupted,
    ModelError,
    Overtaken,
    RegistryError,
    SpecError,
    StoreError,
    TreadleError,
    from_os_error,
    nearest,
)
from treadle.records import Task
from treadle.signature import RowErrors
from treadle.spec import Family, Spec, SplitBy, Table
from treadle_pipelines.arguments import training_arguments
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
    Overtaken: 1,
    EnvironmentFault: 1,
    GateRefused: 3,
    Interrupted: 130,
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


@pytest.mark.parametrize(
    ("name", "address", "words"),
    [
        ("TREADLE_MLFLOW_URI", "mlflow:5000", "begins with mlflow://; it must begin with http://"),
        ("TREADLE_MLFLOW_URI", "mlflow", "has no scheme; it must begin with http://"),
        ("TREADLE_SERVER_URL", "sqlite:///x", "begins with sqlite://; it must begin with http://"),
    ],
)
def test_an_address_of_no_known_kind_is_refused(name: str, address: str, words: str) -> None:
    with pytest.raises(SpecError, match=f"^{name} {words}, https://"):
        Settings.from_environment({name: address})


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


def smallest_but(more: str) -> str:
    """The smallest spec with one key more, or another value for one it has."""
    key = more.partition(":")[0]
    kept = [line for line in SMALLEST.splitlines() if not line.startswith(f"{key}:")]
    return "\n".join([*kept, more, ""])


def described(section: type[BaseModel], key: str) -> str:
    """A key that is missing, in the words that describe it."""
    return f"{key} is missing: {section.model_fields[key].description}"


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
    usual = [Family.LINEAR, Family.HIST_GRADIENT_BOOSTING, Family.FOREST]
    assert spec.training.families == usual


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
            "unknown key 'zzz' in analysis (known: bootstrap, costs, explain_s, max_latency_ms, "
            "max_size_mib, must_beat_by, must_not_lose_by, must_not_lose_on, sensitive, slices)",
        ),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest_at_its_place(more: str, words: str) -> None:
    assert refusal(smallest_but(more)) == words


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("task: banana", "task is 'banana', none of 'regression', 'binary' or 'multiclass'"),
        (
            "task: regresion",
            "task is 'regresion', none of 'regression', 'binary' or 'multiclass'; did you mean "
            "'regression'?",
        ),
        (
            "training: {families: [linear, tree]}",
            "training.families.1 is 'tree', none of 'linear', 'hist_gradient_boosting', "
            "'forest', 'mlp', 'neighbours', 'lightgbm' or 'xgboost'",
        ),
        (
            "training: {trials: 0}",
            "training.trials is 0: it should be greater than or equal to 1",
        ),
        ("training: {trials: many}", "training.trials is 'many': expected a whole number"),
        ("training: {trials: 1.5}", "training.trials is 1.5: expected a whole number"),
        ("training: {trials: }", "training.trials is left empty: expected a whole number"),
        (
            "preprocessing: {test_share: .nan}",
            "preprocessing.test_share is nan: it should be less than 0.9",
        ),
        *[
            (
                f"validation: {{columns: {{x: {{{limit}: {sign}.inf}}}}}}",
                f"validation.columns.x.{limit} is {sign}inf: it should be a finite number",
            )
            for limit in ("minimum", "maximum")
            for sign in ("", "-")
        ],
        (
            "name: No Spaces",
            "name is 'No Spaces', which doesn't fit: lower case letters, digits and dashes",
        ),
        (
            "feedback: {window: 30 days}",
            "feedback.window is '30 days', which doesn't fit: look at the last so many days, hours "
            "or rows, as in 30d, 12h or 20000 rows",
        ),
        ("training: fast", "training is 'fast': expected keys with a colon after each"),
        ("target: [a]", "target is ['a']: expected text; quotes make it text"),
        ("target: 3", "target is 3: expected text; quotes make it text"),
    ],
)
def test_a_wrong_value_is_named_by_its_place(more: str, words: str) -> None:
    assert refusal(smallest_but(more)) == words


def test_a_key_that_is_no_text_is_named() -> None:
    words = refusal(smallest_but("1: one"))
    assert words == "the key 1 is no text: put it in quotes"


def test_a_long_wrong_value_is_shortened() -> None:
    words = refusal(smallest_but(f"training: {'x' * 10_000}"))
    assert words.startswith("training is 'xxx") and len(words) < 150


def test_the_allowed_values_are_known_by_the_texts_of_their_category() -> None:
    given = "[3, 3.0, 2.5, true, '3.0', a]"
    spec = parse(smallest_but(f"validation: {{columns: {{x: {{allowed: {given}}}}}}}"), PLACE)
    allowed = spec.validation.columns["x"].allowed
    assert allowed == ["3", "3", "2.5", "true", "3.0", "a"]
    assert allowed == [category(value) for value in (3, 3.0, 2.5, True, "3.0", "a")]


def test_what_errors_cost_says_that_there_are_two_classes() -> None:
    spec = parse(f"{SMALLEST}analysis: {{costs: {{false_negative: 5}}}}", PLACE)
    assert training_arguments(spec, "", "", "run")["task"] == "binary"
    assert training_arguments(parse(SMALLEST, PLACE), "", "", "run")["task"] == ""


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
        (
            "task: regression\nanalysis: {costs: {false_negative: 5}}",
            "the spec: analysis.costs are those of two classes, and task says regression: leave "
            "one of them out",
        ),
        ("feedback: {watch_at: 0.5}", "feedback: watch_at 0.5 is above drift_at 0.2"),
        (
            "validation: {columns: {x: {minimum: 3, maximum: 2.5}}}",
            "validation.columns.x: minimum 3 is above maximum 2.5",
        ),
        ("source: {tables: {}}", "source: names no table"),
        (
            "source: {tables: {a: {path: x}, b: {path: y}}}",
            "source: has 2 tables, so it needs `sql` to join them",
        ),
    ],
)
def test_keys_that_contradict_each_other_are_told_as_such(more: str, words: str) -> None:
    assert refusal(smallest_but(more)) == words


def test_what_is_missing_is_named_and_every_fault_is_told_at_once() -> None:
    assert refusal("name: prices\ntask: banana\ntraning: {}\n") == (
        f"{described(Spec, 'target')}; "
        "task is 'banana', none of 'regression', 'binary' or 'multiclass'; "
        f"{described(Spec, 'source')}; unknown key 'traning'; did you mean 'training'?"
    )
    assert refusal(smallest_but("source: {tables: {t: {}}}")) == (
        f"source.tables.t.{described(Table, 'path')}"
    )


@pytest.mark.parametrize(
    "text",
    ["a: b: c\n", "name: [\n", f"{SMALLEST}\ttask: x\n", "\0", "a: !!python/name:os.system\n"],
)
def test_what_is_no_yaml_is_told_in_one_line(text: str) -> None:
    assert " is not YAML: " in refusal(text)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        *[("", "is empty"), ("# nothing\n", "is empty")],
        *[(text, "holds no spec") for text in ("- a\n- b\n", "just words\n", "42\n")],
    ],
)
def test_what_is_no_mapping_is_no_spec(text: str, state: str) -> None:
    words = refusal(text)
    assert words.startswith(f"{PLACE} {state}: expected keys such as name, source and target")
    assert "treadle init" in words


def test_a_spec_file_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(SMALLEST, encoding="utf-8")
    with pytest.raises(SpecError, match=r"no such spec file: .*; did you mean 'prices.yaml'\?$"):
        load(tmp_path / "price.yaml")
    with pytest.raises(SpecError, match=r"^no such spec file: .*/nowhere/spec.yaml: treadle init"):
        load(tmp_path / "nowhere" / "spec.yaml")


def test_a_spec_file_that_can_not_be_read_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_bytes(b"a\xff\xfe\x00")
    with pytest.raises(SpecError, match=r"/spec.yaml holds no text in UTF-8 \(byte 1\): "):
        load(tmp_path / "spec.yaml")
    with pytest.raises(SpecError, match=f"^{tmp_path} is a directory: name the spec file in it$"):
        load(tmp_path)
    with pytest.raises(SpecError, match=r"spec.yaml/x can't be read: not a directory: check "):
        load(tmp_path / "spec.yaml" / "x")


@given(st.text(max_size=40))
def test_no_text_is_anything_but_a_spec_or_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse(text, PLACE)


def test_a_task_is_read_as_the_one_it_names() -> None:
    assert parse(f"{SMALLEST}task: multiclass\n", PLACE).task is Task.MULTICLASS


# What once went wrong


def test_a_key_of_two_lines_is_told_in_one() -> None:
    refusal(f'{SMALLEST}"two\\nlines": x\n')


@pytest.mark.parametrize("name", ["kind", "minimum", "required"])
def test_a_column_may_be_called_like_a_field_of_its_rule(name: str) -> None:
    words = refusal(f"{SMALLEST}validation: {{columns: {{{name}: {{minimun: 3}}}}}}\n")
    assert words.endswith("; did you mean 'minimum'?")


def test_a_section_that_is_there_twice_is_refused() -> None:
    words = refusal(f"{SMALLEST}training: {{seed: 1}}\ntraining: {{trials: 3}}\n")
    assert words.endswith("is not YAML: line 5, column 1: the key 'training' is there twice")
