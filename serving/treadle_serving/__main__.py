"""``python -m treadle_serving``: start the model server in this process."""

import argparse
import os
import sys

from bentoml_cli.cli import cli


def main() -> None:
    """Hand over to BentoML's own command line."""
    parser = argparse.ArgumentParser(prog="treadle_serving")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3000)
    given = parser.parse_args()
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    sys.argv = ["bentoml", "serve", "treadle_serving.service:Treadle",
                "--host", given.host, "--port", str(given.port)]  # fmt: skip
    cli()


if __name__ == "__main__":
    main()
