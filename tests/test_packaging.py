"""What is built is what people install: wheel and source distribution, newest and oldest dependencies, known faults."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from sbom import add_bill

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TESTING = ("pytest>=8.4", "pytest-xdist>=3.6", "hypothesis>=6.130", "nbclient>=0.10")
"""What the tests of the core need beside the package."""
VERSIONS = [name for line in PROJECT["classifiers"] if (name := line.rpartition(" :: ")[2]).startswith("3.")]
CORE = ["tests/test_rates.py", "tests/test_periods.py", "tests/test_loading.py", "tests/test_write_back.py"]


def run(*command: str | Path, cwd: Path = ROOT, **settings: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=kept | settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    return {path.suffix: path for path in folder.iterdir()}


@pytest.mark.nightly
@pytest.mark.parametrize("kind", [".whl", ".gz"])
def test_distribution__works_in_a_clean_environment(kind: str, built: dict[str, Path], tmp_path: Path) -> None:
    """The demo runs with the base dependencies alone, away from the checkout, and no test file is installed."""
    venv.create(tmp_path / "clean", with_pip=True)
    python = tmp_path / "clean" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", built[kind])
    run(python.parent / "opp-pandas", "demo", cwd=tmp_path)
    place = run(python, "-c", "import opp_pandas; print(opp_pandas.__path__[0])", cwd=tmp_path).strip()
    assert not [path for path in Path(place).rglob("*") if path.name in ("conftest.py", "tests")]
    run(python, "-m", "pip", "check")


@pytest.mark.nightly
def test_wheel__holds_its_bill_of_materials(built: dict[str, Path], tmp_path: Path) -> None:
    """The bill stands where PEP 770 says and is listed, and the wheel still installs."""
    wheel = Path(shutil.copy(built[".whl"], tmp_path))
    place = add_bill(wheel)
    assert ".dist-info/sboms/" in place
    with zipfile.ZipFile(wheel) as archive:
        bill = archive.read(place).decode()
        assert archive.testzip() is None
    assert all(requirement.partition(">=")[0] in bill for requirement in PROJECT["dependencies"])
    venv.create(tmp_path / "clean", with_pip=True)
    run(tmp_path / "clean" / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", wheel)


@pytest.fixture(scope="module")
def uv() -> str:
    """The program that resolves the lowest versions, and makes environments of any Python."""
    found = shutil.which("uv")
    if found is None:
        pytest.skip("uv is not installed: pip install uv")
    return found


@pytest.mark.nightly
@pytest.mark.parametrize("version", VERSIONS)
def test_core__passes_on_every_python(version: str, uv: str, tmp_path: Path) -> None:
    """Each Python that is stated has the newest dependencies that there are for it, and none of them warns."""
    made = subprocess.run(
        [uv, "venv", "--quiet", "--python", version, tmp_path / "new"], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no Python {version} is here or to be had")
    python = tmp_path / "new" / "bin" / "python"
    run(uv, "pip", "install", "--quiet", "--python", python, "--editable", f"{ROOT}[dev]")
    run(python, "-m", "pytest", "-q", "-n1", "-m", "core", "-p", "no:cacheprovider")


@pytest.mark.nightly
def test_lower_bounds__pass_the_tests(uv: str, tmp_path: Path) -> None:
    """The oldest dependencies that are allowed do what the newest do."""
    run(uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "old")
    python = tmp_path / "old" / "bin" / "python"
    extras = "app,history,learn,notebook,report"
    lowest = ("pip", "install", "--quiet", "--python", python, "--resolution", "lowest-direct")
    run(uv, *lowest, f"opp_pandas[{extras}] @ {ROOT.as_uri()}", *TESTING)
    listed = run(uv, "pip", "freeze", "--python", python)
    assert "pandas==3.0.0" in listed
    # Old packages warn of newer ones below them; that is not what is asked.
    calm = ("-o", "filterwarnings=default", "-p", "no:cacheprovider")
    run(python, "-m", "pytest", "-q", "-n0", *calm, *CORE, cwd=ROOT, PYTHONPATH=str(ROOT))


@pytest.mark.nightly
def test_dependencies__have_no_known_vulnerability() -> None:
    """pip-audit finds nothing in what is installed; where its database cannot be reached, this is skipped and said."""
    command = [sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner=off", "--timeout=20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode and "Found " not in done.stderr:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        pytest.skip(f"pip-audit could not ask its database: {said[-1][:200] if said else 'no answer'}")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.nightly
def test_mutation_score__does_not_fall(tmp_path: Path) -> None:
    """The core tests notice most small faults that are put into the win rates; 85 of 100 when this was written."""
    tree = tmp_path / "tree"
    shutil.copytree(
        ROOT, tree, ignore=shutil.ignore_patterns(".git", "node_modules", "mutants", "__pycache__", ".*_cache")
    )
    run(sys.executable, "-m", "mutmut", "run", "--max-children", "1", "opp_pandas.figures.rates*", cwd=tree)
    run(sys.executable, "-m", "mutmut", "export-cicd-stats", cwd=tree)
    counts = json.loads((tree / "mutants" / "mutmut-cicd-stats.json").read_text(encoding="utf-8"))
    assert counts["killed"] >= 0.8 * (counts["killed"] + counts["survived"] + counts["no_tests"]), counts


def test_base_dependencies__say_what_they_are_for() -> None:
    """Each has a lower bound, and a reason beside it."""
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    for requirement in PROJECT["dependencies"]:
        (line,) = [line for line in lines if line.strip().startswith(f'"{requirement}",')]
        assert ">=" in requirement
        assert len(line.partition("#")[2].split()) >= 2, line


@pytest.mark.nightly
def test_old_python__is_told_which_one_is_needed(tmp_path: Path) -> None:
    """No dependency is looked for on a Python that is too old, where its absence would hide the reason."""
    old = shutil.which("python3.10")
    assert PROJECT["requires-python"] == ">=3.11"
    assert "pandas>=3.0; python_version >= '3.11'" in PROJECT["dependencies"]
    if old is None or subprocess.run([old, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("no Python 3.10 here to be told")
    run(old, "-m", "venv", tmp_path)
    done = subprocess.run([tmp_path / "bin" / "pip", "install", str(ROOT)], capture_output=True, text=True, check=False)
    assert "requires a different Python" in done.stderr
