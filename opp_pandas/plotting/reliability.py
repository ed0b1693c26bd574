"""Whether probabilities come true: the reliability diagram."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from opp_pandas import forecasting
from opp_pandas.figures.core.basis import counted, known_basis
from opp_pandas.plotting import canvas as kit
from opp_pandas.plotting.descriptions import Nothing, draws

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def _in_words(result: Any, **_: Any) -> str:
    is_model = isinstance(result, forecasting.WinModel)
    table = result.reliability if is_model else result
    brier = float(result.evaluation["brier"].iloc[0]) if is_model else known_basis(table).get("brier")
    if not len(table):
        return Nothing("no probability whose outcome is known")
    each = (
        f"{p:.0%} given, {share:.0%} won ({low:.0%} to {high:.0%}, {counted(n, 'deal')})"
        for p, share, low, high, n in zip(
            table["p_mean"], table["won_share"], table["won_share_low"], table["won_share_high"], table["deals"],
            strict=True,
        )
    )  # fmt: skip
    text = f"{counted(len(table), 'bin')}: {'; '.join(list(each)[:12])}."
    return text + ("" if brier is None else f" Brier score {brier:.3f}.")


@draws(forecasting.calibration, _in_words, "p_low p_high p_mean deals won_share won_share_low won_share_high")
def plot_calibration(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how often deals were won against the probability that was given to them.

    Returns
    -------
    Axes
        A point per bin, with the interval of the share won and, above it, the
        number of distinct deals; the thin line shows the probabilities in the
        bin. On the diagonal probabilities come true; below it they were too high.

    Examples
    --------
    >>> ax = df.opp.plot.calibration(history, target=90, times=["2026-05-10", "2026-07-10"])
    """
    basis = known_basis(table)
    return _draw(table, ax, table, str(basis.get("title", "Calibration")), basis)


@draws(forecasting.fit_win_model, _in_words, name="win_model")
def plot_win_model(result: Any, ax: Axes | None = None) -> Axes:
    """Draw whether the probabilities of a model of won deals come true, on deals that it had not seen.

    Returns
    -------
    Axes
        The diagonal is perfect calibration; bars are intervals of the share won.

    Examples
    --------
    >>> ax = df.opp.plot.win_model(features=["amount", "owner_name"])
    """
    scores = result.evaluation.iloc[0].to_dict()
    scores["skill"] = 1 - scores["brier"] / scores["brier_base"]
    title = f"Win model, {scores['n']:,.0f} closed deals that it had not seen"
    return _draw(result.reliability, ax, result, title, scores)


def _draw(table: pd.DataFrame, ax: Axes | None, result: Any, title: str, scores: Mapping[Any, Any]) -> Axes:
    with kit.canvas(ax, result, title, width=7.0, height=5.0) as axes:
        look = kit.look_of(axes)
        p, share = (table[name].to_numpy(dtype=float) * 100 for name in ("p_mean", "won_share"))
        low, high = (table[name].to_numpy(dtype=float) * 100 for name in ("won_share_low", "won_share_high"))
        start, end = (table[name].to_numpy(dtype=float) * 100 for name in ("p_low", "p_high"))
        diagonal = axes.plot([0, 100], [0, 100], "--", color=kit.GREY)
        ranges = axes.hlines(share, start, end, color=kit.BLUE, linewidth=1, alpha=0.5)
        points = axes.errorbar(p, share, yerr=np.abs([low - share, high - share]), fmt="o", color=kit.BLUE, capsize=3)
        for x, y, n in zip(p, np.minimum(high, 100), table["deals"], strict=True):
            # On a patch of the ground: the diagonal runs behind many of them.
            patch: dict[str, Any] = {"facecolor": axes.get_facecolor(), "edgecolor": "none", "pad": 0.8}
            note: dict[str, Any] = {"ha": "center", "color": look.notes, "size": 8, "bbox": patch}
            axes.annotate(f"{n:,}", (x, y), (0, 4), textcoords="offset points", **note)
        axes.set_xlim(-3, 103)
        axes.set_ylim(-3, 108)
        axes.set_xlabel("probability given [%]")
        axes.set_ylabel("deals won [%]")
        axes.grid(visible=True, linewidth=0.5)
        legend: list[tuple[str, Any]] = [("probabilities come true", diagonal)]
        legend += [("won, with interval; deals", points), ("probabilities in the bin", ranges)]
        if scores.get("brier") is not None:
            # Legend entries without a line of their own: the scores.
            texts = [f"Brier score {scores['brier']:.3f}"]
            if isinstance(scores.get("skill"), float):
                texts.append(f"skill {scores['skill']:.0%}")
            legend += [(text, axes.plot([], [], " ")) for text in texts]
        kit.add_legend(axes, legend)
    return axes
