"""A Great Expectations type of our own: the mean of each group stays near that of a reference group."""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd
from great_expectations.expectations.expectation import ColumnAggregateExpectation

from kd_steps.adapters.great_expectations.table_metric import GroupedColumn


class MeanAndDeviationByGroup(GroupedColumn):
    """Mean and standard deviation of a column in each group of rows."""

    metric_name = "table.mean_and_deviation_by_group"
    value_keys = ("group_column",)

    @staticmethod
    def of_rows(rows: pd.DataFrame, column: str, second: str) -> dict[str, tuple[float, float]]:
        groups = rows.groupby(second)[column]
        return {str(name): (float(g.mean()), float(g.std(ddof=0))) for name, g in groups if g.notna().any()}


class ExpectGroupMeansToStayNearReference(ColumnAggregateExpectation):
    """Expect each group's mean within ``max_shift_std`` standard deviations of the reference group's.

    The deviation is the reference group's, and at least ``min_std``: pictures from one lamp hardly differ, and a shift
    below what a person sees is no drift. Every argument is required: Great Expectations does not save one that equals
    its default.
    """

    group_column: str
    reference_group: str
    max_shift_std: float
    min_std: float

    metric_dependencies: ClassVar[tuple[str, ...]] = ("table.mean_and_deviation_by_group",)
    success_keys: ClassVar[tuple[str, ...]] = ("group_column", "reference_group", "max_shift_std", "min_std")

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: Any = None,
    ) -> dict[str, Any]:
        values = self._get_success_kwargs()
        groups = dict(metrics["table.mean_and_deviation_by_group"])
        if values["reference_group"] not in groups:
            return {"success": False, "result": {"observed_value": f"no rows of {values['reference_group']!r}"}}
        mean, deviation = groups.pop(values["reference_group"])
        step = max(deviation, values["min_std"])
        shifts = {name: (group_mean - mean) / step for name, (group_mean, _) in groups.items()}
        far = {name: shift for name, shift in shifts.items() if abs(shift) > values["max_shift_std"]}
        shown = ", ".join(f"{name} {groups[name][0]:.1f} ({shift:+.2f} std)" for name, shift in (far or shifts).items())
        return {
            "success": not far,
            "result": {"observed_value": f"{values['reference_group']} {mean:.1f} ± {deviation:.1f}; {shown}"},
        }
