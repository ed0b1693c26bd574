"""Webhooks from end to end: the sandbox posts what changes, a receiver logs it, a history takes the log."""

from __future__ import annotations

import hashlib
import hmac
import http.server
import json
import random
import shutil
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from conftest import STAGES
from opp_pandas import errors
from opp_pandas.history.importers import webhook_events
from opp_pandas.resource import PROSPECT_ROLE, WEBHOOK
from opp_pandas.sandbox_handle import sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opp_pandas.sandbox_handle import Sandbox

NOW = "2026-09-01T08:00:00Z"


class Receiver(http.server.ThreadingHTTPServer):
    """Logs what is posted to it, and answers as it is told: a status, or no answer at all (0)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.posts: list[tuple[bytes, Any]] = []
        self.answers: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_port}/log?from=sandbox"

    @property
    def log(self) -> list[Any]:
        """The bodies, read."""
        return [json.loads(body) for body, _ in self.posts]


class _Post(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.answers.pop(0) if self.server.answers else 200
        if status == 0:
            self.close_connection = True
            return
        self.server.posts.append((body, self.headers))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
        pass


@contextmanager
def receiving() -> Iterator[Receiver]:
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield receiver
        receiver.shutdown()
        thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with sandbox(opportunities=40, seed=5, now=NOW, webhook_retry_s=0) as started:
        yield started


def subscribe(box: Sandbox, receiver: Receiver, **more: Any) -> int:
    hook = {"url": receiver.url, "resource": "opportunity", "action": "*", "payloadVersion": 2, **more}
    return int(box.client().create(hook, resource=WEBHOOK).data["id"])


# --- the sandbox ---------------------------------------------------------------


def test_webhook__is_created_listed_changed_and_deleted(box: Sandbox, receiver: Receiver) -> None:
    """Like any resource; afterwards nothing is posted any more."""
    client = box.client()
    key = subscribe(box, receiver)
    assert client.get(key, resource=WEBHOOK).data["attributes"]["active"] is True
    client.update(1, {"name": "told"})
    client.update(key, {"active": False}, resource=WEBHOOK)
    client.update(1, {"name": "not told"})
    (page,) = client.iter_pages(resource=WEBHOOK)
    assert [row["id"] for row in page.document["data"]] == [key]
    client.update(key, {"active": True}, resource=WEBHOOK)
    client.delete(key, resource=WEBHOOK)
    client.update(1, {"name": "not told either"})
    assert box.wait_for_webhooks()
    assert [body["data"]["attributes"]["name"] for body in receiver.log] == ["told"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "https://example.com/log"}, {"url": "http://10.0.0.1/"}, {"url": "http://127.0.0.1@example.com/"},
        {"url": "http://127.0.0.1:0/"}, {"url": "http://127.0.0.1:99999/"}, {"url": None}, {"resource": "deal"},
        {"action": "moved"}, {"payloadVersion": 3},
    ],
)  # fmt: skip
def test_webhook__that_leads_elsewhere_or_means_nothing_is_refused(
    box: Sandbox, receiver: Receiver, wrong: dict[str, Any]
) -> None:
    """422 with the attribute: the sandbox calls nobody outside this machine."""
    with pytest.raises(errors.EditRejectedError, match=f"/data/attributes/{next(iter(wrong))}"):
        subscribe(box, receiver, **wrong)


def test_events__say_what_changed_and_are_signed(box: Sandbox, receiver: Receiver) -> None:
    """The signature is the HMAC of the body; version 2 says what was before; only what was asked for is told."""
    client = box.client()
    subscribe(box, receiver, secret="hush")  # the sandbox's own
    created = int(client.create({"name": "New", "amount": 5}, {"account": 2}).data["id"])
    client.update(created, {"amount": 9}, {"account": None})
    client.update(created, {"amount": 9})
    client.create({"primary": True}, {"opportunity": created, "prospect": 1}, resource=PROSPECT_ROLE)
    client.delete(created)
    assert box.wait_for_webhooks()
    for body, headers in receiver.posts:
        assert headers["Outreach-Webhook-Signature"] == hmac.new(b"hush", body, hashlib.sha256).hexdigest()
    made, changed, gone = receiver.log
    assert [one["meta"]["eventName"].split(".")[1] for one in (made, changed, gone)] == [
        "created",
        "updated",
        "destroyed",
    ]
    assert (made["data"]["attributes"]["amount"], "beforeUpdate" in made) == (5, False)
    assert changed["data"]["attributes"] == changed["data"]["attributes"] | {"amount": 9, "amountPrecise": "9.00"}
    assert "name" not in changed["data"]["attributes"]
    assert changed["data"]["relationships"]["account"] == {"data": None}
    assert changed["beforeUpdate"]["attributes"]["amount"] == 5
    assert changed["beforeUpdate"]["relationships"]["account"]["data"] == {"type": "account", "id": 2}
    assert (gone["data"]["attributes"]["name"], "beforeUpdate" in gone) == ("New", False)


def test_events__are_of_the_generation_that_is_served(box: Sandbox, receiver: Receiver) -> None:
    """What the older service does not have stands in no event either."""
    box.switches.generation = "reference"
    subscribe(box, receiver)
    box.client().update(1, {"amount": 7})
    assert box.wait_for_webhooks()
    assert set(receiver.log[0]["data"]["attributes"]) == {"amount", "updatedAt"}


def test_events__go_to_those_who_asked(box: Sandbox, receiver: Receiver) -> None:
    """By resource and action, each in its own version; nobody is told of webhooks."""
    client = box.client()
    subscribe(box, receiver, action="destroyed")
    subscribe(box, receiver, payloadVersion=1, action="updated")
    subscribe(box, receiver, resource="*")
    client.update(1, {"name": "a"})
    client.create({"primary": True}, {"opportunity": 1, "prospect": 1}, resource=PROSPECT_ROLE)
    client.delete(1)
    assert box.wait_for_webhooks()
    told = Counter((one["meta"]["eventName"], "beforeUpdate" in one) for one in receiver.log)
    assert told == {
        ("opportunity.updated", False): 1, ("opportunity.updated", True): 1, ("opportunity.destroyed", False): 2,
        ("opportunityProspectRole.created", False): 1,
    }  # fmt: skip


def test_delivery__is_tried_four_times_where_nobody_answers(box: Sandbox, receiver: Receiver) -> None:
    """Any status is a receipt, a 500 too; a receiver that never answers loses the event."""
    subscribe(box, receiver)
    receiver.answers = [0, 0, 500, 0, 0, 0, 0]
    for name in ("late", "lost", "at once"):
        box.client().update(1, {"name": name})
        assert box.wait_for_webhooks()
    assert [(one.attempts, one.status) for one in box.deliveries] == [(3, 500), (4, 0), (1, 200)]
    assert [one["data"]["attributes"]["name"] for one in receiver.log] == ["late", "at once"]


def test_delivery__waits_and_rests_as_switches_say(box: Sandbox, receiver: Receiver) -> None:
    """The next attempt comes after the time that is set; nobody is told while delivery is off."""
    subscribe(box, receiver)
    box.switches.deliver_webhooks = False
    box.client().update(1, {"name": "not told"})
    assert box.wait_for_webhooks()
    assert not box.deliveries
    box.switches.deliver_webhooks, box.switches.webhook_retry_s = True, 3_600
    receiver.answers = [0]
    box.client().update(1, {"name": "late"})
    assert not box.wait_for_webhooks(timeout_s=1.5)
    assert not receiver.log


# --- into a history ------------------------------------------------------------


Life = tuple[opp.History, opp.History, list[Any], list[Any]]


def lived(folder: Path, deals: int, nights: int, edits: int) -> Life:
    """Let a sandbox live with a webhook; give nightly snapshots, a history with the first one, the log, the nights."""
    chance = random.Random(4)
    nightly, told = opp.History(folder / "nightly"), opp.History(folder / "told")
    moments = []
    with receiving() as receiver, sandbox(opportunities=deals, seed=8, now=NOW) as box:
        client = box.client()
        told.record(first := opp.read_opportunities(client, stages=STAGES))
        nightly.record(first)
        subscribe(box, receiver)
        for night in range(nights):
            box.advance(0.5)
            ids = nightly.as_of(columns=["id"])["id"].tolist()
            for key in chance.sample(ids, edits):
                # Some deals may not be edited.
                with suppress(errors.AccessDeniedError):
                    client.update(key, {"amount": chance.randrange(10**6), "tags": [str(night)], "nextStep": None})
                    client.update(key, {"probability": chance.randrange(101)}, {"owner": chance.choice([None, 1, 2])})
            with suppress(errors.AccessDeniedError):
                client.delete(chance.choice(ids))
            client.create({"name": f"Made in night {night}", "customId": f"made-{night}"}, {"opportunityStage": 1})
            box.advance(0.5)
            moments.append(nightly.record(opp.read_opportunities(client, stages=STAGES)).observed_at)
        assert box.wait_for_webhooks(300)
    return nightly, told, receiver.log, moments


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    """A short life: nightly snapshots, a history with the first one, the log of what came after it, the nights."""
    return lived(tmp_path_factory.mktemp("life"), 40, 3, 5)


def assert_log_is_right(life: Life, folder: Path) -> None:
    """What the log tells is what was seen, every night: shuffled and doubled too, which is said."""
    nightly, first, log, moments = life
    told = opp.History(shutil.copytree(first.location, folder / "copy"))
    doubled = [*log, *log[::7]]
    random.Random(1).shuffle(doubled)
    found = webhook_events(doubled, history=told)
    assert len(found.gaps) == 0
    reasons = Counter(found.report["reason"].str.partition(":")[0])
    assert reasons["left out"] == len(log[::7])
    assert reasons["put in order"] > 0
    told.import_events(found)
    for left, right in zip(nightly.states(moments), told.states(moments), strict=True):
        pd.testing.assert_frame_equal(left, right[list(left.columns)])
    assert told.caveats() == ()
    size = len(told.versions())
    told.import_events(webhook_events(log, history=told))
    assert told.versions()["rows"].iloc[size:].sum() == 0


def test_log__equals_nightly_snapshots(life: Life, tmp_path: Path) -> None:
    """Every deal, every column, every night."""
    assert_log_is_right(life, tmp_path)


@pytest.mark.nightly
def test_log_of_ten_thousand_events__equals_nightly_snapshots(tmp_path: Path) -> None:
    """The same over ninety nights of an organisation of 2,500 deals."""
    life = lived(tmp_path, 2_500, 90, 42)
    assert len(life[2]) >= 10_000
    assert_log_is_right(life, tmp_path)


def test_log__with_any_one_event_missing_says_so(life: Life) -> None:
    """Whichever event is lost, the next one of the deal tells; of a deal's last event nothing in the log can."""
    _, told, log, _ = life
    ids = [one["data"]["id"] for one in log]
    for lost, key in enumerate(ids):
        found = webhook_events([*log[:lost], *log[lost + 1 :]], history=told)
        assert set(found.gaps["id"]) == ({key} if key in ids[lost + 1 :] else set()), log[lost]


def test_log__with_a_gap_is_told_by_every_state_that_it_concerns(life: Life, tmp_path: Path) -> None:
    """In the states' caveats and in a table, until a whole load makes up for it; nothing is made up by the import."""
    nightly, told, log, _ = life
    history = opp.History(shutil.copytree(told.location, tmp_path / "copy"))
    # The first of the two edits of a deal: the second one does not name what it changed.
    lost = next(place for place, one in enumerate(log) if "tags" in one.get("beforeUpdate", {}).get("attributes", {}))
    key = log[lost]["data"]["id"]
    history.import_events(found := webhook_events([*log[:lost], *log[lost + 1 :]], history=told))
    assert found.report["reason"].str.contains("is missing").all()
    assert set(history.gaps()["id"]) == {key}
    assert history.gaps()["known_again"].isna().tolist() == history.gaps()["field"].isna().tolist()
    assert f"1 deals (id {key})" in history.caveats()[0]
    state = history.as_of()
    assert state.opp.load_report.caveats == history.caveats()
    assert state.loc[state["id"] == key, "tags"].tolist() != [["0"]]
    assert history.as_of(told.snapshots()["observed_at"].iloc[0]).opp.load_report.caveats == ()
    history.record(nightly.as_of(), complete=True, observed_at="2026-09-10")
    assert history.as_of().opp.load_report.caveats == ()
    assert history.as_of().loc[lambda frame: frame["id"] == key, "tags"].tolist() == [["0"]]
    assert history.caveats() != ()


def test_log__without_a_snapshot_knows_only_what_it_tells() -> None:
    """Deals whose creation is not in the log are known from their first event on, and that is said."""
    body = {"data": {"type": "opportunity", "id": 7, "attributes": {"amount": 900}}, "beforeUpdate": {}}
    meta = {"eventName": "opportunity.updated", "deliveredAt": "2026-09-01T10:00:00Z"}
    found = webhook_events([{**body, "meta": meta}])
    assert found.report["reason"].tolist() == ["kept: its creation is missing"]
    assert found.gaps[["id", "before"]].to_dict("records") == [{"id": 7, "before": pd.Timestamp(meta["deliveredAt"])}]


def test_log__of_a_file_has_a_body_per_line(life: Life, tmp_path: Path) -> None:
    """What cannot be read is reported by its line."""
    _, told, log, _ = life
    file = tmp_path / "log.jsonl"
    file.write_text("\n".join([*map(json.dumps, log), "{oops", ""]), encoding="utf-8")
    found = webhook_events(file, history=told)
    assert found.events.equals(webhook_events(log, history=told).events)
    assert found.report[["row", "reason"]].values.tolist() == [[len(log), "set aside: no data or no meta"]]
    with pytest.raises(errors.ConfigurationError, match="cannot be read"):
        webhook_events(tmp_path / "none.jsonl")


def test_log__in_one_second_is_put_in_order_by_what_was_before() -> None:
    """Time stamps of whole seconds tie; what each event says of before tells which came first."""
    meta = {"eventName": "opportunity.updated", "deliveredAt": "2026-09-01T10:00:00.000Z"}
    chain = [
        {"data": {"type": "opportunity", "id": 7, "attributes": {"amount": new}}, "meta": meta,
         "beforeUpdate": {"attributes": {"amount": old}}}
        for old, new in ((1, 2), (2, 3), (3, 4))
    ]  # fmt: skip
    created = {"eventName": "opportunity.created", "deliveredAt": "2026-09-01T09:00:00.000Z"}
    first = {"data": {"type": "opportunity", "id": 7, "attributes": {"amount": 1}}, "meta": created}
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        found = webhook_events([*(chain[place] for place in order), first])
        assert found.events["value"].tolist() == [1, 2, 3, 4]
        assert len(found.gaps) == 0
