"""What a header promises decides nothing: not how much is decoded, not how much is allocated, not what is valid."""

import io
import struct
from contextlib import nullcontext, suppress
from hashlib import blake2b

import numpy as np
import pytest
import soundfile

from strata.extractors import audio
from strata.extractors.audio import content, inspect, mpeg, of_mended, read, sound
from strata.extractors.contract import UnusableAudio

RATE = 16_000
CODECS = {
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_16"),
    ("RF64", "PCM_16"),
    ("WAVEX", "PCM_24"),
    ("AIFF", "PCM_24"),
    ("WAV", "FLOAT"),
    ("CAF", "FLOAT"),
    ("WAV", "ULAW"),
    ("AU", "ULAW"),
    ("WAV", "ALAW"),
    ("NIST", "ALAW"),
    ("WAV", "IMA_ADPCM"),
    ("AIFF", "IMA_ADPCM"),
    ("WAV", "MS_ADPCM"),
    ("W64", "MS_ADPCM"),
    ("WAV", "GSM610"),
    ("AIFF", "GSM610"),
    ("W64", "GSM610"),
    ("WAV", "G721_32"),
    ("AU", "G721_32"),
    ("AU", "G723_24"),
    ("AU", "G723_40"),
    ("WAV", "NMS_ADPCM_16"),
    ("WAV", "NMS_ADPCM_32"),
    ("AIFF", "DWVW_16"),
    ("CAF", "ALAC_16"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
}


@pytest.fixture(scope="module")
def tone(sound):
    """A second and a half of sound, without an offset and never so quiet that silence would do for it."""
    samples = sound(24_001, seed=3)
    return samples - samples.mean()


@pytest.fixture(scope="module")
def encoded(tone):
    """The bytes of a file of any format, a tone of 24,001 frames unless told otherwise."""

    def encoded(container, codec, samples=tone, **options):
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, RATE, format=container, subtype=codec, **options)
        return bytearray(buffer.getvalue())

    return encoded


@pytest.fixture
def put(tmp_path):
    """Writes bytes to a file; each has a name of its own."""

    def put(data):
        suffix = "mp3" if data[:2] == b"\xff\xf3" else "bin"  # what libsndfile knows only by its name
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.{suffix}"
        path.write_bytes(data)
        return path

    return put


@pytest.mark.parametrize(("container", "codec"), sorted(CODECS))
def test_every_codec_is_decoded_alike(encoded, put, tone, container, codec):
    """Whether a codec can be sought in or not: the whole, a segment from the middle, one to the end and the listing are
    pieces of the same samples, which are the tone."""
    path = put(encoded(container, codec))
    whole = read(path)
    assert 0 <= len(whole) - len(tone) <= 1_152
    assert np.corrcoef(whole[: len(tone)], tone)[0, 1] > 0.9
    assert inspect(path) == audio.Inspection(len(whole) / RATE, RATE, 1)
    middle, end = read(path, 0.5, 0.25), read(path, 1.25)
    np.testing.assert_allclose(middle, whole[8_000:12_000], atol=1e-4)
    np.testing.assert_allclose(end, whole[20_000:], atol=1e-4)
    assert inspect(path, 0.5, 0.25).duration_s == 0.25
    assert content(path, 0.0, len(whole) / RATE) == content(path)
    with pytest.raises(UnusableAudio, match="segment beyond the file"):
        read(path, 1.25, 1.0)


SIZES = {  # container: what comes before the number, and how it is written
    "WAV": (b"data", 4, "<I"),
    "WAVEX": (b"data", 4, "<I"),
    "AIFF": (b"SSND", 4, ">I"),
    "AU": (b".snd", 8, ">I"),
    "CAF": (b"data", 4, ">Q"),
    "W64": (b"data\xf3\xac\xd3\x11", 16, "<Q"),
    "RF64": (b"ds64", 16, "<Q"),
}


@pytest.mark.parametrize("value", [0, 1, -1, 2**31, 2**36, 0.99, 1.01])
@pytest.mark.parametrize("container", [*SIZES, "FLAC", "MP3"])
def test_lying_lengths(encoded, put, container, value):
    """A length that lies changes no sample: the file is decoded to its end, or is refused as a cut copy with what is
    promised and what is there. Listing and reading say the same."""
    data = encoded(container, {"FLAC": "PCM_16", "MP3": "MPEG_LAYER_III"}.get(container, "PCM_16"))
    right = read(put(data))
    if container == "FLAC":
        at, number = 18, ">Q"
        (true,) = struct.unpack(number, data[at : at + 8])
        kept, true = true >> 36 << 36, true & (1 << 36) - 1
    elif container == "MP3":
        at, number, kept = data.index(b"Info" if b"Info" in data else b"Xing") + 8, ">I", 0
        (true,) = struct.unpack(number, data[at : at + 4])
    else:
        mark, offset, number = SIZES[container]
        at, kept = data.index(mark) + offset, 0
        (true,) = struct.unpack(number, data[at : at + struct.calcsize(number)])
    bits = 36 if container == "FLAC" else 8 * struct.calcsize(number)
    claimed = (round(true * value / 2) * 2 if isinstance(value, float) else value) % (1 << bits)
    data[at : at + struct.calcsize(number)] = struct.pack(number, kept | claimed)
    path = put(data)
    outcomes = []
    for look in (inspect, read, lambda path: read(path, 0.5, 0.25)):
        try:
            outcomes.append(look(path))
        except UnusableAudio as error:
            outcomes.append(str(error))
    listed, samples, segment = outcomes
    if isinstance(listed, str):
        assert value in (2**31, 2**36)
        assert listed == samples == segment
        assert listed.startswith("wrong header: ")
        assert listed.endswith("s promised, 1.50 s there; a cut copy: copy it anew")
    else:
        np.testing.assert_array_equal(samples, right)
        assert listed.duration_s == len(right) / RATE
        np.testing.assert_allclose(segment, right[8_000:12_000], atol=1e-4)
        assert audio.duration(path) == listed.duration_s


@pytest.mark.parametrize("share", [0.4, 0.93])
@pytest.mark.parametrize(
    ("container", "codec"),
    [(c, "PCM_16") for c in (*SIZES, "FLAC", "NIST")]
    + [("WAV", "GSM610"), ("AU", "G721_32"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")],
)
def test_cut_copies(encoded, put, sound, container, codec, share):
    """A file that breaks off is refused by whoever opens it, and where the format promises a length, with both."""
    samples = sound(64_007, seed=5)
    data = encoded(container, codec, samples)
    path = put(data[: round(len(data) * share)])
    reasons = set()
    for look in (inspect, read, content, audio.duration):
        with pytest.raises(UnusableAudio) as caught:
            look(path)
        reasons.add(str(caught.value))
    assert len(reasons) == 1
    pattern = (
        r"there, then half a page" if container == "OGG" else r"^wrong header: (4\.0|3\.9)\d s promised, \d\.\d\d s"
    )
    with pytest.raises(UnusableAudio, match=pattern):
        read(path)


def test_chunks_and_tags_behind_the_samples(encoded, put, tone):
    """What follows the sample data and is none stays out, as it always did: chunks, tags and padding."""
    data = encoded("WAV", "PCM_16")
    expected = read(put(data))
    cut = b"LIST" + struct.pack("<I", 800) + b"INFOabcd"
    text, signature = b"written by a program that signs", bytes(range(100, 160))
    chunk = b"LIST" + struct.pack("<I", 8) + b"INFOabcd"
    for more in (chunk, cut, text, signature, b"TAG" + bytes(range(125)), bytes(1_000), b"id3 \x04"):
        path = put(data + more)
        np.testing.assert_array_equal(read(path), expected)
        assert inspect(path).duration_s == len(tone) / RATE
        assert content(path) == blake2b(data + more, digest_size=16).hexdigest()  # no row is computed anew


@pytest.fixture(scope="module")
def variable(encoded, sound):
    """An MP3 of variable bit rate in which loud and quiet stretches differ much; its samples last 12 s."""
    quiet = 1e-4 * sound(96_000, seed=2)
    loud = np.random.default_rng(0).uniform(-0.5, 0.5, 96_000).astype(np.float32)
    options = {"bitrate_mode": "VARIABLE", "compression_level": 0.5}
    return {
        "loud first": encoded("MP3", "MPEG_LAYER_III", np.concatenate([loud, quiet]), **options),
        "quiet first": encoded("MP3", "MPEG_LAYER_III", np.concatenate([quiet, loud]), **options),
    }


def _without_header(data):
    """An MP3 as programs write it that cannot go back to its beginning: without the frame that tells its length."""
    first = data.index(b"\xff\xf3")
    lengths, _ = mpeg._lengths(bytes(data[first : first + 3]))
    return data[:first] + data[first + lengths[bytes(data[first : first + 3])] :]


@pytest.mark.parametrize("order", ["loud first", "quiet first"])
def test_mp3_whose_length_is_estimated(variable, put, order):
    """Without a header that tells it, the length of an MP3 is what is decoded, whatever its size lets one estimate; and
    its identity is another than the one by which less of it was known."""
    path = put(_without_header(variable[order]))
    with soundfile.SoundFile(path) as file:
        assert abs(file.frames / RATE - 12) > 1  # the estimate
    found, right = read(path), read(put(variable[order]))
    assert 0 <= len(found) - 192_000 <= 4 * 576
    delay = 1_105  # of encoder and decoder, which only the header would have told
    assert np.corrcoef(found[delay : delay + len(right)][:190_000], right[:190_000])[0, 1] > 0.99
    assert inspect(path).duration_s == len(found) / RATE == audio.duration(path)
    np.testing.assert_allclose(read(path, 9.0, 1.0), found[144_000:160_000], atol=1e-4)
    former = blake2b(path.read_bytes(), digest_size=16).hexdigest()
    assert content(path) == content(path, 0.0, len(found) / RATE) == of_mended(former) != former


def test_mp3_broken_off_without_a_promise(variable, put):
    """Where there was no promise, what is there is taken, up to the last whole packet."""
    data = _without_header(variable["loud first"])
    path = put(data[: len(data) // 2 + 77])
    assert 0 < inspect(path).duration_s == len(read(path)) / RATE < 12


def test_mp3_that_is_two(encoded, put):
    """Files that were joined byte by byte are heard to the end of the last."""
    data = encoded("MP3", "MPEG_LAYER_III")
    one, two = read(put(data)), read(put(data + data))
    assert len(two) > 2 * len(one) - 10
    np.testing.assert_allclose(two[: len(one) - 600], one[:-600], atol=1e-4)


def test_mp3_decoder_is_quiet(variable, put, capfd, monkeypatch):
    """What the decoder complains of does not reach the terminal; what others write there meanwhile does."""
    data = bytearray(variable["loud first"])
    data[2_000:2_400] = bytes(400)
    path = put(data)
    with monkeypatch.context() as patch:
        patch.setattr(sound, "quiet", nullcontext)
        read(path)
    complaint = capfd.readouterr().err
    if not complaint:
        pytest.skip("this libsndfile's decoder says nothing")
    read(path)
    inspect(path)
    assert capfd.readouterr().err == ""


def test_flac_of_an_unknown_total(encoded, put):
    """A streamed FLAC is read and cut like any other; with a tag before it too."""
    data = encoded("FLAC", "PCM_16")
    right = read(put(data))
    data[18:26] = struct.pack(">Q", struct.unpack(">Q", data[18:26])[0] >> 36 << 36)
    for start in (b"", b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)):
        path = put(bytes(start) + data)
        np.testing.assert_array_equal(read(path), right)
        np.testing.assert_array_equal(read(path, 0.5, 0.25), right[8_000:12_000])
        assert inspect(path).duration_s == len(right) / RATE


@pytest.mark.parametrize("seed", range(8))
def test_damaged_beginnings(encoded, put, seed):
    """Whatever stands in the first bytes, a file is read or a reason given, never another exception."""
    rng = np.random.default_rng(seed)
    for container, codec in [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")] + [
        (c, "PCM_16") for c in ("AIFF", "AU", "CAF", "W64", "RF64")
    ]:
        data = encoded(container, codec)
        for place in rng.integers(4, 80, 3):
            data[place] = rng.integers(256)
        path = put(data)
        for look in (inspect, read, content):
            with suppress(UnusableAudio):
                look(path)
