"""How many small faults the tests notice: ``python tests/mutation.py [MODULE.py ...] [--most N]``.

Changes one operator, comparison, constant or condition of a copy of the package at a
time, and runs the tests that name the module's room until one fails.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = {
    "opp_pandas/figures/rates.py": ["tests/test_rates.py"],
    "opp_pandas/figures/core/periods.py": ["tests/test_periods.py"],
    "opp_pandas/figures/core/money.py": ["tests/test_money.py"],
    "opp_pandas/figures/forecasts.py": ["tests/test_forecasts.py"],
}
"""The core: modules, and the tests that hold them."""
_SWAPS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt,
    ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip


def _typed(tree: ast.AST) -> set[int]:
    """The nodes of annotations, which do nothing when the program runs."""
    found: set[int] = set()
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            part = getattr(node, field, None)
            if part is not None:
                found |= {id(inner) for inner in ast.walk(part)}
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            found |= {id(inner) for inner in ast.walk(node)}
    return found


def mutants(source: str) -> Iterator[tuple[int, str]]:
    """Yield every changed source, with the line of the change."""
    tree = ast.parse(source)
    nodes, typed = list(ast.walk(tree)), _typed(tree)
    for place, node in enumerate(nodes):
        if id(node) in typed or not isinstance(node, ast.BinOp | ast.Compare | ast.BoolOp | ast.Constant | ast.UnaryOp):
            continue
        changed = copy.deepcopy(tree)
        twin = list(ast.walk(changed))[place]
        if isinstance(twin, ast.BinOp | ast.BoolOp) and type(twin.op) in _SWAPS:
            twin.op = _SWAPS[type(twin.op)]()
        elif isinstance(twin, ast.Compare) and type(twin.ops[0]) in _SWAPS:
            twin.ops[0] = _SWAPS[type(twin.ops[0])]()
        elif isinstance(twin, ast.Constant) and isinstance(twin.value, bool | int | float):
            twin.value = not twin.value if isinstance(twin.value, bool) else twin.value + 1
        elif isinstance(twin, ast.UnaryOp) and isinstance(twin.op, ast.Invert | ast.Not):
            twin.operand = ast.UnaryOp(type(twin.op)(), twin.operand)
        else:
            continue
        yield getattr(node, "lineno", 0), ast.unparse(ast.fix_missing_locations(changed))


def score(module: str, tests: list[str], most: int) -> tuple[int, int]:
    """Print the changes that no test noticed; return how many were noticed, and how many were tried."""
    source = (ROOT / module).read_text(encoding="utf-8")
    every = list(mutants(source))
    chosen = random.Random(0).sample(every, min(most, len(every)))
    noticed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in ("opp_pandas", "tests", "pyproject.toml"):
            copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copied(ROOT / name, Path(folder) / name)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", *tests]
        settings = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        for line, text in [(0, source), *chosen]:
            (Path(folder) / module).write_text(text, encoding="utf-8")
            try:
                done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, timeout=120, check=False)
                failed = done.returncode != 0
            except subprocess.TimeoutExpired:
                failed = True
            if line == 0 and text is source:
                assert not failed, f"{tests} fail on {module} as it is:\n{done.stdout.decode()[-2000:]}"
                continue
            noticed += failed
            if not failed:
                print(f"  not noticed: {module}:{line}", flush=True)
    print(
        f"{module}: {noticed} of {len(chosen)} changes noticed ({noticed / len(chosen):.0%}; {len(every)} are possible)"
    )
    return noticed, len(chosen)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="modules of the core; all of them if left out")
    parser.add_argument("--most", type=int, default=40, help="changes tried in each module")
    given = parser.parse_args()
    sums = [score(module, TESTS[module], given.most) for module in given.modules or TESTS]
    noticed, tried = map(sum, zip(*sums, strict=True))
    print(f"mutation score: {noticed / tried:.0%} ({noticed} of {tried})")
