"""Every fact about a status stands beside it, and everybody who lists statuses derives the list."""

from __future__ import annotations

from pathlib import Path

import pytest

from opp_pandas.apply.journal import STATES
from opp_pandas.apply.report import WriteReport
from opp_pandas.apply.status import Outcome, Status
from opp_pandas.changes.plan import ChangeSet

ROOT = Path(__file__).parents[1]
PAGE = "docs/how-to/write_back.md"


@pytest.mark.parametrize("status", Status)
def test_status__is_told_of_everywhere(status: Status) -> None:
    """The state machine, the documentation, the journal and the report know each one: what was forgotten is named."""
    assert str(status) in str(Status.__doc__), f"draw {status!r} in the state machine of Status"
    assert f"`{status}`" in (ROOT / PAGE).read_text(encoding="utf-8"), f"say in {PAGE} what {status!r} means"
    assert status.journal_state in STATES, f"{status!r} is filed under a state that no journal knows"
    assert not (status.ok and status.retry), f"{status!r} is as it was meant to be: why try it again?"


@pytest.mark.parametrize("status", Status)
def test_report__derives_its_verdict_from_the_status(status: Status) -> None:
    """A report is fine where every row is; what waits is counted from the same facts."""
    report = WriteReport(ChangeSet(), [Outcome("update", status, 1)], None, journal=Path("x.journal"))
    assert report.ok == status.ok
    assert ("tries again" in repr(report)) == status.retry
    assert report.counts() == {str(status): 1}
