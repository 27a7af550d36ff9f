"""Measure a random share of stored images again, and compare: `python -m experiments.verify results/bundled`."""

import argparse
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from experiments.config import settings_of
from experiments.exits import REPOSITORY, exit_code
from experiments.measures import Chosen, Subject, attack_of, chosen_from
from experiments.pipeline import MEASUREMENTS
from experiments.retrain import (
    Network,
    Plan,
    Viewer,
    images_to_attack,
    networks,
    original_viewer,
    plan,
    tried_on,
    unfinished_networks,
    viewer_of,
)
from experiments.session import (
    Clock,
    Progress,
    Sample,
    Session,
    all_models,
    get_classifier,
    get_engine,
    image_set,
    predictions_of,
    rows_of,
)
from experiments.stored import Run, outcomes_file, stored_runs
from experiments.terminal import console, say_page
from pixelrobust.attacks import is_straight
from pixelrobust.engine.base import label_margins
from pixelrobust.errors import InputError, escape_markdown
from pixelrobust.evaluation.adversarial import attack_batch, attack_batches, unrounded_and_rounded
from pixelrobust.evaluation.cells import draws_of
from pixelrobust.evaluation.forward import Task
from pixelrobust.evaluation.selection import select
from pixelrobust.evaluation.worst_case import EXTREME
from pixelrobust.files import file_sha256, write_text
from pixelrobust.models.build import Classifier
from pixelrobust.outcomes.kinds import (
    ACTIVATIONS,
    ADVERSARIAL,
    ALL_CLASSES,
    CELL_COLUMNS,
    EXTREMES,
    OUTCOMES,
    SEARCH,
    WORST_CASE,
    Kind,
    kind_of,
)
from pixelrobust.outcomes.manifest import Manifest, describe_hardware, describe_software
from pixelrobust.outcomes.rows import cell_in, cell_of, pixels_from_text
from pixelrobust.perturbation.grid import Cell, region
from pixelrobust.perturbation.pixels import PixelChange, as_floats
from pixelrobust.settings import (
    DatasetSettings,
    RunSettings,
    as_epsilon,
    model_label,
    overshoot_of,
    retrain_settings,
    stored_attack,
)
from pixelrobust.tables.rates import markdown_table

REPORT = "verification.md"
EXIT_CONTRADICTED = 1
BORDERLINE = 1e-2
"""So far apart logits may lie for another order of the same sums to swap them. Engines in float32 differ
by some 1e-5 of the largest logit."""
_SHARE = 0.01
# Measured numbers may differ by so much, for the same reason; small ones are differences of large sums.
_RELATIVE, _ABSOLUTE = 1e-2, 1e-5
# Sizes of attacks, in 1/255, may differ by so much.
_SAME_SIZE = 1e-2
_TEXTS = ("model", "image", "images_are", "against", "epsilon", "change", "layer", "method")
_FAULT = ["model", "image", "which", "was", "now", "gap", "fault"]
_HEADINGS = {
    "run": "Run", "model": "Model", "image": "Image", "which": "Outcome", "was": "Stored",
    "now": "Recomputed", "gap": "Logits apart", "fault": "What",
}  # fmt: skip

FAULTS = {
    "borderline": "two logits are all but equal, so another order of sums can decide",
    "way": "the search went another way, as another order of sums can make it; its change does what is stored",
    "prediction": "the network takes the image for another class",
    "label or wrong": "the label is another, or wrong does not follow from label and prediction",
    "attack": "the attack ends at another image",
    "adversarial": "the adversarial class is not what the attacked image was taken for",
    "value": "the number is another",
    "count": "outcomes are missing, or there more than once, or there are no such ones",
}
HARMLESS = ("borderline", "way")
"""What can be the matter with a row; all but the harmless ones contradict it."""


class NotKeptError(InputError):
    """Say that retrained networks of a run are not on this machine."""


def verify_folder(
    folder: Path,
    wanted: Sequence[str],
    settings: RunSettings,
    share: float,
    seed: int,
    train: bool = False,
) -> tuple[str, int]:
    """Measure a random share of what runs measured again, and write the report.

    Args:
        folder: of results.
        wanted: names of runs; none: all.
        settings: where images, weights and the cache are, on which device to run.
        share: of the images of each network, set of images and attack, at least one of each.
        seed: decides which.
        train: whether to retrain networks that are not kept; else their runs are left out.

    Returns:
        The report, and how many rows it contradicts.

    Raises:
        InputError: there is nothing to verify, or images or weights are not those of the run.
    """
    stored = stored_runs(folder).items()
    runs = {name: run for name, run in stored if (not wanted or name in wanted) and len(run[1])}
    if not runs:
        raise InputError(
            f"{folder} holds no outcomes{' of ' + ', '.join(wanted) if wanted else ''}; give a folder "
            "that a run has written into, such as results/bundled."
        )
    given = settings.engine.devices
    # What is recomputed is too little to be shared by several.
    settings = settings.on_device(given if isinstance(given, str) else "auto")
    session = Session(settings, Progress(console()))
    checked, kept, parts, left_out = 0, dict[str, Run](), list[pd.DataFrame](), list[str]()
    for name, run in runs.items():
        sample = sampled(run[1], kind_of(run[0].config), share, seed)
        try:
            found = _verify_run(session, run, runs, sample, train)
        except NotKeptError as error:
            session.progress.say(str(error))
            left_out.append(str(error))
        else:
            kept[name] = run
            checked += len(sample)
            parts.append(found.assign(run=name))
    session.progress.end_line()
    if not parts:
        raise InputError(*left_out)
    faulty = pd.concat(parts)
    asked = f"{100 * share:g} % of the images of each network, at least one; seed {seed}"
    text = _report(folder, kept, checked, asked, left_out, faulty, session)
    write_text(folder / REPORT, text)
    return text, int((~faulty["fault"].isin(HARMLESS)).sum())


def _report(
    folder: Path,
    runs: Mapping[str, Run],
    checked: int,
    asked: str,
    left_out: Sequence[str],
    faulty: pd.DataFrame,
    session: Session,
) -> str:
    """Return what was found, with a digest of it."""
    borderline, ways = (int((faulty["fault"] == harmless).sum()) for harmless in HARMLESS)
    contradicted = len(faulty) - borderline - ways
    other_ways = (
        f"{ways:,} searches went another way now, and their stored changes do what is stored. "
        if ways
        else ""
    )
    lines = [
        "# Verification",
        f"Of {sum(len(rows) for _, rows in runs.values()):,} stored outcomes of {', '.join(runs)}, "
        f"{checked:,} were recomputed ({asked}). {borderline:,} differ where two logits are within "
        f"{BORDERLINE:g} of each other, as another order of sums can make them. {other_ways}"
        + (
            f"{contradicted:,} are contradicted." if contradicted else "No outcome is contradicted."
        ),
        *(f"Left out: {escape_markdown(why)}" for why in left_out),
    ]
    if len(faulty):
        apart = ["" if pd.isna(gap) else f"{gap:.3g}" for gap in faulty["gap"]]
        table = faulty[list(_HEADINGS)].assign(gap=apart).rename(columns=_HEADINGS)
        known = [f"{one}: {why}" for one, why in FAULTS.items() if one in set(faulty["fault"])]
        lines += [markdown_table(table), "; ".join(known) + "."]
    files = [f"{name} {file_sha256(outcomes_file(folder, name))[:16]}" for name in runs]
    software, hardware = describe_software(REPOSITORY), describe_hardware(session.device)
    versions = [
        f"{key} {software[key]}" for key in ("python", "torch", "openvino") if software[key]
    ]
    provenance = (
        f"Outcomes (SHA-256): {', '.join(files)}. Verified {datetime.now(UTC):%Y-%m-%d} by commit "
        f"{software['commit']}, {', '.join(versions)}, on {hardware['gpu'] or hardware['device']}."
    )
    body = "\n\n".join([*lines, escape_markdown(provenance)])
    return f"{body}\n\nSHA-256 of all above: {hashlib.sha256(body.encode()).hexdigest()}\n"


def sampled(rows: pd.DataFrame, kind: Kind, share: float, seed: int) -> pd.DataFrame:
    """Return the rows of a share of the images of each network, set of images and attack.

    Images stand in one random order for all, of which each takes the first: so few are measured.
    """
    rows = rows.reset_index(drop=True)
    images = list(rows["image"].cat.categories)
    order = np.random.default_rng(seed).permutation(len(images))
    place = rows["image"].astype(str).map(dict(zip(images, order, strict=True))).astype(np.int64)
    parts: list[int] = []
    for _, own in place.groupby([rows[column] for column in _parts(kind)], observed=True):
        places = np.sort(own.unique())
        count = max(1, round(share * len(places)))
        parts += own.index[own <= places[count - 1]].tolist()
    return rows.loc[parts]


def _parts(kind: Kind) -> list[str]:
    """Return the columns that part rows by network, set of images and attack."""
    names = ("model", "training_seed", "images_are", "against", "epsilon")
    return [name for name in names if name in kind.keys]


def _verify_run(
    session: Session, run: Run, runs: Mapping[str, Run], sample: pd.DataFrame, train: bool
) -> pd.DataFrame:
    """Return what is the matter with the sampled rows of a run, and with the number of all its rows."""
    manifest, rows = run
    kind, counts = kind_of(manifest.config), dict[str, int]()
    measure, is_planned = MEASUREMENTS[kind.name]
    session = _as_it_was(session, manifest, kind, sample)
    if is_planned:
        chosen = _planned(session, manifest, train)
        counts = {name: len(images.keys) for name, images in chosen.test_sets().items()}
        again = measure(session, chosen)
        shown = Shown(session, kind, plan=chosen)
    else:
        own = session.settings.models
        keys = {model_label(key, model): key for key, model in own.items()}
        subjects = []
        for model in map(str, rows["model"].unique()):
            if model not in keys:
                raise InputError(_unknown(model, manifest, keys))
            classifier = get_classifier(session, keys[model])
            _check_weights(manifest, classifier)
            engine = get_engine(session, keys[model], image_set(session))
            subjects.append(Subject(classifier, engine))
        images = _all_images(session, run, runs, kind)
        again = pd.concat([measure(session, images, one) for one in subjects])
        shown = Shown(session, kind, images, subjects)
    missing = incomplete(rows, kind, manifest.draws, counts)
    return pd.concat([missing, compare(sample, again, kind, shown.gap, shown.ties)])


def _as_it_was(session: Session, manifest: Manifest, kind: Kind, sample: pd.DataFrame) -> Session:
    """Return the session with the settings of a run, as far as its manifest has them.

    Raises:
        InputError: it lacks what its rows need, or its settings are not such as a run has.
    """
    config, own = manifest.config, session.settings
    seed = config.get("seed")
    if not isinstance(seed, int) or seed < 0:
        raise InputError(
            f"the manifest of {manifest.name} does not say by which seed its images were "
            "changed, so nothing can be computed again; run the experiment again."
        )
    needed = {"epsilon": "attack", "training_seed": "retrain"}
    for group in (needed[key] for key in kind.keys if key in needed):
        if not isinstance(config.get(group), dict):
            raise InputError(
                f"the manifest of {manifest.name} has no {group}, which its rows need; run the "
                "experiment again."
            )
    changes: dict[str, Any] = {
        "name": manifest.name,
        "seed": seed,
        "draws": manifest.draws,
        "measure": config.get("measure", OUTCOMES.name),
        "dataset": _dataset(config.get("dataset"), own.dataset),
        "engine": own.engine.model_copy(update={"compared": 0}),
        "attack": None,
    }
    if "epsilon" in kind.keys:
        epsilons = tuple(_epsilon(text) for text in sample["epsilon"].unique())
        changes["attack"] = stored_attack(config).model_copy(update={"epsilon": epsilons})
    if "training_seed" in kind.keys:
        changes["retrain"] = retrain_settings(**{**config["retrain"], "save": None})
    if kind is WORST_CASE:
        changes["queries"] = config.get("queries")
        if not isinstance(changes["queries"], int) or changes["queries"] < 1:
            raise InputError(
                f"the manifest of {manifest.name} does not say how many queries its search had; run the "
                "experiment again."
            )
    if kind is ACTIVATIONS:
        stored = {"controls": config.get("augmentations", ())}
        if isinstance(config.get("retrain"), dict):
            stored["noise"] = config["retrain"].get("noise")
        changes["retrain"] = retrain_settings(**own.retrain.model_dump() | stored)
        changes["augmentations"] = changes["retrain"].controls
    known = all_models(own)
    for group in ("models", "selection_models"):
        if isinstance(config.get(group), dict):
            for key in config[group]:
                if key not in known:
                    raise InputError(_unknown(key, manifest, known))
            changes[group] = {key: known[key] for key in config[group]}
    columns = [key for key in CELL_COLUMNS if key in kind.keys]
    cells = [cell_of(rows) for _, rows in sample.groupby(columns, dropna=False)] if columns else []
    return replace(
        session,
        settings=own.model_copy(update=changes),
        sample=Sample(frozenset(sample["image"].astype(str)), cells),
        noted=manifest.engines,
        clock=Clock(),
        engines={},
    )


def _dataset(stored: Any, own: DatasetSettings) -> DatasetSettings:
    """Return this machine's data set, cut down to as many images as the run looked at."""
    known = stored if isinstance(stored, dict) else {}
    kept = {key: known[key] for key in ("candidates", "limit") if key in known}
    if not all(value is None or (isinstance(value, int) and value > 0) for value in kept.values()):
        raise InputError(
            "the manifest's dataset.candidates or dataset.limit is no number of images; run the "
            "experiment again."
        )
    return own.model_copy(update=kept)


def _epsilon(text: str) -> float | str:
    """Return a stored epsilon as the attack takes it."""
    try:
        return as_epsilon(float(text) if text[-1:].isdigit() else text)
    except ValueError:
        raise InputError(f"{text!r} is stored as an epsilon, which it is not.") from None


def _unknown(model: str, manifest: Manifest, known: Mapping[str, Any]) -> str:
    return (
        f"model {model} of {manifest.name} is not among the models ({', '.join(known)}); name it: "
        f"model={model}."
    )


def _check_weights(manifest: Manifest, classifier: Classifier) -> None:
    """Raise InputError where a network's weights are not those that a run had."""
    if classifier.weights_sha256 != manifest.weights_sha256.get(classifier.name):
        raise InputError(
            f"the weights of {classifier.name} are not those that {manifest.name} ran with; give them: "
            "models.<name>.weights=FILE."
        )


def _planned(session: Session, manifest: Manifest, train: bool) -> Plan:
    """Return what a run retrained, with the same images.

    Raises:
        NotKeptError: networks are not kept here, and may not be trained.
        InputError: images or weights are not those of the run.
    """
    chosen = plan(session)
    _check_weights(manifest, chosen.classifier)
    if chosen.selection.image_list_sha256 != manifest.image_list_sha256:
        raise InputError(
            f"other images are selected now than {manifest.name} retrained on; give the data set, "
            "preprocessing and engine that it ran with."
        )
    lacking = unfinished_networks(session, chosen)
    if lacking and not train:
        raise NotKeptError(
            f"{manifest.name}: {len(lacking)} of its retrained networks are not kept here, {lacking[0]} "
            "for example; --retrain trains them."
        )
    return chosen


def _all_images(session: Session, run: Run, runs: Mapping[str, Run], kind: Kind) -> Chosen:
    """Return the images of a run.

    Not every attacked image has rows. A run of plain outcomes over the same images names them all;
    else they are selected as the run did.

    Raises:
        InputError: other images are selected, or there.
    """
    manifest, images, settings = run[0], image_set(session), session.settings
    naming = [run] if kind is not ADVERSARIAL else [
        other for other in runs.values()
        if other[0].image_list_sha256 == manifest.image_list_sha256
        and kind_of(other[0].config) is OUTCOMES
    ]  # fmt: skip
    if naming:
        keys = list(naming[0][1]["image"].cat.categories)
        return chosen_from(images, rows_of(images, manifest, keys))
    predictions = {key: predictions_of(session, key, images) for key in settings.selection_models}
    selection = select(images, predictions, settings.dataset.limit, settings.seed)
    if selection.image_list_sha256 != manifest.image_list_sha256:
        raise InputError(
            f"other images are selected now than {manifest.name} had; give the data set, preprocessing, "
            "networks and engine that it ran with."
        )
    return chosen_from(images, selection.indices)


class Shown(NamedTuple):
    """Show single images once more, to tell what differs from what another order of sums can change.

    Attributes:
        session: of the run.
        kind: of its rows.
        images, subjects: what a run of given models measured.
        plan: what a run retrained.
    """

    session: Session
    kind: Kind
    images: Chosen | None = None
    subjects: Sequence[Subject] = ()
    plan: Plan | None = None

    def gap(self, row: "pd.Series[Any]") -> float:
        """Return how far the largest logit lies above that of a row's prediction."""
        viewer, key = self._viewer(row), str(row["image"])
        if "epsilon" in self.kind.keys:
            before, after, _ = self._attacked(row)
            pixels = unrounded_and_rounded(after if row["size"] > 0 else before)[row["rounded"]]
        else:
            images = self.plan.test_sets()[row["images_are"]] if self.plan else self.images
            assert images
            pixels = torch.as_tensor(images.pixels[np.array([images.keys.index(key)])])
        if row.get("method") == SEARCH:
            try:
                pixels = _with_pixels(pixels, cell_in(row), str(row["pixels"]))
            except InputError:
                # No network takes what is no such change for anything.
                return np.inf
        elif "num" in self.kind.keys:
            cell = cell_in(row)
            settings = self.session.settings
            limits = cell.num, cell.amplitude, cell.area
            manner = settings.perturbation.manner
            manner = EXTREME if row.get("method") == EXTREMES else manner
            change = PixelChange(*limits, settings.seed, *manner)
            pixels = change(pixels, [key], int(row["draw"]))
        logits = viewer.engine.logits(pixels.to(viewer.engine.device))[0].cpu()
        classes = viewer.classes if self.plan else np.arange(len(logits))
        output = np.flatnonzero(classes == row["prediction"])
        return float(logits.max() - logits[output[0]]) if len(output) else np.inf

    def ties(self, row: "pd.Series[Any]") -> bool:
        """Return whether the smaller of two changes all but ties the label with another class.

        The two are of the size that is stored, and that found again; 0 where the attack failed. Of a
        multiple of the smallest epsilon, the smallest may tie too. Only of attacks that go straight on
        is such a change known.
        """
        smaller = min((x for x in (row["size"], row["size_again"]) if x > 0), default=0.0)
        if not is_straight(attack_of(self.session.settings)):
            return False
        before, after, task = self._attacked(row)
        largest = float((after - before).abs().max()) * 255
        if not largest:
            return False
        device = task.engine.device
        label = torch.as_tensor(task.labels[[task.keys.index(str(row["image"]))]]).to(device)
        for size in {smaller, smaller / (overshoot_of(str(row["epsilon"])) or 1)}:
            image = (before + (after - before) * (size / largest)).clamp(0, 1)
            margin = label_margins(task.engine.logits(image.to(device)), label)
            if abs(float(margin[0])) <= BORDERLINE:
                return True
        return False

    def _attacked(self, row: "pd.Series[Any]") -> tuple[Tensor, Tensor, Task]:
        """Return a row's image before and after the attack, (1, C, H, W) each, and how it was shown."""
        settings, key = self.session.settings, str(row["image"])
        network = row["model"], row.get("training_seed"), row.get("against")
        place = ("attacked", settings.name, *network)
        attacker, images = self.session.workshop.get(place, lambda: self._attack(row))
        task = images.task(attacker.engine, attacker.network.name)
        attack = attack_of(settings)
        if key not in task.keys:
            raise InputError(f"{settings.name} holds outcomes of {key!r}, which was not attacked.")
        size, asked = task.engine.batch_size, frozenset([key])
        (index,) = attack_batches(task, attack, settings.seed, size, asked)
        epsilon, module = _epsilon(str(row["epsilon"])), attacker.network.module
        made = attack_batch(task, module, index, attack, epsilon, settings.seed)
        own = [[task.keys[one] for one in index].index(key)]
        return as_floats(torch.tensor(task.images[index[own]])), made.images[own].cpu(), task

    def _attack(self, row: "pd.Series[Any]") -> tuple[Viewer, Chosen]:
        """Return the network that a row's image was to fool, and all images that were attacked with it."""
        if self.plan is None:
            assert self.images
            return self._viewer(row), self.images
        original = original_viewer(self.session, self.plan)
        images = images_to_attack(self.session, original, self.plan)
        if row["against"] == "original":
            return original, images
        viewer = self._viewer(row)
        return viewer, tried_on(self.session, viewer, self.plan, images)

    def _viewer(self, row: "pd.Series[Any]") -> Viewer:
        """Return the network of a row."""
        place = ("viewer", self.session.settings.name, row["model"], row.get("training_seed"))
        return self.session.workshop.get(place, lambda: self._made(row))

    def _made(self, row: "pd.Series[Any]") -> Viewer:
        if self.plan is None:
            (one,) = (one for one in self.subjects if one.classifier.name == row["model"])
            network = Network(one.classifier.name, 0, one.classifier.module)
            return Viewer(network, one.engine, np.arange(0))
        if str(row["model"]).endswith(ALL_CLASSES):
            return original_viewer(self.session, self.plan)
        for network in networks(self.session, self.plan):
            if (network.name, network.seed) == (row["model"], row["training_seed"]):
                break
        return viewer_of(self.session, self.plan, network)


def _with_pixels(images: Tensor, cell: Cell, text: str) -> Tensor:
    """Return an image (1, C, H, W), uint8, with stored pixels; InputError where these are no such change."""
    places, values = pixels_from_text(text)
    changed = images.clone()
    rows, columns = torch.as_tensor(places).unbind(dim=1)
    inside = torch.zeros(images.shape[2:], dtype=torch.bool)
    inside[region(cell.area, (images.shape[2], images.shape[3])).slices] = True
    is_within = bool(((rows < images.shape[2]) & (columns < images.shape[3])).all())
    if not (
        len({tuple(place) for place in places.tolist()}) == len(places) == cell.num
        and values.shape[1] == images.shape[1]
        and is_within
        and bool(inside[rows, columns].all())
    ):
        raise InputError(
            f"{text!r:.60} is stored as a change of {cell.num} pixels, which it is not."
        )
    changed[0, :, rows, columns] = torch.as_tensor(values).T
    return changed


def compare(
    stored: pd.DataFrame,
    again: pd.DataFrame,
    kind: Kind,
    gap: Callable[["pd.Series[Any]"], float],
    ties: Callable[["pd.Series[Any]"], bool],
) -> pd.DataFrame:
    """Return what is the matter with stored rows, the columns of `_FAULT` for each that is faulty.

    Args:
        stored: rows of a kind.
        again: rows of this kind that were measured again; there may be more.
        kind: names the columns that rows are joined by, and those that are compared.
        gap: how far the largest logit lies above that of the row's prediction, when shown again.
        ties: whether the smaller of a row's attack and the one made again ends where two classes
            all but tie.
    """
    stored = stored.astype({key: str for key in kind.keys if key in _TEXTS})
    again = again.astype({key: stored[key].dtype for key in kind.keys})
    both = stored.merge(again, "left", kind.keys, suffixes=("", "_again"), indicator="found")
    faults = []
    if "size" in kind.values:
        faults.append(_other_sizes(both, kind, ties))
        image = [*_parts(kind), "image"]
        elsewhere = pd.MultiIndex.from_frame(faults[0][image])
        both = both[~pd.MultiIndex.from_frame(both[image]).isin(elsewhere)]
    if kind is WORST_CASE:
        searched = both["method"] == SEARCH
        faults.append(_other_searches(both[searched], gap))
        once = both.drop_duplicates(["model", "image"])
        faults.append(_other_numbers(once[once["found"] == "both"], ["margin"]))
        both = both[~searched]
        # Another draw is the first to flip where logits all but tie.
        same = both[(both["pixels"] != "") & (both["pixels_again"] != "")]
        faults.append(_other_numbers(same, ["pixels"]))
    if "prediction" in kind.values:
        faults.append(_other_outcomes(both, gap))
    else:
        faults.append(_other_numbers(both, kind.values))
    if "adversarial" in kind.values:
        faults.append(_other_classes(both, kind))
    found = pd.concat(faults)
    return found.assign(which=[_which(row, kind) for _, row in found.iterrows()])[_FAULT]


def _other_sizes(
    both: pd.DataFrame, kind: Kind, ties: Callable[["pd.Series[Any]"], bool]
) -> pd.DataFrame:
    """Return a row of each image at which an attack ends now with a change of another size."""
    both = both.assign(size_again=both["size_again"].astype(float).fillna(0))
    # What is no number is not the same either.
    other = ~((both["size"].astype(float) - both["size_again"]).abs() <= _SAME_SIZE)
    ends = both[other].drop_duplicates([*_parts(kind), "image", "size"])
    fault = ["borderline" if ties(row) else "attack" for _, row in ends.iterrows()]
    was, now = ([_size(one) for one in ends[column]] for column in ("size", "size_again"))
    return ends.assign(was=was, now=now, gap=np.nan, fault=fault)


def _other_outcomes(both: pd.DataFrame, gap: Callable[["pd.Series[Any]"], float]) -> pd.DataFrame:
    """Return the rows whose label, prediction or wrong is another, or that there should not be."""
    wrong = both["prediction"] != both["label"]
    faulty = both["found"] != "both"
    faulty |= (both["label"] != both["label_again"]) | (both["wrong"] != wrong)
    faulty |= both["prediction"] != both["prediction_again"]
    return _judged(both[faulty], gap, "borderline")


def _other_searches(both: pd.DataFrame, gap: Callable[["pd.Series[Any]"], float]) -> pd.DataFrame:
    """Return the searches that end elsewhere now: what is stored of each is shown to the network once more."""
    found = ["label", "prediction", "wrong", "query", "pixels"]
    other = (both["found"] != "both") | (both["wrong"] != (both["prediction"] != both["label"]))
    other |= pd.concat([both[key] != both[f"{key}_again"] for key in found], axis=1).any(axis=1)
    rows = _judged(both[other], gap, "way")
    was = [f"{was}, query {query}" for was, query in zip(rows["was"], rows["query"], strict=True)]
    return rows.assign(was=was)


def _judged(
    rows: pd.DataFrame, gap: Callable[["pd.Series[Any]"], float], harmless: str
) -> pd.DataFrame:
    """Return rows that are not found again as they are, with what is the matter with each.

    Args:
        rows: stored, beside those that were measured again.
        gap: as in `compare`.
        harmless: the fault where the stored prediction is all but that of the largest logit.
    """
    gaps, faults, again = [], [], []
    for _, row in rows.iterrows():
        gaps.append(np.nan)
        again.append("none" if row["found"] != "both" else _outcome(row, "_again"))
        if row["found"] != "both":
            faults.append("count")
        elif row["label"] != row["label_again"] or row["wrong"] != (row["prediction"] != row["label"]):  # fmt: skip
            # What does not follow from label and prediction was not written by this software.
            faults.append("label or wrong")
        else:
            gaps[-1] = gap(row)
            faults.append(harmless if gaps[-1] <= BORDERLINE else "prediction")
    was = [_outcome(row) for _, row in rows.iterrows()]
    return rows.assign(was=was, now=again, gap=gaps, fault=faults)


def _other_classes(both: pd.DataFrame, kind: Kind) -> pd.DataFrame:
    """Return the rows whose adversarial class is not what their attacked image was taken for."""
    image = [*_parts(kind), "image"]
    attacked = both[(both["num"] == 0) & ~both["rounded"]].drop_duplicates(image)
    expected = both[image].merge(attacked[[*image, "prediction"]], "left", image)["prediction"]
    expected.index = both.index
    rows = both[both["adversarial"] != expected]
    was = [f"class {one}" for one in rows["adversarial"]]
    now = [f"class {one:.0f}" for one in expected[rows.index]]
    return rows.assign(was=was, now=now, gap=np.nan, fault="adversarial")


def _other_numbers(both: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the rows of which a measured number is another, whole ones exactly, once for each."""
    is_found = both["found"] == "both"
    parts = [both[~is_found].assign(was="there", now="none", gap=np.nan, fault="count")]
    for column in columns:
        was, now = both[column], both[f"{column}_again"]
        same = was == now
        if was.dtype.kind == "f":
            same |= np.isclose(was, now.astype(float), _RELATIVE, _ABSOLUTE, equal_nan=True)
        rows = both[is_found & ~same]
        texts = [[f"{column} {_short(one)}" for one in own[rows.index]] for own in (was, now)]
        parts.append(rows.assign(was=texts[0], now=texts[1], gap=np.nan, fault="value"))
    return pd.concat(parts)


def incomplete(
    rows: pd.DataFrame, kind: Kind, draws: int, counts: Mapping[str, int]
) -> pd.DataFrame:
    """Return what lacks rows, or has some twice: all of a network in a cell, for example.

    Args:
        rows: all of a run.
        kind: of the rows.
        draws: of the run.
        counts: how many images each set of images has.
    """
    images: Any = rows["image"].nunique()
    if "epsilon" in kind.keys:
        images = rows.groupby(_parts(kind), observed=True)["image"].transform("nunique")
    rows = rows.assign(images=images)
    pair = [key for key in kind.keys if key in ("image", "draw")]
    faults = []
    by = [key for key in kind.keys if key not in pair]
    for _, own in rows.groupby(by, dropna=False, observed=True):
        first = own.iloc[0]
        count = counts.get(str(first.get("images_are")), first["images"])
        own_draws = 1 if first.get("method") == SEARCH else draws
        expected = count * (draws_of(cell_of(own), own_draws) if "draw" in pair else 1)
        pairs = len(own[pair].drop_duplicates())
        if not len(own) == pairs == expected:
            which = _which(first.drop(pair), kind)
            was = f"{len(own):,} outcomes, {pairs:,} of them different"
            faults.append([first["model"], "all", which, was, f"{expected:,}", np.nan, "count"])
    return pd.DataFrame(faults, columns=_FAULT)


def _which(row: "pd.Series[Any]", kind: Kind) -> str:
    """Return which row of a model and image it is, such as num 64, amplitude 40, draw 1."""
    keys = [key for key in kind.keys if key in row and key not in ("model", "image")]
    return ", ".join(f"{key} {row[key]}" for key in keys if not pd.isna(row[key]))


def _outcome(row: "pd.Series[Any]", ending: str = "") -> str:
    prediction, label = int(row[f"prediction{ending}"]), int(row[f"label{ending}"])
    return f"class {prediction} of label {label}, {'wrong' if row[f'wrong{ending}'] else 'right'}"


def _short(value: Any) -> str:
    return f"{value:.20}" if isinstance(value, str) else f"{value:.6g}"


def _size(size: float) -> str:
    return f"fooled by {size:.4g}/255" if size > 0 else "not fooled"


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify a folder of results; return the exit code, 1 where an outcome is contradicted."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.verify",
        description="Measure a random share of stored images again, and compare.",
        epilog="Keys say where images and weights lie here, for example profile=bundled, or "
        "dataset=imagenet dataset.root=/data/imagenet/val.",
    )
    add = parser.add_argument
    add("folder", type=Path, help="of results, of anyone's")
    add("keys", nargs="*", metavar="KEY=VALUE", help="of the configuration")
    add("--runs", default="", metavar="NAMES", help="only these, with commas: table6,table7")
    add("--share", type=float, default=_SHARE, help=f"of the images; {_SHARE}")
    add("--retrain", action="store_true", help="train networks again that are not kept here")
    add("--seed", type=int, default=0, help="decides which; 0")
    given = parser.parse_intermixed_args(arguments)

    def work() -> int:
        if not 0 < given.share <= 1:
            raise InputError(
                f"--share={given.share} is wrong; give a number above 0, and at most 1."
            )
        wanted = [name for name in given.runs.split(",") if name]
        text, contradicted = verify_folder(
            given.folder, wanted, settings_of(*given.keys), given.share, given.seed, given.retrain
        )
        # Elsewhere the page is kept as it is, with its digest.
        if sys.stdout.isatty():
            say_page(console(), text)
        else:
            print(text)
        return EXIT_CONTRADICTED if contradicted else 0

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main())
