"""Ranges of ids read side by side: a far service answers slowly, but several requests at once.

The ids between the smallest and the largest are cut into short ranges, a few
pages each where the ids lie evenly. Workers take them in order, and their pages
are given on in order, so that the result is that of one walk by id, and no more
than a few ranges wait in memory. Where ids lie in clumps some ranges are long
and some empty: an empty one costs a request.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from opp_pandas.api.paging import records_by_id
from opp_pandas.api.query import Query, filter_key
from opp_pandas.api.transport.retry import called_off_by
from opp_pandas.errors import ConfigurationError, ForeignRowsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opp_pandas.api.client import Client
    from opp_pandas.api.paging import Page

MOST_PARTITIONS = 4
# Long enough that the last page of a range, which is seldom full, costs little; short enough to balance the workers.
_PAGES_PER_RANGE = 4
# Ranges fetched before it is their turn, beside those under way.
_AHEAD = 2


def check_partitions(partitions: Any, query: Query, **others: Any) -> None:
    """Refuse what cannot be read in ranges of ids.

    `others` are arguments of the load that stop or keep a walk in the order of its pages.
    """
    if isinstance(partitions, bool) or not isinstance(partitions, int) or not 1 <= partitions <= MOST_PARTITIONS:
        raise ConfigurationError(f"partitions is 1 to {MOST_PARTITIONS} requests at once, not {partitions!r}")
    if partitions > 1:
        given = [name for name, value in {"sort": query.sort, **others}.items() if value is not None]
        given += [f"filter[{name!r}]" for name in query.filter if filter_key(str(name))[0] == "filter[id]"]
        if given:
            raise ConfigurationError(
                f"partitions= reads ranges of ids side by side, so it goes without {', '.join(given)}; leave one out"
            )
        if len(Query(query.filter).texts()) > 1:
            raise ConfigurationError(
                "partitions= needs a filter that fits into one request; select with where= in place of a long list"
            )


def iter_partitioned(client: Client, partitions: int, query: Query) -> Iterator[Page]:
    """Read a collection, asked for in the default order, in 1 to 4 ranges of ids at once.

    Pages come by rising id, numbered as those of one walk; ``count`` is that of the whole.
    """
    size = query.page_size or client.page_size
    (lowest, count), (highest, _) = _end(client, query, "id"), _end(client, query, "-id")
    spans = [] if lowest is None or highest is None else _ranges(lowest, highest, count, partitions, size)
    if len(spans) <= 1:
        yield from client.walk(query)
        return
    stop = threading.Event()

    def read(span: tuple[int | None, int | None]) -> list[Page]:
        found = []
        part = replace(query, filter={**query.filter, "id": span}, sort=None, count=False)
        with called_off_by(stop):
            for page in client.walk(part):
                found.append(page)
                if stop.is_set():
                    break
        return found

    waiting = deque(spans)
    under_way: deque[Future[list[Page]]] = deque()
    number = 0
    ranges_are_ignored = False
    with ThreadPoolExecutor(partitions, thread_name_prefix="opp-reading") as workers:
        try:
            while waiting or under_way:
                while waiting and len(under_way) < partitions + _AHEAD:
                    under_way.append(workers.submit(read, waiting.popleft()))
                for page in under_way.popleft().result():
                    number += 1
                    yield replace(page, number=number, part=1, count=count)
        except ForeignRowsError:
            ranges_are_ignored = True
        finally:
            # After an error, Ctrl-C or a reader who has enough: nothing more is begun, and nobody waits any longer.
            stop.set()
            workers.shutdown(wait=False, cancel_futures=True)
    if ranges_are_ignored:
        # Then one walk brings everything, and more than one range would bring it again and again.
        for page in client.walk(query):
            yield replace(page, number=number + page.number)


def _end(client: Client, query: Query, sort: str) -> tuple[int | None, int | None]:
    """Return the id at one end of the collection, None where there is none, and how many rows there are."""
    page = next(client.walk(Query(query.filter, sort, ["updated_at"], page_size=1, count=True)))
    return next(iter(records_by_id(page.document)), None), page.count


def _ranges(
    lowest: int, highest: int, count: int | None, partitions: int, size: int
) -> list[tuple[int | None, int | None]]:
    """Cut the ids into ranges, both ends in them; the outer ones are open, for deals that come meanwhile.

    Examples
    --------
    >>> _ranges(1, 12_000, 12_000, 4, 1_000)
    [(None, 4000), (4001, 8000), (8001, None)]
    """
    wanted = partitions * _PAGES_PER_RANGE if count is None else -(-count // (_PAGES_PER_RANGE * size))
    wanted = max(1, min(wanted, highest - lowest + 1))
    bounds = [lowest - 1 + (highest - lowest + 1) * number // wanted for number in range(wanted + 1)]
    spans: list[tuple[int | None, int | None]] = [(low + 1, high) for low, high in pairwise(bounds)]
    spans[0] = (None, spans[0][1])
    spans[-1] = (spans[-1][0], None)
    return spans
