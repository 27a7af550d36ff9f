"""Write what is generated in README.md and docs: tables between `<!-- begin FILE -->` and `<!-- end -->`.

The file is Markdown, whose first table is taken, or "times", how long the paper's experiments take. README's
picture is drawn too.

usage: python -m scripts.readme
"""

import io
import re
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
PICTURE = REPOSITORY / "docs" / "flip.png"
_BLOCK = re.compile(r"(<!-- begin (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]

# Forward passes that each of the paper's 10,000 images takes: Tables 6 to 8 by their cells; Table 9 by an
# attack of about 20 (a gradient is as long as three, and some 15 sizes are tried) and six nums, rounded
# and not.
_PASSES = {"Table 6": 5, "Table 7": 25, "Table 8": 25, "Table 9": 32}
_IMAGES = 10_000
# Candidates, of which each network sees all unchanged.
_CANDIDATES = 50_000
# TF32 has three bits more than bf16, so that its errors are so many times smaller.
_TIMES_TF32 = 8
_ALL_OF_IMAGENET = 1_281_167
_DEVICES = (1, 4, 64)

_NETWORK = "efficientnet_lite0"
_NUMS = (0, 16, 64)
_DRAWS = 50


def with_tables(text: str) -> str:
    """Return the text with what is generated between its markers."""

    def filled(block: re.Match[str]) -> str:
        if block[2] == "times":
            return block[1] + "\n" + "\n\n".join(times()) + "\n\n" + block[3]
        lines = (REPOSITORY / block[2]).read_text(encoding="utf-8").splitlines()
        rows = [line for line in lines[: lines.index("", 2)] if line.startswith("|")]
        return block[1] + "\n".join(["", *rows, "", ""]) + block[3]

    return _BLOCK.sub(filled, text)


def times() -> list[str]:
    """Return tables of how long the paper's experiments take, by what was measured.

    Rates are those of results/benchmark*.csv. Screened on a GPU, a pass over a changed image takes the
    time of TF32, and for some of them that of fp32 too: for an eighth of those that bf16 left to fp32
    (results/screening.csv), and for those that were checked.
    """
    import pandas as pd

    gpu, cpu = (
        pd.read_csv(REPOSITORY / "results" / f"benchmark{name}.csv") for name in ("-gpu", "")
    )
    own = gpu[gpu["arm"] == "c"].set_index(["precision", "model"])["images_per_second"]
    slow, screened = (
        cpu[cpu["arm"] == arm].set_index("model")["images_per_second"] for arm in "ce"
    )
    counts = pd.read_csv(REPOSITORY / "results" / "screening.csv").sum(numeric_only=True)
    again = (counts["recomputed"] / _TIMES_TF32 + counts["checked"]) / counts["screened"]
    changed = sum(_PASSES.values()) * _IMAGES
    # Attacks, and unchanged images, are not screened.
    plain = _CANDIDATES + _PASSES["Table 9"] * _IMAGES

    def on_two_cores(name: str, rates: "pd.Series[float]") -> str:
        if name not in rates:
            return "not measured"
        seconds = plain / slow[name] + (_CANDIDATES + changed - plain) / rates[name]
        return _minutes(seconds / 60)

    by_network = []
    for name, rate in own["fp32"].items():
        minutes = {table: passes * _IMAGES / rate / 60 for table, passes in _PASSES.items()}
        by_network.append(
            {
                "Network": str(name),
                "Unchanged": _minutes(_CANDIDATES / rate / 60),
                **{table: _minutes(value) for table, value in minutes.items()},
                "All in TF32": _minutes((_CANDIDATES + changed) / own["tf32"][name] / 60),
                "All on two cores": on_two_cores(str(name), slow),
                "Screened on two cores": on_two_cores(str(name), screened),
            }
        )
    together = []
    for words, images, candidates in (
        ("the paper's 10,000 images", _IMAGES, _CANDIDATES),
        ("all 1,281,167 training images of ImageNet", _ALL_OF_IMAGENET, 0),
    ):
        passes = candidates + sum(_PASSES.values()) * images
        fast = passes - candidates - _PASSES["Table 9"] * images
        seconds = {precision: passes / own[precision] for precision in ("fp32", "tf32")}
        screened_seconds = (passes - (1 - again) * fast) / own["fp32"] + fast / own["tf32"]
        for precision, each in (seconds | {"screened": screened_seconds}).items():
            alone = each.sum() / 60
            together.append(
                {
                    "Images": words,
                    "Arithmetic": precision,
                    **{f"{count} GPU{'s' * (count > 1)}": _minutes(alone / count)
                       for count in _DEVICES},
                }
            )  # fmt: skip
    return [
        str(pd.DataFrame(table).to_markdown(index=False, disable_numparse=True))
        for table in (by_network, together)
    ]


def _minutes(minutes: float) -> str:
    """Return a time in words, with two digits that count."""
    if minutes < 1:
        return f"{60 * minutes:.2g} s"
    return f"{minutes:.2g} min" if minutes < 100 else f"{minutes / 60:.2g} h"


def draw_flip() -> bytes:
    """Draw matplotlib's own photograph, changed, with what EfficientNet-Lite0 takes it for, as a PNG.

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
        share = f"\nin {seen.count(seen[0])} of {_DRAWS} random changes" if num else ""
        title = f"{num} random pixels changed" if num else "unchanged"
        axes.set_title(f"{title}:\n{seen[0]}{share}", fontsize=9)
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, dpi=110, bbox_inches="tight", metadata={"Software": None})
    # With all its colours it would be three times as large.
    Image.open(drawn).convert("RGB").quantize(256).save(small, "PNG", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    for written in PAGES:
        written.write_text(with_tables(written.read_text(encoding="utf-8")), encoding="utf-8")
    PICTURE.write_bytes(draw_flip())
