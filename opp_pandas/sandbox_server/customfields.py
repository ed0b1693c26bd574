"""The custom fields that the sandbox's organisation has set up, as ``/types`` lists them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

CustomKind = Literal[
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
]


@dataclass(frozen=True, slots=True)
class CustomField:
    """One custom field: its number, what people call it, its kind and its options."""

    number: int
    label: str
    kind: CustomKind
    definition: tuple[str, ...] | str | None = None
    required: bool = False

    @property
    def name(self) -> str:
        """The attribute's name."""
        return f"custom{self.number}"


REGIONS = ("EMEA", "AMER", "APAC", "LATAM")
PRODUCTS = ("Platform", "Insights", "Connect", "Archive", "Support Plus")
REVIEWS = ("Not started", "Running", "Passed")
CRITERIA = ("Price", "Speed", "Security", "Support")
COMPETITORS = ("None", "Northwind", "Contoso", "Fabrikam", "In-house")

CUSTOM_FIELDS = (
    CustomField(1, "Region", "inclusion", REGIONS),
    CustomField(2, "Segment", "inclusion", ("SMB", "Mid-Market", "Enterprise")),
    CustomField(3, "Products", "multi_inclusion", PRODUCTS),
    CustomField(4, "Competitor", "inclusion", COMPETITORS),
    CustomField(5, "Champion identified", "boolean"),
    CustomField(6, "Budget confirmed", "boolean"),
    CustomField(7, "Seats", "numerical"),
    CustomField(8, "Discount", "percentage"),
    CustomField(9, "Recurring revenue", "currency", "USD"),
    CustomField(10, "Contract start", "date"),
    CustomField(11, "Last demo", "date_time"),
    CustomField(12, "Contract months", "numerical"),
    CustomField(13, "Procurement phone", "phone_number"),
    CustomField(14, "Proposal", "url"),
    CustomField(15, "Legal entity", "string"),
    CustomField(16, "Partner", "string"),
    CustomField(17, "Risk notes", "string"),
    CustomField(18, "Security review", "inclusion", REVIEWS),
    CustomField(19, "Implementation cost", "currency", "USD"),
    CustomField(20, "Decision criteria", "multi_inclusion", CRITERIA),
    CustomField(87, "Old system key", "string"),
)
_BY_NAME = {entry.name: entry for entry in CUSTOM_FIELDS}

_PATTERNS = {
    "boolean": re.compile(r"true|false"),
    "currency": re.compile(r"-?\d+(\.\d+)?", re.ASCII),
    "numerical": re.compile(r"-?\d+(\.\d+)?", re.ASCII),
    "percentage": re.compile(r"-?\d+(\.\d+)?", re.ASCII),
    "date": re.compile(r"\d{4}-\d\d-\d\d", re.ASCII),
    "date_time": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII),
    "url": re.compile(r"https?://\S+"),
}


def check_custom(name: str, value: object) -> None:
    """Hold the text of a custom field to its kind; the message of the ValueError continues the field's name."""
    entry = _BY_NAME.get(name)
    if entry is None or not isinstance(value, str) or value == "":
        return
    pattern = _PATTERNS.get(entry.kind)
    if pattern is not None and not pattern.fullmatch(value):
        raise ValueError(f"is not a valid {entry.kind.replace('_', ' ')}")
    chosen = value.split(", ") if entry.kind == "multi_inclusion" else [value]
    if isinstance(entry.definition, tuple) and not set(chosen) <= set(entry.definition):
        raise ValueError("is not included in the list")


def types_document(slots: int) -> dict[str, Any]:
    """Return the document of ``/types``: every slot of an opportunity, set up or not."""
    validations: dict[str, Any] = {}
    for number in range(1, slots + 1):
        entry = _BY_NAME.get(f"custom{number}")
        validations[f"custom{number}"] = (
            {"type": "string", "required": False, "label": None, "definition": None}
            if entry is None
            else {
                "type": entry.kind,
                "required": entry.required,
                "label": entry.label,
                "definition": list(entry.definition) if isinstance(entry.definition, tuple) else entry.definition,
            }
        )
    data = [{"type": "Opportunity", "meta": {"validations": validations}}]
    data += [{"type": name, "meta": {"validations": {}}} for name in ("Account", "Prospect")]
    return {"data": data}
