"""The notebooks run from top to bottom and still say what they say.

Each is executed anew and its texts are compared with those that are kept in the
file, so that a notebook which is older than the interface or the figures that it
shows fails here. ``python tests/test_notebooks.py`` executes them and keeps what
comes out; look at the pictures then.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

# What differs from run to run: ports, durations, minutes and seconds of the clock, temporary folders, ids of elements.
_CHANGING = (
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"(\d\d):\d\d:\d\d(?=\+00:00|Z)"), r"\1:CLOCK"),
    (re.compile(r"(as of [\d-]{10} \d\d):\d\d"), r"\1:CLOCK"),
    (re.compile(r"\b\d+(\.\d+)? ?(ms|s|seconds)\b"), "TIME"),
    (re.compile(r"(/private)?/(tmp|var)/[\w./-]+"), "FOLDER"),
    (re.compile(r"0x[0-9a-f]{6,}"), "ADDRESS"),
    (re.compile(r"\bid=\"[\w-]+\""), "ID"),
)
# A bar comes only where something takes long.
_PROGRESS = re.compile(r"\d+%\|.*\|")


def executed(path: Path) -> Any:
    """Return the notebook with fresh outputs."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": FOLDER}}).execute()
    return notebook


def said(cell: Any) -> list[str]:
    """Return what a cell says: texts as they are but for what changes, pictures by their kind."""
    found = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        text = output["text"] if output["output_type"] == "stream" else data.get("text/plain", "")
        if not _PROGRESS.search(text):
            found.append(settled(text) if "image/png" not in data else "picture")
    # One stream may arrive in one piece or in several.
    return "".join(f"{text}\n" if not text.endswith("\n") else text for text in found).splitlines()


def settled(text: str) -> str:
    """Replace what differs from run to run."""
    for pattern, word in _CHANGING:
        text = pattern.sub(word, text)
    return text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook__says_what_is_kept_in_it(path: Path) -> None:
    """Run anew, every cell gives the text that stands below it in the file."""
    kept = nbformat.read(path, as_version=4)
    for number, (before, now) in enumerate(zip(kept.cells, executed(path).cells, strict=True)):
        assert said(before) == said(now), f"cell {number} of {path.name}: {before.source}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook__has_parameters_and_keeps_its_outputs(path: Path) -> None:
    """Papermill finds the parameters near the top; a reader finds the outputs, and none is an error."""
    cells = nbformat.read(path, as_version=4).cells
    assert any("parameters" in cell.metadata.get("tags", []) for cell in cells[:3])
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert sum(len(cell.outputs) for cell in code) > len(code) / 2
    assert not any(
        output.output_type == "error" or output.get("name") == "stderr" for c in code for output in c.outputs
    )


OTHER: dict[str, dict[str, Any]] = {
    "01_load_and_look": {"opportunities": 120, "seed": 3, "now": "2027-02-10T15:00:00Z"},
    "02_forecast": {"opportunities": 180, "seed": 3, "now": "2027-02-10T15:00:00Z", "period": "2027Q1", "quota": 1e5},
    "03_edit_and_write_back": {"opportunities": 150, "seed": 3, "now": "2027-02-10T15:00:00Z"},
    "04_history": {"opportunities": 60, "seed": 5, "start": "2023-07-01T05:00:00Z", "period": "2024Q2"},
    "05_your_own_csv": {"deals": 120, "seed": 1, "as_of": "2025-03-31"},
}
# What only the new parameters can have said, and what only the old ones.
TOLD = {
    "01_load_and_look": ("120 deals", "500"),
    "02_forecast": ("2027Q1", "700,000"),
    "03_edit_and_write_back": ("WriteReport: 12 written", "2027-01-07"),
    "04_history": ("2024-06", "2026"),
    "05_your_own_csv": ("120 deals", "401 opportunities"),
}


@pytest.mark.parametrize(
    "path",
    [NOTEBOOKS[0], *(pytest.param(path, marks=pytest.mark.nightly) for path in NOTEBOOKS[1:])],
    ids=lambda path: path.stem,
)
def test_parameters__make_a_report_of_another_pipeline(path: Path, tmp_path: Path) -> None:
    """Papermill runs each with other deals and another moment, and nothing in it speaks of the first ones."""
    import papermill

    target = tmp_path / path.name
    papermill.execute_notebook(path, target, parameters=OTHER[path.stem], cwd=tmp_path, progress_bar=False)
    other = nbformat.read(target, as_version=4)
    assert sum("injected-parameters" in cell.metadata.get("tags", []) for cell in other.cells) == 1
    text = "\n".join(line for cell in other.cells for line in said(cell))
    new, old = TOLD[path.stem]
    assert new in text
    assert old not in text


if __name__ == "__main__":
    for path in [FOLDER / name for name in sys.argv[1:]] or NOTEBOOKS:
        notebook = executed(path)
        for cell in notebook.cells:
            # When a cell ran is of no interest to readers, and a difference in every run.
            cell.metadata.pop("execution", None)
        # A bar of progress is a widget; kept, its state would be most of the file.
        notebook.metadata.pop("widgets", None)
        nbformat.write(notebook, path)
        sys.stdout.write(f"{path.name}: executed and kept\n")
