"""How much of the memory decoded pictures may take."""

import pytest


@pytest.mark.parametrize(("images", "kept"), [(873, True), (874, False)])
def test_pictures_are_kept_in_memory_while_they_take_a_quarter_of_it_at_most(images, kept):
    """A picture of 640 px takes 1,228,800 bytes decoded."""
    from kd_steps.adapters.yolo.hardware import fits_in_memory

    assert fits_in_memory(images, 640, 4 * 2**30) is kept
