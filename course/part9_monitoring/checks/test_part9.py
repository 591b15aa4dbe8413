"""What the programs of part 9 must do: tell drift from chance, wait for labels, replace with care."""

import json
import shutil
from math import log

import pytest

from course.hints import hint

LIMITS = {
    "bins": 10,
    "rows": 50,
    "labelled": 0.8,
    "drift": 0.25,
    "accuracy": 0.75,
    "windows": 3,
    "alarms": 2,
}


def sample(seed, rows, shift=0.0):
    """Values of one feature; an instrument that is wrong by `shift` standard deviations."""
    import numpy as np

    return np.random.default_rng(seed).normal(shift, 1, rows)


def machines(day, rows=150, changed=False):
    """One day of predictions of a model that knows the old world, and what becomes true."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(day)
    made = pd.DataFrame(
        {"temperature": random.normal(70, 8, rows), "vibration": random.normal(4, 1, rows)}
    )
    old = 0.4 * (made["temperature"] - 70) + 2.4 * (made["vibration"] - 4)
    new = old - 4.8 * (made["vibration"] - 4) if changed else old
    fails = (new + random.logistic(size=rows) > 0).astype(int)
    return made.assign(
        fails=fails,
        day=day,
        prediction_id=1000 * day + made.index,
        probability=1 / (1 + np.exp(-old)),
        model=1,
    )


def told(rows, days_later=0):
    """The labels of some rows."""
    labels = rows.assign(told_on=rows["day"] + days_later)
    return labels[["prediction_id", "told_on", "fails"]]


def frame(columns, *rows):
    import pandas as pd

    return pd.DataFrame(list(rows), columns=columns.split())


def predictions(*numbers):
    return frame("prediction_id", *((number,) for number in numbers))


def labels(*rows):
    return frame("prediction_id told_on fails", *rows)


def test_each_bin_holds_as_much_of_the_reference(learner):
    with hint(
        "find_edges() gives the nine quantiles between ten bins: numpy.quantile of linspace(0, 1, bins + 1), without the two ends.",
        "find_edges()는 구간 열 개 사이의 분위수 아홉 개를 내놓습니다. linspace(0, 1, bins + 1)의 numpy.quantile에서 양 끝을 빼십시오.",
    ):
        reference = sample(1, 1000)
        edges = learner.measures.find_edges(reference, 10)
        assert len(edges) == 9
        assert learner.measures.count(reference, edges).tolist() == [100] * 10


def test_a_value_beyond_all_that_was_seen_is_counted(learner):
    import numpy as np

    with hint(
        "The outer two bins have no end: a value far beyond the reference lies in one of them, and an "
        "empty bin is counted as 0. numpy.histogram would drop such values.",
        "양 끝 구간은 열려 있습니다. 기준 표본을 훨씬 벗어난 값도 그 안에 들어가고, 빈 구간은 0으로 셉니다. "
        "numpy.histogram은 그런 값을 버립니다.",
    ):
        counts = learner.measures.count(np.array([-1e9, 2.0, 1e9, 1e9]), np.array([1.0, 3.0, 5.0]))
        assert counts.tolist() == [1, 1, 0, 2]
    with hint(
        "count() must give a number for each of len(edges) + 1 bins, also where the last ones are empty: minlength of "
        "numpy.bincount.",
        "count()는 마지막 구간이 비어 있어도 len(edges) + 1개 구간의 개수를 모두 내놓아야 합니다. numpy.bincount의 minlength를 쓰십시오.",
    ):
        assert learner.measures.count(np.array([2.0]), np.array([1.0, 3.0, 5.0])).size == 4


def test_a_feature_that_is_mostly_one_value_has_fewer_bins(learner):
    import numpy as np

    with hint(
        "Where many values are equal, several quantiles are, too: give each edge once (numpy.unique).",
        "같은 값이 많으면 분위수도 여러 개가 같아집니다. 경계는 한 번씩만 내놓으십시오(numpy.unique).",
    ):
        edges = learner.measures.find_edges(np.array([0.0] * 80 + [1, 2, 3, 4] * 5), 10)
        assert edges.tolist() == sorted(set(edges.tolist()))
        assert len(edges) == 3


def test_the_index_is_that_of_the_formula(learner):
    import numpy as np

    with hint(
        "The sum over the bins of (c - r) * ln(c / r), where r and c are shares, not counts.",
        "구간마다 (c - r) * ln(c / r)을 더합니다. r과 c는 개수가 아니라 비율입니다.",
    ):
        one, other = np.array([4000.0, 6000.0]), np.array([700.0, 300.0])
        expected = 0.3 * log(0.7 / 0.4) + -0.3 * log(0.3 / 0.6)
        assert learner.measures.stability_index(one, other) == pytest.approx(expected, rel=0.01)
        assert learner.measures.stability_index(one, one) == 0
        same = learner.measures.stability_index(other, one)
        assert same == pytest.approx(expected, rel=0.01)


def test_an_empty_bin_has_an_index(learner):
    import numpy as np

    with hint(
        "The logarithm of 0 is not finite: add half a row to every bin of both samples before you "
        "make shares of them.",
        "0의 로그는 유한하지 않습니다. 비율을 구하기 전에 두 표본의 모든 구간에 행 반 개씩을 더하십시오.",
    ):
        counts = np.array([50.0, 50.0, 0.0]), np.array([0.0, 50.0, 50.0])
        index = learner.measures.stability_index(*counts)
        share, least = 50.5 / 101.5, 0.5 / 101.5
        assert index == pytest.approx(2 * (share - least) * log(share / least))


def test_a_small_sample_alone_is_no_drift(learner):
    with hint(
        "Two samples of one world must have a drift near 0, however small they are: take away (bins - 1) "
        "* (1 / rows of one + 1 / rows of the other), and give nothing below 0.",
        "같은 세상에서 뽑은 두 표본은 아무리 작아도 드리프트가 0에 가까워야 합니다. "
        "(구간 수 - 1) * (1 / 한쪽의 행 수 + 1 / 다른 쪽의 행 수)를 빼고, 0보다 작으면 0으로 하십시오.",
    ):
        by_chance = learner.measures.by_chance(sample(1, 10) ** 0 * 40, sample(1, 10) ** 0 * 5)
        assert by_chance == pytest.approx(9 * (1 / 400 + 1 / 50))
        found = [
            learner.measures.drift(sample(seed, 400), sample(1000 + seed, 50), 10)
            for seed in range(100)
        ]
        assert min(found) == 0
        assert sum(found) / 100 < 0.1
        assert sum(one > 0.25 for one in found) <= 10


def test_a_wrong_instrument_is_drift(learner):
    with hint(
        "Values that are larger by a standard deviation must have a drift far above 0.25, over the bins of the "
        "reference.",
        "값이 표준편차만큼 커지면, 기준 표본으로 정한 구간에서 드리프트는 0.25를 훨씬 넘어야 합니다.",
    ):
        both, mine = (sample(1, 400), sample(2, 150, shift=1)), learner.measures
        found, edges = mine.drift(*both, 10), mine.find_edges(both[0], 10)
        assert found > 0.5
        counts = [mine.count(one, edges) for one in both]
        assert found == pytest.approx(mine.stability_index(*counts) - mine.by_chance(*counts))


def test_nothing_is_known_of_an_empty_sample(learner):
    with hint(
        "An empty sample has no drift, neither 0 nor infinity: raise ValueError with a sentence.",
        "빈 표본에는 드리프트가 없습니다. 0도 무한대도 아니므로 설명이 있는 ValueError를 일으키십시오.",
    ):
        for pair in ((sample(1, 100), sample(1, 0)), (sample(1, 0), sample(1, 100))):
            with pytest.raises(ValueError, match=r"\w"):
                learner.measures.drift(*pair, 10)


def test_a_prediction_without_a_label_waits(learner):
    with hint(
        "join_labels() must give the labelled predictions with `fails` as a whole number, and count the others as "
        "pending. A prediction whose temperature is missing has a label, too: dropna(subset='fails').",
        "join_labels()는 레이블이 있는 예측을 정수 `fails`와 함께 내놓고, 나머지는 pending으로 세어야 합니다. 온도가 비어 있는 "
        "예측에도 레이블은 있습니다: dropna(subset='fails').",
    ):
        joined = learner.measures.join_labels(predictions(1, 2, 3), labels((3, 5, 0), (1, 5, 1)))
        assert joined.rows["prediction_id"].tolist() == [1, 3]
        assert joined.rows["fails"].tolist() == [1, 0]
        assert joined.rows["fails"].dtype.kind == "i"
        assert (joined.pending, joined.unknown) == (1, 0)
        unmeasured = predictions(1).assign(temperature=float("nan"))
        assert len(learner.measures.join_labels(unmeasured, labels((1, 5, 1))).rows) == 1


def test_a_label_of_a_prediction_that_nobody_made_is_counted(learner):
    with hint(
        "A label whose prediction_id is unknown makes no row; `unknown` counts such labels, so that "
        "somebody sees it when all of them go to the wrong address.",
        "prediction_id를 알 수 없는 레이블은 행이 되지 않습니다. 모든 레이블이 엉뚱한 곳으로 갈 때 알아차릴 수 있도록 "
        "`unknown`이 그 수를 셉니다.",
    ):
        joined = learner.measures.join_labels(predictions(1), labels((1, 5, 1), (7, 5, 1)))
        assert joined.rows["prediction_id"].tolist() == [1]
        assert (joined.pending, joined.unknown) == (0, 1)


def test_a_correction_replaces_the_label(learner):
    with hint(
        "The label with the latest told_on counts, wherever it stands in the file; of two of one day "
        "the later line. A prediction is one row, however often its label was told.",
        "파일의 어디에 있든 told_on이 가장 늦은 레이블을 쓰고, 같은 날이면 뒤의 줄을 씁니다. "
        "레이블이 몇 번 왔든 예측 하나는 한 행입니다.",
    ):
        told_twice = labels((1, 9, 1), (1, 5, 0), (2, 6, 0), (2, 6, 1), (3, 4, 1))
        joined = learner.measures.join_labels(predictions(1, 2, 3), told_twice)
        assert joined.rows["fails"].tolist() == [1, 1, 1]


def test_no_labels_at_all_are_no_error(learner, tmp_path):
    import pandas as pd

    path = tmp_path / "labels.csv"
    path.write_text("prediction_id,told_on,fails\n")
    with hint(
        "On the first day there are no labels: a file with a header only. All predictions wait then.",
        "첫날에는 레이블이 없어서 파일에 머리글만 있습니다. 그때는 모든 예측이 기다립니다.",
    ):
        joined = learner.measures.join_labels(predictions(1, 2), pd.read_csv(path))
        assert (len(joined.rows), joined.pending, joined.unknown) == (0, 2, 0)
        found = learner.monitor.judge(machines(0), machines(1), pd.read_csv(path), LIMITS)
        assert found["labelled"] == 0
        assert found["drift"] < 0.25
        assert pd.isna(found["accuracy"])
        assert pd.isna(found["calibration"])


def test_the_accuracy_is_the_share_of_right_answers(learner):
    with hint(
        "A probability of 0.5 or more says that the machine fails; the accuracy is the share of rows where that is so.",
        "확률이 0.5 이상이면 고장이라는 답입니다. 정확도는 그 답이 맞은 행의 비율입니다.",
    ):
        rows = frame("probability fails", (0.9, 1), (0.5, 1), (0.4, 0), (0.2, 1), (0.6, 0))
        assert learner.measures.accuracy(rows) == pytest.approx(0.6)


def test_what_was_promised_is_compared_with_what_came_true(learner):
    rows = frame("probability fails", (0.2, 0), (0.3, 1), (0.3, 0), (0.4, 0), (0.9, 0), (0.7, 1))
    with hint(
        "calibration() has a row for each bin that holds predictions: the mean probability, the share "
        "that failed, the number of rows. calibration_error() weighs each bin by its rows.",
        "calibration()은 예측이 있는 구간마다 평균 확률, 실제로 고장 난 비율, 행 수를 한 행으로 내놓습니다. "
        "calibration_error()는 구간마다 행 수로 가중합니다.",
    ):
        table = learner.measures.calibration(rows, 2)
        assert table["promised"].tolist() == pytest.approx([0.3, 0.8])
        assert table["came_true"].tolist() == pytest.approx([0.25, 0.5])
        assert table["rows"].tolist() == [4, 2]
        error = learner.measures.calibration_error(table)
        assert error == pytest.approx((4 * 0.05 + 2 * 0.3) / 6)


def test_a_certain_prediction_is_in_the_last_bin(learner):
    with hint(
        "A probability of exactly 1 belongs to the last bin, not to one more beyond it.",
        "정확히 1인 확률은 마지막 구간에 들어갑니다. 그 너머에 구간이 하나 더 생기면 안 됩니다.",
    ):
        rows = frame("probability fails", (1.0, 1), (0.95, 1), (0.0, 0))
        assert learner.measures.calibration(rows, 10)["rows"].tolist() == [1, 2]


def test_an_empty_window_is_not_judged(learner):
    import pandas as pd

    before, after = machines(1), machines(3)
    both = pd.concat([before, after])
    with hint(
        "A day without predictions, or with too few, has a row of findings whose measures are NaN: "
        "neither good nor bad. No predictions at all give an empty table with the same columns.",
        "예측이 없거나 너무 적은 날도 결과에 한 행이 있고 지표는 NaN입니다. 좋은 것도 나쁜 것도 아닙니다. "
        "예측이 하나도 없으면 열이 같은 빈 표를 내놓으십시오.",
    ):
        found = learner.monitor.judge_days(machines(0), both, told(both), LIMITS)
        assert found["day"].tolist() == [1, 2, 3]
        assert found["rows"].tolist() == [150, 0, 150]
        measures = ["drift", "accuracy", "calibration"]
        assert found[measures].isna().all(axis=1).tolist() == [False, True, False]
        few = learner.monitor.judge(machines(0), before.head(49), told(before), LIMITS)
        assert pd.isna([few[one] for one in measures]).all()
        none = learner.monitor.judge_days(machines(0), both.head(0), told(both), LIMITS)
        assert (len(none), list(none.columns)) == (0, list(found.columns))


def test_labels_of_one_kind_that_come_early_judge_nothing(learner):
    import pandas as pd

    window = machines(1)
    failures = told(window[window["fails"] == 1])
    with hint(
        "Failures are told at once, the rest days later: as long as less than limits['labelled'] of a "
        "window's predictions have a label, its accuracy and calibration are NaN. Drift needs no labels.",
        "고장은 바로 알려지고 나머지는 며칠 뒤에 알려집니다. 레이블이 있는 예측의 비율이 limits['labelled']보다 작은 동안 "
        "정확도와 보정은 NaN입니다. 드리프트에는 레이블이 필요 없습니다.",
    ):
        early = learner.monitor.judge(machines(0), window, failures, LIMITS)
        assert early["labelled"] == len(failures)
        assert pd.isna(early["accuracy"])
        assert pd.isna(early["calibration"])
        assert early["drift"] < 0.25
        late = learner.monitor.judge(machines(0), window, told(window), LIMITS)
        assert late["accuracy"] > 0.75
        assert late["calibration"] < 0.15


def test_the_worst_feature_counts(learner):
    training, window = machines(0, 400), machines(1)
    window["temperature"] += 8
    with hint(
        "The drift of a window is that of its worst feature, not a mean: here of temperature.",
        "윈도의 드리프트는 평균이 아니라 가장 나쁜 특성의 드리프트입니다. 여기서는 온도입니다.",
    ):
        both = (one["temperature"].to_numpy() for one in (training, window))
        expected = learner.measures.drift(*both, LIMITS["bins"])
        found = learner.monitor.judge(training, window, told(window), LIMITS)
        assert found["drift"] == pytest.approx(expected)


def findings(*accuracies, drifts=None):
    drifts = drifts or [0.0] * len(accuracies)
    rows = [
        (day, 150, 150, drift, accuracy, 0.1)
        for day, (accuracy, drift) in enumerate(zip(accuracies, drifts, strict=True), start=1)
    ]
    return frame("day rows labelled drift accuracy calibration", *rows)


def test_one_bad_window_is_no_alarm(learner):
    with hint(
        "One bad window of three may be chance: the action is `none` unless limits['alarms'] of the last "
        "limits['windows'] judged windows are bad. A bad window of long ago does not count.",
        "셋 가운데 나쁜 윈도 하나는 우연일 수 있습니다. 판단한 최근 limits['windows']개 윈도 가운데 limits['alarms']개가 "
        "나쁘지 않으면 action은 `none`입니다. 오래전의 나쁜 윈도는 세지 않습니다.",
    ):
        for case in ((0.9, 0.9, 0.5), (0.5, 0.9, 0.9, 0.5), (0.9,), ()):
            decision = learner.monitor.decide(findings(*case), LIMITS)
            assert (decision["action"], decision["since"]) == ("none", None)


def test_two_bad_windows_of_three_call_for_something(learner):
    nan = float("nan")
    with hint(
        "Two of the last three judged windows: a low accuracy calls for `retrain`, a high drift alone for "
        "`investigate`; `since` is the first bad day of those. Windows that were not judged do not count.",
        "판단한 최근 윈도 셋 가운데 둘이 나쁘면, 낮은 정확도는 `retrain`, 드리프트만 높으면 `investigate`입니다. "
        "`since`는 그 가운데 처음으로 나쁜 날입니다. 판단하지 못한 윈도는 세지 않습니다.",
    ):
        decide = learner.monitor.decide
        bad = decide(findings(0.5, 0.9, 0.5, 0.5), LIMITS)
        assert (bad["action"], bad["since"]) == ("retrain", 3)
        assert "accuracy" in bad["reason"]
        with_gaps = decide(findings(0.9, 0.5, nan, 0.5, nan, nan), LIMITS)
        assert (with_gaps["action"], with_gaps["since"]) == ("retrain", 2)
        drifted = decide(findings(0.9, 0.9, 0.9, drifts=[0.1, 0.8, 0.3]), LIMITS)
        assert (drifted["action"], drifted["since"]) == ("investigate", 2)
        assert "drift" in drifted["reason"]


def test_a_better_model_replaces_the_champion(learner):
    import pandas as pd

    champion = learner.retraining.fit(machines(0, 400))
    rows = pd.concat([machines(7, changed=True), machines(8, changed=True)])
    with hint(
        "In a changed world retrain() must give the new model, and a sentence that begins with `promoted`.",
        "세상이 바뀌었으면 retrain()은 새 모델과 `promoted`로 시작하는 문장을 내놓아야 합니다.",
    ):
        winner, verdict = learner.retraining.retrain(champion, rows, 50)
        assert winner is not champion
        assert verdict.startswith("promoted")


def test_a_model_that_is_no_better_changes_nothing(learner):
    import pandas as pd

    champion = learner.retraining.fit(machines(0, 400))
    rows = pd.concat([machines(7, changed=True), machines(8, changed=True)])
    with hint(
        "Only a model that is better on the same newest rows replaces the champion: an equal one does not, "
        "and the sentence begins with `kept`. Did you compare each model on other rows?",
        "똑같은 최신 행에서 더 나은 모델만 챔피언을 대신합니다. 같으면 바꾸지 않고, 문장은 `kept`로 시작합니다. "
        "모델마다 다른 행으로 비교하지는 않았습니까?",
    ):
        older = learner.retraining.part_by_age(rows)[0]
        same = learner.retraining.fit(older)
        for one in (same, learner.retraining.fit(rows)):
            winner, verdict = learner.retraining.retrain(one, rows, 50)
            assert winner is one, verdict
            assert verdict.startswith("kept")
        # The world changed for a day and back: on the newest rows the champion is the better one.
        back = pd.concat([machines(7, 300, changed=True), machines(8, 200)])
        winner, verdict = learner.retraining.retrain(champion, back, 50)
        assert winner is champion, verdict


def test_the_candidate_has_not_seen_the_rows_it_is_compared_on(learner, monkeypatch):
    import pandas as pd

    module = learner.retraining
    champion, fit, seen = module.fit(machines(0, 400)), module.fit, []
    rows = pd.concat([machines(8, changed=True), machines(7, changed=True)])
    with hint(
        "part_by_age() sorts by day; fit() gets the older three fifths only, since both models are "
        "compared on the newest rows.",
        "part_by_age()는 day 순서로 정렬합니다. 두 모델을 최신 행에서 비교하므로 fit()에는 오래된 5분의 3만 넘기십시오.",
    ):
        monkeypatch.setattr(module, "fit", lambda given: seen.append(given) or fit(given))
        older, newest = module.part_by_age(rows)
        assert (len(older), len(newest)) == (180, 120)
        assert older["day"].max() <= newest["day"].min()
        module.retrain(champion, rows, 50)
        assert len(seen) == 1
        assert set(seen[0]["prediction_id"]) == set(older["prediction_id"])


@pytest.mark.parametrize("missing", ["learn from", "compare on"])
def test_rows_of_one_class_replace_nothing(learner, missing):
    champion = learner.retraining.fit(machines(0, 400))
    rows = machines(7, changed=True)
    older, newest = range(90), range(90, 150)
    places = older if missing == "learn from" else newest
    rows.loc[list(places), "fails"] = 1
    with hint(
        "Where one class is missing among the rows to learn from or to compare on, or where they are too "
        "few, the champion is kept, and the sentence says why: look before you call fit().",
        "학습할 행이나 비교할 행에 한 클래스가 없거나 행이 너무 적으면 챔피언을 유지하고 문장에 이유를 적습니다. "
        "fit()을 부르기 전에 확인하십시오.",
    ):
        for few in (rows, rows.head(40), rows.head(0)):
            winner, verdict = learner.retraining.retrain(champion, few, 50)
            assert winner is champion
            assert verdict.startswith("kept")


@pytest.fixture
def folder(work, tmp_path, monkeypatch):
    """A folder of its own with what monitor.py reads; nothing of the learner's is overwritten."""
    for name in ("parameters.yml", "catalog.yml"):
        shutil.copy(work / name, tmp_path)
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, rows):
    import pandas as pd

    rows = pd.concat(rows)
    machines(0, 400).to_csv(folder / "training.csv", index=False)
    rows.drop(columns="fails").to_csv(folder / "predictions.csv", index=False)
    told(rows).to_csv(folder / "labels.csv", index=False)


def test_the_model_is_replaced_once_when_the_world_has_changed(learner, folder, capsys):
    import joblib

    joblib.dump(learner.retraining.fit(machines(0, 400)), folder / "models/1.joblib")
    with hint(
        "main() must let one changed day be, save models/2.joblib after two, trained on the days from `since` on only, and "
        "then wait for what the new model answers.",
        "main()은 하루가 바뀐 것은 그냥 두고, 이틀이 바뀌면 `since`부터의 날로만 학습한 models/2.joblib을 저장한 다음, 새 모델의 예측을 "
        "기다려야 합니다.",
    ):
        write(folder, [machines(1), machines(2), machines(3, changed=True)])
        learner.monitor.main()
        assert "none:" in capsys.readouterr().out
        assert [path.name for path in (folder / "models").iterdir()] == ["1.joblib"]
        changed = [machines(3, changed=True), machines(4, changed=True)]
        write(folder, [machines(0), machines(1), machines(2), *changed])
        learner.monitor.main()
        assert "promoted" in capsys.readouterr().out
        learner.monitor.main()
        assert "none:" in capsys.readouterr().out
        names = sorted(path.name for path in (folder / "models").iterdir())
        assert names == ["1.joblib", "2.joblib"]
        model, rows = joblib.load(folder / "models/2.joblib"), machines(9, changed=True)
        assert model.score(rows[learner.retraining.FEATURES].to_numpy(), rows["fails"]) > 0.75


def test_the_pipeline_finds_what_the_program_finds(learner, folder):
    import pandas as pd

    with hint(
        "create_pipeline() has the nodes judge_days and decide; catalog.yml names findings.csv and decision.json, a "
        "json.JSONDataset. JSON has no numpy.int64: `since` is an int.",
        "create_pipeline()에는 judge_days와 decide 노드가 있고, catalog.yml에는 findings.csv와 json.JSONDataset인 decision.json이 "
        "있습니다. JSON에는 numpy.int64가 없으므로 `since`는 int입니다.",
    ):
        write(folder, [machines(1), machines(3, changed=True), machines(4, changed=True)])
        learner.kedro_monitoring.main()
        found = pd.read_csv(folder / "findings.csv")
        assert found["day"].tolist() == [1, 2, 3, 4]
        decision = json.loads((folder / "decision.json").read_text())
        assert (decision["action"], decision["since"]) == ("retrain", 3)
