"""Make an MLflow database, in a process of its own: importing MLflow and running its migrations
takes seconds, which the first run's training has to spare.

    python -m treadle.adapters.mlflow_database DATABASE ARTIFACTS
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from treadle.errors import EnvironmentFault, RegistryError, from_os_error
from treadle.writing import written_aside


def create(database: Path, artifacts: Path) -> None:
    """Make sure that the database is there. Raises RegistryError where MLflow can't make it."""
    if database.exists():
        return
    done = subprocess.run(command(database, artifacts), capture_output=True, text=True)
    if not database.exists():
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RegistryError(f"the registry {database} can't be made: {last}")


def command(database: Path, artifacts: Path) -> list[str]:
    """Return the command that makes the database; it does nothing where there is one."""
    return [sys.executable, "-m", __name__, str(database), str(artifacts)]


def main(database: Path, artifacts: Path) -> None:
    """Make the database aside and put it into its place, whole."""
    from treadle.adapters.mlflow import EXPERIMENT, MlflowRegistry

    with TemporaryDirectory(prefix="treadle-") as scratch:
        made = Path(scratch) / "mlflow.db"
        MlflowRegistry(f"sqlite:///{made}", artifacts.as_uri()).experiment(EXPERIMENT)
        try:
            with written_aside(database, replace=False) as aside:
                shutil.copyfile(made, aside)
        except FileExistsError:
            return  # another run was faster, and may have put models there
        except OSError as error:
            raise from_os_error(error) or EnvironmentFault(str(error)) from error


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
