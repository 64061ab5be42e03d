"""The reference of the commands, from the command line itself."""

from collections.abc import Iterator
from typing import Any

import typer.main

from documentation.markdown import code, page, table, words
from treadle.errors import TreadleError
from treadle_pipelines.cli import app

INTRODUCTION = """
Results go to stdout, progress and faults to stderr. `--json` prints one JSON value for machines.
`--home DIR` (or `TREADLE_HOME`) keeps things somewhere else than in `.treadle`.
"""
_COMMON = {"home", "as_json"}


def render() -> str:
    """Return the page."""
    parts = [INTRODUCTION, _codes()]
    for name, command in commands().items():
        parts.append(f"## treadle {name}\n\n{words(command.help, name)}\n\n{_usage(name, command)}")
        rows = [_row(name, parameter) for parameter in _parameters(command)]
        parts.append(table(["say", "for", "default"], rows) if rows else "")
    return page("Commands", *filter(None, parts))


def commands() -> dict[str, Any]:
    """Return every command by its name."""
    found: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return found


def _parameters(command: Any) -> Iterator[Any]:
    """Yield what is special to a command; what all take is said once."""
    yield from (p for p in command.params if p.name not in _COMMON)


def _usage(name: str, command: Any) -> str:
    needed = [
        _named(p) if p.param_type_name == "argument" else f"{p.opts[-1]} {_metavar(p)}"
        for p in command.params
        if p.required or p.param_type_name == "argument"
    ]
    return f"```text\n{' '.join(['treadle', name, *needed])}\n```"


def _row(command: str, parameter: Any) -> list[str]:
    said = ", ".join(parameter.opts) if parameter.param_type_name == "option" else _named(parameter)
    if parameter.param_type_name == "option" and not parameter.is_flag:
        said += f" {_metavar(parameter)}"
    help_ = words(parameter.help, f"{said} of treadle {command}")
    default = parameter.default
    shown = "" if default in (None, "", False, ()) or callable(default) else code(str(default))
    if default is None and help_.endswith("]") and " [" in help_:
        help_, _, shown = help_[:-1].rpartition(" [")
    return [code(said), help_, "**needed**" if parameter.required else shown]


def _named(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name.upper()).strip("[]")
    return name if parameter.required else f"[{name}]"


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _codes() -> str:
    kinds = sorted(_faults(TreadleError), key=lambda kind: (kind.exit_code, kind.__name__))
    by_code: dict[int, list[str]] = {0: ["done"]}
    for kind in kinds:
        by_code.setdefault(kind.exit_code, []).append(_first_sentence(kind))
    rows = [[str(code_), "; ".join(dict.fromkeys(said))] for code_, said in sorted(by_code.items())]
    return "## Exit codes\n\n" + table(["code", "means"], rows)


def _faults(kind: type[TreadleError]) -> Iterator[type[TreadleError]]:
    for each in kind.__subclasses__():
        if each.__module__ == "treadle.errors":
            yield each
            yield from _faults(each)


def _first_sentence(kind: type[TreadleError]) -> str:
    said = words(kind.__doc__, kind.__name__)
    return said.split(". ")[0].rstrip(".")
