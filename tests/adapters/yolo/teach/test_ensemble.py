"""Several frozen teachers as one: equal ones say what one says, weights count, and other heads are refused."""

import numpy as np
import pytest
import torch
from answer_content import content
from training_fixture import decided_model

from kd_steps.core.detect.ensemble import EnsembleMember
from kd_steps.core.detect.teacher_targets import batch_targets

pytestmark = pytest.mark.slow

CPU, CLASSES = torch.device("cpu"), ("a", "b")


def views(count=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=generator)


def frozen(model, **asked):
    from kd_steps.adapters.yolo.precision import Precision
    from kd_steps.adapters.yolo.teach.teacher import FrozenTeacher

    return FrozenTeacher(model, CPU, Precision("fp32", channels_last=False), content(**asked))


def ensemble(models, weights=(1.0, 1.0), classes=((), ()), **asked):
    from kd_steps.adapters.yolo.teach.ensemble import TeacherEnsemble

    members = [
        EnsembleMember(f"t{number}", tuple(model.names.values()), weight, own)
        for number, (model, weight, own) in enumerate(zip(models, weights, classes, strict=True))
    ]
    return TeacherEnsemble([frozen(model, **asked) for model in models], members)


def test_a_teacher_beside_itself_says_what_it_says_alone():
    model = decided_model(1, CLASSES)
    everything = {"attention": True, "pooled": True, "max_vectors": 20}
    alone, twice = frozen(model, **everything), ensemble([model, model], (1.0, 2.5), **everything)
    for one, two in zip(alone.targets(views(), [7, 8, 9]), twice.targets(views(), [7, 8, 9]), strict=True):
        assert one.pixel_hash == two.pixel_hash
        assert one.one_to_many.anchors.tolist() == two.one_to_many.anchors.tolist()
        assert two.one_to_many.class_logits == pytest.approx(one.one_to_many.class_logits, abs=1e-3)
        assert two.neck.attention == pytest.approx(one.neck.attention, abs=1e-5)
        assert np.array_equal(two.neck.pooled, one.neck.pooled)
        assert all(np.array_equal(a, b) for a, b in zip(one.neck.vectors, two.neck.vectors, strict=True))
    assert (alone.forwards, twice.forwards) == (3, 6)


def test_scores_are_averaged_before_anchors_are_chosen_and_attention_by_weight():
    models = [decided_model(1, CLASSES), decided_model(2, CLASSES)]
    both = ensemble(models, (1.0, 3.0), score_threshold=0.0, max_anchors=84, attention=True)
    singles = [frozen(model, score_threshold=0.0, max_anchors=84, attention=True) for model in models]
    merged = both.targets(views(1), [0])[0]
    (first,), (second,) = (single.targets(views(1), [0]) for single in singles)

    def scores(targets):
        return 1 / (1 + np.exp(-targets.one_to_many.class_logits.astype(np.float64)))

    assert len(merged.one_to_many.anchors) == 84
    assert scores(merged) == pytest.approx(0.25 * scores(first) + 0.75 * scores(second), abs=1e-5)
    assert merged.neck.attention == pytest.approx(0.25 * first.neck.attention + 0.75 * second.neck.attention, abs=1e-5)


def test_a_specialist_with_other_outputs_answers_for_its_class():
    general, special = decided_model(1, CLASSES), decided_model(2, ("z", "b"))
    one = ensemble([general, special], (1.0, 1.0), ((), ("b",)), score_threshold=0.0, max_anchors=84).targets(
        views(1), [0]
    )
    alone = [
        frozen(model, score_threshold=0.0, max_anchors=84).targets(views(1), [0])[0] for model in (general, special)
    ]
    assert one[0].one_to_many.class_logits[:, 0] == pytest.approx(alone[0].one_to_many.class_logits[:, 0], abs=1e-3)
    assert one[0].one_to_many.class_logits[:, 1] == pytest.approx(alone[1].one_to_many.class_logits[:, 1], abs=1e-3)


def test_a_head_with_two_branches_answers_with_the_first():
    model = decided_model(1, CLASSES, "yolo26n.yaml")
    batch = ensemble([model, model]).answer(views(2).float() / 255)
    assert batch.one_to_one is None
    assert batch_targets(frozen(model).targets(views(2), [0, 0])).one_to_one is not None


def test_teachers_that_cannot_answer_as_one_are_named():
    from kd_steps.adapters.yolo.teach.ensemble import EnsembleError, require_same_heads

    first = decided_model(1, CLASSES)
    with pytest.raises(EnsembleError, match=r"more_teachers: big\.pt has a head with strides \(8, 16, 32, 64\) px"):
        require_same_heads(first, decided_model(1, CLASSES, "yolov8n-p6.yaml"), "big.pt")
    with pytest.raises(EnsembleError, match=r"and 1 bins, the teacher one with .* and 16"):
        require_same_heads(first, decided_model(1, CLASSES, "yolo26n.yaml"), "new.pt")
    with pytest.raises(EnsembleError, match="more_teachers: t1: is to answer for 'a', but knows only"):
        ensemble([first, decided_model(2, ("b", "c"))])
