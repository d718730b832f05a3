"""`strata` and `dvc` as commands that start at once: forks of one process that has imported everything.

A command's start costs 1 to 6 s of processor time, of which its work is little, and `dvc repro` of a small study starts
a dozen. Here a server imports what they import, once, and forks for each command; what is on the path instead of the
real commands hands over its arguments, folder, environment and streams. Nothing that a command did is left behind.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import NoReturn

PRELOADED = ["strata.trainers", "strata.pipeline.stages", "strata.pipeline.commands", "strata.pipeline.report"]
MODELS = [
    "strata.pipeline.extraction.cluster",
    "strata.pipeline.stages.extract",
    "strata.pipeline.stages.train",
    "strata.pipeline.stages.transcribe",
    "strata.pipeline.stages.tune",
    "strata.extractors.mfcc",
    "strata.extractors.transformers.speech",
    "transformers.models.wavlm.modeling_wavlm",
]
"""What the stages and the views of these tests import, much of it only when it is needed."""
ENVIRONMENT = dict(os.environ)
"""As it is before any test."""
COMMANDS = {"strata": "strata.pipeline.cli", "dvc": "dvc.cli"}
WRAPPER = """#!/bin/sh
# What is to be hooked into a command's start needs a real start.
[ "${{PYTHONPATH-}}" = {path} ] || exec {real} "$@"
exec {python} -IS {here} {address} {name} "$@"
"""


@functools.cache
def folder() -> Path:
    """A folder for the front of PATH; the server behind it ends with this process."""
    root = Path(tempfile.mkdtemp(prefix="served-"))
    address = root / "socket"
    for name in COMMANDS:
        words = {
            "path": ENVIRONMENT.get("PYTHONPATH", ""),
            "real": str(Path(sys.executable).with_name(name)),
            "python": sys.executable,
            "here": __file__,
            "address": str(address),
            "name": name,
        }
        script = root / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(WRAPPER.format(**{key: shlex.quote(word) for key, word in words.items()}))
        script.chmod(0o755)
    # It sees the end of its input when this process ends, however it does.
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    server = subprocess.Popen([sys.executable, __file__, str(address)], env=ENVIRONMENT, **pipes)
    atexit.register(_end, server, root)
    with server.stdout:
        if server.stdout.readline() != b"ready\n":
            raise RuntimeError("the server of tests/served.py did not start; see above")
    return script.parent


def _end(server: subprocess.Popen, root: Path) -> None:
    server.stdin.close()
    server.wait()
    shutil.rmtree(root)


def serve(address: str) -> None:
    """Forks for whoever asks, until the input ends."""
    for package in PRELOADED:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)
    for name in (*MODELS, "dvc.repo", *COMMANDS.values()):
        importlib.import_module(name)
    threads = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")][1:]
    if set(threads) - {"jemalloc_bg_thd"}:  # PyArrow's allocator, which knows how to be forked
        raise RuntimeError(f"imports started threads, so this process cannot be forked: {threads}")
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        os.write(1, b"ready\n")
        children = set()
        while listener in select.select([listener, 0], [], [])[0]:
            connection, _ = listener.accept()
            children -= {child for child in children if os.waitpid(child, os.WNOHANG)[0]}
            with connection:
                if child := os.fork():
                    children.add(child)
                    continue
                listener.close()
                _run(connection)


def _run(connection: socket.socket) -> NoReturn:
    """Reads one request, and runs it in a process of its own, whose end is answered."""
    head, streams, *_ = socket.recv_fds(connection, 8, 3)
    request = b""
    while len(request) < int.from_bytes(head):
        request += connection.recv(1 << 20)
    request = json.loads(request)
    if child := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(str(status).encode())
        os._exit(0)
    connection.close()
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = request["command"]
    try:
        status = sys.modules[COMMANDS[sys.argv[0]]].main()
    except SystemExit as end:
        status = end.code
    # As an interpreter ends, but for taking apart all modules: that would copy all of the memory that is shared.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)


def ask(address: str, command: list[str]) -> int:
    """Runs a command by the server; its exit status. A signal that ended it ends this process."""
    request = {"command": command, "folder": os.getcwd(), "environment": dict(os.environ)}
    body = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [len(body).to_bytes(8)], [0, 1, 2])
        connection.sendall(body)
        status = int(connection.recv(16))
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    _, address, *command = sys.argv
    if command:
        sys.exit(ask(address, command))
    serve(address)
