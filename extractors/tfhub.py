"""TensorFlow SavedModels that turn a waveform into an embedding: TRILLsson and its kin from TF-Hub or Kaggle.

The one file that imports TensorFlow, and only when a model is needed: it takes seconds and the better part of a
gigabyte. `tf.saved_model.load` gives the values that tensorflow-hub gives, without it.

These models have no input for lengths, so padding would enter the embedding: only utterances of equal length share a
batch. Audio longer than a minute goes through in equal pieces, whose embeddings are averaged by their length.

A SavedModel is a program. Before it is loaded, the names of its operations are looked through, and it is refused where
one can be reached that reads or writes files, calls Python, talks to other processes or machines, carries a program in
a form that is not looked through here, or ends this process. `_FORBIDDEN` is the list, made from the operations of
TensorFlow 2.21. It is no sandbox: an operation of a later TensorFlow or of another library may go by a name that it
does not know, and nothing bounds what a model computes. Load what you trust.

Source: Shor and Venugopalan, *TRILLsson: distilled universal paralinguistic speech representations*, Interspeech 2022.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from strata.extractors import miniatures
from strata.extractors.batching import run_halving
from strata.extractors.contract import SAMPLING_RATE, AudioExtractor, HiddenStates, ViewError
from strata.extractors.sources import find, hash_files
from strata.extractors.view import TFHubView
from strata.extractors.windows import FrameGrid, plan

WINDOW_S = 60.0
"""Longest audio given to the model at once."""

_FORBIDDEN = re.compile(
    r"File|Save|Restore|Checkpoint|Record|Reader|Summary|Dataset|Iterator|Snapshot|Print|Debug|DumpTensor"
    r"|ImmutableConst|VocabRemapping|LoadAndRemapMatrix|FixedUnigram|Skipgram|(De|En)codeProto"
    r"|PyFunc"
    r"|Rpc|Remote|Send|Recv|Collective|Nccl|AllReduce|AllToAll|ReduceScatter|DTensor|Distributed|Heartbeat|TPU"
    r"|(In|Out)feed"
    r"|XlaCallModule|XlaCustomCall|XlaHostCompute|MlirPassthrough|Abort"
)
"""Operations that read or write files, or may; call Python; talk to others; hold a foreign program, or end this one."""


class SavedModelExtractor(AudioExtractor):
    """One SavedModel with a waveform [batch, samples] in and an embedding [batch, dim] out."""

    layer_names = ("embedding",)
    frame_layers = ()
    frame_rate_hz = 0.0
    # A quarter of a second: the pooling of such a model needs several of its own frames.
    min_samples = SAMPLING_RATE // 4

    def __init__(self, view: TFHubView, *, device: str, batch_s: float | None, folder: Path = Path()):
        if find_spec("tensorflow") is None:
            raise ViewError("views of family tfhub need TensorFlow: pip install 'strata-speech[tfhub]'")
        self._view = view
        self._device = "/CPU:0" if device == "cpu" else None  # None: TensorFlow's own choice
        self.device = "cpu" if device == "cpu" else "TensorFlow's choice"
        self._batch_samples = (30.0 if batch_s is None else batch_s) * SAMPLING_RATE
        self._checkpoint = find(
            view.source,
            None,
            needed=[("saved_model.pb",)],
            miniatures=miniatures.TFHUB,
            make_miniature=make_miniature,
            folder=folder,
            family="tfhub",
            on_hub=False,
        )
        self.checkpoint = self._checkpoint.folder

    @cached_property
    def dim(self) -> int:
        """Width of the embedding, 1024 for TRILLsson. Loads the model: only running it tells."""
        return self._embed(np.zeros((1, SAMPLING_RATE), dtype=np.float32)).shape[1]

    @cached_property
    def fingerprint(self) -> dict[str, object]:
        """See `Extractor.fingerprint`. A local directory's path is not part of it: `weights` identifies it."""
        # TensorFlow numbers the functions of a graph anew whenever it saves one, so a miniature that is made again has
        # another saved_model.pb. Its graph is this file's; its variables identify it.
        made_here = self._checkpoint.source.startswith(miniatures.PREFIX)
        patterns = ("variables/*",) if made_here else ("saved_model.pb", "variables/*", "assets/*")
        return {
            "family": "tfhub",
            "source": self._checkpoint.source,
            "revision": None,
            "weights": hash_files(self._checkpoint.files(patterns)),
            "preprocessing": f"{SAMPLING_RATE} Hz mono; pieces of at most {WINDOW_S:g} s, averaged by length",
            "masking": "equal lengths only",
            "compute_dtype": "float32",
            "layers": list(self.layer_names),
            "frames": [],
            "pooling": "within the model",
        }

    def _extract(self, waveforms: Sequence[np.ndarray]) -> list[HiddenStates]:
        pieces = [
            (utterance, piece)
            for utterance, waveform in enumerate(waveforms)
            for piece in plan(len(waveform), FrameGrid(1, 1), round(WINDOW_S * SAMPLING_RATE), overlap=0)
        ]
        sums: list[Any] = [0.0] * len(waveforms)

        def compute(batch: list[int]) -> None:
            stacked = np.stack([waveforms[u][piece.start : piece.stop] for u, piece in (pieces[i] for i in batch)])
            for index, embedding in zip(batch, self._embed(stacked), strict=True):
                utterance, piece = pieces[index]
                weight = (piece.stop - piece.start) / len(waveforms[utterance])
                sums[utterance] = sums[utterance] + weight * embedding.astype(np.float64)

        lengths = [piece.stop - piece.start for _, piece in pieces]
        self._batch_samples = run_halving(lengths, self._batch_samples, compute, equal_only=True)
        return [HiddenStates(total.astype(np.float32)[None], num_frames=0) for total in sums]

    def _embed(self, waveforms: np.ndarray) -> np.ndarray:
        """Embeddings [batch, dim] of waveforms [batch, samples]."""
        tf = _tensorflow()
        with tf.device(self._device):
            output = self._call(tf.constant(waveforms))
        if isinstance(output, dict):
            if "embedding" not in output:
                raise ViewError(
                    f"source {self._view.source!r}: expected an output named embedding, got {', '.join(output)}"
                )
            output = output["embedding"]
        return output.numpy()

    @cached_property
    def _model(self) -> Any:
        refuse_programs(self._checkpoint.folder, self._view.source)
        tf = _tensorflow()
        with tf.device(self._device):
            return tf.saved_model.load(str(self._checkpoint.folder))

    @cached_property
    def _call(self) -> Any:
        """The model as a function of its waveforms: called as TF-Hub does, or by its serving signature."""
        if callable(self._model):
            return self._model
        if "serving_default" not in self._model.signatures:
            raise ViewError(f"source {self._view.source!r}: the SavedModel can neither be called nor be served")
        return self._model.signatures["serving_default"]


def refuse_programs(folder: Path, source: str) -> None:
    """Looks through a SavedModel's graph without loading it.

    Every SavedModel carries two functions that save and restore its variables. TensorFlow 2 does not run them on
    loading, so they are let pass, as long as no other function and no object of the model names them.

    Raises:
        ViewError: an operation that matches `_FORBIDDEN` can be reached, or the file is no SavedModel.
    """
    _tensorflow()
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    model = SavedModel()
    try:
        model.ParseFromString((folder / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise ViewError(f"source {source!r}: saved_model.pb is not a SavedModel") from error
    # TensorFlow runs the graph itself of any other SavedModel, its saver included.
    is_of_objects = len(model.meta_graphs) == 1 and model.meta_graphs[0].HasField("object_graph_def")
    for graph in model.meta_graphs:
        functions = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
        saver = {graph.saver_def.save_tensor_name.split(":")[0], graph.saver_def.restore_op_name}
        if not is_of_objects:
            saver = set()
        of_saver = _reachable([node for node in graph.graph_def.node if node.name in saver], functions)
        of_saver -= _named_by_objects(graph.object_graph_def)
        rest = [node for node in graph.graph_def.node if node.name not in saver]
        rest += [node for name, nodes in functions.items() if name not in of_saver for node in nodes]
        reached = [*rest, *(node for name in _reachable(rest, functions) for node in functions[name])]
        if found := sorted({node.op for node in reached if _FORBIDDEN.search(node.op)}):
            raise ViewError(
                f"source {source!r}: its graph reaches beyond computing, to files, Python or other processes "
                f"({', '.join(found)}), and was not loaded"
            )


def _named_by_objects(objects: Any) -> set[str]:
    """Names of the functions that the objects of a SavedModel can be called by."""
    names = set(objects.concrete_functions)
    for node in objects.nodes:
        names |= {node.bare_concrete_function.concrete_function_name, *node.function.concrete_functions}
    return names


def _reachable(nodes: Iterable[Any], functions: dict[str, Sequence[Any]]) -> set[str]:
    """Names of the functions that the nodes call, at any depth."""
    waiting, names = list(nodes), set()
    while waiting:
        node = waiting.pop()
        called = {node.op}
        for value in node.attr.values():
            called |= {value.func.name, *(function.name for function in value.list.func)}
        for name in (called & functions.keys()) - names:
            names.add(name)
            waiting += functions[name]
    return names


@cache
def _tensorflow() -> ModuleType:
    """TensorFlow, quiet and polite: as many threads as this process may use, GPU memory as it is needed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _quiet_stderr():
        import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    # Where there is no affinity (macOS), all cores.
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        pass  # TensorFlow runs already: whoever started it has settled this
    return tf


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Drops what native code writes to standard error: TensorFlow's first lines come before its log level counts."""
    sys.stderr.flush()
    with open(os.devnull, "wb") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def make_miniature(name: str, folder: Path) -> None:
    """Writes the miniature TRILLsson: log spectrogram, a convolution, mean over time, a dense layer."""
    tf = _tensorflow()
    bands, width, dim = 64, 96, 128

    class Miniature(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            to_bands = tf.signal.linear_to_mel_weight_matrix(bands, 257, SAMPLING_RATE, 60.0, 7600.0)
            self.bands = tf.Variable(to_bands, trainable=False)
            self.kernel = tf.Variable(_random([5, bands, width], 1, (5 * bands) ** -0.5))
            self.dense = tf.Variable(_random([width, dim], 2, width**-0.5))

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32)])
        def __call__(self, waveforms):
            spectrum = tf.abs(tf.signal.stft(waveforms, 400, 160, 512))
            features = tf.math.log(spectrum @ self.bands + 1e-3) / 4.0
            hidden = tf.nn.gelu(tf.nn.conv1d(features, self.kernel, stride=2, padding="SAME"))
            return {"embedding": tf.reduce_mean(hidden, axis=1) @ self.dense}

    def _random(shape: list[int], index: int, scale: float):
        return scale * tf.random.stateless_normal(shape, [miniatures.seed(name) % 2**31, index])

    tf.saved_model.save(Miniature(), str(folder))
