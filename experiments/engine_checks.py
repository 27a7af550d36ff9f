"""How many predictions an engine changes, beside plain PyTorch, and when memory halves its batches."""

from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import nn

from experiments.resources import (
    Session,
    clean_predictions_of,
    get_classifier,
    get_engine,
)
from pixelrobust.datasets.decoded import ImageSet, PixelRows
from pixelrobust.engine import Engine, Predicted, predict_all, reference_engine


def compare_with_eager(
    session: Session,
    key: str,
    images: ImageSet,
    rows: NDArray[np.int64],
    unchanged: Predicted | None,
) -> None:
    """Count, over unchanged images of the run, where an engine and plain PyTorch disagree.

    Args:
        session: what to use; the counts are noted in its engines.
        key: of the model.
        images: the data set.
        rows: positions of the M images that take part; evenly over them, `engine.compared` are used.
        unchanged: (M,) the engine's own predictions for them, where they are known.
    """
    classifier = get_classifier(session.settings, key)
    engine, chosen = get_engine(session, key, images), _compared(session, len(rows))
    if engine.is_reference or not len(chosen):
        return
    find = partial(clean_predictions_of, session, classifier, images=images, rows=rows[chosen])
    reference = reference_engine(classifier.module, engine.device, images.image_size)
    expected = find(reference, words="unchanged images, by eager")
    found = find(engine, words="unchanged images") if unchanged is None else unchanged.take(chosen)
    _note_difference(session, classifier.name, found, expected)


def count_flips_of_halving(
    session: Session,
    name: str,
    engine: Engine,
    images: ImageSet,
    rows: NDArray[np.int64],
    unchanged: Predicted | None,
) -> None:
    """Count, where memory made an engine halve its batches, how many predictions that changes.

    Sums of another order can flip a borderline prediction, and the run holds some of either kind.

    Args:
        session: what to use; the counts are noted in its engines.
        name: of the model.
        engine: after its work.
        images, rows, unchanged: as in `compare_with_eager`; predictions from before the work.
    """
    begun = session.engines[name]["batch_size"]
    if engine.batch_size == begun or unchanged is None:
        return
    chosen = _compared(session, len(rows))
    found = predict_all(engine, PixelRows(images.pixels, rows[chosen]), lambda done: None)
    flipped = int((found.classes != unchanged.take(chosen).classes).sum())
    session.engines[name] |= {"halved_to": engine.batch_size, "flipped_by_halving": flipped}
    session.progress.say(
        f"{name}: for want of memory, batches became {engine.batch_size} images instead of {begun}; that "
        f"flips {flipped} of {len(chosen):,} predictions of unchanged images"
    )


def compare_network_with_eager(
    session: Session, name: str, module: nn.Module, engine: Engine, images: PixelRows
) -> None:
    """The same for a network that is not one of the settings, on images that it is tested on."""
    chosen = images.take(_compared(session, len(images)))
    if engine.is_reference or not len(chosen):
        return
    image_size = (images.shape[-2], images.shape[-1])
    reference = reference_engine(module, engine.device, image_size)
    found, expected = (predict_all(each, chosen, lambda done: None) for each in (engine, reference))
    _note_difference(session, name, found, expected)


def _compared(session: Session, images: int) -> NDArray[np.int64]:
    """Positions of those, out of so many, by which engines are compared."""
    count = min(session.settings.engine.compared, images)
    return np.arange(count) * images // max(count, 1)


def _note_difference(session: Session, name: str, found: Predicted, expected: Predicted) -> None:
    count, differing = len(found.classes), int((found.classes != expected.classes).sum())
    session.engines[name] |= {"compared": count, "differing": differing}
    session.progress.say(
        f"{name}: {differing} of {count:,} predictions of unchanged images differ from those of "
        "eager in fp32"
    )
