"""Real human speech, where the machine has it: Debian's recorded telephone prompts."""

from pathlib import Path

import pandas as pd
import pytest

from strata.pipeline.study import yaml12

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "prompts.yaml"
PACKAGES = "asterisk-core-sounds-en-wav asterisk-core-sounds-fr-wav asterisk-core-sounds-it-wav"
VOICES = [Path("/usr/share/asterisk/sounds") / name for name in ("en_US_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo")]
"""Those of the packages: a machine may have further ones, of which nothing is known here."""


@pytest.mark.skipif(
    not all(voice.is_dir() for voice in VOICES), reason=f"needs apt-get install --no-install-recommends {PACKAGES}"
)
@pytest.mark.parametrize(("every", "encoder"), [(4, "linear"), pytest.param(1, "cnn", marks=pytest.mark.slow)])
def test_mfcc_tell_voices_languages_and_genders_of_real_recordings_apart(study, every, encoder):
    """Some 1,700 recordings by the recipe's encoder, or every fourth by the quickest, the silent and the longest among
    them; 95 % over stratified 5 folds."""
    sounds = study.folder / "sounds"
    for voice in VOICES:
        files = sorted(voice.rglob("*.wav"))
        longest = max(files, key=lambda file: file.stat().st_size)
        for file in {*files[::every], longest}:
            link = sounds / voice.name / file.relative_to(voice)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    study.params = yaml12.load(RECIPE.read_text())
    study.params["corpora"]["prompts"]["root"] = "sounds"
    study.params["views"] = {"mfcc": study.params["views"]["mfcc"]}
    study.params["experiments"] = {"svmt-mfcc": study.params["experiments"]["svmt-mfcc"] | {"encoder": encoder}}
    study.params |= {"eliminate": {}, "report": {}}
    study.write_params()
    study.succeeds("corpus")
    failures = pd.read_csv(study.folder / "data/corpus.failures.csv")
    assert failures["utterance"].str.contains("/silence/").sum() >= (30 if every == 1 else 5)
    assert failures["reason"].str.contains("silent").all()
    manifest = pd.read_parquet(study.folder / "data/manifest.parquet")
    assert len(manifest) > 1600 / every
    assert manifest["duration_s"].max() > 70
    study.succeeds("extract")
    study.succeeds("train")
    metrics = study.metrics("svmt-mfcc")
    assert metrics["num_folds"] == 5
    for task in ("speaker", "language", "gender"):
        assert metrics["tasks"][task]["accuracy"]["mean"] >= 0.95
