"""What is shown of a frame and answered, without a browser: numbers, charts, and the deals behind each of them.

Every number is a registered figure's. `PictureModel` shows deals that stand still; a workspace's model follows edits.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, OppPandasError, named, printable
from opp_pandas.figures import funnel, waterfall, waterfall_deals
from opp_pandas.figures.core.basis import basis_of, counted
from opp_pandas.figures.core.days import to_date
from opp_pandas.figures.core.deals import suppress_unmapped_stages
from opp_pandas.figures.core.explanations import explain
from opp_pandas.figures.core.presentation import write_column
from opp_pandas.figures.core.snapshots import resolve_scope
from opp_pandas.forecasting.distribution import RHO
from opp_pandas.notebook import charts
from opp_pandas.notebook import workspace_messages as messages
from opp_pandas.notebook.deal_numbers import Numbers
from opp_pandas.notebook.outlook import OutlookMaker
from opp_pandas.notebook.selection import NO_DATE, Choice, Selection
from opp_pandas.notebook.workspace_messages import (
    Chart,
    Chosen,
    Listed,
    Options,
    Outlook,
    OutlookAnswer,
    Pick,
    Picture,
    PictureAnswer,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.notebook.cells import Places
    from opp_pandas.notebook.messages import Answer, Request

MOST_SNAPSHOTS = 12
MOST_LISTED = 100
URGENT = ("overdue", "untouched")
"""Checks whose deals stand first in the list."""
START = "start of the period"
_LISTED = ("reasons", "owner_name", "stage_name", "amount", "close_date")
_SAVED = {"stage_distribution": "stages", "hygiene": "attention"}
"""Names of files that are not their figure's."""


class PictureModel:
    """Numbers and charts of deals, what is looked at, and the deals behind one number; errors as of `Selection`."""

    def __init__(
        self, frame: pd.DataFrame, context: FigureContext, history: Any = None, quota: Any = None, rho: float = RHO
    ) -> None:
        self._frame, self.context, self.history, self._quota, self._rho = frame, context, history, quota, rho
        self.choice, self.since = Choice(), ""
        self.pick: Pick | None = None
        self.listed: Places = np.empty(0, dtype=np.int64)
        self.actions: dict[type[Request], Callable[[Any], Answer]] = {
            messages.Look: self._on_look,
            messages.List: self._on_list,
            messages.Figures: lambda _: PictureAnswer(picture=self.picture()),
            messages.Predict: lambda _: OutlookAnswer(outlook=self.outlook()),
        }
        """What answers each request."""
        self._states: dict[pd.Timestamp, pd.DataFrame] = {}
        self._taken = self._snapshots()
        self._outlook = OutlookMaker(history)
        self._cache: dict[Any, Any] = {}

    # --- the deals --------------------------------------------------------------------------

    def _remember(self, name: str, key: Any, work: Callable[[], Any]) -> Any:
        """Return what was worked out for this key, or work it out; only the newest of a name is kept."""
        if self._cache.get(name, (None, None))[0] != key:
            self._cache[name] = key, work()
        return self._cache[name][1]

    def _keyed(self) -> tuple[Any, Callable[[], pd.DataFrame]]:
        """Return the deals as they are now, by a key that tells one state of them from another; rows bear numbers."""
        return 0, lambda: self._frame.set_axis(pd.RangeIndex(len(self._frame)))

    def _keyed_before(self) -> tuple[Any, Callable[[], pd.DataFrame]] | None:
        """Return the deals as they were before the edits that wait; None where there are none."""
        return None

    def _numbers(self, name: str, keyed: tuple[Any, Callable[[], pd.DataFrame]]) -> Numbers:
        key, frame = keyed
        selection = self._remember(f"{name} deals", key, lambda: Selection(frame(), self.context, self._quota))
        choice = self._within(selection)

        def of(choice: Choice, everyone: Numbers | None = None) -> Numbers:
            # What is chosen changes with every tick, what it is a part of stays.
            kept = f"{name} of some" if everyone else f"{name} of all"
            work = lambda: Numbers(selection, choice, self._rho, everyone)  # noqa: E731 - worked out or not
            numbers: Numbers = self._remember(kept, (key, choice), work)
            return numbers

        everyone = of(replace(choice, owners=()))
        return of(choice, everyone) if choice.owners else everyone

    def _within(self, selection: Selection) -> Choice:
        """Leave out of the choice what no deal has after an edit."""
        owners = tuple(name for name in self.choice.owners if name in selection.owners)
        stages = tuple(name for name in self.choice.stages if name in selection.stages)
        return replace(self.choice, owners=owners, stages=stages)

    @property
    def now(self) -> Numbers:
        """The figures of the deals as they are."""
        return self._numbers("now", self._keyed())

    @property
    def before(self) -> Numbers | None:
        """The figures of the deals as they were loaded; None where nothing differs from that."""
        keyed = self._keyed_before()
        return None if keyed is None else self._numbers("before", keyed)

    # --- what is asked ---------------------------------------------------------------------

    def _on_look(self, request: messages.Look) -> PictureAnswer:
        self.look(request.owners, request.stages, request.period, request.since)
        return PictureAnswer(picture=self.picture())

    def _on_list(self, request: messages.List) -> PictureAnswer:
        n = self.choose_pick(request.pick)
        return PictureAnswer(picture=self.picture(), said=f"{counted(n, 'deal')} listed")

    def look(
        self, owners: Sequence[str] = (), stages: Sequence[str] = (), period: str | None = None, since: str = ""
    ) -> None:
        """Look at these owners and stages (none: all) and this period (the present one), with changes since a snapshot.

        Raises
        ------
        ConfigurationError
            If a name is not listed.
        """
        wanted = Choice(tuple(owners), tuple(stages), period or None)
        self.now.selection.rows(wanted)
        if since and since not in self._since():
            raise ConfigurationError(
                f"there is no snapshot of {printable(since, 40)}; there are {named(self._since(), 12)}"
            )
        self.choice, self.since, self.pick = wanted, since, None
        self.arrange()

    def owners_of(self, teams: Sequence[str]) -> list[str]:
        """Return the listed owners who are in one of these teams, each of which has to have a deal."""
        selection = self.now.selection
        if unknown := [team for team in teams if team not in selection.teams]:
            raise ConfigurationError(f"no deal is of the team {named(unknown)}; there are {named(selection.teams, 12)}")
        inside = {name for team in teams for name in selection.teams[team]}
        return [name for name in selection.owners if name in inside]

    def choose_pick(self, pick: Pick | None) -> int:
        """Show the deals behind a number only, or all again; give how many."""
        self._behind(pick)
        self.pick = pick
        self.arrange()
        return self._count()

    def _behind(self, pick: Pick | None) -> Places | None:
        """Find the rows behind a number."""
        if pick is None:
            return None
        now = self.now
        if pick.figure == "waterfall":
            ends, options, _ = self._changes(now)
            table = waterfall_deals(ends, **options, bucket=pick.label or None)
            return self._rows_of_ids(table["id"])
        if pick.figure == "ageing":
            return now.ages.index[now.ages["span"] == pick.label].to_numpy(dtype=np.int64)
        column = pick.column
        at: Any = pd.NaT if pick.label == NO_DATE else pick.label or None
        if pick.figure == "owners":
            at = (now.period, pick.label)
        elif pick.figure == "hygiene":
            column, at = pick.label, None
        frame = (now.of_all_owners or now).frame if pick.figure == "owners" else now.frame
        found = explain(now.figure(pick.figure), frame, context=self.context, column=column, at=at)
        return found.rows.index.to_numpy(dtype=np.int64)

    def _rows_of_ids(self, ids: pd.Series) -> Places:
        frame = self.now.selection.frame
        return frame.index[frame["id"].isin(ids)].to_numpy(dtype=np.int64)

    def arrange(self) -> None:
        """Choose and order the deals of the list anew: urgent ones, others with a reason, other open ones, closed."""
        now = self.now
        uids = now.selection.frame.index.to_numpy()
        checks = now.hygiene["checks"]
        urgent = checks.str.split(", ").map(lambda names: bool(set(URGENT) & set(names))).to_numpy(dtype=bool)
        flagged = checks.index.to_numpy()
        rest = np.argsort(-now.selection.amounts, kind="stable")
        rest = np.concatenate([rest[now.selection.is_open[rest]], rest[~now.selection.is_open[rest]]])
        ranked = np.concatenate([flagged[urgent], flagged[~urgent], uids[rest]])
        within = self._behind(self.pick)
        chosen = now.selection.rows(self._within(now.selection))
        if within is None and not chosen.all():
            within = uids[chosen]
        # A deal stands where it is named first.
        self._list(ranked[np.sort(np.unique(ranked, return_index=True)[1])], within)

    def _list(self, rank: Places, within: Places | None) -> None:
        """List deals in this order, or only some of them."""
        self.listed = rank if within is None else rank[np.isin(rank, within)]

    # --- what is shown -----------------------------------------------------------------------

    def picture(self) -> Picture:
        """Return everything that is shown."""
        with suppress_unmapped_stages():
            now, before = self.now, self.before
            notes: list[str] = []
            now.selection.quota_for(now.choice, notes)
            drawn = [
                charts.forecast_chart(now, before),
                charts.owners_chart(now, before),
                charts.stages_chart(now, before, self._funnel(now, notes)),
                charts.ages_chart(now, before),
                charts.attention_chart(now, before),
                self._bridge(now, notes),
            ]
            reasons = now.hygiene["reasons"]
            self._explain_rows(dict(zip(reasons.index.tolist(), reasons.tolist(), strict=True)))
            selection = now.selection
            teams = {team: [*names] for team, names in selection.teams.items()}
            return Picture(
                version=self._keyed()[0],
                as_of=f"{self.context.local_as_of:%Y-%m-%d}",
                currency=str(basis_of(now.forecast).get("currency") or ""),
                period=now.period,
                shown=int(now.rows.sum()),
                total=len(selection.frame),
                chosen=Chosen(
                    [*now.choice.owners], [*now.choice.stages], now.choice.period or "", self.since, self.pick,
                    self._count(),
                ),
                options=Options(selection.owners, teams, selection.stages, selection.periods, self._since()),
                outlook=self.outlook(begin=False),
                cards=charts.cards_of(now, before),
                charts=[chart for chart in drawn if chart is not None],
                notes=notes,
                listed=self._shown_list(),
            )  # fmt: skip

    def _count(self) -> int:
        return len(self.listed)

    def _explain_rows(self, reasons: Mapping[int, str]) -> None:
        """Let every deal of the list say why it stands where it does."""
        self._reasons = reasons

    def listed_frame(self) -> pd.DataFrame:
        """The deals that are listed, in their order."""
        return self._frame.iloc[self.listed]

    def _shown_list(self) -> Listed | None:
        """Write the first deals of the list as a table."""
        places = self.listed[:MOST_LISTED]
        selection = self.now.selection
        rows = selection.frame.iloc[places]
        rows = rows.assign(reasons=[self._reasons.get(place, "") for place in places.tolist()])
        if selection.owners:
            # Two of one name are told apart, as in the charts.
            rows = rows.assign(owner_name=selection.names_of("owners")[places])
        named = "name" if "name" in rows.columns else "id"
        columns = [column for column in (named, *_LISTED) if column in rows.columns]
        texts = [write_column(rows[column], self.context.timezone) for column in columns]
        return Listed(columns, list(map(list, zip(*texts, strict=True))), len(self.listed) - len(places))

    def _funnel(self, now: Numbers, notes: list[str]) -> pd.DataFrame | None:
        """Determine how many deals came how far, where a history knows it."""
        if self.history is None:
            return None
        try:
            entries = self._remember("entries", 0, self.history.stage_entries)
            return funnel(now.frame, history=entries[entries["id"].isin(now.frame["id"])], context=self.context)
        except OppPandasError as error:
            notes.append(f"how many deals came how far cannot be told: {printable(error, 300)}")
            return None

    # --- what changed --------------------------------------------------------------------------

    def _snapshots(self) -> dict[str, pd.Timestamp]:
        """List the newest snapshots that were taken before the load, by the clocks of its zone."""
        if self.history is None:
            return {}
        taken = pd.DatetimeIndex(self.history.snapshots()["observed_at"]).unique().sort_values()
        self._first = taken.min()
        earlier = taken[taken < self.context.as_of]
        newest = (earlier if len(earlier) else taken)[-MOST_SNAPSHOTS:][::-1]
        return {f"{moment.tz_convert(self.context.timezone or 'UTC'):%Y-%m-%d %H:%M}": moment for moment in newest}

    def _since(self) -> list[str]:
        """List from when changes can be told."""
        return [*self._taken, *([START] if self._taken else [])]

    def _state(self, moment: pd.Timestamp) -> pd.DataFrame:
        """Read a moment of the history once."""
        if moment not in self._states:
            self._states = {**dict([*self._states.items()][-1:]), moment: self.history.as_of(moment)}
        return self._states[moment]

    def _changes(self, now: Numbers) -> tuple[Any, dict[str, Any], str]:
        """Return what a waterfall of the period in focus is made of: both ends, its options, and since when."""
        selection = now.selection
        ordinal = np.array([selection.ordinal_of.get(now.period, selection.today)])
        first, last = (to_date(int(ends(ordinal)[0])) for ends in (selection.cut.starts, selection.cut.ends))
        later, since = selection.frame, self.since or next(iter(self._taken), "")
        if since == START:
            zone = self.context.timezone or "UTC"
            begins, ends = (pd.Timestamp(day).tz_localize(zone) for day in (first, last + pd.Timedelta(days=1)))
            moment = max(begins, self._first.tz_convert(zone))
            words, earlier = f"since {moment:%Y-%m-%d}", self._state(moment)
            if ends <= self.context.as_of:
                later, words = self._state(ends), f"{words} until {last}"
        elif since:
            words, earlier = f"since {since}", self._state(self._taken[since])
        else:
            keyed = self._keyed_before()
            words, earlier = "by the edits that wait", selection.frame if keyed is None else keyed[1]()
        scope = self.context.scope
        if not now.rows.all():
            scope = resolve_scope(now.rows, scope, selection.frame)
        context = replace(self.context, scope=scope)
        return (earlier, later), {"period": (first, last), "context": context}, words

    def _bridge(self, now: Numbers, notes: list[str]) -> Chart | None:
        if now.period == NO_DATE or not (self._taken or self._keyed_before()):
            return None
        try:
            ends, options, words = self._changes(now)
            chart = charts.bridge_chart(waterfall(ends, **options), now.period, words)
            # Edits that move nothing of the period have no picture.
            return chart if self._taken or len(chart.bars) > 2 else None
        except OppPandasError as error:
            notes.append(f"what changed cannot be told: {printable(error, 300)}")
            return None

    # --- what the period will bring ---------------------------------------------------------------

    def outlook(self, *, begin: bool = True) -> Outlook:
        """Return what the period will bring; with ``begin``, a prediction is begun where nobody did yet."""
        before, keyed = self.before, self._keyed_before()
        earlier = None if before is None or keyed is None else (keyed[0], before)
        return self._outlook.of((self._keyed()[0], self.now), earlier, begin=begin)

    def wait(self, timeout_s: float | None = None) -> Outlook:
        """Wait until the prediction is there."""
        self.outlook()
        self._outlook.wait(timeout_s)
        return self.outlook()

    # --- files --------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the charts as PNG and SVG, as `df.opp.plot` draws them; give the files."""
        from opp_pandas.reporting.images import draw, to_svg

        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        with suppress_unmapped_stages():
            now, written = self.now, []
            tables = {name: now.figure(name) for name in ("forecast", "stage_distribution", "ageing", "hygiene")}
            if self._bridge(now, []) is not None:
                ends, options, _ = self._changes(now)
                tables["waterfall"] = waterfall(ends, **options)
            for name, table in tables.items():
                axes = draw(f"plot_{name}", table, {}, narrow=False)
                stem = target / f"{_SAVED.get(name, name)}-{self.context.local_as_of:%Y-%m-%d}"
                figure: Any = axes.get_figure(root=True)
                figure.savefig(stem.with_suffix(".png"), dpi=150, facecolor="white")
                stem.with_suffix(".svg").write_text(to_svg(axes, name, themed=False), encoding="utf-8")
                written += [stem.with_suffix(ending) for ending in (".png", ".svg")]
        return written
