"""``POST /explain``: predictions that are not kept, each with why it was made."""

from http import HTTPStatus
from typing import get_args

import fastapi
import msgspec

from mlops_for_mle.releases.explain import Explained
from mlops_for_mle.serving.codec import Form
from mlops_for_mle.serving.context import Answer, Request, Services
from mlops_for_mle.serving.errors import ProblemError, refused
from mlops_for_mle.serving.openapi import (
    Schema,
    answer_schema,
    example_row,
    json_answer,
    json_request,
    object_of,
    problems,
    row_schema,
)
from mlops_for_mle.serving.predict import (
    FAILURES,
    PREDICT,
    Answered,
    HotRoute,
    Question,
    add_hot_route,
)
from mlops_for_mle.serving.releases import Served

MOST_ROWS = 100

_WORDS = (
    f"Shapley values: how much each feature moves the answer from the mean over some rows of the "
    f"training snapshot, `base`, to that of this row, `value`; the contributions add up to the "
    f"difference. Explained is a regression's `value`; of a class its `probability`, or whether it "
    f"is the `answer` (1 or 0), where the model has no probabilities. A row, or a list of up to "
    f"{MOST_ROWS}; neither logged nor counted as predictions."
)


def router(services: Services) -> fastapi.APIRouter:
    """The route, whose work is always done in a thread."""
    found = fastapi.APIRouter(tags=["prediction"])
    unfit = {"422": f"A row does not fit the contract, or there are more than {MOST_ROWS}"}
    add_hot_route(
        found,
        services,
        EXPLAIN,
        largest_at_once=-1,
        summary="Predict rows and say why",
        description=_WORDS,
        operation_id="explain",
        responses=problems(FAILURES | unfit),
    )
    return found


def _read(services: Services, request: Request) -> Question:
    question = PREDICT.read(services, request)
    if question.rows.form is Form.COLUMNS or question.rows.count > MOST_ROWS:
        raise refused("", "holds too many rows", f"a row, or a list of up to {MOST_ROWS}")
    return question._replace(write=_write, is_kept=False)


def _write(answered: Answered) -> Answer:
    served, rows, request, *_ = answered.question
    codec, outside = served.codec, answered.outside
    found = msgspec.json.decode(codec.answer(rows, answered.predictions, (), "", outside))
    listed = [found] if rows.form is Form.ONE else found
    for one, row in zip(listed, codec.matrix([rows]), strict=True):
        if not request.facts.is_wanted:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "The client has left")
        del one["prediction_id"]
        one["explanation"] = served.explainer.explain(row)._asdict()
    return Answer(msgspec.json.encode(found))


EXPLAIN = HotRoute("/explain", _read)


def operations(served: Served) -> dict[str, Schema]:
    """What the document says of the route, for a release."""
    contract = served.contract
    number, row = {"type": "number"}, row_schema(contract, served.manifest.precision)
    explanation = object_of(
        {
            "explained": {"enum": list(get_args(Explained))},
            "value": number,
            "base": number,
            "contributions": object_of(dict.fromkeys(contract.features, number)),
        }
    )
    one = answer_schema(served, {"explanation": explanation})
    given, rows = example_row(contract), {"type": "array", "items": row, "minItems": 1}
    body = {"oneOf": [row, rows | {"maxItems": MOST_ROWS}]}
    return {
        EXPLAIN.path: {
            "request": json_request(body, one_row=given, a_list_of_rows=[given, given]),
            "answer": json_answer(
                "Predictions and why they were made",
                {"oneOf": [one, {"type": "array", "items": one}]},
            ),
        }
    }
