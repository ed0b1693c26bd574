"""The doors that users walk through."""

from __future__ import annotations

import inspect
import pkgutil
import subprocess
import sys

import pandas as pd
import pytest

import opp_pandas as opp
from conftest import NOW, STAGES


def test_names__are_all_there() -> None:
    """Every name in __all__ can be used, and an unknown one is an AttributeError."""
    for name in opp.__all__:
        assert getattr(opp, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'reed_opportunities'"):
        _ = opp.reed_opportunities


def test_modules__bear_no_public_name() -> None:
    """A module named like a function would take its place once it is imported."""
    modules = {entry.name for entry in pkgutil.iter_modules(opp.__path__)}
    assert not modules & (set(opp.__all__) - {"errors"})


def test_signatures__fit_a_screen() -> None:
    """No default prints as pages of text."""
    doors = [getattr(opp, name) for name in opp.__all__]
    shown = {}
    for door in filter(callable, doors):
        methods = [member for name, member in vars(door).items() if not name.startswith("_")]
        for function in filter(inspect.isfunction, [door, *(methods if inspect.isclass(door) else [])]):
            shown[function.__qualname__] = len(str(inspect.signature(function)))
    assert len(shown) > 50
    assert max(shown.values()) < 2_500, max(shown, key=lambda name: shown[name])


def test_doors__open_twice() -> None:
    """Every door can be called a second time, in one fresh program."""
    program = """
import opp_pandas as opp, pandas as pd
deal = {"name": "A", "amount": 5, "stage_name": "Lead", "probability": 50, "close_date": "2026-12-31"}
frame = pd.DataFrame([deal])
for turn in range(2):
    with opp.sandbox(opportunities=5, seed=turn) as box:
        client = opp.connect(box.url, token=box.token)
        loaded = opp.read_opportunities(client)
        assert len(pd.DataFrame.opp.load(client)) == len(loaded) == 5
        assert len(opp.adopt(frame)) == 1
        assert opp.StageMap(order=["Lead"]) and opp.of(loaded).load_report.rows == 5
        assert opp.OpportunitySchema.validate(loaded) is not None
        loaded.opp.forecast(stages=opp.StageMap(won=["Closed Won"], lost=["Closed Lost"]))
        assert opp.explain and opp.show and opp.errors.OppPandasError
print("open")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "open", done.stderr


def test_sandbox__same_seed_and_moment_give_the_same_data() -> None:
    """Two sandboxes of one seed hold the same deals."""
    frames = []
    for _ in range(2):
        with opp.sandbox(opportunities=30, seed=3, now=NOW) as box:
            frames.append(opp.read_opportunities(box.client(), stages=STAGES))
    pd.testing.assert_frame_equal(frames[0], frames[1], check_flags=False)


@pytest.mark.parametrize("frame", [pd.DataFrame(), pd.DataFrame({"x": [1]}), pd.DataFrame({("a", "b"): [1]})])
def test_any_frame__can_be_completed_and_shown(frame: pd.DataFrame) -> None:
    """Tab completion and repr work on frames that hold no opportunities."""
    assert "opp" in dir(frame)
    assert {"forecast", "funnel", "changes", "write_back", "load_report"} <= set(dir(frame.opp))
    assert "no load" in repr(frame.opp)
    assert opp.of(frame).__class__ is opp.OpportunityAccessor


def test_load__on_a_frame_says_what_to_use(df: pd.DataFrame) -> None:
    """A frame cannot load itself."""
    with pytest.raises(opp.errors.FrameError, match="read_opportunities"):
        _ = df.opp.load


def test_session__of_the_interface_runs(client: opp.Client) -> None:
    """Load, look, edit, write back: the whole way."""
    df = opp.read_opportunities(client, filter={"updated_at": ("2020-01-01", None)}, stages=STAGES)
    assert len(df.opp.forecast(freq="Q", by="owner_name", fiscal_start=2))
    assert list(df.opp.funnel().columns[:3]) == ["count", "amount", "weighted_amount"]
    name = df["name"].iloc[0]
    df.loc[df["name"] == name, ["probability", "next_step"]] = [75, "Send order form"]
    assert set(df.opp.changes().cells["field"]) <= {"probability", "next_step"}
    assert not df.opp.write_back(dry_run=True).rows["status"].ne("planned").any()
    report = df.opp.write_back()
    assert set(report.rows["status"]) == {"written"}
    assert len(df.opp.changes()) == 0
    again = client.get(int(df["id"].iloc[0])).data["attributes"]
    assert (again["probability"], again["nextStep"]) == (75, "Send order form")
