"""The workspace without a browser: what it shows, the deals behind each number, and what edits do to them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pandas as pd
import pytest

import opp_pandas as opp
from conftest import STAGES
from opp_pandas.accessor import context_of
from opp_pandas.errors import ConfigurationError
from opp_pandas.figures import forecast
from opp_pandas.notebook.messages import sent
from opp_pandas.notebook.workspace_messages import Pick, Picture

if TYPE_CHECKING:
    from pathlib import Path

    from opp_pandas.api.client import Client
    from opp_pandas.notebook.workspace import Workspace

NOW = "2026Q4"


def ask(space: Workspace, do: str, **message: Any) -> dict[str, Any]:
    """One message and its answer, through JSON as in a browser."""
    answer: dict[str, Any] = json.loads(json.dumps(space._desk.handle(json.loads(json.dumps({"do": do, **message})))))
    assert "error" not in answer, answer
    return answer


def picture(space: Workspace) -> Picture:
    return msgspec.convert(ask(space, "figures")["picture"], Picture)


def chart(space: Workspace, figure: str) -> dict[str, Any]:
    """The bars of a chart, by label and column."""
    (found,) = (each for each in picture(space).charts if each.figure == figure)
    columns = [series.column for series in found.series]
    return {bar.label: dict(zip(columns, bar.values, strict=True)) for bar in found.bars}


def edit(space: Workspace, row: int, column: str, text: str | None) -> None:
    assert "objections" not in ask(space, "edit", cells=[{"row": row, "column": column, "text": text}])


def due(df: pd.DataFrame) -> int:
    """Where an open deal stands that is due in the period."""
    is_open = df["stage_name"].isin(["Qualify", "Discover", "Propose", "Negotiate"]) & df["trashed_at"].isna()
    inside = is_open & df["close_date"].between("2026-10-25", "2026-12-30") & (df["amount"] > 0)
    return int((inside & (df["probability"] > 0)).fillna(False).to_numpy(dtype=bool).argmax())


@pytest.fixture
def space(df: pd.DataFrame) -> Workspace:
    return opp.of(df).workspace(quota=500_000)


def test_picture__shows_what_the_figures_say(df: pd.DataFrame, space: Workspace) -> None:
    """Cards and bars are the registered figures' own numbers, for all deals and for some."""
    owner = "Ivan García"
    for frame, names in ((df, []), (df[df["owner_name"] == owner], [owner])):
        ask(space, "look", owners=names, stages=[], period="", since="")
        table = forecast(frame, context=context_of(frame), quota=None if names else 500_000)
        bars = chart(space, "forecast")
        for period, row in table.iterrows():
            label = "no date" if pd.isna(period) else str(period)  # type: ignore[call-overload]
            assert bars[label] == {name: row[name] for name in ("won_amount", "weighted_amount", "open_amount")}
        cards = {card.title: card.value for card in picture(space).cards}
        assert cards["Won"] == table.loc[NOW, "won_amount"]
        assert cards["Sellers' forecast"] == table.loc[NOW, "forecast_amount"]
        assert ("Gap to quota" in cards) is not bool(names)
        assert picture(space).shown == len(frame)


def test_bars__list_the_deals_behind_them(space: Workspace) -> None:
    """The deals that a click lists add up to the bar, or are as many as it counts, in every chart."""
    for figure in ("forecast", "owners", "stage_distribution", "hygiene"):
        for label, values in chart(space, figure).items():
            for column, value in values.items():
                pick = {"figure": figure, "column": column, "label": label, "title": ""}
                found = ask(space, "list", pick=pick)["picture"]["chosen"]["picked"]
                assert len(space.listed) == found
                if figure == "hygiene":
                    assert found == value
                elif column != "weighted_amount":
                    assert space.listed["amount_precise"].astype(float).sum() == pytest.approx(value)
    ask(space, "list", pick=None)
    assert len(space.listed) == 60


def test_cards__list_the_deals_behind_them(space: Workspace) -> None:
    """Every card that offers its deals can list them."""
    picks = [card.pick for card in picture(space).cards if card.pick is not None]
    assert len(picks) >= 6
    for pick in picks:
        ask(space, "list", pick=msgspec.to_builtins(pick))
        assert len(space.listed) < 60


def test_list__begins_with_what_needs_attention(df: pd.DataFrame, space: Workspace) -> None:
    """Overdue and silent deals first, the largest of them on top; then others with a reason, open ones, closed ones."""
    flagged = opp.of(df).hygiene()
    urgent = flagged[flagged["checks"].str.contains("overdue|untouched")]
    order = space.listed["id"].tolist()
    assert order[: len(urgent)] == urgent["id"].tolist()
    assert set(order[len(urgent) : len(flagged)]) == set(flagged["id"]) - set(urgent["id"])
    closed = df["stage_name"].isin(["Closed Won", "Closed Lost"]) | df["trashed_at"].notna()
    rest = [key for key in order if key not in set(flagged["id"])]
    assert rest == sorted(rest, key=lambda key: bool(closed[df["id"] == key].iloc[0]))
    row = ask(space, "rows", start=0, stop=1, columns=["needs attention"])["rows"][0]
    assert row["cells"] == [urgent["reasons"].iloc[0]]


def test_edit__moves_the_numbers_before_anything_is_sent(df: pd.DataFrame, space: Workspace) -> None:
    """Numbers are those of the edited frame, beside what they were; undo brings them back."""
    row = due(df)
    before = picture(space)
    edit(space, row, "amount", "777000")
    after = picture(space)
    table = forecast(space.frame, context=context_of(df), quota=500_000)
    card = next(card for card in after.cards if card.title == "Sellers' forecast")
    assert card.value == table.loc[NOW, "forecast_amount"]
    assert card.before == next(each.value for each in before.cards if each.title == card.title)
    bar = next(bar for bar in after.charts[0].bars if bar.label == NOW)
    assert bar.before == next(each.values for each in before.charts[0].bars if each.label == NOW)
    assert {b.label: b.values[0] for b in after.charts[-1].bars}["increased"] > 0
    assert len(space.changes) == 1
    ask(space, "undo")
    assert picture(space).cards == before.cards


def test_edit__of_owner_stage_date_and_deletion__moves_the_right_bars(df: pd.DataFrame, space: Workspace) -> None:
    """A deal goes with its owner, its stage and its period; one that is to be deleted counts no longer."""
    row = due(df)
    amount = float(df["amount_precise"].iloc[row])
    stages, periods = chart(space, "stage_distribution"), chart(space, "forecast")
    edit(space, row, "stage_name", "Closed Won")
    won = chart(space, "forecast")[NOW]["won_amount"] - periods[NOW]["won_amount"]
    # The close date lies ahead: the figure counts a deal as won in the period that it is dated in.
    assert won == pytest.approx(amount)
    assert sum(bar["amount"] for bar in chart(space, "stage_distribution").values()) == pytest.approx(
        sum(bar["amount"] for bar in stages.values()) - amount
    )
    ask(space, "undo")
    edit(space, row, "close_date", "2027-02-01")
    assert chart(space, "forecast")["2027Q1"]["open_amount"] == pytest.approx(
        periods.get("2027Q1", {"open_amount": 0})["open_amount"] + amount
    )
    ask(space, "undo")
    place = space.listed["id"].tolist().index(df["id"].iloc[row])
    ask(
        space, "delete", range={"start": place, "stop": place, "columns": ["name"], "view": space._desk.state()["view"]}
    )
    assert chart(space, "forecast")[NOW]["open_amount"] == pytest.approx(periods[NOW]["open_amount"] - amount)


def test_prediction__comes_beside_and_follows_edits(df: pd.DataFrame, space: Workspace) -> None:
    """It is computed beside everything else, is what predict() says, and says what it was before the edits."""
    assert picture(space).outlook.state == "computing"
    found = space._model.wait(60)
    expected = opp.of(df).predict(NOW)
    assert (found.state, found.mean) == ("ready", expected.mean)
    assert (found.low, found.high) == expected.interval(0.8)
    assert found.p_quota == expected.p_at_least(500_000)
    edit(space, due(df), "amount", "777000")
    moved = picture(space).outlook
    assert (moved.state, moved.mean) == ("computing", expected.mean)
    moved = space._model.wait(60)
    assert (moved.state, moved.before) == ("ready", expected.mean)
    assert moved.mean == opp.of(space.frame).predict(NOW).mean


def test_outlook__of_a_period_ahead_is_what_the_percentages_say(df: pd.DataFrame, space: Workspace) -> None:
    """No prediction is made of it: the deals' own percentages speak, and it says so; what is over says that."""
    space.choose(period="2027Q1")
    found = picture(space).outlook
    expected = opp.of(df).bookings(period="2027Q1")
    assert (found.title, found.mean) == ("Forecast", expected.mean)
    assert "percentages" in found.tested
    space.choose(period="2025Q4")
    assert "over" in picture(space).outlook.reason


def test_changes__since_the_last_snapshot(df: pd.DataFrame, client: Client, tmp_path: Path) -> None:
    """What moved between the snapshot and now, unsent edits included; a click lists the deals of a bar."""
    history = opp.History(tmp_path / "history")
    history.record(df)
    row = due(df)
    client.update(int(df["id"].iloc[row]), {"closeDate": "2027-03-01T12:00:00Z"})
    fresh = opp.read_opportunities(client, stages=STAGES)
    space = opp.of(fresh).workspace(history)
    bars = chart(space, "waterfall")
    assert bars["pushed_out"]["amount"] == pytest.approx(-float(df["amount_precise"].iloc[row]))
    ask(space, "list", pick={"figure": "waterfall", "column": "amount", "label": "pushed_out", "title": ""})
    assert space.listed["id"].tolist() == [df["id"].iloc[row]]
    assert picture(space).options.since
    with pytest.raises(ConfigurationError, match="no snapshot of"):
        space._model.look(since="yesterday")


def test_quota_of_owners__is_added_up_for_those_that_are_looked_at(df: pd.DataFrame) -> None:
    """Each owner's stands in the chart; the cards speak of those that are looked at."""
    first, second = df["owner_name"].dropna().unique()[:2]
    space = opp.of(df).workspace(quota={first: 1e6, second: 2e6})
    quotas = {bar.label: bar.quota for bar in picture(space).charts[1].bars}
    assert {quotas.get(first, 1e6), quotas.get(second, 2e6)} == {1e6, 2e6}
    assert space._model.outlook().quota is None or space._model.outlook().quota == 3e6
    space.choose(owners=first)
    gap = space.headlines["Gap to quota"]
    assert gap is not None
    assert gap <= 1e6
    edit(space, due(df), "amount", "5")
    ask(space, "review")
    assert "Effect on the forecast" in json.dumps(sent(space._panel.shown))


def test_choice__that_cannot_be_made_is_refused(space: Workspace) -> None:
    """Unknown owners, periods and numbers: nothing changes, and the answer says what there is."""
    with pytest.raises(ConfigurationError, match="Nobody"):
        space.choose(owners="Nobody")
    odd = {"figure": "forecast", "column": "nothing", "label": NOW, "title": ""}
    answer = space._desk.handle({"do": "list", "pick": odd})
    assert "no column of this figure" in answer["error"]
    assert space._model.pick is None
    assert len(space.listed) == 60


def test_owner__whose_last_deal_goes_to_another__leaves_the_choice(df: pd.DataFrame) -> None:
    """A choice that no deal fits any more shows all again, rather than failing."""
    alone = df.iloc[[due(df)]]
    space = opp.of(pd.concat([alone, df[df["owner_name"] != alone["owner_name"].iloc[0]]])).workspace()
    space.choose(owners=str(alone["owner_name"].iloc[0]))
    assert picture(space).shown == 1
    edit(space, 0, "owner_name", "")
    assert picture(space).shown > 1


def test_workspace__is_readable_without_a_front_end(space: Workspace) -> None:
    """The text names the numbers; the frame that it was opened on stays as it was."""
    bundle = space._repr_mimebundle_()
    assert bundle["text/plain"].startswith("<Workspace of 60 deals; pending: none>")
    assert "2026Q4: Won " in bundle["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in bundle
    with pytest.raises(ConfigurationError, match=r"opp_pandas\.History"):
        space.frame.opp.workspace({"a": 1})


def test_pick__of_a_row_that_is_gone__does_not_stop_the_page(df: pd.DataFrame, space: Workspace) -> None:
    """An edit may take away the bar that is listed; numbers go on, and all deals can be listed again."""
    row = due(df)
    edit(space, row, "close_date", "2031-02-01")
    space._model.choose_pick(Pick("forecast", "open_amount", "2031Q1", ""))
    assert len(space.listed) == 1
    ask(space, "undo")
    assert picture(space).total == 60
    ask(space, "list", pick=None)
    assert len(space.listed) == 60


def test_workspace__of_adopted_deals_compares_with_nothing() -> None:
    """A file whose deals no service knows yet: numbers without a before, also after an edit."""
    raw = pd.DataFrame({"name": ["Acme", "Bolt"], "amount": [1000, 2500], "stage_name": "Lead", "owner_name": "Ann"})
    raw["close_date"] = pd.Timestamp("2026-11-30", tz="UTC")
    stages = opp.StageMap(order=["Lead", "Won", "Lost"], won=["Won"], lost=["Lost"])
    space = opp.of(opp.adopt(raw, stages=stages, as_of="2026-10-20", currency="USD", timezone="UTC")).workspace()
    edit(space, 0, "amount", "4000")
    assert space.headlines["Open pipeline"] == 6500
    assert all(card.before is None for card in picture(space).cards)
    assert not any(bar.before for each in picture(space).charts for bar in each.bars)
