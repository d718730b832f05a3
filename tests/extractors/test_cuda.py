"""A GPU is a device like any other: the values are the CPU's, and what is particular to it costs nobody a value.

Runs only where PyTorch finds an NVIDIA GPU.
"""

import copy

import numpy as np
import pytest
import torch

from strata import extractors
from strata.extractors import speed
from strata.extractors.contract import ViewError
from strata.extractors.torch_setup import DTYPES, free_bytes, inference
from strata.extractors.transformers import fused_norm, gated_attention

if not torch.cuda.is_available():
    pytest.skip("needs an NVIDIA GPU", allow_module_level=True)

MOST = {"tf32": 1e-2, "bfloat16": 5e-2, "float16": 1e-2}
"""Of a layer's largest value, see `test_precision`."""
BERT = {"family": "text", "source": "miniature:bert"}
TEXTS = ["he said so", "a", "the quick brown fox jumps over the lazy dog", "speak the word as it is written " * 9]
WHISPER = {"source": "miniature:whisper"}
TORCH_FAMILIES = ("transformers", "speechbrain")


@pytest.fixture(scope="module")
def on_gpu():
    """`extractors.load` on the GPU, each view loaded once; its batches hold all `sounds`."""
    cache = {}

    def on_gpu(**view):
        key = repr(sorted(view.items()))
        if key not in cache:
            cache[key] = extractors.load(view, device="cuda", batch_s=30.0)
        return cache[key]

    return on_gpu


@pytest.fixture
def torch_view(view):
    """The view of each family that PyTorch computes."""
    if view["family"] not in TORCH_FAMILIES:
        pytest.skip(f"{view['family']} does not compute with PyTorch")
    return view


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Checkpoints of the published widths and fewer layers, with random weights, by name: kernels are chosen by size,
    and those that miniatures call are not those that users do."""
    from benchmarks.models import SHAPES, make_checkpoint

    folder = tmp_path_factory.mktemp("wide")

    def wide(name, **differing):
        return make_checkpoint(name, folder, SHAPES[name] | {"num_hidden_layers": 3} | differing)

    return wide


def test_values_are_the_cpus(torch_view, load, on_gpu, sounds, assert_same):
    """Every layer of every utterance, alone and in a padded batch there, as it is alone here; under one fingerprint."""
    here, there = load(**torch_view), on_gpu(**torch_view)
    assert there.device.startswith("cuda")
    assert there.fingerprint == here.fingerprint
    for one, together in zip(sounds, there.extract(sounds, 16_000), strict=True):
        expected = here.extract([one], 16_000)[0]
        assert_same(together, expected, here.layer_names)
        assert_same(there.extract([one], 16_000)[0], expected, here.layer_names)


@pytest.mark.parametrize("name", ["wav2vec2-base", "WavLM-Large"])
def test_values_are_the_cpus_at_published_widths(name, wide, sound, assert_same):
    """Where TF32, another algorithm of a convolution or a fused kernel would show first."""
    view = {"family": "transformers", "source": str(wide(name)), "frames": [3]}
    here, there = (extractors.load(view, device=device, batch_s=60.0) for device in ("cpu", "cuda"))
    sounds = [sound(n, seed=n) for n in (31_991, 16_001, 48_017, 7_919)]
    expected = here.extract(sounds, 16_000)
    for one, together, right in zip(sounds, there.extract(sounds, 16_000), expected, strict=True):
        assert_same(together, right, here.layer_names)
        assert_same(there.extract([one], 16_000)[0], right, here.layer_names)
        np.testing.assert_allclose(together.frames["3"], right.frames["3"], atol=1e-4 * np.abs(right.frames["3"]).max())


@pytest.mark.parametrize(
    "differing", [{"num_conv_pos_embeddings": 19}, {"conv_bias": True}, {"conv_kernel": [9, 4, 3]}]
)
def test_values_are_the_cpus_whatever_the_convolutions(differing, wide, sound, assert_same):
    """Odd and even positional kernels, biases, and a front end of another shape than the published ones have."""
    if "conv_kernel" in differing:
        differing = {**differing, "conv_stride": [4, 2, 3], "conv_dim": [64, 96, 32], "num_feat_extract_layers": 3}
    for name in ("wav2vec2-base", "WavLM-Large"):
        view = {"family": "transformers", "source": str(wide(name, num_hidden_layers=1, **differing))}
        here, there = (extractors.load(view, device=device, batch_s=60.0) for device in ("cpu", "cuda"))
        sounds = [sound(n, seed=n) for n in (9_973, 16_001, 4_801)]
        for found, right in zip(there.extract(sounds, 16_000), here.extract(sounds, 16_000), strict=True):
            assert_same(found, right, here.layer_names)


@pytest.mark.parametrize("name", ["wav2vec2", "wavlm-large", "whisper"])
def test_long_audio_and_frames_are_the_cpus(name, load, on_gpu, sound, assert_same):
    """Windows that share a batch with short recordings; every kept frame, in its place."""
    view = {"family": "transformers", "source": f"miniature:{name}", "window_s": 4, "overlap_s": 2, "frames": [1, 4]}
    sounds = [sound(16_000 * 11 + 37, seed=1), sound(7_919, seed=2)]
    here, there = load(**view), on_gpu(**view)
    for found, right in zip(there.extract(sounds, 16_000), here.extract(sounds, 16_000), strict=True):
        assert_same(found, right, here.layer_names)
        for layer, frames in right.frames.items():
            np.testing.assert_allclose(found.frames[layer], frames, atol=1e-4 * np.abs(frames).max())


def test_texts_are_the_cpus(load, on_gpu, relative_error):
    """Every layer of a language model, alone and in a padded batch."""
    expected, found = load(**BERT).extract(TEXTS), on_gpu(**BERT).extract(TEXTS)
    for text, one, right in zip(TEXTS, found, expected, strict=True):
        assert relative_error(one.pooled, right.pooled) < 1e-4
        assert relative_error(on_gpu(**BERT).extract([text])[0].pooled, right.pooled) < 1e-4


@pytest.mark.parametrize("section", [{}, {"num_beams": 3}, {"language": "it", "window_s": 20}])
def test_recognised_texts_are_the_cpus(section, sounds, sound):
    """Greedy and with beams, short and beyond 30 s, in one piece and in windows."""
    sounds = [*sounds, sound(16_000 * 41, seed=3)]
    here, there = (extractors.load_recogniser(WHISPER | section, device=device) for device in ("cpu", "cuda"))
    assert there.transcribe(sounds, 16_000) == here.transcribe(sounds, 16_000)


@pytest.mark.parametrize("name", ["wavlm", "wavlm-large"])
def test_wavlms_positions_fall_into_the_same_buckets(name, on_gpu):
    """A logarithm that is rounded otherwise would move a distance into the next bucket, and every value with it."""
    extractor = on_gpu(family="transformers", source=f"miniature:{name}")
    attention = extractor._layers[0].attention
    distances = torch.arange(-3000, 3001)
    expected = attention._relative_positions_bucket(distances)
    assert torch.equal(attention._relative_positions_bucket(distances.cuda()).cpu(), expected)


def test_tf32_that_somebody_has_allowed_changes_no_value(on_gpu, sounds, relative_error):
    """Convolutions have it by default, and others switch it on for everything."""
    extractor = on_gpu(family="transformers", source="miniature:xls-r")
    expected = extractor.extract(sounds, 16_000)
    knobs = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before = [knob.fp32_precision for knob in knobs]
    try:
        for knob in knobs:
            knob.fp32_precision = "tf32"
        found = extractor.extract(sounds, 16_000)
        assert [knob.fp32_precision for knob in knobs] == ["tf32", "tf32"]
    finally:
        for knob, precision in zip(knobs, before, strict=True):
            knob.fp32_precision = precision
    for one, other in zip(found, expected, strict=True):
        assert relative_error(one.pooled, other.pooled) < 1e-6


@pytest.mark.parametrize("compute_dtype", MOST)
@pytest.mark.parametrize("name", ["wav2vec2", "wavlm-large", "whisper"])
def test_shorter_formats_are_near_float32_and_not_the_same(name, compute_dtype, load, on_gpu, sounds, relative_error):
    """In every layer, alone and in a padded batch; the probe finds nothing to refuse."""
    source = {"family": "transformers", "source": f"miniature:{name}"}
    exact, short = load(**source).extract(sounds, 16_000), on_gpu(**source, compute_dtype=compute_dtype)
    for one, right, found in zip(sounds, exact, short.extract(sounds, 16_000), strict=True):
        assert 1e-6 < relative_error(found.pooled, right.pooled) < MOST[compute_dtype]
        assert relative_error(short.extract([one], 16_000)[0].pooled, right.pooled) < MOST[compute_dtype]


@pytest.mark.parametrize("compute_dtype", MOST)
@pytest.mark.parametrize("name", ["wav2vec2-base", "WavLM-Large"])
def test_shorter_formats_are_near_float32_at_published_widths(name, compute_dtype, wide, sound, relative_error):
    """By the kernels that users call, none of which the probe finds wrong on a processor that is in order."""
    view = {"family": "transformers", "source": str(wide(name))}
    sounds = [sound(n, seed=n) for n in (31_991, 16_001)]
    exact = extractors.load(view, device="cuda", batch_s=60.0).extract(sounds, 16_000)
    short = extractors.load(view | {"compute_dtype": compute_dtype}, device="cuda", batch_s=60.0)
    for right, found in zip(exact, short.extract(sounds, 16_000), strict=True):
        assert 1e-6 < relative_error(found.pooled, right.pooled) < MOST[compute_dtype]
    assert short.in_float32 == ()


def test_a_layer_that_is_wrong_in_a_format_is_computed_in_float32(load, sounds, relative_error, monkeypatch):
    """Whatever the GPU can do: this one and no other."""
    right = torch.nn.functional.linear

    def wrong(values, weight, bias=None):
        computed = right(values, weight, bias)
        return computed * 2 if values.dtype == torch.bfloat16 and len(weight) == 96 else computed

    monkeypatch.setattr(torch.nn.functional, "linear", wrong)
    view = {"family": "transformers", "source": "miniature:wavlm"}
    short = extractors.load(view | {"compute_dtype": "bfloat16"}, device="cuda", batch_s=30.0)
    found = short.extract(sounds, 16_000)
    assert short.in_float32 == tuple(f"encoder.layers.{i}.feed_forward.intermediate_dense" for i in range(4))
    for one, other in zip(load(**view).extract(sounds, 16_000), found, strict=True):
        assert 1e-5 < relative_error(other.pooled, one.pooled) < MOST["bfloat16"]


@pytest.mark.parametrize("compute_dtype", ["float32", "tf32", "bfloat16", "float16"])
@pytest.mark.parametrize("is_padded", [False, True])
def test_gated_attention_is_that_of_pytorch(compute_dtype, is_padded):
    """The kernel against the formula in float64, as near as the format lets it be; nothing beyond the lengths."""
    torch.manual_seed(0)
    batch, time, heads, width = 3, 331, 5, 64
    assert gated_attention.is_there(torch.device("cuda:0"), width)
    dtype = DTYPES[compute_dtype]
    query, key, value = (torch.randn(batch, time, heads, width, device="cuda", dtype=dtype) for _ in range(3))
    gate = 2 * torch.rand(batch, time, heads, 1, device="cuda", dtype=dtype)
    position_bias = torch.randn(heads, time, time + 5, device="cuda", dtype=dtype)[..., :time]
    lengths = torch.tensor([331, 1, 64], device="cuda") if is_padded else None
    with inference(compute_dtype):
        found = gated_attention.attend(query, key, value, gate, position_bias, lengths, 0.125)
    query, key, value, gate, bias = (values.double() for values in (query, key, value, gate, position_bias))
    bias = gate.transpose(1, 2) * bias
    outside = torch.arange(time, device="cuda") >= (lengths if is_padded else torch.tensor([time] * 3).cuda())[:, None]
    bias = bias.masked_fill(outside[:, None, None], -torch.inf)
    by_head = (values.transpose(1, 2) for values in (query, key, value))
    right = torch.nn.functional.scaled_dot_product_attention(*by_head, attn_mask=bias, scale=0.125).transpose(1, 2)
    assert not found[outside].any()
    most = {"float32": 2e-6, "tf32": 2e-3, "bfloat16": 1e-2, "float16": 2e-3}[compute_dtype]
    error = (found - right)[~outside].norm() / right[~outside].norm()
    assert error < most
    if compute_dtype == "tf32":
        assert error > 1e-5


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("width", [17, 512, 768, 1024])
@pytest.mark.parametrize("with_gelu", [False, True])
def test_fused_norms_are_pytorchs(width, with_gelu, compute_dtype):
    """Of any width and number of rows, far from zero, against float64; a constant row is no NaN. Kernels divide to
    within two units of the last place, which a row that is next to constant scales up."""
    torch.manual_seed(0)
    assert fused_norm.is_there(torch.device("cuda:0"))
    dtype = DTYPES[compute_dtype]
    norm = torch.nn.LayerNorm(width).cuda().to(dtype).requires_grad_(False)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    hidden = (3 * torch.randn(3, 331, width, device="cuda") + 5).to(dtype)
    hidden[1, 2] = 7
    found = fused_norm.FusedLayerNorm(norm, with_gelu=with_gelu)(hidden)
    exact = copy.deepcopy(norm).double()(hidden.double())
    exact = torch.nn.functional.gelu(exact) if with_gelu else exact
    assert found.dtype == dtype
    assert (found - exact).norm() < 24 * torch.finfo(dtype).eps * exact.norm()
    assert (found - exact).abs().max() < 64 * torch.finfo(dtype).eps * exact.abs().max()


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_wavlm_without_the_kernels(compute_dtype, wide, sound, relative_error, monkeypatch):
    """Where Triton cannot compile, PyTorch's own attention and norms give the same values."""
    view = {"family": "transformers", "source": str(wide("WavLM-Large")), "compute_dtype": compute_dtype}
    sounds = [sound(n, seed=n) for n in (31_991, 16_001)]
    extractor = extractors.load(view, device="cuda", batch_s=60.0)
    expected = extractor.extract(sounds, 16_000)
    for kernel in (gated_attention, fused_norm):
        monkeypatch.setattr(kernel, "is_there", lambda *_: False)
    for found, right in zip(extractor.extract(sounds, 16_000), expected, strict=True):
        assert relative_error(found.pooled, right.pooled) < (1e-4 if compute_dtype == "float32" else MOST["bfloat16"])


@pytest.fixture
def little_memory():
    """A function that leaves PyTorch so many bytes of the GPU beyond what it holds; lifted afterwards."""

    def limit(num_bytes):
        torch.cuda.empty_cache()
        _, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + num_bytes) / total)

    yield limit
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_running_out_of_memory_halves_the_batch(load, sound, little_memory, assert_same):
    """The GPU's own refusal, in the midst of a run: every value is still there, in order, and the size that fits is
    kept for what comes next."""
    view = {"family": "transformers", "source": "miniature:wavlm"}
    there = extractors.load(view, device="cuda", batch_s=1000.0)
    sounds = [sound(n, seed=n) for n in range(60_000, 100_000, 1_000)]
    there.extract(sounds[:1], 16_000)
    little_memory(150e6)
    found = there.extract(sounds, 16_000)
    assert there.batch_s < 250
    kept = there.batch_s
    there.extract(sounds[::4], 16_000)
    assert there.batch_s == kept
    for one, right in zip(found[::8], load(**view).extract(sounds[::8], 16_000), strict=True):
        assert_same(one, right, there.layer_names)


def test_one_window_that_does_not_fit(sound, little_memory):
    """Cannot be halved: an error that says what to lower, and the next recording is computed."""
    there = extractors.load({"family": "transformers", "source": "miniature:wavlm"}, device="cuda", batch_s=100.0)
    short = sound(16_000)
    there.extract([short], 16_000)
    little_memory(30e6)
    with pytest.raises(MemoryError, match="lower the view's window_s"):
        there.extract([sound(16_000 * 59)], 16_000)
    assert np.isfinite(there.extract([short], 16_000)[0].pooled).all()


def test_memory_that_pytorch_holds_for_later_counts_as_free():
    """Else the second view of a run would be left with what the first one did not take."""
    torch.cuda.empty_cache()
    before = free_bytes(torch.device("cuda"))
    held = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    assert free_bytes(torch.device("cuda")) <= before - 2**30
    del held
    assert free_bytes(torch.device("cuda")) > before - 2**28


@pytest.mark.parametrize("name", ["cuda:77", "cuda:x", "mps"])
def test_a_gpu_that_is_not_there_is_refused_by_name(name):
    """Before anything is loaded."""
    with pytest.raises(ViewError, match="expected a device such as auto, cpu or cuda:0"):
        extractors.load({"family": "transformers", "source": "miniature:wavlm"}, device=name)


def test_auto_is_the_gpu(sounds):
    """And `cuda:0` is its name; the device is no part of the fingerprint."""
    view = {"family": "transformers", "source": "miniature:wavlm"}
    auto, first = (extractors.load(view, device=device) for device in ("auto", "cuda:0"))
    assert auto.device.startswith("cuda")
    assert first.device == "cuda:0"
    np.testing.assert_array_equal(auto.extract(sounds, 16_000)[2].pooled, first.extract(sounds, 16_000)[2].pooled)
    assert auto.fingerprint == first.fingerprint
    assert 10 <= auto.batch_s <= 240


def test_the_same_twice(on_gpu, sounds):
    """To the bit, in the same batches."""
    extractor = on_gpu(family="transformers", source="miniature:wavlm-large")
    for one, other in zip(extractor.extract(sounds, 16_000), extractor.extract(sounds, 16_000), strict=True):
        np.testing.assert_array_equal(one.pooled, other.pooled)


@pytest.mark.parametrize("name", ["wav2vec2-base", "WavLM-Large"])
@pytest.mark.parametrize(("compute_dtype", "more"), [("float32", 0.03), ("bfloat16", 0.3)])
def test_operations_are_counted_as_on_the_cpu(name, compute_dtype, more, wide, sound):
    """Whichever kernels a GPU takes in a format, and next to nothing more: what products are rounded up to, and between
    utterances the padding of the positional convolution."""
    view = {"family": "transformers", "source": str(wide(name))}
    sounds = [sound(48_017, seed) for seed in range(3)]
    counts = []
    for device, used in (("cpu", "float32"), ("cuda", compute_dtype)):
        extractor = extractors.load(view | {"compute_dtype": used}, device=device, batch_s=30.0)
        extractor.extract(sounds[:1], 16_000)
        counts.append(speed.count_operations(lambda e=extractor: e.extract(sounds, 16_000)))
    assert counts[0] * 0.999 < counts[1] < counts[0] * (1 + more)


def test_rate_and_memory_are_the_gpus():
    """A chip with TF32 is quicker in it; its name and its peak of memory are told."""
    rates = {name: speed.matrix_rate("cuda", name) for name in ("float32", "tf32", "bfloat16")}
    assert rates["float32"] > 1e11
    if torch.cuda.get_device_capability() >= (8, 0):
        assert rates["float32"] < rates["tf32"] < rates["bfloat16"]
    assert speed.device_name("cuda") == torch.cuda.get_device_name()
    speed.forget_peak("cuda")
    torch.empty(2**28, dtype=torch.uint8, device="cuda")
    assert speed.peak_memory("cuda") >= 2**28


def test_products_of_float32_are_not_shortened():
    """Matrix products, convolutions and fused attention, against float64."""
    torch.manual_seed(0)
    left, right = (torch.randn(512, 512, device="cuda") for _ in range(2))
    heads = [torch.randn(2, 4, 512, 64, device="cuda") for _ in range(3)]
    bias = torch.randn(2, 4, 512, 512, device="cuda")
    attend = torch.nn.functional.scaled_dot_product_attention
    with inference():
        pairs = [
            (left @ right, left.double() @ right.double()),
            (
                torch.conv1d(left[None], right[:, :, None]),
                torch.conv1d(left[None].double(), right[:, :, None].double()),
            ),
            (attend(*heads, attn_mask=bias), attend(*(x.double() for x in heads), attn_mask=bias.double())),
        ]
    for found, exact in pairs:
        assert (found - exact).norm() < 3e-6 * exact.norm()
