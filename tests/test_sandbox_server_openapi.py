"""The published description, and schemathesis sending what it allows and forbids."""

from __future__ import annotations

import copy
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings

from opp_pandas.resource import OPPORTUNITY, RESOURCES
from opp_pandas.sandbox_handle import Sandbox, sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    """A sandbox that answers as many requests as are sent."""
    with sandbox(opportunities=30, seed=2, rate_limit=10_000_000, deliver_webhooks=False) as running:
        yield running


@pytest.fixture(scope="module")
def description(box: Sandbox) -> dict[str, Any]:
    """The OpenAPI document as published, without a token."""
    return requests.get(f"{box.url}/openapi.json", timeout=60).json()


def test_description__names_every_attribute_relationship_and_filter(description: dict[str, Any]) -> None:
    """Each row of the resource table stands in the description, with its flags."""
    served = description["components"]["schemas"]["Opportunity"]["properties"]
    written = description["components"]["schemas"]["OpportunityCreate"]["properties"]["data"]["properties"]
    parameters = {entry["name"]: entry for entry in description["paths"]["/opportunities"]["get"]["parameters"]}
    for entry in OPPORTUNITY.attributes:
        assert entry.name in served["attributes"]["properties"]
        assert (entry.name in written["attributes"]["properties"]) is not entry.read_only
        assert (f"filter[{entry.name}]" in parameters) is entry.filterable
        assert (f"-{entry.name}" in parameters["sort"]["schema"]["items"]["enum"]) is entry.sortable
    for entry in OPPORTUNITY.relationships:
        assert entry.name in served["relationships"]["properties"]
    assert description["servers"] == [{"url": description["servers"][0]["url"]}]
    assert set(description["paths"]) >= {f"/{resource.path}" for resource in RESOURCES.values()}


def _with_ids_that_exist(description: dict[str, Any]) -> dict[str, Any]:
    """Keep the ids in addresses small: otherwise nearly every case would end as 404."""
    made = copy.deepcopy(description)
    for path in made["paths"].values():
        for parameter in path.get("parameters", []):
            parameter["schema"] = {"type": "integer", "minimum": 1, "maximum": 8}
    return made


def _try_all(description: dict[str, Any], box: Sandbox, examples: int) -> Counter[int]:
    """Send `examples` allowed and as many forbidden cases to each operation; count the statuses."""
    # Imported here, for it takes seconds, and the rest of the suite need not wait.
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

    checks = [not_a_server_error, status_code_conformance, response_schema_conformance]
    schema = schemathesis.openapi.from_dict(_with_ids_that_exist(description))
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {box.token}"
    statuses: Counter[int] = Counter()
    for found in schema.get_all_operations():
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            strategy = found.ok().as_strategy(generation_mode=mode)

            @settings(
                max_examples=examples,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=strategy)
            def run(case: Any) -> None:
                answer = case.call_and_validate(base_url=box.url, session=session, checks=checks, timeout=60)
                statuses[answer.status_code] += 1

            run()
    session.close()
    return statuses


def test_schemathesis__finds_nothing_in_a_few_cases(description: dict[str, Any], box: Sandbox) -> None:
    """What the description allows and what it forbids is answered as described."""
    statuses = _try_all(description, box, 4)
    assert statuses.total() >= 150
    assert statuses[200] > 20
    assert statuses[422] > 20


def _point_at_records(case: Any) -> None:
    """Let a write name records that exist, which no schema can say."""
    if isinstance(case.body, dict) and isinstance(data := case.body.get("data"), dict):
        attributes = data.get("attributes", {})
        # The generator writes some whole numbers as 1.0, as no client does.
        whole = {name: int(value) for name, value in attributes.items() if isinstance(value, float)}
        attributes.update(whole)
        if "id" in data:
            data["id"] = case.path_parameters["id"]
        for link in data.get("relationships", {}).values():
            for identifier in link["data"] if isinstance(link["data"], list) else filter(None, [link["data"]]):
                identifier["id"] = 1


def _refused_though_valid(description: dict[str, Any], box: Sandbox, examples: int) -> Counter[tuple[str, str]]:
    """Send valid data to each operation but deletions; count what is refused nevertheless."""
    import schemathesis
    from schemathesis import GenerationMode

    refused: Counter[tuple[str, str]] = Counter()
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {box.token}"
        for found in schemathesis.openapi.from_dict(_with_ids_that_exist(description)).get_all_operations():
            operation = found.ok()
            if operation.method.upper() == "DELETE":
                continue

            @settings(
                max_examples=examples,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
            def run(case: Any) -> None:
                _point_at_records(case)
                answer = case.call(base_url=box.url, session=session, timeout=60)
                # Some records may not be edited by this user, and some ids are none.
                if not 200 <= answer.status_code < 300 and answer.status_code not in (403, 404):
                    refused[case.operation.label, answer.text[:200]] += 1

            run()
    return refused


@pytest.mark.parametrize("examples", [6, pytest.param(100, marks=pytest.mark.nightly)])
def test_valid_data__is_accepted(description: dict[str, Any], examples: int) -> None:
    """Whatever the description allows is taken: names that are required, limits, kinds of filters, pages."""
    with sandbox(opportunities=30, seed=2, rate_limit=10_000_000, deliver_webhooks=False) as fresh:
        assert _refused_though_valid(description, fresh, examples) == Counter()


def test_description__names_both_ways_to_a_token(description: dict[str, Any]) -> None:
    """A user's token or an app's; either will do."""
    assert description["security"] == [{"bearerAuth": []}, {"s2sAuthToken": []}]
    assert set(description["components"]["securitySchemes"]) == {"bearerAuth", "s2sAuthToken"}


def test_description__fits_every_address_that_a_webhook_was_given(description: dict[str, Any], box: Sandbox) -> None:
    """What is served may be any address that was taken, not only those that the description proposes."""
    url = "http://127.0.0.1:449/any/path*"
    sent = {"data": {"type": "webhook", "attributes": {"url": url, "resource": "opportunity", "action": "created"}}}
    headers = {"Authorization": f"Bearer {box.token}", "Content-Type": "application/vnd.api+json"}
    made = requests.post(f"{box.url}/webhooks", json=sent, headers=headers, timeout=60)
    assert (made.status_code, made.json()["data"]["attributes"]["url"]) == (201, url)
    served = description["components"]["schemas"]["Webhook"]["properties"]["attributes"]["properties"]["url"]
    assert re.search(served.get("pattern", ""), url)


@pytest.mark.nightly
def test_schemathesis__finds_nothing_in_thousands_of_cases(description: dict[str, Any], box: Sandbox) -> None:
    """The same with 2,000 cases and more."""
    statuses = _try_all(description, box, 80)
    assert statuses.total() >= 2_000
