"""From parameters to a training."""

import pytest
from training_fixture import params_of

from kd_steps.core.detect.views import View

pytestmark = pytest.mark.slow


def test_a_teachers_epochs_all_show_other_views(training_project):
    from kd_steps.adapters.yolo.train.recipe import fresh_views_plan

    section = params_of(training_project).train_teacher
    plan = fresh_views_plan(section.changed(epochs=20, close_mosaic_fraction=0.2))
    assert len(plan.all_views()) == 20
    assert [plan.at(epoch).closing for epoch in range(20)] == [False] * 16 + [True] * 4
    assert plan.at(16) == View(True, 0)
