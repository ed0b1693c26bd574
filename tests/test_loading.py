"""Loading: names, completeness, odd records, limits and what the report says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from conftest import NOW, STAGES
from opp_pandas import errors
from opp_pandas.resource import COLUMN_DTYPES, OPPORTUNITY
from rawserver import RawServer, opportunity, page, reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

STAGE_PAGE = {
    "data": [
        {"type": "opportunityStage", "id": 6, "attributes": {"name": "Negotiation", "order": 4, "isClosed": False}}
    ]
}


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer() as made:
        yield made


def load(server: RawServer, *answers: Any, **options: Any) -> pd.DataFrame:
    """Load from a server that sends these answers, the stages last."""
    server.script(*(answer if callable(answer) else reply(200, answer) for answer in answers))
    return opp.read_opportunities(opp.connect(server.url, token="t"), **options)


def test_load__gives_every_column_its_dtype(df: pd.DataFrame) -> None:
    """All attributes and relationships are there, typed as the interface says."""
    for column in (*OPPORTUNITY.by_column, *OPPORTUNITY.relationship_by_column, "stage_name", "stage_is_closed"):
        assert str(df[column].dtype) == COLUMN_DTYPES[column], column
    assert list(df.columns[:6]) == ["id", "name", "amount", "currency_type", "probability", "close_date"]
    assert isinstance(df.index, pd.RangeIndex)


def test_names__are_those_of_the_ids(box: Sandbox, client: Client) -> None:
    """Owner, account, creator and stage names stand beside their ids, missing where the id is."""
    df = opp.read_opportunities(client, include=("stage", "owner", "account", "creator", "updater"), stages=STAGES)
    users = {
        entry["id"]: entry["attributes"]["name"]
        for page_ in client.iter_pages(resource=_user())
        for entry in page_.document["data"]
    }
    for place in ("owner", "creator", "updater"):
        expected = [users.get(value) if value is not pd.NA else None for value in df[f"{place}_id"]]
        assert df[f"{place}_name"].astype(object).where(df[f"{place}_name"].notna(), None).tolist() == expected


def _user() -> Any:
    from opp_pandas.resource import USER

    return USER


def test_load__is_complete_and_says_so(df: pd.DataFrame) -> None:
    """Rows are counted against what the service counts."""
    report = df.opp.load_report
    assert (report.complete, report.rows, len(report.failures)) == (True, len(df), 0)
    assert report.requests >= report.pages + 1


def test_as_of__is_the_services_clock(df: pd.DataFrame) -> None:
    """The moment of the load is the service's, not this machine's."""
    from opp_pandas.frame_state import require_loaded

    assert abs(require_loaded(df, "test").as_of - pd.Timestamp(NOW)) < pd.Timedelta(minutes=5)


def test_limit__takes_the_first_rows(client: Client) -> None:
    """A limit cuts, and completeness is then not claimed."""
    df = opp.read_opportunities(client, limit=7, page_size=5, stages=STAGES)
    assert len(df) == 7
    assert df.opp.load_report.complete is None
    assert len(df.opp.changes()) == 0
    assert len(opp.read_opportunities(client, limit=0, stages=STAGES)) == 0


def test_fields__narrow_the_columns_and_lock_the_rest(client: Client) -> None:
    """Stage, owner, account and updated_at always come; a column that was not loaded cannot be edited."""
    df = opp.read_opportunities(client, fields=["name", "amount"], stages=STAGES)
    assert {"id", "name", "amount", "updated_at", "stage_id", "owner_id", "stage_name"} <= set(df.columns)
    assert "next_step" not in df.columns
    df["next_step"] = "call"
    assert "load it to edit it" in df.opp.changes().refused["reason"].iloc[0]


def test_fields__may_be_one_text(client: Client) -> None:
    """A text names one column, or several with commas, as in ``sort=``; its letters are no columns."""
    one = opp.read_opportunities(client, fields="amount", stages=STAGES)
    assert one["amount"].notna().any()
    listed = opp.read_opportunities(client, fields=["name", "amount"], stages=STAGES)
    pd.testing.assert_frame_equal(opp.read_opportunities(client, fields="name, amount", stages=STAGES), listed)


def test_fields__leave_out_people_who_were_not_asked_for(client: Client) -> None:
    """A creator that the service was not asked for is not missing: there is no such column, unless it is named."""
    df = opp.read_opportunities(client, fields=["name"], stages=STAGES)
    assert not {"creator_id", "updater_id"} & set(df.columns)
    named = opp.read_opportunities(client, fields=["name", "creator_id"], include=["updater"], stages=STAGES)
    assert named["creator_id"].notna().all()
    assert named["updater_name"].notna().any()


def test_filter__reaches_the_service(client: Client) -> None:
    """Only what fits comes back."""
    df = opp.read_opportunities(client, filter={"probability": (20, 60)}, stages=STAGES)
    assert len(df) > 0
    assert df["probability"].between(20, 60).all()


def test_sort__of_a_filter_in_several_requests_is_refused(box: Sandbox, client: Client) -> None:
    """Each request is in order for itself: the first rows of all of them are not the first rows of the first one."""
    with pytest.raises(errors.ConfigurationError, match="sort= needs a filter that fits into one request"):
        opp.read_opportunities(client, filter={"id": list(range(1, 200))}, sort="-amount", limit=5, stages=STAGES)
    assert not [entry for entry in box.requests if entry.path.endswith("/opportunities")]
    df = opp.read_opportunities(client, filter={"id": list(range(1, 101))}, sort="-amount", stages=STAGES)
    assert df["amount"].dropna().is_monotonic_decreasing


def test_filter__that_fits_nothing_gives_the_same_columns(client: Client, df: pd.DataFrame) -> None:
    """No rows, same columns and dtypes; figures work."""
    empty = opp.read_opportunities(client, filter={"name": "no such deal"}, stages=STAGES)
    known = [column for column in df.columns if column in COLUMN_DTYPES]
    pd.testing.assert_series_equal(empty.dtypes[known], df.dtypes[known])
    assert len(empty.opp.forecast()) == 0


def test_bad_record__is_set_aside_and_the_rest_loads(server: RawServer) -> None:
    """A record without an id goes to .quarantined, the frame counts as incomplete."""
    document = page(1, 2, count=3)
    document["data"].insert(1, {"type": "opportunity", "attributes": {"name": "no id"}})
    with pytest.warns(errors.IncompleteLoadWarning, match="set aside"):
        df = load(server, document, STAGE_PAGE)
    assert df["id"].tolist() == [1, 2]
    quarantined = df.opp.load_report.quarantined
    assert quarantined["reason"].tolist() == ["it has no id"]
    assert df.opp.load_report.complete is False


def test_unreadable_cell__is_missing_locked_and_reported(server: RawServer) -> None:
    """A text amount is kept aside; it cannot be overwritten, and untouched it sends nothing."""
    with pytest.warns(errors.InvalidValuesWarning, match="amount 1"):
        df = load(server, {"data": [opportunity(1, amount="5,000")], "meta": {"count": 1}}, STAGE_PAGE)
    failure = df.opp.load_report.failures.iloc[0]
    assert (failure["id"], failure["column"], failure["value"]) == (1, "amount", "5,000")
    assert df["amount"].isna().all()
    assert len(df.opp.changes()) == 0
    df.loc[0, "amount"] = 5000
    assert "locked" in df.opp.changes().refused["reason"].iloc[0]


def test_missing_rows__make_the_load_incomplete(server: RawServer) -> None:
    """When the service counts more rows than it sends, twice, the frame says so."""
    with pytest.warns(errors.IncompleteLoadWarning, match="counts 5"):
        df = load(server, page(1, 2, count=5), STAGE_PAGE, page(1, count=5))
    assert df.opp.load_report.complete is False


def test_missing_rows__that_cannot_be_counted_again_leave_the_load_standing(server: RawServer) -> None:
    """The pages are there; nobody knows whether they are all."""
    df = load(server, page(1, 2, count=5), STAGE_PAGE, reply(422, {}))
    report = df.opp.load_report
    assert (len(df), report.complete) == (2, None)
    assert any("whether every deal came could not be asked again: the service finds" in note for note in report.notes)


def test_missing_row__is_not_made_up_for_by_a_new_one(server: RawServer) -> None:
    """Three were counted and three are there, but one of them came during the load: it is counted again."""
    first = {**page(1, 2, count=3), "links": {"next": "/api/v2/opportunities?page[after]=x"}}
    new = {"data": [opportunity(4, createdAt="2026-09-07T10:00:05.000Z", updatedAt="2026-09-07T10:00:05.000Z")]}
    with pytest.warns(errors.IncompleteLoadWarning, match="counts 4"):
        df = load(
            server,
            reply(200, first, Date="Mon, 07 Sep 2026 10:00:00 GMT"),
            new,
            new,
            STAGE_PAGE,
            page(1, count=4),
        )
    assert df["id"].tolist() == [1, 2, 4]
    assert df.opp.load_report.complete is False


@pytest.mark.parametrize("parameter", ["page[offset]", "page%5Bnumber%5D", "offset", "page", "page[after]"])
def test_pages_by_position__are_not_trusted_when_deals_go(server: RawServer, parameter: str) -> None:
    """Deal 1 goes after the first of two pages: 3 moves to its place and is passed over, and the number fits."""
    first = {**page(1, 2, count=4), "links": {"next": f"/api/v2/opportunities?{parameter}=2"}}
    clock = {"Date": "Mon, 07 Sep 2026 10:00:00 GMT"}
    answers = [reply(200, first, **clock), page(4), {"data": []}, STAGE_PAGE, page(2, count=3)]
    if parameter == "page[after]":
        # Behind a record nothing moves: 3 is the one that went.
        assert load(server, *answers).opp.load_report.complete is True
        return
    with pytest.warns(errors.IncompleteLoadWarning, match="1 deals were passed over, since others were deleted"):
        df = load(server, *answers, page(2, 3, 4, count=3))
    assert df["id"].tolist() == [1, 2, 4]
    assert df.opp.load_report.complete is False


def test_records_of_another_type__are_no_load_without_rows(server: RawServer) -> None:
    """A service of other names is told from one without deals; one such record among others is set aside."""
    strange = [opportunity(key, name="x") | {"type": "opportunities"} for key in (1, 2)]
    with pytest.raises(errors.DocumentError, match=r"2 records, none of the type 'opportunity'; the first: 'opport"):
        load(server, {"data": strange})
    with pytest.warns(errors.IncompleteLoadWarning, match="1 records were set aside"):
        assert load(server, {"data": [*strange[:1], opportunity(3)]}, STAGE_PAGE)["id"].tolist() == [3]


def test_service_without_names_or_ids__says_which_are_missing(server: RawServer) -> None:
    """A service may have no stages, ignore ``include=``, and send links in the place of ids."""
    bare = [opportunity(key) for key in (1, 2)]
    for record, related in zip(bare, ({"owner": {"data": {"type": "user", "id": 7}}}, {}), strict=True):
        record["relationships"] = {**related, "opportunityStage": {"links": {"related": "x"}}}
    notes = load(server, {"data": bare}, reply(404, {})).opp.load_report.notes
    assert "the service has no opportunityStages: ids stand without names, order and meaning" in notes
    assert "the service sent no names beside 'owner_id', although they were asked for (include=)" in notes
    assert "no deal came with 'stage_id': the service does not say them" in notes


def test_record_that_changes_into_one_that_cannot_be_read__is_noted(server: RawServer) -> None:
    """The copy that came before stands, and is known to be an older one."""
    changed = {"data": [{**opportunity(1), "attributes": []}]}
    first = reply(200, page(1, 2, count=2), Date="Mon, 07 Sep 2026 10:00:00 GMT")
    df = load(server, first, changed, STAGE_PAGE)
    assert df["name"].tolist() == ["Acme renewal"] * 2
    note = "1 records that were changed during the load cannot be read: any copies here are older"
    assert note in df.opp.load_report.notes


def test_service_without_a_clock__is_noted(server: RawServer) -> None:
    """Without its time nobody knows since when to read again."""
    df = load(server, page(1, 2, count=2), STAGE_PAGE)
    assert df.opp.load_report.complete is True
    assert any("no clock" in note for note in df.opp.load_report.notes)


def test_doubled_row__keeps_the_newer_copy(server: RawServer) -> None:
    """A row that moved to a later page while the walk ran stays once."""
    first = {
        "data": [opportunity(1, name="old"), opportunity(2)],
        "links": {"next": "/api/v2/opportunities?page[after]=x"},
    }
    second = {"data": [opportunity(1, name="new", updatedAt="2026-09-04T11:00:01.000Z")]}
    df = load(server, first, second, STAGE_PAGE)
    assert df["name"].tolist()[:1] == ["new"]
    assert df["id"].tolist() == [1, 2]
    assert df.opp.load_report.duplicates["key"].tolist() == [1]


def test_token__without_the_right_to_names_still_loads_deals() -> None:
    """A server-to-server token may not read stages, users or accounts: ids come without names."""
    scopes = frozenset({"opportunities.all"})
    with opp.sandbox(opportunities=10, now=NOW, scopes=scopes) as box:
        df = opp.read_opportunities(box.client())
    assert len(df) == 10
    assert df["stage_name"].isna().all()
    assert df["owner_name"].isna().all()
    assert any("opportunityStages" in note for note in df.opp.load_report.notes)


def test_no_zone__is_said_in_the_basis(box: Sandbox) -> None:
    """Without a zone figures use UTC and say so."""
    df = opp.read_opportunities(box.client(), stages=STAGES)
    basis = df.opp.forecast().attrs["opp_basis"]
    assert "UTC" in str(basis)


@pytest.mark.parametrize(
    "options",
    [
        {"include": "stages"},
        {"include": None},
        {"on_invalid": "drop"},
        {"limit": -1},
        {"limit": "5"},
        {"limit": 2.5},
        {"limit": float("nan")},
        {"limit": True},
        {"fields": [1]},
        {"fields": 5},
        {"filter": {"amount": 5}},
        {"filter": ["owner"]},
        {"filter": {7: "owner"}},
        {"where": "amount > 5"},
        {"where": {None: 5}},
        {"sort": "tags"},
        {"sort": 5},
        {"stages": {"won": ["Closed Won"]}},
        {"checkpoint": 5},
        {"history": "pipeline-history"},
    ],
)
def test_arguments__that_cannot_be_used_are_refused_before_the_network(box: Sandbox, options: dict[str, Any]) -> None:
    """No request goes out for a wrong argument."""
    with pytest.raises(errors.ConfigurationError):
        opp.read_opportunities(box.client(), **options)
    assert not [entry for entry in box.requests if entry.path.endswith("/opportunities")]


def test_client__that_is_none_is_refused(box: Sandbox) -> None:
    """A sandbox or an address in place of a client gets a word on where clients come from."""
    for wrong in (box, box.url):
        with pytest.raises(errors.ConfigurationError, match=r"opp\.sandbox\(\)\.client\(\) gives, not"):
            opp.read_opportunities(wrong)  # type: ignore[arg-type]  # the point of the test
