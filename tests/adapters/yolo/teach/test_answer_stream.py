"""Answers from several processes: the same whatever their number, and no process outlives the stage."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest
import torch
from training_fixture import decided_model, params_of, stage_environment

from kd_steps.adapters.data.reader import load_prepared
from kd_steps.core.detect.views import ViewPlan, pixel_hash

pytestmark = pytest.mark.slow

PLAN = ViewPlan(epochs=4, closing_epochs=2, views=2, closing_views=2)
WANTED = [(index, view) for view in PLAN.all_views()[1:3] for index in (5, 0, 7, 2, 1)]


def source_of(project, images=None):
    from kd_steps.adapters.yolo.teach.answering import view_source

    images = images or load_prepared(project / "data/prepared").split("train")
    return view_source(params_of(project), images, PLAN, "a" * 64)


def teacher_of(project, seed=1):
    from kd_steps.adapters.yolo.teach.answering import frozen

    return frozen(params_of(project), decided_model(seed))


def content(answered):
    targets = answered.targets
    arrays = (
        targets.one_to_many.anchors,
        targets.one_to_many.class_logits,
        targets.one_to_many.box_bins,
        targets.neck.attention,
    )
    return (targets.pixel_hash, *(array.tobytes() for array in (*arrays, answered.pixels, answered.labels)))


def stream(project, processes, batch=3, teacher=None, images=None):
    from kd_steps.adapters.yolo.teach.answer_stream import answered_views

    asked = teacher or teacher_of(project)
    found = list(answered_views(asked, source_of(project, images), WANTED, batch, processes))
    assert [len(part) for part in found] == [batch] * (len(WANTED) // batch) + [len(WANTED) % batch]
    return [content(answered) for part in found for answered in part], asked


@pytest.fixture(scope="module")
def one_process(training_project):
    return stream(training_project, 1)[0]


def test_answers_are_the_teachers_own_in_the_order_asked_for(training_project, one_process):
    asked, views = teacher_of(training_project), source_of(training_project)
    for (index, view), found in zip(WANTED, one_process, strict=True):
        sample = views.view(index, view)
        seen = pixel_hash(sample["img"].numpy())
        (targets,) = asked.targets(sample["img"][None], [seen])
        assert found[0] == seen
        assert found[1] == targets.one_to_many.anchors.tobytes()
        assert found[5] == sample["img"].numpy().tobytes()
    assert len(set(one_process)) == len(WANTED)


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_number_of_processes_does_not_count(training_project, one_process, processes):
    found, asked = stream(training_project, processes)
    assert found == one_process
    assert asked.forwards == len(WANTED), "their forwards are counted here"


def test_the_stages_own_threads_do_not_count(training_project, one_process):
    """And a process that has used its threads can be forked."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        asked = teacher_of(training_project)
        asked.answer(torch.rand(4, 3, 64, 64))
        asked.forwards = 0
        assert stream(training_project, 2, teacher=asked)[0] == one_process
    finally:
        torch.set_num_threads(before)


def test_where_the_teacher_is_on_a_gpu_the_processes_only_draw(training_project, one_process):
    """A device that is no CPU, without one: the teacher answers in this process, so its own count grows."""
    from kd_steps.adapters.yolo.teach.answer_stream import answered_views

    asked, processes = teacher_of(training_project), set()

    class Elsewhere:
        device = torch.device("cuda")

        def targets(self, pixels, hashes):
            processes.add(os.getpid())
            return asked.targets(pixels, hashes)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = [a for part in answered_views(Elsewhere(), source_of(training_project), WANTED, 3, 2) for a in part]
    finally:
        torch.set_num_threads(threads)
    assert [content(answered) for answered in found] == one_process
    assert processes == {os.getpid()}


def test_a_picture_that_cannot_be_read_is_told_as_in_one_process(training_project, tmp_path):
    images = load_prepared(training_project / "data/prepared").split("train")
    images[2] = replace(images[2], path=tmp_path / "gone.png")
    with pytest.raises(FileNotFoundError, match=r"gone\.png") as fault:
        stream(training_project, 2, images=images)
    assert "Traceback" not in str(fault.value)


ENDLESS = """
import sys, time
from kd_steps.adapters.yolo.teach.answer_stream import answered_views

class Slow:
    def view(self, index, view):
        time.sleep(600)

class Teacher:
    import torch
    device, forwards = torch.device("cpu"), 0

print("started", flush=True)
list(answered_views(Teacher(), Slow(), [(0, None), (1, None)], 1, 2))
"""


def test_processes_end_with_a_killed_stage():
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS], env=stage_environment(), stdout=subprocess.PIPE, text=True
    ) as stage:
        assert stage.stdout.readline() == "started\n"
        patience = time.monotonic() + 60
        while len(children := psutil.Process(stage.pid).children()) < 2:
            assert time.monotonic() < patience
            time.sleep(0.05)
        time.sleep(1)  # they tie themselves to the stage when they start
        stage.send_signal(signal.SIGKILL)
        stage.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
