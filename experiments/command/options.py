"""The options of the subcommands, with what `--help` says of them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from experiments.command.evaluate import Request
from experiments.command.images import DATA_SETS
from experiments.command.names import configured_networks, library_networks, timm_weights
from experiments.places import CONFIGS

WHAT, CHANGES, WORK = "What is evaluated", "Which changes", "How it runs"


def complete_network(incomplete: str) -> list[str]:
    """Names of networks for the shell; those with the name of their weights after a dot."""
    known = [*configured_networks(), *library_networks("torchvision"), *library_networks("timm")]
    return _starting(timm_weights() if "." in incomplete else dict.fromkeys(known), incomplete)


def complete_images(incomplete: str) -> list[str]:
    """Data sets for the shell, which completes folders itself."""
    return _starting(DATA_SETS, incomplete)


def complete_profile(incomplete: str) -> list[str]:
    """Profiles for the shell."""
    return _starting(sorted(path.stem for path in CONFIGS.glob("profile/*.yaml")), incomplete)


def _engines(incomplete: str) -> list[str]:
    return _starting(("auto", "eager", "compile", "openvino"), incomplete)


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="A network of torchvision or timm by its name (LIBRARY:NAME where both have one), NAME=FILE "
        "with weights of your own (.pth, .safetensors), the folder of a saved network or of one of Hugging "
        "Face's transformers, or an ONNX file. May be given several times.",
        autocompletion=complete_network,
        rich_help_panel=WHAT,
        show_default=False,
    ),
]
Images = Annotated[
    str,
    typer.Option(
        metavar="FOLDER|FILE",
        help="Folder of class folders, named by WordNet id or English ImageNet name, or of a data set that "
        "Hugging Face's library saved; a .csv of path,label, an .npz, or WebDataset's .tar files; or "
        f"{' or '.join(DATA_SETS)}.",
        autocompletion=complete_images,
        rich_help_panel=WHAT,
        show_default=False,
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Class names other than ImageNet's, one a line, in the order of the network's outputs; "
        "folders or own: the data set's own; imagenet: ImageNet's, by name.",
        rich_help_panel=WHAT,
        show_default=False,
    ),
]
Limit = Annotated[
    int,
    typer.Option(
        metavar="N", help="At most so many images, a random sample.", rich_help_panel=WHAT
    ),
]
Num = Annotated[
    list[str] | None,
    typer.Option(
        metavar="N …",
        help="How many pixels change; one number or several: 4 16 64.",
        rich_help_panel=CHANGES,
        show_default=" ".join(Request.num),
    ),
]
Amplitude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="K …",
        help="How far the values of a changed pixel move at most, of 255; full: to any value.",
        rich_help_panel=CHANGES,
        show_default=" ".join(Request.amplitude),
    ),
]
Area = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SIDE …",
        help="Side of the centred square of changed pixels, in pixels; whole: the whole image, of "
        "224 × 224.",
        rich_help_panel=CHANGES,
        show_default=" ".join(Request.area),
    ),
]
Draws = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Independent random changes of each image; more make intervals narrower.",
        rich_help_panel=CHANGES,
    ),
]
Seed = Annotated[
    int, typer.Option(metavar="N", help="Decides every random change.", rich_help_panel=CHANGES)
]
Device = Annotated[
    str,
    typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:N.", rich_help_panel=WORK),
]
Engine = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="What runs the forward passes: auto, eager, compile or openvino.",
        autocompletion=_engines,
        rich_help_panel=WORK,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "--results",
        metavar="FOLDER",
        help="Where results go. [default: pixelrobust-results in the current folder; within the "
        "repository results]",
        rich_help_panel=WORK,
        show_default=False,
    ),
]
Keys = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE", help="Other keys of the configuration.", show_default=False
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Data set and networks that belong together, such as bundled or paper.",
        autocompletion=complete_profile,
        show_default=False,
    ),
]
