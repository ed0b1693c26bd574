"""The pages that are made anew in every build: the gallery of plots, the definitions of figures, the notebooks."""

from __future__ import annotations

import doctest
import inspect
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt

from opp_pandas import plotting  # noqa: F401 (registers every plot)
from opp_pandas.conftest import START, example_names
from opp_pandas.figures.core.figure import FIGURES, PLOTS

GALLERY = """# Gallery of plots

Every picture is drawn while this page is built, by the line above it. The lines before all of them:

```python
{start}
```

Each plot takes the options of its figure and of the drawing, gives matplotlib Axes, draws into `ax=` where that is
given, and says in words what it shows: `ax.alt_text`, which is also the text of each picture here.
"""
DEFINITIONS = """# Definitions

What each number means. `opp.explain(result)` prints the same definitions, with the deals behind a number. Amounts are
in the deals' currency, or in the base of `rates=`; probabilities in percent in columns, as fractions in formulas.
$p_i$ is the probability of a deal, $a_i$ its amount:

$$\\text{weighted} = \\sum_i p_i a_i$$

$$\\text{win rate} = \\frac{\\text{won}}{\\text{won} + \\text{lost}}$$

$$\\text{velocity} = \\frac{\\text{deals} \\cdot \\text{win rate} \\cdot \\text{mean amount won}}{\\text{cycle days}}$$

The interval of a win rate is Wilson's; a median of too few deals is missing; trashed deals are left out of every figure
and counted. How predictions are made and scored: {doc}`../how-to/predict`.
"""


def first_lines(thing: object) -> str:
    """The first sentence of an object's documentation."""
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def draw_gallery(folder: Path) -> None:
    """Draw every plot that is registered by its own example, and write the page."""
    page = [GALLERY.format(start=START.strip())]
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as place, example_names(place) as names, warnings.catch_warnings():
        warnings.simplefilter("error")
        os.chdir(place)
        try:
            for name, plot in sorted(PLOTS.items()):
                examples = doctest.DocTestParser().get_examples(inspect.getdoc(plot.draw) or "")
                known = dict(names, df=names["df"].copy())
                for example in examples:
                    exec(compile(example.source, f"the example of plot.{name}", "exec"), known)  # noqa: S102
                axes = known["ax"]
                axes.figure.set_size_inches(8, 4.5)
                axes.figure.savefig(folder / f"plot_{name}.png", dpi=100, bbox_inches="tight")
                plt.close("all")
                code = "".join(example.source for example in examples)
                words = axes.alt_text.replace("\n", " ")
                page.append(f"## {name}\n\n{first_lines(plot.draw)}\n\n```python\n{code}```\n")
                page.append(f"```{{image}} plot_{name}.png\n:alt: {words}\n```\n")
        finally:
            os.chdir(here)
    (folder / "gallery.md").write_text("\n".join(page), encoding="utf-8")


def write_definitions(folder: Path) -> None:
    """Write what every figure says of its columns."""
    page = [DEFINITIONS]
    for name, figure in sorted(FIGURES.items()):
        page.append(f"## {figure.heading}\n\n`df.opp.{name}()`: {first_lines(figure)}\n")
        if figure.definitions:
            rows = "\n".join(f"| `{column}` | {words} |" for column, words in figure.definitions.items())
            page.append(f"| column | is |\n|---|---|\n{rows}\n")
    (folder / "definitions.md").write_text("\n".join(page), encoding="utf-8")


def generate(folder: Path) -> None:
    """Make all pages anew."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(
        Path(__file__).parents[1] / "notebooks",
        folder / "notebooks",
        ignore=shutil.ignore_patterns(".ipynb_checkpoints"),
    )
    draw_gallery(folder)
    write_definitions(folder)
