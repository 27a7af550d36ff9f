"""Make the manual that `--help` prints; keys are told by the comments of the YAML files themselves.

Hydra's own help takes a second to compose what it shows.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

_MANUAL = """\
pixelrobust: how easily is an image classifier broken by changing a few random pixels?

usage: pixelrobust [-m] [GROUP=OPTION …] [KEY=VALUE …]
       (in the repository also: python -m experiments.run)

EXAMPLES
  pixelrobust experiment=table6 profile=bundled
      Table 6 on what is bundled: nothing to download.
  pixelrobust experiment=table6 profile=paper dataset.root=/data/imagenet/val
      The paper's five networks on ImageNet.
  pixelrobust model=timm models.timm.name=resnet50.a1_in1k dataset=imagefolder \\
      dataset.root=/data/images
      A network by name on a folder of class folders.
  pixelrobust -m perturbation.num=4,8,16 perturbation.area=220,200
      A sweep: every combination is a job of its own; one merged table at the end.
  pixelrobust -m experiment=table6,table7,table8 profile=bundled
      Several experiments, and what follows of them: Table 5 and the paper's claims.
  pixelrobust -m hydra/launcher=local experiment=table6,table7 profile=bundled
      Its jobs beside each other. local: on this machine; slurm: as a job array; ray_cluster:
      as tasks of Ray; processes: here, but as for Slurm. More: docs/scaling.md
  eval "$(pixelrobust -sc install=bash)"
      Lets the shell complete groups, options and keys; zsh and fish likewise.
  python -m experiments.report FOLDER
      Prints what is stored there; python -m experiments.verify computes a share of it again.
  pixelrobust --cfg job experiment=table6
      Prints the whole configuration; pixelrobust --hydra-help lists Hydra's other flags.

GROUPS (files in configs/; several models at once: model=[vgg16,alexnet])
{groups}

KEYS
{keys}

RESULTS
  results/<profile>/       unmodified experiments of a profile
  results/<name>-<hash>/   every other combination of keys; the hash stands for all that
                           determines the numbers
  tableN.csv .md .tex      the table; figureN.png .pdf: the figure
  outcomes/                every single outcome (Parquet), and how the run came about (JSON)

Errors are one sentence, and exit code 2. More: README.md"""

_SECTIONS = {
    "config.yaml": "",
    "perturbation/count/paper.yaml": "perturbation.",
    "perturbation/amplitude/full.yaml": "perturbation.",
    "perturbation/area/whole.yaml": "perturbation.",
    "dataset/base.yaml": "dataset.",
    "model/base.yaml": "models.<name>.",
    "attack/base.yaml": "attack.",
    "retrain/paper.yaml": "retrain.",
    "engine/base.yaml": "engine.",
    "tracking/wandb.yaml": "tracking.",
}
"""The files whose comments explain keys, with what stands before their keys on the command line."""

_KEY = re.compile(r"(?P<indent> *)(?P<key>\w+):(?:\s+(?P<value>[^#]*?))?(?:\s+# (?P<comment>.*))?")
_CONTINUED = re.compile(r"\s+# (?P<comment>.*)")
# These are Hydra's business.
_NOT_KEYS = ("defaults", "hydra")
_INDENT, _WIDTH = 30, 100


def manual(configs: Path) -> str:
    """Return the whole manual, of the configs in this folder."""
    return _MANUAL.format(groups=_groups(configs), keys=_keys(configs))


def _groups(configs: Path) -> str:
    """Return a line for each group, with its options."""
    options: dict[str, list[str]] = {}
    for path in sorted(configs.rglob("*.yaml")):
        group = path.parent.relative_to(configs).as_posix()
        if group != "." and not group.startswith("hydra") and path.stem != "base":
            options.setdefault(group, []).append(path.stem)
    return "\n".join(f"  {group}: {', '.join(names)}" for group, names in options.items())


def _keys(configs: Path) -> str:
    """Return a line or more on each key of the configuration."""
    lines = []
    for file, prefix in _SECTIONS.items():
        text = (configs / file).read_text(encoding="utf-8")
        for key, comment in commented_keys(text):
            words = textwrap.wrap(comment, _WIDTH - _INDENT)
            name = f"  {prefix}{key}"
            # A name too long for its column has a line of its own.
            first = [] if len(name) < _INDENT - 1 else [name]
            shown = [" " * _INDENT + line for line in words]
            if not first:
                shown[0] = name.ljust(_INDENT) + words[0]
            lines += [*first, *shown]
    return "\n".join(lines)


def commented_keys(text: str) -> Iterator[tuple[str, str]]:
    """Yield the keys of a YAML file that have a comment, dotted, each with its comment."""
    above: list[tuple[int, str]] = []
    found: list[tuple[str, list[str]]] = []
    is_open = False
    for line in text.splitlines():
        continued, match = _CONTINUED.fullmatch(line), _KEY.fullmatch(line)
        if continued and is_open:
            found[-1][1].append(continued["comment"])
        elif match:
            indent = len(match["indent"])
            above = [(depth, key) for depth, key in above if depth < indent]
            above.append((indent, match["key"]))
            is_open = bool(match["comment"]) and above[0][1] not in _NOT_KEYS
            if is_open:
                found.append((".".join(key for _, key in above), [match["comment"]]))
        else:
            is_open = False
    for key, comments in found:
        yield key, " ".join(" ".join(comments).split())
