"""Ultralytics' data set, with every random choice drawn from the view's key.

Its augmentation draws from the global generators of ``random`` and ``numpy.random``, and takes mosaic partners from a
buffer of recently loaded pictures. Both make a sample depend on what happened before it. Here the generators are
seeded around each sample and put back, and partners come from all pictures of the same kind, labelled or not.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.data.augment import Compose, LetterBox, RandomPerspective
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import IterableSimpleNamespace

from kd_steps.adapters.yolo.mosaic import Partners, draw_from
from kd_steps.core.data.sample import LabelledImage
from kd_steps.core.detect.teacher_targets import TeacherTargets, batch_targets
from kd_steps.core.detect.views import View, ViewPlan, pixel_hash, view_key

CLOSED = {"mosaic": 0.0, "mixup": 0.0, "cutmix": 0.0, "copy_paste": 0.0}


class ViewMismatchError(ValueError):
    """The student sees other pixels than the teacher saw; the message names the picture, the view and the mend."""


class StoredTargets(Protocol):
    """Gives the teacher's answer to a view of a picture; and the view with its labels, where views are kept.

    The pixels are the caller's own, to write to as well.
    """

    @property
    def keeps_views(self) -> bool: ...

    def targets(self, image: str, view: View) -> TeacherTargets: ...

    def sample(self, image: str, view: View) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | None: ...


@contextmanager
def seeded(key: int) -> Iterator[None]:
    """Seed the global generators from a 64-bit key, and put their states back afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(key)
    np.random.seed(key & 0xFFFFFFFF)
    torch.default_generator.manual_seed(key & 0x7FFFFFFFFFFFFFFF)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class LabelledDataset(YOLODataset):
    """Ultralytics' data set over labels that are already read, so that nothing is written beside the pictures.

    Args:
        images: the pictures, in the order that indices mean.
        options: keyword arguments of ``YOLODataset``.
    """

    def __init__(self, images: Sequence[LabelledImage], **options: Any) -> None:
        self.images, hyp = list(images), copy.copy(options["hyp"])
        hyp.deterministic = False  # read once, to warn that pictures in memory make a training random: not here
        super().__init__(img_path=[], task="detect", **{**options, "hyp": hyp})

    def get_img_files(self, img_path: str | list[str]) -> list[str]:
        return [str(image.path) for image in self.images]

    def get_labels(self) -> list[dict[str, Any]]:
        return [
            {
                "im_file": str(image.path),
                "shape": (image.size_wh_px[1], image.size_wh_px[0]),
                "cls": image.class_ids.astype(np.float32).reshape(-1, 1),
                "bboxes": image.boxes_xywh.copy(),
                "segments": [],
                "keypoints": None,
                "normalized": True,
                "bbox_format": "xywh",
            }
            for image in self.images
        ]


class ViewDataset(LabelledDataset):
    """Views of pictures, each a pure function of its key; indexed by (epoch, picture).

    Args:
        images: the training pictures; mosaic partners are drawn from all of the same kind, labelled or not.
        plan: which view an epoch shows.
        seed: of the views.
        augmentation_digest: of the augmentation gains.
        teacher: the teacher's answers; each view is checked against the pixels it answered for. None: no teacher.
        options: keyword arguments of ``YOLODataset``.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        plan: ViewPlan,
        seed: int,
        augmentation_digest: str,
        teacher: StoredTargets | None = None,
        **options: Any,
    ) -> None:
        self.plan, self.seed, self.augmentation_digest, self.teacher = plan, seed, augmentation_digest, teacher
        super().__init__(images, augment=True, **options)
        gains = vars(options["hyp"])
        self.augmentations = {
            (labelled, closing): self._augmentation(labelled, gains, closing)
            for labelled in {image.labelled for image in self.images}
            for closing in (False, True)
        }

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        epoch, index = item
        return self.view(index, self.plan.at(epoch))

    def view(self, index: int, view: View) -> dict[str, Any]:
        """One view of one picture, with the teacher's answer to it where there is a teacher.

        Raises:
            ViewMismatchError: the pixels are not those the teacher answered for.
        """
        image = self.images[index]
        kept = self.teacher.sample(image.digest, view) if self.teacher is not None else None
        sample = self._drawn(index, view) if kept is None else _kept(image, *kept)
        sample["labelled"] = image.labelled
        if self.teacher is not None:
            sample["teacher"] = self._checked_answer(image, view, pixel_hash(sample["img"].numpy()))
        return sample

    def _drawn(self, index: int, view: View) -> dict[str, Any]:
        image = self.images[index]
        with seeded(view_key(image.digest, view, self.seed, self.augmentation_digest)):
            sample: dict[str, Any] = self.augmentations[image.labelled, view.closing](self.get_image_and_label(index))
        return sample

    def _augmentation(self, labelled: bool, gains: dict[str, Any], closing: bool) -> Compose:
        """Ultralytics' augmentation of one kind of pictures, which mixes them with their own kind only."""
        transforms = self.build_transforms(IterableSimpleNamespace(**{**gains, **CLOSED} if closing else gains))
        if closing:
            _letterbox(transforms, self.imgsz)
        own_kind = [index for index, image in enumerate(self.images) if image.labelled == labelled]
        draw_from(Partners(self, own_kind), transforms)
        return transforms

    def _checked_answer(self, image: LabelledImage, view: View, found: int) -> TeacherTargets:
        assert self.teacher is not None
        targets = self.teacher.targets(image.digest, view)
        if targets.pixel_hash != found:
            raise ViewMismatchError(
                f"{image.path}: {view} has other pixels than the teacher saw (hash {found:016x} against "
                f"{targets.pixel_hash:016x}), though pictures, gains, seed and versions agree; the cache is not of "
                "this machine's image libraries: remove its folder and run `dvc repro`"
            )
        return targets

    @staticmethod
    def collate_fn(batch: list[dict[str, Any]]) -> dict[str, Any]:
        """Stack samples as Ultralytics does, and lay the teacher's answers end to end.

        Returns:
            Ultralytics' batch; ``labelled``, bool of shape (batch,); ``teacher``, where the samples have answers.
        """
        labelled = torch.tensor([sample.pop("labelled") for sample in batch])
        targets = [sample.pop("teacher") for sample in batch if "teacher" in sample]
        collated: dict[str, Any] = YOLODataset.collate_fn(batch)
        collated["labelled"] = labelled
        if targets:
            collated["teacher"] = batch_targets(targets)
        return collated


def _letterbox(transforms: Compose, imgsz_px: int) -> None:
    """Put the letterbox of validation into the place of each random perspective in a (nested) transform.

    A network that has only seen warped pictures places its boxes a pixel too wide on pictures that are merely resized,
    as the line's are.
    """
    for place, transform in enumerate(transforms.transforms):
        if isinstance(transform, Compose):
            _letterbox(transform, imgsz_px)
        elif isinstance(transform, RandomPerspective):
            transforms.transforms[place] = LetterBox((imgsz_px, imgsz_px), scaleup=False)


def _kept(image: LabelledImage, pixels: NDArray[np.uint8], labels: NDArray[np.float32]) -> dict[str, Any]:
    """A view that the cache kept, as Ultralytics' augmentation would give it."""
    objects = torch.from_numpy(labels.copy())
    side = pixels.shape[1:]
    return {
        "im_file": str(image.path),
        "ori_shape": (image.size_wh_px[1], image.size_wh_px[0]),
        "resized_shape": side,
        "img": torch.from_numpy(pixels),
        "cls": objects[:, :1],
        "bboxes": objects[:, 1:],
        "batch_idx": torch.zeros(len(objects)),
    }
