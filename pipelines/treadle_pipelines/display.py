"""Show a run's events to a person: one line a stage, and while a stage runs, what it is doing.

On a terminal the line of the running stage lives; elsewhere plain lines are written.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.status import Status

from treadle.errors import counted
from treadle_pipelines.local import STAGES, Event

_DOING = {
    "ingest": "reading the source",
    "validate": "looking at every column",
    "preprocess": "choosing features, parting rows",
    "train": "searching",
    "analyse": "measuring on held-out rows",
    "register": "registering the version",
    "deploy": "starting the server, asking it",
    "feedback": "looking at later rows",
}


@contextmanager
def shown(console: Console) -> Iterator[Callable[[Event], None]]:
    """Yield a function that takes events and shows them on ``console``."""
    if console.is_terminal:
        with console.status("starting", spinner="dots") as status:
            yield _Display(console, status)
    else:
        yield _Display(console, None)


class _Display:
    def __init__(self, console: Console, status: Status | None) -> None:
        self._console = console
        self._status = status
        self._began: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        match event["kind"]:
            case "started":
                self._skipped(event["stage"])
                self._began[event["stage"]] = event["at"]
                self._now(event["stage"], _DOING.get(event["stage"], ""))
            case "finished":
                stage = event["stage"]
                seconds = event["at"] - self._began[stage]
                self._line(stage, outcome(stage, event["results"]), seconds)
                if stage == "ingest":
                    self._notes(event["results"]["notes"])
                if self._status:
                    self._status.update("…")
            case "trial":
                self._trial(event)
            case "message" if self._status is None:
                self._console.print(f"  {event['words']}", highlight=False, markup=False)

    def _skipped(self, stage: str) -> None:
        """Name the steps before this one that were taken from an earlier run."""
        if stage not in STAGES:
            return
        for earlier in STAGES[: STAGES.index(stage)]:
            if earlier not in self._began:
                self._began[earlier] = 0.0
                self._line(earlier, "[dim]unchanged since an earlier run[/]", None)

    def _now(self, stage: str, words: str) -> None:
        if self._status:
            self._status.update(f"[bold]{stage}[/]  {words}")
        else:
            self._console.print(f"  {stage}: {words} …", highlight=False, markup=False)

    def _notes(self, notes: list[str], most: int = 8) -> None:
        """Say how the table is read, where a person might have meant something else."""
        shown = notes if len(notes) <= most else [*notes[:most], f"and {len(notes) - most} more"]
        for note in shown:
            self._console.print(f"        {note}", style="dim", highlight=False, markup=False,
                                soft_wrap=True)  # fmt: skip

    def _trial(self, event: Event) -> None:
        if event["kept"]:
            return  # an earlier run has told of it
        value, best = event["value"], event["best"]
        words = f"trial {event['done']}/{event['wanted']} {event['family']}"
        words += f": {event['metric']} {value:.4g}" if value is not None else ": failed"
        words += f" (best {best:.4g})" if best is not None else ""
        if self._status:
            words += f", {event['stopped']} stopped, {event['left_s']:.0f} s left at most"
            self._status.update(f"[bold]train[/]  {words}")
        else:
            self._console.print(f"    {words}", highlight=False, markup=False)

    def _line(self, stage: str, words: str, seconds: float | None) -> None:
        number = f"{STAGES.index(stage) + 1}/{len(STAGES)}"
        took = "" if seconds is None else f"[dim]{seconds:.1f} s[/]"
        self._console.print(
            f"[green]✔[/] [dim]{number}[/] [bold]{stage:<10}[/] {words} {took}",
            highlight=False,
            soft_wrap=True,
        )


def outcome(stage: str, results: dict[str, Any]) -> str:
    """Say in one line what a stage came to."""

    def get(key: str) -> Any:
        return results[key]

    match stage:
        case "ingest":
            size = f"{counted(get('rows'), 'row')}, {counted(get('columns'), 'column')}"
            return f"{size} → snapshot {get('digest')[:12]}"
        case "validate":
            words = f"{get('accepted'):,} good rows"
            words += f", {get('quarantined'):,} set aside" if get("quarantined") else ""
            noticed = len(get("findings"))
            return words + (f", {counted(noticed, 'thing')} noticed" if noticed else "")
        case "preprocess":
            words = f"{get('train'):,} rows to learn from, {get('test'):,} held out"
            words += f" (from {get('cutoff')[:10]})" if get("cutoff") else ""
            return words + (f", {get('shared'):,} of them in both" if get("shared") else "")
        case "train":
            best = f"{get('metric')} {get('value'):.4g} on the tuning rows"
            words = f"{counted(get('trials'), 'trial')}, best {get('family')} ({best})"
            own = f"{get('own'):,} of {get('segments'):,} segments with a model of their own"
            return f"{words}, {own}" if get("segments") else words
        case "analyse":
            says = "yes" if get("passed") else "no"
            interval = f"{get('low'):.4g} … {get('high'):.4g}"
            return f"{get('metric')} {get('value'):.4g} ({interval}), the gate says {says}"
        case "register":
            return f"version {get('version')} ({get('semver')}), bundle {get('digest')[:12]}"
        case "deploy" if get("promoted"):
            return f"champion, answers over HTTP in {get('latency_ms'):.1f} ms"
        case "deploy" if get("awaits_approval"):
            return "kept as challenger until a person approves it"
        case "deploy":
            return "kept as challenger; the champion stays"
        case "feedback":
            return f"{get('verdict')}, on {counted(get('rows'), 'row')} ({get('window')})"
        case _:
            return ""
