"""References and windows for the tests of monitoring."""

from datetime import UTC, datetime
from typing import Any

from mlops_for_mle.contract import Contract
from mlops_for_mle.records_monitoring import (
    CategoryColumn,
    ColumnCounts,
    NumericColumn,
    ReferenceColumn,
    ReferenceProfile,
    WindowCounts,
)

CONTRACT = Contract.model_validate(
    {
        "name": "small",
        "table": "small_data",
        "features": {"width": {"minimum": 0, "maximum": 10, "unit": "cm"}},
        "target": {
            "column": "kind",
            "response_name": "kind",
            "classes": [{"value": 0, "label": "no"}, {"value": 1, "label": "yes"}],
        },
    }
)

LINE = Contract.model_validate(
    {
        "name": "line",
        "table": "line_data",
        "features": {"width": {}},
        "target": {"column": "y", "task": "regression", "response_name": "y"},
    }
)


def reference(contract: Contract = CONTRACT, **changes: Any) -> ReferenceProfile:
    """Four bins of 40 rows each, both classes equally often."""
    is_classifier = bool(contract.target.classes)
    column = NumericColumn("width", (1.0, 2.0, 3.0), 2.0, 1.0, 0.0, 10.0)
    answers = NumericColumn("prediction", (5.0,), 5.0, 2.0)
    facts: dict[str, Any] = {
        "contract": contract,
        "release": "small-v1-0123abcd",
        "model_version": 1,
        "metrics": {"validation_accuracy": 0.95, "validation_rmse": 2.0},
        "row_count": 160,
        "watermark": 160,
        "features": (ReferenceColumn(column, (40, 40, 40, 40)),),
        "prediction": ReferenceColumn(CategoryColumn("prediction", ("no", "yes")), (80, 80))
        if is_classifier
        else ReferenceColumn(answers, (80, 80)),
        "class_codes": (0.0, 1.0) if is_classifier else (),
        "target_scale": 1.0 if is_classifier else 2.0,
    }
    return ReferenceProfile(**facts | changes)


def window(
    counts: tuple[int, ...] = (50, 50, 50, 50),
    answers: tuple[int, ...] = (100, 100),
    mean: float = 2.0,
    **changes: Any,
) -> WindowCounts:
    """Two hundred predictions in two hours that look like the reference."""
    facts: dict[str, Any] = {
        "row_count": sum(answers),
        "window_from": datetime(2026, 5, 1, tzinfo=UTC),
        "window_to": datetime(2026, 5, 1, 2, tzinfo=UTC),
        "age_seconds": 60.0,
        "duplicates": 0,
        "features": {"width": ColumnCounts(counts, mean=mean, deviation=1.0, least=0, largest=4)},
        "prediction": ColumnCounts(answers),
    }
    return WindowCounts(**facts | changes)
