"""How the documentation is built: ``python -m sphinx -W -b html docs docs/_build``."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

project = "opp_pandas"
author = project_copyright = "The opp_pandas developers"
release = version = version_of("opp_pandas")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_copybutton",
]
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
# Notebooks are shown as they were executed; the suite executes them.
nb_execution_mode = "off"
# Files beside the documentation are linked for readers of the repository; the pages do not hold them.
suppress_warnings = ["myst.xref_missing", "misc.highlighting_failure", "mystnb.unknown_mime_type"]
exclude_patterns = ["_build"]
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
autodoc_typehints = "none"
autosummary_generate = True
numpydoc_show_class_members = False
html_theme = "furo"
html_title = "opp_pandas"
html_static_path = ["_static"]
html_css_files = ["wide.css"]


def open_to_all(app: Any, error: Exception | None) -> None:
    """Let the keyboard scroll what scrolls, and give the captions of the index a level: the theme leaves both out."""
    if error or app.builder.name != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        text = text.replace('class="caption" role="heading"', 'class="caption" role="heading" aria-level="2"')
        text = text.replace("<pre>", '<pre tabindex="0">').replace("<pre id=", '<pre tabindex="0" id=')
        for scrolled in ("table-wrapper", "output text_html", "math notranslate"):
            text = text.replace(f'<div class="{scrolled}', f'<div tabindex="0" class="{scrolled}')
        path.write_text(text, encoding="utf-8")


def write_llms_txt(app: Any, error: Exception | None) -> None:
    """Write the index of all pages for programs that read: title, address of the source, first sentence."""
    if error or app.builder.name != "html":
        return
    lines = ["# opp_pandas", ""]
    for page in app.env.toctree_includes["index"]:
        text = Path(app.env.doc2path(page)).read_text(encoding="utf-8") if not page.startswith("_gen") else ""
        paragraphs = [part for part in text.split("\n\n") if part[:1].isalpha()]
        said = f": {' '.join(paragraphs[0].split())}" if paragraphs else ""
        lines.append(f"- [{app.env.titles[page].astext()}]({app.builder.get_target_uri(page)}){said}")
    (Path(app.outdir) / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def setup(app: Any) -> None:
    """Make the generated pages before the sources are listed, and the index for programs at the end."""
    from generate import generate

    app.connect("config-inited", lambda *_: generate(HERE / "_generated"))
    app.connect("build-finished", write_llms_txt)
    app.connect("build-finished", open_to_all)
