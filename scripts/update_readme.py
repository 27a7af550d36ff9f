"""Put the generated tables into README.md, between their markers."""

from pathlib import Path

from scripts.blocks import with_blocks

REPOSITORY = Path(__file__).resolve().parent.parent


def with_tables(text: str) -> str:
    """The text with the first table of each named Markdown file between its markers."""
    return with_blocks(text, _table)


def _table(path: str) -> str:
    lines = (REPOSITORY / path).read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines[: lines.index("", 2)] if line.startswith("|")]
    return "\n".join(["", *rows, "", ""])


if __name__ == "__main__":
    readme = REPOSITORY / "README.md"
    readme.write_text(with_tables(readme.read_text(encoding="utf-8")), encoding="utf-8")
