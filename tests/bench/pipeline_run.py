"""A finished run of the pipeline told as tables: what `make demo` or the real job left in a project's folder.

``python tests/bench/pipeline_run.py PROJECT NAME`` reads the metrics, writes ``tests/bench/results/NAME.json`` and
prints the tables of RESULTS.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "tests/bench/results"
STAGES = (
    "prepare", "validate", "train_teacher", "cache_logits", "distill", "few_shot", "export", "evaluate", "gate",
    "report", "register",
)  # fmt: skip

TRAININGS = ("alone/teacher", "cache", "distill", "few_shot")


def read(project: Path, name: str) -> Any:
    return json.loads((project / "metrics" / f"{name}.json").read_text())


def costs(project: Path) -> dict[str, dict[str, Any]]:
    """Seconds and peak memory of each stage: of all its runs, but those that were killed, which leave no line."""
    found: dict[str, dict[str, Any]] = {stage: {"seconds": None, "peak_memory_bytes": None} for stage in STAGES}
    for line in (project / ".retort/stage_costs.jsonl").read_text().splitlines():
        row = json.loads(line)
        entry, peak = found[row["stage"]], max(row["peak_memory_bytes"].values())
        entry["seconds"] = round((entry["seconds"] or 0) + row["seconds"], 1)
        entry["peak_memory_bytes"] = max(entry["peak_memory_bytes"] or 0, peak)
    return found


def summary(project: Path) -> dict[str, Any]:
    """Everything that RESULTS.md tells of the run."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project, capture_output=True, text=True, check=True)
    gate = read(project, "gate")
    return {
        "commit": commit.stdout.strip(),
        "dataset": json.loads((project / "data/prepared/dataset.json").read_text())["images"],
        "training": {name.rpartition("/")[2]: read(project, name) for name in TRAININGS},
        "engines": read(project, "engines")["engines"],
        "gate": {"passed": gate["passed"], "targets": gate["targets"], "rules": gate["rules"]},
        "stages": costs(project),
    }


def tables(result: dict[str, Any]) -> str:
    """The tables of RESULTS.md."""
    lines = ["| engine | mAP50-95 | mAP50 | mAP75 | false alarms a picture | parameters | MB | total p50 ms | ratio |"]
    lines.append("| --- |" + " --- |" * 8)
    for name, e in result["engines"].items():
        ratio, alarms = e["latency"]["ratio_to_teacher"], e["false_alarms_per_picture"]
        cells = [
            name,
            *(f"{e[key]:.3f}" for key in ("map50_95", "map50", "map75")),
            f"{alarms['value']:.3f}",
            f"{e['parameters']:,}",
            f"{e['bytes'] / 1e6:.1f}",
            f"{e['latency']['total_ms']['p50']:.1f}",
            f"{ratio['value']:.3f} ({ratio['low']:.3f}–{ratio['high']:.3f})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| engine | rule | value | interval | limit | verdict |", "| --- |" + " --- |" * 5]
    for rule in result["gate"]["rules"]:
        low, high = (("–" if rule[k] is None else f"{rule[k]:.3f}") for k in ("low", "high"))
        value = "–" if rule["value"] is None else f"{rule['value']:.3f}"
        lines.append(
            f"| {rule['target']} | {rule['name']} | {value} | {low}–{high} | {rule['limit']} | {rule['verdict']} |"
        )
    lines += ["", "| stage | minutes | peak memory, MB |", "| --- | --- | --- |"]
    for stage, cost in result["stages"].items():
        minutes = "–" if cost["seconds"] is None else f"{cost['seconds'] / 60:.1f}"
        memory = "–" if cost["peak_memory_bytes"] is None else f"{cost['peak_memory_bytes'] / 1e6:,.0f}"
        lines.append(f"| {stage} | {minutes} | {memory} |")
    return "\n".join(lines)


def main() -> None:
    project, name = Path(sys.argv[1]), sys.argv[2]
    result = summary(project)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(tables(result))


if __name__ == "__main__":
    main()
