"""A teacher cache that is foreign, damaged or torn: refused by name, mended shard by shard."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cache_writer import HEADER, IMAGES, KEYS, Answers, fill, flip_a_bit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kd_steps.adapters.cache.folder import CacheError, open_for_writing
from kd_steps.adapters.cache.shards import ShardPlace, shard_place
from kd_steps.adapters.cache.store import TeacherCache, write_shards
from kd_steps.core.cache.keys import CacheKeys
from kd_steps.core.detect.views import View


@pytest.fixture
def folder(tmp_path):
    fill(tmp_path / "cache")
    return tmp_path / "cache"


FOREIGN = {
    "teacher_sha256": "0" * 64,
    "contract_digest": "0" * 64,
    "augmentation_digest": "0" * 64,
    "dataset_digest": "0" * 64,
    "seed": 7,
    "views": 3,
    "closing_views": 2,
    "library_versions": {"torch": "2.1", "numpy": "2.0"},
    "score_threshold": 0.5,
    "attention": False,
    "pixels": False,
    "max_vectors": 2,
    "recipe": {"views": 1, "answers": 2},
}


@pytest.mark.parametrize("field", FOREIGN)
def test_a_cache_made_from_something_else_is_refused_by_name(folder, field):
    expected = replace(HEADER, **{field: FOREIGN[field]})
    with pytest.raises(CacheError, match=rf"something else \({field}: .*; run `dvc repro cache_logits`"):
        TeacherCache(folder, expected, KEYS)


@pytest.mark.parametrize("field", set(FOREIGN) - {"views", "closing_views"})
def test_writing_over_a_cache_made_from_something_else_keeps_none_of_it(folder, field):
    expected = replace(HEADER, **{field: FOREIGN[field]})
    told, made, asked = fill(folder, expected)
    assert told.startswith("another cache stood here (" + field)
    assert asked == list(KEYS)
    assert all(fresh for _, fresh in made)
    assert len(TeacherCache(folder, expected, KEYS)) == 15


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit_of_the_seal(path):
    flip_a_bit(path.with_suffix(".sha256"))


def tear_the_seal(path):
    truncate(path.with_suffix(".sha256"))


def put_another_in_its_place(path):
    for ending in (".arrow", ".sha256"):
        shutil.copy(path.with_name("shard-mosaic-000-000" + ending), path.with_suffix(ending))
    seal = path.with_suffix(".sha256")
    seal.write_text(seal.read_text().replace("mosaic-000", "mosaic-001"))


def made_from_another_teacher(path):
    fill(path.parent / "other", replace(HEADER, teacher_sha256="0" * 64))
    for ending in (".arrow", ".sha256"):
        (path.parent / "other" / path.with_suffix(ending).name).replace(path.with_suffix(ending))
    shutil.rmtree(path.parent / "other")


WRONG_BYTES = "does not have the bytes that shard-mosaic-001-000.sha256 tells"
DAMAGES = {
    "bit": (flip_a_bit, WRONG_BYTES),
    "truncated": (truncate, WRONG_BYTES),
    "empty": (lambda path: path.write_bytes(b""), WRONG_BYTES),
    "no seal": (lambda path: path.with_suffix(".sha256").unlink(), "is missing or was not finished"),
    "bit of the seal": (flip_a_bit_of_the_seal, WRONG_BYTES),
    "torn seal": (tear_the_seal, WRONG_BYTES),
    "another's place": (put_another_in_its_place, "holds the answers of shard-mosaic-000-000"),
    "another's answers": (made_from_another_teacher, "was made from something else than header.json tells"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_named_and_made_again_alone(folder, damage):
    harm, message = DAMAGES[damage]
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    harm(folder / "shard-mosaic-001-000.arrow")
    with pytest.raises(CacheError, match=rf"shard-mosaic-001-000.arrow: .*{message}.*makes only this shard again"):
        TeacherCache(folder, HEADER, KEYS)
    _, made, asked = fill(folder)
    assert asked == KEYS[5:9]
    assert [fresh for _, fresh in made] == [False, False, True, False, False, False]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_seals_are_what_sha256sum_reads(folder):
    seals = sorted(path.name for path in folder.glob("*.sha256"))
    done = subprocess.run(["sha256sum", "--check", *seals], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count(": OK")) == (0, 6)
    flip_a_bit(folder / "shard-mosaic-001-000.arrow")
    done = subprocess.run(["sha256sum", "--check", *seals], cwd=folder, capture_output=True, text=True, check=False)
    assert "shard-mosaic-001-000.arrow: FAILED" in done.stdout


def drop(folder, name):
    for ending in (".arrow", ".sha256"):
        (folder / (name + ending)).unlink()


@pytest.mark.parametrize(
    ("name", "held", "hole"), [("shard-mosaic-001-001", 14, "4 to 4"), ("shard-mosaic-001-000", 11, "0 to 3")]
)
def test_a_missing_shard_makes_the_cache_incomplete(folder, name, held, hole):
    drop(folder, name)
    hole = rf"shard-mosaic-001-\*: pictures {hole} missing"
    with pytest.raises(CacheError, match=rf"{held} of 15 views \({hole}\); run `dvc repro -f -s cache_logits`"):
        TeacherCache(folder, HEADER, KEYS)
    assert [fresh for _, fresh in fill(folder)[1]].count(True) == 1


def test_a_cache_that_was_hardly_begun_is_told_in_a_line(folder):
    for name in ("shard-mosaic-000-001", "shard-mosaic-001-000", "shard-closing-000-000", "shard-closing-000-001"):
        drop(folder, name)
    with pytest.raises(
        CacheError, match=r"mosaic-001-\*: pictures 0 to 3 missing, shard-closing-000.* to 4 missing\); "
    ):
        TeacherCache(folder, HEADER, KEYS)
    keys = CacheKeys(IMAGES, [*KEYS.views, View(False, 2)])
    with pytest.raises(CacheError, match=r"missing, …\); run"):
        TeacherCache(folder, HEADER, keys)


def test_the_cache_of_an_assistant_is_mended_by_its_own_stage(tmp_path):
    folder = tmp_path / "assistant_caches/m"
    with pytest.raises(CacheError, match="no teacher cache; run `dvc repro assistant@m`"):
        TeacherCache(folder, HEADER, KEYS)
    fill(folder)
    drop(folder, "shard-mosaic-001-001")
    with pytest.raises(CacheError, match="run `dvc repro -f -s assistant@m` to finish it"):
        TeacherCache(folder, HEADER, KEYS)


def test_shards_of_another_size_that_a_kill_left_are_told(folder, tmp_path):
    open_for_writing(tmp_path / "small", HEADER)
    write_shards(tmp_path / "small", HEADER, KEYS, 2, "fp32", Answers(), lambda count, fresh: None)
    for path in (tmp_path / "small").glob("shard-closing-000-001.*"):
        path.replace(folder / path.name)
    said = r"holds 16 of 15 views \(shard-closing-000-\*: pictures 2 to 3 twice, .*pictures 4 to 4 missing\)"
    with pytest.raises(CacheError, match=said):
        TeacherCache(folder, HEADER, KEYS)
    assert fill(folder)[2] == KEYS[14:]


def harm_a_number(path):
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))


def harm_an_encoding(path):
    path.write_bytes(path.read_bytes().replace(b"seed", b"se\xffd"))


HARMED_HEADERS = {
    "digit": (harm_a_number, r"something else \(seed: 0 against 1\).*with -f -s"),
    "torn": (truncate, r"header.json: damaged; run `dvc repro -f -s cache_logits`"),
    "no text": (harm_an_encoding, r"header.json: damaged; "),
    "gone": (Path.unlink, r"no teacher cache"),
}


@pytest.mark.parametrize("harm", HARMED_HEADERS)
def test_a_damaged_header_is_told_and_costs_no_answer(folder, harm):
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    HARMED_HEADERS[harm][0](folder / "header.json")
    with pytest.raises(CacheError, match=HARMED_HEADERS[harm][1]):
        TeacherCache(folder, HEADER, KEYS)
    told, _, asked = fill(folder)
    assert told == "resumed; header.json was damaged and is written anew"
    assert asked == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_a_header_of_before_there_were_versions_stays_as_it_is(folder):
    """Its bytes are a part of what DVC compares."""
    note = folder / "header.json"
    values = json.loads(note.read_text())
    assert values.pop("schema") == 1
    note.write_text(json.dumps(values))
    before = note.read_bytes()
    told, _, asked = fill(folder)
    assert (told, asked, note.read_bytes()) == ("resumed", [], before)
    assert len(TeacherCache(folder, HEADER, KEYS)) == len(KEYS)


def test_a_header_of_another_version_is_refused_and_costs_no_answer(folder):
    note = folder / "header.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "schema": 2}))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for use in (fill, lambda place: TeacherCache(place, HEADER, KEYS)):
        with pytest.raises(CacheError, match=r"header\.json: written as schema 2, .* schema 1 .* or delete it and run"):
            use(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_shard_that_arrow_cannot_open_is_no_cache_of_another_kind(folder):
    """A foreign cache goes, whatever state it is in."""
    for number, path in enumerate(sorted(folder.glob("*.arrow"))):
        data = bytearray(path.read_bytes())
        data[-20 - 60 * number] ^= 2
        path.write_bytes(data)
    told, _, asked = fill(folder, replace(HEADER, seed=7))
    assert told == "another cache stood here (seed: 7 against 0)"
    assert asked == list(KEYS)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(back=st.integers(1, 3000), bit=st.integers(0, 7))
def test_a_bit_flipped_anywhere_leaves_a_place_or_none(folder, back, bit):
    """The end of the file is what Arrow reads first."""
    whole = folder / "shard-mosaic-000-000.arrow"
    data = bytearray(whole.read_bytes())
    data[-back] ^= 1 << bit
    other = folder / "flipped.arrow"
    other.write_bytes(data)
    assert shard_place(other) is None or isinstance(shard_place(other), ShardPlace)


def test_no_cache_and_an_unknown_view_are_told(folder, tmp_path):
    with pytest.raises(CacheError, match=r"nowhere: no teacher cache; run `dvc repro cache_logits`"):
        TeacherCache(tmp_path / "nowhere", HEADER, KEYS)
    with pytest.raises(CacheError, match="no answer for picture ffffffffffff"):
        TeacherCache(folder, HEADER, KEYS).targets("f" * 64, KEYS[0].view)


def test_pictures_that_are_others_than_were_answered_are_told(folder):
    others = CacheKeys([f"{number:064x}" for number in range(len(IMAGES))], KEYS.views)
    with pytest.raises(CacheError, match=r"mosaic-000-000\.arrow: batch 0 holds another view than its place says"):
        TeacherCache(folder, HEADER, others).targets(others[0].image, others[0].view)
