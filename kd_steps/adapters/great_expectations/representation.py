"""A Great Expectations type of our own: every class of a list stands in enough rows, pictures or boards."""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd
from great_expectations.core.suite_parameters import SuiteParameterDict
from great_expectations.expectations.expectation import ColumnAggregateExpectation

from kd_steps.adapters.great_expectations.table_metric import GroupedColumn


class UnitsByClass(GroupedColumn):
    """How many distinct units (objects, pictures) hold each value of a column."""

    metric_name = "table.units_by_class"
    value_keys = ("unit_column",)

    @staticmethod
    def of_rows(rows: pd.DataFrame, column: str, second: str) -> dict[str, int]:
        return {str(name): int(n) for name, n in rows.groupby(column)[second].nunique().items()}


class ExpectClassesToBeRepresented(ColumnAggregateExpectation):
    """Expect each class of ``classes`` in at least ``min_count`` distinct values of ``unit_column``.

    Every argument is required: Great Expectations does not save one that equals its default.
    """

    classes: list[str] | SuiteParameterDict[str, str]
    unit_column: str
    min_count: int

    metric_dependencies: ClassVar[tuple[str, ...]] = ("table.units_by_class",)
    success_keys: ClassVar[tuple[str, ...]] = ("classes", "unit_column", "min_count")

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: Any = None,
    ) -> dict[str, Any]:
        values = self._get_success_kwargs()
        counts = {name: metrics["table.units_by_class"].get(name, 0) for name in values["classes"]}
        short = {name: n for name, n in counts.items() if n < values["min_count"]}
        return {
            "success": not short,
            "result": {"observed_value": ", ".join(f"{name}: {n}" for name, n in (short or counts).items())},
        }
