"""Loading against its peers: `pytest -m nightly -n0 -s tests/benchmarks`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from measuring import say, seconds

import opp_pandas as opp
from opp_pandas.api.decode import decode_columns
from opp_pandas.api.frame_builder import Collector, join_names, lookup_frame
from opp_pandas.api.page_parser import PageParser, ParsedColumns
from opp_pandas.frame_state import Rows
from opp_pandas.resource import COLUMN_DTYPES, LOOKUP_COLUMNS, OPPORTUNITY
from tests.benchmarks.pages import PAGE, page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ROOT = Path(__file__).parents[2]
WIDTHS = {"c10": (10, 10), "c150": (150, 50)}
NAMES = ("stage", "owner", "account")

ROWS = {"c10": 40_000, "c150": 12_000}
SHARES = (0.0, 0.01, 0.08, 0.2, 0.5)
# The most that a load may take, as a multiple of orjson.loads that keeps its documents and that drops each: as users
# have it, and with the garbage collector off.
LIMITS = [
    ("c10", 250, (0.85, 2.2), (1.6, 2.9)),
    ("c10", 1_000, (0.85, 1.3), (1.6, 2.3)),
    ("c150", 250, (1.1, 1.7), (1.7, 2.2)),
    ("c150", 1_000, (0.85, 1.1), (1.4, 1.6)),
]


@cache
def pages(width: str, size: int = PAGE, missing: float = 0.08, wrong: float = 0.0, links: bool = False) -> list[bytes]:
    """Make pages of a width and a size: shares of records without a member, and with a value of a wrong kind."""
    custom, filled = WIDTHS[width]
    forms = {"custom": custom, "filled": filled, "missing": missing, "wrong": wrong, "links": links}
    return [page(1 + start, size, **forms) for start in range(0, ROWS[width], size)]  # type: ignore[arg-type]  # by name


@cache
def lookups() -> dict[str, pd.DataFrame]:
    """Make the look-ups that names are joined from."""
    sizes = {"user": 100, "opportunityStage": 8, "account": 5_000}
    return {
        kind: lookup_frame({"id": key, "attributes": {"name": f"{kind} {key}"}} for key in range(1, size + 1))
        for kind, size in sizes.items()
    }


def load(bodies: Iterable[bytes]) -> tuple[pd.DataFrame, pd.DataFrame, Rows]:
    """Load pages to the finished frame: decoded, names joined, validated, baseline kept."""
    from opp_pandas.load.failures import row_failures

    with Collector() as collector:
        for body in bodies:
            collector.add_body(body)
        collected = collector.finish()
    rows = Rows(join_names(collected.rows.frame, lookups(), NAMES), collected.rows.marks)
    return rows.frame, row_failures(rows), rows.frozen()


def load_normalized(bodies: Iterable[bytes]) -> pd.DataFrame:
    """Load pages the way people do, to the same columns, dtypes and names; without validation and baseline."""
    # All records at once: page by page, and put together, takes longer.
    came = pd.json_normalize([entry for body in bodies for entry in json.loads(body)["data"]])
    names = {"id": "id"} | {entry.column: f"attributes.{entry.name}" for entry in OPPORTUNITY.attributes}
    names |= {name: f"relationships.{entry.name}.data.id" for name, entry in OPPORTUNITY.relationship_by_column.items()}
    columns = {}
    for column, name in names.items():
        dtype = COLUMN_DTYPES[column]
        if name not in came.columns:
            columns[column] = pd.Series(None, came.index, dtype)
        elif dtype.startswith("datetime64"):
            columns[column] = pd.to_datetime(came[name], utc=True, format="ISO8601").dt.as_unit("us")
        else:
            columns[column] = (
                came[name].where(came[name].notna(), None) if dtype == "object" else came[name].astype(dtype)
            )
    for column, entry in LOOKUP_COLUMNS.items():
        if entry.relation in NAMES:
            joined = columns[entry.id_column].map(lookups()[entry.type].set_index("id")[entry.field])
            columns[column] = joined.astype(entry.dtype)
    return pd.DataFrame(columns)


def parse_and_drop(bodies: Iterable[bytes]) -> None:
    """Parse pages with the fastest parser there is, and drop each before the next: less than any load can do."""
    import orjson

    for body in bodies:
        orjson.loads(body)


def parse_and_keep(bodies: Iterable[bytes]) -> list[Any]:
    """Parse pages with the fastest parser there is, and keep all, as a load keeps its rows."""
    import orjson

    return [orjson.loads(body) for body in bodies]


def timed(calls: Mapping[str, Callable[[], object]], times: int = 3) -> list[dict[str, float]]:
    """Return the CPU time of calls as users have it, and with the garbage collector off.

    The collector walks the many dictionaries of a parser again and again, so that whoever parses pays for it.
    """
    return [seconds(calls, times, collecting=collecting) for collecting in (True, False)]


def multiples(what: str, taken: list[dict[str, float]], name: str, of: str) -> list[float]:
    """Return and report the time of one call as multiples of another's, as `timed` gives them."""
    found = [each[name] / each[of] for each in taken]
    say(f"{name} {what}: {found[0]:.2f} x {of}; with the garbage collector off {found[1]:.2f} x")
    return found


def against_parsing(what: str, bodies: list[bytes], **more: Callable[[], object]) -> dict[str, list[list[float]]]:
    """Return the CPU time of a load, and of more, as multiples of parsing: with documents kept, and dropped.

    Of 40,000 or 12,000 rows, with a load's fixed cost.
    """
    parsers = {"orjson, kept": lambda: parse_and_keep(bodies), "orjson, dropped": lambda: parse_and_drop(bodies)}
    taken = timed({"load": lambda: load(bodies), **more, **parsers})
    return {name: [multiples(what, taken, name, of) for of in parsers] for name in ("load", *more)}


def faster(what: str, bodies: list[bytes], of_peer: list[bytes] | None = None) -> list[float]:
    """Return how often as fast as typed json_normalize a load is; `of_peer`: where that reads other pages."""
    count = max(1, len(bodies) // 2)
    calls = {
        "json_normalize": lambda: load_normalized((of_peer or bodies)[:count]),
        "load": lambda: load(bodies[:count]),
    }
    return multiples(what, timed(calls), "json_normalize", "load")


@pytest.mark.parametrize("missing", [0.0, 0.08])
@pytest.mark.parametrize("width", list(WIDTHS))
def test_load__bench_pages_are_as_the_peer_reads_them(width: str, missing: float) -> None:
    """Both ways give the same frame, so that their times may be compared."""
    custom, filled = WIDTHS[width]
    bodies = [page(1 + number * 100, 100, custom=custom, filled=filled, missing=missing) for number in range(2)]
    frame, failures, baseline = load(bodies)
    assert failures.empty
    assert not baseline.marks
    pd.testing.assert_frame_equal(load_normalized(bodies)[list(frame.columns)], frame)


@pytest.mark.nightly
@pytest.mark.parametrize(("width", "size", "as_users_have_it", "without_collector"), LIMITS)
def test_load__nulls_and_missing_members_cost_little(
    width: str, size: int, as_users_have_it: tuple[float, float], without_collector: tuple[float, float]
) -> None:
    """Whatever the share of records without a member, and whether set relationships carry links.

    0.85 (c10) and 1.1 (c150) are asked. They hold against a parser that keeps what it parsed, as users have it; see
    `test_load__least_that_it_could_take` for what stands between them and one that drops it.
    """
    found = {
        (share, links): against_parsing(
            f"{width}, pages of {size}, {share:.0%} with nulls, links {links}", pages(width, size, share, links=links)
        )["load"]
        for share in SHARES
        for links in (False, True)
    }
    for way, limits in enumerate((as_users_have_it, without_collector)):
        for peer, limit in enumerate(limits):
            for links in (False, True):
                own = [value[peer][way] for (_, with_links), value in found.items() if with_links == links]
                say(f"load {width}, pages of {size}, links {links}: worst share {max(own) / min(own):.2f} x the best")
            assert max(value[peer][way] for value in found.values()) <= limit


@pytest.mark.nightly
@pytest.mark.parametrize("size", [250, 1_000])
@pytest.mark.parametrize("width", list(WIDTHS))
def test_load__wrong_kinds(width: str, size: int) -> None:
    """With values of a wrong kind in a share of the records: the peer, which refuses them, reads pages without."""
    for share in (0.01, 0.05, 0.25):
        what = f"{width}, pages of {size}, {share:.0%} with a wrong kind"
        bodies = pages(width, size, wrong=share)
        assert max(chain.from_iterable(against_parsing(what, bodies)["load"])) <= 4.5
        assert min(faster(f"{what}, the peer without", bodies, pages(width, size, missing=0.0))) >= 2.2


@pytest.mark.nightly
@pytest.mark.parametrize(("width", "least"), [("c10", (4.2, 3.0)), ("c150", (3.8, 3.4))])
def test_load__against_json_normalize(width: str, least: tuple[float, float]) -> None:
    """Many times as fast as json_normalize with the same dtypes; 10 (c10) and 8 (c150) are aimed at."""
    for size in (250, 1_000):
        found = faster(f"{width}, pages of {size}", pages(width, size))
        assert all(value >= limit for value, limit in zip(found, least, strict=True))


@pytest.mark.nightly
@pytest.mark.parametrize("width", list(WIDTHS))
def test_load__least_that_it_could_take(width: str) -> None:
    """What parsing into structs takes, and the texts as Arrow arrays: no load through Python values can take less.

    What every load costs by itself, for some two hundred columns of pandas, is said apart, and bounded.
    """
    for size in (250, 1_000):
        bodies = pages(width, size)
        parser = PageParser(OPPORTUNITY, lambda resource: resource)
        parser.parse(bodies[0])

        def parse(bodies: list[bytes] = bodies, parser: PageParser = parser) -> None:
            for body in bodies:
                parser.parse(body)

        def to_arrow(bodies: list[bytes] = bodies, parser: PageParser = parser) -> None:
            for body in bodies:
                if (page := parser.parse(body)) is not None:
                    decode_columns(ParsedColumns([page]), OPPORTUNITY)

        taken = seconds(
            {
                "orjson": lambda bodies=bodies: parse_and_drop(bodies),  # type: ignore[misc]  # bound early
                "structs": parse,
                "arrow": to_arrow,
                "one page": lambda: load(pages(width, 250)[:1]),
            },
            3,
        )
        say(
            f"load {width}, pages of {size}: structs alone {taken['structs'] / taken['orjson']:.2f} x orjson, columns "
            f"of Arrow {taken['arrow'] / taken['orjson']:.2f} x; a load of one page {taken['one page'] * 1e3:.0f} ms"
        )
        assert taken["structs"] < taken["orjson"]
        assert taken["one page"] < 0.05


@pytest.mark.nightly
@pytest.mark.parametrize("size", [250, 1_000])
def test_load__whole_over_http(size: int) -> None:
    """From the package's own sandbox, which runs in a process of its own, against parsing the same pages."""
    command = [sys.executable, "-m", "opp_pandas.cli", "sandbox", "--opportunities", "10000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            url, token = (service.stdout.readline().strip() for _ in range(2))
            client = opp.connect(url, token=token, page_size=size)
            bodies = [page.body for page in client.iter_pages(include=("owner", "account"))]
            whole = partial(opp.read_opportunities, client, progress=False, on_invalid="ignore")
            found = against_parsing(f"of the sandbox's own pages of {size}", bodies, over_http=whole)
        finally:
            service.kill()
    for name, most in (("load", (1.3, 2.2)), ("over_http", (1.7, 2.8))):
        assert all(value <= limit for values in found[name] for value, limit in zip(values, most, strict=True))


@pytest.mark.nightly
def test_load__validation_is_a_small_part() -> None:
    """Validation takes at most a twentieth of loading."""
    from opp_pandas.schema import find_failures

    for width in WIDTHS:
        bodies = pages(width)
        frame, _, _ = load(bodies)
        taken = seconds(
            {"load": lambda bodies=bodies: load(bodies), "validate": lambda frame=frame: find_failures(frame)}
        )  # type: ignore[misc]  # bound early
        say(f"validation {width}: {taken['validate'] / taken['load']:.1%} of loading")
        assert taken["validate"] <= 0.05 * taken["load"]


@pytest.mark.nightly
def test_load__in_partitions_from_a_service_that_is_far_away() -> None:
    """100,000 rows, 300 ms an answer: four ranges at once take at most 0.4 times the time of one page after another."""
    with opp.sandbox(opportunities=100_000) as box, box.client(page_size=1000) as client:
        box.switches.latency_s = 0.3
        taken: dict[int, tuple[float, int]] = {}
        for partitions in (1, 4):
            start = time.perf_counter()
            frame = opp.read_opportunities(client, on_invalid="ignore", progress=False, partitions=partitions)
            taken[partitions] = time.perf_counter() - start, frame.opp.load_report.requests
            assert len(frame) == 100_000
    (alone, _), (together, requests) = taken[1], taken[4]
    say(
        f"100,000 rows at 300 ms an answer: {alone:.1f} s one page after another, {together:.1f} s in 4 partitions "
        f"({alone / together:.1f} x as fast, {taken[1][1]} and {requests} requests of 10,000 an hour)"
    )
    assert alone >= 2.5 * together


def write_pages(path: Path, count: int) -> None:
    """Write pages of 1,000 records into a file, a line each."""
    # Twenty are made and given other ids: making a million records takes longer than loading them.
    made = [page(1 + 1000 * number) for number in range(20)]
    with path.open("wb") as file:
        for number in range(count):
            head, *rest = made[number % 20].split(b'{"type":"opportunity","id":')
            first = 1 + 1000 * (number % 20)
            file.write(head)
            for place, piece in enumerate(rest):
                file.write(b'{"type":"opportunity","id":%d' % (1000 * number + place + 1))
                file.write(piece[len(b"%d" % (first + place)) :])
            file.write(b"\n")


_PROGRAM = """
import gc, sys, time
import pyarrow as pa
from tests.benchmarks.test_bench_loading import load
from tests.benchmarks.pages import page

def bodies(path, count):
    with open(path, "rb", buffering=0) as file:
        rest = b""
        for _ in range(count):
            while b"\\n" not in rest:
                rest += file.read(1 << 18)
            body, _, rest = rest.partition(b"\\n")
            yield body

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

def buffers(frame):
    # Every buffer once: columns without a value share theirs.
    found = {}
    for name in frame.columns:
        array = frame[name].array
        if frame[name].dtype == object:
            values = array.to_numpy()
            found[values.ctypes.data] = values.nbytes
            found.update((id(value), sys.getsizeof(value)) for value in values)
        elif hasattr(array, "__arrow_array__") and str(array.dtype) == "str":
            for chunk in [part for part in getattr(array.__arrow_array__(), 'chunks', [array.__arrow_array__()])]:
                found.update((buffer.address, buffer.size) for buffer in chunk.buffers() if buffer is not None)
        else:
            parts = [array._data, array._mask] if hasattr(array, "_mask") else [array.asi8]
            found.update((part.ctypes.data, part.nbytes) for part in parts)
    return sum(found.values())

load(bodies(sys.argv[1], 1))
base = status("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
start = time.process_time()
frame, failures, baseline = load(bodies(sys.argv[1], int(sys.argv[2])))
taken = time.process_time() - start
peak = status("VmHWM") - base
gc.collect()
print(len(frame), taken, peak, buffers(frame), status("VmRSS") - base)
"""


def in_a_process_of_its_own(path: Path, count: int) -> tuple[int, float, int, int, int]:
    """Load pages; give rows, CPU seconds, peak memory above the start, the frame's own, and what stays [bytes]."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "benchmarks")])
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(path), str(count)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    rows, taken, peak, own, stays = run.stdout.split()
    return int(rows), float(taken), int(peak), int(own), int(stays)


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_load__memory_and_time_per_row_stay_flat(tmp_path: Path) -> None:
    """A further row takes as much time and memory at 1,000,000 rows as at 10,000, within a quarter; peaks are bounded.

    What a load holds by itself, pages under way above all, is some 25 MB: at 10,000 rows more than their frame.
    """
    write_pages(tmp_path / "pages", 1_000)
    found = {count: in_a_process_of_its_own(tmp_path / "pages", count) for count in (10, 100, 1_000)}
    for rows, taken, peak, own, stays in found.values():
        say(
            f"{rows:,} rows: {taken / rows * 1e6:.1f} us and {peak / rows:,.0f} bytes a row at the peak, "
            f"{stays / rows:,.0f} stay, the frame has {own / rows:,.0f} ({peak / own:.2f} x)"
        )
    assert found[1_000][2] <= 1.5 * found[1_000][3]
    first, middle, last = found.values()
    for place in (1, 2):  # seconds, bytes
        early, late = (
            (more[place] - less[place]) / (more[0] - less[0]) for less, more in ((first, middle), (middle, last))
        )
        assert late <= 1.25 * early
