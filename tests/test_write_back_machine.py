"""Users, colleagues, faults and crashes in any order: journal = service = model (hypothesis).

The model says of every deal which values may stand at the service. It grows by
what the user saves and by what somebody else does behind his back; nothing else
may ever happen to a deal.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import opp_pandas as opp
from opp_pandas.api.transport.retry import Clock
from opp_pandas.apply import send_creates
from opp_pandas.apply.journal import OPEN_STATES, Journal, OpenPlan

STAGES = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"])
FIELDS = {"probability": "probability", "next_step": "nextStep"}
VALUES = {"probability": st.integers(0, 100), "next_step": st.sampled_from(["Call", "Send", "", "Wait"])}
DEALS = 6


class CrashError(BaseException):
    """Stands for a kill: whatever was in memory is lost."""


class Machine(RuleBasedStateMachine):
    """One user with a frame, one colleague, one service."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="opp_pandas_machine_"))
        self.box = opp.sandbox(opportunities=0, stages=STAGES, rate_limit=10**9)
        self.client = self.box.client(clock=Clock(sleep=lambda _: None, chance=lambda: 0.0))
        for number in range(DEALS):
            self.client.create({"name": f"Deal {number}", "probability": 50, "nextStep": "Call"})
        # By name of the deal: what the service must have, and None for deals that are gone.
        self.model: dict[str, dict[str, Any] | None] = {
            f"Deal {number}": {"probability": 50, "next_step": "Call"} for number in range(DEALS)
        }
        self.count = 0
        self.faulty = False
        self.waits, send_creates.LOOK_UP_WAITS_S = send_creates.LOOK_UP_WAITS_S, (0.0,)

    def teardown(self) -> None:
        """Stop serving."""
        send_creates.LOOK_UP_WAITS_S = self.waits
        self.box.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- helpers ------------------------------------------------------------------

    @initialize()
    def start(self) -> None:
        """Begin with a load."""
        self.load()

    @rule()
    def load(self) -> None:
        """A new frame, as after a restart of the notebook; unsaved edits are lost."""
        if not self.faulty:
            self.df = opp.read_opportunities(self.client, stages=STAGES)

    def at_service(self) -> dict[str, list[dict[str, Any]]]:
        """What stands at the service, by name."""
        found: dict[str, list[dict[str, Any]]] = {}
        # Through a client of its own and past all faults.
        faults, self.box.switches.faults = self.box.switches.faults, []
        for page in self.client.iter_pages():
            for item in page.document["data"]:
                values = {column: item["attributes"].get(name) for column, name in FIELDS.items()}
                found.setdefault(item["attributes"]["name"], []).append(values)
        self.box.switches.faults = faults
        return found

    def row_id(self, name: str) -> int:
        """The id of a deal."""
        faults, self.box.switches.faults = self.box.switches.faults, []
        items = [item for page in self.client.iter_pages(filter={"name": name}) for item in page.document["data"]]
        self.box.switches.faults = faults
        return int(items[0]["id"])

    def take(self, plan: Any, report: Any) -> None:
        """Let the model follow what the report says, and hold the two together where it is sure."""
        has = self.at_service()
        for entry, status in zip(
            [*plan.updates, *plan.creations, *plan.deletions], report.rows["status"], strict=False
        ):
            if hasattr(entry, "cells"):
                name = self.names[entry.id]
                mine = {cell.column: cell.after for cell in entry.cells}
                self.follow(name, mine, status, has.get(name, []))
            elif hasattr(entry, "values"):
                name = entry.values["name"]
                values = {column: entry.values.get(column) for column in FIELDS}
                there = has.get(name, [])
                assert len(there) <= 1, f"{name} stands there {len(there)} times"
                if status in ("written", "adjusted"):
                    assert there == [values], (status, there, values)
                self.model[name] = there[0] if there else None
            else:
                there = has.get(str(entry.name), [])
                if status in ("written", "gone"):
                    assert there == []
                self.model[str(entry.name)] = there[0] if there else None

    def follow(self, name: str, mine: dict[str, Any], status: str, there: list[dict[str, Any]]) -> None:
        """Let the model follow one update."""
        before = self.model.get(name)
        if before is None:
            assert there == []
            return
        after = {**before, **mine}
        if status in ("written", "adjusted", "unchanged"):
            assert there == [after], (name, status, there, after)
        elif status == "unknown":
            assert there in ([before], [after]), (name, there, before, after)
        else:
            assert there == [before], (name, status, there, before)
        self.model[name] = there[0]

    @property
    def names(self) -> dict[int, str]:
        """Names by id, as loaded."""
        base = self.df.attrs["opp"].loaded.baseline.frame
        return dict(
            zip(base["id"].dropna().astype(int).tolist(), base.loc[base["id"].notna(), "name"].tolist(), strict=True)
        )

    # --- the user -----------------------------------------------------------------

    @rule(place=st.integers(0, 20), column=st.sampled_from(sorted(FIELDS)), data=st.data())
    def edit(self, place: int, column: str, data: st.DataObject) -> None:
        """An edit of one cell."""
        if len(self.df):
            row = self.df.index[place % len(self.df)]
            self.df.loc[row, column] = data.draw(VALUES[column])

    @rule(step=VALUES["next_step"])
    def add(self, step: str) -> None:
        """A new deal."""
        self.count += 1
        self.df = self.df.opp.add({"name": f"New {self.count}", "next_step": step, "probability": 10})
        self.model[f"New {self.count}"] = None

    @rule(place=st.integers(0, 20))
    def drop(self, place: int) -> None:
        """A row dropped from the frame is no deletion."""
        if len(self.df) > 1:
            self.df = self.df.drop(self.df.index[place % len(self.df)])

    @rule(crash=st.one_of(st.none(), st.integers(0, 12)), delete=st.booleans(), workers=st.sampled_from([1, 1, 4]))
    def save(self, crash: int | None, delete: bool, workers: int) -> None:
        """Write back; perhaps the program dies before one of the journal's writes, and resume finishes."""
        ids = self.df["id"].dropna().tolist()
        options: dict[str, Any] = {"delete": ids[-1:], "allow_delete": True} if delete and len(ids) > 3 else {}
        plan = self.df.opp.changes(**options)
        if not len(plan):
            return
        names = self.names
        original = OpenPlan._note
        calls = iter(range(10**6))

        def dying(plan: OpenPlan, *arguments: Any) -> None:
            if next(calls) == crash:
                raise CrashError
            original(plan, *arguments)

        OpenPlan._note = dying  # type: ignore[method-assign]
        try:
            report = self.df.opp.write_back(
                confirm=plan.fingerprint, workers=workers, journal=self.folder, progress=False, **options
            )
        except CrashError:
            OpenPlan._note = original  # type: ignore[method-assign]
            self.box.switches.faults.clear()
            self.faulty = False
            newest = int(opp.list_journals(self.folder)["plan"].max())
            report = opp.resume(self.client, self.folder, plan=newest, workers=workers)
            self.take_named(plan, report, names)
            self.settle()
            if crash is not None and crash % 2:
                self.load()
            return
        finally:
            OpenPlan._note = original  # type: ignore[method-assign]
        self.take_named(plan, report, names)
        self.settle()

    def take_named(self, plan: Any, report: Any, names: dict[int, str]) -> None:
        """Follow a report with the names that the frame had before."""
        saved, type(self).names = type(self).names, names  # type: ignore[assignment, method-assign]
        try:
            self.take(plan, report)
        finally:
            type(self).names = saved  # type: ignore[method-assign]

    def settle(self) -> None:
        """Finish every plan that is left open, as a careful user does before he goes on."""
        if self.faulty:
            return
        listed = opp.list_journals(self.folder)
        for number in listed.loc[listed["open"] > 0, "plan"]:
            report = opp.resume(self.client, self.folder, plan=int(number))
            for page in report.plan.updates:
                self.refresh_model(page.id)
            for entry in report.plan.creations:
                there = self.at_service().get(entry.values["name"], [])
                assert len(there) <= 1
                self.model[entry.values["name"]] = there[0] if there else None
            for entry in report.plan.deletions:
                there = self.at_service().get(str(entry.name), [])
                self.model[str(entry.name)] = there[0] if there else None

    def refresh_model(self, row_id: int) -> None:
        """Take one deal over into the model."""
        try:
            item = self.client.get(row_id).data
        except opp.errors.NotFoundError:
            return
        name = item["attributes"]["name"]
        self.model[name] = {column: item["attributes"].get(api) for column, api in FIELDS.items()}

    @precondition(lambda self: not self.faulty)
    @rule()
    def undo_last(self) -> None:
        """The newest plan is taken back; what others changed since stays theirs."""
        before = self.at_service()
        try:
            report = opp.undo(self.client, self.folder, progress=False, confirm=None)
        except opp.errors.ConfigurationError:
            return
        except opp.errors.ConfirmationNeededError as asked:
            report = opp.undo(self.client, self.folder, progress=False, confirm=asked.number)
        after = self.at_service()
        assert set(after) == set(before)
        names = {update.id: update for update in report.plan.updates}
        for row_id, status in zip(report.rows["id"], report.rows["status"], strict=True):
            update = names.get(row_id)
            if update is None:
                continue
            try:
                item = self.client.get(int(row_id)).data["attributes"]
            except opp.errors.NotFoundError:
                # A colleague deleted it, and nothing is put back into what is gone.
                assert status not in ("written", "adjusted", "unchanged")
                continue
            for cell in update.cells:
                if status in ("written", "adjusted", "unchanged"):
                    assert item[FIELDS[cell.column]] == cell.after
            self.refresh_model(int(row_id))
        for name, values in after.items():
            assert values == [self.model[name]], name
        self.settle()

    # --- the others -----------------------------------------------------------------

    @rule(name=st.integers(0, DEALS - 1), column=st.sampled_from(sorted(FIELDS)), data=st.data())
    def edit_behind_his_back(self, name: int, column: str, data: st.DataObject) -> None:
        """A colleague edits."""
        deal = f"Deal {name}"
        values = self.model[deal]
        if values is not None and not self.faulty:
            values[column] = data.draw(VALUES[column])
            self.client.update(self.row_id(deal), {FIELDS[column]: values[column]})

    @rule(name=st.integers(0, DEALS - 1))
    def delete_behind_his_back(self, name: int) -> None:
        """A colleague deletes."""
        deal = f"Deal {name}"
        if self.model[deal] is not None and not self.faulty and sum(v is not None for v in self.model.values()) > 3:
            self.client.delete(self.row_id(deal))
            self.model[deal] = None

    @rule(
        status=st.sampled_from([0, 500, 502, 504]),
        method=st.sampled_from(["PATCH", "POST", "DELETE"]),
        applied=st.booleans(),
        times=st.integers(1, 3),
    )
    def fault_on(self, status: int, method: str, applied: bool, times: int) -> None:
        """The service begins to fail."""
        self.box.fail(status, method=method, applied=applied, times=times)
        self.faulty = True

    @rule()
    def fault_off(self) -> None:
        """The service is well again, and what was left open meanwhile is finished."""
        self.box.switches.faults.clear()
        self.faulty = False
        self.settle()

    # --- what always holds ------------------------------------------------------------

    @invariant()
    def service_is_the_model(self) -> None:
        """Nothing happened that nobody asked for, and nothing stands there twice."""
        has = self.at_service()
        assert all(len(values) == 1 for values in has.values()), has
        known = {name: values for name, values in self.model.items() if values is not None}
        assert {name: values[0] for name, values in has.items()} == known

    @invariant()
    def journals_agree_with_the_service(self) -> None:
        """A deal that a journal calls created is there, or was deleted since; none is there twice."""
        listed = opp.list_journals(self.folder)
        assert listed["rows"].notna().all()
        if not self.faulty:
            unfinished = [n for n in listed.loc[listed["open"] > 0, "plan"] if not self.sent_twice(int(n))]
            assert not unfinished

    def sent_twice(self, number: int) -> bool:
        """All that is open are new deals that were sent twice and cannot be found: they are never sent again."""
        with Journal.open(self.folder, self.client.url) as journal:
            steps = [step for step in journal.steps(number) if step.state in OPEN_STATES]
        return all(step.state == "unknown" and "it cannot be found" in step.facts["detail"] for step in steps)


SETTINGS = settings(
    max_examples=6, stateful_step_count=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
TestMachine = pytest.mark.filterwarnings("ignore::opp_pandas.errors.OppPandasWarning")(Machine.TestCase)
TestMachine.settings = SETTINGS


@pytest.mark.nightly
def test_machine__many_times() -> None:
    """The same with many more and longer histories."""
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Machine, settings=settings(SETTINGS, max_examples=400, stateful_step_count=50, derandomize=False)
    )
