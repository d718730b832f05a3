"""Hugging Face models: the values of a plain call, whatever is cut, batched or windowed around it."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

from strata import extractors
from strata.extractors.contract import ViewError
from strata.extractors.miniatures import TRANSFORMERS
from strata.extractors.transformers.group_norm import ValidGroupNorm
from strata.extractors.transformers.wavlm_attention import patch_attention
from tests.extractors.folders import folder_of

STABLE = ("xls-r", "mms", "hubert-large", "wavlm-large", "emotion")


def plain_call(name, waveform):
    """What Hugging Face's own classes give for one utterance: hidden states [time, dim] by name, valid frames only."""
    folder = folder_of(name)
    features = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = features(waveform, sampling_rate=16_000, return_tensors="pt")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    valid = None
    if name == "whisper":
        model, valid = model.get_encoder(), -(-len(waveform) // 320)
    with torch.inference_mode():
        output = model(**inputs, output_hidden_states=True)
    states = {str(index): hidden for index, hidden in enumerate(output.hidden_states)}
    states["last_hidden_state"] = output.last_hidden_state
    return {key: hidden[0, :valid].numpy() for key, hidden in states.items()}


# The WavLM of transformers itself mixes two kinds of mask, which PyTorch deprecates; ours (`wavlm_attention`) does not.
@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_layers_are_those_of_a_plain_call(name, load, sounds, relative_error):
    """In a padded batch, every layer is the mean of what a plain, unbatched call returns as `hidden_states`."""
    every = load(family="transformers", source=f"miniature:{name}")
    last = load(family="transformers", source=f"miniature:{name}", layers=["last_hidden_state"])
    for index, (states, final) in enumerate(
        zip(every.extract(sounds, 16_000), last.extract(sounds, 16_000), strict=True)
    ):
        if index % 2:  # three of the five are enough for an oracle that loads a model each time
            continue
        expected = plain_call(name, sounds[index])
        assert set(every.layer_names) == expected.keys() - {"last_hidden_state"}
        means = np.stack([expected[layer].mean(axis=0) for layer in every.layer_names])
        assert relative_error(states.pooled, means) < 1e-4
        assert relative_error(final.pooled, expected["last_hidden_state"].mean(axis=0)[None]) < 1e-4
        assert states.num_frames == len(expected["0"])


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_the_final_norm_is_where_the_documentation_says(name, load, sounds, relative_error):
    """Stable-layer-norm models keep the last layer apart from `last_hidden_state`; elsewhere they are one and the
    same."""
    depth = int(load(family="transformers", source=f"miniature:{name}").layer_names[-1])
    both = load(family="transformers", source=f"miniature:{name}", layers=[depth, "last_hidden_state"])
    before, after = both.extract(sounds[:1], 16_000)[0].pooled
    assert (relative_error(before[None], after[None]) > 1e-2) == (name in STABLE)


@pytest.mark.parametrize("name", ["wav2vec2", "wavlm", "wavlm-large", "whisper"])
@pytest.mark.parametrize("upto", [0, 2])
def test_a_cut_model_gives_the_same_layers(name, upto, load, sounds, relative_error):
    """`upto` leaves the layers above unbuilt and those below unchanged, the highest one included."""
    every = load(family="transformers", source=f"miniature:{name}")
    cut = load(family="transformers", source=f"miniature:{name}", layers={"upto": upto})
    assert cut.layer_names == every.layer_names[: upto + 1]
    for whole, part in zip(every.extract(sounds, 16_000), cut.extract(sounds, 16_000), strict=True):
        assert relative_error(part.pooled, whole.pooled[: upto + 1]) < 1e-5
    assert len(cut._layers) == max(1, upto)


def test_layers_come_in_ascending_order(load, sounds, relative_error):
    """However a list of layers and frames is written, the highest is last, `last_hidden_state` after it, and the
    fingerprint the same."""
    every = load(family="transformers", source="miniature:xls-r").extract(sounds, 16_000)
    some = load(family="transformers", source="miniature:xls-r", layers=[3, "last_hidden_state", 0], frames=[3, 0])
    assert (some.layer_names, some.frame_layers) == (("0", "3", "last_hidden_state"), ("0", "3"))
    for whole, part in zip(every, some.extract(sounds, 16_000), strict=True):
        assert relative_error(part.pooled[:2], whole.pooled[[0, 3]]) < 1e-5
    other = load(family="transformers", source="miniature:xls-r", layers=["last_hidden_state", 0, 3], frames=[0, 3])
    assert other.fingerprint == some.fingerprint


@pytest.mark.parametrize("name", ["hubert", "wavlm-large", "whisper"])
def test_kept_frames_are_what_is_pooled(name, load, sounds, relative_error):
    """Frames are kept for the layers asked for, valid ones only; their mean is the pooled value."""
    extractor = load(family="transformers", source=f"miniature:{name}", frames=[0, 4])
    for states in extractor.extract(sounds, 16_000):
        assert set(states.frames) == {"0", "4"} == set(extractor.frame_layers)
        for layer, frames in states.frames.items():
            assert frames.shape == (states.num_frames, extractor.frame_dim)
            assert frames.dtype == np.float32
            row = extractor.layer_names.index(layer)
            assert relative_error(frames.mean(axis=0)[None], states.pooled[row : row + 1]) < 1e-5


@pytest.mark.parametrize("name", ["wav2vec2", "wavlm-large", "whisper"])
def test_long_audio_keeps_every_frame(name, sound, relative_error):
    """Audio of several windows has the frames of the whole, and the same values whoever is in the batch."""
    view = {"family": "transformers", "source": f"miniature:{name}", "window_s": 4, "overlap_s": 2, "frames": [1]}
    extractor = extractors.load(view, device="cpu", batch_s=9.0)
    long, short = sound(16_000 * 11 + 37, seed=1), sound(7_919, seed=2)
    states, _ = extractor.extract([long, short], 16_000)
    alone = extractor.extract([long], 16_000)[0]
    whole = extractors.load(view | {"window_s": 30}, device="cpu").extract([long], 16_000)[0]
    assert states.num_frames == whole.num_frames == len(states.frames["1"])
    assert relative_error(states.pooled, alone.pooled) < 1e-4
    # Attention ends at a window's edge and Whisper counts its positions from there, so values differ somewhat from the
    # whole's, but frames stay in their places.
    aligned = [np.corrcoef(a, b)[0, 1] for a, b in zip(states.frames["1"], whole.frames["1"], strict=True)]
    assert np.median(aligned) > 0.7


def test_group_norm_trap_is_cured(load, sounds, relative_error, monkeypatch):
    """Without the cure a padded utterance's values are off by a tenth and more; with it they agree."""
    extractor = load(family="transformers", source="miniature:wav2vec2")
    alone = extractor.extract([sounds[1]], 16_000)[0].pooled
    assert relative_error(extractor.extract(sounds, 16_000)[1].pooled, alone) < 1e-4
    monkeypatch.setattr(ValidGroupNorm, "forward", torch.nn.GroupNorm.forward)
    assert relative_error(extractor.extract(sounds, 16_000)[1].pooled, alone) > 0.1


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")
@pytest.mark.parametrize("is_padded", [False, True])
def test_wavlm_attends_as_eagerly(is_padded):
    """Fused attention with the gated relative position bias equals the eager module of transformers to within 1e-5, in
    the layer that makes the bias and in one that is given it."""
    torch.manual_seed(0)
    eager = transformers.models.wavlm.modeling_wavlm.WavLMAttention
    first, second = (eager(28, 7, has_relative_position_bias=has) for has in (True, False))
    for module in (first, second):
        torch.nn.init.normal_(module.gru_rel_pos_const)
    layers = [SimpleNamespace(attention=module.eval()) for module in (first, second)]
    hidden = torch.randn(3, 31, 28)
    mask = (torch.arange(31) < torch.tensor([31, 11, 17])[:, None]).long() if is_padded else None
    with torch.inference_mode():
        expected, _, bias = first(hidden, attention_mask=mask)
        expected = [expected, second(expected, attention_mask=mask, position_bias=bias)[0]]
        patch_attention(layers)
        found, weights, bias = first(hidden, attention_mask=mask)
        found = [found, second(found, attention_mask=mask, position_bias=bias)[0]]
    assert weights is None
    valid = slice(None) if mask is None else mask.bool()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one[valid], other[valid], rtol=0, atol=1e-5)


def test_a_batch_that_could_not_be_fetched_is_not_lost(load, sounds, relative_error, monkeypatch):
    """Memory that runs out while the batch before is being fetched costs neither of the two, nor counts one twice."""
    from strata.extractors.hidden_states import Totals

    view = {"family": "transformers", "source": "miniature:xls-r"}
    expected = load(**view).extract(sounds, 16_000)
    add = Totals.add

    class Cramped(list):
        """Windows whose last cannot be reached the first time."""

        failed = False

        def __iter__(self):
            for index, window in enumerate(super().__iter__()):
                if index == len(self) - 1 and not Cramped.failed:
                    Cramped.failed = True
                    raise MemoryError
                yield window

    def add_in_a_cramped_place(self, utterances, tap):
        tap.windows = Cramped(tap.windows)
        add(self, utterances, tap)

    monkeypatch.setattr(Totals, "add", add_in_a_cramped_place)
    for frames in ([], [1]):
        Cramped.failed = False
        extractor = extractors.load(view | {"frames": frames}, device="cpu", batch_s=4)
        for found, right in zip(extractor.extract(sounds, 16_000), expected, strict=True):
            assert found.num_frames == right.num_frames
            assert relative_error(found.pooled, right.pooled) < 1e-4
        assert Cramped.failed


def test_running_out_of_memory_halves_the_batch(sounds, relative_error, monkeypatch):
    """A device that takes two utterances at a time and no more still gives every value, in order."""
    extractor = extractors.load({"family": "transformers", "source": "miniature:xls-r"}, device="cpu", batch_s=100)
    expected = extractor.extract(sounds, 16_000)
    forward, sizes = extractor._forward, []

    def small_device(inputs):
        sizes.append(len(inputs.lengths))
        if len(inputs.lengths) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(inputs)

    monkeypatch.setattr(extractor, "_forward", small_device)
    for found, right in zip(extractor.extract(sounds, 16_000), expected, strict=True):
        assert relative_error(found.pooled, right.pooled) < 1e-4
    assert sizes == [5, 2, 3, 1, 2]


def test_whisper_sees_thirty_seconds_at_most(load, sound):
    """Audio longer than Whisper's 30 s is windowed, not cut off."""
    extractor = load(family="transformers", source="miniature:whisper")
    assert extractor.extract([sound(16_000 * 31 + 1)], 16_000)[0].num_frames == 31 * 50 + 1


def test_layers_that_are_not_there(load):
    """A layer beyond the model, and frames of a layer that is not kept, are refused with what there is."""
    with pytest.raises(ViewError, match="expected layers 0 to 4 or last_hidden_state, got layer 9"):
        load(family="transformers", source="miniature:wavlm", layers={"upto": 9})
    with pytest.raises(ViewError, match=r"expected layers that are kept \(0, 1\), got \['3'\]"):
        load(family="transformers", source="miniature:wavlm", layers=[0, 1], frames=[3])


def test_batch_norm_before_the_positional_convolution(tmp_path, sounds, relative_error):
    """HuBERT's variant whose padding no mask can hide is computed at equal lengths, and keeps the promise."""
    settings, _ = TRANSFORMERS["hubert-large"]
    model = transformers.HubertModel(transformers.HubertConfig.from_dict(settings | {"conv_pos_batch_norm": True}))
    torch.nn.init.normal_(model.encoder.pos_conv_embed.batch_norm.bias)
    model.save_pretrained(tmp_path)
    shutil.copy(folder_of("hubert-large") / "preprocessor_config.json", tmp_path)
    extractor = extractors.load({"family": "transformers", "source": str(tmp_path)}, device="cpu")
    for one, together in zip(sounds, extractor.extract(sounds, 16_000), strict=True):
        assert relative_error(together.pooled, extractor.extract([one], 16_000)[0].pooled) < 1e-4
