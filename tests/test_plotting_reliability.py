"""The reliability diagram: points, intervals and words, not pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pytest

from opp_pandas import plotting
from opp_pandas.errors import MissingColumnError
from opp_pandas.forecasting import calibration
from test_calibrating import CAME, SAID, deal, load_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


def test_plot_calibration__draws_each_bin_at_its_share() -> None:
    """Points are the table, beside the diagonal; the legend has the scores, the words the numbers."""
    table = calibration((load_of(SAID, 10), load_of(CAME, "2026-06-30")), target="ever", bins=100)
    ax = plotting.plot_calibration(table)
    diagonal, points = ax.lines[0], ax.lines[1]
    assert diagonal.get_xydata().tolist() == [[0, 0], [100, 100]]
    assert points.get_xydata().ravel() == pytest.approx((table[["p_mean", "won_share"]] * 100).to_numpy().ravel())
    assert [text.get_text() for text in ax.texts] == [str(n) for n in table["deals"]]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert f"Brier score {table.attrs['opp_basis']['brier']:.3f}" in legend
    assert ax.get_title(loc="left") == "Calibration, won at all, as of 2026-06-30"
    assert "80% given, 67% won" in plotting.alt_text(ax)
    assert plotting.alt_text(table).endswith(plotting.alt_text(ax).partition(". ")[2])


def test_plot_calibration__says_when_there_is_nothing() -> None:
    """No bins: a sentence instead of bare axes; another table is refused."""
    nothing = calibration((load_of([deal(1, None)], 10), load_of([deal(1, None)], 60)), target="ever")
    ax = plotting.plot_calibration(nothing)
    assert "no probability whose outcome is known" in [text.get_text() for text in ax.texts]
    assert "nothing to show" in plotting.alt_text(ax)
    with pytest.raises(MissingColumnError, match="won_share"):
        plotting.plot_calibration(nothing.drop(columns="won_share"))
