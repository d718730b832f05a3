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

from strata.extractors.contract import HiddenStates
from strata.extractors.torch_setup import to_device, to_host
from strata.extractors.windows import Window


@dataclass
class Tap:
    """Collects the hidden states of one batch by name."""

    pooled_layers: Sequence[str]
    """Names whose sums over the kept frames are wanted."""
    frame_layers: Sequence[str]
    """Names whose kept frames are wanted."""
    windows: Sequence[Window]
    """Which frames to keep of each item in the batch."""
    most: float | None = None
    """Magnitude from which values are no numbers any more, for models that hold them there instead of letting them
    overflow; None for all others."""
    sums: dict[str, Tensor] = field(default_factory=dict)
    """float32 [batch, dim] by name, on the device until `send`."""
    frames: dict[str, Tensor] = field(default_factory=dict)
    """[batch, time, dim] for each kept name, on the device until `send`, in the model's number format."""
    _left_out: Tensor | None = None
    _too_large: Tensor | None = None
    _sent: torch.cuda.Event | None = None

    def take(self, name: str, hidden: Tensor) -> None:
        """Pools the hidden state [batch, time, dim] of that name where it is wanted. Waits for nothing."""
        self._watch(hidden)
        if name in self.pooled_layers:
            if self._left_out is None:  # all hidden states of a batch have the same frames
                self._left_out = self._where_left_out(hidden)
            # A sum and no product with ones, which TF32 would round; in float32 whatever the model computes in.
            self.sums[name] = hidden.masked_fill(self._left_out, 0).sum(dim=1, dtype=torch.float32)
        if name in self.frame_layers:
            self.frames[name] = hidden

    def _watch(self, hidden: Tensor) -> None:
        if self.most is not None:
            too_large = hidden.abs().flatten(1).amax(dim=1) >= self.most
            self._too_large = too_large if self._too_large is None else self._too_large | too_large

    def _where_left_out(self, hidden: Tensor) -> Tensor:
        """bool [batch, time, 1], true for padding and for frames that another window yields."""
        time = np.arange(hidden.shape[1])
        first, last = (
            np.array([getattr(window, edge) for window in self.windows])[:, None] for edge in ("first", "last")
        )
        return to_device((time < first) | (time >= last), hidden.device)[:, :, None]

    def send(self) -> None:
        """Begins to bring everything to the host, in memory that nobody waits for: on a GPU a copy that follows the
        batch's own work, so that nothing of it is held there while the next one computes."""
        device = next(iter(self.sums.values())).device
        for name, values in self.sums.items():
            if self._too_large is not None:
                values = values.masked_fill(self._too_large[:, None], torch.inf)
            self.sums[name] = to_host(values)
        for name, hidden in self.frames.items():
            self.frames[name] = to_host(hidden)
        if device.type == "cuda":
            self._sent = torch.cuda.Event()
            self._sent.record(torch.cuda.current_stream(device))  # which need not be the current device's

    def wait(self) -> None:
        """Returns when everything is on the host."""
        if self._sent is not None:
            self._sent.synchronize()

    @contextmanager
    def on(self, layers: nn.ModuleList, *, but: str | None = None) -> Iterator[None]:
        """Takes the input of the first layer as "0" and the output of layer i as str(i + 1), while the model runs; the
        name `but` is left for the caller to take, and only watched here."""

        def hook(name: str):
            def see(_module: nn.Module, _args: tuple, output: Tensor | tuple) -> None:
                hidden = output[0] if isinstance(output, tuple) else output
                if name == but:
                    self._watch(hidden)
                else:
                    self.take(name, hidden)

            return see

        handles = [layers[0].register_forward_pre_hook(lambda _module, args: self.take("0", args[0]))]
        handles += [layer.register_forward_hook(hook(str(number))) for number, layer in enumerate(layers, start=1)]
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
        self._means: list[np.ndarray | None] = [None] * num_utterances
        self._frames: list[dict[str, dict[int, np.ndarray]]] = [
            {name: {} for name in frame_layers} for _ in range(num_utterances)
        ]

    def add(self, utterances: Sequence[int], tap: Tap) -> None:
        """Adds a batch that was sent: item i is a window of `utterances[i]`. Sums go on in float64. Where memory runs
        out, nothing of the batch has been added."""
        tap.wait()
        sums = torch.stack([tap.sums[name] for name in self._layers], dim=1).numpy().astype(np.float64)
        kept = {
            # Copies, and without the padding, which would be held as long as they are.
            name: [
                hidden[index, window.first : window.last].to(torch.float32, copy=True).numpy()
                for index, window in enumerate(tap.windows)
            ]
            for name, hidden in tap.frames.items()
        }
        added = {utterance: self._sums[utterance] for utterance in utterances}
        counts = {utterance: self._num_frames[utterance] for utterance in utterances}
        items = list(zip(utterances, tap.windows, strict=True))
        for index, (utterance, window) in enumerate(items):
            added[utterance] = added[utterance] + sums[index]
            counts[utterance] += window.last - window.first
        # Now, while a GPU works on the batch to come, and not at the end, when it would have nothing to do.
        means = {utterance: (total / counts[utterance]).astype(np.float32) for utterance, total in added.items()}
        for utterance, total in added.items():  # from here on nothing needs memory
            self._sums[utterance], self._num_frames[utterance] = total, counts[utterance]
            self._means[utterance] = means[utterance]
        for index, (utterance, window) in enumerate(items):
            for name, parts in self._frames[utterance].items():
                parts[window.start] = kept[name][index]

    def hidden_states(self) -> list[HiddenStates]:
        """What the windows of each utterance come to."""
        return [
            HiddenStates(
                mean,
                num_frames,
                {name: np.concatenate([parts[start] for start in sorted(parts)]) for name, parts in frames.items()},
            )
            for mean, num_frames, frames in zip(self._means, self._num_frames, self._frames, strict=True)
        ]
