"""The resource table is what the reference page and the field flags say."""

from __future__ import annotations

from opp_pandas.resource import (
    COLUMN_DTYPES,
    EDITABLE_NAMES,
    INCLUDABLE,
    LOOKUP_COLUMNS,
    OPPORTUNITY,
    RESOURCES,
    snake_case,
)

# Counted on the reference page and in the newer schema.
ON_THE_REFERENCE_PAGE, ADDED_SINCE = 169, 7


def test_attributes__are_all_there() -> None:
    """Of the reference page 169 attributes and seven relationships, later seven and nine; three metadata entries."""
    assert sum(entry.documented for entry in OPPORTUNITY.attributes) == ON_THE_REFERENCE_PAGE
    assert len(OPPORTUNITY.attributes) == ON_THE_REFERENCE_PAGE + ADDED_SINCE
    assert [entry.documented for entry in OPPORTUNITY.relationships] == [True] * 7 + [False] * 9
    assert [entry.name for entry in OPPORTUNITY.metadata] == ["canWrite", "canDelete", "dataConnections"]


def test_columns__are_unique_and_in_snake_case() -> None:
    """No two members share a column, in any resource."""
    for resource in RESOURCES.values():
        columns = [*resource.by_column, *resource.relationship_by_column]
        assert (
            len(columns)
            == len(set(columns))
            == len(resource.attributes) + sum(entry.column is not None for entry in resource.relationships)
        )
        assert all(column == column.lower() for column in columns)
    assert snake_case("mapNextSteps") == "map_next_steps"


def test_limits__are_the_services() -> None:
    """Text limits by field: 255, 32,000 and 65,535 characters; 15 for the exact amount."""
    limits = {
        name: OPPORTUNITY.by_column[name].max_length for name in ("name", "custom150", "description", "amount_precise")
    }
    assert limits == {"name": 255, "custom150": 32_000, "description": 65_535, "amount_precise": 15}


def test_flags__of_a_few_members() -> None:
    """What cannot be filtered or written is known before the network is asked."""
    by_name = OPPORTUNITY.by_name
    assert not by_name["closeDate"].filterable
    assert by_name["closeDate"].sortable
    assert by_name["updatedAt"].read_only
    assert not by_name["custom7"].filterable
    assert by_name["customId"].filterable
    stage = OPPORTUNITY.relationship_by_name
    assert stage["stage"].read_only
    assert not stage["opportunityStage"].read_only
    assert OPPORTUNITY.relationship_by_column["stage_id"].name == "opportunityStage"


def test_dtypes__are_the_interfaces() -> None:
    """Ids and numbers are Int64, instants carry microseconds and UTC, text is str, tags are objects."""
    assert COLUMN_DTYPES["amount"] == COLUMN_DTYPES["owner_id"] == COLUMN_DTYPES["id"] == "Int64"
    assert COLUMN_DTYPES["close_date"] == "datetime64[us, UTC]"
    assert COLUMN_DTYPES["custom_id"] == COLUMN_DTYPES["prospecting_rep_id"] == "str"
    assert COLUMN_DTYPES["tags"] == "object"


def test_lookup_columns__are_all_derived_from_the_relationships():
    """A joined name is one entry of a relationship: id column, type, dtype and whether it is editable follow."""
    assert list(LOOKUP_COLUMNS) == [
        "stage_name",
        "stage_order",
        "stage_is_closed",
        "owner_name",
        "account_name",
        "creator_name",
        "updater_name",
        "territory_name",
        "primary_prospect_name",
        "external_creator_name",
        "account_owner_id",
        "account_owner_name",
        "owner_role_id",
        "owner_role_name",
    ]
    assert {name: (entry.id_column, entry.type, entry.dtype) for name, entry in LOOKUP_COLUMNS.items()} == {
        "stage_name": ("stage_id", "opportunityStage", "str"),
        "stage_order": ("stage_id", "opportunityStage", "Int64"),
        "stage_is_closed": ("stage_id", "opportunityStage", "boolean"),
        "owner_name": ("owner_id", "user", "str"),
        "account_name": ("account_id", "account", "str"),
        "creator_name": ("creator_id", "user", "str"),
        "updater_name": ("updater_id", "user", "str"),
        "territory_name": ("territory_id", "territory", "str"),
        "primary_prospect_name": ("primary_prospect_id", "prospect", "str"),
        "external_creator_name": ("external_creator_id", "user", "str"),
        "account_owner_id": ("account_id", "account", "Int64"),
        "account_owner_name": ("account_owner_id", "user", "str"),
        "owner_role_id": ("owner_id", "user", "Int64"),
        "owner_role_name": ("owner_role_id", "role", "str"),
    }
    assert list(EDITABLE_NAMES) == [
        f"{name}_name" for name in ("stage", "owner", "account", "territory", "primary_prospect", "external_creator")
    ]
    assert list(INCLUDABLE) == [
        *("stage", "owner", "account", "creator", "updater", "territory", "primary_prospect", "external_creator"),
        *("account.owner", "owner.role"),
    ]
