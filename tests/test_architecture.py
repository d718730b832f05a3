"""The tree is the architecture: imports run one way, and backends stay in their files."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "extractors": set(),
    "store": set(),
    "trainers": set(),
    "pipeline": {"extractors", "store", "trainers", "recipes"},
}
BACKENDS = {
    "tensorflow": {"extractors/tfhub.py"},
    "tensorflow_hub": {"extractors/tfhub.py"},
    "speechbrain": {"extractors/speechbrain.py"},
    "transformers": {"extractors/transformers/checkpoints.py"},
    "zarr": {"store/zarr_arrays.py"},  # which hands a store over; else its bytes are read and written by hand
    "obstore": {"store/objects.py"},
    "distributed": {"pipeline/extraction/cluster.py"},
    "opensmile": {"extractors/opensmile.py"},
    "h5py": {"store/hdf5.py"},
    "optuna": {
        "trainers/search/tuning.py"
    },  # brings a database's client along; what a search may try is checked without it
}


def imported(file: Path) -> set[str]:
    """Top-level names of all modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_run_one_way(package):
    """extractors, store and trainers know nothing of each other; only the pipeline knows them all."""
    others = MAY_IMPORT.keys() - MAY_IMPORT[package] - {package}
    for file in (ROOT / package).rglob("*.py"):
        assert not imported(file) & others, file


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_is_imported_by_its_own_file_alone(backend):
    """Nobody pays for, or breaks on, a library that the view at hand does not use."""
    files = (file for package in MAY_IMPORT for file in (ROOT / package).rglob("*.py"))
    users = {file.relative_to(ROOT).as_posix() for file in files if backend in imported(file)}
    assert users <= BACKENDS[backend]


RESULTS = ["downstream", "eliminations", "experiments", "ranking", "reading", "searches", "testsets"]
LIGHT = ["extractors", "trainers", "pipeline.cli", "pipeline.report", *(f"pipeline.results.{name}" for name in RESULTS)]


@pytest.mark.parametrize("module", [f"strata.{name}" for name in LIGHT])
def test_nothing_heavy_is_imported_before_it_is_needed(module):
    """`strata --help` starts at once."""
    heavy = ["torch", "tensorflow", "transformers", "zarr", "pandas", "matplotlib", "sklearn", "scipy"]
    heavy += ["pydantic", "h5py", "optuna"]
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"
