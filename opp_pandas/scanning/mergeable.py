"""The figures that can be worked out in pieces, as methods."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from opp_pandas.errors import NotLoadedError
from opp_pandas.figures.core.context import FigureContext, settle_context
from opp_pandas.figures.core.deals import suppress_unmapped_stages, warn_of_unmapped_stages
from opp_pandas.figures.core.figure import FIGURES, GIVEN, Figure, as_method

if TYPE_CHECKING:
    from opp_pandas.accessor import MergeableFigures
    from opp_pandas.figures.core.totals import Part
    from opp_pandas.frame_state import Meaning
    from opp_pandas.scanning.sources import Source
else:
    MergeableFigures = object  # whose methods come from the registry

T = TypeVar("T")


class Figures(MergeableFigures):
    """The figures that can be worked out in pieces, as methods: those of ``df.opp``, with its arguments.

    Parameters
    ----------
    source : Source
        The rows.
    settings : mapping
        What every figure takes where its call does not say otherwise: ``as_of``,
        ``stages``, ``timezone`` and definitions.
    """

    def __init__(self, source: Source, settings: Mapping[str, Any]) -> None:
        self._source, self.settings = source, dict(settings)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._source.shown}>"

    if not TYPE_CHECKING:  # checkers shall see which methods there are

        def __getattr__(self, name: str) -> Any:
            figure = None if name.startswith("_") else mergeable().get(name)
            if figure is None:
                known = ", ".join(sorted(mergeable())) if name in FIGURES else ""
                why = f": {name} needs to see all deals at once; here are {known}" if known else ""
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{why}")
            return _method_of(figure).__get__(self)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *mergeable()})

    @property
    def meaning(self) -> Meaning | None:
        """What the load of the rows says; None where nothing does."""
        return self._source.meaning

    def context(self, **given: Any) -> FigureContext:
        """Return what figures need beside the rows.

        Parameters
        ----------
        **given
            ``as_of``, ``stages``, ``timezone`` and definitions, where they are to differ.

        Returns
        -------
        FigureContext

        Raises
        ------
        NotLoadedError
            If nobody says of which day the rows speak.
        """
        options = {**self.settings, **{name: value for name, value in given.items() if value is not None}}
        load = self._source.meaning
        if load is None and options.get("as_of") is None:
            raise NotLoadedError(
                f"{self._source.shown} does not say of which day it speaks: give as_of='2026-09-30' "
                "(and stages=StageMap(...), timezone=)"
            )
        context = settle_context(load, self._source.stage_names() if load is None else [], **options)
        return context.with_caveats(self._source.caveats)

    def _work_out(self, figure: Figure[T], options: Mapping[str, Any]) -> T:
        own = dict(options)
        context = self.context(**{name: own.pop(name) for name in GIVEN if name in own})
        with suppress_unmapped_stages():
            survey = None
            if figure.survey is not None:
                survey = self._source.part(functools.partial(_survey, figure.name, context, own))
            part = self._source.part(functools.partial(_gather, figure.name, context, own, survey))
        # Once, and not for every piece.
        if unsettled := part["facts"].unsettled:
            warn_of_unmapped_stages(unsettled)
        return figure.merge([part], context=context, **own)


def _survey(name: str, context: FigureContext, options: Mapping[str, Any], piece: Any) -> Part:
    """Gather what a figure must know of all pieces before it looks at any of them again."""
    return mergeable()[name].partial_survey(piece, context=context, **options) or {}


def _gather(name: str, context: FigureContext, options: Mapping[str, Any], survey: Part | None, piece: Any) -> Part:
    """Gather what a figure needs to know of a piece, in whatever process: the figure goes there by its name."""
    return mergeable()[name].partial(piece, context=context, survey=survey, **options)


def mergeable() -> dict[str, Figure[Any]]:
    """Return every figure that can be worked out in pieces, by name."""
    import_module("opp_pandas.figures")
    import_module("opp_pandas.forecasting")
    return {name: figure for name, figure in FIGURES.items() if figure.gather is not None}


@functools.cache
def _method_of(figure: Figure[Any]) -> Any:
    def method(self: Figures, *args: Any, **options: Any) -> Any:
        return self._work_out(figure, figure.method_signature.bind(*args, **options).arguments)

    return as_method(method, figure.name, figure.method_signature, figure.method_doc)
