"""Editors and type checkers know every figure, plot and door, its options and its choices."""

from __future__ import annotations

import inspect
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

import opp_pandas as opp
from accessor_stub import SWITCHES, TARGET
from opp_pandas import choices
from opp_pandas.accessor import OpportunityAccessor, PlotAccessor
from opp_pandas.docstrings import entries_of
from opp_pandas.figures.core.figure import PLOTS

DOORS = ("read_opportunities", "adopt", "connect", "read_export", "resume", "undo", "apply_plan", "scan", "sandbox")
FRAMES = ("frame", "frame.copy()", "frame.query('amount > 1')", "frame.loc[frame['amount'] > 1]", "frame.assign(a=1)")
HEAD = """from typing import Any

import opp_pandas as opp


def check(frame: opp.OpportunityFrame, anything: Any) -> None:
"""
ROOT = Path(__file__).parents[1]


def test_stub__is_fresh() -> None:
    """Stubs are what registry and switches give: after a change of one, run ``python tests/accessor_stub.py``."""
    # In a process of its own: a method that was looked at takes the place of its door, and forgets what it gives.
    command = [sys.executable, str(ROOT / "tests" / "accessor_stub.py"), "--print"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    kept = TARGET.read_text(encoding="utf-8") + SWITCHES.read_text(encoding="utf-8")
    assert kept == made, "run python tests/accessor_stub.py"


def test_signatures__are_right_in_the_kernel() -> None:
    """Each method shows its own arguments, never the frame or the context, and is documented, plots included."""
    for owner in (OpportunityAccessor, PlotAccessor):
        for name, method in methods_of(owner):
            shown = inspect.signature(method).parameters
            assert not {"frame", "context", "options", "kit"} & set(shown), name
            assert (inspect.getdoc(method) or "").strip(), name
    assert {"as_of", "stages", "timezone"} <= set(inspect.signature(OpportunityAccessor.forecast).parameters)
    assert {"quota", "freq", "ax"} <= set(inspect.signature(PlotAccessor.forecast).parameters)


def test_help__describes_every_argument_and_none_that_cannot_be_given() -> None:
    """A plot describes what is said of the drawing; the rest of its arguments are those of the figure that it names."""
    for owner in (OpportunityAccessor, PlotAccessor):
        for name, method in methods_of(owner):
            told = re.split(r"\n\nParameters\n-+\n|\n\n\w+\n-{3,}\n", inspect.getdoc(method) or "")
            taken = set(inspect.signature(method).parameters) - {"self"}
            drawn = {p.name for p in PLOTS[name].options} if owner is PlotAccessor else taken
            described = set(entries_of(told[1])) if "\nParameters\n" in (inspect.getdoc(method) or "") else set()
            assert drawn <= described <= taken, name


def methods_of(owner: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public method of an accessor, registered figures and plots included."""
    instance = owner(None)
    for name in dir(instance):
        if name.startswith("_") or name == "load" or isinstance(inspect.getattr_static(owner, name, None), property):
            continue
        yield name, getattr(owner, name)


def misspell(word: str, known: set[str], rng: random.Random) -> str:
    """Swap two letters, or drop one where that gives nothing new."""
    for _ in range(50):
        place = rng.randrange(len(word) - 1) if len(word) > 1 else 0
        swapped = word[:place] + word[place + 1 : place + 2] + word[place] + word[place + 2 :]
        if swapped not in known and swapped.isidentifier():
            return swapped
    return word + word[-1]


def values_of(annotation: str) -> tuple[str, ...]:
    """The words that a parameter chooses from."""
    for name in re.findall(r"[A-Z]\w+", annotation):
        if hasattr(choices, name):
            return get_args(getattr(choices, name))
    found = re.search(r"Literal\[([^\]]*)\]", annotation)
    return tuple(re.findall(r"'(\w+)'|\"(\w+)\"", found[1])[0]) if found else ()


def calls() -> Iterator[tuple[str, str, str]]:
    """Every method, option and choice: kind, the call with ``{}`` for the word, the word as it is written right."""
    for prefix, owner in ((".opp.", OpportunityAccessor), (".opp.plot.", PlotAccessor)):
        for name, method in methods_of(owner):
            parameters = [p for p in inspect.signature(method).parameters.values() if p.name != "self"]
            yield from calls_of("FRAME" + prefix, name, parameters)
    for name in DOORS:
        yield from calls_of("opp.", name, list(inspect.signature(getattr(opp, name)).parameters.values()))


def calls_of(owner: str, name: str, parameters: list[inspect.Parameter]) -> Iterator[tuple[str, str, str]]:
    """The calls of one function."""
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    required = ", ".join(f"{needed_name}=anything" for needed_name in needed)
    yield "method", f"{owner}{{}}({required})", name
    for parameter in parameters:
        others = ", ".join(f"{other}=anything" for other in needed if other != parameter.name)
        comma = ", " if others else ""
        yield "option", f"{owner}{name}({others}{comma}{{}}=anything)", parameter.name
        for word in values_of(str(parameter.annotation)):
            if word and "Sequence" not in str(parameter.annotation):
                yield "choice", f"{owner}{name}({others}{comma}{parameter.name}='{{}}')", word


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, int]:
    """Two hundred calls written right, and the same with one word of each misspelt."""
    rng = random.Random(15)
    known: dict[str, list[tuple[str, str]]] = {}
    for kind, call, word in calls():
        known.setdefault(kind, []).append((call, word))
    words = {word for entries in known.values() for _, word in entries}
    right, wrong = [], []
    for kind, n in (("method", 50), ("option", 100), ("choice", 50)):
        for call, word in rng.sample(known[kind], n):
            line = "    " + call.replace("FRAME", rng.choice(FRAMES))
            right.append(line.replace("{}", word))
            wrong.append(line.replace("{}", misspell(word, words, rng)))
    folder = tmp_path_factory.mktemp("typed")
    for name, lines in (("right", right), ("wrong", wrong)):
        (folder / f"{name}.py").write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    return folder / "right.py", folder / "wrong.py", len(wrong)


def lines_with_errors(checker: str, file: Path) -> set[int]:
    """The lines of a file that a type checker finds wrong."""
    if checker == "mypy":
        command = ["mypy", "--strict", "--no-error-summary", "--hide-error-context", "--no-pretty", str(file)]
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        found = re.findall(rf"{re.escape(file.name)}:(\d+): error", done.stdout)
        return {int(line) for line in found}
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(file)],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"], done.stdout + done.stderr
    errors = [entry for entry in report["generalDiagnostics"] if entry["severity"] == "error"]
    return {entry["range"]["start"]["line"] + 1 for entry in errors}


@pytest.mark.nightly
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_type_checkers__catch_two_hundred_misspelt_words(samples: tuple[Path, Path, int], checker: str) -> None:
    """Without a plugin each misspelt method, option and choice is an error in its line, and none as it is right."""
    if checker == "pyright":
        pytest.importorskip("pyright", reason="pip install pyright")
    right, wrong, n = samples
    first = HEAD.count("\n") + 1
    assert lines_with_errors(checker, right) == set()
    missed = set(range(first, first + n)) - lines_with_errors(checker, wrong)
    text = wrong.read_text(encoding="utf-8").splitlines()
    assert not missed, "\n".join(text[line - 1] for line in sorted(missed))
