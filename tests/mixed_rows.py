"""A table of invented orders with columns of every kind, as a CSV file would hold it."""

from typing import Any

import numpy as np
import pandas as pd

TARGET = "returned"


def mixed_rows(row_count: int, seed: int = 0) -> pd.DataFrame:
    """Twenty columns and the target, of which some are gaps, identifiers, codes, dates or leaks."""
    random = np.random.default_rng(seed)
    ordered = pd.Timestamp("2024-01-01") + pd.to_timedelta(
        random.integers(0, 730 * 24 * 60, row_count), "min"
    )
    born = pd.Timestamp("1950-01-01") + pd.to_timedelta(random.integers(0, 20_000, row_count), "D")
    price = np.round(random.lognormal(3.5, 0.8, row_count), 2)
    items = random.integers(1, 12, row_count)
    delay = np.round(random.gamma(2.0, 1.5, row_count), 1)
    is_gift = random.random(row_count) < 0.15
    size = random.choice(["S", "M", "L", "XL"], row_count, p=[0.2, 0.4, 0.3, 0.1])
    channel = random.choice(["앱", "웹", "매장"], row_count, p=[0.5, 0.4, 0.1])
    rating = random.integers(1, 6, row_count)
    tendency = -1.2 + 0.5 * delay - 0.6 * (rating - 3) + (size == "XL") - 0.8 * is_gift
    returned = random.random(row_count) < 1 / (1 + np.exp(-tendency))
    text: dict[str, Any] = {
        "order_id": [f"O-{number:07d}" for number in random.permutation(row_count)],
        "customer no": random.integers(0, row_count, row_count),
        "ordered at": ordered.strftime("%Y-%m-%d %H:%M"),
        "birth date": _gaps(born.strftime("%Y-%m-%d"), 0.06, random),
        "price": price,
        "items": items,
        "weight (kg)": _gaps(np.round(random.gamma(2.0, 0.7, row_count), 3), 0.08, random),
        "delay_days": _gaps(delay, 0.03, random),
        "Rating": rating,
        "size": _gaps(size, 0.02, random),
        "channel 경로": channel,
        "zip": [f"{number:03d}" for number in random.integers(1, 61, row_count)],
        "city": [f"city {number}" for number in np.minimum(random.geometric(0.05, row_count), 90)],
        "gift": np.where(is_gift, "true", "false"),
        "select": random.normal(0, 1, row_count),
        'the "quoted"': np.round(random.uniform(-50, 50, row_count), 4),
        "temperature": np.round(random.normal(12, 9, row_count), 1),
        "flag": random.integers(0, 2, row_count),
        "currency": "KRW",
        "refund": np.where(returned, price, ""),
        TARGET: np.where(returned, "yes", "no"),
    }
    return pd.DataFrame(text).astype(str)


def _gaps(values: Any, share: float, random: np.random.Generator) -> Any:
    return np.where(random.random(len(values)) < share, "", np.asarray(values).astype(str))
