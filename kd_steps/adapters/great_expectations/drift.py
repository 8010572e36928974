"""A Great Expectations type of our own: the mean of each group stays near that of a reference group."""

from __future__ import annotations

from typing import Any, ClassVar

from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import ColumnAggregateExpectation
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider


class MeanAndDeviationByGroup(TableMetricProvider):
    """Mean and standard deviation of a column in each group of rows."""

    metric_name = "table.mean_and_deviation_by_group"
    domain_keys = ("batch_id", "column", "row_condition", "condition_parser")
    value_keys = ("group_column",)

    @metric_value(engine=PandasExecutionEngine)
    def _pandas(
        cls,  # noqa: N805 - Great Expectations binds metrics to the class
        execution_engine: PandasExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any],
    ) -> dict[str, tuple[float, float]]:
        rows_only = {key: value for key, value in metric_domain_kwargs.items() if key != "column"}
        rows, _, _ = execution_engine.get_compute_domain(rows_only, domain_type=MetricDomainTypes.TABLE)
        groups = rows.groupby(metric_value_kwargs["group_column"])[metric_domain_kwargs["column"]]
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
