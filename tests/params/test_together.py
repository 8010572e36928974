"""Values of `params.yaml` that are right one by one, and must fit together."""

import pytest
from params_file import FILE, written

from kd_steps.params import ParamsError, load_params

CHAIN = {
    "m": {"taught_by": "teacher", "model": "yolo11m.yaml", "epochs": 2},
    "s": {"taught_by": "assistants/m", "model": "yolo11s.yaml", "epochs": 2},
}
MORE = {"weights": "more.pt", "weights_sha256": "0" * 64, "weight": 1.0, "classes": []}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"preprocessing.imgsz_px": 250},
            "preprocessing.imgsz_px: must be a multiple of the largest stride, 32 px; nearest: 256",
        ),
        (
            {"distill.phases.warm_up.fraction": 0.3},
            "distill.phases: the fractions of warm_up, distillation, convergence must add up to 1, they add up to 1.1",
        ),
        (
            {"distill.calibrate_batches": 50, "distill.calibrate_share": {"class": 0.1, "channel": 0.1}},
            "distill: calibrate_share gives none to box, feature, which calibrate_batches needs",
        ),
        (
            {"distill.calibrate_share": {"boxes": 0.1}},
            "distill.calibrate_share.boxes.[key]: Input should be 'class', 'box', 'attention', 'channel', 'feature'",
        ),
        ({"export.targets": ["openvino-fp16"]}, "export.targets: must contain 'onnx-fp32'"),
        ({"export.targets": ["onnx-fp32", "onnx-fp32"]}, "export.targets: names a target twice"),
        ({"train_teacher.epochs": 0}, "train_teacher: epochs: 0 takes the weights as they are, but weights is null"),
        ({"plain_student.seeds": [-1]}, "plain_student.seeds.0: Input should be greater than or equal to 0, got -1"),
        ({"plain_student.seeds": [1, 1]}, "plain_student.seeds: names a seed twice"),
        (
            {"distill.teacher_choice.min_student_share": 0.6},
            "distill.teacher_choice: min_student_share 0.6 is above max_student_share 0.5",
        ),
        (
            {"distill.teacher_choice.on_weak_teacher": "refuse"},
            "on_weak_teacher: refuse needs the score of the student alone; give plain_student.seeds one, such as [0]",
        ),
        (
            {
                "distill.terms.dynamic_strength": 1.0,
                "distill.terms.box_weight": 0.0,
                "distill.terms.feature_weight": 0.0,
            },
            "distill.terms.dynamic_strength acts on the box term and on feature_kind l2: give one a weight",
        ),
        (
            {"evaluate.operating_confidence": 0.0001},
            "evaluate.operating_confidence is 0.0001, below evaluate.confidence (0.001), under which nothing is kept",
        ),
        (
            {"assistant.chain": CHAIN},
            "distill.teacher is 'teacher', but assistant.chain ends in 'assistants/s'; set it",
        ),
        (
            {"distill.teacher": "assistants/s"},
            "is 'assistants/s', but assistant.chain ends in 'teacher'; set it to that",
        ),
        (
            {"assistant.chain": dict(reversed(CHAIN.items())), "distill.teacher": "assistants/m"},
            "assistant: chain: s is taught_by 'assistants/m', but the one before it is 'teacher': put the",
        ),
        (
            {"assistant.chain": CHAIN, "distill.teacher": "assistants/s", "distill.answers": "ema"},
            "distill.answers: ema asks no teacher: empty assistant.chain and cache_logits.more_teachers",
        ),
        (
            {"assistant.chain": {"a.b": CHAIN["m"]}},
            "assistant.chain.a.b",
        ),
        (
            {"assistant.chain": {"m": {**CHAIN["m"], "epoch": 3}}},
            "assistant.chain.m.epoch: unknown key; did you mean 'epochs'?",
        ),
        (
            {"cache_logits.more_teachers": [{**MORE, "wieght": 1}]},
            "cache_logits.more_teachers.0.wieght: unknown key; did you mean 'weight'?",
        ),
        ({"cache_logits.more_teachers": [{**MORE, "weight": 0}]}, "cache_logits.more_teachers.0.weight: "),
        ({"gate.required_targets": ["onnx-fp23"]}, "gate.required_targets names ['onnx-fp23'], which export.targets"),
    ],
)
def test_values_that_do_not_fit_together_are_told(tmp_path, changes, message):
    with pytest.raises(ParamsError) as caught:
        load_params(written(tmp_path, changes))
    assert message in str(caught.value)


NEEDED = {  # what a term compares with, and how it is asked for
    "attention_weight": ("attention: true", {"attention": True}),
    "channel_weight": ("pooled: true", {"pooled": True}),
    "relational_weight": ("pooled: true", {"pooled": True}),
    "feature_weight": ("max_vectors above 0", {"max_vectors": 12}),
}
NOTHING_KEPT = {"cache_logits.attention": False, "cache_logits.pooled": False, "cache_logits.max_vectors": 0}
NO_TERM = {f"distill.terms.{weight}": 0.0 for weight in NEEDED}


@pytest.mark.parametrize("weight", NEEDED)
def test_a_term_that_the_cache_does_not_serve_is_told_with_both_keys(tmp_path, weight):
    mend, content = NEEDED[weight]
    bare = {**NOTHING_KEPT, **NO_TERM, f"distill.terms.{weight}": 0.5}
    with pytest.raises(ParamsError) as caught:
        load_params(written(tmp_path, bare))
    assert f"distill.terms.{weight} needs cache_logits.{mend}" in str(caught.value)
    kept = {f"cache_logits.{name}": value for name, value in content.items()}
    assert getattr(load_params(written(tmp_path, bare | kept)).distill.terms, weight) == 0.5
    unused = load_params(written(tmp_path, {**NOTHING_KEPT, **NO_TERM}))
    assert getattr(unused.distill.terms, weight) == 0.0


def test_the_last_of_a_chain_teaches(tmp_path):
    assert load_params(FILE).assistant.last == "teacher"
    params = load_params(written(tmp_path, {"assistant.chain": CHAIN, "distill.teacher": "assistants/s"}))
    assert params.assistant.last == "assistants/s"
    assert list(params.assistant.chain) == ["m", "s"]


def test_given_weights_may_be_taken_as_they_are(tmp_path):
    assert load_params(written(tmp_path, {"train_teacher.epochs": 0, "train_teacher.weights": "a.pt"})).train_teacher
