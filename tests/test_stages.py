"""Stages: what a map says, what the service says, what is guessed, and what stays unknown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from opp_pandas import StageMap
from opp_pandas.errors import ConfigurationError
from opp_pandas.figures import FigureContext
from opp_pandas.figures.core.deals import Deals
from opp_pandas.stages import resolve_stages

LOOKUP = pd.DataFrame(
    {
        "id": pd.array([11, 12, 13, 14, 15], dtype="Int64"),
        "name": ["Lead", "Offer", "Closed Won", "Closed Lost", "Disqualified"],
        "order": [1, 2, 3, 4, 5],
        "is_closed": [False, False, True, True, True],
    }
)


def statuses(
    stage_map: StageMap | None = None, lookup: pd.DataFrame | None = LOOKUP, names: tuple[str, ...] = ()
) -> dict[str, str]:
    frame = resolve_stages(stage_map, lookup, names).frame
    return dict(zip(frame["stage_name"], frame["status"], strict=True))


def test_guess__is_labelled_and_leaves_unclear_stages_unmapped() -> None:
    """Won and lost come from names, a closed stage that says neither is not counted as either."""
    table = resolve_stages(None, LOOKUP)
    assert table.guessed
    assert table.unmapped == ["Disqualified"]
    assert statuses()["Offer"] == "open"
    assert list(resolve_stages(StageMap(won=[13], lost=[14, 15]), LOOKUP).unmapped) == []


def test_map__by_id_and_by_name_agree() -> None:
    """Keys are names or ids."""
    by_name = statuses(StageMap(won=["Closed Won"], lost=["Closed Lost", "Disqualified"]))
    assert by_name == statuses(StageMap(won=[13], lost=[14, 15]))
    assert by_name["Disqualified"] == "lost"


def test_map__that_names_won_alone_leaves_the_rest_unmapped() -> None:
    """Silence about a closed stage is loud, never lost."""
    assert statuses(StageMap(won=["Closed Won"]))["Closed Lost"] == "closed"


def test_map__that_says_won_by_name_and_lost_by_id_is_refused() -> None:
    """The service's stages show the contradiction, which would count lost deals as won."""
    with pytest.raises(ConfigurationError, match="stage 13, 'Closed Won' is listed as won and as lost"):
        resolve_stages(StageMap(won=["Closed Won"], lost=[13]), LOOKUP)


def test_map__with_an_unknown_stage_is_refused_with_the_near_one() -> None:
    """A misspelt stage would silently change every figure."""
    with pytest.raises(ConfigurationError, match="did you mean 'Closed Won'"):
        resolve_stages(StageMap(won=["Cloesd Won"]), LOOKUP)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"won": ["A"], "lost": ["A"]}, "won and as lost"),
        ({"order": ["A", "A"]}, "twice"),
        ({"probability": {"A": 101}}, "0 to 100"),
        ({"probability": {"A": 0.1, "B": 0.6}}, "10 for 10 %"),
        ({"category": {"A": "sure"}}, "not one of"),
        ({"category": {"A": ["commit"]}}, "not one of"),
        ({"category": ["commit"]}, "category= is a mapping of stages"),
        ({"probability": {"A": "50 %"}}, "numbers in percent, 0 to 100; not so: 'A'"),
        ({"probability": {"A": None}}, "numbers in percent"),
        ({"probability": [10, 20]}, "probability= is a mapping of stages"),
        ({"won": None}, "won= is a list of stages, by name or id, not None"),
        ({"order": [["A", "B"]]}, "order= is a list of stages"),
    ],
)
def test_map__that_contradicts_itself_is_refused(arguments: dict[str, object], words: str) -> None:
    """Contradictions, fractions and what is no list or mapping are found when the map is made."""
    with pytest.raises(ConfigurationError, match=words):
        StageMap(**arguments)  # type: ignore[arg-type]


def test_names__of_adopted_rows_follow_the_map() -> None:
    """With an order, a stage outside it is unknown; without, it is open."""
    names = ("Lead", "Huh", "Won")
    assert statuses(StageMap(order=["Lead"], won=["Won"]), None, names)["Huh"] == "unknown"
    assert statuses(StageMap(won=["Won"]), None, names)["Huh"] == "open"
    assert statuses(None, None, names) == {"Lead": "open", "Huh": "open", "Won": "won"}


def test_order__of_the_map_goes_before_the_services() -> None:
    """Open stages stand in the map's order, closed ones behind them."""
    table = resolve_stages(StageMap(order=["Offer", "Lead"], won=[13], lost=[14, 15]), LOOKUP)
    assert table.frame["stage_name"].tolist() == ["Offer", "Lead", "Closed Won", "Closed Lost", "Disqualified"]


def test_stages_of_deals__prefer_the_id_and_tell_missing_from_unknown() -> None:
    """-1 names no stage, -2 names one that nobody knows; a stale name does not overrule an id."""
    table = resolve_stages(None, LOOKUP)
    frame = pd.DataFrame(
        {
            "stage_id": pd.array([12, None, 99, None], dtype="Int64"),
            "stage_name": pd.array(["Lead", "Offer", "Lead", None], dtype="str"),
        }
    )
    offer = table.frame.index[table.frame["stage_name"] == "Offer"][0]
    deals = Deals(frame, FigureContext(table, pd.Timestamp("2026-06-30", tz="UTC")))
    np.testing.assert_array_equal(deals.stage, [offer, offer, -2, -1])
    assert Deals(frame.iloc[:0], deals.context).stage.tolist() == []


def test_ids__are_filled_in_by_name_after_a_write_back() -> None:
    """Stages known by name get the service's ids, doubled names none."""
    table = resolve_stages(StageMap(order=["Lead", "Offer"]), None, ())
    doubled = pd.concat([LOOKUP, LOOKUP[LOOKUP["name"] == "Offer"].assign(id=77)])
    assert table.with_ids(doubled).frame["stage_id"].tolist() == [11, pd.NA]
