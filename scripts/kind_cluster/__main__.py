"""``python -m kind_cluster deploy | undeploy | status | preflight``: the make targets."""

import sys
from collections.abc import Callable

from kind_cluster.deploying import deploy, undeploy
from kind_cluster.machine import examine
from kind_cluster.options import Options
from kind_cluster.status import status
from treadle.errors import SpecError, TreadleError


def _preflight() -> str:
    examine(Options.from_environment())
    return "it can"


VERBS: dict[str, Callable[[], str]] = {
    "deploy": lambda: deploy(Options.from_environment()),
    "undeploy": undeploy,
    "status": status,
    "preflight": _preflight,
}


def main(arguments: list[str]) -> int:
    """Do what the one argument says; return the exit code: 0 done, 1 failed, 2 misuse."""
    try:
        if len(arguments) != 1 or arguments[0] not in VERBS:
            raise SpecError(f"say one of {', '.join(VERBS)}")
        print(VERBS[arguments[0]]())
    except TreadleError as error:
        print(f"{' '.join(arguments)}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; what was begun goes on with the next make deploy", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
