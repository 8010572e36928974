"""Paired latency of several engines: all in one process, one after the other in every round.

A busy machine slows every engine of a round alike, so that the ratio within a round stays steady where absolute
times swing several-fold. That needs interleaving, a random order (the first of a round finds colder caches) and the
same picture for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from kd_steps.edge.detector import Detector

PHASES = ("preprocess_ms", "inference_ms", "postprocess_ms", "total_ms")


def measure_interleaved(
    detectors: Sequence[Detector],
    pictures_bgr: Sequence[NDArray[np.uint8]],
    *,
    warm_up_s: float,
    rounds: int,
    seconds: float,
    seed: int,
    on_round: Callable[[int], None] | None = None,
) -> NDArray[np.float64]:
    """Time every detector once a round, on the same picture, in random order.

    Args:
        detectors: may hold one detector twice: the ratio of the two is a control that must contain 1.
        pictures_bgr: uint8 of shape (height, width, 3); taken in turn.
        warm_up_s: seconds of unrecorded rounds; at least one round.
        rounds: least recorded rounds.
        seconds: least duration of the recorded rounds.
        seed: of the order within the rounds.
        on_round: called with the number of rounds recorded so far.

    Returns:
        float64 of shape (rounds, detectors, 4): preprocess, inference, postprocess, total, in ms.

    Raises:
        ValueError: no detector or no picture.
    """
    if not detectors or not pictures_bgr:
        raise ValueError(f"need a detector and a picture, got {len(detectors)} and {len(pictures_bgr)}")
    order = np.random.default_rng(seed)
    _measure(detectors, pictures_bgr, order, rounds=1, seconds=warm_up_s, on_round=None)
    return _measure(detectors, pictures_bgr, order, rounds=rounds, seconds=seconds, on_round=on_round)


def _measure(
    detectors: Sequence[Detector],
    pictures_bgr: Sequence[NDArray[np.uint8]],
    order: np.random.Generator,
    *,
    rounds: int,
    seconds: float,
    on_round: Callable[[int], None] | None,
) -> NDArray[np.float64]:
    """Rounds until both the count and the duration are reached."""
    measured: list[NDArray[np.float64]] = []
    end_s = time.perf_counter() + seconds
    while len(measured) < rounds or time.perf_counter() < end_s:
        picture = pictures_bgr[len(measured) % len(pictures_bgr)]
        times_ms = np.empty((len(detectors), len(PHASES)))
        for index in order.permutation(len(detectors)):
            times = detectors[index].detect_timed(picture)[1]
            times_ms[index] = (times.preprocess_ms, times.inference_ms, times.postprocess_ms, times.total_ms)
        measured.append(times_ms)
        if on_round is not None:
            on_round(len(measured))
    return np.stack(measured)
