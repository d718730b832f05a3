"""Paths of a table stay below the root."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpora.paths import OutsideRoot, locate, spelled

ROOT = Path("/srv/corpus")


@pytest.mark.parametrize(
    ("cell", "name"),
    [("a.wav", "a.wav"), ("./x//a.wav", "x/a.wav"), ("1:30.wav", "1:30.wav"), ("a..b.wav", "a..b.wav")],
)
def test_paths_below_the_root(cell, name):
    """A relative path begins at the root, and has one spelling."""
    assert spelled(cell) == name
    for absolute_paths in (False, True):
        assert locate(ROOT, cell, absolute_paths=absolute_paths) == ROOT / name


@pytest.mark.parametrize("cell", ["..", "../a.wav", "x/../../a.wav", r"..\a.wav", r"x\..\..\a.wav", r"C:\x\..\a.wav"])
def test_climbing_is_never_allowed(cell):
    """ ".." is refused whatever divides it from the rest, and whatever the option says."""
    for absolute_paths in (False, True):
        with pytest.raises(OutsideRoot, match=r'lies outside the folder; paths with "\.\." are never read'):
            locate(ROOT, cell, absolute_paths=absolute_paths)


@pytest.mark.parametrize(
    "cell", ["/a.wav", "//server/share/a.wav", r"C:\a.wav", "C:/a.wav", r"\a.wav", r"\\server\share\a"]
)
def test_absolute_paths_of_any_system(cell):
    """An absolute path is refused unless it is allowed, and then read only if it is one on this machine."""
    with pytest.raises(OutsideRoot, match="absolute paths are read where absolute_paths is true"):
        locate(ROOT, cell)
    if Path(cell).is_absolute():
        assert locate(ROOT, cell, absolute_paths=True) == Path(cell)
    else:
        with pytest.raises(OutsideRoot, match="no absolute path on this machine"):
            locate(ROOT, cell, absolute_paths=True)


@given(st.lists(st.sampled_from(["..", ".", "/", "\\", "C:", "a", "b.wav"]), min_size=1, max_size=7).map("".join))
def test_whatever_is_located_is_below_the_root(cell):
    """No mixture of dots, slashes, backslashes and drives leads out."""
    try:
        path = locate(ROOT, cell)
    except OutsideRoot:
        return
    assert Path(*path.parts).resolve().is_relative_to(ROOT)
