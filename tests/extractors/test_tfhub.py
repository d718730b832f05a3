"""SavedModels give what a direct call gives, and are looked through before they are loaded."""

import re
import shutil
import warnings
from importlib.util import find_spec

import numpy as np
import pytest

from strata import extractors
from strata.extractors import tfhub
from strata.extractors.contract import ViewError
from strata.extractors.miniatures import TFHUB, miniature

if find_spec("tensorflow") is None:  # not imported yet: that takes seconds, of each process that collects tests
    pytest.skip("needs the extra tfhub", allow_module_level=True)

VIEW = {"family": "tfhub", "source": "miniature:trillsson"}


def folder_of_miniature():
    """Where the miniature lies."""
    return miniature("miniature:trillsson", TFHUB, tfhub.make_miniature)


def save(module, folder):
    """Writes a module as a SavedModel."""
    tfhub._tensorflow().saved_model.save(module, str(folder))
    return str(folder)


def hub_load(folder):
    """`hub.load`, the official way; tensorflow-hub warns of what it imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_hub

        return tensorflow_hub.load(str(folder))


def test_equals_the_official_call(load, sounds, relative_error):
    """Each utterance's embedding is that of TF-Hub's `m(x)["embedding"]` on it alone."""
    tfhub._tensorflow()
    model = hub_load(folder_of_miniature())
    for waveform, states in zip(sounds, load(**VIEW).extract(sounds, 16_000), strict=True):
        assert relative_error(states.pooled, model(waveform[None])["embedding"].numpy()) < 1e-5


def test_a_model_that_is_only_served(tmp_path, sounds, relative_error):
    """A SavedModel that cannot be called, as Kaggle offers them, gives what its serving signature gives."""
    tf = tfhub._tensorflow()
    inner = tf.saved_model.load(str(folder_of_miniature()))
    served = tf.Module()
    served.inner = inner
    served.run = tf.function(lambda audio: inner(audio), input_signature=[tf.TensorSpec([None, None], tf.float32)])
    tf.saved_model.save(served, str(tmp_path / "served"), signatures={"serving_default": served.run})
    official = hub_load(tmp_path / "served").signatures["serving_default"]
    found = extractors.load(VIEW | {"source": str(tmp_path / "served")}).extract(sounds, 16_000)
    for waveform, one in zip(sounds, found, strict=True):
        assert relative_error(one.pooled, official(tf.constant(waveform[None]))["embedding"].numpy()) < 1e-5


def test_long_audio_is_averaged_by_length(load, sound, relative_error, monkeypatch):
    """Pieces of equal length, their embeddings averaged."""
    extractor, waveform = load(**VIEW), sound(48_000)
    halves = extractor.extract([waveform[:24_000], waveform[24_000:]], 16_000)
    monkeypatch.setattr(tfhub, "WINDOW_S", 2.0)
    found = extractor.extract([waveform], 16_000)[0].pooled
    assert relative_error(found, (halves[0].pooled + halves[1].pooled) / 2) < 1e-5


def test_programs_are_refused(tmp_path, sounds):
    """A graph that writes a file when it is called is not loaded, let alone called."""
    tf = tfhub._tensorflow()

    class Program(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32)])
        def __call__(self, waveforms):
            tf.io.write_file(str(tmp_path / "ran"), "x")
            return {"embedding": waveforms[:, :3]}

    source = save(Program(), tmp_path / "model")
    with pytest.raises(ViewError, match=r"beyond computing, .* \(WriteFile\), and was not loaded"):
        extractors.load(VIEW | {"source": source}).extract(sounds, 16_000)
    assert not (tmp_path / "ran").exists()


def test_python_is_refused(tmp_path, sounds):
    """So is a graph that calls back into Python."""
    tf = tfhub._tensorflow()

    class Program(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32)])
        def __call__(self, waveforms):
            return {"embedding": tf.numpy_function(np.sin, [waveforms], tf.float32)}

    source = save(Program(), tmp_path / "model")
    with pytest.raises(ViewError, match="PyFunc"):
        extractors.load(VIEW | {"source": source}).extract(sounds, 16_000)


@pytest.fixture
def tampered(tmp_path):
    """Writes a copy of the miniature that was changed by `change(model)` and gives its folder."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    def tampered(change):
        folder = shutil.copytree(folder_of_miniature(), tmp_path / "model")
        model = SavedModel()
        model.ParseFromString((folder / "saved_model.pb").read_bytes())
        change(model)
        (folder / "saved_model.pb").write_bytes(model.SerializeToString())
        return folder

    return tampered


def function_of(model, name):
    """The function of a SavedModel whose name contains `name`."""
    functions = model.meta_graphs[0].graph_def.library.function
    return next(function for function in functions if name in function.signature.name)


def call_saver(model):
    """A function calls the saver."""
    node = function_of(model, "__call__").node_def.add(name="smuggled", op="StatefulPartitionedCall")
    node.attr["f"].func.name = function_of(model, "traced_save").signature.name


def name_saver(model):
    """The model itself is called by the saver."""
    nodes = model.meta_graphs[0].object_graph_def.nodes
    node = next(node for node in nodes if node.function.concrete_functions)
    node.function.concrete_functions.append(function_of(model, "traced_save").signature.name)


def forget_objects(model):
    """A SavedModel without objects, whose graph TensorFlow runs as TensorFlow 1 did."""
    model.meta_graphs[0].ClearField("object_graph_def")


@pytest.mark.parametrize("change", [call_saver, name_saver, forget_objects])
def test_a_saver_that_something_calls_is_refused(change, tampered, sounds):
    """The functions that save variables are let pass only where nothing can run them."""
    with pytest.raises(ViewError, match="SaveV2"):
        extractors.load(VIEW | {"source": str(tampered(change))}).extract(sounds, 16_000)


@pytest.mark.parametrize(
    "operation",
    [
        *("ImmutableConst", "GenerateVocabRemapping", "LoadAndRemapMatrix", "FixedUnigramCandidateSampler"),
        *("Skipgram", "DecodeProtoV2", "EncodeProto", "DumpTensor", "PrintV2", "ReadFile", "EagerPyFunc"),
        *("_Send", "_Recv", "Send", "_HostRecv", "CollectiveReduceV2", "CollectiveBcastRecvV2", "NcclAllReduce"),
        *("RpcCall", "RemoteCall", "WorkerHeartbeat", "ConfigureDistributedTPU", "OutfeedEnqueue", "DTensorAllReduce"),
        *("XlaCallModule", "XlaCustomCallV2", "Abort"),
    ],
)
def test_operations_that_do_more_than_compute_are_refused(operation, tampered):
    """By name, in any function: files, Python, other processes, foreign programs, the end of this one."""
    folder = tampered(lambda model: function_of(model, "__call__").node_def.add(name="smuggled", op=operation))
    with pytest.raises(ViewError, match=rf"\({operation}\), and was not loaded"):
        tfhub.refuse_programs(folder, "model")


def test_operations_with_a_file_among_their_arguments_are_refused():
    """Of all operations that the installed TensorFlow knows, none that takes a file or an address is let pass."""
    tfhub._tensorflow()
    from tensorflow.core.framework.op_def_pb2 import OpList
    from tensorflow.python.client import pywrap_tf_session

    operations = OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())).op
    telling = re.compile(r"file|(^|_)path$|address|host_?name|memory_region|descriptor_source|ckpt|protocol")
    passed = {
        operation.name
        for operation in operations
        if not tfhub._FORBIDDEN.search(operation.name)
        and any(telling.search(argument.name) for argument in (*operation.attr, *operation.input_arg))
    }
    assert len(operations) > 1_000
    assert passed == set()


def test_what_is_no_saved_model(tmp_path, sounds):
    """A damaged file, another output, and a source that is nowhere."""
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(ViewError, match=r"saved_model\.pb is not a SavedModel"):
        extractors.load(VIEW | {"source": str(tmp_path)}).extract(sounds, 16_000)
    with pytest.raises(ViewError, match=r"expected an existing local directory with saved_model\.pb"):
        extractors.load(VIEW | {"source": "google/trillsson4"})


def test_made_again_it_is_the_same(tmp_path, monkeypatch):
    """A miniature that is made anew has the same fingerprint, though TensorFlow writes its graph differently."""
    before = extractors.load(VIEW).fingerprint
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path))
    assert extractors.load(VIEW).fingerprint == before
