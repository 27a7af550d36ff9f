"""The subcommands of `pixelrobust`."""

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from experiments.command import manual
from experiments.command.evaluate import Request, Subject, evaluate, results_folder
from experiments.command.options import (
    Amplitude,
    Area,
    Classes,
    Device,
    Draws,
    Engine,
    Images,
    Keys,
    Limit,
    Models,
    Num,
    Out,
    Profile,
    Seed,
)
from experiments.command.overrides import quoted
from experiments.command.values import SeveralValues
from experiments.exits import exit_code
from experiments.places import default_results

_HELP = {"help_option_names": ["-h", "--help"]}
# Everything is another program's, --help too.
_PASSED_ON = {"help_option_names": [], "ignore_unknown_options": True, "allow_extra_args": True}
# Of changes that break even a robust network.
_DEMO = Request(num=("4", "64", "4096", "16384"), draws=2)

app = typer.Typer(
    name="pixelrobust",
    help=manual.APP,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings=_HELP,
)


def main() -> None:
    """Do what the command line asks for, and end the process."""
    app()


def _end(work: Callable[[], int]) -> NoReturn:
    sys.exit(exit_code(work))


def _version(wanted: bool) -> None:
    if wanted:
        print(f"pixelrobust {metadata.version('pixelrobust')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Say which, and exit."),
    ] = False,
) -> None:
    """Before any subcommand."""


@app.command("evaluate", cls=SeveralValues, help=manual.EVALUATE)
def _evaluate(
    context: typer.Context,
    model: Models = None,
    images: Images = "",
    classes: Classes = None,
    limit: Limit = Request.limit,
    num: Num = None,
    amplitude: Amplitude = None,
    area: Area = None,
    draws: Draws = Request.draws,
    seed: Seed = Request.seed,
    device: Device = Request.device,
    engine: Engine = Request.engine,
    out: Out = None,
    keys: Keys = None,
) -> None:
    request = Request(
        num=tuple(num or Request.num), amplitude=tuple(amplitude or Request.amplitude),
        area=tuple(area or Request.area), draws=draws, seed=seed,
        limit=limit, device=device, engine=engine, out=out,
        keys=tuple(keys or ()),
    )  # fmt: skip
    subject = Subject(tuple(model or ()), images, classes)
    if not model and not images:
        print(context.get_help())
    _end(lambda: evaluate(subject, request))


@app.command("demo", help=manual.DEMO)
def _demo() -> None:
    _end(lambda: evaluate(Subject(images="bundled"), _DEMO))


@app.command("doctor", help=manual.DOCTOR)
def _doctor(
    keys: Keys = None,
    profile: Profile = None,
    model: Models = None,
    images: Images = "",
    classes: Classes = None,
    device: Device = Request.device,
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    def work() -> int:
        from experiments.command.doctor import doctor

        subject = Subject(tuple(model or ()), images, classes)
        chosen = [f"profile={profile}"] if profile else []
        named = [*chosen, *subject.overrides(), *(keys or ())]
        places = [
            f"engine.devices={quoted(device)}",
            f"paths.results={quoted(results_folder(out))}",
        ]
        return doctor([*named, *places], bool(named), as_json)

    _end(work)


@app.command("report", help=manual.REPORT)
def _report(
    folder: Annotated[
        Path | None, typer.Argument(help="Of results; without it all are listed.")
    ] = None,
    tables: Annotated[list[str] | None, typer.Argument(help="Only these: table claims.")] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="First write tables and figures anew from outcomes.")
    ] = False,
    html: Annotated[
        bool, typer.Option("--html", help="Write everything as one interactive page, report.html.")
    ] = False,
    model: Models = None,
    images: Images = "",
    classes: Classes = None,
) -> None:
    given = [] if folder is None else [str(folder), *(tables or ())]
    given += [name for name, wanted in (("--rebuild", rebuild), ("--html", html)) if wanted]

    def work() -> int:
        from experiments.report import main as report

        shown = Subject(tuple(model or ()), images, classes).overrides()
        return report([*given, *(["--images", *shown] if shown else [])])

    _end(work)


@app.command("status", help=manual.STATUS)
def _status(
    results: Annotated[Path | None, typer.Argument(help="The folder.", show_default=False)] = None,
) -> None:
    def work() -> int:
        from experiments.status import main as status

        return status([str(results or default_results())])

    _end(work)


@app.command("verify", help=manual.VERIFY)
def _verify(
    folder: Annotated[Path, typer.Argument(help="Of results, of anyone's.")],
    keys: Keys = None,
    model: Models = None,
    images: Images = "",
    classes: Classes = None,
    share: Annotated[float, typer.Option(help="Of the outcomes, above 0 and at most 1.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Decides which.")] = 0,
    runs: Annotated[str, typer.Option(help="Only these, with commas: table6,table7.")] = "",
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train networks again that are not kept here.")
    ] = False,
) -> None:
    def work() -> int:
        from experiments.verify import main as verify

        overrides = Subject(tuple(model or ()), images, classes).overrides() + list(keys or ())
        own = ["--share", str(share), "--seed", str(seed), "--runs", runs]
        return verify([str(folder), *overrides, *own, *(["--retrain"] if retrain else [])])

    _end(work)


@app.command("run", help=manual.RUN, context_settings=_PASSED_ON)
def _run(context: typer.Context) -> None:
    def work() -> int:
        from experiments.run import main as run

        return run(context.args)

    _end(work)
