"""Put generated tables into README.md, between `<!-- begin FILE -->` and `<!-- end -->`.

usage: python -m scripts.readme
"""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"(<!-- begin (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """Return the text with the first table of each named Markdown file between its markers."""

    def filled(block: re.Match[str]) -> str:
        lines = (REPOSITORY / block[2]).read_text(encoding="utf-8").splitlines()
        rows = [line for line in lines[: lines.index("", 2)] if line.startswith("|")]
        return block[1] + "\n".join(["", *rows, "", ""]) + block[3]

    return _BLOCK.sub(filled, text)


if __name__ == "__main__":
    readme = REPOSITORY / "README.md"
    readme.write_text(with_tables(readme.read_text(encoding="utf-8")), encoding="utf-8")
