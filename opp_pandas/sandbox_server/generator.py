"""A sales organisation made up from a seed, whose truth is known.

Each deal goes through the open stages in order. At the end of its time in a
stage it moves on or is lost; the chance of moving on depends on the seller's
skill, the team, the kind and size of the deal, its source and whether a
champion was found. Time in a stage tells nothing about the outcome. So the
true chance of winning, given what is known of a deal and its stage, is exactly
the product of the chances of passing the stages that remain: ``p`` in the truth.

What the seller says of it is another matter: ``probability`` is ``p``, shrunk
towards the middle, raised by the seller's optimism, blurred and rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from opp_pandas.errors import ConfigurationError
from opp_pandas.sandbox_server import customfields, vocabulary
from opp_pandas.sandbox_server.seed_data import (
    DAY_S,
    Deals,
    Floats,
    Integers,
    draw_columns,
    instant_texts,
    opportunity_records,
)
from opp_pandas.sandbox_server.store import TABLES, NewRecord, Store
from opp_pandas.stages import StageMap

DEFAULT_STAGES = StageMap(
    order=["Qualify", "Discover", "Propose", "Negotiate"], won=["Closed Won"], lost=["Closed Lost"]
)
_YOUNGEST_ACCOUNT_AGE_S = 700 * DAY_S
_HISTORY_DAYS = 640
_MEAN_STAGE_DAYS = 30.0
_QUARTER_END_PULL_DAYS = 24
_FORGOTTEN_SHARE = 0.1


def fill(store: Store, opportunities: int, seed: int, now: datetime, stages: StageMap | None = None) -> None:
    """Fill an empty store with an organisation and its truth, looked at from the moment `now`.

    Same seed, same `now`: same data. ConfigurationError if `stages` leaves deals nowhere to be open, won or lost.
    """
    _Organisation(store, opportunities, seed, now, stages or DEFAULT_STAGES).write()


@dataclass(frozen=True)
class _Stages:
    """Ids of the stages by what they mean, open ones in order."""

    open: tuple[int, ...]
    won: tuple[int, ...]
    lost: tuple[int, ...]


class _Organisation:
    """Draws everything in a fixed order from one stream of random numbers."""

    def __init__(self, store: Store, opportunities: int, seed: int, now: datetime, stages: StageMap) -> None:
        self._store, self._n = store, opportunities
        self._random = np.random.default_rng(seed)
        self._now = float(int(now.timestamp()))
        self._stage_map = stages
        self._founded = instant_texts(np.full(1, self._now - 1600 * DAY_S))[0]
        self._owners = int(np.clip(opportunities // 40, 6, 60))
        self._accounts = max(8, int(opportunities * 0.35))
        self._team = np.arange(self._owners) % len(customfields.REGIONS)
        team_skill = self._random.normal(0, 0.25, len(customfields.REGIONS))
        self._skill = self._random.normal(0, 0.35, self._owners) + team_skill[self._team]
        self._optimism = self._random.normal(0.35, 0.35, self._owners)

    def write(self) -> None:
        """Draw and store everything in one transaction."""
        with self._store.transaction():
            self._write_organisation()
            self._write_users()
            stages = self._write_stages()
            employees = self._write_accounts()
            people = self._write_prospects()
            if self._n:
                self._check_stages(stages)
                deals = self._draw_deals(employees, len(stages.open))
                self._write_deals(deals, stages, employees)
                self._write_prospect_roles(deals, people)
            self._store.build_indexes()

    def _write_users(self) -> None:
        firsts = self._pick(vocabulary.FIRST_NAMES, self._owners)
        lasts = self._pick(vocabulary.LAST_NAMES, self._owners)
        hired = instant_texts(self._now - self._random.uniform(400, 1500, self._owners) * DAY_S)
        titles = self._pick(vocabulary.TITLES, self._owners)
        managers = vocabulary.MANAGERS
        firsts += [first for first, _ in managers]
        lasts += [last for _, last in managers]
        titles += [role for role, _ in vocabulary.MANAGING_ROLES]
        hired += [self._founded] * len(managers)
        # Two people of one name are two people: figures must group by id.
        firsts[self._owners - 1], lasts[self._owners - 1] = firsts[0], lasts[0]
        self._store.insert_many(
            TABLES["user"],
            (
                NewRecord(
                    {
                        "name": f"{first} {last}", "firstName": first, "lastName": last,
                        "email": f"seller{number}@example.com", "title": title, "createdAt": at, "updatedAt": at,
                        "locked": False,
                    },
                    {"role_id": self._role_of(number)},
                    {"teams": self._teams_of(number)},
                )
                for number, (first, last, title, at) in enumerate(zip(firsts, lasts, titles, hired, strict=True), 1)
            ),
        )  # fmt: skip

    def _role_of(self, user: int) -> int:
        """Return the role of a user: sellers first, behind them whoever holds the managing roles, in order."""
        managing = len(vocabulary.MANAGING_ROLES)
        return managing + int(self._team[user - 1]) + 1 if user <= self._owners else user - self._owners

    def _teams_of(self, user: int) -> list[int]:
        """Return the teams of a user: a seller's region, and for some a second one that goes across regions."""
        if user > self._owners:
            return []
        across = [len(customfields.REGIONS) + 1] if user % 5 == 0 else []
        return [int(self._team[user - 1]) + 1, *across]

    def _write_organisation(self) -> None:
        """Write roles, teams and territories; nothing is drawn, so that the deals of a seed stay as they are."""
        regions, dates = customfields.REGIONS, {"createdAt": self._founded, "updatedAt": self._founded}
        roles = [*vocabulary.MANAGING_ROLES]
        above = {region: place for place, (role, _) in enumerate(roles, 1) for region in regions if region in role}
        roles += [(f"Account Executive {region}", above[region]) for region in regions]
        named: dict[str, list[tuple[str, dict[str, int | None]]]] = {
            "role": [(name, {"parent_role_id": parent}) for name, parent in roles],
            "team": [(name, {}) for name in (*regions, vocabulary.TEAM_ACROSS)],
            "territory": [(name, {}) for name in regions],
        }
        for kind, entries in named.items():
            self._store.insert_many(
                TABLES[kind], (NewRecord({"name": name, **dates}, links) for name, links in entries)
            )

    def _write_stages(self) -> _Stages:
        stages, table, at = self._stage_map, TABLES["opportunityStage"], self._founded
        keys = stages.keys
        taken = {key for key in keys if isinstance(key, int)}
        free = (number for number in range(1, len(keys) + len(taken) + 1) if number not in taken)
        ids: dict[str | int, int] = {}
        for place, key in enumerate(keys, 1):
            ids[key] = key if isinstance(key, int) else next(free)
            attributes = {
                "name": key if isinstance(key, str) else f"Stage {key}", "order": place,
                "isClosed": key in stages.won or key in stages.lost,
                "color": vocabulary.COLOURS[(place - 1) % len(vocabulary.COLOURS)], "createdAt": at, "updatedAt": at,
            }  # fmt: skip
            self._store.insert(table, NewRecord(attributes, {"creator_id": 1}, id=ids[key]))
        still_open = tuple(ids[key] for key in keys if key not in stages.won and key not in stages.lost)
        return _Stages(still_open, tuple(ids[key] for key in stages.won), tuple(ids[key] for key in stages.lost))

    @staticmethod
    def _check_stages(stages: _Stages) -> None:
        groups = {"order=": stages.open, "won=": stages.won, "lost=": stages.lost}
        missing = [name for name, ids in groups.items() if not ids]
        if missing:
            raise ConfigurationError(
                "the sandbox makes open, won and lost deals, and the stage map has nothing in "
                f"{' and '.join(missing)}; name such stages, or ask for opportunities=0"
            )

    def _write_accounts(self) -> Integers:
        n = self._accounts
        firsts, seconds = self._pick(vocabulary.COMPANY_FIRST, n), self._pick(vocabulary.COMPANY_SECOND, n)
        forms, industries = self._pick(vocabulary.COMPANY_FORMS, n), self._pick(vocabulary.INDUSTRIES, n)
        employees = np.exp(self._random.normal(5.3, 1.5, n)).astype(np.int64) + 3
        since = instant_texts(self._now - _YOUNGEST_ACCOUNT_AGE_S - self._random.uniform(0, 900, n) * DAY_S)
        owners = self._random.integers(1, self._owners + 1, n)
        self._store.insert_many(
            TABLES["account"],
            (
                NewRecord(
                    {
                        "name": f"{first} {second}{form}", "industry": industry, "numberOfEmployees": int(size),
                        "customId": f"ACC-{number:06d}", "createdAt": at, "updatedAt": at,
                    },
                    {"owner_id": int(owner)},
                )
                for number, (first, second, form, industry, size, at, owner) in enumerate(
                    zip(firsts, seconds, forms, industries, employees, since, owners, strict=True), 1
                )
            ),
        )  # fmt: skip
        return employees

    def _write_prospects(self) -> int:
        n = self._accounts
        firsts, lasts = self._pick(vocabulary.FIRST_NAMES, n), self._pick(vocabulary.LAST_NAMES, n)
        titles = self._pick(vocabulary.PERSON_TITLES, n)
        at = instant_texts(self._now - self._random.uniform(10, 600, n) * DAY_S)
        owners = self._random.integers(1, self._owners + 1, n)
        self._store.insert_many(
            TABLES["prospect"],
            (
                NewRecord(
                    {
                        "name": f"{firsts[i]} {lasts[i]}", "firstName": firsts[i], "lastName": lasts[i],
                        "title": titles[i], "createdAt": at[i], "updatedAt": at[i],
                    },
                    {"account_id": i + 1, "owner_id": int(owners[i])},
                )
                for i in range(n)
            ),
        )  # fmt: skip
        return n

    def _draw_deals(self, employees: Integers, open_stages: int) -> Deals:
        random, n = self._random, self._n
        owner = random.integers(0, self._owners, n)
        account = random.integers(0, self._accounts, n)
        kind = random.choice(len(vocabulary.TYPES), n, p=(0.55, 0.25, 0.2))
        source = random.integers(0, len(vocabulary.SOURCES), n)
        champion = random.random(n) < 0.45
        # Larger customers buy more; the rest of the spread is skewed to the right.
        size = np.log(employees[account])
        amount = np.exp(6.9 + 0.5 * size - 0.4 * (kind == 1) + random.normal(0, 0.75, n))
        created = self._now - _HISTORY_DAYS * DAY_S * random.random(n) ** 1.4
        strength = (
            self._skill[owner] + 0.9 * (kind == 2) + 0.35 * (kind == 1) + 0.5 * champion
            + np.array([0.25, -0.35, 0.1, -0.1, 0.4])[source] - 0.18 * (np.log(amount) - 9.5)
        )  # fmt: skip
        # Losses are many early and few late.
        ease = np.linspace(0.15, 1.25, open_stages) + (4 - open_stages) * -0.25
        passing = 1 / (1 + np.exp(-(strength[:, None] + ease)))
        remaining = np.cumprod(passing[:, ::-1], axis=1)[:, ::-1]
        pace = _MEAN_STAGE_DAYS * 4 / open_stages * np.exp(0.1 * (np.log(amount) - 9.5))
        # A forgotten deal lies about for long in each stage; that, too, says nothing about its outcome.
        forgotten = random.random(n) < _FORGOTTEN_SHARE
        days = (
            np.where(forgotten, 4.0, 1.0)[:, None] * pace[:, None] * np.exp(random.normal(-0.18, 0.6, (n, open_stages)))
        )
        passes = random.random((n, open_stages)) < passing
        won = passes.all(axis=1)
        last = np.where(won, open_stages - 1, passes.argmin(axis=1))
        leaves = created[:, None] + np.cumsum(days, axis=1) * DAY_S
        closing = self._pull_to_quarter_end(leaves[np.arange(n), last])
        closed = closing <= self._now
        at_now = (leaves <= self._now).sum(axis=1)
        stage = np.minimum(at_now, last)
        before = np.where(stage > 0, leaves[np.arange(n), np.maximum(stage - 1, 0)], created)
        moved = np.where(closed, closing, np.minimum(before, self._now))
        p = remaining[np.arange(n), stage]
        return Deals(
            owner, account, kind, source, champion, amount, created, closing, won, closed, stage, open_stages,
            moved, forgotten, pace, remaining[:, 0], p,
        )  # fmt: skip

    def _pull_to_quarter_end(self, moments: Floats) -> Floats:
        """Move some closings into the last days of their quarter, whatever their outcome."""
        days = (moments // DAY_S).astype("datetime64[D]")
        months = days.astype("datetime64[M]").astype(np.int64)
        ends = ((months // 3 + 1) * 3).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        left = ends - days.astype(np.int64)
        pulled = (left > 3) & (left <= _QUARTER_END_PULL_DAYS) & (self._random.random(len(moments)) < 0.45)
        to_day = ends - self._random.integers(1, 4, len(moments))
        return np.where(pulled, to_day * float(DAY_S) + 54_000, moments)

    def _write_deals(self, deals: Deals, stages: _Stages, employees: Integers) -> None:
        n = self._n
        open_ids, won_ids, lost_ids = (np.array(ids) for ids in (stages.open, stages.won, stages.lost))
        won_id = won_ids[self._random.integers(0, len(won_ids), n)]
        lost_id = lost_ids[self._random.integers(0, len(lost_ids), n)]
        stage_id = np.where(deals.closed, np.where(deals.won, won_id, lost_id), open_ids[deals.stage])
        drawn = draw_columns(self._random, deals, self._optimism[deals.owner], employees[deals.account], self._now)
        records = opportunity_records(drawn, stage_id, self._team[deals.owner])
        self._store.insert_many(TABLES["opportunity"], records)
        closing_days = np.datetime_as_string(deals.closing.astype("datetime64[s]").astype("datetime64[D]"))
        outcomes = np.where(deals.won, "won", "lost").tolist()
        numbers = range(1, n + 1)
        self._store.write_truth(
            zip(numbers, outcomes, closing_days.tolist(), deals.p.tolist(), deals.p_start.tolist(), strict=True)
        )

    def _write_prospect_roles(self, deals: Deals, people: int) -> None:
        chosen = np.flatnonzero(self._random.random(self._n) < 0.5)
        at = instant_texts(deals.created[chosen])
        roles = self._pick(vocabulary.ROLES, len(chosen))
        self._store.insert_many(
            TABLES["opportunityProspectRole"],
            (
                NewRecord(
                    {"role": role, "primary": True, "createdAt": when, "updatedAt": when},
                    {"opportunity_id": int(deal) + 1, "prospect_id": int(deals.account[deal]) % people + 1},
                )
                for deal, role, when in zip(chosen, roles, at, strict=True)
            ),
        )
        self._store.set_primary_prospects()

    def _pick(self, options: Sequence[str], n: int) -> list[str]:
        return [options[place] for place in self._random.integers(0, len(options), n)]
