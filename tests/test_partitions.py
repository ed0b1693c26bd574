"""Ranges of ids read side by side give what one walk gives."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from conftest import STAGES
from opp_pandas import errors
from opp_pandas.api.query import Query
from opp_pandas.api.transport.retry import Clock, sleep_in_slices
from opp_pandas.load.partitions import iter_partitioned
from rawserver import RawServer, reply

if TYPE_CHECKING:
    from opp_pandas.api.client import Client

PAGE = 4


def load(client: Client, **options: Any) -> pd.DataFrame:
    return opp.read_opportunities(client, stages=STAGES, page_size=PAGE, on_invalid="ignore", **options)


@pytest.mark.parametrize("gone", [(), range(1, 15), range(15, 38), range(2, 40), range(1, 41, 2), range(1, 41)])
def test_partitions__give_the_rows_of_one_walk(gone: Any) -> None:
    """Wherever the ids lie: everywhere, in clumps, at the ends, or nowhere."""
    with opp.sandbox(opportunities=0) as box, box.client() as client:
        for number in range(1, 41):
            client.create({"name": f"Deal {number}", "amount": number})
        for key in gone:
            client.delete(key)
        whole = load(client)
        assert len(whole) == 40 - len(gone)
        for partitions in (2, 4):
            frame = load(client, partitions=partitions)
            pd.testing.assert_frame_equal(frame, whole, check_flags=False)
            assert frame.opp.load_report.complete is True


def test_partitions__go_with_filters(client: Client) -> None:
    """What the service selects, and what is selected here, stays selected."""
    asked: dict[str, Any] = {"filter": {"probability": (30, None)}, "where": {"amount": (10_000, None)}}
    whole = load(client, **asked)
    assert 0 < len(whole) < 60
    pd.testing.assert_frame_equal(load(client, **asked, partitions=3), whole, check_flags=False)


def test_partitions__are_under_way_at_once(client: Client, box: Any) -> None:
    """As many requests at once as asked for, and no more."""
    most, under_way, lock = 0, 0, threading.Lock()
    send = client._transport.send

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal most, under_way
        with lock:
            under_way += 1
            most = max(most, under_way)
        try:
            return send(*arguments, **options)
        finally:
            with lock:
                under_way -= 1

    client._transport.send = counted  # type: ignore[method-assign]
    box.switches.latency_s = 0.02
    load(client, partitions=3)
    assert most == 3


def test_partitions__cost_few_requests_more(client: Client) -> None:
    """Two to find the ends, and at most one for each range of four pages."""
    one, several = load(client).opp.load_report, load(client, partitions=4).opp.load_report
    assert several.requests <= one.requests + 2 + -(-one.pages // 4)


def test_partitions__find_what_comes_meanwhile(client: Client) -> None:
    """The last range is open, and read when its turn comes: a deal created during the load is there."""
    pages = iter_partitioned(client, 2, Query(page_size=1))
    found = [record["id"] for record in next(pages).document["data"]]
    created = client.create({"name": "Late"}).data["id"]
    found += [record["id"] for page in pages for record in page.document["data"]]
    assert found == sorted(found)
    assert found[-1] == created


def test_partitions__begin_nothing_more_when_the_reader_stops(client: Client, box: Any) -> None:
    """A walk that is given up leaves no requests behind."""
    pages = iter_partitioned(client, 2, Query(page_size=1))
    next(pages)
    pages.close()  # type: ignore[attr-defined]
    while any(thread.name.startswith("opp-reading") for thread in threading.enumerate()):
        next(thread for thread in threading.enumerate() if thread.name.startswith("opp-reading")).join(10)
    assert len(box.requests) < 40


def test_partitions__wait_for_the_service_no_longer_than_the_reader(client: Client) -> None:
    """A range that waits for the service, as after 429, holds nobody up who has stopped reading."""
    waits, sent = threading.Event(), []

    class Slow:
        page_size = 1

        def walk(self, asked: Query) -> Any:
            start, _ = asked.filter.get("id", (None, None))
            if start is not None:
                waits.set()
                sleep_in_slices(120.0, Clock())
                sent.append(start)
            return client.walk(asked)

    pages = iter_partitioned(Slow(), 2, Query(page_size=1))  # type: ignore[arg-type]
    next(pages)
    assert waits.wait(60)
    pages.close()  # type: ignore[attr-defined]
    assert sent == []


@pytest.mark.parametrize("after", [1, 2, 5, 11, 17])
def test_partitions__bring_an_error_of_any_range(client: Client, box: Any, after: int) -> None:
    """A range that cannot be read is an error, never a shorter frame."""
    box.fail(404, path="/opportunities", after=after)
    with pytest.raises(errors.NotFoundError):
        load(client, partitions=4)


def test_partitions__of_a_service_that_does_not_count(box: Any) -> None:
    """Without a count the ids are cut into as many ranges as keep all workers busy."""
    record = {"type": "opportunity", "id": 1, "attributes": {}}
    with RawServer() as server:
        server.script(*[reply(200, {"data": [record | {"id": key}]}) for key in (1, 100, 1, 30, 60, 100)])
        client = opp.connect(server.url, token="t")
        pages = list(iter_partitioned(client, 1, Query()))
    assert [page.count for page in pages] == [None] * 4


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"partitions": 5}, "1 to 4"),
        ({"partitions": 0}, "1 to 4"),
        ({"partitions": True}, "1 to 4"),
        ({"partitions": 2, "sort": "-amount"}, "without sort"),
        ({"partitions": 2, "limit": 10}, "without limit"),
        ({"partitions": 2, "filter": {"id": [1, 2]}}, r"without filter\['id'\]"),
        ({"partitions": 2, "filter": {"owner": list(range(1, 3_000))}}, "fits into one request"),
    ],
)
def test_partitions__refuse_what_they_cannot_read(client: Client, box: Any, options: dict[str, Any], word: str) -> None:
    """Before any request, with what to leave out."""
    with pytest.raises(errors.ConfigurationError, match=word):
        opp.read_opportunities(client, **options)
    assert not box.requests


def test_partitions__refuse_a_checkpoint(client: Client, tmp_path: Any) -> None:
    """A checkpoint keeps one walk."""
    with pytest.raises(errors.ConfigurationError, match="without checkpoint"):
        load(client, partitions=2, checkpoint=tmp_path / "load.checkpoint")
