#!/usr/bin/env python3
"""Run docs/tutorial.ipynb and write what it gives into it.

pip install nbclient ipykernel
python scripts/run_tutorial.py [--output FILE]
"""

import argparse
import os
import sys
from pathlib import Path

import nbclient
import nbformat

TUTORIAL = Path(__file__).resolve().parent.parent / "docs" / "tutorial.ipynb"


def main() -> None:
    """Run all cells in a new kernel of this Python; the first error ends it, and nothing is written."""
    parser = argparse.ArgumentParser(description="Run the tutorial and write what it gives into it.")
    parser.add_argument("--output", type=Path, default=TUTORIAL, help="the notebook to write")
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where `onward` is
    notebook = nbformat.read(TUTORIAL, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, record_timing=False).execute()
    for cell in notebook.cells:
        cell.metadata.clear()
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, arguments.output)


if __name__ == "__main__":
    main()
