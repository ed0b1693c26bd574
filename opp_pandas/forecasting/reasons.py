"""What each open deal is expected to bring, and in words why: the deals behind a prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from opp_pandas.figures.core.days import NO_DAY, to_date
from opp_pandas.figures.hygiene_checks import zombie_age
from opp_pandas.forecasting.as_of_view import FAR, SIZE

if TYPE_CHECKING:
    from opp_pandas.figures.core.days import Floats
    from opp_pandas.forecasting.walk_forward import Walk

_LEAST_EFFECT = float(np.log(1.05))
"""What moves a chance by less than a twentieth is no reason."""


def deal_table(walk: Walk, frame: pd.DataFrame, chances: Floats, amounts: Floats, reasons: list[str]) -> pd.DataFrame:
    """Return a row per open deal, the largest expected amount first, with its strongest reasons in words."""
    past, cut = walk.past, walk.cuts[-1]
    rows = past.rows[cut.known.open]
    key = next((column for column in ("id", "custom_id") if column in frame and frame[column].notna().any()), None)
    ages = cut.known.ages
    cycles = (past.closed - past.created)[past.won & (past.closed < FAR)]
    table = pd.DataFrame(
        {
            "id": frame[key].iloc[rows].to_numpy() if key else rows,
            "p": chances,
            "amount": amounts,
            "expected_amount": chances * amounts,
            "age_days": ages,
            "zombie": ages > zombie_age(float(cycles.max(initial=0)), len(cycles)),
            "reasons": reasons,
        }
    )
    return table.sort_values("expected_amount", ascending=False, kind="stable").reset_index(drop=True)


def _level_in_words(name: str, label: str) -> str:
    if name == SIZE:
        power = int(label)
        return f"an amount of {2**power:,} to {2 ** (power + 1):,}" if power >= 0 else "no amount"
    column = name.removesuffix("_name").removesuffix("_id").replace("_", " ")
    return f"{column} missing" if label == "(missing)" else f"{column} {label if label.strip() else 'empty'}"


def reasons_of(walk: Walk, most: int = 3) -> list[str]:
    """Describe in words what makes each deal likelier to be won than the mean open deal, or less likely."""
    cut, share = walk.cuts[-1], walk.column_weights[:, -1]
    plain = cut.chances[""]
    if not len(plain):
        return []
    mean = max(float(plain.mean()), 1e-9)
    words = [[f"open for {age} days" for age in cut.known.ages]]
    effects = [np.log(np.maximum(plain, 1e-9) / mean)]
    for name, weight in zip(walk.columns, share, strict=True):
        if name and weight > 0.01:
            labels, levels = walk.past.columns[name].labels, cut.known.levels(name)
            shown = {code: _level_in_words(name, labels[code]) for code in np.unique(levels).tolist()}
            words.append([shown[code] for code in levels.tolist()])
            effects.append(weight * np.log(np.maximum(cut.chances[name], 1e-9) / np.maximum(plain, 1e-9)))
    bare = walk.deals_at(-1, but="activity")[0]
    if cut.snapshot is not None:
        percent, close = cut.snapshot.p * 100, cut.snapshot.close
        days = [f"dated {to_date(day):%Y-%m-%d}" if day != NO_DAY else "without a close date" for day in close.tolist()]
        stated = ["no percentage" if np.isnan(p) else f"stated {p:.0f} %" for p in percent]
        words.append([f"{one}, {two}" for one, two in zip(stated, days, strict=True)])
        effects.append(np.log(np.maximum(bare, 1e-9) / np.maximum(walk.by_hazards(-1)[0], 1e-9)))
    if walk.past.touched is not None:
        words.append(walk.past.touched.in_words(walk.past, cut.known.day))
        effects.append(np.log(np.maximum(walk.deals_at(-1)[0], 1e-9) / np.maximum(bare, 1e-9)))
    size = np.abs(np.array(effects))
    factors, order = np.exp(effects), np.argsort(-size, axis=0, kind="stable")[:most]
    return [
        "; ".join(
            f"{words[row][deal]}: {factors[row, deal]:.2f} times as likely"
            for row in order[:, deal].tolist()
            if size[row, deal] >= _LEAST_EFFECT
        )
        or "like the mean open deal"
        for deal in range(len(plain))
    ]
