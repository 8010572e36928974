"""The recipe's numbers: which release of our own arithmetic made a weight or an answer.

A number is raised by hand, in the commit that makes the same data and parameters give other numbers, and by nothing
else; what carries an older number is made anew. ``tests/core/test_recipe.py`` asks what a raised number makes stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Part = Literal["views", "training", "answers", "distillation", "few_shot"]

RECIPE: Mapping[Part, int] = {
    "views": 1,  # what an epoch shows: order, augmentation, mosaic partners, letterbox of closing views, their keys
    "training": 1,  # how a detector learns from labels: fresh weights, label loss, steps, schedules, average
    "answers": 1,  # what a teacher says of a view, what is kept of it, and how the cache packs it
    "distillation": 1,  # how a student learns from answers: terms, their weights over the epochs, calibration, guard
    "few_shot": 1,  # how new classes are added, how their shots are drawn and the old ones held
}


def recipe_of(*parts: Part) -> dict[str, int]:
    """The numbers of some parts of the recipe, by name."""
    return {part: RECIPE[part] for part in parts}
