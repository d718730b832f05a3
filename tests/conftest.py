"""What every test shares: checked shapes and a quiet machine."""

import os
from pathlib import Path

os.environ.setdefault("POT_BACKEND_DISABLE_TENSORFLOW", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models here are too small to share, and cores may be busy
# Models are trained in the test's own process: the workers that `strata train` starts import PyTorch for some seconds
# of work, and would be as many per process of the suite as there are cores.
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")

import pytest
from hypothesis import settings

from tests import checked

# Axis names in signatures are checked against the arrays that really pass, in every test run; of the trainers and the
# store all annotations are.
checked.install(["strata.trainers", "strata.store"], ["strata.extractors", "strata.pipeline"])

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("strata", deadline=None)
settings.load_profile("strata")


def pytest_addoption(parser):
    """`--slow` runs what takes minutes and guards what seldom changes."""
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


LONGEST = [
    "pipeline/test_dvc_flows.py",
    "pipeline/test_dvc.py",
    "pipeline/extraction/test_cluster.py",
    "pipeline/commands/layers/test_narrowing.py",
    "trainers/test_experiment.py",
    "pipeline/stages/test_extract_crashes.py",
    "pipeline/commands/test_predict.py",
    "extractors/test_tfhub.py",
]
"""Files that take longest: they come first, so that no worker is left with one while the others have nothing to do."""


def pytest_collection_modifyitems(config, items):
    """Leaves out what is marked slow, and says how to run it; puts the longest files first."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(here).as_posix() not in LONGEST)
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
