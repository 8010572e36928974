"""A folder that two users of a group share, and a third who may only read: real users, without root's rights."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
GROUP, ANN, BEN, EVE = 54_000, 54_001, 54_002, 54_003
STAGES = "stages:\n  train:\n    cmd: python train.py\n    deps: [train.py, raw.txt]\n    outs: [models/weights.txt]\n"
TRAIN = """
from pathlib import Path
from kd_steps.running import progress
from kd_steps.stage_entry import run_stage

def main():
    progress.tell(1, 1, "epochs")
    Path("models").mkdir(exist_ok=True)
    Path("models/weights.txt").write_text(Path("raw.txt").read_text())

run_stage(main)
"""


def as_user(user: int, group: int, root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """What a command says to a user whose files the group may write, and who has of root's rights only to read.

    Python itself may lie where only root may look.
    """
    nothing = [f"--{kind}=-all,+dac_read_search" for kind in ("bounding-set", "inh-caps", "ambient-caps")]
    change = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *nothing, "--"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HOME", "XDG", "DVC_"))}
    home = {"HOME": str(root / f".home-{user}"), "USER": f"user{user}", "LOGNAME": f"user{user}"}
    environment = {**kept, **home, "PYTHONPATH": str(REPOSITORY), "DVC_NO_ANALYTICS": "1", "COLUMNS": "160"}
    shell = ["sh", "-c", 'umask 002; exec "$@"', "sh"]
    return subprocess.run(
        [*change, *shell, *command],
        **{"cwd": root, "env": environment, "capture_output": True, "text": True, "check": False, "timeout": 200},
    )


def can_be_users() -> bool:
    """Whether this is root with the right to become others, who can start this Python; some containers forbid it."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return False
    return as_user(EVE, EVE, Path("/"), sys.executable, "-c", "import kd_steps").returncode == 0


pytestmark = [pytest.mark.slow, pytest.mark.skipif(not can_be_users(), reason="only root can be several users")]


@pytest.fixture
def shared():
    """A project in a folder of the group, outside of pytest's own, which only root may enter."""
    root = Path(tempfile.mkdtemp(prefix="retort-users-"))
    os.chown(root, ANN, GROUP)
    root.chmod(0o2775)
    for user in (ANN, BEN, EVE):
        (root / f".home-{user}").mkdir()
        os.chown(root / f".home-{user}", user, GROUP)
    dvc = [sys.executable, "-m", "dvc"]
    for command in ([*dvc, "init", "-q", "--no-scm"], [*dvc, "config", "cache.shared", "group"]):
        done = as_user(ANN, GROUP, root, *command)
        assert done.returncode == 0, done.stderr
    for name, text in {"dvc.yaml": STAGES, "train.py": TRAIN, "raw.txt": "one\n"}.items():
        (root / name).write_text(text)
        os.chown(root / name, ANN, GROUP)
        (root / name).chmod(0o664)
    yield root
    shutil.rmtree(root)


def test_what_one_user_made_the_other_goes_on_with_and_a_third_can_read(shared):
    first = as_user(ANN, GROUP, shared, sys.executable, "-m", "dvc", "repro")
    assert first.returncode == 0, first.stdout + first.stderr
    again = as_user(BEN, GROUP, shared, sys.executable, "-m", "dvc", "repro")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "didn't change, skipping" in again.stdout
    (shared / "raw.txt").write_text("two\n")
    second = as_user(BEN, GROUP, shared, sys.executable, "-m", "dvc", "repro")
    assert second.returncode == 0, second.stdout + second.stderr
    assert (shared / "models/weights.txt").read_text() == "two\n"
    assert (shared / "models/weights.txt").stat().st_uid == BEN
    reader = as_user(EVE, EVE, shared, sys.executable, "-m", "flows.cli", "status")
    assert reader.returncode == 0, reader.stdout + reader.stderr
    assert "Traceback" not in reader.stderr
    assert "not given a verdict yet" in reader.stdout


def test_a_user_who_may_not_write_learns_it_before_the_work(shared):
    as_user(ANN, GROUP, shared, sys.executable, "-m", "dvc", "repro")
    stranger = as_user(EVE, EVE, shared, sys.executable, "train.py")
    assert stranger.returncode == 1
    assert stranger.stderr.startswith("error: ")
    assert "denied" in stranger.stderr or "read-only" in stranger.stderr
    assert "Traceback" not in stranger.stderr
