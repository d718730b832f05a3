"""Paths of a table stay below the root."""

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.pipeline.corpora import paths
from strata.pipeline.corpora.paths import Lookup, OutsideRoot, below, locate, spelled

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


def in_form(form, text):
    return unicodedata.normalize(form, text)


@pytest.fixture
def planted(tmp_path):
    """Plants empty files below a root and makes the lookup that knows them."""

    def plant(*names: str, **options) -> Lookup:
        root = tmp_path / "root"
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        return Lookup(root, sorted(path for path in root.rglob("*") if path.is_file()), **options)

    return plant


NAME = "Gefühl/Ärger/ñandú Ω.wav"


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_table", ["NFC", "NFD"])
def test_a_name_is_found_in_whatever_normal_form(planted, on_disk, in_table):
    """A table from one system and a copy from another, either way round; the name is the same."""
    lookup = planted(in_form(on_disk, NAME))
    found = lookup.find(lookup.root, in_form(in_table, NAME))
    assert found == lookup.root / in_form(on_disk, NAME)
    assert lookup.name(found) == in_form("NFC", NAME)


def test_forms_may_be_mixed(planted):
    """Folder by folder, as in an archive that was packed on two systems."""
    folder, name = in_form("NFD", "Gefühl"), in_form("NFC", "Ärger.wav")
    lookup = planted(f"{folder}/{name}")
    assert lookup.find(lookup.root, in_form("NFC", "Gefühl/") + in_form("NFD", "Ärger.wav")) is not None


def test_what_is_there_as_written_comes_first(planted):
    """Where a file system holds both forms of a name, or a name with a backslash."""
    both = [in_form("NFC", "ä.wav"), in_form("NFD", "ä.wav"), "x\\a.wav", "x/a.wav"]
    lookup = planted(*both)
    for name in both:
        assert lookup.find(lookup.root, name) == lookup.root / name


@pytest.mark.parametrize("cell", ["wav\\a.wav", ".\\wav\\a.wav", "wav\\\\a.wav", "wav/a.wav"])
def test_backslashes_divide_folders(planted, cell):
    """As Windows writes them; the name has slashes."""
    lookup = planted("wav/a.wav")
    found = lookup.find(lookup.root, cell)
    assert lookup.name(found) == "wav/a.wav"


def test_backslashes_and_another_form_together(planted):
    """Both repairs are tried."""
    lookup = planted(in_form("NFD", "gefühl/ä.wav"))
    assert lookup.find(lookup.root, in_form("NFC", "gefühl\\ä.wav")) is not None


def test_absolute_paths_in_another_form(planted, tmp_path):
    """Where they are allowed."""
    elsewhere = tmp_path / in_form("NFD", "Hörbücher") / "a.wav"
    elsewhere.parent.mkdir()
    elsewhere.touch()
    lookup = planted("a.wav", absolute_paths=True)
    assert lookup.find(lookup.root, f"{tmp_path}/{in_form('NFC', 'Hörbücher')}/a.wav") == elsewhere


@pytest.mark.parametrize("cell", ["gone.wav", "wav", "\0.wav", "long" * 99 + ".wav", "a/" * 5000, "a.wav/b.wav"])
def test_what_is_not_there(planted, cell):
    """Is not found, however odd its name."""
    lookup = planted("a.wav", "wav/a.wav")
    assert lookup.find(lookup.root, cell) is None


@pytest.mark.parametrize(
    ("missing", "nearest"),
    [
        ("wav/a.wav", "train/wav/a.wav"),  # in another folder
        ("train/wav/A.WAV", "train/wav/a.wav"),  # in other letter case
        ("train/wav/a.flac", "train/wav/a.wav"),
        ("speaker_01/take_11.wav", "speaker_01/take_1.wav"),
        ("speeker_01\\take_1.wav", "speaker_01/take_1.wav"),
        ("something else.mp4", None),
    ],
)
def test_the_nearest_that_is_there(planted, missing, nearest):
    """By name in another folder, then in its folder, then anywhere; nothing far-fetched."""
    lookup = planted("train/wav/a.wav", "train/wav/zz.wav", "speaker_01/take_1.wav", "speaker_02/other.wav")
    assert lookup.nearest(lookup.root / missing) == nearest


def test_a_link_that_leads_nowhere_is_not_the_nearest(tmp_path):
    """Whoever took it would be told next that it is not there."""
    (tmp_path / "take_1.wav").touch()
    (tmp_path / "take_11.wav").symlink_to("nowhere")
    lookup = Lookup(tmp_path, sorted(tmp_path.iterdir()))
    assert lookup.nearest(tmp_path / "take_12.wav") == "take_1.wav"


def test_looking_for_the_nearest_is_bounded(planted, monkeypatch):
    """Thousands of missing files among thousands cost seconds, not hours."""
    monkeypatch.setattr(paths, "_COMPARISONS", 7)
    lookup = planted("take_1.wav", "take_2.wav", "take_3.wav")
    assert lookup.nearest(lookup.root / "take_11.wav") == "take_1.wav"
    told = [lookup.nearest(lookup.root / f"take_{number}1.wav") for number in range(5)]
    assert None in told


def test_a_root_in_another_form_or_with_backslashes(tmp_path):
    """params.yaml is written on one system and read on another, too."""
    (tmp_path / in_form("NFD", "Gefühle/wav")).mkdir(parents=True)
    (tmp_path / "study").mkdir()
    for written in ("../Gefühle/wav", "..\\Gefühle\\wav", str(tmp_path / "Gefühle" / "wav")):
        found = below(tmp_path / "study", Path(in_form("NFC", written)))
        assert os.path.samefile(found, tmp_path / in_form("NFD", "Gefühle/wav"))
    assert below(tmp_path, Path("gone")) == tmp_path / "gone"
