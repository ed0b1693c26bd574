"""A load that merely sees less does not bury what it does not see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import opp_pandas as opp
from conftest import NOW, STAGES
from histories import frame_of, history_in_memory, load_of, moment
from opp_pandas.api.auth.bearer import FixedToken
from opp_pandas.errors import ConfirmationNeededError

if TYPE_CHECKING:
    import pandas as pd

    from opp_pandas.history import History


class Granted(FixedToken):
    """A token of which its owner knows what was granted."""

    def __init__(self, token: str, scope: str) -> None:
        super().__init__(token)
        self.scope = scope


def deals(n: int) -> Any:
    return frame_of([{"id": key, "name": f"deal {key}"} for key in range(1, n + 1)])


@pytest.fixture
def history() -> History:
    made = history_in_memory()
    made.record(load_of(deals(200), 1))
    return made


def test_record__of_half_the_pipeline_asks_first(history: History) -> None:
    """Nothing is recorded until the number of deals that would be gone is confirmed."""
    with pytest.raises(ConfirmationNeededError, match="100 of 200 deals would be recorded as gone") as caught:
        history.record(load_of(deals(100), 2))
    assert caught.value.number == 100
    assert len(history.snapshots()) == 1
    with pytest.raises(ConfirmationNeededError):
        history.record(load_of(deals(100), 2), confirm=99)
    assert history.record(load_of(deals(100), 2), complete=False).gone == 0
    assert len(history.as_of(moment(2))) == 200
    assert history.record(load_of(deals(100), 3), confirm=100).gone == 100


@pytest.mark.parametrize(
    ("left", "max_loss", "asks"), [(190, 0.1, False), (180, 0.1, False), (179, 0.1, True), (150, 0.5, False)]
)
def test_record__asks_above_the_given_share(history: History, left: int, max_loss: float, asks: bool) -> None:
    """Up to a tenth of the deals, or the share that was given, may go in a night."""
    load = load_of(deals(left), 2)
    if asks:
        with pytest.raises(ConfirmationNeededError):
            history.record(load, max_loss=max_loss)
    else:
        assert history.record(load, max_loss=max_loss).gone == 200 - left


def test_record__of_another_users_load_asks_about_any_loss(history: History) -> None:
    """One deal that somebody else does not see is a question, and who recorded is kept."""
    history.record(load_of(deals(200), 2), recorded_by="Ana")
    with pytest.raises(ConfirmationNeededError, match="the load is Ben's and the last one was Ana's"):
        history.record(load_of(deals(199), 3), recorded_by="Ben")
    assert history.record(load_of(deals(199), 3), recorded_by="Ana").gone == 1


def test_record__with_fewer_scopes_asks_about_any_loss() -> None:
    """A sign-in that was granted less may see less."""
    history = history_in_memory()
    with opp.sandbox(opportunities=30, now=NOW) as box, box.client() as other:
        rights = opp.read_opportunities(other, fields=["name"], authorization_meta=True, on_invalid="ignore")

        def load(scope: str) -> pd.DataFrame:
            client = opp.connect(box.url, auth=Granted(box.token, scope))
            assert client.scope == scope
            return opp.read_opportunities(client, on_invalid="ignore", stages=STAGES)

        history.record(load("opportunities.all users.all"), observed_at="2026-10-21")
        other.delete(int(rights.loc[rights["can_delete"], "id"].iloc[0]))
        less = load("opportunities.all")
        with pytest.raises(ConfirmationNeededError, match=r"without the scopes .*users\.all"):
            history.record(less, observed_at="2026-10-22")
        assert history.record(less, observed_at="2026-10-22", confirm=1).gone == 1
