"""The report of a run, and its few lines."""

import html
import re
from dataclasses import replace

from mlops_for_mle.contract import Contract
from mlops_for_mle.pipelines.monitoring.reference import BinnedColumn
from mlops_for_mle.pipelines.monitoring.report import write_report
from tests.pipelines.monitoring.examples import (
    ANSWERS,
    CONTRACT,
    WIDTH,
    rated,
    reference,
    run,
    widths,
    window,
)


def test_the_report_shows_every_area_and_escapes_every_name():
    evil = '<script>alert("x")</script> $x_1$ 색'
    features = {evil: {"unit": "<b>"}, "colour & co": {"minimum": 0}, "empty": {}}
    contract = Contract.model_validate(CONTRACT.model_dump() | {"features": features})
    colours = BinnedColumn("category", (1, 2), (evil, "b"), counts=(0, 80, 80))
    empty = BinnedColumn("category", (), counts=(0,), missing=200)
    changed = reference(contract, **{evil: WIDTH, "colour & co": colours, "empty": empty})
    manifest = changed.manifest.model_copy(update={"importance": {evil: 0.25}})
    changed = replace(changed, manifest=manifest)
    columns = {
        evil: widths(5, 5, 10, 180),
        "colour & co": replace(colours, counts=(10, 100, 90)),
        "empty": empty,
        "prediction": ANSWERS,
    }
    data = window(rated=rated(187, 13), columns=columns)

    page = write_report(run(data, changed), changed, {"": data})

    assert "<script" not in page
    assert page.count("<figure") == 4
    assert '<b style="width: 100.0%"' in page
    assert not re.search(r"(src|href)=.(?!#)|url\((?!#)|@import", page)
    words = html.unescape(re.sub("<[^>]+>", "", page))
    for said in (evil, "colour & co", "Performance", "Data quality", "alarm", "contributes 0.25"):
        assert said in words
    assert "<tr><td>no</td><td>187</td><td>13</td><td>0</td></tr>" in page


def test_bins_are_named_by_their_borders_and_those_of_times_by_times():
    day = 86_400.0
    days = BinnedColumn("time", (20_000 * day, 20_010.5 * day), counts=(1, 1, 2))

    assert days.compare_shares(replace(days, counts=(0, 0, 5)))[1:] == [
        ("2024-10-04T00:00 to 2024-10-14T12:00", 0.25, 0),
        ("from 2024-10-14T12:00", 0.5, 1),
    ]
    known = BinnedColumn("class", (), categories=("yes", "no"), counts=(0, 3, 1))
    assert [name for name, *_ in known.compare_shares(known)] == ["other", "yes", "no"]
