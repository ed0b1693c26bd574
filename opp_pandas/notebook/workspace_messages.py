"""What the workspace shows, as it crosses to the page: numbers, charts and the deals' order; see `messages`."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from opp_pandas.notebook.messages import Answer, Request

Kind = Literal["money", "count", "percent", "ratio"]
Form = Literal["columns", "bars", "bridge"]


class Pick(Struct, frozen=True):
    """One number of one figure, whose deals are looked at: its column, the label of its row, and its name."""

    figure: str
    column: str
    label: str
    title: str


class Card(Struct, omit_defaults=True):
    """One number: `before` is what it was before the edits that wait, where they moved it."""

    title: str
    value: float | None
    kind: Kind
    note: str = ""
    before: float | None = None
    pick: Pick | None = None


class Series(Struct):
    """One measure of a chart: the figure's column, what readers call it, and its colour's role."""

    column: str
    title: str
    tone: Literal["won", "open", "rest", "lost", "alert", "base"]


class Bar(Struct, omit_defaults=True):
    """One row of a chart: a value for each series, what they were before the edits that wait, and the forecast.

    `low` and `high` are the ends of its interval.
    """

    label: str
    values: list[float | None]
    before: list[float | None] = field(default_factory=list)
    count: int | None = None
    quota: float | None = None
    mark: float | None = None
    mark_before: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""
    focus: bool = False


class Chart(Struct, omit_defaults=True):
    """One chart, drawn in the browser: bars of the series, stacked where there are several."""

    figure: str
    title: str
    form: Form
    kind: Kind
    series: list[Series]
    bars: list[Bar]
    summary: str
    note: str = ""


class Outlook(Struct, omit_defaults=True):
    """What the period will bring: `state` says whether it is there, being computed, or why it cannot be."""

    state: Literal["ready", "computing", "none"]
    title: str
    period: str
    period_now: str
    reason: str = ""
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    won: float | None = None
    open: float | None = None
    new: float | None = None
    before: float | None = None
    quota: float | None = None
    p_quota: float | None = None
    tested: str = ""


class Options(Struct):
    """What can be chosen; a team is chosen by its owners."""

    owners: list[str]
    teams: dict[str, list[str]]
    stages: list[str]
    periods: list[str]
    since: list[str]


class Chosen(Struct):
    """What is looked at: nothing means everything, of the period the present one, of `since` the last snapshot."""

    owners: list[str]
    stages: list[str]
    period: str
    since: str
    pick: Pick | None
    picked: int


class Listed(Struct):
    """The first deals of a list that nobody edits, as texts, and how many more there are."""

    columns: list[str]
    rows: list[list[str]]
    more: int


class Picture(Struct, omit_defaults=True):
    """Everything above the list of deals; without a grid below it, also the list."""

    version: int
    as_of: str
    currency: str
    period: str
    shown: int
    total: int
    chosen: Chosen
    options: Options
    outlook: Outlook
    cards: list[Card]
    charts: list[Chart]
    notes: list[str]
    listed: Listed | None = None


class PictureAnswer(Answer, omit_defaults=True):
    """Everything above the list, as it is now."""

    picture: Picture


class OutlookAnswer(Answer, omit_defaults=True):
    """The prediction, as far as it is there."""

    outlook: Outlook


class Look(Request):
    """Look at other deals; empty means all, of the period the present one, of `since` the last snapshot."""

    answer, reads = PictureAnswer, True
    owners: list[str]
    stages: list[str]
    period: str
    since: str


class List(Request):
    """List the deals behind a number only; null: all again."""

    answer, reads = PictureAnswer, True
    pick: Pick | None


class Figures(Request):
    """Ask for the numbers anew, as after an edit."""

    answer, reads = PictureAnswer, True


class Predict(Request):
    """Ask for the prediction, and begin it where nobody did yet."""

    answer, reads = OutlookAnswer, True


REQUESTS: tuple[type[Request], ...] = (Look, List, Figures, Predict)
SHOWN: tuple[type[Struct], ...] = (Picture,)
