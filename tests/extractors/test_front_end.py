"""What stands in for transformers' modules on a GPU gives their values; the formulas, here on a CPU."""

import copy

import pytest
import torch

from strata import extractors
from strata.extractors import padding
from strata.extractors.transformers import fused_norm
from strata.extractors.transformers.checkpoints import transformers
from strata.extractors.transformers.front_end import FrontEnd, NormalisedConvolution, PositionalConvolution
from strata.extractors.transformers.fused_norm import FusedLayerNorm, fuse_norms
from strata.extractors.transformers.group_norm import patch_front_end

LENGTHS = (4_801, 2_011, 3_203)


def num_frames(config, num_samples, layers=None):
    """That the convolutions make of so many samples."""
    for kernel, stride in list(zip(config.conv_kernel, config.conv_stride, strict=True))[:layers]:
        num_samples = (num_samples - kernel) // stride + 1
    return num_samples


def front_end(**settings):
    """One of transformers, with random weights; its configuration; its group norm, where it has one."""
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(conv_dim=[24] * 7, **settings)
    module = transformers.models.wav2vec2.modeling_wav2vec2.Wav2Vec2FeatureEncoder(config).eval().requires_grad_(False)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module, config, patch_front_end(module.conv_layers)


def padded(offset=0.0):
    """Sounds of several lengths, one below the other, with zeros behind them."""
    torch.manual_seed(1)
    rows = torch.zeros(len(LENGTHS), max(LENGTHS))
    for row, length in zip(rows, LENGTHS, strict=True):
        row[:length] = torch.randn(length) + offset
    return rows


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("more", [{}, {"conv_bias": True}, {"conv_kernel": (9, 5, 3, 3, 3, 2, 2)}], ids=str)
@pytest.mark.parametrize("offset", [0.0, 30.0])
@torch.inference_mode()
def test_products_are_the_convolutions(norm, more, offset):
    """Of every valid frame, alone and beside longer utterances, with statistics over valid frames only, and far from
    zero, too."""
    original, config, group_norm = front_end(feat_extract_norm=norm, **more)
    quick = FrontEnd(original)
    assert (quick.group_norm is None) == (norm == "layer")
    waveforms = padded(offset)
    for batch, lengths in ((waveforms, LENGTHS), (waveforms[1:2, : LENGTHS[1]], LENGTHS[1:2])):
        if group_norm is not None:
            group_norm.valid_frames = quick.group_norm.valid_frames = [num_frames(config, n, 1) for n in lengths]
        expected, found = original(batch), quick(batch)
        assert found.shape == expected.shape
        for one, other, length in zip(found, expected, lengths, strict=True):
            valid = slice(num_frames(config, length))
            torch.testing.assert_close(one[:, valid], other[:, valid], rtol=0, atol=1e-4 * float(other.abs().max()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_filter_that_leaves_little_is_as_exact_in_short_formats(dtype):
    """Beside what it cancels, what is left is little, and is scaled up: the weights of the product must not be rounded
    once more."""
    torch.manual_seed(0)
    conv = torch.nn.Conv1d(1, 16, 10, stride=5, bias=False).requires_grad_(False)
    conv.weight.sub_(conv.weight.mean(dim=2, keepdim=True))  # leaves nothing of an offset
    conv.weight.copy_(conv.weight.to(dtype))
    group_norm = torch.nn.GroupNorm(16, 16).requires_grad_(False)
    sound = (torch.randn(1, 1, 4_005) + 16).to(dtype)
    expected = group_norm(conv(sound.float()))
    quick = NormalisedConvolution(conv, group_norm).to(dtype)
    quick.valid_frames = [expected.shape[2]]
    found = quick(sound[0].T).float().T[:, : expected.shape[2]]
    assert (found - expected[0]).norm() < 2 * torch.finfo(dtype).eps * expected.norm()


@pytest.mark.parametrize("kernel", [128, 19, 6])
def test_positions_are_those_of_the_grouped_convolution(kernel):
    """Of utterances shorter and longer than the kernel, with odd and even numbers of taps."""
    torch.manual_seed(0)
    conv = torch.nn.Conv1d(36, 36, kernel, padding=kernel // 2, groups=3).requires_grad_(False)
    for time in (1, 17, 131):
        hidden = torch.randn(5, 36, time)
        torch.testing.assert_close(PositionalConvolution(conv)(hidden), conv(hidden), rtol=0, atol=1e-5)


@pytest.mark.parametrize("with_gelu", [False, True])
def test_without_its_kernel_a_fused_norm_is_pytorchs(with_gelu):
    """With the activation behind it where that was asked for."""
    norm = torch.nn.LayerNorm(17).requires_grad_(False)
    hidden = torch.randn(3, 5, 17)
    assert not fused_norm.is_there(hidden.device)
    expected = torch.nn.functional.gelu(norm(hidden)) if with_gelu else norm(hidden)
    torch.testing.assert_close(FusedLayerNorm(norm, with_gelu=with_gelu)(hidden), expected)


def test_a_networks_norms_are_fused_in_place():
    """All of those that have weights and biases, which stay the same tensors; a copy is one, too."""
    network = torch.nn.Sequential(torch.nn.LayerNorm(7), torch.nn.LayerNorm(7, bias=False), torch.nn.Linear(7, 7))
    weight = network[0].weight
    fuse_norms(network)
    assert [type(module) for module in network] == [FusedLayerNorm, torch.nn.LayerNorm, torch.nn.Linear]
    assert network[0].weight is weight
    hidden = torch.randn(3, 7)
    torch.testing.assert_close(copy.deepcopy(network)(hidden), network(hidden))


def test_a_gpus_normalisation_is_the_hosts():
    """Of what came whole; what came normalised stays as it is."""
    waveforms = [row[:length].numpy() for row, length in zip(padded(0.5), LENGTHS, strict=True)]
    waveforms.append(0 * waveforms[1])
    moments = [padding.moments(waveform) for waveform in waveforms]
    expected = padding.pad(waveforms, moments)
    mixed = padding.pad(waveforms, [None, moments[1], None, None])
    assert mixed.raw == [True, False, True, True]
    found = padding.normalised(*(torch.as_tensor(values) for values in (mixed.waveforms, mixed.lengths, mixed.raw)))
    torch.testing.assert_close(found, torch.as_tensor(expected.waveforms), rtol=0, atol=1e-5)


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["wav2vec2", "hubert", "wavlm", "unispeech-sat", "xls-r", "wavlm-large"])
def test_a_whole_model_gives_the_same_values(name, compute_dtype, load, sounds, relative_error, monkeypatch):
    """Every layer of padded utterances, when a network is treated as on a GPU."""
    view = {"family": "transformers", "source": f"miniature:{name}"}
    expected = load(**view).extract(sounds, 16_000)
    quick = extractors.load(view | {"compute_dtype": compute_dtype}, device="cpu", batch_s=30.0)
    load_network = type(quick)._loaded.func

    def quickened(extractor):
        monkeypatch.setattr(extractor, "_shorten", lambda *_: None)
        network, group_norm, head = load_network(extractor)
        group_norm = extractor._quicken(network, group_norm)
        monkeypatch.undo()
        if compute_dtype != "float32":
            extractor._shorten(network, group_norm)
        return network, group_norm, head

    quick.__dict__["_loaded"] = quickened(quick)
    for found, right in zip(quick.extract(sounds, 16_000), expected, strict=True):
        error = relative_error(found.pooled, right.pooled)
        assert error < (1e-4 if compute_dtype == "float32" else 5e-2)
        assert error > 0
