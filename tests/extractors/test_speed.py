"""Operations are counted to the last one, and so is the device's rate."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from strata import extractors
from strata.extractors.speed import count_operations, matrix_rate


def counted_by_hand(extractor, num_samples: int, batch: int, padded: bool = False) -> int:
    """Operations of a wav2vec 2.0 or WavLM encoder for a batch of equal lengths: two for every multiplication of its
    front end, its projection, its positional convolution, and of its layers' linear maps, attention and gates."""
    config = json.loads((Path(extractor.checkpoint) / "config.json").read_text())
    width, inner, heads = (config[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads"))
    total, time, channels = 0, num_samples, 1
    for kernel, stride, outputs in zip(config["conv_kernel"], config["conv_stride"], config["conv_dim"], strict=True):
        time = (time - kernel) // stride + 1
        total += time * outputs * channels * kernel
        channels = outputs
    total += time * channels * width
    taps = config["num_conv_pos_embeddings"]
    # An even kernel padded by half its width on both sides gives one frame too many, which is cut off again.
    total += (time + 1 - taps % 2) * width * (width // config["num_conv_pos_embedding_groups"]) * taps
    layer = 4 * time * width**2 + 2 * time * width * inner + 2 * time**2 * width
    if config["model_type"] == "wavlm":
        layer += heads * time * (width // heads) * 8
    return 2 * batch * (total + config["num_hidden_layers"] * layer)


@pytest.mark.parametrize("name", ["wav2vec2", "wavlm", "xls-r", "wavlm-large"])
def test_operations_are_those_counted_by_hand(name, sound):
    """Convolutions, linear maps, and attention with and without an additive mask; also of two batches, one padded."""
    view = {"family": "transformers", "source": f"miniature:{name}"}
    extractor = extractors.load(view, device="cpu", batch_s=30.0)
    same = [sound(16_001, seed) for seed in range(3)]
    assert count_operations(lambda: extractor.extract(same, 16_000)) == counted_by_hand(extractor, 16_001, batch=3)
    two = [same[0], sound(9_001)]
    assert count_operations(lambda: extractor.extract(two, 16_000)) == counted_by_hand(extractor, 16_001, batch=2)
    alone = extractors.load(view, device="cpu", batch_s=0.1)
    expected = counted_by_hand(alone, 16_001, batch=1) + counted_by_hand(alone, 9_001, batch=1)
    assert count_operations(lambda: alone.extract(two, 16_000)) == expected


def test_a_family_without_torch_has_no_count(sound):
    """Neither in a process with PyTorch nor in one without it, where it stays unimported."""
    assert "torch" in sys.modules
    assert count_operations(lambda: extractors.load({"family": "mfcc"}).extract([sound(16_001)], 16_000)) is None


@pytest.mark.parametrize("compute_dtype", ["float32", "tf32", "bfloat16"])
def test_the_matrix_rate_is_that_of_products(compute_dtype, monkeypatch):
    """It follows from the clock and from the size of the product alone."""
    monkeypatch.setattr("strata.extractors.speed._LARGEST", {"cpu": 256})
    ticks = iter(np.arange(0, 1000, 0.5))
    monkeypatch.setattr("strata.extractors.speed.time.perf_counter", lambda: next(ticks))
    assert matrix_rate("cpu", compute_dtype) == pytest.approx(2 * 256**3 / 0.5)
