"""The page of a benchmark: what was compared, how, and on what."""

from collections.abc import Sequence
from statistics import median

import pandas as pd

from experiments.exits import REPOSITORY
from pixelrobust.escaping import escape_markdown
from pixelrobust.manifest import Manifest
from pixelrobust.provenance import describe_software
from pixelrobust.tables import markdown_table
from scripts.benchmarking.arms import ARMS, Bench
from scripts.benchmarking.machine import describe_machine, describe_versions
from scripts.benchmarking.records import Measured
from scripts.benchmarking.summary import for_reading

_READING = (
    "The grid of Table 6: real images with 4, 8, 16, 32 and 64 random pixels changed. Every run of an "
    "arm is a process of its own; arms and networks alternate, so that whatever slows the machine "
    "slows all of them. Figures are medians over runs, with their range. A ratio is between neighbours "
    "in time: runs of the same round.",
    "Images/s are of the steady state: forward passes over the seconds that they took, with all that "
    "an arm does for each image, but without imports, loading and converting networks, and a warm-up; "
    "for (c) also without decoding and the predictions for unchanged images, which it makes once. The "
    "whole process has all of it; arms differ in their numbers of forward passes, so compare what "
    "comes on top of these.",
    "Peak memory is anonymous resident memory (memory maps aside), seen every 50 ms, of a process "
    "with its workers; what forked workers share with their parent counts for each. MB are 1e6 bytes.",
)

_ARMS = {
    "a": "the script that a researcher writes in an afternoon: torchvision's ImageFolder and a "
    "DataLoader; PIL decodes, NumPy changes each image in the transform, the network runs as "
    "plain PyTorch in fp32; all of it again for each num.",
    "b": "the same by someone who knows PyTorch: channels-last, inference mode, bytes from workers "
    "that stay, as many as were fastest when tried, changes made in whole batches.",
    "c": "this software, from an empty cache: `python -m experiments.run experiment=table6`.",
    "d": "forward passes by (c)'s engine, of images that wait in memory; nothing else.",
}


def write_page(
    title: str, summary: pd.DataFrame, benches: Sequence[Bench], runs: Sequence[Measured]
) -> str:
    """The page as Markdown.

    Args:
        title: of the page.
        summary: see `summarise`.
        benches: of the networks.
        runs: what was measured.
    """
    arms = [f"- ({arm}) {ARMS[arm]}: {_ARMS[arm]}" for arm in ARMS if arm in set(summary["arm"])]
    networks = [f"- {escape_markdown(_network(bench, runs))}" for bench in benches]
    manifests = [manifest for bench in benches for manifest in bench.manifests]
    gpu = manifests[0].hardware["gpu"] if manifests else None
    machine = f"{describe_machine(gpu)}; {describe_versions(describe_software(REPOSITORY))}."
    parts = [
        f"# {title}",
        markdown_table(for_reading(summary)),
        *_READING,
        "\n".join(arms),
        "\n".join(networks),
        escape_markdown(machine),
    ]
    return "\n\n".join(parts) + "\n"


def _network(bench: Bench, runs: Sequence[Measured]) -> str:
    """What is particular to a network."""
    job = bench.job
    own = {run.arm: run.steady for run in runs if run.model == job.label}
    images = f"{job.count} images"
    if job.files < job.count:
        images += f" (from {job.files} files, each used several times)"
    parts = [f"{job.label}: {images}"]
    if job.random:
        parts.append("random weights, made on the spot")
    for arm, steady in own.items():
        workers = "" if steady.workers is None else f", {steady.workers} workers"
        parts.append(
            f"({arm}) {steady.engine} in {steady.precision}, batch {steady.batch_size}{workers}"
        )
    if bench.manifests:
        parts.append(f"draws of each image in (c): {job.draws}")
        parts.append(_whole_process(bench.manifests))
    return "; ".join(parts) + "."


def _whole_process(manifests: Sequence[Manifest]) -> str:
    """What (c) does besides forward passes, in seconds."""

    def seconds(part: str) -> float:
        return median(manifest.seconds.get(part, 0.0) for manifest in manifests)

    return (
        f"of (c)'s whole process, {seconds('images'):.1f} s go to decoding, which a second run finds "
        f"done, {seconds('engines'):.1f} s to starting the engine, "
        f"{seconds('selection') - seconds('engines'):.1f} s to loading the network and to the "
        "unchanged images"
    )
