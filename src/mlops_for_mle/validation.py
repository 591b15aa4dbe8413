"""Pandera schemas that are made from a contract, and the catalog's validator built on them."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.errors import UserError
from mlops_for_mle.records import Window

# Pandera imports Hypothesis where it is installed, to generate data, which nothing here does; it
# brings pytest and trio and takes half a second. None makes that import fail as if it were absent.
_is_hidden = sys.modules.setdefault("hypothesis", None) is None  # type: ignore[arg-type]
try:
    # The first check would import it later, where nothing is hidden.
    import pandera.backends.pandas.builtin_checks  # noqa: F401
    import pandera.pandas as pa
    from pandera.errors import SchemaErrors
finally:
    if _is_hidden:
        del sys.modules["hypothesis"]

__all__ = ["ContractValidator", "SchemaErrors", "contract_schema"]

# From here on two whole numbers can have the same float64.
_EXACT_BELOW = 2.0**53
_SHOWN_CATEGORIES = 12


def contract_schema(contract: Contract, nullable: bool = False) -> pa.DataFrameSchema:
    """The schema of a contract's features and target.

    Args:
        contract: What each column may hold.
        nullable: Whether missing values pass, because somebody else reports them.
    """
    columns = {
        name: pa.Column(checks=_checks(feature), nullable=nullable or feature.is_optional)
        for name, feature in contract.features.items()
    }
    target = contract.target
    if target.task == "classification":
        allowed = ", ".join(f"{one.value} ({one.label})" for one in target.classes)
        checks = [pa.Check.isin(list(target.class_values), error=f"is none of {allowed}")]
    else:
        checks = _range_checks(target.minimum, target.maximum)
    columns[target.column] = pa.Column(checks=checks, nullable=nullable)
    return pa.DataFrameSchema(columns, strict=False)


class ContractValidator:
    """The catalog's ``validator:`` for rows that are about to be trained on.

    Rows that this project ingested always pass; rows that another program wrote to the table
    may not.
    """

    def __init__(self, contract: Mapping[str, Any]) -> None:
        """Take the parameters block ``contract``."""
        self._contract = Contract.model_validate(contract)

    def validate(self, data: Window) -> Window:
        """Give the rows back unchanged.

        Raises:
            UserError: Rows do not fit the contract; names the first of them and how many.
        """
        try:
            contract_schema(self._contract).validate(data.rows, lazy=True)
        except SchemaErrors as errors:
            cases = errors.failure_cases
            first = cases.iloc[0]
            where = ""
            if self._contract.key in data.rows and first["index"] is not None:
                key = data.rows.loc[first["index"], self._contract.key]
                where = f" (first: {self._contract.key} {key})"
            raise UserError(
                f"{data.source}: {len(cases)} value(s) do not fit contract {self._contract.name}"
                f"{where}: {first['column']}: {first['check']}, found {first['failure_case']}. "
                "Correct or delete these rows, or widen the contract."
            ) from None
        return data


def _checks(feature: Feature) -> list[pa.Check]:
    if feature.type == "boolean":
        return [pa.Check.isin([True, False], error="is neither true nor false")]
    if feature.type == "category":
        if feature.unknown == "other":
            return []
        few = ", ".join(map(str, feature.categories[:_SHOWN_CATEGORIES]))
        more = len(feature.categories) - _SHOWN_CATEGORIES
        known = f"{few} and {more} more" if more > 0 else few
        return [
            pa.Check.isin(
                list(feature.categories),
                error=f"is no known category; known: {known} (add it to categories, or set "
                "unknown: other)",
            )
        ]
    if feature.is_time:
        return _time_checks(feature)
    return [
        *_range_checks(feature.minimum, feature.maximum),
        *(_integer_checks() if feature.type == "integer" else []),
    ]


def _time_checks(feature: Feature) -> list[pa.Check]:
    checks = []
    if feature.earliest is not None:
        earliest = pd.Timestamp(feature.earliest)
        checks.append(pa.Check.ge(earliest, error=f"is before {feature.earliest}"))
    if feature.latest is not None:
        latest = pd.Timestamp(feature.latest)
        checks.append(pa.Check.le(latest, error=f"is after {feature.latest}"))
    return checks


def _range_checks(minimum: float | None, maximum: float | None) -> list[pa.Check]:
    checks = [pa.Check(_is_finite, error="is not finite")]
    if minimum is not None:
        checks.append(pa.Check.ge(minimum, error=f"is below {minimum:g}"))
    if maximum is not None:
        checks.append(pa.Check.le(maximum, error=f"is above {maximum:g}"))
    return checks


def _integer_checks() -> list[pa.Check]:
    return [
        pa.Check(_is_whole, error="is no whole number"),
        pa.Check(_is_exact, error="is too large to be kept exactly"),
    ]


def _is_finite(values: "pd.Series[float]") -> "pd.Series[bool]":
    # What is missing is reported as such, or allowed.
    finite = ~np.isinf(values.to_numpy(dtype=np.float64, na_value=np.nan))
    return pd.Series(finite, index=values.index, dtype="bool")


def _is_whole(values: "pd.Series[float]") -> "pd.Series[bool]":
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return pd.Series(numbers == np.trunc(numbers), index=values.index, dtype="bool")


def _is_exact(values: "pd.Series[float]") -> "pd.Series[bool]":
    # Infinity is reported as not finite, once.
    numbers = np.abs(values.to_numpy(dtype=np.float64, na_value=np.nan))
    exact = (numbers < _EXACT_BELOW) | np.isinf(numbers)
    return pd.Series(exact, index=values.index, dtype="bool")
