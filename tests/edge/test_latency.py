"""What a round of the latency measurement is, on detectors whose times are known."""

import numpy as np

from kd_steps.edge.detector import PhaseTimes
from kd_steps.edge.latency import measure_interleaved


def test_times_stand_under_their_detector_and_phase_and_a_round_is_one_picture_in_random_order():
    seen = []

    class Paced:
        def __init__(self, place):
            self.place = place

        def detect_timed(self, image):
            seen.append((self.place, int(image[0, 0, 0])))
            return None, PhaseTimes(self.place + 0.25, 10.0 * self.place, 100.0)

    pictures = [np.full((2, 2, 3), value, np.uint8) for value in (7, 8, 9)]
    times_ms = measure_interleaved([Paced(p) for p in (1, 2, 3)], pictures, warm_up_s=0, rounds=30, seconds=0, seed=0)
    assert (times_ms == [[p + 0.25, 10 * p, 100, 100.25 + 11 * p] for p in (1, 2, 3)]).all()
    assert len(times_ms) == 30
    recorded = [seen[start : start + 3] for start in range(3, len(seen), 3)]  # after the one round of warming up
    assert [{value for _, value in a_round} for a_round in recorded] == [{7}, {8}, {9}] * 10
    assert len({tuple(place for place, _ in a_round) for a_round in recorded}) == 6
