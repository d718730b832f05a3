from pathlib import Path

import pytest

from strata.pipeline.corpora import CorpusError
from strata.pipeline.corpora.prompts import INSTALL, Prompts, utterances


def test_every_recording_of_every_voice(prompts_tree, tmp_path):
    """All recordings are found, sorted, those of a further language too, and nothing else."""
    names = [item.name for item in utterances(Prompts(root=prompts_tree), tmp_path)]
    assert names == [
        "en_US_f_Allison/activated",
        "en_US_f_Allison/digits/7",
        "en_US_f_Allison/digits/mon-11",
        "en_US_f_Allison/letters/zed",
        "en_US_f_Allison/silence/1",
        "it_IT_m_Carlo/activated",
        "it_IT_m_Carlo/phonetic/z_p",
        "ru_RU_f_IvrvoiceRU/digits/7",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("en_US_f_Allison/activated", ("Allison", "en", "female", "prompt", None)),
        ("en_US_f_Allison/digits/mon-11", ("Allison", "en", "female", "digits", "mon-11")),
        ("en_US_f_Allison/letters/zed", ("Allison", "en", "female", "letters", "zed")),
        ("en_US_f_Allison/silence/1", ("Allison", "en", "female", "silence", None)),
        ("it_IT_m_Carlo/phonetic/z_p", ("Carlo", "it", "male", "phonetic", None)),
        ("ru_RU_f_IvrvoiceRU/digits/7", ("IvrvoiceRU", "ru", "female", "digits", "7")),
    ],
)
def test_labels_come_from_the_path(prompts_tree, tmp_path, name, expected):
    """Speaker, language, gender and group are the path's; only digits and letters have an item."""
    labels = {item.name: item.labels for item in utterances(Prompts(root=prompts_tree), tmp_path)}
    assert tuple(labels[name].values()) == expected
    assert list(labels[name]) == ["speaker", "language", "gender", "group", "item"]


def test_not_installed(tmp_path):
    """Without the packages, the error is one line with the command that installs them."""
    with pytest.raises(CorpusError) as error:
        list(utterances(Prompts(root=tmp_path / "sounds"), tmp_path))
    assert str(error.value) == f"no recorded prompts under {tmp_path / 'sounds'}; install some: {INSTALL}"
    assert INSTALL == (
        "apt-get install --no-install-recommends "
        "asterisk-core-sounds-en-wav asterisk-core-sounds-fr-wav asterisk-core-sounds-it-wav"
    )


def test_packages_in_another_format_do_not_count(tmp_path):
    """A voice without WAV files, as the gsm packages leave it, is as good as none."""
    (tmp_path / "en_US_f_Allison").mkdir()
    (tmp_path / "en_US_f_Allison" / "hello.gsm").write_bytes(b"")
    with pytest.raises(CorpusError, match="no recorded prompts"):
        list(utterances(Prompts(root=tmp_path), tmp_path))


def test_what_debian_installs():
    """The real packages have the three voices and their groups, if they are installed."""
    section = Prompts()
    if not section.root.is_dir():
        pytest.skip(f"needs the recordings: {INSTALL}")
    items = list(utterances(section, Path.cwd()))
    assert {item.labels["gender"] for item in items} <= {"female", "male"}
    assert {"digits", "letters", "phonetic", "silence", "prompt"} <= {item.labels["group"] for item in items}
