"""Filters in both syntaxes of the service, turned into SQL conditions.

The older syntax writes everything into one text (``50..90``, ``1,2,3``); the
newer one, switched on by ``newFilterSyntax=true``, writes lists as
``filter[a][]`` and ranges as ``filter[a][gte]`` and ``filter[a][lte]``. Names
are looked up in `opp_pandas.resource`; values never become part of the SQL.
"""

# ruff: noqa: S608 - SQL is made of the names in resource.py only; every value is a parameter.
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from opp_pandas.resource import RESOURCES, Relationship
from opp_pandas.sandbox_server.errors import Problem, bad_parameter
from opp_pandas.sandbox_server.json_forms import INTEGER, TEXT, Form, is_instant, read_filter, words_of
from opp_pandas.sandbox_server.store import TABLES, Table

NULL, NOT_NULL = "__null__", "__notnull__"
_NO_BOUND = {"gte": ("neginf", "-inf"), "lte": ("inf", "+inf")}
# The documents mention these two syntaxes' clash by this id only.
_MIXED = "filterParameter.invalidDatetimeFormat"


@dataclass(frozen=True, slots=True)
class Condition:
    """A piece of SQL of allow-listed names, and the values for its question marks."""

    sql: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """What a filter names: a column, what it holds, and the SQL around a condition on it."""

    column: str
    form: Form
    frame: str = "{}"


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter parameter: its keys, an operator of the newer syntax if any, and its values."""

    parameter: str
    path: tuple[str, ...]
    operator: str | None
    values: tuple[str, ...]


def split_filter(parameter: str, keys: Sequence[str], values: Sequence[str], newer: bool) -> Filter:
    """Split the keys of a filter parameter from the operator of the newer syntax behind them."""
    operator = keys[-1] if keys and keys[-1] in ("", "gte", "lte") else None
    if operator is None:
        return Filter(parameter, tuple(keys), None, (values[-1],))
    if not newer:
        raise bad_parameter(parameter, "Lists with [] and ranges with [gte] and [lte] need newFilterSyntax=true.")
    return Filter(parameter, tuple(keys[:-1]), operator or "in", tuple(values) if operator == "" else (values[-1],))


def build_condition(table: Table, given: Filter, newer: bool, ignore_upper: bool = False) -> Condition:
    """Build the SQL condition of one filter; 422 if the service cannot filter by it or the value does not fit."""
    target = _find_target(table, given)
    if given.operator in ("gte", "lte"):
        inner = _bound(target, given, given.operator, given.values[0])
        if ignore_upper and given.operator == "lte" and is_instant(target.form):
            inner = Condition("1")
    elif newer:
        inner = _any_of(target, given, given.values, _exact_newer)
    else:
        texts = given.values[0].split(",")
        inner = _any_of(target, given, texts, lambda t, g, text: _exact_older(t, g, text, ignore_upper))
    return Condition(target.frame.format(inner.sql), inner.values)


def _find_target(table: Table, given: Filter) -> Target:
    resource, path = table.resource, given.path
    if path == ("id",):
        return Target(f"{table.name}.id", INTEGER)
    if len(path) == 1:
        attribute = resource.by_name.get(path[0])
        if attribute is not None and attribute.filterable:
            return Target(f'{table.name}."{attribute.column}"', attribute.form)
        if attribute is None and path[0] not in resource.relationship_by_name:
            raise bad_parameter(given.parameter, f"'{path[0][:60]}' is not an attribute of {resource.type}.")
        raise bad_parameter(given.parameter, f"'{path[0]}' is not filterable.")
    # The service itself emits the singular in links from prospects to opportunities.
    names = {"prospect": "prospects"} if resource.type == "opportunity" else {}
    relationship = resource.relationship_by_name.get(names.get(path[0], path[0])) if len(path) == 2 else None
    if relationship is None or path[1] not in relationship.filter_keys:
        raise bad_parameter(given.parameter, f"'{'.'.join(path)[:80]}' is not filterable.")
    return _relationship_target(table, relationship, path[1])


def _relationship_target(table: Table, relationship: Relationship, key: str) -> Target:
    if relationship.name in table.list_texts:
        inside = f"SELECT 1 FROM json_each({table.list_texts[relationship.name]}) AS listed WHERE {{}}"
        return Target("listed.value", INTEGER, f"EXISTS ({inside})")
    if relationship.to_many:
        # People and deals meet in the table of roles.
        own, other = f"{table.resource.type}_id", f"{relationship.type}_id"
        inside = f"SELECT {own} FROM opportunityProspectRoles WHERE {{}}"
        return Target(other, INTEGER, f"{table.name}.id IN ({inside})")
    column = f'{table.name}."{table.link_columns[relationship.name]}"'
    if key == "id":
        return Target(column, INTEGER)
    other_table = TABLES[relationship.type]
    attribute = RESOURCES[relationship.type].by_name[key]
    inside = f"SELECT id FROM {other_table.name} WHERE {{}}"
    return Target(f'{other_table.name}."{attribute.column}"', attribute.form, f"{column} IN ({inside})")


def _any_of(
    target: Target, given: Filter, texts: Sequence[str], build: Callable[[Target, Filter, str], Condition | Any]
) -> Condition:
    parts: list[Condition] = []
    equal: list[Any] = []
    for text in texts:
        made = build(target, given, text)
        parts.append(made) if isinstance(made, Condition) else equal.append(made)
    if equal:
        parts.append(Condition(f"{target.column} IN ({', '.join('?' * len(equal))})", tuple(equal)))
    sql = " OR ".join(part.sql for part in parts)
    return Condition(f"({sql})", tuple(value for part in parts for value in part.values))


def _null_test(target: Target, text: str) -> Condition | None:
    words = {NULL: "IS NULL", NOT_NULL: "IS NOT NULL"}
    return Condition(f"{target.column} {words[text]}") if text in words else None


def _exact_newer(target: Target, given: Filter, text: str) -> Condition | Any:
    null_test = _null_test(target, text)
    if null_test is not None:
        return null_test
    if ".." in text and target.form != TEXT:
        code = _MIXED if is_instant(target.form) else "invalidParameter"
        raise bad_parameter(given.parameter, "A range with '..' does not go with newFilterSyntax=true.", code)
    return _read_value(target, given, text)


def _exact_older(target: Target, given: Filter, text: str, ignore_upper: bool) -> Condition | Any:
    null_test = _null_test(target, text)
    if null_test is not None:
        return null_test
    if ".." not in text:
        return _read_value(target, given, text)
    low, high = text.split("..", 1)
    bounds = [_bound(target, given, "gte", low)]
    if not (ignore_upper and is_instant(target.form)):
        bounds.append(_bound(target, given, "lte", high))
    sql = " AND ".join(bound.sql for bound in bounds)
    return Condition(f"({sql})", tuple(value for bound in bounds for value in bound.values))


def _bound(target: Target, given: Filter, operator: str, text: str) -> Condition:
    if text in _NO_BOUND[operator]:
        return Condition(f"{target.column} IS NOT NULL")
    if ".." in text and is_instant(target.form):
        raise bad_parameter(given.parameter, "A range with '..' does not go with newFilterSyntax=true.", _MIXED)
    sign = ">=" if operator == "gte" else "<="
    return Condition(f"{target.column} {sign} ?", (_read_value(target, given, text),))


def _read_value(target: Target, given: Filter, text: str) -> Any:
    try:
        return read_filter(target.form, text)
    except (ValueError, KeyError):
        raise _misfit(target, given, text) from None


def _misfit(target: Target, given: Filter, text: str) -> Problem:
    code = _MIXED if is_instant(target.form) else "invalidParameter"
    return bad_parameter(given.parameter, f"'{text[:60]}' is not {words_of(target.form)}.", code)
