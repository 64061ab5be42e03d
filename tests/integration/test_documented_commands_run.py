"""The commands of the documents do what they say, on a model that was trained for other tests.

They run one after another in one process, which imports once. Those that take long or need more
than a home are run by the tests in ELSEWHERE; those that need a cluster are only asked of the
parser, in tests/unit/test_documented_commands.py: ``submit`` and what follows ``make deploy``.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from conftest import Finished, copied, environment
from documents import treadle_lines
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry
from treadle.bundle import Bundle, store_bundle
from treadle.records import NewVersion

HERE = Path(__file__).parent
# What runs for long or until it is ended, and what is told of it by a test of its own.
ELSEWHERE = {
    "init": "test_cli.py", "run": "test_cli.py", "reproduce": "test_reproduce.py",
    "label": "test_loop.py", "restore": "test_backup_restore.py", "approve": "test_champions.py",
}  # fmt: skip
SERVED = ("serve", "test_serving.py", "serving(")
CLUSTER = {"submit"}
DRIVER = """
import contextlib, io, json, os, sys, traceback
from treadle import runtime
from treadle_pipelines import cli

home = os.environ["TREADLE_HOME"]

def run(words):
    os.environ["TREADLE_HOME"] = home  # --home changes it
    for cached in vars(runtime).values():
        getattr(cached, "cache_clear", lambda: None)()
    said = io.StringIO()
    sys.argv = ["treadle", *words]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            cli.main()
    except SystemExit as end:
        return end.code or 0, said.getvalue()
    except BaseException:
        return -1, said.getvalue() + traceback.format_exc()
    return 0, said.getvalue()

print(json.dumps([run(words) for words in json.loads(sys.argv[1])]))
"""


def is_run_here(words: tuple[str, ...]) -> bool:
    is_light = words[0] not in {*ELSEWHERE, *CLUSTER, SERVED[0]}
    # These two fetch and build; tests of their own do it.
    return is_light and not {"browser", "bento"} & set(words) and words[:2] != ("restore",)


def add_versions(home: Path, upto: int) -> None:
    """Register the champion's model again and again, each in a bundle of its own."""
    registry = SqliteMlflowRegistry(home / "mlflow.db", home / "mlflow-artifacts")
    champion = registry.aliased("wine", "champion")
    assert champion is not None
    for number in range(2, upto + 1):
        rebuilt = home / f"rebuilt-{number}"
        shutil.copytree(home / "objects/bundles" / champion.digest, rebuilt)
        with (rebuilt / "reference.json").open("a", encoding="utf-8") as reference:
            reference.write("\n" * number)
        bundle = Bundle.at(rebuilt)
        source = store_bundle(bundle, DirectoryStore(home / "objects"))
        known = {name: getattr(champion, name) for name in NewVersion.model_fields}
        changed = {"digest": bundle.digest, "source": source, "semver": f"1.0.{number}"}
        registry.register(NewVersion(**{**known, **changed}), {})


@pytest.fixture
def place(wine: Finished, tmp_path: Path) -> Path:
    """A directory with all that the documents' commands name."""
    home = copied(wine, tmp_path)
    add_versions(home, 4)
    snapshot = next((home / "objects/snapshots").glob("*/data.parquet"))
    rows = pq.read_table(snapshot).to_pandas()
    pd.DataFrame(rows.head(5)).drop(columns="grower").to_csv(tmp_path / "more.csv", index=False)
    spec = yaml.safe_load(wine.spec.read_text(encoding="utf-8"))
    (tmp_path / "customers.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    return tmp_path


def test_every_command_in_the_documents_that_needs_a_home_alone_runs(place: Path) -> None:
    wanted = [words for words in treadle_lines() if is_run_here(words)]
    assert {words[0] for words in wanted} >= {"models", "promote", "rollback", "backup", "export"}
    # The documents' model is called customers; what comes in a file was trained as wine.
    said = [["wine" if word == "customers" else word for word in words] for words in wanted]
    # Data has one version here: that between two is looked at in tests of its own.
    said = [words for words in said if "--diff" not in words]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(said)],
        cwd=place, env=environment(place / "home", {"KUBECONFIG": str(place / "none")}),
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    for words, (code, answer) in zip(said, answers, strict=True):
        assert code == 0, f"treadle {' '.join(words)} ended with {code}:\n{answer}"
        assert answer.strip()


def test_every_other_command_is_run_by_the_test_that_is_named() -> None:
    for command, test in ELSEWHERE.items():
        assert f'treadle("{command}"' in (HERE / test).read_text(encoding="utf-8"), command
    assert SERVED[2] in (HERE / SERVED[1]).read_text(encoding="utf-8")
    documented = {words[0] for words in treadle_lines()}
    assert {*ELSEWHERE, *CLUSTER, SERVED[0]} <= documented
