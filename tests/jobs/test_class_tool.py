"""`retort classes`: the only hand that writes a ledger."""

import shutil

import pytest
import yaml
from params_file import written
from typer.testing import CliRunner
from yolo_folder import make_yolo

from kd_steps.adapters.data.ledger import load_ledger
from kd_steps.core.data.ledger import LedgerError
from kd_steps.jobs.class_tool import app


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose source names scratch and dent, as the current folder; it has no ledger."""
    make_yolo(tmp_path / "source")
    source = {"prepare.source.kind": "yolo", "prepare.source.yolo.path": str(tmp_path / "source")}
    written(tmp_path, {"product": "bracket", **source})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*arguments):
    done = CliRunner().invoke(app, arguments)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def lines(project, product="bracket"):
    return [line.split(",")[:3] for line in (project / f"data/classes/{product}.csv").read_text().splitlines()[1:]]


def test_a_new_product_is_one_command(project):
    assert said("add", "--from-source").startswith("data/classes/bracket.csv: 0 scratch, 1 dent; commit")
    assert lines(project) == [["0", "added", "scratch"], ["1", "added", "dent"]]
    assert {c.drop for c in load_ledger("bracket").classes} == {"source yolo"}
    config = yaml.safe_load((project / "source/data.yaml").read_text())
    (project / "source/data.yaml").write_text(yaml.safe_dump(config | {"names": ["scratch", "dent", "burr"]}))
    assert "2 burr" in said("add", "--from-source")
    assert "every class was listed already" in said("add", "--from-source")
    assert lines(project)[2:] == [["2", "added", "burr"]]


def test_a_class_comes_is_renamed_goes_and_comes_back(project):
    said("add", "scratch", "dent")
    assert "2 whisker" in said("add", "whisker", "--drop", "line 4, week 48")
    assert "number 2 is 'tin whisker' now, no more 'whisker'" in said("rename", "whisker", "tin whisker")
    assert "'tin whisker' is withdrawn; number 2 is not given out again" in said("withdraw", "tin whisker")
    assert "3 tin whisker" in said("add", "tin whisker")
    listed = said("list").splitlines()
    assert [line.split()[0] for line in listed] == ["0", "1", "2", "3"]
    assert "line 4, week 48; before: whisker; withdrawn 2" in listed[2]


def test_what_is_refused_leaves_the_file_as_it_is(project):
    with pytest.raises(FileNotFoundError, match=r"data/classes/bracket\.csv: 'bracket' has no ledger"):
        said("withdraw", "scratch")
    said("add", "scratch", "dent")
    before = lines(project)
    for arguments in (("add", "burr", "dent"), ("withdraw", "burr"), ("rename", "scratch", "dent")):
        with pytest.raises(LedgerError):
            said(*arguments)
    assert lines(project) == before
    assert CliRunner().invoke(app, ["add"]).exit_code == 2
    assert CliRunner().invoke(app, ["add", "x", "--from-source"]).exit_code == 2


def test_another_product_has_its_own_numbers_and_a_withdrawn_class_of_the_source_does_not_come_back(project):
    said("add", "--from-source")
    said("add", "--product", "hinge", "dent")
    assert lines(project, "hinge") == [["0", "added", "dent"]]
    said("withdraw", "dent")
    said("add", "--from-source")
    assert len(lines(project)) == 3
    shutil.rmtree(project / "source")
    with pytest.raises(FileNotFoundError, match="source"):
        said("add", "--from-source")
