"""Short real trainings with a teacher's answers at hand: in this process, in one that dies, or in several."""

import csv
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np
from prepared import CLASSES
from training_fixture import decided_model, params_of, stage_environment


class Answers:
    """A teacher's answers to every view of a plan, in memory; remembers which were asked for."""

    def __init__(self, params, images, plan, digest, seed=9):
        import torch

        from kd_steps.adapters.yolo.teach.answering import frozen, view_source
        from kd_steps.core.detect.views import pixel_hash

        teacher, views = frozen(params, decided_model(seed)), view_source(params, images, plan, digest)
        self.stored, self.asked, self.keeps_views = {}, [], False
        for index, image in enumerate(images):
            for view in plan.all_views():
                sample = views.view(index, view)
                pixels = torch.as_tensor(sample["img"])[None]
                self.stored[image.digest, view] = teacher.targets(pixels, [pixel_hash(sample["img"].numpy())])[0]

    def sample(self, image, view):
        return None

    def targets(self, image, view):
        self.asked.append((image, view))
        return self.stored[image, view]


class PoisonedAnswers(Answers):
    """Answers of which one holds a box output that is no number."""

    def poison(self, image, view):
        """Poison the answer to a view; the good one, to be put back."""
        good = self.stored[image, view]
        bins = np.array(good.one_to_many.box_bins, np.float32)
        bins[0, 0, 0] = np.nan
        self.stored[image, view] = replace(good, one_to_many=replace(good.one_to_many, box_bins=bins))
        return good


class DeadlyAnswers(Answers):
    """Answers of which one kills the process that asks for it, as a power cut would, or stops it like Ctrl-C."""

    deadly = stopping = None

    def targets(self, image, view):
        if len(self.asked) == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if len(self.asked) == self.stopping:
            raise KeyboardInterrupt
        return super().targets(image, view)


def training_of(project, folder, answers=Answers, weights=None, epochs=2, model_seed=5, plan_epochs=None, **changes):
    """A training of a small detector on a tiny project, with a teacher's answers.

    ``changes`` are fields of the run; ``options`` among them adds to Ultralytics' options.
    """
    from kd_steps.adapters.data.reader import load_prepared
    from kd_steps.adapters.yolo.teach.distiller import Distillation
    from kd_steps.adapters.yolo.train.recipe import fresh_views_plan, training_run
    from kd_steps.core.distill.schedule import EpochWeights
    from kd_steps.core.distill.terms import TermWeights

    params, prepared = params_of(project), load_prepared(project / "data/prepared")
    section = params.train_teacher.model_copy(update={"epochs": epochs})
    plan, images = fresh_views_plan(section), prepared.split("train")
    distillation = None
    if answers is not None:
        distillation = Distillation(
            terms=TermWeights(class_weight=1.0, box_weight=1.0, attention_weight=1.0),
            weights_at=partial(constant, weights=weights or EpochWeights("all", 1.0, 1.0, 2.0)),
            cached=answers(params, images, plan, "a" * 64),
        )
    run = training_run(
        params,
        section,
        decided_model(model_seed),
        CLASSES,
        images,
        prepared.split("val"),
        plan,
        "a" * 64,
        folder,
        distillation,
    )
    options = {**run.options, **changes.pop("options", {})}
    return replace(run, options=options, **changes)


def constant(epoch, weights):
    return weights


def train_in_own_process(run, tmp_path):
    """Train in a fresh process, so that it may die; its end, with what it said."""
    path = tmp_path / "run.pickle"
    path.write_bytes(pickle.dumps(run))
    return subprocess.run(
        [sys.executable, "-c", f"import trainer_fixture; trainer_fixture.train_pickled({str(path)!r})"],
        env=stage_environment(PYTHONPATH=os.pathsep.join(path for path in sys.path if path)),
        capture_output=True,
        text=True,
        check=False,
    )


def train_pickled(path):
    from kd_steps.adapters.yolo.train.training import train

    with open(path, "rb") as stream:  # noqa: PTH123
        run = pickle.load(stream)
    train(run)


def train_and_tell(run, folder):
    """Train as one of several processes, and tell what this one ended with: live weights, averages, what it saw."""
    import torch
    from ultralytics.utils import RANK
    from ultralytics.utils.torch_utils import unwrap_model

    from kd_steps.adapters.yolo.train.trainer import RetortTrainer

    trainer = RetortTrainer(run)
    trainer.train()
    seen = [(image, view.closing, view.number) for image, view in run.soft_loss.cached.asked]
    told = {
        "rank": RANK,
        "live": unwrap_model(trainer.model).state_dict(),
        "average": trainer.ema.ema.state_dict(),
        "seen": seen,
    }
    torch.save(told, folder / f"told-{RANK}.pt")


def stop_second_process(kind):
    """Fail in one of two processes while the other one works."""
    if os.environ["RANK"] == "0":
        time.sleep(600)
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ZeroDivisionError("a defect")


def rows_of(path):
    """The rows of a results table."""
    with path.open() as stream:
        return list(csv.DictReader(stream, skipinitialspace=True))
