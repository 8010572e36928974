"""Ultralytics' training log, read and laid out for a plot."""

import csv

import pytest

from kd_steps.adapters.training_log import TrainingLogError, read_curve, write_losses

LOG = "epoch,time,train/cls_loss,train/kd_class,val/cls_loss\n1,9.5,3.5,0.25,4\n2,19,2.5,0.125,3\n"


def test_losses_in_long_form(tmp_path):
    (tmp_path / "results.csv").write_text(LOG)
    write_losses(tmp_path / "results.csv", tmp_path / "plots/distill.csv")
    with (tmp_path / "plots/distill.csv").open() as stream:
        rows = [(int(row["epoch"]), row["loss"], float(row["value"])) for row in csv.DictReader(stream)]
    assert rows == [(1, "cls_loss", 3.5), (1, "kd_class", 0.25), (2, "cls_loss", 2.5), (2, "kd_class", 0.125)]


def test_a_torn_row_is_named(tmp_path):
    (tmp_path / "results.csv").write_text(LOG[:-10])
    with pytest.raises(TrainingLogError, match=r"results\.csv, line 3: not as many values"):
        read_curve(tmp_path / "results.csv")
