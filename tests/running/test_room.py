import os
import shutil

import pytest

from kd_steps.running.room import require_room

as_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")


@pytest.fixture
def project(tmp_path):
    for name in ("models", "data", ".dvc/cache"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def test_a_project_with_room_passes(project):
    require_room(project)


@pytest.mark.parametrize("place", ["models", ".dvc/cache"])
def test_a_full_disk_is_told_with_its_folder_before_the_work(project, place):
    free = shutil.disk_usage(project).free
    with pytest.raises(OSError, match="no space left on device") as told:
        require_room(project, free_bytes=2 * free)
    assert str(project) in str(told.value)
    assert "make room" in str(told.value)


def test_the_cache_is_where_dvc_has_it(project, tmp_path_factory):
    (project / ".dvc/config").write_text("[core]\n    analytics = false\n[cache]\n    dir = ../elsewhere\n")
    (project / ".dvc/config.local").write_text("['remote \"store\"']\n    url = s3://bucket\n")
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    require_room(project)
    shutil.rmtree(elsewhere)
    elsewhere.symlink_to("/proc")  # a file system that has no room at all
    with pytest.raises(OSError, match=r"elsewhere: (read-only|no space left).*DVC could not keep"):
        require_room(project)


@as_user
@pytest.mark.parametrize("place", ["models", ".dvc/cache"])
def test_a_read_only_folder_is_told(project, place):
    (project / place).chmod(0o555)
    try:
        with pytest.raises(OSError, match=f"{place}: read-only for user"):
            require_room(project)
    finally:
        (project / place).chmod(0o755)
