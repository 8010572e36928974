"""Output that nobody reads any more: the work goes on, in silence."""

from __future__ import annotations

import io
import os
import sys


def go_on_without_reader() -> None:
    """Make this process outlive the reader of its output, such as a terminal, ``head`` or a worker that was killed.

    From the first write that finds nobody, the output of this process and of its children goes nowhere.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):
            stream.flush()
            raw = _Unheard(stream.fileno(), "w", closefd=False)
            unheard = io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, "replace", line_buffering=True)
            setattr(sys, name, unheard)


class _Unheard(io.FileIO):
    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(data)  # type: ignore[arg-type]
