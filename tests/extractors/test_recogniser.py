"""Texts are those of the official path, whoever shares the batch and however long the audio is."""

import json
import pickle
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch

from strata import extractors
from strata.extractors.contract import UnusableAudio, ViewError
from strata.extractors.transformers.checkpoints import quiet, transformers
from tests.sampling import sweep

SOURCE = {"source": "miniature:whisper"}


@pytest.fixture(scope="module")
def load():
    """`extractors.load_recogniser` on the CPU, each section loaded once; batches hold four windows."""
    cache = {}

    def load(**section):
        key = repr(sorted(section.items()))
        if key not in cache:
            cache[key] = extractors.load_recogniser(SOURCE | section, device="cpu", batch_s=120.0)
        return cache[key]

    return load


@pytest.fixture(scope="module")
def official(load):
    """What `WhisperProcessor` and `generate` make of one waveform."""
    folder = load().checkpoint
    with quiet():
        processor = transformers.WhisperProcessor.from_pretrained(folder)
        model = transformers.WhisperForConditionalGeneration.from_pretrained(folder)

    def official(waveform, **how):
        if len(waveform) > 480_000:
            how |= {"return_timestamps": True}
            whole = {"truncation": False, "padding": "longest", "return_attention_mask": True}
        else:
            whole = {}
        with quiet():
            inputs = processor(waveform, sampling_rate=16_000, return_tensors="pt", **whole)
            tokens = model.generate(**inputs, task="transcribe", **how)
        return processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()

    return official


@pytest.fixture
def folder(load, tmp_path):
    """A copy of the miniature's files, to be changed."""
    return shutil.copytree(load().checkpoint, tmp_path / "whisper")


def changed(folder, name, **values):
    """Writes other values into a JSON file of a checkpoint; None removes the key."""
    content = json.loads((folder / name).read_text()) | values
    (folder / name).write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return {"source": str(folder)}


@pytest.mark.parametrize("how", [{}, {"language": "it"}, {"num_beams": 3}, {"max_new_tokens": 5}], ids=str)
def test_texts_are_those_of_the_official_path(how, load, sounds, official):
    """Greedy and with beams, with the language found out and given; several sounds at a time here, one by one there."""
    found = load(**how).transcribe(sounds, 16_000)
    assert found == [official(sound, **how) for sound in sounds]
    assert len(set(found)) > 1
    assert all(found)


def test_alone_is_as_in_any_batch(load, sounds):
    """Beside texts that end sooner or later, in any order, in batches of any size."""
    expected = load().transcribe(sounds, 16_000)
    assert len({len(text.split()) for text in expected}) > 1
    assert [load().transcribe([sound], 16_000)[0] for sound in sounds] == expected
    assert load().transcribe(sounds[::-1], 16_000)[::-1] == expected
    small = extractors.load_recogniser(SOURCE, device="cpu", batch_s=0.1)
    assert small.transcribe(sounds, 16_000) == expected
    assert small.fingerprint == load().fingerprint
    assert load().transcribe([], 16_000) == []


@pytest.fixture(scope="module")
def long(sound):
    """67 s that go on changing."""
    return np.concatenate([sound(16_000 * 6 + 7, seed=seed) for seed in range(11)])


def test_long_audio_goes_the_official_way_and_is_never_cut(load, long, sounds, official):
    """Beside short ones too; what comes after 30 s is heard."""
    expected = official(long)
    assert load().transcribe([sounds[0], long, sounds[1]], 16_000)[1] == expected
    assert load().transcribe([long], 16_000) == [expected]
    assert load().transcribe([long[:480_001]], 16_000) == [official(long[:480_001])]
    assert len(expected.split()) > len(official(long[:480_001]).split())


def test_windows_are_of_equal_length_and_hear_everything(load, long):
    """`window_s` takes as few as will do; their texts are joined in order."""
    recogniser = load(window_s=20)
    ends = [index * len(long) // 4 for index in range(5)]
    parts = [long[start:stop] for start, stop in pairwise(ends)]
    assert recogniser.transcribe([long], 16_000) == [" ".join(load().transcribe(parts, 16_000))]


@pytest.fixture(scope="module")
def heard(load, long, sounds):
    """Three short waveforms beside a long one, and their texts."""
    waveforms = [*sounds[:3], long]
    return waveforms, load().transcribe(waveforms, 16_000)


@pytest.mark.parametrize(
    "asked",
    sweep(
        [
            {"language": "<|fr|>", "task": "translate"},
            {"return_dict_in_generate": True, "output_scores": True, "output_hidden_states": True},
            {"num_return_sequences": 2, "num_beams": 3},
            {"do_sample": True, "temperature": 3.0},
            {"return_timestamps": True, "return_segments": True, "return_token_timestamps": True},
            {"stop_strings": ["a"], "max_time": 1e-6, "min_length": 20},
            {"no_speech_threshold": 0.0, "logprob_threshold": 9.0, "compression_ratio_threshold": 0.0},
        ],
        keep=4,
    ),
    ids=lambda asked: next(iter(asked)),
)
def test_how_to_decode_is_for_the_section_alone(asked, folder, load, heard):
    """Whatever else the checkpoint's generation_config.json says changes no text and no fingerprint."""
    waveforms, texts = heard
    recogniser = extractors.load_recogniser(changed(folder, "generation_config.json", **asked), device="cpu")
    assert recogniser.transcribe(waveforms, 16_000) == texts
    assert recogniser.fingerprint["config"] == load().fingerprint["config"]


def test_long_audio_that_does_not_fit_into_memory_is_told_with_the_way_out(load, long, sounds, monkeypatch):
    """By its own error, so that the recordings beside it can go on; any other error is passed on as it is."""
    recogniser = extractors.load_recogniser(SOURCE, device="cpu")
    original, errors = type(recogniser)._features, [torch.OutOfMemoryError("out of memory"), ZeroDivisionError]

    def features(self, waveforms, **how):
        if how:
            raise errors.pop(0)
        return original(self, waveforms)

    monkeypatch.setattr(type(recogniser), "_features", features)
    with pytest.raises(UnusableAudio, match=r"its 66 s do not fit into memory.*; give the recogniser a window_s of at"):
        recogniser.transcribe([sounds[0], long], 16_000)
    with pytest.raises(ZeroDivisionError):
        recogniser.transcribe([sounds[0], long], 16_000)
    assert recogniser.transcribe(sounds[:1], 16_000) == load().transcribe(sounds[:1], 16_000)


def test_a_checkpoint_without_times_takes_long_audio_in_windows_only(folder, long):
    """And says so for each recording, before any work."""
    section = changed(folder, "generation_config.json", no_timestamps_token_id=None)
    reason = extractors.load_recogniser(section, device="cpu").unusable(long, 16_000)
    assert "longer than 30 s" in reason
    assert "window_s" in reason
    windowed = extractors.load_recogniser(section | {"window_s": 30}, device="cpu")
    assert windowed.unusable(long, 16_000) is None
    assert windowed.transcribe([long], 16_000)[0]


def test_silence_and_a_single_sample_have_a_text(load):
    """Whatever it is; nothing crashes."""
    texts = load().transcribe([np.zeros(16_001, np.float32), np.full(1, 0.5, np.float32)], 16_000)
    assert [type(text) for text in texts] == [str, str]
    assert type(load().transcribe([np.zeros(16_000 * 31, np.float32)], 16_000)[0]) is str


def test_what_no_model_can_hear_is_refused(load, sounds):
    """With the reason that `unusable` gives."""
    for spoilt, reason in ((np.zeros(0), "empty"), (np.full(16_001, np.nan), "not finite"), (np.ones((2, 9)), "mono")):
        assert reason in load().unusable(spoilt, 16_000)
        with pytest.raises(UnusableAudio, match=reason):
            load().transcribe([sounds[0], spoilt], 16_000)


def test_languages_by_any_name(load, folder):
    """`Italian` is `it`, in the fingerprint too; unknown ones and any for an English-only model are refused."""
    assert load(language="Italian").fingerprint == load(language="it").fingerprint
    assert load(language="it").fingerprint != load().fingerprint
    with pytest.raises(ViewError, match=r"expected a language among en, fr, it, got 'italien' \(did you mean italian"):
        load(language="italien")
    with pytest.raises(ViewError, match="expected a language among en, fr, it, got 'german'"):
        load(language="german")
    section = changed(folder, "generation_config.json", is_multilingual=False)
    with pytest.raises(ViewError, match="knows one language only: remove language"):
        extractors.load_recogniser(section | {"language": "en"})


def test_an_english_only_checkpoint(folder, sounds):
    """Is told neither language nor task, which it would refuse."""
    section = changed(folder, "generation_config.json", is_multilingual=False, lang_to_id=None, task_to_id=None)
    assert all(extractors.load_recogniser(section, device="cpu").transcribe(sounds[:2], 16_000))


def test_fingerprints_tell_settings_and_files_apart(load, folder):
    """And nothing else: a moved checkpoint stays the same, one whose tokenizer says other words does not."""
    sections = [{}, {"num_beams": 2}, {"max_new_tokens": 3}, {"window_s": 30}, {"language": "en"}]
    fingerprints = [json.dumps(load(**section).fingerprint) for section in sections]
    assert len(set(fingerprints)) == len(sections)
    here = extractors.load_recogniser({"source": str(folder)}).fingerprint
    moved = folder.rename(folder.with_name("moved"))
    assert extractors.load_recogniser({"source": str(moved)}).fingerprint == here
    tokenizer = moved / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace("Ġblack", "Ġblank"))
    there = extractors.load_recogniser({"source": str(moved)}).fingerprint
    assert {key for key in here if here[key] != there[key]} == {"tokenizer"}


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_missing_files_are_named(name, folder):
    """Before anything is loaded."""
    (folder / name).unlink()
    with pytest.raises(ViewError, match=rf"expected {name}.* found none"):
        extractors.load_recogniser({"source": str(folder)})


def test_a_tokenizer_in_parts_says_the_same(folder, load, sounds):
    """Checkpoints of 2022 have vocab.json, merges.txt and added_tokens.json."""
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    (folder / "added_tokens.json").write_text(json.dumps(added))
    special = [token["content"] for token in content["added_tokens"] if token["special"]]
    (folder / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": special}))
    (folder / "tokenizer.json").unlink()
    recogniser = extractors.load_recogniser({"source": str(folder)}, device="cpu")
    assert recogniser.transcribe(sounds[:3], 16_000) == load().transcribe(sounds[:3], 16_000)


class Payload:
    """Does something when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_checkpoint_is_refused(folder, file):
    """Whichever of its files asks for it, before anything is computed."""
    section = changed(folder, file, auto_map={"AutoTokenizer": ["own.Tokenizer", None]})
    with pytest.raises(ViewError, match=r"its auto_map names own\.Tokenizer, which is never run"):
        extractors.load_recogniser(section)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"sampling_rate": 8_000}, "got one of 8000 Hz"), ({"dither": 1e-4}, r"adds random noise \(dither\)")],
)
def test_another_rate_and_random_noise_are_refused(folder, values, message):
    """By its preprocessor, before any weight is read: a text must be a function of its recording alone."""
    with pytest.raises(ViewError, match=message):
        extractors.load_recogniser(changed(folder, "preprocessor_config.json", **values))


def test_special_tokens_beside_a_tokenizer_count_where_transformers_reads_them(folder, load, sounds):
    """In tokens and fingerprint; with an `added_tokens_decoder` in tokenizer_config.json they are a stray file."""
    special = '{"additional_special_tokens": ["Ġone", "Ġseven"]}'
    (folder / "special_tokens_map.json").write_text(special)
    recogniser = extractors.load_recogniser({"source": str(folder)}, device="cpu")
    official = transformers.AutoTokenizer.from_pretrained(folder)
    numbers = list(range(20))
    said = recogniser._tokenizer.decode(numbers, skip_special_tokens=True)
    assert said == official.decode(numbers, skip_special_tokens=True)
    assert said != load()._tokenizer.decode(numbers, skip_special_tokens=True)
    assert recogniser.fingerprint["tokenizer"] != load().fingerprint["tokenizer"]
    section = changed(folder, "tokenizer_config.json", added_tokens_decoder={})
    before = extractors.load_recogniser(section).fingerprint
    (folder / "special_tokens_map.json").unlink()
    (folder / "vocab.json").write_text("{}")
    stray = extractors.load_recogniser(section, device="cpu")
    assert stray.fingerprint == before
    assert stray.transcribe(sounds[:2], 16_000) == load().transcribe(sounds[:2], 16_000)


def test_a_pickle_with_a_payload_is_not_run(folder, sounds):
    """Weights that hold more than tensors are refused."""
    (folder / "model.safetensors").unlink()
    torch.save({"proj_out.weight": Payload()}, folder / "pytorch_model.bin", pickle_module=pickle)
    with pytest.raises(ViewError, match="hold more than tensors"):
        extractors.load_recogniser({"source": str(folder)}, device="cpu").transcribe(sounds[:1], 16_000)


def test_missing_tensors_are_not_made_up(folder, sounds):
    """The decoder's are needed here; the tied output's alone are not."""
    from safetensors.torch import load_file, save_file

    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    assert "proj_out.weight" not in tensors
    save_file({k: v for k, v in tensors.items() if ".decoder.layers.0.fc1" not in k}, weights, {"format": "pt"})
    with pytest.raises(ViewError, match="weights lack 2 tensors of the model"):
        extractors.load_recogniser({"source": str(folder)}, device="cpu").transcribe(sounds[:1], 16_000)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"sorce": "x"}, r"source is missing; recogniser: unknown key 'sorce'.*did you mean source"),
        (SOURCE | {"window_s": 31}, "window_s: input should be less than or equal to 30, got 31"),
        (SOURCE | {"max_new_tokens": 29}, "expected max_new_tokens of at most 28, got 29"),
        ({"source": "miniature:wavlm"}, "expected miniature:whisper for this family"),
        ("openai/whisper-base", "expected a recogniser as a mapping"),
    ],
)
def test_mistakes_in_a_section_are_named(section, message):
    """In one line."""
    with pytest.raises(ViewError, match=message):
        extractors.load_recogniser(section)


def test_another_model_is_refused(folder):
    """By its type."""
    with pytest.raises(ViewError, match=r"expected a model_type among whisper in config\.json, got 'wavlm'"):
        extractors.load_recogniser(changed(folder, "config.json", model_type="wavlm"))
