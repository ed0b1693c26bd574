"""What a create or an update asks for: checked as the service checks it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from opp_pandas.sandbox_server.customfields import check_custom
from opp_pandas.sandbox_server.errors import ErrorObject, bad_request, invalid, validation_error
from opp_pandas.sandbox_server.json_forms import read_member
from opp_pandas.sandbox_server.webhooks import check_target

if TYPE_CHECKING:
    from opp_pandas.resource import Attribute, Relationship
    from opp_pandas.sandbox_server.settings import Switches
    from opp_pandas.sandbox_server.store import Table

_DECIMAL = re.compile(r"-?\d{1,13}(\.\d{1,4})?", re.ASCII)
Exists = Callable[[str, int], bool]


@dataclass(frozen=True)
class Edit:
    """A checked create or update: attributes and lists by API name, links by column."""

    attributes: dict[str, Any] = field(default_factory=dict)
    links: dict[str, int | None] = field(default_factory=dict)
    lists: dict[str, list[int]] = field(default_factory=dict)


def read_body(body: bytes) -> Any:
    """Read a JSON body; 400 if it is not JSON as RFC 8259 has it."""

    def refuse(word: str) -> Any:
        raise ValueError(word)

    try:
        return json.loads(body.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError):
        raise bad_request("The body is not a JSON document.") from None


def read_edit(table: Table, document: Any, key: int | None, exists: Exists, switches: Switches) -> Edit:
    """Check the document of a create (`key` None) or of an update; 422 with one error object per broken rule."""
    return _Check(table, key, exists, switches).run(document)


class _Check:
    """Collects everything that is wrong with one document."""

    def __init__(self, table: Table, key: int | None, exists: Exists, switches: Switches) -> None:
        self._table, self._key, self._exists, self._switches = table, key, exists, switches
        self._errors: list[ErrorObject] = []
        self._edit = Edit()

    def run(self, document: Any) -> Edit:
        """Check everything, then give the edit or raise with every error."""
        data = document.get("data") if isinstance(document, dict) else None
        if not isinstance(data, dict):
            raise invalid([validation_error("A resource object is needed.", "/data")])
        self._check_identity(data)
        for name, value in self._members(data, "attributes").items():
            self._check_attribute(name, value)
        for name, value in self._members(data, "relationships").items():
            self._check_relationship(name, value)
        self._check_required()
        if self._errors:
            raise invalid(self._errors)
        return self._edit

    def _complain(self, detail: str, pointer: str) -> None:
        self._errors.append(validation_error(detail, pointer))

    def _members(self, data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        found = data.get(name, {})
        if isinstance(found, dict):
            return found
        self._complain(f"{name.capitalize()} must be an object.", f"/data/{name}")
        return {}

    def _check_identity(self, data: Mapping[str, Any]) -> None:
        kind = self._table.resource.type
        if data.get("type") != kind:
            self._complain(f"Type must be '{kind}'.", "/data/type")
        if self._key is None and "id" in data:
            self._complain("Id is given by the service.", "/data/id")
        elif self._key is not None and not (_is_id(data.get("id")) and int(data["id"]) == self._key):
            self._complain("Id must be the id in the address.", "/data/id")

    def _check_attribute(self, name: str, value: Any) -> None:
        pointer = f"/data/attributes/{_escape(name)}"
        entry = self._table.resource.by_name.get(name)
        if entry is None or (self._switches.generation == "reference" and not entry.documented):
            self._complain(f"'{_shown(name)}' is not an attribute of {self._table.resource.type}.", pointer)
        elif entry.read_only:
            if self._switches.read_only_members == "refuse":
                self._complain(f"{_label(name)} is read-only.", pointer)
        else:
            try:
                self._edit.attributes[name] = self._read_value(entry, value)
            except ValueError as error:
                self._complain(f"{_label(name)} {error}.", pointer)

    def _read_value(self, entry: Attribute, value: Any) -> Any:
        if value is None:
            return None
        read = read_member(entry.form, value)
        if entry.max_length is not None and len(read) > entry.max_length:
            raise ValueError(f"is too long (maximum is {entry.max_length} characters)")
        low, high = entry.minimum, entry.maximum
        checked = self._switches.check_probability_range or entry.name != "probability"
        if low is not None and high is not None and checked and not low <= read <= high:
            raise ValueError(f"must be from {low} to {high}")
        if entry.choices and read not in entry.choices:
            raise ValueError(f"must be one of {', '.join(entry.choices)}")
        if entry.name == "url":
            check_target(read)
        if entry.name == "amountPrecise" and not _DECIMAL.fullmatch(read):
            raise ValueError("must be a decimal number")
        if self._switches.check_custom_fields and self._table.resource.type == "opportunity":
            check_custom(entry.name, read)
        return read

    def _check_relationship(self, name: str, value: Any) -> None:
        pointer = f"/data/relationships/{_escape(name)}"
        entry = self._table.resource.relationship_by_name.get(name)
        if entry is None or (self._switches.generation == "reference" and not entry.documented):
            self._complain(f"'{_shown(name)}' is not a relationship of {self._table.resource.type}.", pointer)
        elif entry.read_only or (entry.to_many and name not in self._table.list_columns):
            if self._switches.read_only_members == "refuse":
                self._complain(f"{_label(name)} is read-only.", pointer)
        elif not isinstance(value, dict) or "data" not in value:
            self._complain(f"{_label(name)} must be an object with data.", pointer)
        elif entry.to_many:
            if not isinstance(value["data"], list):
                self._complain(f"{_label(name)} must be a list.", f"{pointer}/data")
                return
            ids = [self._read_id(entry, data, f"{pointer}/data/{n}") for n, data in enumerate(value["data"])]
            self._edit.lists[name] = list(dict.fromkeys(key for key in ids if key is not None))
        else:
            data = value["data"]
            key = None if data is None else self._read_id(entry, data, f"{pointer}/data")
            self._edit.links[self._table.link_columns[name]] = key

    def _read_id(self, entry: Relationship, data: Any, pointer: str) -> int | None:
        """Read where an identifier points; what is wrong with it is noted."""
        if not isinstance(data, dict) or data.get("type") != entry.type or not _is_id(data.get("id")):
            self._complain(f"{_label(entry.name)} must name a record of type {entry.type} by its id.", pointer)
        elif not self._exists(entry.type, int(data["id"])):
            self._complain(f"{_label(entry.name)} must exist.", pointer)
        else:
            return int(data["id"])
        return None

    def _check_required(self) -> None:
        needed = self._switches.require_on_create if self._table.resource.type == "opportunity" else ()
        needed = _NEEDED.get(self._table.resource.type, needed)
        attributes = self._edit.attributes
        for name in needed:
            given = name in attributes
            empty = attributes.get(name) is None or str(attributes[name]).strip() == ""
            reported = any(error["source"]["pointer"] == f"/data/attributes/{name}" for error in self._errors)
            if not reported and empty and (given or self._key is None):
                self._complain(f"{_label(name)} can't be blank.", f"/data/attributes/{name}")
        if self._table.resource.type == "opportunityProspectRole":
            for name in ("opportunity", "prospect"):
                column, pointer = self._table.link_columns[name], f"/data/relationships/{name}"
                reported = any(error["source"]["pointer"].startswith(pointer) for error in self._errors)
                given = column in self._edit.links
                if not reported and self._edit.links.get(column) is None and (given or self._key is None):
                    self._complain(f"{_label(name)} must exist.", pointer)


def resolve_amounts(attributes: dict[str, Any], before: Mapping[str, Any] | None = None) -> None:
    """Keep ``amount`` and ``amountPrecise`` one figure, in whole units and with cents; changes `attributes`.

    The exact one leads where both are sent; the rounding is half up, which the
    documents leave open. A client that sends whole records back repeats the
    exact amount as it read it (`before`): beside a changed ``amount`` it is stale.
    """
    if before is not None and {"amount", "amountPrecise"} <= attributes.keys():
        is_stale = attributes["amountPrecise"] == before.get("amountPrecise")
        if is_stale and attributes["amount"] != before.get("amount"):
            del attributes["amountPrecise"]
    if "amountPrecise" in attributes:
        exact = attributes["amountPrecise"]
        attributes["amount"] = None if exact is None else int(Decimal(exact).quantize(Decimal(1), ROUND_HALF_UP))
    elif "amount" in attributes:
        whole = attributes["amount"]
        text = f"{whole}.00"
        # The exact form has room for 15 characters; a larger amount stands alone.
        attributes["amountPrecise"] = None if whole is None or len(text) > 15 else text


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"\d{1,18}", value, re.ASCII) is not None
    return type(value) is int and 0 <= value < 2**63


_NEEDED = {"opportunityStage": ("name",), "webhook": ("url", "resource", "action")}


def _label(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])([A-Z])", r" \1", name).lower()
    return words[:1].upper() + words[1:]


def _shown(name: str) -> str:
    return name[:60].encode("utf-8", "replace").decode()


def _escape(name: str) -> str:
    return _shown(name).replace("~", "~0").replace("/", "~1")
