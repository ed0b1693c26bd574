"""Every public name has an example that runs; names come from the package, its registries and the accessor."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import opp_pandas as opp
from opp_pandas import figures, forecasting, plotting
from opp_pandas.accessor import PlotAccessor
from opp_pandas.figures.core.figure import FIGURES, PLOTS
from opp_pandas.history import importers


def examples_of(thing: Any) -> str:
    """The lines that somebody types in an object's documentation."""
    doc = inspect.getdoc(thing) or ""
    return "\n".join(re.findall(r"^\s*(?:>>>|\.\.\.) (.*)$", doc, re.MULTILINE))


def public_names() -> Iterator[tuple[str, Any, str]]:
    """Every public name, its object, and the examples of the class that it belongs to."""
    for name in opp.__all__:
        thing = getattr(opp, name)
        if isinstance(thing, str):
            continue
        yield name, thing, ""
        if inspect.isclass(thing) and thing.__module__.startswith("opp_pandas") and name != "OpportunityAccessor":
            for member, value in vars(thing).items():
                if member[0].islower() and (callable(value) or isinstance(value, property | classmethod)):
                    yield f"{name}.{member}", getattr(thing, member), examples_of(thing)
    for room in (figures, forecasting, importers, plotting):
        for name in room.__all__:
            thing = getattr(room, name)
            if inspect.isfunction(thing) or (inspect.isclass(thing) and not inspect.isabstract(thing)):
                yield f"{room.__name__}.{name}", thing, ""
    for cls, listed in ((opp.OpportunityAccessor, FIGURES), (PlotAccessor, PLOTS)):
        own = [name for name in vars(cls) if not name.startswith("_") and name != "load"]
        for name in (*own, *listed):
            yield f"{cls.__name__}.{name}", getattr(cls, name), ""


NAMES = {name: (thing, around) for name, thing, around in public_names()}


def test_public_names__have_an_example_each() -> None:
    """A name is shown in its own documentation, or in that of its class."""
    lacking = [
        name
        for name, (thing, around) in NAMES.items()
        if not examples_of(thing) and not re.search(rf"\b{name.rpartition('.')[2]}\b", around)
    ]
    assert not lacking, f"{len(lacking)} of {len(NAMES)} public names have no example: {lacking}"


def test_figures_and_plots__show_what_people_type() -> None:
    """The example of a figure or plot calls the method, not the function behind it."""
    for cls, listed, start in ((opp.OpportunityAccessor, FIGURES, "df.opp."), (PlotAccessor, PLOTS, "df.opp.plot.")):
        assert not [name for name in listed if f"{start}{name}(" not in examples_of(getattr(cls, name))]


def test_documentation__explains_where_people_look() -> None:
    """No argument is explained by pointing at another function."""
    vague = [
        name
        for name, (thing, _) in NAMES.items()
        if re.search(r"^\s*As in `", inspect.getdoc(thing) or "", re.MULTILINE)
    ]
    assert not vague
