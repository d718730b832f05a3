"""The tree is the architecture: imports run one way, folders say what a file is for, backends stay in their files."""

import ast
import subprocess
import sys
import tomllib

import pytest

from strata.pipeline import cli
from strata.pipeline.study import yaml12
from tests.imports import PACKAGES, ROOT, files, graph, names, needed, tree
from tests.sampling import sweep

MAY_IMPORT = {
    "extractors": set(),
    "store": set(),
    "trainers": set(),
    "pipeline": {"extractors", "store", "trainers", "recipes"},
    "recipes": set(),
}
BACKENDS = {
    "tensorflow": {"extractors/tfhub.py"},
    "tensorflow_hub": {"extractors/tfhub.py"},
    "speechbrain": {"extractors/speechbrain.py"},
    "transformers": {"extractors/transformers/checkpoints.py"},
    "zarr": {"store/zarr_arrays.py"},  # hands a store over; else it is written by hand, and held to Zarr by tests
    "obstore": {"store/objects.py"},
    "distributed": {"pipeline/extraction/cluster.py", "pipeline/scheduler.py", "pipeline/stages/cluster.py"},
    "opensmile": {"extractors/opensmile.py"},
    "h5py": {"store/hdf5.py"},
    "ot": {"trainers/modules/fusions/pot.py"},  # POT: imports TensorFlow unless told not to
    "optuna": {"trainers/search/tuning.py"},  # brings a database's client along; what may be tried is checked without
}
PIPELINE = (
    ("cli",),
    ("commands", "stages", "report"),
    ("extraction", "results"),
    ("study",),
    ("corpora", "show"),
    ("scheduler",),
    ("errors", "files", "progress"),
)
"""Folders and files of the pipeline: each imports those of the rows below its own, and nothing else but itself."""
TRAINERS = (
    ("revisions",),
    ("search",),
    ("evaluation",),
    ("training",),
    ("models",),
    ("folds",),
    ("inputs",),
    ("spec",),
    ("modules",),
    ("tasks",),
    ("scale", "section", "setups", "suggestion"),
)
"""The same of the trainers, as `strata.trainers` tells it."""
HEAVY = ["torch", "tensorflow", "transformers", "zarr", "pandas", "matplotlib", "sklearn", "scipy"]
HEAVY += ["pydantic", "h5py", "optuna"]
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 59


def place(module: str) -> str:
    """The folder of the pipeline that a module is in, or the file that it is."""
    return module.split(".")[2]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_run_one_way(package):
    """extractors, store and trainers know nothing of each other; only the pipeline knows them all."""
    others = {f"strata.{name}" for name in MAY_IMPORT.keys() - MAY_IMPORT[package] - {package}}
    for file in (ROOT / package).rglob("*.py"):
        assert not {".".join(name.split(".")[:2]) for name in names(file)} & others, file


def test_no_two_files_import_each_other():
    """Not by way of others either, and not inside functions: whoever reads a file has what is below it, and an end."""
    finished: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " → ".join((*above[above.index(module) :], module))
        for imported in sorted(graph()[module] - finished):
            visit(imported, (*above, module))
        finished.add(module)

    for module in sorted(graph()):
        visit(module, ())


def test_folders_of_the_pipeline_import_downwards():
    """A command knows no stage, a stage no command; what both need lies below them."""
    rows = {name: number for number, row in enumerate(PIPELINE) for name in row}
    for module, imported in graph().items():
        for other in imported if module.startswith("strata.pipeline.") else ():
            if other.startswith("strata.pipeline.") and place(other) != place(module):
                assert rows[place(other)] > rows[place(module)], f"{module} imports {other}"


def test_no_stage_imports_another_stage():
    """What two of them need is a module of its own."""
    own = {f"strata.pipeline.stages.{stage}" for stage in stages()}
    assert not {module: graph()[module] & own for module in own & graph().keys() if graph()[module] & own}


def test_nobody_imports_what_is_private_to_another_file():
    """A name that begins with an underline is its file's own."""
    for file in files().values():
        for name in names(file):
            if name.startswith("strata."):
                assert not [part for part in name.split(".") if part.startswith("_")], f"{file} imports {name}"


def test_folders_of_the_trainers_import_downwards():
    """A model knows no training loop, a kind of task no model; their docstring tells the order."""
    rows = {name: number for number, row in enumerate(TRAINERS) for name in row}
    assert {place(module) for module in graph() if module.startswith("strata.trainers.")} == set(rows)
    for module, imported in graph().items():
        for other in imported if module.startswith("strata.trainers.") else ():
            if other.startswith("strata.trainers.") and place(other) != place(module):
                assert rows[place(other)] > rows[place(module)], f"{module} imports {other}"
    told = ast.get_docstring(tree(ROOT / "trainers/__init__.py"))
    assert " < ".join(row[0] for row in TRAINERS[-2::-1]) in told


def test_the_report_is_imported_by_nobody():
    """The command line alone calls it, by its name."""
    for module, imported in graph().items():
        if not module.startswith("strata.pipeline.report"):
            assert not [other for other in imported if other.startswith("strata.pipeline.report")], module


def stages() -> dict[str, set[str]]:
    """The code that each stage of dvc.yaml depends on."""
    found = yaml12.load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    deps = {name: stage.get("do", stage)["deps"] for name, stage in found.items()}
    return {name: {dep for dep in all_ if dep.split("/")[0] in PACKAGES} for name, all_ in deps.items()}


@pytest.mark.parametrize("stage", stages())
def test_a_stage_depends_on_the_code_that_it_runs(stage):
    """DVC runs it again when any of that has changed, and for no other code: a folder stands for all of its files.

    The right list is: every folder with a file that the stage imports, by way of others and inside functions too; of
    pipeline/ and of pipeline/stages, the files and folders one by one.
    """
    (module,) = cli.COMMANDS[stage][1][:1]
    wanted = set()
    for file in needed(f"strata.pipeline.{module}"):
        parts = file.relative_to(ROOT).parts
        depth = 1 if parts[0] != "pipeline" else 3 if parts[1] == "stages" else 2
        wanted.add("/".join(parts[:depth]))
    assert stages()[stage] == wanted


def test_every_stage_of_dvc_is_a_command():
    """Of the same name."""
    assert set(stages()) <= set(cli.COMMANDS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_is_imported_by_its_own_file_alone(backend):
    """Nobody pays for, or breaks on, a library that the view at hand does not use."""
    users = {
        file.relative_to(ROOT).as_posix()
        for file in files().values()
        if backend in {name.split(".")[0] for name in names(file)}
    }
    assert users <= BACKENDS[backend]


@pytest.mark.parametrize(
    "module", ["strata.pipeline.cli", "strata.extractors", "strata.store", "strata.trainers", "strata.pipeline.report"]
)
def test_nothing_heavy_is_imported_before_it_is_needed(module):
    """`strata --help` starts at once."""
    assert loaded(f"import {module}", HEAVY) == "[]"


@pytest.mark.parametrize("command", sweep(["", *cli.COMMANDS], keep=4, always=[""]))
def test_help_imports_no_more_than_its_command(command):
    """`strata --help` imports no command; the help of a command, and a wrong word behind it, no model's library."""
    code = f"from strata.pipeline.cli import main\ntry: main('{command} --help'.split())\nexcept SystemExit: pass"
    assert loaded(code, ["torch", "tensorflow", "transformers", "matplotlib"] if command else HEAVY) == "[]"


def loaded(code: str, libraries: list[str]) -> str:
    """Which of some libraries a process has imported after some code, as the last line that it prints."""
    code += f"\nimport sys; print([name for name in {libraries} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return found.stdout.strip().splitlines()[-1]


def test_files_and_functions_can_be_read():
    """A file is about one thing, and a function about a screen; tests are no exception."""
    long = []
    for file in (*files().values(), *(ROOT / "tests").rglob("*.py")):
        name = file.relative_to(ROOT).as_posix()
        lines = len(file.read_text(encoding="utf-8").splitlines())
        if lines > MOST_LINES:
            long.append(f"{name}: {lines} lines")
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.FunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    long.append(f"{name}: {node.name} of {lines} lines")
    assert not long


def test_each_package_has_one_way_to_suggest_a_name():
    """What a message says of a word that is nearly right is said by one function."""
    for package in PACKAGES:
        users = [file for file in (ROOT / package).rglob("*.py") if "difflib.get_close_matches" in names(file)]
        assert len(users) <= 1, users


def project() -> dict:
    """`tool.setuptools` of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_the_list_of_packages_is_that_of_the_folders():
    """What is installed is what is here: every folder with a Python file, each below `strata`."""
    folders = {file.parent.relative_to(ROOT).parts for file in files().values()}
    assert sorted(project()["packages"]) == sorted(".".join(("strata", *parts)) for parts in folders)
    assert project()["package-dir"] == {f"strata.{package}": package for package in PACKAGES}


def test_files_that_are_no_code_are_installed_too():
    """Recipes, templates and what the page is made of."""
    patterns = [
        f"{name.removeprefix('strata.').replace('.', '/')}/{pattern}"
        for name, found in project()["package-data"].items()
        for pattern in found
    ]
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*"):
            if file.is_file() and file.suffix not in (".py", ".pyc"):
                assert any(file.relative_to(ROOT).match(pattern) for pattern in patterns), file


def test_nothing_but_the_kinds_themselves_branches_on_a_kind_of_task():
    """A new kind is one file: whatever differs between kinds is asked of the kind (`trainers.tasks`)."""
    from strata.trainers.tasks import KINDS

    found = []
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            if file.is_relative_to(ROOT / "trainers/tasks"):
                continue
            for node in ast.walk(tree(file)):
                sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
                constants = [each for side in sides for each in ast.walk(side) if isinstance(each, ast.Constant)]
                if any(each.value in KINDS for each in constants if isinstance(each.value, str)):
                    found.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not found
