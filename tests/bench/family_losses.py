"""How far the losses of `tests/test_families.py` fall, over seeds: what its limits stand on.

``PYTHONPATH=.:tests/support:tests python tests/bench/family_losses.py [SEEDS [STUDENT]]``, with the variables of a
variant before it, such as ``OMP_NUM_THREADS=4`` or ``ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2``. It prints a
line a training: the sum of all parts in the last epoch as a share of that in the first, and each part's share.
"""

import csv
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false")

from family_fixture import training_of, write_families
from test_families import PAIRS, with_precision
from training_fixture import decided_model, params_of


def shares(project, pair, seed, folder):
    """Part → its share in the last epoch of what it was in the first; ``all`` of them first."""
    from kd_steps.adapters.yolo.teach.answering import frozen
    from kd_steps.adapters.yolo.train.training import results_of, train

    params = with_precision(params_of(project), pair.precision)
    teacher = decided_model(seed=9 + seed, architecture=pair.teacher)
    source = {"live": frozen(params, teacher).answer}
    run = training_of(project, params, teacher, pair, folder, student_seed=3 + seed, **source)
    train(run)
    with results_of(run.folder).open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, skipinitialspace=True))
    first, last = ({n: float(v) for n, v in row.items() if n.startswith("train/")} for row in (rows[0], rows[-1]))
    return {"all": sum(last.values()) / sum(first.values())} | {n[6:]: last[n] / first[n] for n in first}


def main(seeds, student):
    """Print a line a training, of the pairs whose student's model has ``student`` in its name."""
    with tempfile.TemporaryDirectory() as folder:
        project = write_families(Path(folder) / "project")
        for pair in (pair for pair in PAIRS if student in pair.student):
            names = f"{Path(pair.teacher).stem}-{Path(pair.student).stem}"
            for seed in range(seeds):
                found = shares(project, pair, seed, Path(folder) / f"{names}-{seed}")
                told = " ".join(f"{name} {share:.3f}" for name, share in found.items())
                print(f"{names} seed {seed}: {told}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, sys.argv[2] if len(sys.argv) > 2 else "")
