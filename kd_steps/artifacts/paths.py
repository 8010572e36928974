"""Where everything lies that stages write and read, from the project's root.

What a stage keeps for itself while it works, below ``.retort``, stands in that stage. A test holds these paths against
``dvc.yaml``.
"""

from __future__ import annotations

from pathlib import Path

# A user's own, under git or on a disk of theirs.
LEDGERS = Path("data/classes")
LINE_SHOTS = Path("data/new_parts/line")
BUNDLES_ELSEWHERE = Path("data/bundles")
EXPECTATIONS = Path("expectations")
EXPECTATIONS_CONTEXT = Path("infra/great_expectations.yml")

DATASET_CARD = "dataset.json"  # in the folder of a set of pictures
PREPARED = Path("data/prepared")
UNLABELLED = Path("data/unlabelled")
NEW_PARTS = Path("data/new_parts")
HELD_OUT_SHOTS = NEW_PARTS / "held_out"

VALIDATION = Path("metrics/validation.json")
BASE_TOKEN = Path("data/validated/base.json")
NEW_PARTS_TOKEN = Path("data/validated/new_parts.json")
DATA_DOCS = Path("report/data_docs")
VALIDATION_PAGE = DATA_DOCS / "summary.html"

MODELS = Path("models")  # what teaches is named from here: `teacher`, `assistants/<name>`
WEIGHTS, SIDECAR, TRAINING_LOG = "weights.pt", "sidecar.json", "results.csv"  # in the folder of each network
TEACHER = MODELS / "teacher"
STUDENT = MODELS / "student"
FEW_SHOT = MODELS / "few_shot"
SCORES_ALONE = Path("metrics/alone")  # of networks that were trained without a teacher
TEACHER_SCORES = SCORES_ALONE / "teacher.json"
CACHE = Path("data/cache")
CACHE_HEADER = CACHE / "header.json"
ASSISTANT_CACHES = Path("data/assistant_caches")
CACHE_FACTS = Path("metrics/cache.json")
TEACHER_CHOICE = Path("metrics/teacher_choice.json")
STUDENT_SCORES = Path("metrics/distill.json")
STUDENT_LOSSES = Path("plots/distill.csv")
FEW_SHOT_SCORES = Path("metrics/few_shot.json")

ENGINES = MODELS / "engines"
LEFT_OUT = "left_out.json"  # in that folder
EVALUATION = Path("evaluation")
BUNDLES = EVALUATION / "bundles"
DETECTIONS = EVALUATION / "detections"
CURVES = EVALUATION / "curves.parquet"
LATENCY = EVALUATION / "latency.parquet"
CURVES_PLOT = Path("plots/precision_recall.csv")
LATENCY_PLOT = Path("plots/latency.csv")
ENGINE_REPORT = Path("metrics/engines.json")
RELEASES = MODELS / "releases"

GATE = Path("metrics/gate.json")
DOSSIER = Path("report/index.html")
# What a machine registered in its own store: no output of the pipeline, which is the same on every machine.
RECEIPT = Path(".retort/registration.json")
RECEIPT_BEFORE = Path("metrics/registration.json")  # where earlier releases wrote it
RELEASED_LEDGERS = Path("metrics/released")  # kept across failures: machines out there know these numbers


def detections(engine: str) -> Path:
    """What an engine found in the test pictures."""
    return DETECTIONS / f"{engine}.parquet"


def ledger(product: str) -> Path:
    """The ledger of a product's classes."""
    return LEDGERS / f"{product}.csv"


def released_ledger(product: str) -> Path:
    """The ledger of a product as it was at its last registered release."""
    return RELEASED_LEDGERS / f"{product}.csv"


def assistant(name: str) -> Path:
    """The folder of an assistant's weights."""
    return MODELS / "assistants" / name


def assistant_cache(name: str) -> Path:
    """The cache that an assistant learns from."""
    return ASSISTANT_CACHES / name


def assistant_scores(name: str) -> Path:
    """What an assistant's training measured."""
    return Path(f"metrics/assistants/{name}.json")


def assistant_losses(name: str) -> Path:
    """The losses of an assistant's training, to plot."""
    return Path(f"plots/assistants/{name}.csv")


def plain_student(seed: int) -> Path:
    """The folder of a student's weights that was trained without a teacher."""
    return MODELS / "plain_student" / str(seed)


def plain_student_scores(seed: int) -> Path:
    """What that training measured."""
    return SCORES_ALONE / f"student_{seed}.json"
