"""What a run leaves about itself while it works, below `results/store/runs`: what it is made of, and
how it ended.
"""

import contextlib
import json
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pixelrobust.errors import InputError
from pixelrobust.files import write_text
from pixelrobust.settings import RunSettings, fingerprint
from pixelrobust.store import RowStore

STORE = "store"
RUN, DONE, FAILURE, PARTS = "run.json", "DONE", "failure.txt", "parts"


class RunRecord:
    """The record of a run, from when its images are known.

    Args:
        settings: of the run.
        is_main: whether this process writes; others share its work.
        say: told in a sentence what a user should know.
    """

    def __init__(self, settings: RunSettings, is_main: bool, say: Callable[[str], None]) -> None:
        self._settings, self._is_main, self._say = settings, is_main, say
        self._directory: Path | None = None
        self._about: dict[str, Any] = {}

    def begin(self, images: str, weights: Mapping[str, str], software: Mapping[str, Any]) -> None:
        """Open the folder, which is called by a digest of all that determines the rows.

        Args:
            images: digest of the images.
            weights: for each model that is evaluated, the digest of its weights.
            software: versions.
        """
        settings = self._settings
        engine = settings.engine.model_dump(include={"name", "precision", "batch_size", "devices"})
        versions = [software.get(name) for name in ("protocol", "torch", "openvino", "foolbox")]
        digest = fingerprint(settings.identity(), images, dict(weights), engine, versions)
        self._directory = settings.paths.results / STORE / "runs" / f"{settings.name}-{digest[:10]}"
        self._about = {
            "name": settings.name,
            "begun": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": settings.model_dump(mode="json"),
            "images_sha256": images,
            "weights_sha256": dict(weights),
            "software": dict(software),
            "answers": {},
        }
        if self._is_main:
            for name in (DONE, FAILURE):
                (self._directory / name).unlink(missing_ok=True)
        self._write()

    def note_answers(self, network: str, folder: Path, images: int) -> None:
        """Keep where the answers of a network lie, and how many images there are."""
        relative = folder.relative_to(self._settings.paths.results / STORE)
        self._about.setdefault("answers", {})[network] = [relative.as_posix(), images]
        self._write()

    def rows(self) -> RowStore:
        """Where rows are kept that are no answers."""
        assert self._directory
        store = RowStore(self._directory / PARTS, self._say)
        if self._settings.recompute:
            store.forget()
        return store

    def end(self, results: Path) -> None:
        """Mark the run as done, and say where its results lie."""
        if self._directory and self._is_main:
            write_text(self._directory / DONE, f"{results}\n")

    def fail(self, error: BaseException) -> None:
        """Keep why the run failed, if it had begun, and there is room."""
        if self._directory and self._is_main:
            text = "".join(traceback.format_exception(error))
            with contextlib.suppress(InputError):
                write_text(self._directory / FAILURE, text)

    def _write(self) -> None:
        if self._directory and self._is_main:
            write_text(self._directory / RUN, json.dumps(self._about, indent=1) + "\n")
