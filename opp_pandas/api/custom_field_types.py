"""What an organisation made of its custom fields: the service's ``/types``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opp_pandas.errors import DocumentError
from opp_pandas.resource import OPPORTUNITY, Resource

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = (
    "boolean",
    "currency",
    "date",
    "date_time",
    "inclusion",
    "multi_inclusion",
    "numerical",
    "percentage",
    "phone_number",
    "string",
    "url",
)


@dataclass(frozen=True)
class CustomField:
    """One custom field that is set up.

    Parameters
    ----------
    name : str
        The API's name and the column's: ``custom12``.
    label : str
        What the organisation calls it.
    kind : str
        One of `KINDS`, or a newer word of the service.
    required : bool
        Whether a new opportunity needs it.
    options : tuple of str
        For ``inclusion`` and ``multi_inclusion``: what may stand in it.
    currency : str or None
        For ``currency``: its ISO code.
    """

    name: str
    label: str
    kind: str
    required: bool = False
    options: tuple[str, ...] = ()
    currency: str | None = None


def read_custom_fields(document: Mapping[str, Any], resource: Resource = OPPORTUNITY) -> list[CustomField]:
    """Read the custom fields of a resource, by number, out of the document of ``/types``.

    Slots without a label are not set up and left out.
    """
    types = document.get("data")
    if not isinstance(types, list):
        raise DocumentError("/types was expected to list types", pointer="/data")
    found: dict[int, CustomField] = {}
    for entry in types:
        # The type is spelt with a capital letter here, and only here.
        if isinstance(entry, dict) and str(entry.get("type")).lower() == resource.type.lower():
            for name, rule in _validations(entry).items():
                number = re.fullmatch(r"custom([1-9][0-9]{0,3})", name)
                if number and isinstance(rule, dict) and isinstance(rule.get("label"), str) and rule["label"].strip():
                    found[int(number[1])] = _custom_field(name, rule)
    return [found[number] for number in sorted(found)]


def _validations(entry: dict[str, Any]) -> dict[str, Any]:
    meta = entry.get("meta")
    rules = meta.get("validations") if isinstance(meta, dict) else None
    return rules if isinstance(rules, dict) else {}


def _custom_field(name: str, rule: dict[str, Any]) -> CustomField:
    definition = rule.get("definition")
    kind = rule["type"] if isinstance(rule.get("type"), str) else "string"
    options = tuple(option for option in definition if isinstance(option, str)) if isinstance(definition, list) else ()
    return CustomField(
        name=name,
        label=rule["label"].strip(),
        kind=kind,
        required=rule.get("required") is True,
        options=options,
        currency=definition if kind == "currency" and isinstance(definition, str) else None,
    )
