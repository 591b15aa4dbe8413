"""Makes the example table data/01_raw/subscriptions.csv: who ends a video subscription.

    python scripts/make_subscriptions.py [--rows 600] [--seed 7] [--output FILE]

The people are invented. The columns are what such a table has in practice: numbers, categories,
dates, gaps, a customer number that says nothing, and a date (해지일) that is only known after the
subscription has ended, so that a model must not be given it.
"""

import argparse
import csv
import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from random import Random

OUTPUT = Path(__file__).parents[1] / "data" / "01_raw" / "subscriptions.csv"
TODAY = date(2026, 6, 30)
COLUMNS = (
    "고객번호",
    "나이",
    "성별",
    "지역",
    "요금제",
    "월 요금",
    "할인율",
    "자동결제",
    "가입일",
    "마지막 접속",
    "월 시청시간",
    "문의 횟수",
    "해지일",
    "해지",
)
REGIONS = {
    "서울": 30,
    "경기": 28,
    "부산": 12,
    "대구": 8,
    "인천": 8,
    "광주": 5,
    "대전": 5,
    "제주": 4,
}
PLANS = {"베이직": 9_500, "스탠다드": 13_500, "프리미엄": 17_000}
DISCOUNTS = ("0.00", "0.05", "0.10", "0.20")


def make_rows(row_count: int, seed: int) -> Iterator[tuple[str, ...]]:
    """Draw customers; the same seed gives the same ones on every version of Python."""
    random = Random(seed)  # noqa: S311  (invented people need no cryptography)
    for number in range(1, row_count + 1):
        yield _customer(random, number)


def _customer(random: Random, number: int) -> tuple[str, ...]:
    age = 18 + int(62 * random.random() ** 1.4)
    region = _weighted(random, REGIONS)
    plan = _weighted(random, {"베이직": 45, "스탠다드": 35, "프리미엄": 20})
    discount = DISCOUNTS[int(len(DISCOUNTS) * random.random() ** 1.6)]
    pays_by_itself = random.random() < 0.62
    subscribed = TODAY - timedelta(days=30 + int(1_400 * random.random()))
    idle_days = int(90 * random.random() ** 3)
    hours = max(0.0, 24 + 9 * _bell(random) - 0.25 * idle_days)
    questions = int(6 * random.random() ** 2.5)
    tendency = (
        -2.2
        + 0.055 * idle_days
        - 0.06 * (hours - 20)
        + 0.65 * questions
        - 1.3 * pays_by_itself
        - 4.0 * float(discount)
        + {"베이직": 0.5, "스탠다드": 0.0, "프리미엄": -0.4}[plan]
        - 0.0009 * (TODAY - subscribed).days
    )
    has_left = random.random() < 1 / (1 + math.exp(-tendency))
    left = TODAY - timedelta(days=int(28 * random.random()))
    last_seen = datetime.combine(
        TODAY - timedelta(days=idle_days),
        time(int(24 * random.random()), int(60 * random.random())),
    )
    return (
        f"C{number:05d}",
        "" if random.random() < 0.04 else str(age),
        "" if random.random() < 0.06 else ("여" if random.random() < 0.52 else "남"),
        region,
        plan,
        str(round(PLANS[plan] * (1 - float(discount)))),
        discount,
        "true" if pays_by_itself else "false",
        subscribed.isoformat(),
        "" if random.random() < 0.05 else f"{last_seen:%Y-%m-%d %H:%M}",
        "" if random.random() < 0.08 else f"{hours:.1f}",
        str(questions),
        left.isoformat() if has_left else "",
        "예" if has_left else "아니오",
    )


def _weighted(random: Random, weights: dict[str, int]) -> str:
    place = sum(weights.values()) * random.random()
    for name, weight in weights.items():
        place -= weight
        if place < 0:
            return name
    return next(reversed(weights))


def _bell(random: Random) -> float:
    """Roughly a standard normal number, from uniform ones, which every version draws alike."""
    return sum(random.random() for _ in range(12)) - 6


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with options.output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(make_rows(options.rows, options.seed))


if __name__ == "__main__":
    main()
