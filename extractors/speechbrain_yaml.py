"""Whether a checkpoint's `hyperparams.yaml` describes the x-vector that `extractors.speechbrain` builds.

SpeechBrain executes that file: its tags name Python objects, which are called with what stands below them. Here it is
read as data, a tree of tags and scalars out of which nothing is made. What it says must then be what is built here,
since a model that is put together otherwise would give other values from the same tensors: so whatever differs, or
cannot be told without executing it, is refused. Sizes that the tensors tell are left to them.

Knows neither tensors nor PyTorch.

Source: HyperPyYAML 1.2, whose tags these are; SpeechBrain 1.1, `inference/classifiers.py`, for what is run, and
`lobes/models/Xvector.py`, `lobes/features.py` and `processing/features.py` for the defaults.
"""

import re
from pathlib import Path

import yaml

from strata.extractors.contract import ViewError

FILE_NAME = "hyperparams.yaml"
"""Where SpeechBrain looks for it."""

DILATIONS = (1, 2, 3, 1, 1)
"""Distances between the taps of the five convolutions: no tensor tells them."""

_PLAIN_TAG = re.compile(
    r"tag:yaml\.org,2002:(map|seq|str|int|float|bool|null|timestamp|set|omap|pairs|binary|value)"
    r"|!ref|!copy|!tuple|!PLACEHOLDER|!(new|name|module):(speechbrain|torch\.nn)\.[\w.]+"
)
_REFERENCE = re.compile(r"\s*<(\w+)>\s*")

_EMBEDDING, _FEATURES, _NORM = "embedding_model", "compute_features", "mean_var_norm"
_CLASSES = {
    _EMBEDDING: "speechbrain.lobes.models.Xvector.Xvector",
    _FEATURES: "speechbrain.lobes.features.Fbank",
    _NORM: "speechbrain.processing.features.InputNormalization",
}
_ACTIVATION = "torch.nn.LeakyReLU"
_TOLD_BY_TENSORS = ("in_channels", "tdnn_channels", "tdnn_kernel_sizes", "lin_neurons", "device")


class _Differs(ValueError):
    """What is expected and what the file says instead."""


def check(folder: Path, source: str) -> int | None:
    """Compares a checkpoint's `hyperparams.yaml`, where there is one, with what is built here. Executes nothing.

    Args:
        folder: of the checkpoint.
        source: of the view, for the message.

    Returns:
        Number of mel bands that the file announces, to be compared with the first convolution; None without a file.

    Raises:
        ViewError: the file is not YAML, names Python objects outside `speechbrain.` and `torch.nn.`, calls a function,
            or describes another model.
    """
    if not (path := folder / FILE_NAME).is_file():
        return None
    try:
        root = yaml.compose(path.read_bytes(), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or (str(error) or type(error).__name__).splitlines()[0]
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise ViewError(
            f"source {source!r}: {FILE_NAME} is not YAML ({where}{reason}); fetch the checkpoint again"
        ) from error
    try:
        _refuse_foreign(root)
        return _compare(_Description(root))
    except _Differs as error:
        raise ViewError(
            f"source {source!r}: {FILE_NAME}: {error}; choose a checkpoint of the plain x-vector, as "
            "speechbrain/spkrec-xvect-voxceleb"
        ) from error
    except RecursionError as error:
        raise ViewError(f"source {source!r}: {FILE_NAME} is nested without end; fetch the checkpoint again") from error


def _refuse_foreign(root: yaml.Node | None) -> None:
    """Walks through all nodes, aliased ones once, and refuses tags that make something else than plain data or the
    objects of SpeechBrain and torch.nn."""
    waiting, seen = [root] if root is not None else [], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        # Keys that are merged from elsewhere carry a tag of their own and are refused too: nothing hides behind them.
        if not _PLAIN_TAG.fullmatch(node.tag):
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise _Differs(
                "expected plain values and objects of speechbrain and torch.nn, found "
                f"{tag!r} in line {node.start_mark.line + 1}, which is never run"
            )
        if isinstance(node, yaml.MappingNode):
            waiting += [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


class _Description:
    """The file's tree, its references followed."""

    def __init__(self, root: yaml.Node | None):
        self.top: dict[str, yaml.Node] = {}
        if root is not None:
            self.top = self.mapping(root, "the file")

    def resolve(self, node: yaml.Node) -> yaml.Node:
        """The node that a `!ref <name>` (or `!copy`) leads to; any other node is itself."""
        for _ in range(len(self.top) + 1):  # more steps than names go round in a circle
            if node.tag not in ("!ref", "!copy"):
                return node
            target = _REFERENCE.fullmatch(node.value) if isinstance(node, yaml.ScalarNode) else None
            if target is None or target[1] not in self.top:
                raise _Differs(
                    f"expected a reference to one of its names, found {node.value!r} in line {node.start_mark.line + 1}"
                )
            node = self.top[target[1]]
        raise _Differs(f"expected a value, found references in a circle in line {node.start_mark.line + 1}")

    def mapping(self, node: yaml.Node, what: str) -> dict[str, yaml.Node]:
        """The node's values by name; an empty one has none."""
        if isinstance(node, yaml.ScalarNode) and node.value in ("", "null", "~"):
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise _Differs(f"expected {what} to have its values by name, found {_text(node)}")
        pairs = {str(key.value): value for key, value in node.value}
        if len(pairs) < len(node.value):
            raise _Differs(f"expected each name once in {what}, found one twice")
        return pairs

    def plain(self, node: yaml.Node) -> object:
        """A number, text, truth value or list of them; the node's text where it is something else."""
        node = self.resolve(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item) for item in node.value]
        if isinstance(node, yaml.ScalarNode) and node.tag.startswith("tag:yaml.org,2002:"):
            try:
                return yaml.SafeLoader("").construct_object(node)  # of a standard tag: plain data
            except (ValueError, LookupError, AttributeError, ArithmeticError, yaml.YAMLError):
                pass  # PyYAML checks few of the values that a tag claims: no digit is an IndexError, no date another
        return _text(node)

    def arguments(self, name: str) -> dict[str, yaml.Node]:
        """What the component of that name is made with.

        Raises:
            _Differs: it is not there, or of another class than here.
        """
        # `encode_batch` runs the components that `modules` lists, under these names.
        modules = self.mapping(self.resolve(self.top["modules"]), "modules") if "modules" in self.top else self.top
        if name not in modules:
            raise _Differs(f"expected {name} to be {_CLASSES[name]}, found none")
        node = self.resolve(modules[name])
        if node.tag != f"!new:{_CLASSES[name]}":
            raise _Differs(f"expected {name} to be {_CLASSES[name]}, found {_text(node)}")
        return self.mapping(node, name)


def _compare(description: _Description) -> int:
    """The announced number of mel bands of a description that differs in nothing else from what is built here."""
    embedding = description.arguments(_EMBEDDING)
    if "activation" in embedding:
        activation = description.resolve(embedding.pop("activation"))
        if activation.tag != f"!name:{_ACTIVATION}" or description.mapping(activation, "activation"):
            raise _Differs(f"expected the activation {_ACTIVATION} as it is, found {_text(activation)}")
    for name in _TOLD_BY_TENSORS:
        embedding.pop(name, None)
    _expect(description, _EMBEDDING, embedding, tdnn_blocks=len(DILATIONS), tdnn_dilations=list(DILATIONS))

    norm = description.arguments(_NORM)
    for name, default in (("norm_type", "global"), ("std_norm", True)):
        if name not in norm:
            raise _Differs(f"expected {_NORM} with norm_type sentence and std_norm False, found {name} {default}")
    _expect(description, _NORM, norm, norm_type="sentence", std_norm=False, mean_norm=True)

    features = description.arguments(_FEATURES)
    bands = description.plain(features.pop("n_mels")) if "n_mels" in features else 40
    _expect(description, _FEATURES, features)
    if type(bands) is not int:
        raise _Differs(f"expected {_FEATURES} with a number n_mels, found {bands!r}")
    return bands


def _expect(description: _Description, component: str, arguments: dict[str, yaml.Node], **expected: object) -> None:
    for name, node in arguments.items():
        found = description.plain(node)
        if name not in expected:
            known = f"no arguments beyond {', '.join(expected)}" if expected else "n_mels alone"
            raise _Differs(f"expected {component} with {known}, found {name} {found!r}")
        if found != expected[name] or isinstance(found, bool) != isinstance(expected[name], bool):
            raise _Differs(f"expected {component} with {name} {expected[name]!r}, found {found!r}")


def _text(node: yaml.Node) -> str:
    """The node in a few words."""
    tag = "" if node.tag.startswith("tag:yaml.org,2002:") else node.tag
    if isinstance(node, yaml.ScalarNode):
        return f"{tag} {node.value}".strip().splitlines()[0] if tag or node.value.strip() else "nothing"
    return tag or ("several values" if isinstance(node, yaml.MappingNode) else "a list")
