"""Generated parts of pages: what stands between `<!-- begin NAME -->` and `<!-- end -->`."""

import re
from collections.abc import Callable

_BLOCK = re.compile(r"(?P<begin><!-- begin (?P<name>\S+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def with_blocks(text: str, content: Callable[[str], str]) -> str:
    """The text with new content, which ends its last line, in every block; asked for by name."""
    return _BLOCK.sub(lambda block: block["begin"] + content(block["name"]) + block["end"], text)
