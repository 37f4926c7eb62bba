#!/usr/bin/env python3
"""run.py [--out FOLDER] [NOTEBOOK...]: executes notebooks from top to bottom, without a browser, and keeps their outputs.

Without --out the notebooks themselves are rewritten, which is how the outputs in the repository came about (`make notebooks`).
Times and machine-dependent metadata are left out, so that a second run changes only what really changed.
"""

import argparse
import importlib
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).resolve().parent
LIMIT = 900  # seconds a cell may take


def execute(path, out):
    notebook = nbformat.read(path, as_version=4)
    try:
        NotebookClient(
            notebook, timeout=LIMIT, kernel_name="python3", record_timing=False, resources={"metadata": {"path": str(HERE)}}
        ).execute()
    except CellExecutionError as error:
        sys.exit(f"{path.name}: {error}")
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(notebook, out / path.name)
    print(f"{path.name}: {sum(cell.cell_type == 'code' for cell in notebook.cells)} cells executed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="where the executed notebooks go; in place by default")
    parser.add_argument("notebooks", nargs="*", type=Path, help="all by default")
    words = parser.parse_args()
    words.out.mkdir(parents=True, exist_ok=True)
    # Fonts are listed here and not by the first notebook, which would say so among its outputs where that takes long.
    importlib.import_module("matplotlib.font_manager")
    for path in words.notebooks or sorted(HERE.glob("*.ipynb")):
        execute(path, words.out)


if __name__ == "__main__":
    main()
