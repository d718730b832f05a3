"""Lists of verification trials: names as people write them, and mistakes that are told."""

import pytest

from strata.pipeline.errors import StageError
from strata.pipeline.stages import trial_list

UTTERANCES = ["vox/id1/a/00001.wav", "vox/id1/a/00002.wav", "vox/id2/b/00001.wav", "other/x", "other/id2/b/00001"]


@pytest.fixture
def file(tmp_path):
    def write(text: str):
        path = tmp_path / "veri_test.txt"
        path.write_text(text)
        return path

    return write


def test_an_utterance_is_named_by_its_id_or_its_name_with_or_without_extension(file):
    """Lines as VoxCeleb has them; empty ones and spaces at the ends are nothing."""
    path = file(
        "1 id1/a/00001.wav id1/a/00002.wav\n"
        "0 vox/id1/a/00001 id1/a/00002.flac\n\n"
        "  0 vox/id2/b/00001.wav other/x.wav  \n"
        "1 id2/b/00001 other/id2/b/00001.WAV\n"
    )
    assert trial_list.read(path, UTTERANCES) == [(0, 1, True), (0, 1, False), (2, 3, False), (4, 4, True)]


def test_unknown_names_are_counted_in_one_line(file, capsys):
    """Their trials are left out."""
    path = file("1 id1/a/00001.wav id1/a/00002.wav\n0 x nobody.wav\n1 nobody.wav nothing\n")
    assert trial_list.read(path, UTTERANCES) == [(0, 1, True)]
    assert capsys.readouterr().err == (
        "veri_test.txt: 2 of 3 trials are left out, which name 2 utterances that are not there, such as nobody.wav\n"
    )


@pytest.mark.parametrize("line", ["1 x", "2 x y", "x y 1", "1 x y z", "id1/a/00001.wav,x,1"])
def test_a_line_of_another_form_is_refused(file, line):
    """With its number, and what was expected."""
    with pytest.raises(StageError, match=rf"veri_test.txt, line 2: expected `0\|1 first second`, found '{line}'"):
        trial_list.read(file(f"1 x x\n{line}\n"), UTTERANCES)


def test_a_name_of_two_utterances_is_refused(file):
    """A guess would compare others than those meant."""
    both = "m/00001.wav and n/00001.wav; write the id"
    with pytest.raises(StageError, match=f"line 1: '00001' may be {both}"):
        trial_list.read(file("0 x 00001\n"), ["m/00001.wav", "n/00001.wav", "n/x"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "none of its 0 trials can be used: expected lines"),
        ("1 a b\n", "none of its 1 trials can be used; 'a' is none of 5 such as 'vox/id1/a/00001.wav'"),
    ],
)
def test_a_list_without_a_usable_trial_is_refused(file, text, message):
    """Empty, or of another corpus."""
    with pytest.raises(StageError, match=message):
        trial_list.read(file(text), UTTERANCES)


def test_a_file_that_is_not_there_is_told(tmp_path):
    """By its path."""
    with pytest.raises(StageError, match=r"nowhere.txt cannot be read as a list of trials"):
        trial_list.read(tmp_path / "nowhere.txt", UTTERANCES)


def test_trials_are_known_by_names_whatever_order_the_utterances_have(file):
    """Row numbers change with the order of the manifest, and what a result follows from must not."""
    path = file("1 id1/a/00001.wav id1/a/00002.wav\n0 vox/id2/b/00001.wav other/x.wav\n")
    turned = UTTERANCES[::-1]
    assert trial_list.read(path, turned) != trial_list.read(path, UTTERANCES)
    found = trial_list.named(trial_list.read(path, turned), turned)
    assert found == trial_list.named(trial_list.read(path, UTTERANCES), UTTERANCES)
    assert found[0] == ("vox/id1/a/00001.wav", "vox/id1/a/00002.wav", True)


def test_a_list_that_is_a_link_to_nothing_is_told_as_that(tmp_path):
    """By where it leads."""
    (tmp_path / "trials.txt").symlink_to("unmounted/trials.txt")
    with pytest.raises(StageError, match=r"trials\.txt is a link that leads nowhere, to unmounted/trials\.txt; mend"):
        trial_list.read(tmp_path / "trials.txt", UTTERANCES)
