"""``python -m treadle_serving``: start the model server in this process."""

import argparse
import os


def main() -> None:
    """Serve until a signal says to end."""
    parser = argparse.ArgumentParser(prog="treadle_serving")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3000)
    given = parser.parse_args()
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    from treadle_serving import process, service

    process.run(service.application(), given.host, given.port)


if __name__ == "__main__":
    main()
