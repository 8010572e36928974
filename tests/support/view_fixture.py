"""Views of the tiny training project, as tests draw them."""

from training_fixture import params_of

from kd_steps.adapters.data.reader import load_prepared
from kd_steps.core.detect.views import ViewPlan

PLAN = ViewPlan(epochs=4, closing_epochs=2, views=2, closing_views=2)
PLACES = [(epoch, index) for epoch in range(4) for index in range(8)]


def view_options(gains, cache=None):
    """Options of a data set of small pictures whose augmentation is Ultralytics' default with ``gains`` changed."""
    from ultralytics.utils import DEFAULT_CFG, IterableSimpleNamespace

    return {
        "imgsz": 64,
        "hyp": IterableSimpleNamespace(**{**vars(DEFAULT_CFG), **gains}),
        "batch_size": 4,
        "data": {"names": {}, "channels": 3},
        "cache": cache,
    }


def view_dataset(project, images=None, seed=0, digest="a" * 64, teacher=None, plan=PLAN, cache=None, **gains):
    """The project's training pictures, or ``images``, under its augmentation with ``gains`` changed."""
    from kd_steps.adapters.yolo.views import ViewDataset

    augmentation = params_of(project).augmentation.model_dump() | gains
    images = images if images is not None else load_prepared(project / "data/prepared").split("train")
    return ViewDataset(images, plan, seed, digest, teacher, **view_options(augmentation, cache))


def content(sample):
    """All of a sample that must be the same bytes wherever it comes from."""
    return tuple(sample[name].numpy().tobytes() for name in ("img", "cls", "bboxes"))
