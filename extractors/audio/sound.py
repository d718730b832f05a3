"""An opened audio file: its rate, its channels, and its samples block by block, whatever decodes them.

libsndfile decodes what it knows. Of files that it does not know, those of containers such as MP4 are decoded by PyAV or
by the program `ffmpeg`, where one of them is installed. What headers claim is held against the file (`headers`) first.
"""

import mmap
import os
import shutil
import struct
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soundfile

from strata.extractors.audio import formats, headers
from strata.extractors.audio.bytes_of import Mended, behind_tags
from strata.extractors.audio.headers import Header
from strata.extractors.audio.quiet import quiet
from strata.extractors.audio.remembered import PerFile
from strata.extractors.contract import UnusableAudio
from strata.extractors.links import dangling

_SILENT_FILM = "unreadable: no sound track in it, expected one; leave the file out, or record it with sound"
_MOST_FRAMES = 1 << 60
_EMPTY_TAG = b"ID3\x04\0\0\0\0\0\x20" + bytes(32)  # an MP3 without a name is known by it, whatever it begins with
_START = 512
"""Bytes that tell what a file is."""


class Sound(ABC):
    """A file that is open for decoding; use as a context."""

    path: Path
    start: bytes
    """The file's first bytes behind tags, by which a damaged one is called."""
    sampling_rate: int
    num_channels: int
    frames: int | None = None
    """How many there are; None where only decoding would tell."""
    promised: float | None = None
    """How many a whole copy would have, where that is exact; None where nobody knows."""
    mended: bool = False
    """Whether the header claimed too little, so that a decoder which believed it made something else of the file."""

    def __enter__(self) -> "Sound":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Gives back what is held."""

    @abstractmethod
    def blocks(self, first: int, count: int | None, size: int) -> Iterator[np.ndarray]:
        """The decoded frames float32 [block, channels] from one on: so many, or to the end; fewer where it ends.

        Args:
            first: the first frame, counted from 0.
            count: how many; None means to the end of the file.
            size: most frames of a block.

        Raises:
            UnusableAudio: the decoder cannot go on.
        """


def opened(path: str | Path) -> Sound:
    """Opens a file.

    Raises:
        UnusableAudio: it is missing, is empty, is no audio that can be decoded here, or is a cut copy.
    """
    path = checked(path)
    if path.stat().st_size == 0:
        raise UnusableAudio("empty")
    try:
        start, header = _looked_at(path)
    except OSError as error:
        raise UnusableAudio(f"unreadable: {error.strerror}") from error
    try:
        return _Sndfile(path, start, header)
    except soundfile.LibsndfileError as error:
        if start[4:8] == b"ftyp" or start.startswith(formats.FILMS):
            return _by_ffmpeg(path, start)
        raise UnusableAudio(formats.refusal(start)) from error
    except TypeError as error:  # *.raw, of which soundfile wants to be told rate and format
        raise UnusableAudio(formats.NO_HEADER) from error


@PerFile
def _looked_at(path: Path) -> tuple[bytes, Header]:
    """A file's first bytes, behind tags, and its header."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        begin = behind_tags(data, 0)
        return data[begin : begin + _START], headers.look(data)


def checked(path: str | Path) -> Path:
    """The path of a file that is there.

    Raises:
        UnusableAudio: it is not, or is no file.
    """
    path = Path(path)
    try:
        if path.is_file():
            return path
        raise UnusableAudio(dangling(path) or ("not a file" if path.exists() else "no such file"))
    except OSError as error:  # such as a name that is too long
        raise UnusableAudio(f"unreadable: {error.strerror}") from error


def is_clearly_less(found: float, promised: float, sampling_rate: float) -> bool:
    """Whether a file that holds so many frames is a cut copy: it lacks more than a fiftieth, or more than a second.

    Less than that is within what careless programs write into headers.
    """
    return promised - found > min(promised / 50, sampling_rate)


def cut_off(found_s: float, promised_s: float) -> UnusableAudio:
    """The reason of a cut copy, with both lengths."""
    return UnusableAudio(f"wrong header: {promised_s:.2f} s promised, {found_s:.2f} s there; a cut copy: copy it anew")


class _Forward(soundfile.SoundFile):
    """A file that is decoded from its beginning on: soundfile seeks after every block where it thinks it can."""

    def seekable(self) -> bool:
        return False


class _Sndfile(Sound):
    """Decoded by libsndfile."""

    def __init__(self, path: Path, start: bytes, header: Header):
        self.path, self.start, self._header = path, start, header
        self._file = self._open(soundfile.SoundFile)
        file = self._file
        try:
            if file.format == "RAW":  # what libsndfile makes of *.gsm, *.vox, *.au without a header: a guess by name
                raise UnusableAudio(formats.NO_HEADER)
            if file.format == "XI":  # whose rate libsndfile makes up
                raise UnusableAudio(formats.refusal(start))
            self.sampling_rate, self.num_channels = file.samplerate, file.channels
            if self._is_estimated(file.frames):
                file.close()
                self._file = file = self._open(soundfile.SoundFile, endless=True)
                self.mended = True
            known = file.frames if header.frames is None or file.format not in ("MP3", "FLAC") else header.frames
            self.frames = known if known < _MOST_FRAMES else None
            if self.frames is None or file.subtype.startswith("DWVW"):  # whose seeking fails, unlike it says
                file.close()
                self._file = file = self._open(_Forward)
            self.mended |= bool(header.patches)
            self._hold_to_promise()
        except BaseException:
            file.close()
            raise

    def _is_estimated(self, frames: int) -> bool:
        return self._file.format == "MP3" and self._header.endless and frames != self._header.frames

    def _open(self, kind: type[soundfile.SoundFile], endless: bool = False) -> soundfile.SoundFile:
        end = self._header.data_end if endless else None
        with quiet():  # before it is known whether it is an MP3
            if not self._header.patches and not endless:
                return kind(os.fsencode(self.path))  # as bytes, for a name need not be text
            before = _EMPTY_TAG if self._header.is_mpeg else b""
            return kind(Mended(self.path, self._header.patches, end, before))

    def _hold_to_promise(self) -> None:
        header, rate = self._header, self.sampling_rate
        if header.broken_off:
            raise UnusableAudio(
                f"wrong end: {(self.frames or 0) / rate:.2f} s there, then half a page; a cut copy: copy it anew"
            )
        if self.frames is None or (self._file.format == "MP3" and header.claimed is None):
            return
        if header.claimed is None:
            self.promised = self.frames  # as Ogg's last page has it, and sizes that the file keeps
            return
        if self._file.format in ("MP3", "FLAC"):  # of which a decoder leaves out some
            self.promised = self.frames + header.claimed - header.held
        else:  # bytes of sample data are in step with frames, whatever the codec
            self.promised = self.frames * header.claimed / header.held if header.held else header.claimed
        if is_clearly_less(self.frames, self.promised, rate):
            raise cut_off(self.frames / rate, self.promised / rate)

    def close(self) -> None:
        self._file.close()

    def blocks(self, first: int, count: int | None, size: int) -> Iterator[np.ndarray]:
        guard, at = quiet if self._file.format == "MP3" else nullcontext, first
        try:
            with guard():
                skipped = self._sought(first)
            left, at = None if count is None else skipped + count, first - skipped
            while left is None or left > 0:
                with guard():
                    block = self._file.read(size if left is None else min(size, left), dtype="float32", always_2d=True)
                if not len(block):
                    return
                left, at = None if left is None else left - len(block), at + len(block)
                if skipped < len(block):
                    yield block[skipped:]
                skipped = max(0, skipped - len(block))
        except soundfile.LibsndfileError as error:
            raise UnusableAudio(formats.damage(self.start, at / self.sampling_rate)) from error

    def _sought(self, first: int) -> int:
        """Goes to a frame; how many are still to be passed over, where the codec or the file cannot be sought in."""
        # Even to the first frame of an MP3: what its decoder keeps from opening the file rounds the samples otherwise,
        # and values in stores were computed after this.
        if not first and self._file.format != "MP3":
            return 0
        if self._file.seekable():
            with suppress(soundfile.LibsndfileError):
                self._file.seek(first)
                return 0
            self._file.close()
            self._file = self._open(_Forward, endless=self.mended and self._header.endless)
        return first


def _by_ffmpeg(path: Path, start: bytes) -> Sound:
    if find_spec("av") is not None:
        return _PyAV(path, start)
    if (program := shutil.which("ffmpeg")) is not None:
        return _Program(path, start, program)
    raise UnusableAudio(
        "unreadable: M4A, AAC and other formats of films are decoded where PyAV or ffmpeg is installed; "
        "`pip install 'strata-speech[m4a]'`, or convert the file to WAV or FLAC"
    )


class _PyAV(Sound):
    """Decoded by the libraries of FFmpeg."""

    def __init__(self, path: Path, start: bytes):
        import av

        self.path, self.start = path, start
        self._errors = (av.error.FFmpegError, OSError, ValueError, AttributeError)
        try:
            self._container = av.open(os.fsdecode(path))
        except self._errors as error:
            raise UnusableAudio(formats.damage(start)) from error
        self._resampler = av.AudioResampler(format="fltp")
        try:
            self._stream = self._container.streams.audio[0]
            context = self._stream.codec_context
            self.sampling_rate, self.num_channels = context.sample_rate, context.channels
        except IndexError as error:
            self.close()
            raise UnusableAudio(_SILENT_FILM) from error
        except self._errors as error:
            self.close()
            raise UnusableAudio(formats.damage(start)) from error
        if self._stream.duration and "mp4" in self._container.format.name:  # a table of all packets: exact
            self.promised = float(self._stream.duration * self._stream.time_base) * self.sampling_rate

    def close(self) -> None:
        self._container.close()

    def blocks(self, first: int, count: int | None, size: int) -> Iterator[np.ndarray]:
        return _between(self._all(size), first, count)

    def _all(self, size: int) -> Iterator[np.ndarray]:
        found = 0
        try:
            for frame in self._container.decode(self._stream):
                for part in self._resampler.resample(frame):
                    block = part.to_ndarray().T
                    found += len(block)
                    yield np.ascontiguousarray(block, dtype=np.float32)  # of a packet: smaller than any size
        except self._errors as error:
            rate = self.sampling_rate
            if self.promised is not None and is_clearly_less(found, self.promised, rate):
                raise cut_off(found / rate, self.promised / rate) from error
            raise UnusableAudio(formats.damage(self.start, found / rate)) from error


class _Program(Sound):
    """Decoded by the program `ffmpeg` into a pipe, as a Sun AU file of floats: 24 bytes or more, then samples."""

    def __init__(self, path: Path, start: bytes, program: str):
        self.path, self.start = path, start
        command = [program, "-nostdin", "-v", "error", "-xerror", "-i", os.path.abspath(path), "-map", "0:a:0"]
        self._process = subprocess.Popen(
            [*command, "-f", "au", "-c:a", "pcm_f32be", "pipe:1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        head = self._process.stdout.read(24)
        if len(head) < 24:
            is_silent = "matches no streams" in self._complaint()
            self.close()
            raise UnusableAudio(_SILENT_FILM if is_silent else formats.damage(start))
        _, begin, _, _, self.sampling_rate, self.num_channels = struct.unpack(">4sIIIII", head)
        self._process.stdout.read(begin - 24)

    def _complaint(self) -> str:
        return self._process.stderr.read().decode(errors="replace").strip()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()

    def blocks(self, first: int, count: int | None, size: int) -> Iterator[np.ndarray]:
        return _between(self._all(size), first, count)

    def _all(self, size: int) -> Iterator[np.ndarray]:
        width, found = 4 * self.num_channels, 0
        while samples := self._process.stdout.read(size * width):
            whole = len(samples) // width * width
            found += len(samples) // width
            yield np.frombuffer(samples[:whole], ">f4").astype(np.float32).reshape(-1, self.num_channels)
        if self._complaint():
            raise UnusableAudio(formats.damage(self.start, found / self.sampling_rate))


def _between(blocks: Iterator[np.ndarray], first: int, count: int | None) -> Iterator[np.ndarray]:
    """Of blocks from the beginning on, the frames from one on: so many, or to the end."""
    for block in blocks:
        skipped = min(first, len(block))
        first -= skipped
        block = block[skipped : None if count is None else skipped + count]
        if len(block):
            yield block
        if count is not None:
            count -= len(block)
            if not count:
                return
