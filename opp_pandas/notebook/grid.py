"""Editor, workspace and dashboard in the browser: one anywidget each, whose rows stay in Python.

The browser asks for the rows that it shows; everything that it asks for is
answered by a `Desk` and its `Panel`, which know nothing of browsers.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from opp_pandas.errors import MissingExtraError
from opp_pandas.notebook.messages import sent

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread

    from msgspec import Struct

    from opp_pandas.notebook.grid_controller import Desk
    from opp_pandas.notebook.panel import Panel

PATIENCE_S = 1.0


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
def _widget_class(entry: str) -> Any:
    import traitlets

    module, style = bundle(entry)

    class DeskWidget(load_anywidget().AnyWidget):  # type: ignore[misc]
        """Grid and panel: what they show in traits, everything else by messages."""

        _esm = module
        _css = style
        fields: Any = traitlets.List().tag(sync=True)
        state: Any = traitlets.Dict().tag(sync=True)
        panel: Any = traitlets.Dict().tag(sync=True)
        label = traitlets.Unicode().tag(sync=True)
        height = traitlets.Int(420).tag(sync=True)
        timeout_s = traitlets.Float(20).tag(sync=True)
        picture: Any = traitlets.Dict().tag(sync=True)

    return DeskWidget


class Displayed:
    """What a notebook shows as a widget, and everything else as its text."""

    _widget: Any

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle = self._widget._repr_mimebundle_(**options)
        data = dict(bundle[0] if isinstance(bundle, tuple) else bundle)
        return {**data, "text/plain": repr(self)}

    def _display_(self) -> Any:
        """Return the widget itself for marimo: it shows no widgets by their MIME type."""
        return self._widget


def build_picture_widget(label: str, picture: Struct, handle: Callable[[Any], dict[str, Any]]) -> Any:
    """Make the one widget of a dashboard: the workspace's entry of the front end, without a grid."""
    widget = _widget_class("workspace")(label=label, picture=sent(picture))
    widget.on_msg(lambda _widget, message, _buffers: widget.send(handle(message)))
    return widget


def build_widget(
    desk: Desk,
    panel: Panel,
    asking: Thread | None,
    *,
    label: str,
    height: int,
    entry: str = "editor",
    **traits: Any,
) -> Any:
    """Make the one widget of an editor or a workspace, with what its entry shows at first beside the grid as traits.

    Where the desk still learns of its columns, one that is quick is waited for, so that they cross to the page once;
    nobody waits longer than `PATIENCE_S` for a service that is slow or gone.
    """
    if asking is not None:
        asking.join(PATIENCE_S)

    def show() -> None:
        widget.state = desk.state()
        panel.edited()

    def show_panel() -> None:
        widget.panel = sent(panel.shown)

    def show_fields() -> None:
        widget.fields = desk.fields()

    with desk.lock:
        at_first = {"fields": desk.fields(), "state": desk.state(), "panel": sent(panel.shown), **traits}
        widget = _widget_class(entry)(label=label, height=height, **at_first)
        desk.on_change, desk.on_fields, panel.on_show = show, show_fields, show_panel
    widget.on_msg(lambda _widget, message, _buffers: widget.send(desk.handle(message)))
    return widget
