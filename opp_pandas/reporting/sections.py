"""The sections that come with the package: each takes a `Material` and gives a `Section`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, printable
from opp_pandas.figures.core.basis import basis_of, counted, known_basis
from opp_pandas.figures.core.days import local_days, to_dates
from opp_pandas.figures.core.figure import FIGURES, PLOTS
from opp_pandas.figures.hygiene_checks import CHECKS
from opp_pandas.kinds import is_missing
from opp_pandas.plotting.descriptions import chance
from opp_pandas.reporting.blocks import Drawing, Headlines, Section, Table, Tile, in_words, written

if TYPE_CHECKING:
    from opp_pandas.figures.core.days import Codes
    from opp_pandas.forecasting import Bookings
    from opp_pandas.reporting.report_data import Material

_FORECAST = (
    "open_count", "open_amount", "weighted_amount", "won_amount", "forecast_amount", "overdue_amount", "quota",
    "attainment", "gap_to_forecast", "coverage",
)  # fmt: skip
_KEYS = ("id", "custom_id")


def standing(material: Material) -> str:
    """Describe in a sentence or two how the present period stands."""
    kpis, foretold, sum_of_sellers = material.kpis, material.prediction, material.bookings
    money = _money_of(kpis)
    begin = f"{material.period}, with {counted(material.days_left, 'day')} left: "
    if "amount" not in material.frame.columns or material.frame["amount"].isna().all():
        return f"{begin}no deal has an amount, so that every sum is 0, and no quota or chance means anything."
    won = f"{begin}{money(sum_of_sellers.won_amount)} won"
    quota = kpis["quota"].iloc[0] if "quota" in kpis.columns else np.nan
    if not is_missing(quota):
        won += f", {written(kpis['attainment'].iloc[0], 'share')} of the quota of {money(quota)}"
    found = foretold or sum_of_sellers
    end = "The prediction for its end is" if foretold else "Won and weighted amounts add up to"
    text = f"{won}. {end} {money(found.mean)}, 80 % between {_between(found)}"
    if not is_missing(quota):
        gap = found.mean - quota
        against = (
            "just the quota" if round(gap) == 0 else f"{money(abs(gap))} {'above' if gap > 0 else 'short of'} the quota"
        )
        text += f": {against}, and the chance to reach it is {chance(found.p_at_least(quota))}"
    return f"{text} ({found.tested})."


def headline(material: Material) -> Section:
    """The numbers that people ask for first, with their intervals."""
    kpis, bookings = material.kpis, material.bookings
    row: dict[str, Any] = {str(name): kpis[name].iloc[0] for name in kpis.columns}
    period, money = material.period, _money_of(kpis)
    foretold = material.prediction
    tiles = []
    if foretold is not None:
        detail = f"80 % between {_between(foretold)}; {foretold.tested}"
        tiles.append(Tile(f"Predicted for {period}", money(foretold.mean), detail, foretold.mean, "money"))
    detail = f"80 % between {_between(bookings)}, not tested"
    tiles.append(Tile(_sum_words(material), money(bookings.mean), detail, bookings.mean, "money"))
    quota = row.get("quota")
    if quota is not None and not is_missing(quota):
        reached = written(row["attainment"], "share")
        won = row["period_won_amount"]
        p = (foretold or bookings).p_at_least(quota)
        tiles += [
            Tile(f"Won in {period}", money(won), f"{reached} of the quota {money(quota)}", won, "money"),
            Tile("Chance of the quota", chance(p), f"{money(row['gap'])} still to win", p, "share"),
            Tile("Coverage", written(row["coverage"], "ratio") or "none",
                 f"open in {period} {money(row['period_open_amount'])} / still to win", row["coverage"], "ratio"),
        ]  # fmt: skip
    else:
        won = bookings.won_amount
        tiles.append(Tile(f"Won in {period}", money(won), "up to now", won, "money"))
    open_deals = counted(row["open_count"], "deal")
    weighted = f"{open_deals}, weighted {money(row['weighted_amount'])}"
    tiles.append(Tile("Open pipeline", money(row["open_amount"]), weighted, row["open_amount"], "money"))
    closed = int(row["won_count"] + row["lost_count"])
    rate = written(row["win_rate"], "share") or "unknown"
    around = f"{written(row['win_rate_low'], 'share')} to {written(row['win_rate_high'], 'share')}"
    detail = f"{around}, from {counted(closed, 'closed deal')}" if closed else "no deal was closed"
    tiles.append(Tile("Win rate", rate, detail, row["win_rate"], "share"))
    cycle = written(row["median_cycle_days"], "days")
    if cycle:
        detail = f"average deal {money(row['average_won_amount'])}" if row["won_count"] else ""
        tiles.append(Tile("Sales cycle", f"{cycle} days", detail, row["median_cycle_days"], "days"))
    overdue = counted(row["overdue_count"], "open deal") + " past the close date"
    tiles.append(Tile("Overdue", money(row["overdue_amount"]), overdue, row["overdue_amount"], "money"))
    spread = f"{bookings.assumption}; {bookings.tested}"
    told = (
        f"The prediction: {foretold.target}; {foretold.why}." if foretold else f"No prediction: {material.predicted}."
    )
    summed = f"{_sum_words(material)}: won and weighted amounts; its interval: 80 %, {spread}."
    notes = [told, f"{summed} The win rate's: {100 * material.level:g} % (Wilson)."]
    stands_on = (kpis, bookings) if foretold is None else (foretold, kpis, bookings)
    return Section("Headlines", Headlines(tiles), notes=notes, figures=stands_on, terms=_HEADLINE_TERMS)


def _between(found: Bookings) -> str:
    low, high = found.interval(0.8)
    return f"{written(low, 'money')} and {written(high, 'money')}"


def _sum_words(material: Material) -> str:
    """Name the sum of won and weighted amounts after those whose percentages are in it."""
    stated = basis_of(material.bookings)["arguments"]["probability"]
    whose = {"own": "Sellers' sum", "stage": "Stages' sum"}
    return f"{whose.get(stated, 'Weighted sum')} {material.period}"


_HEADLINE_TERMS = (
    "open_amount", "weighted_amount", "overdue_amount", "win_rate", "win_rate_low", "win_rate_high",
    "average_won_amount", "median_cycle_days", "attainment", "gap", "coverage", "mean", "quantile", "p_at_least",
)  # fmt: skip


def predict(material: Material) -> Section:
    """What the present period is predicted to bring, of what parts, and how such forecasts did before."""
    title = f"Prediction for {material.period}"
    if isinstance(material.predicted, str):
        return Section(title, f"No prediction: {material.predicted}.")
    found, methods = material.predicted
    basis = basis_of(methods)
    quota = basis["arguments"]["quota"]
    tested = f"{found.tested[:1].upper()}{found.tested[1:]}"
    blocks: list[Any] = [f"Predicted is what is {found.target}. {tested}."]
    blocks.append(Drawing("plot_predict", found, {"quota": quota}))
    parts = found.to_frame().rename(index={"won": "won to date", "open": "open deals", "new": "new deals"})
    kinds: dict[str, Any] = {"deals": "deals", "mean": "money", "low_80": "money", "high_80": "money"}
    blocks.append(Table(parts, f"Parts of {material.period}", kinds, _PREDICTED, currency=_currency(found)))
    if len(found.windows):
        blocks.append(Drawing("plot_track_record", found))
        past, names = found.windows.drop(columns="crps"), {"as_of": "last day known", **_PREDICTED}
        cells: dict[str, Any] = dict.fromkeys(past.columns, "money") | {"as_of": "day", "until": "day"}
        blocks.append(Table(past, "Past windows", cells, names, currency=_currency(found), beside_chart=True))
    columns = ["mean", "low_80", "high_80", "p_quota", "windows", "wape", "bias", "crps", "coverage_80"]
    # Of a few windows nobody can tell how often an interval holds.
    left_out = {"p_quota": quota is None, "coverage_80": basis["few_windows"]}
    shown = methods[[name for name in columns if not left_out.get(name)]]
    shown = shown.set_axis(shown.index.str.replace("_", " "))
    kinds |= {"p_quota": "share", "wape": "share", "bias": "share", "crps": "money", "coverage_80": "share"}
    caption = f"Methods side by side; {basis['verdict']}"
    blocks.append(Table(shown, caption, kinds, _PREDICTED, currency=_currency(methods)))
    notes = [f"Method {found.method}: {found.why}."]
    return Section(title, *blocks, notes=notes, figures=(found, methods))


_PREDICTED = {
    "mean": "expected", "low_80": "80 % from", "high_80": "80 % to", "p_quota": "chance of the quota", "wape": "error",
    "crps": "score (CRPS)", "coverage_80": "80 % held",
}  # fmt: skip


def forecast(material: Material) -> Section:
    """The forecast by period, against the quota where there is one."""
    whole = material.forecast
    table = material.around_now(whole)
    columns = [name for name in _FORECAST if name in table.columns]
    left_out = len(whole) - len(table)
    notes = [f"{counted(left_out, 'period')} further away not shown"] if left_out else []
    title = "Forecast" if material.quota is None else "Forecast against quota"
    if not len(whole):
        return Section(title, "There is no open or won deal.", figures=(whole,))
    foretold = material.prediction
    low, high = (foretold or material.bookings).interval(0.8)
    here = table.index[[str(period) == material.period for period in table.index]]
    interval = pd.DataFrame({"low": [low] * len(here), "high": [high] * len(here)}, index=here)
    picture = Drawing("plot_forecast", table, {"interval": interval})
    whose = "its 80 % interval" if foretold is None else "the 80 % interval of the prediction"
    notes.append(f"The line in {material.period}: {whose}.")
    rows = Table(table[columns], "Forecast by period of the close date", currency=_currency(table))
    return Section(title, picture, _periods_in_words(rows), notes=notes, figures=(whole,))


def bookings(material: Material) -> Section:
    """The distribution of what the present period may bring by the percentages that are stated."""
    result = material.bookings
    quota = material.kpis["quota"].iloc[0] if "quota" in material.kpis.columns else None
    target = None if quota is None or is_missing(quota) else float(quota)
    picture = Drawing("plot_bookings", result, {"quota": target})
    table = Table(result.to_frame(), f"Bookings in {material.period}", _BOOKING_KINDS, currency=_currency(result))
    return Section(f"What {material.period} may bring by the percentages", picture, table, figures=(result,))


_BOOKING_KINDS: Mapping[str, Any] = dict.fromkeys(("mean", "sd", "p10", "p25", "p50", "p75", "p90"), "money")


def coverage(material: Material) -> Section:
    """How far the open pipeline covers what is still to be won."""
    if material.quota is None:
        raise ConfigurationError("coverage compares with a quota: give quota=")
    by_group = material.group_quota is not None
    table = material.groups if by_group else material.around_now(material.forecast, before=0)
    known = table[table["quota"].notna()]
    if not len(known):
        return Section("Coverage", f"No quota is stated for {material.period} or later.", figures=(table,))
    won = "period_won_amount" if by_group else "won_amount"
    still = "period_open_amount" if by_group else "open_amount"
    columns = ["quota", won, "attainment", "gap", still, "coverage"]
    caption = f"Coverage {f'in {material.period} ' if by_group else ''}by {_words(table)}"
    shown = known.iloc[: material.max_rows]
    rows = _periods_in_words(Table(shown[columns], caption, of=len(known), currency=_currency(table)))
    picture = Drawing("plot_coverage", known, {"max_rows": material.max_rows})
    return Section("Coverage", picture, rows, figures=(table,))


def groups(material: Material) -> Section:
    """The groups that `by` names, one beside the other."""
    table = material.groups
    order = np.argsort(-table["weighted_amount"].to_numpy(), kind="stable")
    shown = table.iloc[order[: material.max_rows]]
    title = f"By {str(material.by).removesuffix('_name').replace('_', ' ')}"
    if not len(table):
        return Section(title, "There is no deal.", figures=(table,))
    days = basis_of(table)["arguments"].get("window_days")
    closed = f"Closed deals by {_words(table)}" + (f" in the last {days} days" if days else "")
    decided = table[table["won_count"] + table["lost_count"] > 0]
    picture = [Drawing("plot_win_rates", decided, {"max_groups": material.max_rows})] if len(decided) else []
    # What is open and what was closed are different deals: each stands in a table of its own.
    tables = [
        Table(shown[[*columns]], caption, of=len(table), currency=_currency(table))
        for caption, columns in ((f"Open deals by {_words(table)}", _OPEN), (closed, _CLOSED))
    ]
    return Section(title, tables[0], *picture, tables[1], figures=(table,))


_OPEN = ("open_count", "open_amount", "weighted_amount", "overdue_count", "overdue_amount")
_CLOSED = ("won_count", "lost_count", "win_rate", "win_rate_low", "win_rate_high", "average_won_amount",
           "median_cycle_days")  # fmt: skip


def funnel(material: Material) -> Section:
    """Funnel with a history; without one, the stage distribution."""
    table = material.funnel
    title = str(basis_of(table).get("title", "Stage distribution"))
    passed = "reached" in table.columns
    picture = Drawing("plot_conversion" if passed else "plot_stage_distribution", table)
    columns = ["count", "amount", "weighted_amount"]
    columns += ["reached", "step_conversion", "overall_conversion", "lost_count", "still_count"] if passed else []
    notes = () if passed else ("Where the deals stand now; how many of them went on is known from a history only.",)
    labels = {"count": "deals", "lost_count": "lost from here", "still_count": "still here"}
    rows = Table(table[columns], "Deals by stage", labels=labels, currency=_currency(table))
    return Section(title, picture, rows, notes=notes, figures=(table,))


def waterfall(material: Material) -> Section:
    """What moved since the last snapshot."""
    table = material.waterfall
    basis = basis_of(table)
    ends = table.index.isin(["start", "end"])
    shown = table[(table["count"] > 0) | ends]
    since = str(basis["since"])[:16].replace("T", " ")
    meanings = pd.Series([basis["definitions"][name] for name in shown.index], index=shown.index, dtype="str")
    rows = shown[["count", "amount"]].assign(meaning=meanings)
    rows.index = rows.index.str.replace("_", " ")
    caption = f"Open pipeline of {material.period} since {since}"
    labels = {"bucket": "move", "count": "deals"}
    return Section(
        "Changes since the last snapshot" if material.since is None else f"Changes since {since[:10]}",
        Drawing("plot_waterfall", table),
        Table(rows, caption, labels=labels, currency=_currency(table)),
        figures=(table,),
    )


def _superlative(rank: int) -> str:
    """Return "largest", "2nd largest" and so on."""
    ending = "th" if 10 < rank % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return "largest" if rank == 1 else f"{rank}{ending} largest"


def deals(material: Material) -> Section:
    """The open deals that matter most or need a look: each once, with every reason."""
    ageing, flagged, foretold = material.ageing, material.hygiene, material.prediction
    title = "Deals to look at"
    few = max(material.max_rows // 3, 1)
    amounts = ageing["amount"].dropna()
    reasons: dict[int, list[str]] = {}
    for rank, place in enumerate(amounts.sort_values(ascending=False, kind="stable").index[:few].tolist(), 1):
        reasons.setdefault(place, []).append(f"{_superlative(rank)} open deal")
    chances = pd.Series(dtype="float64")
    if foretold is not None:
        chances = pd.Series(foretold.chances, index=foretold.attrs["positions"])
        amount = foretold.amounts * foretold.chances
        expected = [place for place in np.argsort(-amount, kind="stable")[:few] if amount[place] > 0]
        whys = foretold.deals["reasons"].head(len(expected))
        for place, why in zip(chances.index[expected].tolist(), whys, strict=True):
            # The reason that weighs most; `predict().deals` has them all.
            most = str(why).partition("; ")[0]
            reasons.setdefault(place, []).append(f"counts for {material.period}" + (f" ({most})" if most else ""))
    for place, why in flagged["reasons"].items():
        reasons.setdefault(cast("int", place), []).append(str(why))
    if not reasons:
        text = "No open deal has an amount or needs a look." if len(ageing) else "There is no open deal."
        return Section(title, text, figures=(ageing,))
    every = material.frame.get("amount", pd.Series(index=material.frame.index)).loc[[*reasons]].astype("Float64")
    order = every.sort_values(ascending=False, kind="stable", na_position="last").index
    places = order[: material.max_rows].to_numpy()
    rows = _facts(material, places, ("name", "amount", "close_date", "owner_name"))
    rows["stage_name"] = ageing["stage_name"].reindex(places).to_numpy()
    if foretold is not None:
        rows["chance"] = chances.reindex(places).to_numpy()
    rows["reasons"] = ["; ".join(reasons[place]) for place in places.tolist()]
    # One key is enough to find a deal by: the service's own, where it has one.
    known = "id" in material.frame.columns and material.frame["id"].iloc[places].notna().all()
    rows = rows.join(_facts(material, places, ("next_step", *(("id",) if known else _KEYS))))
    head = "name" if "name" in rows else next((key for key in _KEYS if key in rows), "reasons")
    rows.insert(0, head, rows.pop(head))
    shown = Table(
        rows, "The largest deals, those expected to bring most, and those with a problem, by amount",
        {"chance": "share"}, {"chance": f"chance in {material.period}"}, len(order), _currency(ageing),
        material.links(places),
    )  # fmt: skip
    return Section(title, shown, figures=(ageing, flagged))


def hygiene(material: Material) -> Section:
    """The deals that need a look: how many of each kind, and which."""
    table = material.hygiene
    found = {name: n for name, n in basis_of(table)["counts"].items() if n}
    if not found:
        return Section("Hygiene", "Every check passed: there is no deal to look at.", figures=(table,))
    meanings = [in_words(CHECKS[name], {}).replace("stale days", f"{material.stale_days} days") for name in found]
    counts = pd.DataFrame({"check": list(found), "meaning": meanings, "deals": list(found.values())}).sort_values(
        "deals", ascending=False, kind="stable", ignore_index=True
    )
    counts["check"] = counts["check"].str.replace("_", " ")
    return Section(
        "Hygiene",
        f"{counted(len(table), 'deal')} to look at, for {counted(sum(found.values()), 'reason')}.",
        Table(counts, "What the checks found"),
        figures=(table,),
    )


_ALL = (headline, deals, predict, forecast, coverage, groups, funnel, waterfall, bookings, hygiene)
SECTIONS: Mapping[str, Callable[[Material], Section]] = {section.__name__: section for section in _ALL}
"""Every section that comes with the package, by name, in the order of a report."""


def of_figure(name: str, material: Material) -> Section:
    """Make a section of any registered figure of the deals that can be had without further arguments."""
    result = FIGURES[name](material.frame, context=material.context)
    picture = [Drawing(name, result)] if name in PLOTS else []
    return Section(
        FIGURES[name].heading, *picture, Table(result, FIGURES[name].heading, currency=_currency(result)),
        figures=(result,),
    )  # fmt: skip


def figures_for_sections() -> list[str]:
    """Name the figures that `of_figure` can make a section of."""
    needs = {name: [p for p in figure.method_signature.parameters.values() if p.default is p.empty]
             for name, figure in FIGURES.items()}  # fmt: skip
    tables = (name for name, figure in FIGURES.items() if not figure.over_time and not needs[name])
    return [name for name in tables if name not in SECTIONS]


def default_sections(material: Material) -> list[str]:
    """Name the sections that can be made of what there is."""
    absent = {
        "coverage": material.quota is None,
        "groups": material.by is None,
        "waterfall": material.history is None,
        "bookings": True,
    }
    return [name for name in SECTIONS if not absent.get(name)]


def _facts(material: Material, places: Codes, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return columns of some deals for readers: names from the look-ups, days in the report's zone."""
    frame = material.frame
    chosen = frame.iloc[places]
    found: dict[str, Any] = {}
    for name in columns:
        if name not in frame.columns or (name in _KEYS and chosen[name].isna().all()):
            continue
        if name in ("owner_name", "account_name") and len(frame):
            group = material.names(name)
            found[name] = group.labels[group.codes[places]].to_numpy()
        elif name == "close_date":
            found[name] = to_dates(local_days(chosen[name], material.context.timezone))
        elif name == "next_step":
            # A whole page of notes belongs into the service, not into a table.
            found[name] = [None if is_missing(text) else _cut(str(text), 120) for text in chosen[name]]
        else:
            found[name] = chosen[name].array
    return pd.DataFrame(found, index=range(len(places)))


def _cut(text: str, limit: int) -> str:
    words = " ".join(text.split())
    return words if len(words) <= limit else f"{words[: limit - 1]}…"


def _currency(result: Any) -> str:
    currency = known_basis(result).get("currency")
    return printable(currency, 20) if currency else ""


def _money_of(result: Any) -> Callable[[Any], str]:
    unit = _currency(result)
    return lambda value: f"{written(value, 'money')} {unit}".strip()


def _words(table: pd.DataFrame) -> str:
    return ", ".join(str(name).removesuffix("_name").replace("_", " ") for name in table.index.names)


def _periods_in_words(table: Table) -> Table:
    """Write periods as text; deals without a close date stand in a row of their own."""
    index = table.frame.index
    if index.name != "period":
        return table
    names = ["no close date" if is_missing(period) else str(period) for period in index]
    return replace(table, frame=table.frame.set_axis(pd.Index(names, name="period", dtype="str")))
