"""On the path of a stage's process: notes each file of the project that it opens, for the tests of dvc.yaml's honesty.

Only what Python itself opens is seen, not what a native library reads on its own.
"""

import os
import sys

_LOG = os.environ.get("RETORT_TEST_TRACE")


def _stage() -> str:
    """The stage of this process, or of the process that started it."""
    words = sys.orig_argv
    if "-m" in words and words[words.index("-m") + 1].startswith("kd_steps."):
        os.environ["RETORT_TEST_STAGE"] = words[words.index("-m") + 1].removeprefix("kd_steps.")
    return os.environ.get("RETORT_TEST_STAGE", "")


def _watch(log: str, stage: str, root: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(event: str, arguments: tuple) -> None:
        if event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 - pathlib may not be imported yet
        writes = bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        # A name below an open folder looks like one of the working directory: then there is no such file.
        if path.startswith(root + os.sep) and (writes or os.path.lexists(path)):
            os.write(descriptor, f"{stage}\t{'w' if writes else 'r'}\t{path[len(root) + 1 :]}\n".encode())

    sys.addaudithook(note)


if _LOG and _stage():
    _watch(_LOG, _stage(), os.environ["RETORT_TEST_ROOT"])
