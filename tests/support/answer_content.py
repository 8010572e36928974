"""What a test's teacher is asked: heads alone, unless the test names more."""

from kd_steps.params.cache_logits import AnswerContent


def content(score_threshold=0.01, max_anchors=300, **more):
    rest = {"attention": False, "pooled": False, "max_vectors": 0, **more}
    return AnswerContent(score_threshold=score_threshold, max_anchors=max_anchors, **rest)
