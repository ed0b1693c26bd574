"""The made-up organisation: repeatable, believable, and true to what it says of itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from opp_pandas.resource import RESOURCES
from opp_pandas.sandbox_handle import sandbox
from opp_pandas.sandbox_server.customfields import CUSTOM_FIELDS, check_custom
from opp_pandas.sandbox_server.generator import fill
from opp_pandas.sandbox_server.store import TABLES, Store
from sandbox_server_calls import Api, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = "2026-09-01T08:00:00Z"
MOMENT = datetime(2026, 9, 1, 8, tzinfo=UTC)


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """The sandbox as it comes."""
    yield from opened(sandbox(now=NOW))


@pytest.fixture(scope="module")
def deals(api: Api) -> pd.DataFrame:
    """Its deals, one row each, with the truth beside them."""
    rows = api.rows()
    frame = pd.DataFrame([row["attributes"] for row in rows], index=[row["id"] for row in rows])
    for name in ("owner", "account", "opportunityStage"):
        frame[name] = [(row["relationships"][name]["data"] or {}).get("id") for row in rows]
    return frame.join(api.box.truth.set_index("id"))


def _all_text(seed: int, now: str, n: int = 40) -> str:
    for api in opened(sandbox(opportunities=n, seed=seed, now=now)):
        rows = [row for resource in RESOURCES.values() for row in api.rows(path=f"/{resource.path}")]
        return str([(row["id"], row["attributes"]) for row in rows]) + api.box.truth.to_csv()
    return ""


def test_same_seed_and_now__give_the_same_data() -> None:
    """Twice the same is the same; another seed or another moment is not."""
    first = _all_text(3, NOW)
    assert _all_text(3, NOW) == first
    assert _all_text(4, NOW) != first
    assert _all_text(3, "2026-09-02T08:00:00Z") != first


def test_rows__are_believable(deals: pd.DataFrame) -> None:
    """Open, won and lost deals, skewed amounts, a few of every oddity, nothing from the future."""
    closed = deals["opportunityStage"].isin([5, 6])
    assert 0.15 < (~closed).mean() < 0.6
    assert 0.2 < (deals["opportunityStage"][closed] == 5).mean() < 0.7
    amounts = deals["amount"].dropna().astype(float)
    assert amounts.mean() > 1.3 * amounts.median()
    for name in ("amount", "closeDate", "owner", "account", "probability"):
        assert 1 <= deals[name].isna().sum() <= 20, name
    for name in ("trashedAt", "healthScore"):
        assert 1 <= deals[name].notna().sum() <= 25, name
    assert 100 < deals["customId"].nunique() == deals["customId"].notna().sum() < 400
    assert set(deals["currencyType"]) == {"USD"}
    for name in ("createdAt", "updatedAt", "touchedAt"):
        assert deals[name].max() <= "2026-09-01T08:00:00.000Z"
    assert (deals["createdAt"] <= deals["updatedAt"]).all()
    assert (deals["touchedAt"] <= deals["updatedAt"]).all()
    overdue = deals[~closed & (deals["closeDate"] < "2026-09-01")]
    assert 10 <= len(overdue) <= 120
    assert deals["name"].str.contains(r"[^\x00-\x7f]").any()
    assert (deals["tags"].str.len() > 0).any()


def test_amounts__carry_cents_and_agree(deals: pd.DataFrame) -> None:
    """Amount is amountPrecise in whole units, half up."""
    both = deals.dropna(subset=["amount"])
    exact = both["amountPrecise"].astype(float)
    assert (np.floor(exact + 0.5) == both["amount"].astype(float)).all()
    assert 0.2 < (exact % 1 > 0).mean() < 0.5
    assert deals["amountPrecise"].isna().equals(deals["amount"].isna())


def test_close_dates__are_local_midnights_in_utc(deals: pd.DataFrame) -> None:
    """A close date is midnight in New York, so its UTC hour is four or five."""
    close = pd.to_datetime(deals["closeDate"].dropna(), utc=True)
    assert set(close.dt.hour) == {4, 5}
    assert set(close.dt.tz_convert(ZoneInfo("America/New_York")).dt.hour) == {0}


def test_closings__gather_at_the_ends_of_quarters() -> None:
    """More deals close in a quarter's last days than anywhere else."""
    store = Store()
    fill(store, 4_000, 0, MOMENT)
    days = pd.to_datetime([row[2] for row in store.read_truth()])
    left = (days.to_period("Q").end_time.normalize() - days).days
    share = (left < 3).mean()
    assert share > 3 * (3 / 91)
    store.close()


def test_custom_fields__agree_with_types(api: Api, deals: pd.DataFrame) -> None:
    """Every value fits the kind and options that /types states, and only set-up fields are used."""
    used = {f"custom{number}" for number in range(1, 151) if deals[f"custom{number}"].notna().any()}
    assert used == {entry.name for entry in CUSTOM_FIELDS}
    for name in used:
        for value in deals[name].dropna():
            check_custom(name, value)
    validations = api.get("/types")["data"][0]["meta"]["validations"]
    assert {name for name, entry in validations.items() if entry["label"]} == used


def test_truth__tells_what_the_service_does_not(api: Api, deals: pd.DataFrame) -> None:
    """Closed deals agree with their stage; open ones will close after now; p is a chance."""
    closed = deals["opportunityStage"].isin([5, 6])
    won = deals["opportunityStage"] == 5
    assert (deals["outcome"][closed] == won[closed].map({True: "won", False: "lost"})).all()
    assert (deals["closing_day"][~closed] >= pd.Timestamp("2026-09-01")).all()
    assert (deals["closing_day"][closed] <= pd.Timestamp("2026-09-01")).all()
    assert deals["p"].between(0, 1).all()
    assert len(api.box.truth) == 500
    assert str(api.box.truth.dtypes["id"]) == "Int64"


@pytest.mark.parametrize("seed", [0, 1])
def test_true_probability__is_calibrated_and_the_sellers_is_not(seed: int) -> None:
    """In every band of p as many open deals win as p says; sellers say more than that."""
    store = Store()
    fill(store, 12_000, seed, MOMENT)
    truth = pd.DataFrame(store.read_truth(), columns=["id", "outcome", "day", "p", "p_start"])
    won = (truth["outcome"] == "won").to_numpy()
    _assert_calibrated(truth["p_start"].to_numpy(), won)
    is_open = (truth["day"] > "2026-09-01").to_numpy()
    _assert_calibrated(truth["p"].to_numpy()[is_open], won[is_open])
    records = store.select(TABLES["opportunity"], "1", (), "opportunities.id", 20_000)
    said = pd.Series([record.attributes()["probability"] for record in records], dtype="Float64")[is_open] / 100
    assert said.mean() - won[is_open].mean() > 0.03
    store.close()


def _assert_calibrated(p: Any, won: Any) -> None:
    """The sum of p in each tenth of the deals lies within four standard deviations of the wins."""
    for some in np.array_split(np.argsort(p), 10):
        expected, deviation = p[some].sum(), np.sqrt((p[some] * (1 - p[some])).sum())
        assert abs(won[some].sum() - expected) < 4 * deviation


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_few_deals__are_fine(n: int) -> None:
    """Any number works, also none; a few have none of the oddities."""
    for api in opened(sandbox(opportunities=n, now=NOW)):
        rows = api.rows()
        assert len(rows) == len(api.box.truth) == n
        assert all(row["attributes"]["amount"] is not None for row in rows)
        assert len(api.rows("filter[role][id]=8,9,10,11", path="/users")) == 6


def test_organisation__has_two_people_of_one_name(api: Api) -> None:
    """Figures must group by id."""
    users = api.rows(path="/users")
    names = [row["attributes"]["name"] for row in users if row["attributes"]["title"] != "Director LATAM"]
    assert names.count(names[0]) == 2
    assert all(row["attributes"]["updatedAt"] for row in api.rows(path="/accounts"))
