"""What a load knows outlives pickle, other processes and Parquet; after a merge it can be put back."""

from __future__ import annotations

import io
import json
import multiprocessing
import pickle
from typing import TYPE_CHECKING

import pandas as pd
import pytest

import opp_pandas as opp
from opp_pandas.figures.core.periods import WeekCalendar
from opp_pandas.frame_state import ATTRS_KEY, loaded_of, meaning_of
from opp_pandas.resource import LOOKUP_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opp_pandas.sandbox_handle import Sandbox

TOKEN = "canary-0123456789abcdef"
STAGES = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"], probability={"Propose": 35})
DEFINITIONS = {
    "fiscal_start": 2,
    "calendar": WeekCalendar((4, 5, 4), starts={2026: "2026-02-02"}),
    "rates": {"USD": 1, "EUR": 1.0837, "GBP": 1.27},
    "currency": "USD",
    "probability": "own_else_stage",
}


@pytest.fixture
def box() -> Iterator[Sandbox]:
    """A sandbox whose token would be noticed."""
    with opp.sandbox(opportunities=60, now="2026-10-20T15:00:00Z", token=TOKEN) as made:
        yield made


@pytest.fixture
def df(box: Sandbox) -> Iterator[pd.DataFrame]:
    """Some deals, loaded with everything that an organisation may state."""
    with box.client(timezone="America/New_York") as client:
        yield opp.read_opportunities(client, stages=STAGES, where={"amount": (1, None)}, **DEFINITIONS)


def pickled(frame: pd.DataFrame) -> pd.DataFrame:
    """Pickle and restore."""
    restored: pd.DataFrame = pickle.loads(pickle.dumps(frame))  # noqa: S301  # our own bytes
    return restored


def through_parquet(frame: pd.DataFrame) -> pd.DataFrame:
    """Write and read as Parquet."""
    return pd.read_parquet(io.BytesIO(frame.to_parquet()))


def worked_on(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Do in another process what is done with a frame there: figures, and an edit that is sent back."""
    edited = frame.assign(next_step="from a child")
    return frame.opp.forecast(), edited, len(edited.opp.changes())


def assert_same_figures(frame: pd.DataFrame, original: pd.DataFrame) -> None:
    """Compare figures that stand on stages, zone, moment, definitions and names."""
    for figure, options in (
        ("forecast", {}),
        ("forecast", {"by": "owner_name", "freq": "M"}),
        ("forecast", {"by": "account_name"}),
        ("kpis", {}),
        ("stage_distribution", {}),
        ("hygiene", {}),
    ):
        pd.testing.assert_frame_equal(
            pd.DataFrame(getattr(frame.opp, figure)(**options)),
            pd.DataFrame(getattr(original.opp, figure)(**options)),
        )
    assert frame.opp.forecast().attrs["opp_basis"] == original.opp.forecast().attrs["opp_basis"]


def test_pickle__keeps_the_load_without_its_client(df: pd.DataFrame, box: Sandbox) -> None:
    """Figures and edits go on; what is written names its client, which must be of the same service."""
    again = pickled(df)
    before, after = loaded_of(df), loaded_of(again)
    assert before is not None
    assert after is not None
    assert after.client is None
    assert before.client is not None
    assert (after.query, after.key, after.service) == (before.query, before.key, box.url)
    assert (after.timezone, after.as_of, after.watermark) == (before.timezone, before.as_of, before.watermark)
    assert after.baseline.marks == before.baseline.marks
    pd.testing.assert_frame_equal(after.baseline.frame, before.baseline.frame)
    assert after.lookups.keys() == before.lookups.keys()
    assert_same_figures(again, df)
    again.loc[again.index[0], "next_step"] = "call"
    with pytest.raises(opp.errors.ConfigurationError, match=r"have no client.*write_back\(client\)"):
        again.opp.write_back()
    with pytest.raises(opp.errors.ConfigurationError, match=r"refresh\(client="):
        again.opp.refresh()
    with (
        opp.sandbox(opportunities=60) as other,
        other.client() as elsewhere,
        pytest.raises(opp.errors.ConfigurationError, match="their ids mean nothing"),
    ):
        again.opp.write_back(elsewhere)
    with box.client() as client:
        assert again.opp.write_back(client).rows["status"].tolist() == ["written"]
        assert len(again.opp.refresh(client=client)) == len(df)


def test_other_processes__take_and_give_loaded_frames(df: pd.DataFrame) -> None:
    """A spawned child computes the same, and its edits are edits of the load here."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        forecast, edited, n_changes = pool.apply(worked_on, (df,))
    pd.testing.assert_frame_equal(pd.DataFrame(forecast), pd.DataFrame(df.opp.forecast()))
    assert n_changes == len(edited.opp.changes()) == len(df)
    whole = pd.concat([df.iloc[:10], edited.iloc[10:]])
    assert len(whole.opp.changes()) == len(df) - 10


def test_parquet__keeps_what_figures_need(df: pd.DataFrame) -> None:
    """The numbers and their basis are the same, and edits ask for the original."""
    again = through_parquet(df)
    assert type(again.attrs[ATTRS_KEY]) is str
    assert_same_figures(again, df)
    assert_same_figures(through_parquet(again).iloc[3:20], df.iloc[3:20])
    pd.testing.assert_frame_equal(again.opp.stages.frame, df.opp.stages.frame)
    again.opp.set_close_date(again.index[:1], "2026-12-31")
    df.opp.set_close_date(df.index[:1], "2026-12-31")
    assert again["close_date"].iloc[0] == df["close_date"].iloc[0]
    with pytest.raises(opp.errors.NotLoadedError, match=r"after Parquet.*df\.opp\.attach\(original\)"):
        again.opp.changes()
    assert len(again.opp.attach(df).opp.changes()) == 1
    assert "attach(original)" in again.opp._repr_html_()


def test_parquet__speaks_of_the_deals_in_it(df: pd.DataFrame, box: Sandbox) -> None:
    """Figures over time follow the file's deals by id, unless it holds all that a load without conditions brought."""
    from opp_pandas.load.scope import scope_of

    scope = scope_of(through_parquet(df))
    assert scope is not None
    assert "does not keep the load's conditions" in scope.words
    with box.client() as client:
        everything = through_parquet(opp.read_opportunities(client, stages=STAGES))
    assert scope_of(everything) is None
    some = scope_of(everything.iloc[:5])
    assert some is not None
    assert int(some.mask(everything).sum()) == 5


@pytest.mark.parametrize("way", [lambda frame: frame, pickled, through_parquet], ids=["loaded", "pickle", "parquet"])
def test_merge__can_be_made_good(df: pd.DataFrame, way: object) -> None:
    """Pandas drops the load of a merge with a plain frame; the error says how to put it back, and that works."""
    assert callable(way)
    notes = pd.DataFrame({"id": df["id"], "region": "EMEA"})
    merged = way(df).merge(notes, on="id", how="left")
    assert merged.attrs == {}
    for need in (lambda frame: frame.opp.forecast(), lambda frame: frame.opp.changes()):
        with pytest.raises(opp.errors.NotLoadedError, match=r"merged\.opp\.attach\(df\)"):
            need(merged)
    whole = merged.opp.attach(df)
    assert_same_figures(whole, df)
    assert not whole.opp.changes()
    whole.loc[whole.index[0], "next_step"] = "call"
    assert len(whole.opp.changes()) == 1


def test_written_frames__hold_no_token(df: pd.DataFrame) -> None:
    """Neither the bytes nor the text know the token, and the text no cell of a deal; the client does know it."""
    loaded = loaded_of(df)
    assert loaded is not None
    assert TOKEN.encode() not in pickle.dumps(df)
    assert TOKEN.encode() not in df.to_parquet(compression=None)
    text = str(df.attrs[ATTRS_KEY])
    assert TOKEN not in text
    assert len(text) < 200 * (len(loaded.lookups["user"]) + len(loaded.lookups["account"])) + 3_000
    names = set(loaded.lookups["account"]["name"]) | set(loaded.lookups["user"]["name"])
    assert not [name for name in df["name"].dropna() if json.dumps(name) in text and name not in names]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a frame of mine",
        "[1]",
        "null",
        '{"opp_pandas": "read", "rows": 3, "source": "", "as_of": "2026-01-01", "timezone": null, "key": "k"}',
        '{"opp_pandas": "read", "version": 1}',
        '{"opp_pandas": "read", "version": 2}',
        7,
    ],
)
def test_foreign_texts__leave_a_plain_frame(df: pd.DataFrame, text: object) -> None:
    """An older text, or somebody else's, is no load: figures ask for the day, and edits for the original."""
    df.attrs[ATTRS_KEY] = text
    again = pickled(df)
    assert meaning_of(again) is None
    with pytest.raises(opp.errors.NotLoadedError, match="as_of="):
        again.opp.forecast()
    with pytest.raises(opp.errors.NotLoadedError, match="nothing of it"):
        again.opp.changes()


def test_long_look_ups__stay_out_of_the_text(df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names then come from the frame's own columns, and the numbers are the same."""
    monkeypatch.setattr("opp_pandas.frame_state.MOST_NAMES", 3)
    loaded = loaded_of(df)
    assert loaded is not None
    short = df.copy()
    short.attrs[ATTRS_KEY] = loaded.renewed().text
    kinds = {LOOKUP_COLUMNS[name].type for name in ("owner_name", "account_name")}
    meaning = meaning_of(short)
    assert meaning is not None
    assert not kinds & set(meaning.lookups)
    assert_same_figures(short, df)
