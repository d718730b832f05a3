"""Number formats: how far from float32 each may be, and that none passes for another."""

import itertools
import shutil

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from strata import extractors
from strata.extractors.contract import ViewError
from strata.extractors.number_formats import shorten, wrong_modules
from strata.extractors.torch_setup import fitting_seconds, inference
from tests.sampling import sweep

# Of a layer's largest value. bfloat16 has 8 bits of mantissa, float16 11; errors add up over the layers.
MOST = {"bfloat16": 5e-2, "float16": 1e-2}
MODELS = ("wav2vec2", "wavlm-large", "whisper")


@pytest.mark.parametrize(("name", "compute_dtype"), sweep(itertools.product(MODELS, MOST), keep=3))
def test_shorter_formats_are_near_float32_and_not_the_same(name, compute_dtype, load, sounds, relative_error):
    """In every layer, and float32 is handed over whatever was computed in."""
    source = {"family": "transformers", "source": f"miniature:{name}", "frames": [1]}
    exact, short = load(**source), load(**source, compute_dtype=compute_dtype)
    for one, other in zip(exact.extract(sounds, 16_000), short.extract(sounds, 16_000), strict=True):
        assert other.pooled.dtype == other.frames["1"].dtype == np.float32
        assert 1e-5 < relative_error(other.pooled, one.pooled) < MOST[compute_dtype]


@pytest.mark.parametrize("compute_dtype", ["bfloat16", "float16"])
def test_alone_is_as_in_a_padded_batch_to_the_formats_own_precision(compute_dtype, load, sounds, relative_error):
    """Half the digits, half the promise: padding brings no error that the format itself does not have."""
    extractor = load(family="transformers", source="miniature:wavlm", compute_dtype=compute_dtype)
    for one, together in zip(sounds, extractor.extract(sounds, 16_000), strict=True):
        assert relative_error(together.pooled, extractor.extract([one], 16_000)[0].pooled) < MOST[compute_dtype]


def fresh(compute_dtype):
    """An extractor whose weights are not yet loaded."""
    view = {"family": "transformers", "source": "miniature:wavlm", "compute_dtype": compute_dtype}
    return extractors.load(view, device="cpu", batch_s=30.0)


@pytest.mark.parametrize("compute_dtype", MOST)
@pytest.mark.parametrize("factor", [2.08, 0.0, float("nan")])
def test_a_layer_that_is_wrong_in_a_format_is_computed_in_float32(
    factor, compute_dtype, load, sounds, relative_error, monkeypatch
):
    """As grouped convolutions in bfloat16 are on CPUs with AMX, off by 108 %: this one and no other, whatever the
    processor at hand can do; the values are as near to float32 as where the kernel is right."""
    right = torch.nn.Conv1d._conv_forward

    def wrong(self, values, weight, bias):
        computed = right(self, values, weight, bias)
        return computed * factor if values.dtype != torch.float32 and self.groups == 4 else computed

    monkeypatch.setattr(torch.nn.Conv1d, "_conv_forward", wrong)
    short = fresh(compute_dtype)
    found = short.extract(sounds, 16_000)
    assert "encoder.pos_conv_embed.conv" in short.in_float32
    exact = load(family="transformers", source="miniature:wavlm").extract(sounds, 16_000)
    for one, other in zip(exact, found, strict=True):
        assert 1e-5 < relative_error(other.pooled, one.pooled) < MOST[compute_dtype]


def test_one_wrong_channel_shows(monkeypatch):
    """Of a linear layer, in which it is a small part of the whole."""
    network = torch.nn.Sequential(torch.nn.Linear(16, 512), torch.nn.LayerNorm(512)).eval()
    right = torch.nn.functional.linear

    def wrong(values, weight, bias=None):
        computed = right(values, weight, bias)
        if values.dtype != torch.float32:
            computed[..., 7] *= 2
        return computed

    monkeypatch.setattr(torch.nn.functional, "linear", wrong)
    probe = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert wrong_modules(network, lambda: network(probe), torch.bfloat16) == ["0"]
        exact = network[0](probe)
        shorten(network, torch.bfloat16, but=["0"])
        found = network[0](probe.to(torch.bfloat16))
    assert (network[0].weight.dtype, network[1].weight.dtype) == (torch.float32, torch.bfloat16)
    assert found.dtype == torch.bfloat16
    assert (found.float() - exact).norm() < 1e-2 * exact.norm()


@pytest.mark.parametrize("factor", [3.0, float("nan")])
def test_a_format_that_no_layer_mends_is_refused_by_name(factor, sounds, monkeypatch):
    """Attention is no layer of its own: before the first value is handed over, the view is refused in one line."""
    right = torch.nn.functional.scaled_dot_product_attention

    def wrong(query, *args, **named):
        attended = right(query, *args, **named)
        return attended * factor if query.dtype == torch.bfloat16 else attended

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", wrong)
    message = (
        r"compute_dtype: bfloat16 is computed wrongly on this cpu: hidden state \d .*; write compute_dtype: float32"
    )
    with pytest.raises(ViewError, match=message):
        fresh("bfloat16").extract(sounds[:1], 16_000)


def test_float32_is_not_shortened_where_somebody_allows_it():
    """A CPU that may compute products in bfloat16 does not within, and their choice comes back afterwards."""
    knobs = (torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul)
    before = [knob.fp32_precision for knob in knobs]
    try:
        for knob in knobs:
            knob.fp32_precision = "bf16"
        for compute_dtype in ("float32", "tf32"):
            with inference(compute_dtype):
                assert [knob.fp32_precision for knob in knobs] == ["ieee", "ieee"]
        assert [knob.fp32_precision for knob in knobs] == ["bf16", "bf16"]
    finally:
        for knob, precision in zip(knobs, before, strict=True):
            knob.fp32_precision = precision


def test_cudnns_attention_is_off_within():
    """And as somebody had it afterwards."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with inference():
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


def test_formats_do_not_share_a_fingerprint(load):
    """Each is a store of its own."""
    formats = ("float32", "tf32", *MOST)
    views = [load(family="transformers", source="miniature:wavlm", compute_dtype=name) for name in formats]
    found = [dict(view.fingerprint) for view in views]
    assert [fingerprint.pop("compute_dtype") for fingerprint in found] == list(formats)
    assert all(fingerprint == found[0] for fingerprint in found)


def test_tf32_is_refused_where_there_is_none(load, sounds):
    """A CPU would compute float32 under a fingerprint that says otherwise. Its store can be looked at all the same."""
    extractor = load(family="transformers", source="miniature:wavlm", compute_dtype="tf32")
    assert extractor.fingerprint["compute_dtype"] == "tf32"
    with pytest.raises(ViewError, match=r"tf32 needs an NVIDIA GPU from Ampere on, this is cpu: .* write compute"):
        extractor.extract(sounds, 16_000)


@pytest.mark.parametrize(
    ("loud", "layers"), sweep([(0, "all"), (3, "all"), (0, [4]), (3, [4])], keep=0, always=[(3, "all")])
)
def test_values_that_whisper_holds_below_overflow_are_no_numbers(loud, layers, load, sounds, tmp_path):
    """transformers clamps Whisper's float16 values: an overflow in any layer, the last before the final norm included,
    is told from a large number. The weights themselves are within the format's range."""
    folder = shutil.copytree(load(family="transformers", source="miniature:whisper").checkpoint, tmp_path / "loud")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith(f"encoder.layers.{loud}.fc2.weight"))
    save_file(tensors | {name: tensors[name] * 1e5}, folder / "model.safetensors", metadata={"format": "pt"})
    view = {"family": "transformers", "source": str(folder), "layers": layers}
    for compute_dtype, is_finite in (("float32", True), ("bfloat16", True), ("float16", False)):
        states = extractors.load(view | {"compute_dtype": compute_dtype}, device="cpu").extract(sounds[:2], 16_000)
        assert [np.isfinite(one.pooled).all() for one in states] == [is_finite] * 2


def test_tf32_is_off_unless_asked_for():
    """Also where somebody has switched it on, and their choice comes back afterwards."""
    knobs = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before = [knob.fp32_precision for knob in knobs]
    try:
        for knob in knobs:
            knob.fp32_precision = "tf32"
        with inference():
            assert [knob.fp32_precision for knob in knobs] == ["ieee", "ieee"]
        with inference("tf32"):
            assert [knob.fp32_precision for knob in knobs] == ["tf32", "tf32"]
        assert [knob.fp32_precision for knob in knobs] == ["tf32", "tf32"]
    finally:
        for knob, precision in zip(knobs, before, strict=True):
            knob.fp32_precision = precision


def test_a_small_device_takes_small_batches():
    """What is free decides, within bounds: four minutes of audio keep any chip busy."""
    assert fitting_seconds(140e9, 40e6) == 240
    assert fitting_seconds(8e9, 40e6) == pytest.approx(120)
    assert fitting_seconds(0, 40e6) == 10


def test_a_cut_says_what_it_saves(load):
    """Parameters are counted without weights: those of the network that runs, and those of the whole."""
    whole, cut = (
        load(family="transformers", source="miniature:wavlm-large", layers=layers) for layers in ("all", {"upto": 17})
    )
    official = transformers.AutoModel.from_pretrained(whole.checkpoint)
    above = sum(p.numel() for layer in official.encoder.layers[17:] for p in layer.parameters())
    assert whole.size.parameters == whole.size.whole == cut.size.whole == official.num_parameters()
    assert cut.size.parameters == whole.size.whole - above


def test_wavlm_large_is_as_large_as_published(folder_of_shape):
    """315 M parameters as a whole. Up to hidden state 17, which the 17th layer puts out, it has 227 M; the 240 M of
    wavCSE (section 4.3) are those of 18 layers, one more than that hidden state needs."""
    sizes = [
        extractors.load({"family": "transformers", "source": str(folder_of_shape), "layers": {"upto": upto}}).size
        for upto in (17, 18)
    ]
    assert [round(size.whole / 1e6) for size in sizes] == [315, 315]
    assert [round(size.parameters / 1e6) for size in sizes] == [227, 240]
    assert [round(size.parameters * size.itemsize / 2**30, 3) for size in sizes] == [0.847, 0.894]


@pytest.fixture
def folder_of_shape(tmp_path):
    """A checkpoint of WavLM Large's shape whose weights are empty, for nobody reads them to count."""
    shape = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    norms = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
    transformers.WavLMConfig(**shape, **norms).save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    return tmp_path
