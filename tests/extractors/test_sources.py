"""A checkpoint is found where it lies, and what is missing is said in one line."""

import json
from fnmatch import fnmatch

import huggingface_hub
import pytest
from huggingface_hub import errors

from strata import extractors
from strata.extractors.contract import CheckpointAbsent, ViewError
from strata.extractors.sources import find, hash_files, hash_settings, local_only, refuse_code
from strata.extractors.transformers.checkpoints import WEIGHTS

NEEDED = [("config.json",), ("*.safetensors", "*.bin")]


def lookup(source, revision=None, **more):
    """`find` as a family would call it."""
    return find(source, revision, needed=NEEDED, miniatures=(), make_miniature=lambda *_: None, **more)


@pytest.fixture
def checkpoint(tmp_path):
    """A folder with what is needed."""
    (tmp_path / "model").mkdir()
    for name in ("config.json", "a.safetensors"):
        (tmp_path / "model" / name).write_text(name)
    return tmp_path / "model"


def test_local_directory(checkpoint):
    """A directory is taken as it is, and its path is no part of what identifies it."""
    found = lookup(str(checkpoint))
    assert (found.folder, found.source, found.revision) == (checkpoint, "local directory", None)
    assert [path.name for path in found.files(("*.safetensors",))] == ["a.safetensors"]


def test_incomplete_directory(checkpoint):
    """Whatever is missing is named at once, and where to put it."""
    (checkpoint / "a.safetensors").unlink()
    with pytest.raises(ViewError, match=r"expected \*\.safetensors or \*\.bin in .*/model, found none; put .* there"):
        lookup(str(checkpoint))
    (checkpoint / "config.json").unlink()
    with pytest.raises(ViewError, match=r"expected config\.json, \*\.safetensors or \*\.bin in .*, found none"):
        lookup(str(checkpoint))


def test_revision_is_for_hub_ids(checkpoint):
    """A revision of a directory means nothing and is refused rather than ignored."""
    with pytest.raises(ViewError, match="revision 'main' is for hub ids; remove it"):
        lookup(str(checkpoint), "main")


@pytest.mark.parametrize("source", ["/no/such/folder", "./none", "~/none", "a/b/c"])
def test_paths_are_never_asked_of_the_hub(source):
    """What looks like a path and is not there is a missing directory."""
    with pytest.raises(ViewError, match=r"expected an existing local directory with config\.json"):
        lookup(source)


BY_HAND = r"put config\.json, preprocessor_config\.json, model\.safetensors into a folder and name the folder as"


def test_offline_by_choice():
    """Where the user keeps the hub from being asked, the message says by what, and what to put where; nothing waits."""
    reason = r"not in the hub's cache, /.*, and HF_HUB_OFFLINE keeps it from being fetched: unset that once, or "
    with pytest.raises(ViewError, match=reason + BY_HAND) as caught:
        extractors.load({"family": "transformers", "source": "facebook/no-such-model-here"})
    assert "\n" not in str(caught.value)


def test_locally_only(cache, monkeypatch):
    """The hub is not asked within, a cached snapshot is found there; afterwards it is asked again."""
    asked = []

    def ask(_, source, **options):
        asked.append(source)
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", ask)
    snapshot = cache("config.json", "a.safetensors")
    with local_only():
        assert lookup("owner/model").folder == snapshot
        with pytest.raises(CheckpointAbsent, match=r"and the hub is not asked here: put config\.json"):
            lookup("owner/other")
    assert asked == []
    with pytest.raises(CheckpointAbsent, match="no network"):
        lookup("owner/other")
    assert asked == ["owner/other"]


def test_no_network(monkeypatch):
    """A hub that cannot be reached is told apart from that, by the reason; what to put where is the same."""

    def unreachable(*args, **kwargs):
        raise ConnectionError("Name or service not known\nand much more")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", unreachable)
    reason = r"not in the hub's cache, /.*, and fetching it from huggingface\.co failed \(Name or service not known\): "
    with pytest.raises(ViewError, match=reason + BY_HAND) as caught:
        extractors.load({"family": "transformers", "source": "facebook/no-such-model-here"})
    assert "HF_HUB_OFFLINE" not in str(caught.value)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache with a snapshot of a repository of three files, of which those named are there."""
    from huggingface_hub._tree_cache import TreeCacheEntry, write_tree_cache

    def cache(*names):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        repository = tmp_path / "hub" / "models--owner--model"
        snapshot = repository / "snapshots" / ("0123abcd" * 5)
        snapshot.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(snapshot.name)
        entries = {name: TreeCacheEntry(size=0, blob_id="0") for name in ("config.json", "a.safetensors", "README.md")}
        write_tree_cache(str(repository), snapshot.name, entries)
        for name in names:
            (snapshot / name).write_text("")
        return snapshot

    return cache


def test_what_was_fetched_is_found_offline(cache):
    """A cached snapshot with all that is needed is enough, though its repository has more files than that."""
    snapshot = cache("config.json", "a.safetensors")
    found = lookup("owner/model")
    assert (found.folder, found.revision) == (snapshot, snapshot.name)


def test_a_cached_snapshot_that_lacks_a_file(cache):
    """Of a snapshot that cannot be completed, the message says what it lacks."""
    cache("config.json")
    with pytest.raises(
        ViewError, match=r"owner/model lacks \*\.safetensors or \*\.bin in the hub's cache, .*0123abcd,"
    ):
        lookup("owner/model")


def test_not_a_hub_id():
    """Words that can be neither a directory nor a hub id."""
    with pytest.raises(ViewError, match="neither a local directory nor a hub id"):
        lookup("wav lm!")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            errors.GatedRepoError,
            r"is gated on huggingface\.co: ask for access on its page, .*; or put config\.json, \*",
        ),
        (errors.RepositoryNotFoundError, r"huggingface\.co has no such model or it is private .* or put config\.json"),
        (errors.RevisionNotFoundError, "owner/model has no revision 'v9'"),
    ],
)
def test_what_the_hub_refuses(error, message, monkeypatch):
    """Each refusal of the hub has its own line and next step."""

    def refuse(*args, **kwargs):
        raise error.__new__(error)

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", refuse)
    with pytest.raises(ViewError, match=message):
        lookup("owner/model", "v9")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that offers the files named and downloads what is asked for; gives the patterns that were asked for."""

    def hub(*offered):
        asked = []

        def download(source, *, revision, local_files_only=False, allow_patterns=()):
            if local_files_only:
                raise errors.LocalEntryNotFoundError("not cached")
            asked.extend(allow_patterns)
            snapshot = tmp_path / "0123abcd"
            snapshot.mkdir()
            for name in offered:
                if any(fnmatch(name, pattern) for pattern in allow_patterns):
                    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
                    (snapshot / name).write_text(json.dumps({"weight_map": shards}))
            return str(snapshot)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_args, **_options: list(offered))
        return asked

    return hub


def test_a_repository_without_what_is_needed(hub):
    """What the hub does not offer is said before anything is fetched."""
    asked = hub("model.safetensors", "model.onnx")
    with pytest.raises(ViewError, match=r"owner/model on huggingface\.co: expected config\.json, found none; choose"):
        lookup("owner/model")
    assert asked == []


def test_optional_files_are_fetched_where_there_are_any(hub):
    """A file that need not be there comes along if the hub has it, and is not missed otherwise."""
    asked = hub("config.json", "a.safetensors", "hyperparams.yaml")
    found = lookup("owner/model", optional=["hyperparams.yaml", "more.yaml"])
    assert asked == ["config.json", "*.safetensors", "hyperparams.yaml"]
    assert [path.name for path in found.files(("*.yaml",))] == ["hyperparams.yaml"]


def test_a_checkpoint_with_code_of_its_own_is_refused():
    """The classes that its auto_map names are told, whatever form it has; an empty one is none."""
    for said, named in [
        ({"AutoConfig": "configuration_x.XConfig", "AutoModel": "modeling_x.XModel"}, "configuration_x.XConfig, model"),
        ({"AutoTokenizer": ["tokenization_x.XTokenizer", None]}, "tokenization_x.XTokenizer, which"),
        ("owner/other--modeling_x.XModel", "owner/other--modeling_x.XModel"),
    ]:
        with pytest.raises(ViewError, match=f"source 'owner/model': expected .* its auto_map names {named}") as caught:
            refuse_code({"model_type": "wav2vec2", "auto_map": said}, "owner/model")
        assert "\n" not in str(caught.value)
    refuse_code({"model_type": "wav2vec2", "auto_map": {}}, "owner/model")
    refuse_code({"model_type": "wav2vec2"}, "owner/model")


def test_adapters_are_not_fetched(hub):
    """Of a hub source with the adapters of a thousand languages, only the weights of the model come down."""
    config = ("config.json", "preprocessor_config.json")
    hub(*config, "adapter.eng.safetensors", "adapter.eng.bin", "model.safetensors", "pytorch_model.bin")
    needed = [*((name,) for name in config), WEIGHTS]
    found = find("owner/model", None, needed=needed, miniatures=(), make_miniature=lambda *_: None)
    assert {path.name for path in found.folder.iterdir()} == {*config, "model.safetensors"}


def test_shards_are_fetched_with_their_index(hub):
    """Where the weights are divided, the shards come down with the index that lists them, and nothing else."""
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = "model.safetensors.index.json"
    asked = hub(
        *shards, index, "pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json", "adapter.a.safetensors"
    )
    found = find("owner/model", None, needed=[WEIGHTS], miniatures=(), make_miniature=lambda *_: None)
    assert [path.name for path in found.preferred(WEIGHTS)] == [index, *shards]
    assert asked == [index, "model-*-of-*.safetensors"]
    assert sorted(path.name for path in found.folder.iterdir()) == sorted([index, *shards])


def test_a_download_that_broke_off_goes_on(hub, tmp_path, monkeypatch):
    """A snapshot in the cache that lacks a shard is not taken for whole."""
    hub("model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    cached, download = tmp_path / "cached", huggingface_hub.snapshot_download
    cached.mkdir()
    (cached / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')

    def with_cache(*args, local_files_only=False, **options):
        return str(cached) if local_files_only else download(*args, **options)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", with_cache)
    found = find("owner/model", None, needed=[WEIGHTS], miniatures=(), make_miniature=lambda *_: None)
    assert found.revision == "0123abcd"
    (cached / "model-00001-of-00002.safetensors").write_text("")
    found = find("owner/model", None, needed=[WEIGHTS], miniatures=(), make_miniature=lambda *_: None)
    assert found.revision == "cached"


def test_relative_sources_begin_at_the_folder(checkpoint, tmp_path, monkeypatch):
    """A relative path is a directory of the study's folder, wherever the process is; what is not there is a hub id."""
    (tmp_path / "elsewhere" / "owner" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert lookup("model", folder=tmp_path).folder == checkpoint
    assert lookup(str(checkpoint), folder=tmp_path / "elsewhere").folder == checkpoint
    with pytest.raises(ViewError, match=r"owner/model is no folder here and not in the hub's cache"):
        lookup("owner/model", folder=tmp_path)
    with pytest.raises(ViewError, match="expected an existing local directory"):
        lookup("./owner", folder=tmp_path)


def test_only_what_is_needed_is_fetched(checkpoint, monkeypatch):
    """Of a hub source the preferred kind of weights alone comes down; its commit is the revision."""
    asked = {}

    def download(source, *, local_files_only=False, **options):
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not cached")
        asked.update(options)
        return str(checkpoint.rename(checkpoint.with_name("0123abcd")))

    offered = ["config.json", "model.safetensors", "pytorch_model.bin", "flax_model.msgpack"]
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_args, **_options: offered)
    found = lookup("owner/model", "main")
    assert (found.source, found.revision) == ("owner/model", "0123abcd")
    assert asked == {"revision": "main", "allow_patterns": ["config.json", "*.safetensors"]}


def test_settings_are_hashed_by_what_they_say():
    """Order and the version of the library that wrote them do not matter, values do."""
    settings = {"a": 1, "b": [2], "transformers_version": "5.0"}
    reordered = {"transformers_version": "5.1", "b": [2], "a": 1}
    assert hash_settings(settings) == hash_settings(reordered)
    assert hash_settings(settings) != hash_settings(settings | {"a": 2})


def test_hash_sees_names_order_and_bytes(tmp_path):
    """A renamed, moved or changed byte gives another hash."""
    hashes = set()
    for names in (("a", "b"), ("b", "a")):
        for content in (b"12", b"21"):
            for index, name in enumerate(names):
                (tmp_path / name).write_bytes(content[index : index + 1])
            hashes.add(hash_files([tmp_path / name for name in names]))
    assert len(hashes) == 4
