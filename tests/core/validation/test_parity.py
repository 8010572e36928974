"""How network inputs are compared, and which pictures probe them."""

import numpy as np
import pandas as pd

from kd_steps.core.validation.parity import choose_probes, input_difference, parity_row

ZERO = np.zeros((1, 3, 4, 4), np.float32)


def changed(value, at=(0, 1, 2, 3)):
    tensor = ZERO.copy()
    tensor[at] = value
    return tensor


def test_largest_difference_and_its_place():
    difference = input_difference(ZERO, changed(-0.25))
    assert difference is not None
    assert (difference.largest, difference.share) == (0.25, 1 / 48)
    assert difference.place == "channel 1, row 2, column 3"
    assert input_difference(ZERO, ZERO).largest == 0


def test_another_shape_or_type_is_no_number():
    assert input_difference(ZERO, ZERO[:, :, :2]) is None
    row = parity_row("student", "f", ZERO, ZERO.astype(np.float64), None, [])
    assert row["unexplained_difference"] is None
    assert "float64" in str(row["cause"])


def test_a_cause_is_believed_only_as_far_as_it_explains():
    found = changed(0.5)
    explained = parity_row("loader", "f", ZERO, found, ("rounding", found), [])
    assert (explained["unexplained_difference"], explained["cause"]) == (0, "rounding")
    wrong = parity_row("loader", "f", ZERO, found, ("rounding", changed(0.5, (0, 0, 0, 0))), [])
    assert (wrong["unexplained_difference"], wrong["cause"]) == (0.5, "")


def test_probes_show_sizes_and_extremes_and_do_not_depend_on_row_order():
    n = 40
    images = pd.DataFrame(
        {
            "path": [f"{i:03d}" for i in range(n)],
            "width_px": [100.0] * n,
            "height_px": [100.0] * (n - 1) + [61.0],
            "brightness": np.linspace(100, 120, n),
            "contrast": [20.0] * n,
        }
    )
    images.loc[7, "brightness"], images.loc[9, "brightness"], images.loc[11, "contrast"] = 250.0, 3.0, 90.0
    chosen = choose_probes(images, 8)
    assert len(chosen) == chosen["path"].nunique() == 8
    assert {"007", "009", "011", "039"} <= set(chosen["path"])
    shuffled = choose_probes(images.sample(frac=1, random_state=1), 8)
    assert shuffled["path"].tolist() == chosen["path"].tolist()
    assert len(choose_probes(images.iloc[:0], 8)) == 0
    assert len(choose_probes(images.iloc[:3], 8)) == 3
