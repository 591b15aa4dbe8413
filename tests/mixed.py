"""A table with every type of column, free names, missing values and text classes."""

from typing import Any

import numpy as np
import pandas as pd

from mlops_for_mle.contract import Contract

MIXED_FEATURES: dict[str, dict[str, Any]] = {
    "월 요금": {"type": "decimal", "unit": "원", "minimum": 0, "missing": "median"},
    "Usage (GB)": {"minimum": 0, "maximum": 1000, "missing": "mean"},
    "select": {"type": "integer", "minimum": 0, "missing": "constant", "constant": 0},
    "is new": {"type": "boolean", "missing": "most_frequent"},
    'the "plan"': {"type": "category", "categories": ["기본", "plus", "it's max"]},
    "channel": {
        "type": "category",
        "categories": ["web", "shop"],
        "unknown": "other",
        "missing": "separate",
    },
    "region code": {"type": "category", "categories": [30, 10, 20], "missing": "most_frequent"},
    "가입일": {"type": "date", "earliest": "2000-01-01"},
    "last seen": {"type": "timestamp", "missing": "median"},
}
MIXED_CONTRACT = Contract.model_validate(
    {
        "name": "churn",
        "table": "Churn 데이터",
        "features": MIXED_FEATURES,
        "target": {
            "column": "left?",
            "response_name": "churn",
            "classes": [{"value": "stays", "label": "유지"}, {"value": "leaves", "label": "해지"}],
        },
    }
)
MIXED_ROW: dict[str, Any] = {
    "월 요금": 59000.5,
    "Usage (GB)": 12.25,
    "select": 3,
    "is new": True,
    'the "plan"': "plus",
    "channel": "fax",
    "region code": 20,
    "가입일": "2025-03-01",
    "last seen": "2025-12-31T22:10:00+09:00",
}
MIXED_REQUIRED = {name: MIXED_ROW[name] for name in ('the "plan"', "가입일")}
MIXED_REGRESSION = Contract.model_validate(
    MIXED_CONTRACT.model_dump()
    | {
        "name": "spend",
        "target": {"column": "next bill", "task": "regression", "response_name": "bill"},
    }
)


TARGET = "left?"


def orders(row_count: int, seed: int = 0) -> pd.DataFrame:
    """Such rows as a CSV file holds them, some of whose columns nothing can or may learn from."""
    rows = mixed_rows(row_count, seed).drop(columns="next bill")
    random = np.random.default_rng(seed)
    price = np.round(random.lognormal(3.5, 0.8, row_count), 2)
    unlearned = {
        "order_id": [f"O-{number:07d}" for number in random.permutation(row_count)],
        "customer no": random.integers(0, row_count, row_count),
        "price": price,
        "zip": [f"{number:03d}" for number in random.integers(1, 61, row_count)],
        "currency": "KRW",
        "refund": np.where(rows[TARGET] == "leaves", price.astype(str), ""),
    }
    return rows.assign(**unlearned).astype("string").fillna("").astype(object)


def mixed_rows(row_count: int = 400, seed: int = 0) -> pd.DataFrame:
    """Rows of the contract in the types in which the table gives them, with both targets."""
    random = np.random.default_rng(seed)

    def gaps(values: "pd.Series[Any]", share: float = 0.1) -> "pd.Series[Any]":
        return values.mask(random.random(row_count) < share)

    plan = random.choice(["기본", "plus", "it's max"], row_count, p=[0.6, 0.3, 0.1])
    channel = random.choice(["web", "shop", "phone"], row_count, p=[0.5, 0.4, 0.1])
    fee = random.integers(50, 990, row_count) * 100.0
    usage = random.gamma(2.0, 20.0, row_count).round(2)
    age = random.integers(0, 4000, row_count)
    joined = np.datetime64("2026-01-01") - age.astype("timedelta64[D]")
    seen = np.datetime64("2026-01-01T00:00:00") - random.integers(0, 30 * 86_400, row_count).astype(
        "timedelta64[s]"
    )
    score = (
        fee / 30_000
        - usage / 40
        - age / 2_000
        + (plan == "plus")
        + random.normal(0, 0.7, row_count)
    )
    return pd.DataFrame(
        {
            "월 요금": gaps(pd.Series(fee)),
            "Usage (GB)": gaps(pd.Series(usage)),
            "select": gaps(pd.Series(random.poisson(2, row_count)).astype("Int64")),
            "is new": gaps(pd.Series(age < 365).astype("boolean")),
            'the "plan"': pd.Series(plan).astype("str"),
            "channel": gaps(pd.Series(channel).astype("str")),
            "region code": gaps(pd.Series(random.choice([30, 10, 20], row_count)).astype("Int64")),
            "가입일": pd.Series(joined).astype("datetime64[us]"),
            "last seen": gaps(pd.Series(seen).astype("datetime64[us]")),
            "left?": pd.Series(np.where(score > 0.6, "leaves", "stays")).astype("str"),
            "next bill": (fee / 1000 + usage + 5 * (plan == "plus")).round(2),
        }
    )
