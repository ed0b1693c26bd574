"""Compiled loops give what the slow decoder gives, and are used where they are worth their import."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opp_pandas.api import uniform
from opp_pandas.api.compiled import kernels, scan
from opp_pandas.api.fastpath import _stretch, cut_page
from opp_pandas.api.uniform import UniformDecoder
from opp_pandas.resource import OPPORTUNITY
from tests.slowload import assert_same, collect, load_slowly
from tests.test_fastpath import MANY, ODD_PAGES, PLAIN_INSTANTS, REFUSED_PAGES, assert_same_outcome, body_of, record
from tests.test_uniform import UNIFORM_COLUMNS, uniform_pages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


@pytest.fixture(autouse=True)
def loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Compiled loops from the second block on, however many of its records are odd."""
    found = kernels()
    assert found is not None, "numba belongs to the extra dev"
    monkeypatch.setattr(uniform, "MAX_FILLED", 1.0)
    yield found
    kernels.cache_clear()


@given(uniform_pages())
@settings(max_examples=60, deadline=None)
def test_collect__any_values_as_the_slow_decoder(bodies: list[bytes]) -> None:
    """Whatever the values are, when the first page has taught how records are written."""
    bodies = [*bodies, *bodies]
    assert_same(collect(bodies, UNIFORM_COLUMNS, block_bytes=1), load_slowly(bodies, UNIFORM_COLUMNS))


@pytest.mark.nightly
@given(uniform_pages())
@settings(max_examples=3000, deadline=None)
def test_collect__very_many_values_as_the_slow_decoder(bodies: list[bytes]) -> None:
    """The same for many more pages."""
    bodies = [*bodies, *bodies]
    assert_same(collect(bodies, UNIFORM_COLUMNS, block_bytes=1), load_slowly(bodies, UNIFORM_COLUMNS))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_collect__any_damaged_record_as_the_slow_decoder(data: st.DataObject) -> None:
    """A byte that is changed, cut or put in is never overlooked."""
    body = bytearray(body_of([record(number) for number in range(1, 7)]))
    place = data.draw(st.integers(0, len(body) - 1))
    tokens = [b"", b'"', b"}", b"{", b"]", b"[", b",", b":", b"\\", b" ", b"n", b"0", b"-", b"\x01", b'"amount":1,']
    body[place : place + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from(tokens))
    assert_same_outcome([body_of(MANY), bytes(body)])


@pytest.mark.parametrize("name", [*ODD_PAGES, *REFUSED_PAGES])
def test_collect__any_odd_form_as_the_slow_decoder(name: str) -> None:
    """What is written otherwise, or is no JSON, behind a page that has taught the usual form."""
    assert_same_outcome([body_of(MANY), (ODD_PAGES | REFUSED_PAGES)[name], body_of([record(200)])])


@given(
    st.lists(
        st.tuples(PLAIN_INSTANTS, st.integers(-(10**18) + 1, 10**18 - 1), st.integers(1, 10**18 - 1)),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=60, deadline=None)
def test_scan__every_plain_value_fits(rows: list[tuple[str, int, int]]) -> None:
    """Instants of every day and precision, whole numbers of up to 18 digits, null and ids: no record is odd."""
    decoder = UniformDecoder(OPPORTUNITY)
    first, page = (
        _stretch([cut_page(body_of(records), OPPORTUNITY)], 0)  # type: ignore[list-item]  # usual pages
        for records in (
            MANY,
            [
                record(number, amount=amount, closeDate=written, updatedAt=None)
                | {"relationships": record(1)["relationships"] | {"owner": {"data": {"type": "user", "id": owner}}}}
                for number, (written, amount, owner) in enumerate(rows, 1)
            ],
        )
    )
    assert first is not None
    assert page is not None
    decoder.decode(first)
    assert decoder._plan is not None
    found = scan(page, decoder._plan, kernels())  # type: ignore[arg-type]  # there is one
    assert found is not None
    assert not found.odd.any()
    assert found.batch.columns["amount"].to_pylist() == [amount for _, amount, _ in rows]
    assert found.batch.columns["owner_id"].to_pylist() == [owner for _, _, owner in rows]


def test_decode__by_the_loops_once_the_form_is_known(loops: ModuleType) -> None:
    """The second block is read by them, and nothing else looks where its members are."""
    decoder = UniformDecoder(OPPORTUNITY)
    stretches = [
        _stretch([cut_page(body_of([record(start + number) for number in range(40)]), OPPORTUNITY)], 0)  # type: ignore[list-item]
        for start in (1, 41)
    ]
    for stretch in stretches:
        assert stretch is not None
        batch = decoder.decode(stretch)
        assert batch is not None
        assert batch.rows == 40
    assert ["members" in vars(stretch) for stretch in stretches] == [True, False]


PROGRAM = """
import sys
{before}
from opp_pandas.api import uniform
from tests.slowload import assert_same, collect, load_slowly
from tests.test_fastpath import body_of, record
uniform.FEW_STRETCHES = {few}
bodies = [body_of([record(10 * page + number) for number in range(10)]) for page in range(1, 7)]
assert_same(collect(bodies, block_bytes=1), load_slowly(bodies))
print("opp_pandas.api.kernels" in sys.modules)
"""


@pytest.mark.parametrize(
    ("before", "few", "imported"),
    [
        ("", 100, "False"),
        ("", 3, "True"),
        ("sys.modules['numba'] = None", 3, "False"),
    ],
)
def test_decode__the_loops_are_imported_where_they_are_worth_it(before: str, few: int, imported: str) -> None:
    """Not in a small load; in a large one, if there is a numba; and without it the result is the same."""
    program = PROGRAM.format(before=before, few=few)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == (imported, 0), done.stderr
