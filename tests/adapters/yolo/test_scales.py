"""A size between teacher and student: a named scale where one is near, else a width that can be built."""

import pytest
from training_fixture import CLASSES, REPOSITORY, SMALL


def near(model, wanted):
    from kd_steps.adapters.yolo.models import ModelScale, build_model
    from kd_steps.adapters.yolo.scales import scale_near

    model = ModelScale(**model) if isinstance(model, dict) else model
    return scale_near(build_model(model, CLASSES, 0), wanted)


@pytest.mark.parametrize(
    ("student", "wanted", "named"),
    [("yolo11n.yaml", 20_000_000, "yolo11m.yaml"), ("yolov10n.yaml", 7_500_000, "yolov10s.yaml")],
)
def test_a_named_scale_that_is_near_is_taken(student, wanted, named):
    found = near(student, wanted)
    assert (found.model, found.name) == (named, named[-6])
    assert found.parameters == pytest.approx(wanted, rel=0.25)


@pytest.mark.parametrize(("student", "wanted"), [(SMALL, 1_200_000), ("yolo26n.yaml", 6_000_000)])
def test_else_a_width_of_our_own_is_found(student, wanted):
    """Of yolo26 and yolo11 not every width can be built: their attention's heads must divide its channels."""
    from kd_steps.adapters.yolo.models import ModelScale, build_model, parameter_count

    found = near(student, wanted)
    assert found.name == ""
    assert isinstance(found.model, ModelScale)
    assert found.parameters == parameter_count(build_model(found.model, CLASSES, 0))
    assert found.parameters == pytest.approx(wanted, rel=0.15)


def test_an_architecture_without_scales_has_none():
    assert near(str(REPOSITORY / "data/models/mobilenet.yaml"), 2_000_000) is None
