"""Monitoring over millions of predictions, a fifth of them with true labels.

One prediction and one label come from the API; the rest are their likes, made in SQL, so that they
have whatever columns the tables of a checkout have.
"""

from argparse import Namespace
from functools import partial

from benchmarks.common import Case, Checkout, Run, main
from benchmarks.ingestion import FEATURES

PREDICTIONS = """
INSERT INTO predictions SELECT likeness.* FROM predictions AS one
CROSS JOIN generate_series(1, CAST(:rows AS bigint) - 1) AS number
CROSS JOIN LATERAL jsonb_populate_record(one, jsonb_build_object(
    'prediction_id', CAST(lpad(to_hex(number), 32, '0') AS uuid),
    'created_at', one.created_at - number * interval '1 millisecond',
    'prediction', number % 3,
    'features', jsonb_build_object(
        'sepal_length', round((4.8 + 2 * random())::numeric, 2),
        'sepal_width', round((2.6 + random())::numeric, 2),
        'petal_length', round((1.8 + 4 * random())::numeric, 2),
        'petal_width', round((0.2 + 2 * random())::numeric, 2)))) AS likeness
"""
LABELS = """
INSERT INTO feedback SELECT likeness.* FROM feedback AS one CROSS JOIN predictions
CROSS JOIN LATERAL jsonb_populate_record(one, jsonb_build_object(
    'prediction_id', predictions.prediction_id, 'target', predictions.prediction)) AS likeness
WHERE predictions.prediction_id <> one.prediction_id AND random() < 0.2
"""


def cases(sides: list[Checkout], options: Namespace) -> list[Case]:
    for side in sides:
        side.deploy("iris")
        if side.sql("SELECT count(*) FROM predictions") != options.rows:
            fill(side, options.rows)
    sizes = (1_000, options.rows)
    return [Case(f"{rows:,} predictions", rows, partial(monitor, rows)) for rows in sizes]


def fill(side: Checkout, rows: int) -> None:
    """As many predictions as wanted, and labels for a fifth of them."""
    print(f"{side.name}: making {rows:,} predictions …", flush=True)
    side.sql("TRUNCATE predictions, feedback CASCADE")
    with side.serve("iris") as server:
        row = dict.fromkeys(FEATURES, 3.0)
        prediction_id = server.wait_until_answering("/predict", row)["prediction_id"]
        side.wait_for_rows("predictions", 1)
        server.ask("/feedback", {"prediction_id": prediction_id, "label": 0})
        side.wait_for_rows("feedback", 1)
    side.sql(PREDICTIONS, rows=rows)
    side.sql(LABELS)
    side.sql("VACUUM ANALYZE predictions, feedback")


def monitor(rows: int, side: Checkout) -> Run:
    """The newest rows as one window."""
    parameters = f"monitoring.window.rows={rows}"
    run = side.kedro("run", "--pipeline", "monitoring", "--params", parameters)
    newest = "SELECT prediction_count FROM monitoring_runs ORDER BY id DESC LIMIT 1"
    assert side.sql(newest) == rows
    return run


if __name__ == "__main__":
    main(__doc__, {"--rows": 5_000_000}, cases)
