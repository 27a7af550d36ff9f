"""Run the notebooks, and keep what they show.

usage: python -m scripts.notebooks [NOTEBOOK ...]
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))

# Pictures are kept in the repository: as large as their figures say, and not larger than is needed to read them.
_ARGUMENTS = [
    "--log-level=ERROR",
    "--InlineBackend.rc={'figure.dpi': 72}",
    "--InlineBackend.print_figure_kwargs={'bbox_inches': None}",
]


def executed(path: Path) -> nbformat.NotebookNode:
    """Run a notebook from top to bottom, and return it with its outputs."""
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    # What is said of the notebook itself stays as it is; running adds the version of Python.
    metadata = notebook.metadata.copy()
    client = NotebookClient(
        notebook,
        timeout=600,
        record_timing=False,
        extra_arguments=_ARGUMENTS,
        resources={"metadata": {"path": str(path.parent)}},
    )
    own = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    # Of bars of progress, which are not shown anyway.
    own |= {"PYTHONWARNINGS": "ignore:IProgress not found"}
    client.execute(env=os.environ | own)
    notebook.metadata = metadata
    return notebook


if __name__ == "__main__":
    for name in sys.argv[1:] or NOTEBOOKS:
        print(name)
        nbformat.write(executed(Path(name)), name)
