"""What the programs of part 2 must do: split honestly, measure rightly, save what was meant."""

import json
import shutil
from pathlib import Path

import pytest

from course.hints import hint


@pytest.fixture
def flowers(learner, work):
    """The 150 rows of iris.csv, by the learner's read_csv()."""
    return learner.data.read_csv(work / "iris.csv")


@pytest.fixture
def repeated(flowers):
    """Rows as the generator makes them: 600 drawn from 150, so most of them more than once."""
    return flowers.sample(600, replace=True, random_state=7, ignore_index=True)


def test_the_newest_rows_are_read_oldest_first(learner, database):
    connection = learner.database.connect(database.url)
    learner.migrate.migrate(connection)
    rows = [(float(number), 3.0, 1.4, 0.2, number % 3) for number in range(10)]
    learner.generator.insert_rows(connection, rows, "check")
    with hint(
        "read_table(connection, 3) must give the three rows with the largest id, in the order of id.",
        "read_table(connection, 3)은 id가 가장 큰 세 행을 id 순서로 내놓아야 합니다.",
    ):
        read = learner.data.read_table(connection, 3)
        assert list(read.columns) == learner.data.COLUMNS
        assert read["sepal_length"].tolist() == [7.0, 8.0, 9.0]
    connection.close()


def test_a_csv_file_with_a_wrong_value_is_refused(learner, tmp_path):
    path = tmp_path / "rows.csv"
    head = "note,target,sepal_length,sepal_width,petal_length,petal_width\n"
    with hint(
        "read_csv() must give the columns COLUMNS in their order, and raise ValueError for text in "
        "place of a number: name the types with `dtype`.",
        "read_csv()는 COLUMNS의 열을 그 순서대로 내놓고, 숫자 자리에 텍스트가 있으면 ValueError를 "
        "일으켜야 합니다. `dtype`으로 타입을 지정하십시오.",
    ):
        path.write_text(head + "a,0,5.1,3.5,1.4,0.2\n")
        assert learner.data.read_csv(path).values.tolist() == [[5.1, 3.5, 1.4, 0.2, 0]]
        path.write_text(head + "a,0,5.1,oops,1.4,0.2\n")
        with pytest.raises(ValueError, match="oops"):
            learner.data.read_csv(path)


def test_a_random_split_is_the_same_for_the_same_seed(learner, flowers):
    with hint(
        "random_split() must put each row on exactly one side, and the same rows for the same seed.",
        "random_split()은 각 행을 정확히 한쪽에 넣어야 하고, 시드가 같으면 같은 행을 골라야 합니다.",
    ):
        training, validation = learner.data.random_split(flowers, 0.2, seed=3)
        assert sorted([*training.index, *validation.index]) == list(range(150))
        assert len(validation) == 30
        again = learner.data.random_split(flowers, 0.2, seed=3)[1]
        other = learner.data.random_split(flowers, 0.2, seed=4)[1]
        assert again.equals(validation)
        assert not other.equals(validation)


def test_the_leak_is_counted(learner, flowers):
    unique = flowers.drop_duplicates(learner.data.FEATURES)
    training, validation = unique.iloc[:100], unique.iloc[80:120]
    with hint(
        "leak() is the share of the validation rows whose four features also stand in training.",
        "leak()은 검증 행 가운데 네 특성이 학습 데이터에도 똑같이 있는 행의 비율입니다.",
    ):
        assert learner.data.leak((training, validation)) == 0.5
        assert learner.data.leak((training.assign(target=9), validation)) == 0.5
        assert learner.data.leak((unique.iloc[:10], unique.iloc[10:20])) == 0


def test_a_hash_split_does_not_leak(learner, repeated):
    with hint(
        "Equal features must fall on one side, so only the features may decide: neither the target, nor "
        "the index, nor the order of the rows, nor chance.",
        "특성이 같은 행은 같은 쪽에 들어가야 합니다. 타깃이나 인덱스, 행의 순서, 우연이 아니라 특성만으로 정하십시오.",
    ):
        # Every row with a target of its own, which decides nothing either.
        training, validation = learner.data.hash_split(repeated.assign(target=range(600)), 0.25)
        assert len(training) + len(validation) == 600
        assert 60 < len(validation) < 240
        assert training[learner.data.FEATURES].merge(validation[learner.data.FEATURES]).empty


def test_a_row_keeps_its_side_when_the_table_grows(learner, repeated):
    with hint(
        "A row that was held back must stay held back when the table grows or is read in another order.",
        "한 번 검증에 쓴 행은 테이블이 커지거나 다른 순서로 읽혀도 계속 검증에 남아야 합니다.",
    ):
        mixed = learner.data.hash_split(repeated.sample(frac=1, random_state=1), 0.25)[1]
        for count in (20, 50, 100, 300):
            few = learner.data.hash_split(repeated.head(count), 0.25)[1]
            assert set(few.index) == {index for index in mixed.index if index < count}


def test_the_units_of_a_feature_do_not_matter(learner, flowers):
    features = learner.data.FEATURES
    metres = flowers.assign(sepal_length=flowers.sepal_length / 100)
    with hint(
        "With the first feature in metres the model answers otherwise: scale before you classify, in "
        "a Pipeline with the steps `scaler` and `classifier`.",
        "첫 번째 특성의 단위를 미터로 바꾸자 모델의 답이 달라집니다. 분류하기 전에 스케일링하고, 두 단계를 "
        "`scaler`와 `classifier`라는 이름의 Pipeline에 넣으십시오.",
    ):
        one, other = learner.model.fit(flowers), learner.model.fit(metres)
        assert list(one.named_steps) == ["scaler", "classifier"]
        answers = one.predict(flowers[features].to_numpy())
        assert (answers == other.predict(metres[features].to_numpy())).all()


def test_the_scaler_has_seen_the_training_rows_only(learner, flowers):
    with hint(
        "The scaler must learn means from the rows that fit() is given, when it is given them.",
        "스케일러는 fit()이 받은 행에서, fit()이 불릴 때 평균을 학습해야 합니다.",
    ):
        found = learner.model.fit(flowers.head(120)).named_steps["scaler"].mean_
        assert found == pytest.approx(flowers.head(120)[learner.data.FEATURES].mean().to_numpy())


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "macro_f1"])
def test_a_measure_is_that_of_the_library(learner, name):
    import numpy as np
    from sklearn import metrics

    by_library = {
        "accuracy": metrics.accuracy_score,
        "balanced_accuracy": metrics.balanced_accuracy_score,
        "macro_f1": lambda truth, answers: metrics.f1_score(truth, answers, average="macro"),
    }[name]
    random = np.random.default_rng(1)
    constant = (np.array([0] * 95 + [1] * 5), np.zeros(100, int))
    cases = [constant, *(random.integers(0, [[3], [4]], (2, 40)) for _ in range(20))]
    with hint(
        f"{name}() differs from scikit-learn's. Think of a class that nobody answers, and of an answer "
        "that is no class of the truth.",
        f"{name}()의 값이 scikit-learn과 다릅니다. 한 번도 답하지 않은 클래스와, 정답에는 없는 클래스를 "
        "답한 경우를 생각해 보십시오.",
    ):
        for truth, answers in cases:
            found = getattr(learner.model, name)(truth, answers)
            assert found == pytest.approx(by_library(truth, answers))


@pytest.fixture
def saved(learner, flowers, tmp_path):
    """A fitted model, and the folder in which the learner's save() has put it."""
    model = learner.model.fit(flowers)
    learner.train.save(model, tmp_path / "models")
    return model, tmp_path / "models"


def test_a_model_is_saved_in_three_forms(learner, flowers, saved):
    model, folder = saved
    with hint(
        "save() must write model.joblib, model.skops and model.onnx; the graph takes `features` as "
        "float64 and answers `label`.",
        "save()는 model.joblib, model.skops, model.onnx를 저장해야 합니다. ONNX 그래프는 float64인 "
        "`features`를 받아 `label`을 답합니다.",
    ):
        names = {path.name for path in folder.iterdir()}
        assert names == {"model.joblib", "model.skops", "model.onnx"}
        expected = model.predict(flowers[learner.data.FEATURES].to_numpy())
        assert (learner.train.answers_of_graph(folder, flowers) == expected).all()
        learner.train.validate(model, folder, flowers)


def test_a_file_with_foreign_code_is_not_loaded(learner, flowers, saved):
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(FunctionTransformer(shutil.rmtree), saved[1] / "model.skops")
    with hint(
        "A model.skops that names a function outside of scikit-learn was loaded. Trust nothing: call "
        "skops.io.load() without `trusted`.",
        "scikit-learn 밖의 함수가 든 model.skops를 읽었습니다. 아무것도 신뢰하지 말고 skops.io.load()를 "
        "`trusted` 없이 호출하십시오.",
    ):
        with pytest.raises(skops.io.exceptions.UntrustedTypesFoundException):
            learner.train.load(saved[1])


@pytest.mark.parametrize("form", ["model.skops", "model.onnx"])
def test_another_model_in_the_folder_is_noticed(learner, flowers, saved, tmp_path, form):
    other = learner.model.fit(flowers.assign(target=(flowers.target + 1) % 3))
    learner.train.save(other, tmp_path / "others")
    shutil.copy(tmp_path / "others" / form, saved[1])
    with (
        hint(
            f"{form} holds another model, and validate() did not raise ValueError.",
            f"{form}에 다른 모델이 들어 있는데 validate()가 ValueError를 일으키지 않았습니다.",
        ),
        pytest.raises(ValueError, match="150"),
    ):
        learner.train.validate(saved[0], saved[1], flowers)


def test_the_program_trains_from_a_file_and_from_the_table(
    learner, database, program, typed, work: Path, capsys
):
    connection = learner.database.connect(database.url)
    learner.migrate.migrate(connection)
    rows = learner.generator.read_flowers(work / "iris.csv")
    learner.generator.insert_rows(connection, rows * 2, "check")
    connection.close()
    with hint(
        "python train.py must train from the table, python train.py iris.csv from the file.",
        "python train.py는 테이블로, python train.py iris.csv는 파일로 학습해야 합니다.",
    ):
        # One after the other: both write the same files.
        from_table = program("train.py", DATABASE_URL=database.url)
        assert "answer 300 rows" in from_table.succeeds()
        typed("train.py", "iris.csv")
        assert "answer 150 rows" in capsys.readouterr().out


def test_the_kedro_pipeline_stores_model_and_metrics(typed, work: Path):
    import joblib
    import yaml

    path = work / "models/metrics.json"
    path.unlink(missing_ok=True)
    with hint(
        "The pipeline must have three nodes (hash_split, fit, measure), store `metrics` in models/metrics.json, and `model`, too.",
        "파이프라인에는 노드 세 개(hash_split, fit, measure)가 있어야 하고, `metrics`를 models/metrics.json에, "
        "`model`도 models 안에 저장해야 합니다.",
    ):
        typed("kedro_training.py")
        assert json.loads(path.read_text("utf-8"))["accuracy"] > 0.9
        entry = yaml.safe_load((work / "catalog.yml").read_text("utf-8"))["model"]
        assert hasattr(joblib.load(work / entry["filepath"]), "predict")
