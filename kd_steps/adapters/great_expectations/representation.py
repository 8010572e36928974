"""A Great Expectations type of our own: every class of a list stands in enough rows, pictures or boards."""

from __future__ import annotations

from typing import Any, ClassVar

from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.core.suite_parameters import SuiteParameterDict
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import ColumnAggregateExpectation
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider


class UnitsByClass(TableMetricProvider):
    """How many distinct units (objects, pictures) hold each value of a column."""

    metric_name = "table.units_by_class"
    domain_keys = ("batch_id", "column", "row_condition", "condition_parser")
    value_keys = ("unit_column",)

    @metric_value(engine=PandasExecutionEngine)
    def _pandas(
        cls,  # noqa: N805 - Great Expectations binds metrics to the class
        execution_engine: PandasExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any],
    ) -> dict[str, int]:
        rows_only = {key: value for key, value in metric_domain_kwargs.items() if key != "column"}
        rows, _, _ = execution_engine.get_compute_domain(rows_only, domain_type=MetricDomainTypes.TABLE)
        counts = rows.groupby(metric_domain_kwargs["column"])[metric_value_kwargs["unit_column"]].nunique()
        return {str(name): int(n) for name, n in counts.items()}


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
