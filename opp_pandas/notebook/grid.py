"""The grid in the browser: an anywidget whose rows stay in Python.

The browser asks for the rows that it shows; everything that it asks for is
answered by a `Desk`, which knows nothing of browsers.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from opp_pandas.errors import MissingExtraError

if TYPE_CHECKING:
    from opp_pandas.notebook.grid_controller import Desk


def load_anywidget() -> Any:
    """Import anywidget, which comes with the extra ``notebook``."""
    try:
        import anywidget
    except ImportError as error:
        raise MissingExtraError("anywidget", "notebook") from error
    return anywidget


@cache
def bundle(name: str) -> tuple[str, str]:
    """Return the ES module and the style sheet of an entry of the front end, as built from ``frontend/src/entries``."""
    folder = files("opp_pandas.notebook") / "static"
    module, style = (folder / f"{name}.{ending}" for ending in ("js", "css"))
    return module.read_text(encoding="utf-8"), style.read_text(encoding="utf-8")


@cache
def _grid_class() -> Any:
    import traitlets

    module, style = bundle("editor")

    class EditorGrid(load_anywidget().AnyWidget):  # type: ignore[misc]
        """The grid: what it shows in two traits, everything else by messages."""

        _esm = module
        _css = style
        fields: Any = traitlets.List().tag(sync=True)
        state: Any = traitlets.Dict().tag(sync=True)
        label = traitlets.Unicode().tag(sync=True)
        height = traitlets.Int(420).tag(sync=True)
        timeout_s = traitlets.Float(20).tag(sync=True)

    return EditorGrid


def build_grid(desk: Desk, *, label: str, height: int) -> Any:
    """Make the grid of a desk.

    Parameters
    ----------
    desk : Desk
        What answers the browser; its changes are shown from here on.
    label : str
        What readers hear of the grid.
    height : int
        Of the rows [pixels].

    Returns
    -------
    anywidget.AnyWidget

    Raises
    ------
    MissingExtraError
        If anywidget is not installed.
    """
    grid = _grid_class()(fields=desk.fields(), state=desk.state(), label=label, height=height)

    def answer(_widget: Any, message: Any, _buffers: Any) -> None:
        grid.send(desk.handle(message))

    def show() -> None:
        grid.state = desk.state()

    grid.on_msg(answer)
    desk.on_change = show
    return grid
