import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlops_for_mle.contract import Contract
from mlops_for_mle.releases.predictor import Predictions
from mlops_for_mle.serving.codec import Form, Rows
from mlops_for_mle.serving.context import Request
from mlops_for_mle.serving.logs import RequestFacts
from mlops_for_mle.serving.predict import Answered, Answers, Question, texts_of
from tests.releases import IRIS_CONTRACT, iris_release
from tests.serving.conftest import serve

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@given(values=arrays(np.float64, st.integers(1, 20), elements=finite))
def test_numbers_are_written_so_that_the_model_s_own_are_read_again(precision, values):
    answers = Predictions(values, np.stack([values, -values], axis=1))

    texts = texts_of(answers, precision)

    expected = [values, values, -values]
    found = [np.array(json.loads(b"[%b]" % text), precision) for text in texts]
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


def test_a_float32_model_is_not_given_digits_that_it_does_not_know():
    (text,) = texts_of(Predictions(np.array([np.float32(0.1)], np.float64), None), "float32")

    assert text == b"0.1"


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("name", ["50% %b %s", "\\ \"quoted\" 'x'", "이름 {0}"])
def test_any_name_may_stand_in_an_answer(form: Form, name: str):
    raw = IRIS_CONTRACT.model_dump(mode="json")
    raw["target"]["response_name"], raw["target"]["classes"][2]["label"] = "answer %", name
    release = iris_release(1)
    contract = Contract.model_validate(raw)
    answers = Answers(release.manifest.model_copy(update={"contract": contract}))
    request = Request("/predict", {}, b"", 0.0, RequestFacts("r"))
    question = Question(serve(release), Rows(1, b"", form, None), request, answers.write)
    predictions = Predictions(np.array([2]), np.array([[0.25, 0.25, 0.5]]))
    texts = texts_of(predictions, "float64")

    answered = Answered(question, "id", 0, 0.0, predictions, texts, {2: 1})
    found = json.loads(answers.write(answered).body)

    named = found[0] if form is Form.LIST else found
    one = found["columns"] if form is Form.COLUMNS else named
    told = (one["answer %"], one["label"], one["probabilities"][name])
    assert told == (([2], [name], [0.5]) if form is Form.COLUMNS else (2, name, 0.5))
    assert named["prediction_id"] == "id"
