"""Parts of the rows: how they are told apart, counted in the database, and judged."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.pipelines.monitoring.checks import MonitoringRun, judge
from mlops_for_mle.pipelines.monitoring.counting import Window
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.reference import DeployedRelease, describe_reference
from tests.mixed import MIXED_CONTRACT, mixed_rows
from tests.pipelines.monitoring.examples import rated, reference, widths, window
from tests.pipelines.monitoring.traffic import Look, Traffic, look, trained_on
from tests.releases import mixed_release

START = datetime(2026, 5, 1, tzinfo=UTC)


def judged(north: Window, south: Window) -> MonitoringRun:
    """Judge a whole that looks like the reference, and two parts of it."""
    columns = dict.fromkeys(("", "region=north", "region=south"), reference().columns)
    windows = {"": window(rated=rated(190, 10)), "region=north": north, "region=south": south}
    return judge(replace(reference(), columns_by_segment=columns), windows)


def test_the_worst_segment_is_named_by_its_labels_else_by_its_drift_and_is_a_warning():
    run = judged(window(rated=rated(98, 2)), window(rated=rated(60, 40)))

    assert run.status == "warning"
    assert "The worst segment is region=south: live accuracy is 0.6 (0.5" in run.reasons[-1]
    assert not any(one.is_alarm for one in run.metrics), "so no segment starts a retraining"
    measured = {one.segment: one.value for one in run.metrics if one.metric == "accuracy"}
    assert measured == {"": 0.95, "region=north": 0.98, "region=south": 0.6}

    drifted = judged(window(), window(widths(5, 5, 20, 170)))
    assert drifted.status == "warning"
    assert "The worst segment is region=south: drift of feature width" in drifted.reasons[-1]
    few = window(widths(1, 1, 2, 17), answers=(10, 11))
    assert judged(window(), few).status == "healthy", "as few rows as this are not judged"


def test_what_tells_nothing_apart_is_refused():
    rows = mixed_rows(50)[list(MIXED_CONTRACT.columns)]
    deployed = DeployedRelease(trained_on(mixed_release(1), rows), rows, rows)
    with pytest.raises(ConfigurationError, match=r"가입일 must be .* a date or time by its year"):
        describe_reference(deployed, MonitoringOptions.model_validate({"segments": ["가입일"]}))


def observed(url: str, *segments: Any) -> Look:
    rows = mixed_rows(400, seed=1)[list(MIXED_CONTRACT.columns)]
    options = {"window": {"rows": 10_000}, "segments": list(segments)}
    return look(url, mixed_release(1), rows, **options)


def test_segments_are_counted_as_pandas_counts_them_or_are_empty(database_url):
    empty = observed(database_url, "channel")
    parts = ("", "channel=phone", "channel=shop", "channel=web")
    assert {part: one.row_count for part, one in empty.windows.items()} == dict.fromkeys(parts, 0)
    assert empty.run.status == "insufficient"
    source = mixed_rows(300, seed=3)[list(MIXED_CONTRACT.columns)]
    traffic = Traffic(database_url, mixed_release(1), seed=5, source=source, start=START)
    served = traffic.serve(400, labelled=0.5)
    rows, day = served.rows, {"feature": "가입일", "by": "weekday"}
    hour = {"feature": "last seen", "by": "hour"}
    seen = observed(database_url, "channel", "region code", day, hour)

    expected = {
        "": pd.Series(data=True, index=rows.index),
        **{f"channel={one}": rows["channel"] == one for one in ("web", "shop", "phone")},
        **{f"region code={one}": rows["region code"] == one for one in (10, 20, 30)},
        **{f"가입일 weekday={one + 1}": rows["가입일"].dt.day_of_week == one for one in range(7)},
        "last seen hour=7": rows["last seen"].dt.hour == 7,
    }
    truth = rows["left?"].map(MIXED_CONTRACT.target.codes).to_numpy()
    hits = served.predictions == truth
    edges = seen.reference.columns["Usage (GB)"].edges
    for name, found in expected.items():
        which = found.fillna(value=False).to_numpy(dtype=bool)
        part, told = seen.windows[name], which & served.is_labelled
        usage, values = part.columns["Usage (GB)"], rows["Usage (GB)"][which].dropna()
        assert part.row_count == which.sum() == sum(part.columns["prediction"].counts), name
        assert usage.missing == which.sum() - len(values)
        bins = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
        assert list(usage.counts) == bins.tolist()
        assert part.labelled_count == told.sum()
        right = sum(one.count for one in part.rated if one.predicted == one.actual)
        assert right == hits[told].sum()
    known = (mixed_rows(400, seed=1)["channel"] == "web").sum()
    assert sum(seen.reference.columns_by_segment["channel=web"]["prediction"].counts) == known
    assert f"<summary>channel=web: {seen.windows['channel=web'].row_count}" in seen.report
