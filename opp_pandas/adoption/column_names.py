"""Which column of somebody else's file is which of ours.

A file from Salesforce, HubSpot or a spreadsheet names the same things in its
own way. `plan_columns` settles every source column once: taken by the user's
word, recognised by name, or left alone. Nothing is dropped, and nothing that a
foreign system numbers lands in a column of the service's own ids.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from opp_pandas.errors import ConfigurationError, FrameError, MissingColumnError, named
from opp_pandas.resource import COLUMN_DTYPES, EDITABLE_NAMES, OPPORTUNITY, TOUCH_COLUMNS

# The service alone fills these; a file's columns of that name mean something else.
SERVICE_ONLY = frozenset(
    {
        "id", "created_at", "updated_at", "creator_id", "updater_id", "creator_name", "updater_name",
        "stage_order", "stage_is_closed", "can_write", "can_delete", "data_connections", "prospect_ids", *TOUCH_COLUMNS,
    }
)  # fmt: skip
# Ids of the service, too, but a user may know them and say so with columns=.
FOREIGN_KEYS = frozenset({"owner_id", "account_id", "stage_id"})

# Names in well-known exports, letters and digits only, in order of preference.
ALIASES: dict[str, tuple[str, ...]] = {
    "custom_id": ("customid", "opportunityid", "dealid", "recordid", "hsobjectid", "id"),
    "name": ("name", "opportunityname", "dealname", "dealtitle"),
    "amount": ("amount", "opportunityamount", "dealamount", "dealvalue", "estimatedvalue"),
    "currency_type": (
        "currencytype", "currencyisocode", "currency", "currencycode", "opportunitycurrency", "amountcurrency",
        "dealcurrencycode", "dealcurrency",
    ),
    "probability": ("probability", "dealprobability", "hsdealstageprobability", "closeprobability"),
    "close_date": ("closedate", "expectedclosedate", "estimatedclosedate", "dealexpectedclosedate", "closingdate"),
    "stage_name": ("stagename", "stage", "dealstage", "salesstage", "opportunitystage"),
    "owner_name": ("ownername", "owner", "opportunityowner", "dealowner", "salesagent", "salesrep", "salesperson"),
    "account_name": ("accountname", "account", "companyname", "associatedcompany", "dealorganization"),
    "external_created_at": ("externalcreatedat", "createddate", "createdate", "createdat", "createdon", "createdtime"),
    "external_updated_at": ("externalupdatedat", "lastmodifieddate", "hslastmodifieddate", "updatedat", "modifiedon"),
    "touched_at": ("touchedat", "lastactivitydate"),
    "opportunity_type": ("opportunitytype", "type", "dealtype"),
    "next_step": ("nextstep", "hsnextstep"),
    "forecast_category": ("forecastcategory", "forecastcategoryname", "hsforecastcategory"),
    "lost_reason": ("lostreason", "lossreason", "closedlostreason"),
    "record_type": ("recordtype", "recordtypename"),
}  # fmt: skip


@dataclass
class ColumnPlan:
    """What becomes of every source column.

    `taken` goes from our column to the source column that fills it, `extras` from those that stay as they are to
    the name they get, `notes` has a word on every one; with `key_in_index` the index holds the source's keys.
    """

    taken: dict[str, Hashable] = field(default_factory=dict)
    extras: dict[Hashable, Hashable] = field(default_factory=dict)
    notes: dict[Hashable, str] = field(default_factory=dict)
    key_in_index: bool = False

    def table(self) -> pd.DataFrame:
        """Return the plan as a frame ``source, column, note`` for the load report."""
        target_of = {source: target for target, source in self.taken.items()}
        rows = [(source, target_of.get(source, self.extras.get(source)), note) for source, note in self.notes.items()]
        return pd.DataFrame(rows, columns=["source", "column", "note"], dtype=object)


def plan_columns(source: pd.DataFrame, columns: Mapping[Any, Any] | None) -> ColumnPlan:
    """Settle which source column fills which of ours, with a note on every one.

    In `columns`, the user's word, a source mapped to its own name is left alone, one mapped to None left out.

    Raises
    ------
    MissingColumnError
        If `columns` names a source column that is not there.
    FrameError
        If it sends two source columns to one, or one to the name of a column that stays.
    ConfigurationError
        If it is no mapping, or names a column that only the service fills, or one that looks like a slip of the pen.
    """
    plan = ColumnPlan()
    stated = _stated(source, columns)
    left_out = {label for label, target in stated.items() if target is None}
    plan.notes.update(dict.fromkeys(left_out, "left out by columns="))
    for label, target in stated.items():
        if label in left_out:
            continue
        if target in COLUMN_DTYPES:
            plan.taken[target] = label
            plan.notes[label] = "by columns="
        elif target != label:
            plan.extras[label] = target
            plan.notes[label] = "renamed by columns=; kept as it is and never sent"
    _recognise(source, plan, kept=set(stated))
    for label in source.columns:
        if label not in plan.notes:
            plan.notes[label] = "kept as it is and never sent"
        if label not in plan.taken.values() and label not in plan.extras and label not in left_out:
            plan.extras[label] = label
    _refuse_doubled(plan)
    _move_aside(source, plan)
    return plan


def _stated(source: pd.DataFrame, columns: Mapping[Any, Any] | None) -> dict[Any, Any]:
    if columns is None:
        return {}
    if not isinstance(columns, Mapping):
        raise ConfigurationError("columns= is a mapping from the frame's names to ours: {'Deal value': 'amount'}")
    absent = [str(label) for label in columns if label not in source.columns]
    if absent:
        raise MissingColumnError(absent, source.columns, "columns= maps the frame's own names to ours.")
    nameless = [label for label, target in columns.items() if not isinstance(target, Hashable)]
    if nameless:
        raise ConfigurationError(
            f"columns= gives {named(nameless)} no name that a column can have: write {{'Deal value': 'amount'}}; "
            "to leave a column alone, map it to its own name, to leave it out, to None"
        )
    api_names = {name: entry.column for name, entry in OPPORTUNITY.by_name.items()}
    stated = {label: api_names.get(target, target) for label, target in columns.items()}
    sources_of: dict[Any, list[Any]] = {}
    for label, target in stated.items():
        if target is not None:
            sources_of.setdefault(target, []).append(label)
    for target, labels in sources_of.items():
        if len(labels) > 1:
            raise FrameError(f"columns= sends {named(labels)} to {named([target])}; keep one of them")
        if target in SERVICE_ONLY:
            better = {"id": "custom_id", "created_at": "external_created_at", "updated_at": "external_updated_at"}
            hint = f"; use {named([better[target]])}" if target in better else ""
            raise ConfigurationError(f"columns= maps {named(labels)} to {target!r}, which only the service fills{hint}")
        near = difflib.get_close_matches(str(target), COLUMN_DTYPES, 1, cutoff=0.85)
        if target not in COLUMN_DTYPES and target != labels[0] and near:
            raise ConfigurationError(f"columns= names {named([target])}; did you mean {named(near)}?")
    return stated


def plain_name(label: object) -> str:
    """Strip a column name to lower-case letters and digits.

    Examples
    --------
    >>> plain_name("Probability (%)"), plain_name("property_dealname"), plain_name("Owner.Name")
    ('probability', 'dealname', 'ownername')
    """
    return re.sub(r"[^a-z0-9]", "", re.sub(r"^propert(?:y_|ies\.)", "", str(label).lower()))


def _recognise(source: pd.DataFrame, plan: ColumnPlan, kept: set[Any]) -> None:
    by_name: dict[str, list[Any]] = {}
    for label in source.columns:
        if label not in kept and isinstance(label, str):
            by_name.setdefault(plain_name(label), []).append(label)
    ours = [name for name in COLUMN_DTYPES if name not in SERVICE_ONLY | FOREIGN_KEYS]
    for target in ours:
        candidates = [label for alias in ALIASES.get(target, (plain_name(target),)) for label in by_name.get(alias, [])]
        # The very name goes before its other spellings.
        candidates.sort(key=lambda label: label != target)
        for label in candidates:
            if target in EDITABLE_NAMES and _holds_numbers(source[label]):
                plan.notes[label] = f"numbers, so no {target}; kept as it is and never sent"
            elif target in plan.taken:
                plan.notes[label] = f"not used ({target} is {plan.taken[target]!r}); kept as it is and never sent"
            else:
                plan.taken[target] = label
                plan.notes[label] = "recognised by its name"
    index_name = source.index.name
    if "custom_id" not in plan.taken and isinstance(index_name, str):
        plan.key_in_index = plain_name(index_name) in ALIASES["custom_id"]


def _holds_numbers(values: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(values.dtype) and values.notna().any())


def _refuse_doubled(plan: ColumnPlan) -> None:
    """Refuse a new name that another column keeps: one of the two would be lost."""
    for label, final in plan.extras.items():
        if label != final and plan.extras.get(final) == final:
            raise FrameError(
                f"columns= sends {named([label])} to {named([final])}, which is the name of a column that stays; "
                "give one of the two another name"
            )


def _move_aside(source: pd.DataFrame, plan: ColumnPlan) -> None:
    """Rename extras that bear a name of ours: they would be taken for the service's own."""
    names = {*COLUMN_DTYPES, *(final for label, final in plan.extras.items() if final not in COLUMN_DTYPES)}
    for label, final in list(plan.extras.items()):
        if final not in COLUMN_DTYPES:
            continue
        if source[label].isna().all():
            del plan.extras[label]
            plan.notes[label] = "empty, left out"
            continue
        aside = f"source_{final}"
        while aside in names:
            aside += "_"
        names.add(aside)
        plan.extras[label] = aside
        plan.notes[label] = "moved aside: here the name stands for the service's own; never sent"
