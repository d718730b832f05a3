"""Hidden states pooled while the model runs.

A model of 25 layers asked for all its hidden states holds every one of them until it returns. Hooks pool each the
moment it is made instead, on the device, so that one is alive at a time and only [layers, dim] per window travels;
frames travel where a view keeps them. `Totals` puts an utterance's windows together again.

Knows a stack of layers, not which model it belongs to.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from extractors.contract import HiddenStates
from extractors.torch_setup import to_device
from extractors.windows import Window


@dataclass
class Tap:
    """Collects the hidden states of one batch by name."""

    pooled_layers: Sequence[str]
    """Names whose sums over the kept frames are wanted."""
    frame_layers: Sequence[str]
    """Names whose kept frames are wanted."""
    windows: Sequence[Window]
    """Which frames to keep of each item in the batch."""
    sums: dict[str, Tensor] = field(default_factory=dict)
    """float32 [batch, dim] by name, on the device."""
    frames: dict[str, Tensor] = field(default_factory=dict)
    """[batch, time, dim] for each kept name, on the device, in the model's number format."""
    _left_out: Tensor | None = None

    def take(self, name: str, hidden: Tensor) -> None:
        """Pools the hidden state [batch, time, dim] of that name where it is wanted. Waits for nothing: on a GPU the
        values are only fetched by `Totals.add`, when the next batch is on its way."""
        if name in self.pooled_layers:
            if self._left_out is None:  # all hidden states of a batch have the same frames
                self._left_out = self._where_left_out(hidden)
            # A sum and no product with ones, which TF32 would round; in float32 whatever the model computes in.
            self.sums[name] = hidden.masked_fill(self._left_out, 0).sum(dim=1, dtype=torch.float32)
        if name in self.frame_layers:
            self.frames[name] = hidden

    def _where_left_out(self, hidden: Tensor) -> Tensor:
        """bool [batch, time, 1], true for padding and for frames that another window yields."""
        time = np.arange(hidden.shape[1])
        first, last = (
            np.array([getattr(window, edge) for window in self.windows])[:, None] for edge in ("first", "last")
        )
        return to_device((time < first) | (time >= last), hidden.device)[:, :, None]

    @contextmanager
    def on(self, layers: nn.ModuleList, *, but: str | None = None) -> Iterator[None]:
        """Takes the input of the first layer as "0" and the output of layer i as str(i + 1), while the model runs; the
        name `but` is left for the caller to take."""

        def hook(name: str):
            return lambda _module, _args, output: self.take(name, output[0] if isinstance(output, tuple) else output)

        handles = [layers[0].register_forward_pre_hook(lambda _module, args: self.take("0", args[0]))]
        handles += [
            layer.register_forward_hook(hook(str(number)))
            for number, layer in enumerate(layers, start=1)
            if str(number) != but
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class Totals:
    """Windows of utterances summed up, whatever the order in which they were computed."""

    def __init__(self, num_utterances: int, layers: Sequence[str], frame_layers: Sequence[str]):
        self._layers = layers
        self._sums: list[np.ndarray | float] = [0.0] * num_utterances
        self._num_frames = [0] * num_utterances
        self._frames: list[dict[str, dict[int, np.ndarray]]] = [
            {name: {} for name in frame_layers} for _ in range(num_utterances)
        ]

    def add(self, utterances: Sequence[int], tap: Tap) -> None:
        """Adds a batch: item i is a window of `utterances[i]`. Sums go on in float64."""
        sums = torch.stack([tap.sums[name] for name in self._layers], dim=1).cpu().numpy().astype(np.float64)
        frames = {name: hidden.float().cpu().numpy() for name, hidden in tap.frames.items()}
        for index, (utterance, window) in enumerate(zip(utterances, tap.windows, strict=True)):
            self._sums[utterance] = self._sums[utterance] + sums[index]
            self._num_frames[utterance] += window.last - window.first
            for name, parts in self._frames[utterance].items():
                parts[window.start] = frames[name][index, window.first : window.last].copy()  # without the padding

    def hidden_states(self) -> list[HiddenStates]:
        """What the windows of each utterance come to."""
        return [
            HiddenStates(
                (sums / num_frames).astype(np.float32),
                num_frames,
                {name: np.concatenate([parts[start] for start in sorted(parts)]) for name, parts in frames.items()},
            )
            for sums, num_frames, frames in zip(self._sums, self._num_frames, self._frames, strict=True)
        ]
