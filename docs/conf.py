"""How the documentation is built: ``python -m sphinx -W -b html docs docs/_build``."""

from importlib.metadata import version as version_of

project = "opp_pandas"
author = project_copyright = "The opp_pandas developers"
release = version = version_of("opp_pandas")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
]
myst_heading_anchors = 3
# Files beside the documentation are linked for readers of the repository; the pages do not hold them.
suppress_warnings = ["myst.xref_missing", "misc.highlighting_failure"]
exclude_patterns = ["_build"]
autodoc_typehints = "none"
autosummary_generate = True
numpydoc_show_class_members = False
html_theme = "furo"
html_title = "opp_pandas"
