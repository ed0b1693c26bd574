"""Errors say what happened, survive pickling and print nothing that harms."""

from __future__ import annotations

import inspect
import pickle

import pandas as pd
import pytest

from opp_pandas import errors

SAMPLES = [
    errors.ConfigurationError("no token"),
    errors.MissingExtraError("deltalake", "history"),
    errors.ServiceError("it broke", method="GET", url="https://x/y", request_id="r1"),
    errors.NoResponseError("cut", sent=False, method="GET", url="https://x/y"),
    errors.DocumentError("odd", pointer="/data/0"),
    errors.RateLimitError("slow down", status=429, errors=[{"id": "rateLimitExceeded"}], retry_after_s=3.0),
    errors.MissingColumnError(["closedate"], ["close_date"], "Add it."),
    errors.InvalidFrameError(pd.DataFrame({"id": [1], "row": [0], "column": ["a"], "value": ["x"], "rule": ["r"]})),
    errors.DuplicateRowsError("id 1 twice", [1]),
    errors.MixedCurrencyError({"USD": 3, "(missing)": 1}),
    errors.DamagedHistoryError("history", "part-0.parquet", "is gone"),
    errors.ConfirmationNeededError(60, "the plan writes 60 rows"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_error__survives_pickling(error: errors.OppPandasError) -> None:
    """Class, text and facts come back, as between worker processes."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert type(again) is type(error)
    assert str(again) == str(error)
    kept = {key: value for key, value in vars(error).items() if not isinstance(value, pd.DataFrame)}
    assert kept == {key: value for key, value in vars(again).items() if not isinstance(value, pd.DataFrame)}


def test_tree__is_the_one_in_the_docstring() -> None:
    """The module docstring draws exactly the classes that there are."""
    drawn = {word for line in (errors.__doc__ or "").splitlines() for word in line.replace("+-", " ").split()}
    classes = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, (errors.OppPandasError, errors.OppPandasWarning))
    }
    assert classes <= drawn


def test_missing_column__suggests_a_near_name() -> None:
    """Case and a letter do not hide the column that was meant."""
    text = str(errors.MissingColumnError(["close_date"], ["Close_Dat", "x"]))
    assert text == "the frame has no column 'close_date'; did you mean 'Close_Dat'?"


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\rb", "a\u202eb", "a\x00b", "a\u2028b"])
def test_printable__escapes_what_moves_a_terminal(text: str) -> None:
    """Control and bidirectional characters are written out."""
    shown = errors.printable(text)
    assert shown.isprintable()
    assert shown[0] == "a"
    assert shown[-1] == "b"


def test_printable__cuts_long_text() -> None:
    """A megabyte of error detail becomes one line."""
    assert len(errors.printable("x" * 1_000_000)) == 500


def test_invalid_frame__shows_the_first_and_counts_the_rest() -> None:
    """The text is short however many cells are bad."""
    cases = pd.DataFrame({"id": range(9), "row": range(9), "column": "amount", "value": "x", "rule": "must be whole"})
    text = str(errors.InvalidFrameError(cases))
    assert text.startswith("9 values break the schema")
    assert text.endswith("and 4 more")
