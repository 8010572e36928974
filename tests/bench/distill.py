"""Distillation against training alone, against Ultralytics' own and against itself with a live teacher, on DeepPCB.

``RETORT_DEEPPCB=… python tests/bench/distill.py`` trains what is missing, arm by arm and seed by seed, each in a
process of its own, and writes ``tests/bench/results/distill.json`` after each; it can be stopped at any moment.

``--arms plain-20,cached-20`` and ``--seeds 0,1,2`` choose; ``--summary`` only writes the file anew; ``--one ARM SEED``
is one run in this process. With ``RETORT_BENCH_SCALE=gpu`` it is run at 640 px with a yolo11m as teacher, over up to
100 epochs, and writes ``distill_gpu.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from distill_setting import SCALE, SCALE_NAME

ROOT = Path(__file__).parents[2]
TIMES = ROOT / "tests/bench/results/distill_time.json"
SEEDS = (0, 1, 2)
# difference → (arm, arm it is measured against)
DIFFERENCES = {
    "cached-plain-20": ("cached-20", "plain-20"),
    "cached-native-20": ("cached-20", "native-20"),
    "cached-native-time": ("cached-25", "native-20"),
    "cached-live-20": ("cached-20", "live-20"),
    "native-plain-20": ("native-20", "plain-20"),
    "plain-default-20": ("plain-20-nb64", "default-20"),
    "precise-default-20": ("precise-20", "default-20"),  # the same trainer in our precision
    "plain-again-20": ("plain-20", "plain-20-again"),  # nothing against nothing: what the method itself lets differ
    "cached-plain-250": ("cached-250", "plain-250"),
    "cached-plain-250-steps": ("cached-250", "plain-250-steps"),
    "cached-plain-time": ("cached-20", "plain-time"),
    "cached-plain-60": ("cached-60", "plain-60"),
    "cached-plain-100": ("cached-100", "plain-100"),
    "cached-native-100": ("cached-100", "native-100"),
    "cached-live-100": ("cached-100", "live-100"),
    "cached-v2-20": ("cached-20-v2", "cached-20"),
    "cached-v16-20": ("cached-20-v16", "cached-20"),
    "cached-plain-20-nb64": ("cached-20-nb64", "plain-20-nb64"),
}
# difference → (least mean, value that the interval is to lie above, or None), points
BARS: dict[str, tuple[float, float | None]] = {
    "cached-plain-20": (6.5, 5.0),
    "cached-plain-60": (3.0, 0.0),
    "cached-plain-250": (10.0, None),
    "cached-plain-time": (2.0, 0.0),
    "cached-native-20": (2.0, 0.0),
}
# difference → the most it may be either way, points
WITHIN = {"cached-live-20": 0.3}
# difference → how the README tells it of the distilled student
TITLES = {
    "cached-plain-20": "over the student alone",
    "cached-plain-time": "over the student alone, trained for as long as distilling takes with its cache",
    "cached-plain-60": "over the student alone, both for 60 epochs",
    "cached-plain-250": "250 labels and 750 pictures without, over the student alone on 250 labels",
    "cached-native-20": "over Ultralytics' native distillation",
    "cached-live-20": "stored answers over a live teacher's",
}


def paired_interval(a: list[float], b: list[float]) -> dict[str, float | int]:
    """Mean of a − b over paired seeds, with Student's 95 % interval."""
    from scipy.stats import t

    differences = [x - y for x, y in zip(a, b, strict=True)]
    n, mean = len(differences), statistics.fmean(differences)
    if n < 2:
        return {"mean": round(mean, 2), "low": -math.inf, "high": math.inf, "n": n}
    half = float(t.ppf(0.975, n - 1)) * statistics.stdev(differences) / math.sqrt(n)
    return {"mean": round(mean, 2), "low": round(mean - half, 2), "high": round(mean + half, 2), "n": n}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The result file: arms, differences in points, and ratios of times."""
    arms: dict[str, Any] = {}
    for run in sorted(runs, key=lambda r: (r["arm"], r["seed"])):
        arm = arms.setdefault(run["arm"], {"epochs": run["epochs"], "labels": run["labels"], "seeds": []})
        arm["seeds"].append(run["seed"])
        for name in ("map50_95", "map50"):
            arm.setdefault(name, []).append(round(100 * run[name], 2))
        for name in ("seconds", "cache_seconds", "peak_memory_bytes", "bytes", "bytes_per_view"):
            if name in run:
                arm.setdefault(name, []).append(run[name])
        for name in ("teacher_forwards", "views", "closing_views"):
            if name in run:
                arm[name] = run[name]
    return {
        "commit": commit(),
        "imgsz": SCALE.imgsz_px,
        "teachers": _teachers(runs),
        "arms": arms,
        "differences": {
            name: paired_interval(*_paired(arms[a], arms[b]))
            for name, (a, b) in DIFFERENCES.items()
            if a in arms and b in arms and set(arms[a]["seeds"]) & set(arms[b]["seeds"])
        },
        "between_seeds_sd": {
            name: round(statistics.stdev(arm["map50_95"]), 2) for name, arm in arms.items() if len(arm["seeds"]) > 1
        },
        "ratios": json.loads(TIMES.read_text())["ratios"] if SCALE_NAME == "cpu" and TIMES.exists() else {},
        "runs": runs,
    }


def _paired(a: dict[str, Any], b: dict[str, Any]) -> tuple[list[float], list[float]]:
    """mAP50-95 of the seeds that both arms have."""
    seeds = [seed for seed in a["seeds"] if seed in b["seeds"]]
    first, second = ([arm["map50_95"][arm["seeds"].index(seed)] for seed in seeds] for arm in (a, b))
    return first, second


def _teachers(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What is known of each teacher that taught a run, by the digest of its weights."""
    known = json.loads(SCALE.result.read_text())["teachers"] if SCALE.result.exists() else {}
    note = SCALE.scratch / "teacher/sidecar.json"
    if note.exists():
        told = json.loads(note.read_text())
        known[told["sha256"]] = {"model": told["model"], **told["training"]}
    taught = {run["teacher_sha256"] for run in runs if "teacher_sha256" in run}
    return {sha256: told for sha256, told in known.items() if sha256 in taught}


def commit() -> str:
    """The commit that is checked out."""
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def stored_runs() -> list[dict[str, Any]]:
    """The runs that are done."""
    return json.loads(SCALE.result.read_text())["runs"] if SCALE.result.exists() else []


def missing(arms: list[str], seeds: list[int], runs: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """What of some arms and seeds has no run yet, arm by arm and seed by seed."""
    done = {(run["arm"], run["seed"]) for run in runs}
    return [(name, seed) for name in arms for seed in seeds if (name, seed) not in done]


def write(runs: list[dict[str, Any]]) -> None:
    """Write the result file; a half-written one never takes the place of a whole one.

    Raises:
        ValueError: an arm has two runs of a seed, which would count as two.
    """
    kept = [(run["arm"], run["seed"]) for run in runs]
    if twice := {one for one in kept if kept.count(one) > 1}:
        raise ValueError(f"two runs of the same seed: {sorted(twice)}")
    SCALE.result.parent.mkdir(parents=True, exist_ok=True)
    temporary = SCALE.result.with_suffix(".tmp")
    told = json.dumps(summary(runs), indent=1).replace("-Infinity", "null").replace("Infinity", "null")
    temporary.write_text(told + "\n")
    temporary.replace(SCALE.result)


def tables(found: dict[str, Any]) -> str:
    """What RESULTS.md shows, as Markdown: what the arms reach, what they cost, and how they differ."""
    lines = ["| arm | seeds | mAP50-95 | mAP50 |", "| --- | --- | --- | --- |"]
    for name, arm in found["arms"].items():
        scores = [", ".join(f"{score:.1f}" for score in arm[key]) for key in ("map50_95", "map50")]
        lines.append(f"| `{name}` | {', '.join(map(str, arm['seeds']))} | {' | '.join(scores)} |")
    lines += ["", "| arm | training, s | cache, s | teacher forwards | cache, MB | peak memory, GB |"]
    lines.append("| --- |" + " --- |" * 5)
    for name, arm in found["arms"].items():
        times = [", ".join(f"{s:,.0f}" for s in arm.get(key, [])) or "–" for key in ("seconds", "cache_seconds")]
        stored = f"{max(arm['bytes']) / 1e6:,.0f}" if "bytes" in arm else "–"
        peak = f"{max(arm['peak_memory_bytes']) / 1e9:.2f}"
        lines.append(f"| `{name}` | {' | '.join([*times, format(arm['teacher_forwards'], ','), stored, peak])} |")
    lines += ["", "| difference, points | mean | 95 % interval | seeds | bar |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| `{name}` | {_told(name, d)} |" for name, d in found["differences"].items()]
    return "\n".join(lines)


def headline(found: dict[str, Any]) -> str:
    """What the README shows: the differences that have a bar, as Markdown."""
    lines = ["| the distilled student | points | 95 % interval | seeds | bar |", "| --- | --- | --- | --- | --- |"]
    differences = found["differences"]
    known = {name: title for name, title in TITLES.items() if name in differences}
    lines += [f"| {title} | {_told(name, differences[name])} |" for name, title in known.items()]
    return "\n".join(lines)


def _told(name: str, difference: dict[str, Any]) -> str:
    interval = f"{difference['low']:+.1f} to {difference['high']:+.1f}" if difference["n"] > 1 else "–"
    return f"{difference['mean']:+.1f} | {interval} | {difference['n']} | {verdict(name, difference)}"


def verdict(name: str, difference: dict[str, Any]) -> str:
    """What is asked of a difference, and whether it is met."""
    if name not in BARS and name not in WITHIN:
        return "–"
    mean, low, high = (difference[key] for key in ("mean", "low", "high"))
    if name in BARS:
        least, above = BARS[name]
        asked = f"at least {least:+.1f}" + (f", interval above {above:+.1f}" if above is not None else "")
        met = mean >= least and (above is None or low > above)
    else:
        asked, met = f"within {WITHIN[name]}", abs(mean) <= WITHIN[name]
    if difference["n"] < 3:
        return f"{asked}: too few seeds to say"
    if met and name in WITHIN and max(-low, high) > WITHIN[name]:
        return f"{asked}: met in the mean, the interval is too wide to prove it"
    return f"{asked}: {'met' if met else 'missed'}"


def main() -> None:
    """Run what is missing."""
    from distill_arms import ARMS, run_arm

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", default=",".join(ARMS), help="which arms, in this order")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--summary", action="store_true", help="write the result file anew and print its tables")
    parser.add_argument("--one", nargs=2, metavar=("ARM", "SEED"), help="one run, in this process")
    asked = parser.parse_args()
    if asked.one:
        name, seed = asked.one[0], int(asked.one[1])
        done = run_arm(ARMS[name], seed, SCALE.scratch / f"{name}-{seed}")
        (SCALE.scratch / f"{name}-{seed}.json").write_text(json.dumps({"arm": name, "commit": commit(), **done}))
        return
    runs = stored_runs()
    write(runs)
    if asked.summary:
        found = summary(runs)
        print(tables(found), headline(found), sep="\n\n")
        return
    arms, seeds = asked.arms.split(","), [int(seed) for seed in asked.seeds.split(",")]
    while todo := missing(arms, seeds, stored_runs()):  # asked anew, as another process may have done some by now
        name, seed = todo[0]
        subprocess.run([sys.executable, __file__, "--one", name, str(seed)], check=True)
        write([*stored_runs(), json.loads((SCALE.scratch / f"{name}-{seed}.json").read_text())])
        print(f"{name}, seed {seed}: done", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from kd_steps.stage_entry import set_environment

    set_environment(ROOT)
    main()
