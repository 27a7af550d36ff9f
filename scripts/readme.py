"""Write what is generated in README.md: tables between `<!-- begin FILE -->` and `<!-- end -->`, and its picture.

usage: python -m scripts.readme
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPOSITORY = Path(__file__).resolve().parent.parent
PICTURE = REPOSITORY / "docs" / "flip"
_BLOCK = re.compile(r"(<!-- begin (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

_NETWORK = "efficientnet_lite0"
_NUMS = (0, 16, 64)
_DRAWS = 50


def with_tables(text: str) -> str:
    """Return the text with the first table of each named Markdown file between its markers."""

    def filled(block: re.Match[str]) -> str:
        lines = (REPOSITORY / block[2]).read_text(encoding="utf-8").splitlines()
        rows = [line for line in lines[: lines.index("", 2)] if line.startswith("|")]
        return block[1] + "\n".join(["", *rows, "", ""]) + block[3]

    return _BLOCK.sub(filled, text)


def draw_flip() -> "Figure":
    """Draw matplotlib's own photograph, changed, with what EfficientNet-Lite0 takes it for.

    The photograph, of Grace Hopper, is the US Navy's and in the public domain.
    """
    import torch
    from matplotlib.cbook import get_sample_data
    from matplotlib.figure import Figure
    from PIL import Image

    from experiments.config import settings_of
    from pixelrobust import PixelChange
    from pixelrobust.datasets.classes import imagenet_class_names
    from pixelrobust.datasets.decoded import crop_centre
    from pixelrobust.engine.base import as_floats
    from pixelrobust.models.build import load_classifier

    settings = settings_of(f"model={_NETWORK}")
    preprocessing = settings.dataset.preprocessing
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as photograph:
        image = torch.from_numpy(crop_centre(photograph, preprocessing))[None]
    network = load_classifier(_NETWORK, settings.models[_NETWORK]).module
    words = [names[0] for names in imagenet_class_names()]
    figure = Figure(figsize=(6.4, 2.7), layout="constrained")
    for axes, num in zip(figure.subplots(1, len(_NUMS)), _NUMS, strict=True):
        change = PixelChange(num)
        draws = torch.cat([change(image, ["grace_hopper"], draw) for draw in range(_DRAWS)])
        with torch.inference_mode():
            seen = [words[index] for index in network(as_floats(draws)).argmax(dim=1)]
        axes.imshow(np.asarray(draws[0].permute(1, 2, 0)))
        axes.set_axis_off()
        share = f"in {seen.count(seen[0])} of {_DRAWS} random changes" if num else ""
        title = f"{num} random pixels changed" if num else "unchanged"
        axes.set_title(f"{title}:\n{seen[0]}\n{share}", fontsize=9)
    return figure


if __name__ == "__main__":
    from pixelrobust.figures import write_figure

    readme = REPOSITORY / "README.md"
    readme.write_text(with_tables(readme.read_text(encoding="utf-8")), encoding="utf-8")
    write_figure(draw_flip(), PICTURE)
