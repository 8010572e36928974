"""What our metrics for Great Expectations have in common: they are asked for a table's rows in pandas."""

from __future__ import annotations

from typing import Any

import pandas as pd
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider


class GroupedColumn(TableMetricProvider):
    """A metric of two columns of a table, of which one groups the rows; ``value_keys`` names the second.

    Without a ``metric_name`` it is not registered, its kinds are. Great Expectations hands a metric of one column
    that column; here, all columns are wanted.
    """

    domain_keys = ("batch_id", "column", "row_condition", "condition_parser")

    @staticmethod
    def of_rows(rows: pd.DataFrame, column: str, second: str) -> dict[str, Any]:
        """The metric by group.

        Args:
            rows: that meet the expectation's condition.
            column: the expectation's column.
            second: the other one.
        """
        raise NotImplementedError

    @metric_value(engine=PandasExecutionEngine)
    def _pandas(
        cls,  # noqa: N805 - Great Expectations binds metrics to the class
        execution_engine: PandasExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any],
    ) -> dict[str, Any]:
        rows_only = {key: value for key, value in metric_domain_kwargs.items() if key != "column"}
        rows, _, _ = execution_engine.get_compute_domain(rows_only, domain_type=MetricDomainTypes.TABLE)
        return cls.of_rows(rows, metric_domain_kwargs["column"], metric_value_kwargs[cls.value_keys[0]])
