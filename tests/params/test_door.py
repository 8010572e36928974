"""The one door of `params.yaml`: every kind of bad key is named, with the mend."""

import math
import re

import pytest
from params_file import FILE, GONE, GOOD, written

from kd_steps.params import Params, ParamsError, load_params
from kd_steps.params.door import RENAMED
from kd_steps.params.training import ScaledModel


def test_the_repositorys_file_loads():
    params = load_params(FILE)
    assert params.validate_.parity_probes == GOOD["validate"]["parity_probes"]
    assert params.register_.experiment == GOOD["register"]["experiment"]
    assert isinstance(params.distill.model, ScaledModel)
    assert params.model_dump(mode="json", by_alias=True) == GOOD, "nothing is lost, nothing is made up"


def test_every_key_has_its_meaning_beside_it():
    """A key of `distill` may have its comment in `train_teacher`; a value in braces at its section."""
    explained, keys = set(), []
    for line in FILE.read_text().splitlines():
        if found := re.match(r"( *)([a-z_0-9]+):(.*)", line):
            name, rest = found[2], found[3]
            keys.append((name, rest))
            if "#" in rest:
                explained.add(name)
    # Names that say all there is to say, or that a comment on the section explains.
    plain = {"epochs", "momentum", "weight_decay", "title", "optimizer", "targets", "lr0", "lrf", "batch"}
    phases = {"warm_up", "distillation", "convergence"}
    sections = {name for name, rest in keys if not rest.strip()}
    silent = {name for name, _ in keys} - explained - plain - phases - sections
    assert silent == {"architecture", "depth_multiple", "max_channels"}, "these are explained beside `model`"
    assert {"width_multiple", "model", "phases"} <= explained


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("distill.epoch", "distill.epoch: unknown key; did you mean 'epochs'?"),
        ("sead", "sead: unknown key; did you mean 'seed'?"),
        ("validat", "validat: unknown key; did you mean 'validate'?"),
        ("registr", "registr: unknown key; did you mean 'register'?"),
        ("prepare.splits.test_fractoin", "prepare.splits.test_fractoin: unknown key; did you mean 'test_fraction'?"),
        ("distill.phases.warm_up.temprature", "did you mean 'temperature'?"),
        ("evaluate.latency.round", "evaluate.latency.round: unknown key; did you mean 'rounds'?"),
        ("distill.model.width", "distill.model.width: unknown key; did you mean 'width_multiple'?"),
        ("compute.zzzz", "known here: device, processes, precision, loader_workers, cache_images"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(tmp_path, path, message):
    with pytest.raises(ParamsError) as caught:
        load_params(written(tmp_path, {path: 1}))
    assert message in str(caught.value)
    assert str(tmp_path / "params.yaml") in str(caught.value)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_key_of_an_earlier_release_names_its_new_one(tmp_path, old, new):
    with pytest.raises(ParamsError, match=rf"params\.yaml: {re.escape(old)}: now `{re.escape(new)}`"):
        load_params(written(tmp_path, {old: "x"}))
    value = GOOD
    for part in new.split("."):
        value = value[part]  # the new one is there


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("preprocessing.imgsz_px", 0),
        ("compute.device", "cuda:0"),
        ("preprocessing.letterbox_fill", 256),
        ("augmentation.mosaic", 1.5),
        ("augmentation.perspective", 0.01),
        ("prepare.splits.validation_fraction", 0),
        ("validate.parity_tolerance", -0.1),
        ("train_teacher.epochs", -1),
        ("train_teacher.training.lr0", 0),
        ("train_teacher.training.momentum", 1),
        ("train_teacher.training.optimizer", "SDG"),
        ("train_teacher.weights_sha256", "abc"),
        ("cache_logits.max_anchors", 70_000),
        ("cache_logits.max_vectors", -1),
        ("cache_logits.attention", "some"),
        ("cache_logits.shard_views", 0),
        ("distill.phases.warm_up.temperature", 0),
        ("distill.gamma_epochs", -1),
        ("distill.terms.class_weight", -0.1),
        ("distill.terms.box_weight", -0.1),
        ("distill.terms.box_temperature", 0),
        ("distill.phases.convergence.soft_weight", -0.1),
        ("distill.phases.convergence.hard_weight", -0.1),
        ("distill.terms.dynamic_strength", -1),
        ("distill.answers", "live"),
        ("distill.teacher_choice.min_lead_points", -1),
        ("distill.teacher_choice.on_weak_teacher", "stop"),
        ("distill.terms.attention_weight", -0.1),
        ("distill.terms.channel_weight", -0.1),
        ("distill.terms.feature_weight", -0.1),
        ("distill.terms.relational_weight", -0.1),
        ("distill.terms.feature_kind", "l3"),
        ("distill.terms.box_kind", "ciou"),
        ("distill.terms.feature_temperature", 0),
        ("distill.terms.feature_levels", []),
        ("distill.calibrate_batches", -1),
        ("distill.calibrate_share.box", 0),
        ("distill.calibrate_share", 0.1),
        ("distill.model.width_multiple", 0),
        ("few_shot.new_part_share", 1),
        ("export.opset", 12),
        ("evaluate.latency.rounds", 19),
        ("gate.confidence_level", 0.5),
        ("gate.max_false_alarms_per_picture", math.inf),
        ("compute.precision", "fp16"),
        ("seed", -1),
        ("product", ""),
        ("product", "a/b"),
        ("product", ".hidden"),
    ],
)
def test_a_value_out_of_range_is_named_with_the_value(tmp_path, path, value):
    with pytest.raises(ParamsError) as caught:
        load_params(written(tmp_path, {path: value}))
    line = str(caught.value).splitlines()[0]
    assert line.startswith(f"{tmp_path / 'params.yaml'}: {path}: ")
    assert line.endswith(f", got {value!r}")


@pytest.mark.parametrize(
    ("path", "moved"),
    [
        ("train_teacher.lr0", "train_teacher.training.lr0"),
        ("distill.close_mosaic_fraction", "distill.training.close_mosaic_fraction"),
        ("distill.feature_weight", "distill.terms.feature_weight"),
    ],
)
def test_a_key_of_an_older_file_is_told_where_it_stands_now(tmp_path, path, moved):
    with pytest.raises(ParamsError) as caught:
        load_params(written(tmp_path, {path: 1}))
    assert f"{path}: stands in a group now; write {moved}" in str(caught.value)


def test_a_section_is_told_by_its_knobs_however_they_are_grouped():
    section = load_params(FILE).distill
    assert section.flat()["lr0"] == section.training.lr0
    assert section.flat()["box_weight"] == section.terms.box_weight
    assert not {"training", "terms"} & set(section.flat())
    other = section.changed(lr0=0.5, feature_levels=(1.0,), epochs=3)
    assert (other.training.lr0, other.terms.feature_levels, other.epochs) == (0.5, (1.0,), 3)
    assert other.changed(**{k: section.flat()[k] for k in ("lr0", "feature_levels", "epochs")}) == section
    with pytest.raises(ValueError, match="lr0"):
        section.changed(lr0=-1.0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("distill.epochs", "many"),
        ("distill.epochs", 2.5),
        ("compute.cache_images", True),
        ("prepare.new_parts.classes", "tombstone"),
        ("gate", 3),
        ("distill.phases", [1, 2]),
        ("train_teacher.model", 5),
    ],
)
def test_a_value_of_another_type_is_named(tmp_path, path, value):
    with pytest.raises(ParamsError, match=rf"params\.yaml: {re.escape(path)}: .*got {re.escape(repr(value))}"):
        load_params(written(tmp_path, {path: value}))


@pytest.mark.parametrize(
    "path", ["seed", "gate", "few_shot.lr0", "distill.phases.convergence", "distill.model.max_channels"]
)
def test_a_missing_key_is_named(tmp_path, path):
    with pytest.raises(ParamsError, match=rf"params\.yaml: {re.escape(path)}: missing; add it"):
        load_params(written(tmp_path, {path: GONE}))


@pytest.mark.parametrize("model", ["yolo11n.yaml", "weights/mine.pt"])
def test_a_model_may_be_a_name_instead_of_a_scale(tmp_path, model):
    assert load_params(written(tmp_path, {"distill.model": model})).distill.model == model


def test_every_fault_is_told_at_once(tmp_path):
    with pytest.raises(ParamsError) as caught:
        load_params(written(tmp_path, {"seed": -1, "distill.epochs": 0, "gate.oops": 1}))
    told = str(caught.value).splitlines()
    assert len(told) == 3
    assert all(line.startswith(str(tmp_path)) for line in told)


def test_a_missing_file_and_one_that_is_not_yaml_are_told(tmp_path):
    target = tmp_path / "params.yaml"
    with pytest.raises(ParamsError, match=r"params\.yaml: no such file; run from the project's root"):
        load_params(target)
    target.write_text("seed: [0\nb: 1")
    with pytest.raises(ParamsError, match=r"params\.yaml, line 2, column 2: not valid YAML: "):
        load_params(target)
    for text, kind in (("", "NoneType"), ("- 1", "list")):
        target.write_text(text)
        with pytest.raises(ParamsError, match=f"expected a mapping of sections, found {kind}"):
            load_params(target)


def test_params_cannot_be_changed_after_loading():
    params = load_params(FILE)
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 1
    assert Params.model_config["extra"] == "forbid"
