"""Roll-ups: sums by owner, account or any column, and up a tree of managers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import ConfigurationError, MissingColumnError, named
from opp_pandas.figures.core.basis import Facts
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.groups import Group, distinguish, index_of, read_axes, read_groups
from opp_pandas.figures.core.lineage import Question, Trace, in_groups, together
from opp_pandas.figures.core.totals import Totals, tally
from opp_pandas.figures.forecasts import (
    COLUMNS,
    DEFINITIONS,
    IGNORED,
    KINDS,
    OVERDUE,
    kinds_by_standing,
    kinds_of,
    sums_behind,
)
from opp_pandas.organisation import Organisation

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.deals import Deals
    from opp_pandas.figures.core.totals import Part

_OF_TREES = {
    "own_count": "open and won deals of the person alone",
    "adjusted": "the adjustment, else own + adjusted of the nodes below",
    "delta": "adjusted - the raw value",
}
_ROLLED = KINDS
"""Overdue in another period than the one asked for, which holds as_of."""
Tree = Mapping[Any, Any] | pd.DataFrame | Organisation | Literal[False]
Adjustments = Mapping[Any, float] | pd.DataFrame


def _gather(deals: Deals, by: str | Sequence[str] = "owner_name", period: object = None) -> Part:
    kinds = kinds_by_standing(deals)
    if period is not None:
        first, last = deals.context.periods.span_of(period)
        outside = (deals.close.days < first) | (deals.close.days > last)
        # Overdue deals of other periods may come into this period's forecast, not into its other sums.
        rolls = first <= deals.context.today <= last
        kinds[:, outside] = np.where(kinds[:, outside] == OVERDUE, _ROLLED if rolls else IGNORED, IGNORED)
    table = np.where(kinds == IGNORED, -1, kinds)
    cells = tally(deals, read_axes(deals, by), range(_ROLLED + 1), table)
    return {"facts": Facts.of(deals, money=True, dated=True), "cells": cells}


@figure(heading="Roll-up", definitions=DEFINITIONS | _OF_TREES, first="by", gather=_gather)
def rollup(
    part: Part,
    *,
    context: FigureContext,
    by: str | Sequence[str] = "owner_name",
    tree: Tree | None = None,
    adjustments: Adjustments | None = None,
    measure: str = "forecast_amount",
    period: object = None,
) -> pd.DataFrame:
    """Sum the deals by group, and up a tree of managers where one is given.

    Parameters
    ----------
    tree : mapping, DataFrame or Organisation, optional
        Who reports to whom: person -> manager, or ``id, manager_id`` and
        optionally ``name``; or an `Organisation`, whose roles are the managers,
        with the owners of deals below their roles. Left out: the organisation
        that the load has, if deals are grouped by ``owner_name``; False: none.
        People are ids where the frame has owner ids, or names that only one of
        them bears; else names. Any other text is a node without deals of its
        own. Any depth; whoever has no manager is a root.
    adjustments : mapping or DataFrame, optional
        A manager's call for a node: node -> amount, or ``node, amount`` and
        optionally ``who, when, note``. It replaces the node's `measure` on the
        way up, beside the raw value, which stays.
    measure : str, default "forecast_amount"
        The column that adjustments speak of.
    period : object, optional
        One period (``"2026Q4"``); all deals, dated or not, if left out.

    Returns
    -------
    DataFrame
        The sums of `forecast` by group. With a tree: indexed by ``node``, each
        manager before the people below, with ``level`` (0 for roots),
        ``manager`` and ``own_count`` [open and won deals of the person alone];
        every sum is own + the nodes directly below, so each deal counts once
        per level. With adjustments also ``adjusted`` and ``delta`` [currency],
        ``who, when, note``. Deals without an owner: "(unassigned)".

    Raises
    ------
    ConfigurationError
        If the tree has a cycle or a name that several people bear, or an
        adjustment names no node.

    Examples
    --------
    >>> df.opp.rollup("owner_name", period="2026Q4")[["open_amount", "won_amount", "forecast_amount"]].head(3)
                 open_amount  won_amount  forecast_amount
    owner_name
    Dmitri Lee       11880.0      4380.0           7350.0
    Ivan García      41010.0         0.0          26301.5
    Jürgen Lee        8187.0         0.0           5368.9
    >>> whole = opp.read_opportunities(client, stages=stages, organisation=True, on_invalid="ignore")
    >>> whole.opp.rollup()["manager"].head(2).tolist()
    [nan, 'Chief Revenue Officer']
    """
    overdue, cells, label = context.money.overdue, part["cells"], None
    holds_today = True
    if period is not None:
        periods = context.periods
        label = str(periods.label(periods.parse(period)))
        first, last = periods.span_of(period)
        holds_today = first <= context.today <= last
    groups, group, n_groups = cells.rows(context)
    if not groups:
        raise ConfigurationError("by names no column; a roll-up takes one or more, such as by='owner_name'")
    if tree is False:
        tree = None
    elif tree is None and len(groups) == 1 and groups[0].name == "owner_name" and _by_id(groups[0]):
        tree = context.organisation
    rolls = overdue == "roll_forward" and holds_today
    elsewhere = cells.layer == _ROLLED
    rolled = cells.add("weighted", group, n_groups, elsewhere if rolls else elsewhere & False)
    # Whoever has nothing else in the period has a row for what rolls into it.
    ids = np.arange(n_groups) if tree is not None else np.union1d(group[~elsewhere], np.flatnonzero(rolled))
    kinds = [-1 if kind == _ROLLED else kind for kind in cells.layers]
    totals = Totals(cells, kinds, np.searchsorted(ids, group), len(ids))
    sums = {name: totals.column(terms) for name, terms in COLUMNS.items()}
    if overdue == "include" or rolls:
        sums["forecast_amount"] = sums["forecast_amount"] + totals.of("weighted", OVERDUE)
    sums["forecast_amount"] = sums["forecast_amount"] + rolled[ids]
    places: dict[str, Any] | None = None
    notes: list[str] = []
    if tree is None:
        if adjustments is not None:
            raise ConfigurationError("adjustments are made on a tree: give tree= as well")
        table = pd.DataFrame(sums, index=index_of(ids, groups))
    else:
        if len(groups) != 1:
            raise ConfigurationError("a tree takes exactly one grouping, such as by='owner_name'")
        table, places = _up_the_tree(sums, groups[0], tree, adjustments, measure, context)
        if isinstance(tree, Organisation):
            strangers = {key for key in groups[0].keys if key is not None} - set(tree.users["id"])
            known = (
                f"owners whom the organisation does not know, at the top: {len(strangers):,} (ids {named(strangers)})"
            )
            notes = [*tree.notes, *([known] if strangers else [])]
    return rollup.result(
        table,
        context,
        part["facts"],
        total={name: values.sum() for name, values in sums.items()},
        arguments={"by": by, "period": label, "measure": measure, "tree": places},
        notes=notes,
    )


def _up_the_tree(
    sums: Mapping[str, npt.NDArray[Any]],
    group: Group,
    tree: Tree,
    adjustments: Adjustments | None,
    measure: str,
    context: FigureContext,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the table by node, and where each node stands: its manager, and its code among the groups."""
    if measure not in sums:
        raise ConfigurationError(f"measure must be one of {named(sums, 20)}, not {measure!r}")
    by_id = _by_id(group)
    own_keys = [
        key if by_id and key is not None else label for key, label in zip(group.keys, group.labels, strict=True)
    ]
    parents, names, roles = _read_tree(tree, own_keys)
    if roles and not by_id:
        raise ConfigurationError("the organisation knows people by id, and these deals have no owner_id")
    if by_id and not roles:
        known = context.lookups.get("user")
        if known is not None and {"id", "name"} <= set(known.columns):
            names = {**dict(zip(known["id"], known["name"], strict=True)), **names}
        parents = _by_ids(parents, names, group)
    nodes = list(dict.fromkeys([*roles, *parents, *parents.values(), *own_keys]))
    place = {key: position for position, key in enumerate(nodes)}
    above = np.array([place[parents[key]] if key in parents else -1 for key in nodes], dtype=np.intp)
    # An organisation knows its people's names, also where the load did not include them.
    label_of = dict(zip(own_keys, group.labels, strict=True)) | (names if roles else {})
    plain = [str(label_of.get(key, names.get(key, key if isinstance(key, str) else f"(id {key})"))) for key in nodes]
    labels = distinguish(plain, nodes)
    order, level = _walk(above, labels)
    own = {name: np.zeros(len(nodes), dtype=values.dtype) for name, values in sums.items()}
    rows = [place[key] for key in own_keys]
    for name, values in sums.items():
        own[name][rows] = values
    total = {name: values.copy() for name, values in own.items()}
    # From the leaves up: the walk visits managers first, so its reverse visits them last.
    for position in order[::-1]:
        if above[position] >= 0:
            for values in total.values():
                values[above[position]] += values[position]
    table = pd.DataFrame({"level": level, "manager": [labels[up] if up >= 0 else None for up in above]})
    table["manager"] = table["manager"].astype("str")
    table["own_count"] = own["open_count"] + own["won_count"]
    table = table.assign(**total)
    table.index = pd.Index(labels, name="node", dtype="str")
    if adjustments is not None:
        node_group = Group("node", np.arange(len(nodes), dtype=np.intp), table.index, nodes)
        table = _adjust(table, own[measure], total[measure], above, order, node_group, adjustments)
    places = {
        "manager": {labels[node]: labels[up] for node, up in enumerate(above.tolist()) if up >= 0},
        "group": {labels[node]: code for code, node in enumerate(rows)},
    }
    return table.iloc[order], places


def _kind(value: object) -> str:
    return "a Series; .to_dict() makes a mapping of it" if isinstance(value, pd.Series) else type(value).__name__


def _by_id(group: Group) -> bool:
    return any(key is not None for key in group.keys)


def _read_tree(tree: Tree, owners: Sequence[Any]) -> tuple[dict[Any, Any], dict[Any, str], list[Any]]:
    """Return who reports to whom, names by key, and the roles where an organisation has them."""
    if isinstance(tree, Organisation):
        lines, called = tree.reporting_lines
        # Of the people only those who own deals: everybody else would stand there with nothing.
        shown = {*tree.role_keys, *owners}
        return {child: parent for child, parent in lines.items() if child in shown}, called, tree.role_keys
    if isinstance(tree, Mapping):
        return {child: parent for child, parent in tree.items() if not pd.isna(parent)}, {}, []
    if not isinstance(tree, pd.DataFrame):
        raise ConfigurationError(f"a tree is person -> manager, or a frame id, manager_id, not {_kind(tree)}")
    missing = [name for name in ("id", "manager_id") if name not in tree.columns]
    if missing:
        raise MissingColumnError(missing, list(tree.columns), "A tree has id and manager_id.")
    doubled = tree["id"][tree["id"].duplicated()]
    if len(doubled):
        raise ConfigurationError(f"the tree names a person twice: {named(doubled.unique())}")
    pairs = zip(tree["id"], tree["manager_id"], strict=True)
    parents = {child: parent for child, parent in pairs if not pd.isna(parent)}
    names: dict[Any, str] = {}
    if "name" in tree.columns:
        names = {key: str(name) for key, name in zip(tree["id"], tree["name"], strict=True) if not pd.isna(name)}
    return parents, names, []


def _by_ids(parents: Mapping[Any, Any], names: Mapping[Any, str], group: Group) -> dict[Any, Any]:
    """Put ids for people whom the tree calls by name, or by an id in text; other texts stay nodes of their own."""
    called: dict[str, set[Any]] = {}
    for key, name in [*names.items(), *zip(group.keys, group.labels, strict=True)]:
        if key is not None and not pd.isna(name):
            called.setdefault(str(name).removesuffix(f" (id {key})"), set()).add(key)
            called.setdefault(str(name), set()).add(key)

    def id_of(node: Any) -> Any:
        if not isinstance(node, str):
            return node
        fitting = called.get(node, set())
        if len(fitting) > 1:
            raise ConfigurationError(
                f"{node!r} of the tree fits {len(fitting)} people; say which by id: {named(sorted(fitting))}"
            )
        return next(iter(fitting), int(node) if node.isdecimal() else node)

    found: dict[Any, Any] = {}
    for child, parent in parents.items():
        own = id_of(child)
        if own in found:
            raise ConfigurationError(f"the tree names a person twice: {named([str(child), str(own)])}")
        found[own] = id_of(parent)
    return found


def _walk(above: npt.NDArray[np.intp], labels: Sequence[str]) -> tuple[list[int], npt.NDArray[np.int64]]:
    """Order the nodes depth first, siblings by name, and give each its level; cycles raise."""
    below: dict[int, list[int]] = {}
    for position in sorted(
        range(len(labels)), key=lambda place: (labels[place].startswith("("), labels[place].casefold())
    ):
        below.setdefault(int(above[position]), []).append(position)
    order: list[int] = []
    level = np.zeros(len(labels), dtype=np.int64)
    stack = [(position, 0) for position in reversed(below.get(-1, []))]
    while stack:
        position, depth = stack.pop()
        order.append(position)
        level[position] = depth
        stack += [(child, depth + 1) for child in reversed(below.get(position, []))]
    if len(order) < len(labels):
        chain = [min(set(range(len(labels))) - set(order))]
        while (up := int(above[chain[-1]])) not in chain:
            chain.append(up)
        words = " reports to ".join(repr(labels[place]) for place in [*chain[chain.index(up) :], up][:8])
        raise ConfigurationError(f"the tree of managers runs in a circle: {words}")
    return order, level


def _adjust(
    table: pd.DataFrame,
    own: npt.NDArray[np.float64],
    raw: npt.NDArray[np.float64],
    above: npt.NDArray[np.intp],
    order: Sequence[int],
    nodes: Group,
    adjustments: Adjustments,
) -> pd.DataFrame:
    if isinstance(adjustments, Mapping):
        adjustments = pd.DataFrame({"node": list(adjustments), "amount": list(adjustments.values())})
    if not isinstance(adjustments, pd.DataFrame):
        raise ConfigurationError(f"adjustments are node -> amount, or a frame node, amount, not {_kind(adjustments)}")
    missing = [name for name in ("node", "amount") if name not in adjustments.columns]
    if missing:
        raise MissingColumnError(missing, list(adjustments.columns), "Adjustments have node and amount.")
    places = [nodes.find(key) for key in adjustments["node"]]
    if len(set(places)) < len(places):
        raise ConfigurationError("one node is adjusted twice; keep the call that holds")
    amounts = pd.to_numeric(adjustments["amount"], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isfinite(amounts)
    if bad.any():
        words = named([str(key) for key in adjustments["node"][bad]])
        raise ConfigurationError(f"adjustments are amounts; not so for {words}: leave out who is not adjusted")
    called = dict(zip(places, amounts.tolist(), strict=True))
    adjusted = own.copy()
    for position in reversed(order):
        if position in called:
            adjusted[position] = called[position]
        if above[position] >= 0:
            adjusted[above[position]] += adjusted[position]
    result = table.assign(adjusted=adjusted, delta=adjusted - raw)
    for name in ("who", "when", "note"):
        texts = pd.Series([None] * len(table), dtype="str")
        if name in adjustments.columns:
            texts.iloc[places] = adjustments[name].astype("str").to_numpy()
        result[name] = texts.to_numpy()
    return result.astype({"who": "str", "when": "str", "note": "str"})


@rollup.rows
def _rows_of_rollup(ask: Question) -> Trace:
    deals, arguments = ask.deals, ask.arguments
    if ask.column in ("adjusted", "delta"):
        return together(ask, _rows_of_rollup, (arguments["measure"],))
    if ask.column == "own_count":
        nobody_below = {**arguments, "tree": {**arguments["tree"], "manager": {}}}
        alone = replace(ask, basis={**ask.basis, "arguments": nobody_below})
        chosen, _ = together(alone, _rows_of_rollup, ("open_count", "won_count"))
        return chosen, np.ones(len(deals))
    groups = read_groups(deals, arguments["by"])
    if arguments["tree"] is None:
        group = in_groups(groups, deals, ask.parts)
    else:
        tree, below = arguments["tree"], [ask.parts[0]]
        for name in below:
            below += [child for child, manager in tree["manager"].items() if manager == name]
        group = np.isin(groups[0].codes, [tree["group"][name] for name in below if name in tree["group"]])
    inside, holds_today = np.ones(len(deals), dtype=bool), True
    if arguments["period"] is not None:
        first, last = ask.periods.span_of(arguments["period"])
        inside, holds_today = ask.within(arguments["period"]), first <= deals.context.today <= last
    return sums_behind(ask, kinds_of(deals), inside & group, group, holds_today)
