"""The runs of a result: bounds, repeats, kills, and files that MLflow lost."""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

from kd_steps.adapters.mlflow import runs
from kd_steps.adapters.mlflow.runs import StageRecord

CURVE = (("curve/loss", 2.0, 1), ("curve/loss", 1.0, 2))


def test_limits_of_the_store_are_kept(store):
    params = {f"{'k' * 260}{n}": "v" * 7000 for n in range(150)}
    metrics = {f"m{n} (×)": n for n in range(1200)}
    logged = runs.log_result(store, "1" * 64, {"long": "t" * 9000}, [StageRecord("distill", params, metrics)])
    found = store.client.get_run(logged.runs["distill"]).data
    assert len(found.params) == 150
    assert len(found.metrics) == 1200


def test_a_stage_whose_run_is_not_complete_is_logged_again_without_double_metrics(store):
    record = StageRecord("distill", metrics={"map": 0.5}, curves=CURVE)
    first = runs.log_result(store, "2" * 64, {}, [record]).runs
    store.client.delete_tag(first["distill"], runs.COMPLETE_TAG)
    again = runs.log_result(store, "2" * 64, {}, [record]).runs
    assert again["parent"] == first["parent"]
    assert again["distill"] != first["distill"]
    assert len(store.client.get_metric_history(again["distill"], "curve/loss")) == 2
    assert runs.log_result(store, "2" * 64, {}, [record]).runs == again


def test_a_tree_that_a_kill_left_half_done_does_not_count(store):
    record = StageRecord("distill", metrics={"map": 0.5})
    torn = store.client.create_run(store.experiment_id, tags={runs.RESULT_TAG: "3" * 64}).info.run_id
    logged = runs.log_result(store, "3" * 64, {}, [record]).runs
    assert logged["parent"] != torn
    assert runs.log_result(store, "3" * 64, {}, [record]).runs == logged


def test_lineage_of_today_is_told(store):
    for commit in ("a", "b"):
        parent = runs.log_result(store, "4" * 64, {"git_commit": commit}, []).runs["parent"]
    assert store.client.get_run(parent).data.tags["git_commit"] == "b"


def test_lost_files_and_changed_weights_are_put_back(store, tmp_path):
    files = []
    for name in ("sidecar.json", "weights.pt"):
        files.append(tmp_path / name)
        files[-1].write_text("what was logged")
    record = StageRecord("few_shot", files=tuple(files))
    first = runs.log_result(store, "5" * 64, {}, [record])
    assert first.put_back == ()
    kept = Path(urlsplit(store.client.get_run(first.runs["few_shot"]).info.artifact_uri).path)
    (kept / "weights.pt").write_text("something of another length or not")
    (kept / "sidecar.json").unlink()
    assert runs.log_result(store, "5" * 64, {}, [record]).put_back == ("few_shot/sidecar.json", "few_shot/weights.pt")
    assert (kept / "weights.pt").read_text() == "what was logged"
    shutil.rmtree(kept)
    assert len(runs.log_result(store, "5" * 64, {}, [record]).put_back) == 2
    assert runs.log_result(store, "5" * 64, {}, [record]).put_back == ()
