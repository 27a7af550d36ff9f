"""What stands below tables and figures: which images, how many, and what a reader must not conclude."""

from collections.abc import Iterable, Sequence

import pandas as pd

from experiments.paper import Experiment, published_rates
from pixelrobust.outcomes.kinds import ALL_CLASSES, CELL_COLUMNS, HELDOUT, ORIGINAL
from pixelrobust.outcomes.manifest import Manifest
from pixelrobust.settings import MINIMAL, AttackSettings, overshoot_of, stored_attack
from pixelrobust.tables.adversarial import is_restored
from pixelrobust.tables.rates import percent

# What is said of each way to change pixels that is not the usual one.
_MANNER = {
    ("channels", "together"): "All channels of a changed pixel have the same random number.",
    (
        "channels",
        "scattered",
    ): "Not pixels change but single values, as many as num pixels have on average.",
    ("repetition", True): "Positions may be drawn again, so that fewer than num pixels can differ.",
    ("values", "extreme"): "Changed values are the smallest or the largest that there may be.",
}
_NOTHING_WRONG = (
    "Not one outcome is wrong: the networks withstand all these changes on these images. The experiment "
    "breakdown shows how many changed pixels it takes."
)

RIGHT_TITLE = "Wrong predictions of images that the compared networks classify correctly unchanged"

AUGMENTED_TITLE = "Augmented images inside the network, beside small-distance samples"

AUGMENTED = (
    "How many times as far the logits of an augmented image lie from those of the image as those of the "
    "image with changed pixels: geometric mean over images that the augmentation changes, with 95 % "
    "intervals. Above 1 the augmented images are the less similar ones."
)

SEVERITIES = tuple(
    f"severity {severity} ({share} % of values)"
    for severity, share in enumerate((3, 6, 9, 17, 27), start=1)
)
OWN_BARS = "Bars are 95 % intervals."
LADDER = (
    "Impulse noise (ImageNet-C, Hendrycks & Dietterich 2019) makes a share of all values 0 or 255, each channel "
    "of a pixel on its own; it stands where as many pixels have as many values."
)
MORE_TITLE = "Points of images broken more than by random changes of the same number"
MORE = (
    "Differences in pairs of images, with 95 % intervals, not corrected for their number. The random changes "
    "have values of 0 to 255; extremes the values 0 and 255 alone, as the search has."
)
PIXELS_TITLE = "Which pixels fool: where they lie, and what they become, against chance"
PIXELS = (
    "Pixels of the first change of each method that fools, of all networks and nums together, so that large "
    "nums weigh most; 1 is chance."
)
NETWORKS_TITLE = "Is it still so? Networks by year, first kernel and accuracy"
NETWORKS = (
    "Accuracy is on all candidates, unchanged; the others are of the largest num: one random change, the mean "
    "of all that were drawn, and the search with all its queries."
)
OWN_IMAGES = (
    "Each network has resize, crop and images of its own, those that it classifies correctly: differences "
    "between networks are not of the same images."
)
MARGINS_TITLE = "Does the margin of the unchanged image predict what flips it?"
MARGINS = (
    "Spearman's rank correlation over images, with 95 % intervals (Bonett & Wright 2000), of the margin, which "
    "is how far the logit of the true class lies above the next; images that nothing flips count as the last."
)
TOO_FEW = "These are too few images to draw wrong predictions over the margin."
CALIBRATION_TITLE = "Wrong predictions of random changes, by the margin of the unchanged image"

BARS = "Bars are 95 % intervals; points side by side belong to one place on the axis."
UNDRAWN = "No prediction was wrong at any num, so no figure is drawn."
SHARES = "Fields hold per cent of the adversarial images; they are empty where there is none."
BLOCKS = (
    "Points are geometric means over images of ||f(changed) - f(image)|| / ||f(image)|| (L2), over the "
    "layers of a block first; bars are 95 % intervals. Input is the image itself."
)
QUARTILES = (
    "Of the images' changes: dots stand at the median, thick lines hold the middle half, thin lines the "
    "middle 90 %, diamonds stand at the mean."
)
"""What figures show, the beginnings of their captions."""


def histories_caption(histories: pd.DataFrame) -> str:
    """Return what must be known to read losses and accuracies of retrainings."""
    if histories["training_seed"].nunique() == 1:
        return ""
    return (
        "Lines are means over training seeds; bars, at a few epochs, go from the least to the most."
    )


def without_intervals(notes: Sequence[str]) -> str:
    """Return the notes as the caption of a figure that shows no intervals."""
    words = " ".join(notes)
    for said in ("; intervals are over images", " Intervals are over images."):
        words = words.replace(said, "")
    return words


def wrong_rate_notes(manifest: Manifest, summary: pd.DataFrame) -> list[str]:
    """Return the notes of a table of wrong rates."""
    return [
        "Wrong predictions in percent, with 95 % intervals in parentheses. Num is the number of changed "
        "pixels and their share of the image; 0 is the unchanged image, the control."
        + _said_of_zeros(summary),
        *images_notes(manifest, _draws(summary)),
        *([_NOTHING_WRONG] if not summary["wrong"].any() else []),
    ]


def _said_of_zeros(summary: pd.DataFrame) -> str:
    """Say what a rate of 0 leaves open; nothing where no changed cell has one."""
    zeros = summary[(summary["num"] > 0) & (summary["wrong"] == 0)]
    if zeros.empty:
        return ""
    return (
        f" 0.0 means that no prediction was wrong; {zeros['images'].min():,} images cannot exclude rates "
        f"up to {percent(zeros['ci_high'].max())} %."
    )


def returns_notes(manifest: Manifest, summary: pd.DataFrame) -> list[str]:
    """Return the notes of a table of adversarial images."""
    attack = stored_attack(manifest.config)
    return [
        "Adversarial images that return to their true class, in percent, with 95 % intervals in "
        "parentheses; behind the semicolon, points gained on num 0 in pairs, at num 0 how many images "
        f"there are. {_epsilon_words(summary['epsilon'].unique(), attack)} Unrounded images all fool it "
        "at num 0; rounding them to 8 bits (halves to the even value) returns some of them before any "
        "pixel is changed: those that are restored, the original bit for bit, and some that are still "
        "perturbed. What rounding does to an attack is seen on the still perturbed, what pixels add to it "
        "on the still fooling.",
        *images_notes(manifest, _draws(summary)),
        _sets_note(attack, "network and epsilon"),
    ]


def flips_notes(manifest: Manifest, table: pd.DataFrame) -> list[str]:
    """Return the notes of a table of pixels to flip."""
    wrong = [
        f"{row['wrong_unchanged']} of {row['model']}"
        for row in table.to_dict("records")
        if row["wrong_unchanged"]
    ]
    left_out = (
        f" Left out are images that are wrong unchanged: {', '.join(wrong)}." if wrong else ""
    )
    return [
        "Changes are nested: each image has a smallest number of changed pixels, among those tried, "
        "at which the network is wrong (Kaplan-Meier, with log-log 95 % intervals); images that never "
        "flip are censored at the largest. The first random change of each image counts. Log-rank "
        "tests take the networks' flips as independent, though they share images and changes, so "
        f"their p-values are cautious.{left_out}",
        *images_notes(manifest, 1),
    ]


def worst_case_notes(manifest: Manifest, queries: int) -> list[str]:
    """Return what the table of random and searched changes means, and on which images."""
    return [
        "Images (%) of which at least one of so many changes is misclassified, with 95 % intervals in "
        f"parentheses. Random: of an image's {manifest.draws:,} random changes, any may be among them; extremes: "
        "the same with only the values 0 and 255, as the search uses them; search: one of at most "
        f"{queries:,} queries that sees the network's scores, in the manner of Sparse-RS (Croce et al. 2022), "
        "as far as it had come after so many.",
        *images_notes(manifest, manifest.draws),
    ]


def amplification_notes(manifest: Manifest) -> list[str]:
    """Return the notes of a table of what becomes of changes inside networks."""
    return [
        "How many times larger the relative change of the logits is than that of the input "
        "(||f(changed) - f(image)|| / ||f(image)||, L2): medians over images for changed pixels and "
        "for Gaussian noise of the same L2 norm on the same images, and the geometric mean of their "
        "ratio, with 95 % intervals. Relative change depends on where 0 lies, so a value above 1 says "
        "little alone; the ratio compares two changes of equal size.",
        *images_notes(manifest, 1),
    ]


def ranking_notes(manifest: Manifest) -> list[str]:
    """Return the notes of the table of Pixel-indices."""
    return [
        "Pixel-index Pi = w / (p r a), with the interval that the wrong rate's 95 % interval gives; "
        "smaller is more robust. Num is the number of changed pixels and their share of the image. "
        "Compare networks within a row: over rows, Pi is constant only if wrong predictions grow in "
        "proportion to num, amplitude and area.",
        *images_notes(manifest, None),
    ]


def retraining_notes(
    manifest: Manifest, outcomes: pd.DataFrame, summary: pd.DataFrame
) -> list[str]:
    """Return the notes of the matrix of training by testing."""
    seeds = int(summary["training_seeds"].max())
    return [
        "Wrong predictions in percent, with 95 % intervals over images in parentheses; a column for each "
        "number of changed pixels in the test images, 0 the unchanged. An original network answers "
        "with the classes that take part only, as the retrained ones do; a network ending in a number "
        "was retrained on images with so many changed pixels, others are controls. Same: the images "
        "trained on, under changes that training never showed; heldout: other images. Differences are "
        "in pairs of images, * where p is below 0.05 after Holm's correction over a table's rows of "
        "the same images. Intervals are for networks of just these seeds.",
        *_training_notes(
            manifest,
            seeds,
            _draws(summary) // seeds or 1,
            _heldout(summary),
            classes=outcomes["label"].nunique(),
        ),
    ]


def right_notes(summary: pd.DataFrame) -> list[str]:
    """Return the notes of rates on images that are right unchanged."""
    counts = [
        f"{int(rows['images'].max()):,} {kind}"
        for kind, rows in summary.groupby("images_are", sort=False)
    ]
    several = summary["training_seeds"].max() > 1
    seeds = (
        ": of each training seed those of its networks, so that an image counts under some seeds or all, "
        "and its rate is the mean over these"
        if several
        else ""
    )
    return [
        "Only images that the networks of this table classify correctly unchanged, as in Experiments 1 to "
        f"3{seeds} ({listing(counts)}). {_both(several)}"
    ]


def rises_notes(summary: pd.DataFrame) -> list[str]:
    """Return the notes of differences in differences."""
    several = summary["training_seeds"].max() > 1
    return [
        "Wrong at num minus wrong unchanged, less the same of the network retrained on unchanged images, on "
        "all test images; below 0, changed pixels harm it less. * where p is below 0.05 after Holm's "
        f"correction over the rows of the same images and the interval excludes 0. {_both(several)}"
    ]


def _both(several: bool) -> str:
    """Say what intervals are over, with several seeds or one."""
    if several:
        return "Intervals are over images and seeds; the CSV file has those over images alone too."
    return "Intervals are over images, for networks of just this seed."


def transfer_notes(manifest: Manifest, rows: pd.DataFrame) -> list[str]:
    """Return the notes of adversarial images shown to retrained networks."""
    against = rows[rows["against"] == "original"].groupby("epsilon", observed=True)["image"]
    counts = against.nunique()
    least, most = int(counts.min()), int(counts.max())
    seeds = rows.loc[_retrained(rows), "training_seed"].nunique()
    epsilons, attack = rows["epsilon"].unique(), stored_attack(manifest.config)
    return [
        "Adversarial images, in percent, that a network gets wrong, with 95 % intervals over images in "
        f"parentheses; a column for each epsilon. {_epsilon_words(epsilons, attack)} Against "
        "the original: made to fool the original network with all its classes, which they all do "
        "unrounded. Against itself: made to fool the network that they are shown to, in percent of the "
        "images that it and the original are right about, so how often an attacker of that very network succeeds. "
        "Rounded: to 8 bits, as a file holds them, which turns some back into the original, bit for bit.",
        f"{least:,}{f' to {most:,}' if most > least else ''} images fool the original network, by "
        "epsilon; heldout ones where there is a training split, else those trained on. "
        + _sets_note(attack, "epsilon"),
        *_training_notes(manifest, max(seeds, 1), None, None),
    ]


def fall_note(rows: pd.DataFrame) -> str:
    """Return the note of the causes of the fall; rows are of the epsilon that it is shown of."""
    epsilon = str(rows["epsilon"].iloc[0])
    overshoot = overshoot_of(epsilon)
    smallest = "the smallest epsilon that fools it"
    size = smallest if epsilon == MINIMAL else f"epsilon {epsilon}/255"
    if overshoot is not None:
        size = f"{overshoot:g} times {smallest}"
    images, restored = (part["image"].nunique() for part in (rows, rows[is_restored(rows)]))
    return (
        f"The {images:,} images that fool the original network with all its classes, made at {size}; "
        f"rounding gives {restored:,} of them back as they were before the attack, bit for bit. Each step "
        "adds to those above, so its size hangs on their order; changes are in pairs of images."
    )


def _epsilon_words(epsilons: Iterable[str], attack: AttackSettings) -> str:
    """Say what the epsilons of a table mean."""
    epsilons = set(map(str, epsilons))
    sought = f"sought in steps of {attack.step:g}/255 up to {attack.max_epsilon:g}/255"
    if attack.refine:
        sought += ", and where one of the first 20 does, in 20 steps up to there"
    words = ["Epsilon is in 1/255."]
    if MINIMAL in epsilons:
        words.append(f"Minimal is the smallest that fools the network, {sought}.")
    if any(overshoot_of(epsilon) for epsilon in epsilons):
        words.append(
            "A multiple, such as 1.5x, is of the image's own smallest that fools, bisected."
        )
    return " ".join(words)


def _sets_note(attack: AttackSettings, each: str) -> str:
    """Say that adversarial images are different sets, and how they were chosen."""
    how = "in a random order" if attack.sample else "in the order of their names"
    return (
        f"Each {each} has images of its own, the first {attack.wanted:,} {how} that fool, or all: compare "
        "different sets with care."
    )


def distances_notes(manifest: Manifest, summary: pd.DataFrame) -> list[str]:
    """Return the notes of distances to the boundary."""
    return [
        "The distance r of an image to the boundary between its class and the nearest other, linearised "
        "(L2, pixels in [0, 1]; negative where the network is wrong), over the classes that take part. "
        "Changes are means over pairs of one image each, with 95 % intervals, * where p is below 0.05 "
        "after Holm's correction over the networks. Same: the images trained on; heldout: others.",
        *_training_notes(manifest, int(summary["training_seeds"].max()), None, _heldout(summary)),
    ]


def _training_notes(
    manifest: Manifest,
    seeds: int,
    draws: int | None,
    heldout: int | None,
    classes: int | None = None,
) -> list[str]:
    """Say which images networks were retrained on, and how many others they were tested on."""
    chosen = manifest.config.get("retrain", {}).get("selected")
    model = listing(list(manifest.rejected))
    of_classes = f" of {classes:,} classes" if classes else ""
    right = f" that {model} classifies correctly before any change" if chosen else ""
    others = f" Held out: {heldout:,} others of these classes, right or wrong." if heldout else ""
    changes = f" {_counted(draws, 'random change')} of each test image." if draws else ""
    return [
        f"Trained on: {manifest.images:,} images{of_classes}{right}, out of "
        f"{manifest.candidates:,} ({manifest.description}).{others} {_counted(seeds, 'retraining')} of "
        f"each kind.{changes} Intervals are over images.",
        *_further_notes(manifest),
    ]


def _heldout(summary: pd.DataFrame) -> int | None:
    """Return how many images were held out; None where there are none."""
    held = summary.loc[summary["images_are"] == HELDOUT, "images"]
    return int(held.max()) if len(held) else None


def _retrained(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Tell rows of retrained networks from those of the original."""
    names = rows["model"].astype(str)
    return ~(names.str.endswith(ORIGINAL) | names.str.endswith(ALL_CLASSES))


def images_notes(manifest: Manifest, draws: int | None, intervals: bool = True) -> list[str]:
    """Say which images took part, chosen how, changed how often, and the data set's own caveat."""
    models = listing(list(manifest.rejected))
    correct = "it classifies" if len(manifest.rejected) == 1 else "all of them classify"
    sample = (
        f", a random sample of the {manifest.survivors:,} that qualify"
        if manifest.images < manifest.survivors
        else ""
    )
    changes = f" {_counted(draws, 'random change')} of each image;" if draws else ""
    over_images = f" {'intervals' if draws else 'Intervals'} are over images."
    return [
        f"Images: {manifest.images:,} of {manifest.candidates:,} ({manifest.description}); selected "
        f"with {models}, as images that {correct} correctly before any change{sample}.{changes}"
        f"{over_images if intervals else ''}",
        *_further_notes(manifest),
    ]


def _further_notes(manifest: Manifest) -> list[str]:
    """Say how pixels were changed, if not as usual, what was wrong with files, and the caveat."""
    manner = manifest.config.get("perturbation", {})
    said = [words for (key, value), words in _MANNER.items() if manner.get(key) == value]
    notes = [" ".join(said)] if said else []
    if manifest.unreadable:
        notes.append(
            f"{len(manifest.unreadable):,} of {manifest.files:,} files could not be read and were left "
            "out; the run's JSON file names them."
        )
    if manifest.repeated:
        notes.append(
            f"{manifest.repeated:,} of the images show the very pixels of another, so that intervals "
            "are narrower than they should be."
        )
    return notes + ([manifest.caveat] if manifest.caveat else [])


def published_table(summary: pd.DataFrame, experiment: Experiment) -> pd.DataFrame | None:
    """Return the paper's numbers beside ours, as words; None where it reports none."""
    published = published_rates(experiment.table)
    if published.empty:
        return None
    ours = published.merge(
        summary[["model", *CELL_COLUMNS, "wrong_rate"]], how="left", on=["model", *CELL_COLUMNS]
    )
    return pd.DataFrame(
        {
            "Model": ours["model"],
            "Num": ours["num"].astype(str),
            "Published": ours["wording"],
            "Here": [
                "not evaluated" if pd.isna(r) else f"{100 * r:.1f} %" for r in ours["wrong_rate"]
            ],
            "Difference (points)": [
                "" if pd.isna(r) else f"{100 * (r - p):+.1f}"
                for r, p in zip(ours["wrong_rate"], ours["published_wrong_rate"], strict=True)
            ],
            "Where": ours["source"],
        }
    )


def _draws(summary: pd.DataFrame) -> int:
    changed = summary[summary["num"] > 0]
    return int(changed["draws"].max()) if len(changed) else 1


def listing(names: Sequence[str]) -> str:
    """Return names as words of a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _counted(count: int, noun: str) -> str:
    return f"One {noun}" if count == 1 else f"{count} {noun}s"
