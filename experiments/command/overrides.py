"""Values as the overrides of Hydra's command line write them."""

import re
from collections.abc import Iterable
from pathlib import Path


def quoted(text: Path | str) -> str:
    """A text as the value of a key, whatever characters it holds."""
    # Backslashes are themselves, but before a quotation mark, where two stand for one.
    inside = re.sub(
        r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), str(text)
    )
    return f'"{inside}"'


def listed(values: Iterable[int | None]) -> str:
    """Numbers as the value of a key, None as null."""
    return f"[{','.join('null' if value is None else str(value) for value in values)}]"
