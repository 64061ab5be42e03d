"""The command line. Results go to stdout, progress and faults to stderr; ``--json`` is for
machines. Exit code 0: done, 1: failed, 2: misuse, 3: a gate said no.

Imports are late: ``treadle --help`` must not wait for a model library.
"""

import errno
import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from treadle.errors import (
    HOME_WAY_OUT,
    EnvironmentFault,
    Interrupted,
    SpecError,
    TreadleError,
    check_output,
    counted,
    from_os_error,
    output_fault,
)

app = typer.Typer(
    name="treadle",
    help="Takes a table and keeps a good model of it in production.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Home = Annotated[
    Path | None,
    typer.Option("--home", help="Directory of objects, registry and runs. [.treadle]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
ModelName = Annotated[str, typer.Argument(metavar="NAME", help="The model.")]
VersionWords = Annotated[
    str,
    typer.Argument(metavar="VERSION", help="Its number, semantic version or digest."),
]
Who = Annotated[str | None, typer.Option("--who", help="Who wants it. [your login name]")]
Why = Annotated[str, typer.Option("--why", help="For the history.")]
NeededWhy = Annotated[str, typer.Option("--why", help="For the history.")]
Override = Annotated[bool, typer.Option("--override", help="Although the gate said no to it.")]
# Typer may bring a click of its own, so that click.UsageError needn't be this one.
_UsageError: Any = typer.BadParameter.__base__
SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="The spec file.")]


def main() -> None:
    """Run the command line; faults that have words end in one line, not in a traceback."""
    if not sys.argv[1:]:
        sys.argv.append("--help")
    try:
        code = app(standalone_mode=False)
        if code == Interrupted.exit_code:
            _end("interrupted", code)
        sys.exit(code)
    except TreadleError as error:
        _end(str(error), error.exit_code)
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx else "treadle"
        _end(f"{_in_our_words(error.format_message())} ({command} --help says more)", 2)
    except (KeyboardInterrupt, typer.Abort):
        _end("interrupted", Interrupted.exit_code)
    except BrokenPipeError:
        # Who reads our output has gone, as `head` does: no fault of anyone's.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        known = from_os_error(error)
        if known is None:
            raise
        _end(str(known), known.exit_code)


def _in_our_words(message: str) -> str:
    """Return click's message as ours read: one sentence, with what may have been meant."""
    words = message.strip().rstrip(".").replace(". Did you mean", "; did you mean")
    words = re.sub(r" \(Possible options: (.*)\)", r"; did you mean \1?", words)
    return words[:1].lower() + words[1:]


def _end(words: str, code: int) -> None:
    print(f"treadle: {words}", file=sys.stderr)
    sys.exit(code)


def _set_home(home: Path | None) -> None:
    """Make ``--home`` a setting like any other, and see that the settings can be meant."""
    from treadle.config import Settings

    if home is not None:
        os.environ["TREADLE_HOME"] = str(home)
    place = Settings.from_environment().home
    for folder in (place, *place.parents):
        if folder.exists() and not folder.is_dir():
            raise EnvironmentFault(f"the home {place} can't be a directory: {folder} is a file; "
                                   f"{HOME_WAY_OUT}")  # fmt: skip


@app.command()
def init(
    table: Annotated[str, typer.Argument(help="CSV, JSON lines or Parquet file.")],
    target: Annotated[str, typer.Option("--target", help="The column to predict.")],
    out: Annotated[Path | None, typer.Option("-o", help="The spec to write. [NAME.yaml]")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a spec inferred from a table, every choice commented."""
    from treadle_pipelines import init as inits

    stem = re.sub(r"[^a-z0-9]+", "-", Path(table).name.split(".")[0].lower()).strip("-")
    name = stem if stem[:1].isalpha() else f"model-{stem}".rstrip("-")
    path = out or Path(f"{name[:63]}.yaml")
    inits.check_free(path)
    inferred, why = inits.infer(table, target, name[:63])
    spec = inits.relative_to(inferred, path.parent)
    inits.write(path, inits.render(spec, why))
    if as_json:
        print(json.dumps({"spec": str(path), "task": spec.task, "why": why}, ensure_ascii=False))
    else:
        print(f"wrote {path}\nnext: treadle run {path}")


@app.command()
def run(
    spec: SpecPath,
    home: Home = None,
    as_json: AsJson = False,
    as_events: Annotated[
        bool, typer.Option("--events", help="Print each event as a line of JSON, for a job's log.")
    ] = False,
) -> None:
    """Run the whole pipeline here: table to served champion, or the gate's reasons."""
    _set_home(home)
    if as_events:
        from treadle_pipelines import job_log

        sys.exit(job_log.run(spec))
    from rich.console import Console

    from treadle import runtime
    from treadle_pipelines import local, run_report, spec_file
    from treadle_pipelines.display import shown

    loaded = spec_file.load(spec)
    try:
        with shown(Console(stderr=True)) as show:
            done = local.run(loaded, show)
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted: run it again, and it goes on from what was finished"
        ) from None
    path = run_report.write(done, loaded, runtime.settings().home)
    summary = run_report.summary(done, loaded, path)
    if as_json:
        print(json.dumps(summary, ensure_ascii=False))
    else:
        _print_run(summary)
    if not summary["promoted"]:
        sys.exit(3)


def _print_run(summary: dict[str, Any]) -> None:
    name, metric = summary["model"], summary["metric"]
    state = "champion" if summary["promoted"] else "challenger; the champion stays"
    if summary["awaits_approval"]:
        state = "challenger; it waits for a person's approval"
    print(f"\n{name} version {summary['version']} ({summary['semver']}) is the {state}")
    print(f"  {metric['name']} {metric['value']:.4g} ({metric['low']:.4g} … {metric['high']:.4g})")
    for reason in summary["reasons"]:
        print(f"  {reason}")
    if summary["promoted"]:
        prediction = summary["prediction"]
        print(f"\nasked over HTTP:  POST /v1/models/{name}/predict\n  {prediction['request']}")
        print(f"answered:\n  {prediction['answer']}")
        print("\nserve it: treadle serve")
    print(f"report:   {summary['report']}")


@app.command()
def submit(
    spec: SpecPath,
    to: Annotated[
        str | None, typer.Option(help="kfp or job. [kfp where it answers, else job]")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show the run that is under way instead.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Start it, and don't wait for its end.")
    ] = False,
    every: Annotated[
        str | None, typer.Option(help="Run again and again, as in 30m, 6h or 7d.")
    ] = None,
    cron: Annotated[
        str | None, typer.Option(help="... by cron's five fields (UTC), as in '0 3 * * 1'.")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(help="KFP's experiment. [the model's name]")
    ] = None,
    disk: Annotated[str, typer.Option(help="Size of a Job's lasting home.")] = "5Gi",
    graph: Annotated[
        str, typer.Option(help="training; loop (on KFP): a pass of treadle monitor over the model.")
    ] = "training",
    as_json: AsJson = False,
) -> None:
    """Run the same pipeline on a cluster: on Kubeflow Pipelines, or as one Kubernetes Job."""
    _set_home(None)
    from treadle_pipelines import spec_file
    from treadle_pipelines import submit as submits

    known = [each.value for each in submits.BackEnd]
    if to is not None and to not in known:
        raise SpecError(f"--to {to!r} is none of {', '.join(known)}")
    options = submits.Options(
        submits.BackEnd(to) if to else None, follow, detach, every, cron, experiment, disk, graph
    )
    loaded = spec_file.load(spec)
    try:
        found, code = submits.run(loaded, options)
    except KeyboardInterrupt:
        raise Interrupted("detached: the run goes on in the cluster") from None
    print(json.dumps(found, ensure_ascii=False) if as_json else submits.words(loaded.name, found))
    if code:
        sys.exit(code)


@app.command(name="compile")
def compile_(
    spec: SpecPath,
    out: Annotated[Path, typer.Option("-o", help="The file to write (.yaml).")],
    graph: Annotated[str, typer.Option(help="training, feedback or loop")] = "training",
    as_json: AsJson = False,
) -> None:
    """Compile the graph to Kubeflow Pipelines IR, with the spec as its defaults."""
    from treadle_pipelines import compiling, spec_file

    compiling.write(spec_file.load(spec), graph, out)
    print(json.dumps({"ir": str(out)}) if as_json else f"wrote {out}")


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="One model; all if left out.")] = None,
    find: Annotated[
        str, typer.Option(help="Versions with these words in name, description, features ….")
    ] = "",
    tag: Annotated[list[str] | None, typer.Option(help="... with this tag: team=risk")] = None,
    owner: Annotated[str | None, typer.Option(help="... of this owner")] = None,
    where: Annotated[list[str] | None, typer.Option(help="... with this metric: rmse<30")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Lines a page.")] = 50,
    page: Annotated[int, typer.Option(min=1, max=1_000_000, help="Which page.")] = 1,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show models, find versions, or show one model's: aliases, metrics, lineage."""
    _set_home(home)
    from treadle_pipelines import listing

    is_search = bool(find.strip() or tag or owner is not None or where)
    if name and is_search:
        raise SpecError(f"--find, --tag, --owner and --where look among all models: leave {name!r} "
                        "out, or give it to --find")  # fmt: skip
    if name:
        print(listing.of_model(name, as_json))
    elif is_search:
        wanted = listing.query(find, tag or [], owner, where or [])
        print(listing.found(wanted, limit, page, as_json))
    else:
        print(listing.of_all(limit, page, as_json))


@app.command()
def compare(
    name: ModelName,
    version: VersionWords,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The version to hold it against.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show two versions of a model side by side: metrics, and what else differs."""
    _set_home(home)
    from treadle_pipelines import listing

    print(listing.compared(name, version, other, as_json))


@app.command()
def promote(
    name: ModelName,
    version: VersionWords,
    who: Who = None,
    why: Why = "",
    override: Override = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make a version the champion; running servers follow within seconds."""
    _set_home(home)
    from treadle_pipelines import champions

    print(champions.promote(name, version, who, why, override, as_json))


@app.command()
def approve(
    name: ModelName,
    version: VersionWords,
    why: NeededWhy,
    who: Who = None,
    override: Override = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make a version the champion that waits for a person's approval."""
    _set_home(home)
    from treadle.records import ChangeKind
    from treadle_pipelines import champions

    print(champions.promote(name, version, who, why, override, as_json, ChangeKind.APPROVED))


@app.command()
def retire(
    name: ModelName,
    version: VersionWords,
    why: NeededWhy,
    who: Who = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Put a version away for good: it can't become the champion any more."""
    _set_home(home)
    from treadle_pipelines import champions

    print(champions.retire(name, version, who, why, as_json))


@app.command()
def rollback(
    name: ModelName, who: Who = None, why: Why = "", home: Home = None, as_json: AsJson = False
) -> None:
    """Restore the former champion, without a rebuild."""
    _set_home(home)
    from treadle_pipelines import champions

    print(champions.rollback(name, who, why, as_json))


@app.command()
def history(name: ModelName, home: Home = None, as_json: AsJson = False) -> None:
    """Show who changed the champion, when, why, from what to what."""
    _set_home(home)
    from treadle_pipelines import champions

    print(champions.history(name, as_json))


@app.command()
def reproduce(
    name: ModelName, version: VersionWords, home: Home = None, as_json: AsJson = False
) -> None:
    """Rebuild a version from its lineage alone; say whether it is equal, or why not."""
    _set_home(home)
    from treadle_pipelines import reproduce as reproductions

    found = reproductions.run(name, version, lambda words: print(words, file=sys.stderr))
    print(reproductions.told(found, as_json))
    if not found.equal:
        sys.exit(1)


@app.command()
def pack(
    name: ModelName,
    version: VersionWords,
    out: Annotated[Path, typer.Option("-o", help="The file to write (.tar).")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write a version to one file, for another registry."""
    _set_home(home)
    from treadle import runtime
    from treadle.registry import archive

    check_output(out, (".tar",))
    found = runtime.version(name, version)
    try:
        archive.pack(found, runtime.bundle(found.digest), runtime.object_store(), out,
                     runtime.signing_key())  # fmt: skip
    except OSError as error:
        raise output_fault(out, error) from error
    told = {"model": name, "version": found.version, "digest": found.digest, "archive": str(out)}
    print(json.dumps(told) if as_json else f"wrote {name} version {found.version} to {out}")


@app.command()
def unpack(
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="What treadle pack wrote.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Register the version in a file that treadle pack wrote, once it is checked."""
    _set_home(home)
    from treadle import runtime
    from treadle.registry import archive as archives

    made = archives.unpack(archive, runtime.object_store(), runtime.registry(),
                           runtime.signing_key(), runtime.verify_key())  # fmt: skip
    told = {"model": made.name, "version": made.version, "digest": made.digest}
    words = f"{made.name} version {made.version} ({made.semver}), bundle {made.digest}"
    print(json.dumps(told) if as_json else f"{words}\nserve it: treadle promote {made.name} "
          f"{made.version}")  # fmt: skip


@app.command()
def backup(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write (.tar).")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write all that is kept, registry and objects, to one file."""
    _set_home(home)
    from treadle_pipelines import backups

    print(backups.backup(out, as_json))


@app.command()
def restore(
    backup: Annotated[Path, typer.Argument(metavar="FILE", help="What treadle backup wrote.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Put back what treadle backup wrote, once it is checked. Broken off, run it again."""
    _set_home(home)
    from treadle_pipelines import backups

    print(backups.restore(backup, as_json))


@app.command()
def doctor(home: Home = None, as_json: AsJson = False) -> None:
    """Say what Treadle has here, whether it works, and what to do where it doesn't."""
    _set_home(home)
    from treadle_pipelines import doctor as doctors

    findings = doctors.examine()
    print(doctors.told(findings, as_json))
    if not doctors.is_well(findings):
        sys.exit(1)


@app.command()
def export(
    name: ModelName,
    to: Annotated[str, typer.Option("--to", help="Where it is to run: bento, browser or edge.")],
    out: Annotated[Path, typer.Option("-o", help="The folder to write.")],
    version: Annotated[
        str | None, typer.Option(help="Its number, semantic version or digest. [the champion]")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write a folder from which a model runs elsewhere, with all that it needs."""
    _set_home(home)
    from treadle_pipelines import export as exports

    done = exports.run(name, to, version, out)
    print(json.dumps(done, ensure_ascii=False) if as_json else exports.told(done))


@app.command()
def data(
    name: Annotated[str | None, typer.Argument(help="One dataset; all if left out.")] = None,
    diff: Annotated[
        tuple[int, int] | None,
        typer.Option("--diff", metavar="A B", help="What changed from version A to version B."),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show datasets, or one dataset's versions: rows, snapshots, which models used them."""
    _set_home(home)
    from treadle_pipelines import data as listing

    if name is None and diff is not None:
        raise SpecError("--diff needs the dataset's name: treadle data NAME --diff A B")
    if name is None:
        print(listing.of_all(as_json))
    elif diff is None:
        print(listing.of_dataset(name, as_json))
    else:
        print(listing.between(name, *diff, as_json))


@app.command()
def predict(
    name: ModelName,
    table: Annotated[str, typer.Argument(metavar="INPUT", help="CSV, JSON lines or Parquet.")],
    out: Annotated[
        Path | None, typer.Option("-o", help="Parquet or CSV file; else CSV on stdout.")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Score a table with the champion, by the code that serves it."""
    _set_home(home)
    from treadle_pipelines import batch

    summary = batch.score(name, table, out)
    if as_json:
        print(json.dumps(summary, ensure_ascii=False))
    elif out is not None:
        print(f"wrote {counted(summary['rows'], 'prediction')} of {name} "
              f"version {summary['version']} to {out}")  # fmt: skip
        if summary["rejected"]:
            print(f"set aside {counted(summary['rejected'], 'row')}, with the reasons, in "
                  f"{summary['rejects']}", file=sys.stderr)  # fmt: skip
    for column, count in summary["ignored"].items():
        values = counted(count, "value")
        print(f"ignored {values} of {column}: {name} has seen none there", file=sys.stderr)


@app.command()
def monitor(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One model; all if left out.")
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option("--spec", help="Go by this spec's feedback section, not the champion's own."),
    ] = None,
    look: Annotated[
        bool, typer.Option("--look", help="Only look: nothing is written down, nothing is done.")
    ] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="Take NAME's incident for how things are now.")
    ] = False,
    who: Who = None,
    why: Why = "",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Look at what models answered: drift, skew, performance; decide, retrain or roll back."""
    _set_home(home)
    from treadle_pipelines import champions, monitoring, spec_file
    from treadle_pipelines import fleet as fleets

    if accept:
        if name is None or not why.strip():
            raise SpecError('--accept needs a model and a reason: treadle monitor NAME --accept '
                            '--why "…"')  # fmt: skip
        print(monitoring.accept(name, champions.who_of(who), champions.why_of(why)))
        return
    options = None if spec is None else spec_file.load(spec).feedback
    try:
        fleet = monitoring.run(name, options, look, lambda words: print(words, file=sys.stderr))
    except KeyboardInterrupt:
        raise Interrupted("interrupted: run it again, and it goes on from what was begun") from None
    print(fleets.told(fleet, as_json))
    if code := monitoring.exit_code(fleet):
        sys.exit(code)


@app.command()
def label(
    name: ModelName,
    table: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="A table with the columns id and label (and at)."),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Keep labels for logged predictions; without a file, show how they stand."""
    _set_home(home)
    from treadle_pipelines import labelling

    print(labelling.label(name, table, as_json))


def _port(text: str) -> int:
    if not str(text).isdecimal() or not 0 < int(text) < 65536:
        raise typer.BadParameter(f"{text!r} is no port: choose one from 1 to 65535")
    return int(text)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on.", parser=_port, metavar="INTEGER")
    ] = 3000,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Serve every champion in the registry over HTTP, until interrupted."""
    _set_home(home)
    from treadle import runtime

    host = _check_port(host, port)
    settings = runtime.settings()
    names = runtime.registry().names()
    example = names[0] if names else "NAME"
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if as_json:
        print(json.dumps({"url": address, "models": list(names)}), flush=True)
    print(
        f"serving {', '.join(names) or 'no model yet'} from {settings.home}\n"
        f"  {address}/v1/models\n  POST {address}/v1/models/{example}/predict",
        file=sys.stderr,
    )
    os.environ.update(settings.as_environment())
    sys.stdout.flush()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # BentoML logs to stdout
    command = [sys.executable, "-m", "treadle_serving", "--host", host, "--port", str(port)]
    os.execv(sys.executable, command)  # noqa: S606 - our own interpreter


def _check_port(host: str, port: int) -> str:
    """Return the numeric address behind ``host``, where the port is free."""
    import socket

    not_ours = SpecError(
        f"--host {host!r} is no address of this machine: --host 127.0.0.1 is for this machine "
        "alone, --host 0.0.0.0 for everyone who can reach it"
    )
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise not_ours from error
    if not host:
        raise not_ours
    # A name such as localhost has an address of each kind; all clients know IPv4.
    family, _, _, _, address = min(found, key=lambda answer: answer[0] != socket.AF_INET)
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise not_ours from error
            taken = error.errno == errno.EADDRINUSE
            reason = "is in use: end what uses it" if taken else f"can't be used ({error.strerror})"
            raise EnvironmentFault(
                f"port {port} on {host} {reason}, or choose another with --port"
            ) from error
    return str(address[0])


if __name__ == "__main__":
    main()
