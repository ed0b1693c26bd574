"""Everything that the service's reference page names, with the test that proves it.

`service_table` gives the table of the README's service section. The tests below
hold the table to the resource table and to the tests that exist, and every row
of the resource table to both ends of the wire.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from conftest import NOW, STAGES
from opp_pandas import errors
from opp_pandas.resource import (
    CUSTOM_FIELDS,
    INCLUDABLE,
    OPPORTUNITY,
    RESOURCES,
    WEBHOOK,
    Attribute,
    Resource,
)
from opp_pandas.sandbox_server.settings import switch_types

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

TESTS = Path(__file__).parent

OPERATIONS = {
    "GET /opportunities": ("test_client", "test_iter_pages__follows_links_and_counts"),
    "POST /opportunities": ("test_example_bodies", "test_create_and_delete__send_and_take_the_documented_bodies"),
    "GET /opportunities/{id}": ("test_client", "test_get__gives_the_record_and_the_facts_of_the_answer"),
    "PATCH /opportunities/{id}": ("test_example_bodies", "test_write_back__sends_the_documented_body"),
    "DELETE /opportunities/{id}": ("test_sandbox_server_main", "test_life_of_a_record__is_201_200_204_404"),
}
PARAMETERS = {
    "filter[a]=x, lists, ranges, null tests": ("test_query", "test_filter__is_written_in_the_newer_syntax"),
    "filter, both syntaxes": ("test_sandbox_server_queries", "test_filter__gives_the_rows_that_python_gives"),
    "newFilterSyntax": ("test_query", "test_filter__always_says_the_newer_syntax_and_never_without_one"),
    "sort": ("test_sandbox_server_queries", "test_sort__orders_rows_and_pages_through_each_once"),
    "fields[type]": ("test_query", "test_fields__never_lose_what_is_needed"),
    "include": ("test_sandbox_server_queries", "test_include__brings_each_record_once"),
    "include, nested (account.owner)": ("test_organisation", "test_include__goes_on_to_what_is_included"),
    "page[size], page[after], page[before]": (
        "test_sandbox_server_queries",
        "test_paging__backwards_is_forwards_reversed",
    ),
    "page[limit], page[offset]": ("test_sandbox_server_queries", "test_offset_paging__has_its_own_links"),
    "count": ("test_sandbox_server_queries", "test_count__comes_only_when_asked"),
    "provideAuthorizationMeta": ("test_service_table", "test_metadata__has_both_ends"),
    "provideDataConnections": ("test_service_table", "test_metadata__has_both_ends"),
}
RELATIONSHIPS = dict.fromkeys(
    (entry.name for entry in OPPORTUNITY.relationships), ("test_service_table", "test_relationship__has_both_ends")
)
METADATA = dict.fromkeys(
    (entry.name for entry in OPPORTUNITY.metadata), ("test_service_table", "test_metadata__has_both_ends")
)
BOTH_ENDS = ("test_service_table", "test_attribute__has_both_ends")
GROUPS = {
    "text (name, nextStep, mapStatus …)": BOTH_ENDS,
    "whole numbers (amount, probability)": BOTH_ENDS,
    "instants (closeDate, createdAt, updatedAt, touchedAt, externalCreatedAt)": BOTH_ENDS,
    "tags": BOTH_ENDS,
    f"custom1 … custom{CUSTOM_FIELDS}": BOTH_ENDS,
    "labels, kinds and options of custom fields (/types)": (
        "test_custom_fields",
        "test_convert__turns_texts_into_values",
    ),
    "newer attributes (amountPrecise, trashedAt …)": BOTH_ENDS,
    "attributes that nobody documents": ("test_example_bodies", "test_load__reads_two_pages_and_the_stages"),
    "the older generation's 169 attributes": (
        "test_sandbox_server_limits",
        "test_generation_of_the_reference_page__has_its_169_attributes",
    ),
}
STATUSES = {
    "200": ("test_sandbox_server_main", "test_life_of_a_record__is_201_200_204_404"),
    "201": ("test_sandbox_server_main", "test_life_of_a_record__is_201_200_204_404"),
    "204": ("test_sandbox_server_main", "test_life_of_a_record__is_201_200_204_404"),
    "400": ("test_sandbox_server_edits", "test_body__that_is_not_json_is_400"),
    "401": ("test_faults", "test_401__is_repeated_once_with_a_new_token"),
    "403": ("test_example_bodies", "test_errors__become_their_exceptions"),
    "404": ("test_sandbox_server_main", "test_life_of_a_record__is_201_200_204_404"),
    "409": ("test_example_bodies", "test_errors__become_their_exceptions"),
    "415": ("test_sandbox_server_edits", "test_write__needs_the_media_type"),
    "422": ("test_sandbox_server_edits", "test_errors__come_all_at_once"),
    "429": ("test_sandbox_server_limits", "test_rate_limit__used_up_is_429_until_the_period_ends"),
    "502, 504": ("test_paging", "test_size__is_halved_on_failures_and_kept"),
    "503": ("test_sandbox_server_limits", "test_maintenance__is_503_with_an_iso_retry_after"),
}
SIGN_INS = {
    "bearerAuth: a token": ("test_client", "test_requests__carry_token_and_media_type"),
    "bearerAuth: OAuth 2.0, code and loopback": ("test_oauth", "test_login__signs_in_against_the_sandbox"),
    "bearerAuth: rotation under a lock": ("test_oauth", "test_two_programs__make_one_token"),
    "s2sAuthToken: an app's own token": ("test_s2s", "test_app__works_against_the_sandbox_and_reads_no_stages"),
    "scopes": ("test_sandbox_server_signin", "test_scope__allows_its_own_verb_on_its_own_resource"),
}
RELATED = {
    "opportunityStages": ("test_service_table", "test_related_resources__have_both_ends"),
    "users": ("test_service_table", "test_related_resources__have_both_ends"),
    "accounts": ("test_service_table", "test_related_resources__have_both_ends"),
    "prospects": ("test_service_table", "test_related_resources__have_both_ends"),
    "opportunityProspectRoles": ("test_sandbox_server_main", "test_prospect_roles__link_people_to_deals"),
    "roles": ("test_service_table", "test_related_resources__have_both_ends"),
    "teams": ("test_service_table", "test_related_resources__have_both_ends"),
    "territories": ("test_service_table", "test_related_resources__have_both_ends"),
    **dict.fromkeys(("calls", "mailings", "tasks", "events"), ("test_activity", "test_activity__has_both_ends")),
    "webhooks": ("test_webhooks", "test_webhook__is_created_listed_changed_and_deleted"),
}
_LIMITS, _SIGN_IN, _EDITS = "test_sandbox_server_limits", "test_sandbox_server_signin", "test_sandbox_server_edits"
SWITCHES = {
    "require_content_type_on_get": (_EDITS, "test_read__needs_the_media_type_only_when_switched_on"),
    "refuse_doubled_parameters": (_LIMITS, "test_doubled_parameters__can_be_refused"),
    "read_only_members": (_EDITS, "test_read_only_members__are_ignored_or_refused_by_a_switch"),
    "check_probability_range": (_EDITS, "test_probability__may_leave_its_range_when_switched_on"),
    "check_custom_fields": (_EDITS, "test_custom_fields__are_held_to_their_kinds_only_when_switched_on"),
    "require_on_create": ("test_write_back", "test_rejected__one_bad_row_stops_nothing"),
    "generation": (_LIMITS, "test_generation_of_the_reference_page__has_its_169_attributes"),
    "ids_as_text": (_LIMITS, "test_ids__may_be_text"),
    "list_trashed": (_LIMITS, "test_trashed_rows__can_be_left_out"),
    "count_by_default": (_LIMITS, "test_older_apps__are_counted_for_without_asking"),
    "count_truncated": (_LIMITS, "test_count__may_be_truncated"),
    "latency_s": (_LIMITS, "test_latency__is_waited_before_the_answer"),
    "index_lag_s": (_LIMITS, "test_index__lags_behind_the_data"),
    "rate_limit": (_LIMITS, "test_rate_limit__used_up_is_429_until_the_period_ends"),
    "rate_period_s": (_LIMITS, "test_period__is_as_long_as_the_switch_says"),
    "two_number_rate_header": (_LIMITS, "test_remaining__may_be_two_numbers"),
    "reset_format": (_LIMITS, "test_reset__is_worded_as_the_switch_says"),
    "maintenance_until": (_LIMITS, "test_maintenance__is_503_with_an_iso_retry_after"),
    "bad_gateway_above": (_LIMITS, "test_pages_that_are_too_heavy__are_502"),
    "token_life_s": (_SIGN_IN, "test_lives__of_tokens_are_switches"),
    "refresh_life_s": (_SIGN_IN, "test_lives__of_tokens_are_switches"),
    "mint_interval_s": (_SIGN_IN, "test_minting__is_throttled_by_a_switch"),
    "keep_old_refresh_tokens": (_SIGN_IN, "test_refresh__rotates_and_kills_the_old_one_when_switched_on"),
    "ignore_upper_bounds": (_LIMITS, "test_upper_bounds__may_be_ignored"),
    "idle_timeout_s": (_LIMITS, "test_silent_connections__are_cut_and_give_their_threads_back"),
    "ignore_parameters": ("test_activity", "test_service__that_ignores_the_filter_by_deal"),
    "deliver_webhooks": ("test_webhooks", "test_delivery__waits_and_rests_as_switches_say"),
    "webhook_retry_s": ("test_webhooks", "test_delivery__waits_and_rests_as_switches_say"),
    "before_request": (_LIMITS, "test_before_request__lets_a_test_act_in_between"),
    "faults": (_LIMITS, "test_fault__hits_the_requests_it_names_and_no_others"),
}
BEYOND = {
    "webhooks: events, signed, in both versions": ("test_webhooks", "test_events__say_what_changed_and_are_signed"),
    "webhooks: four attempts": ("test_webhooks", "test_delivery__is_tried_four_times_where_nobody_answers"),
    "a webhook log as history": ("test_webhooks", "test_log__equals_nightly_snapshots"),
    "a webhook log with gaps": ("test_webhooks", "test_log__with_any_one_event_missing_says_so"),
    "data sharing: OPPORTUNITIES": ("test_data_sharing", "test_deals__stand_as_the_export_says"),
    "data sharing: TEAM_MEMBERSHIPS_HISTORY": (
        "test_data_sharing",
        "test_team_memberships__give_every_state_its_teams",
    ),
    "data sharing: forecast calls": (
        "test_forecast_calls",
        "test_calls__stand_beside_our_versions_and_are_scored_like_them",
    ),
    "the sandbox's switches, from the command line": ("test_cli", "test_sandbox__takes_every_switch"),
    "the sandbox's OAuth client, refresh tokens and app": (
        "test_cli",
        "test_sandbox__prints_what_programs_need_and_serves_until_stopped",
    ),
    "JSON:API 1.0: 406 and 415": ("test_sandbox_server_edits", "test_negotiation__is_that_of_json_api"),
    "the organisation, dated in a history": (
        "test_organisation",
        "test_reorganisation__is_rolled_up_by_the_tree_of_each_day",
    ),
    "any resource (/schema.json, /types)": (
        "test_any_resource",
        "test_frame__holds_what_every_record_holds",
    ),
    "where by team and role": ("test_organisation", "test_where__by_team_and_role_asks_for_the_deals_of_their_people"),
    "walks that survive change": ("test_refreshing", "test_load__reads_again_what_changed_meanwhile"),
    "refresh": ("test_refreshing", "test_refresh__is_the_three_way_merge"),
    "deletions": ("test_refreshing", "test_reconcile__finds_deleted_and_new_deals"),
    "stopped loads": ("test_checkpoint", "test_killed_process__is_gone_on_with"),
    "filter[opportunity][id] of calls, mailings, tasks, events": (
        "test_activity",
        "test_activity_resource__is_filtered_sorted_and_paged",
    ),
    "a service that ignores it": ("test_activity", "test_service__that_ignores_the_filter_by_deal"),
    "how many requests activity takes": ("test_activity", "test_requests__stay_within_the_budget"),
    "what the service cannot filter": ("test_where", "test_where__tests_at_the_service_what_it_can"),
    "programs of others: tap-outreach": (
        "test_sandbox_server_readers",
        "test_tap_outreach__reads_every_row_and_then_what_changed",
    ),
    "programs of others: airbyte-source-outreach": (
        "test_sandbox_server_readers",
        "test_airbyte_source_outreach__reads_every_row_and_then_what_changed",
    ),
    "programs of others: requests-oauthlib": (
        "test_sandbox_server_readers",
        "test_requests_oauthlib__signs_in_refreshes_and_reads",
    ),
    **dict.fromkeys(
        ("programs of others: devour-client (JavaScript)", "programs of others: kitsu (JavaScript)"),
        ("test_sandbox_server_readers", "test_client_for_javascript__creates_updates_and_deletes"),
    ),
    "programs of others: schemathesis": (
        "test_sandbox_server_openapi",
        "test_schemathesis__finds_nothing_in_thousands_of_cases",
    ),
}
TABLE = {
    "operation": OPERATIONS,
    "parameter": PARAMETERS,
    "attributes": GROUPS,
    "relationship": RELATIONSHIPS,
    "metadata": METADATA,
    "status": STATUSES,
    "sign-in": SIGN_INS,
    "related resource": RELATED,
    "switch of the sandbox": SWITCHES,
    "beyond the page": BEYOND,
}


def service_table() -> str:
    """Return the table as Markdown: what the reference page names, and the test that proves it."""
    lines = ["| | of the reference page | proved by |", "|---|---|---|"]
    for kind, rows in TABLE.items():
        for number, (name, (module, test)) in enumerate(rows.items()):
            lines.append(f"| {kind if not number else ''} | `{name}` | `{module}.py::{test}` |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(service_table(), end="")  # noqa: T201  # python tests/test_service_table.py writes the table of docs/service.md


# --- the table itself ----------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "module", "test"),
    [(kind, name, *proof) for kind, rows in TABLE.items() for name, proof in rows.items()],
)
def test_table__names_tests_that_exist(kind: str, name: str, module: str, test: str) -> None:
    """A proof that is renamed or dropped is missed here."""
    tree = ast.parse((TESTS / f"{module}.py").read_text(encoding="utf-8"))
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (kind, name)


def test_documentation__shows_the_table() -> None:
    """The page about the service is this table, to the letter."""
    assert service_table() in (TESTS.parent / "docs" / "service.md").read_text(encoding="utf-8")


def test_table__has_a_row_for_everything() -> None:
    """Every relationship, metadata entry and related resource of the resource table, every switch has its row."""
    assert set(RELATIONSHIPS) == set(OPPORTUNITY.relationship_by_name)
    assert set(METADATA) == {"canWrite", "canDelete", "dataConnections"}
    assert set(RELATED) == {resource.path for resource in RESOURCES.values() if resource is not OPPORTUNITY}
    assert set(SWITCHES) == set(switch_types())
    assert len(OPERATIONS) == 5
    assert service_table().count("\n") == 2 + sum(map(len, TABLE.values()))


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "module", "test"),
    [(name, *proof) for rows in (RELATED, SWITCHES) for name, proof in rows.items()],
)
def test_sandbox__without_it_the_proof_fails(name: str, module: str, test: str) -> None:
    """Where the sandbox does not serve the resource, or takes no notice of the switch, the test of its row fails."""
    command = [sys.executable, "-m", "pytest", "-p", "without", "-p", "no:cacheprovider", "-q", "-n0"]
    where = {
        "cwd": TESTS.parent,
        "env": {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}", "WITHOUT": name},
    }
    done = subprocess.run(
        [*command, f"{TESTS / module}.py::{test}"], capture_output=True, text=True, check=False, **where
    )
    assert done.returncode == 1, done.stdout[-2_000:] + done.stderr[-2_000:]


def test_resource_table__has_what_the_page_names() -> None:
    """169 documented attributes, seven relationships, three metadata entries."""
    assert sum(entry.documented for entry in OPPORTUNITY.attributes) == 169
    assert sum(entry.documented for entry in OPPORTUNITY.relationships) == 7
    assert {entry.parameter for entry in OPPORTUNITY.metadata} == {"provideAuthorizationMeta", "provideDataConnections"}


# --- both ends of every row ------------------------------------------------------

VALUES: dict[str, tuple[Any, Any]] = {
    "integer": (7, 7),
    "text": ("Text ✓", "Text ✓"),
    "instant": ("2026-12-10T22:00:00.000Z", pd.Timestamp("2026-12-10T22:00:00Z")),
    "tags": (["a", "b, c"], ["a", "b, c"]),
    "boolean": (True, True),
}


def wire_of(entry: Attribute) -> tuple[Any, Any]:
    """A value of an attribute as sent and as decoded."""
    return ("5000.50", "5000.50") if entry.name == "amountPrecise" else VALUES[entry.kind]


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    """A sandbox for all rows of the table."""
    with opp.sandbox(opportunities=12, now=NOW, generation="current") as made:
        yield made


@pytest.fixture(scope="module")
def client(box: Sandbox) -> Iterator[Client]:
    with box.client() as made:
        yield made


@pytest.fixture(scope="module")
def written(client: Client) -> dict[str, Any]:
    """One deal with a value in every attribute that can be written, sent by one PATCH, as served afterwards."""
    key = client.create({"name": "Every attribute"}).data["id"]
    attributes = {entry.name: wire_of(entry)[0] for entry in OPPORTUNITY.attributes if not entry.read_only}
    # The whole amount follows the exact one.
    del attributes["amount"]
    to_one = [e.name for e in OPPORTUNITY.relationships if not e.to_many and not e.read_only]
    client.update(key, attributes, dict.fromkeys(to_one, 1))
    answer: dict[str, Any] = client.get(key).data
    return answer


@pytest.fixture(scope="module")
def decoded(client: Client, written: dict[str, Any]) -> pd.Series:
    """The same deal as the client loads it."""
    df = opp.read_opportunities(
        client,
        filter={"id": written["id"]},
        stages=STAGES,
        include=INCLUDABLE,
        authorization_meta=True,
        data_connections=True,
    )
    return df.iloc[0]


@pytest.mark.parametrize("entry", OPPORTUNITY.attributes, ids=lambda entry: entry.name)
def test_attribute__has_both_ends(
    entry: Attribute, client: Client, box: Sandbox, written: dict[str, Any], decoded: pd.Series
) -> None:
    """Served by the sandbox, decoded by the client, written by PATCH where it can be, filtered and sorted as stated."""
    assert entry.name in written["attributes"], "the sandbox does not serve it"
    sent, read = wire_of(entry)
    if not entry.read_only:
        expected = 5001 if entry.name == "amount" else sent
        assert written["attributes"][entry.name] == expected, "PATCH did not write it"
        assert decoded[entry.column] == (5001 if entry.name == "amount" else read), "the client does not decode it"
    else:
        with pytest.raises(errors.ConfigurationError, match=r"read-only|kept by|cannot be written"):
            client.update(written["id"], {entry.name: sent})
        served = written["attributes"][entry.name]
        assert (served is None) == bool(pd.isna(decoded[entry.column]))
        if served is not None:
            assert decoded[entry.column] == pd.Timestamp(served)
    check_filter(client, OPPORTUNITY, entry, written["attributes"][entry.name])
    check_sort(client, OPPORTUNITY, entry)


def check_filter(client: Client, resource: Resource, entry: Attribute, value: Any) -> None:
    """Both ends filter by an attribute, or both refuse."""
    if entry.filterable:
        asked = opp.NOT_NULL if value is None else value
        found = [
            row["id"] for page in client.iter_pages(resource=resource, filter={entry.name: asked}) for row in rows(page)
        ]
        assert found or value is None
        return
    with pytest.raises(errors.ConfigurationError):
        client.iter_pages(resource=resource, filter={entry.name: "x"})
    with pytest.raises(errors.EditRejectedError):
        list(client.iter_pages(start=f"{client.url}/{resource.path}?filter%5B{entry.name}%5D=x"))


def check_sort(client: Client, resource: Resource, entry: Attribute) -> None:
    """Both ends sort by an attribute, or both refuse."""
    if entry.sortable:
        down, up = (
            [
                row["id"]
                for page in client.iter_pages(resource=resource, sort=f"{sign}{entry.name}")
                for row in rows(page)
            ]
            for sign in ("-", "")
        )
        assert sorted(down) == sorted(up)
        return
    with pytest.raises(errors.ConfigurationError):
        client.iter_pages(resource=resource, sort=entry.name)
    with pytest.raises(errors.EditRejectedError):
        list(client.iter_pages(start=f"{client.url}/{resource.path}?sort={entry.name}"))


def rows(page: Any) -> list[dict[str, Any]]:
    return list(page.document["data"])


@pytest.mark.parametrize("entry", OPPORTUNITY.relationships, ids=lambda entry: entry.name)
def test_relationship__has_both_ends(entry: Any, client: Client, written: dict[str, Any], decoded: pd.Series) -> None:
    """Served, decoded, written where it can be, included where it is one, filtered by the keys of the table alone."""
    served = written["relationships"][entry.name]
    if entry.to_many:
        assert set(served) <= ({"data"} if entry.way_back is None else {"links"})
    elif entry.lookup:
        assert decoded[entry.column] == served["data"]["id"]
        assert decoded[f"{entry.column.removesuffix('_id')}_name"]
        included = client.get(written["id"], include=[entry.name]).document["included"]  # type: ignore[index]
        assert {record["type"] for record in included} == {entry.type}
    if entry.read_only or entry.to_many:
        with pytest.raises(errors.ConfigurationError):
            client.update(written["id"], None, {entry.name: 1})
    else:
        assert client.update(written["id"], None, {entry.name: None}).data["relationships"][entry.name]["data"] is None
        again = client.update(written["id"], None, {entry.name: served["data"]["id"]})
        assert again.data["relationships"][entry.name] == served
    filters = "stage" if entry.name == "opportunityStage" else entry.name
    keys = OPPORTUNITY.relationship_by_name[filters].filter_keys
    for key in ("id", "name"):
        if key in keys:
            list(client.iter_pages(filter={f"{filters}.{key}": 1 if key == "id" else "Nobody"}))
        else:
            with pytest.raises(errors.ConfigurationError):
                client.iter_pages(filter={f"{filters}.{key}": 1 if key == "id" else "Nobody"})
            with pytest.raises(errors.EditRejectedError):
                list(client.iter_pages(start=f"{client.url}/opportunities?filter%5B{filters}%5D%5B{key}%5D=1"))


@pytest.mark.parametrize("entry", OPPORTUNITY.metadata, ids=lambda entry: entry.name)
def test_metadata__has_both_ends(entry: Any, client: Client, written: dict[str, Any], decoded: pd.Series) -> None:
    """Sent only when its parameter asks for it, and decoded."""
    authorization = entry.parameter == "provideAuthorizationMeta"
    asked = client.get(written["id"], authorization_meta=authorization, data_connections=not authorization)
    assert entry.name in asked.data["meta"]
    assert entry.name not in client.get(written["id"]).data.get("meta", {})
    value = decoded[entry.column]
    assert (value if entry.dtype == "boolean" else list(value)) == asked.data["meta"][entry.name]


@pytest.mark.parametrize("resource", list(RESOURCES.values())[1:], ids=lambda entry: entry.path)
def test_related_resources__have_both_ends(resource: Resource, client: Client) -> None:
    """Every attribute and relationship of the other resources is served, filtered and sorted as the table states."""
    if resource is WEBHOOK:
        hook = {"url": "http://127.0.0.1:9/", "resource": "*", "action": "*", "active": False}
        client.create(hook, resource=WEBHOOK)
    record = next(rows(page)[0] for page in client.iter_pages(resource=resource))
    assert set(record["attributes"]) == set(resource.by_name)
    assert set(record["relationships"]) == set(resource.relationship_by_name)
    for entry in resource.attributes:
        check_filter(client, resource, entry, record["attributes"][entry.name])
        check_sort(client, resource, entry)
    assert client.get(record["id"], resource=resource).data["id"] == record["id"]
