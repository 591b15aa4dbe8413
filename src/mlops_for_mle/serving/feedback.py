"""``POST /feedback``: the true label of a prediction, possibly days late, with its history."""

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from mlops_for_mle.contract import Contract, Target
from mlops_for_mle.contract.rules import describe, fault
from mlops_for_mle.serving.database import rows
from mlops_for_mle.serving.deployments import body_as
from mlops_for_mle.serving.errors import ProblemError, refused, shown
from mlops_for_mle.serving.openapi import Schema, component, feature_schema, json_request
from mlops_for_mle.serving.predict import served_by
from mlops_for_mle.serving.services import Services

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from mlops_for_mle.serving.prediction_log import PredictionLog

_ID_PATTERN = (
    r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(-(0|[1-9][0-9]{0,8}))?$"
)
_ALLOWED_ID = "the prediction_id of an answer, with -<row> where a request had several rows"
# The log of another server may be late, and its clock another.
_MAY_WAIT_SECONDS = 3600

_DESCRIPTION = """The label is a class value or the name of a class; for a regression a number. The
same label again changes nothing. Another one is refused unless `correction` is true; the first one
is then kept as history. The label of a prediction that has not reached the log yet is kept (202).
"""
_FIND = """
SELECT prediction_id, contract FROM predictions WHERE prediction_id IN (:id, :request, :first)
"""
_CURRENT = "SELECT * FROM feedback WHERE prediction_id = :id AND superseded_at IS NULL"
_KEEP = """
WITH before AS (
    UPDATE feedback SET superseded_at = now() WHERE prediction_id = :id AND superseded_at IS NULL
    RETURNING revision)
INSERT INTO feedback (prediction_id, revision, contract, target, label)
SELECT :id, coalesce((SELECT revision FROM before), 0) + 1, :contract, :target, :label
RETURNING *
"""


class NewFeedback(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prediction_id: str = Field(pattern=_ID_PATTERN, description=_ALLOWED_ID)
    label: Any
    correction: bool = Field(False, description="Whether the label may replace another one")


class Feedback(BaseModel):
    """A true label as it is kept; each correction has the next revision."""

    prediction_id: str
    value: int | float | str = Field(description="The class value or number")
    label: str | None = Field(description="The name of the class; null for a regression")
    revision: int = Field(ge=1)
    created_at: datetime
    is_joined: bool = Field(description="Whether the prediction is in the log")


def router(services: Services) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["feedback"])

    @routes.post(
        "/feedback",
        name="feedback",
        summary="Tell the true label of a prediction",
        description=_DESCRIPTION,
        status_code=201,
        openapi_extra=json_request(component("NewFeedback")),
        responses={
            200: {"model": Feedback, "description": "The prediction has this label already"},
            202: {"model": Feedback, "description": "Kept; its prediction is not in the log yet"},
        },
    )
    @services.database.endpoint
    def tell(response: Response) -> Feedback:
        new = body_as(NewFeedback)
        contract = served_by(services).contract
        target = contract.target
        label = _class_value(target, new.label)
        message = fault(label, target.feature)
        if message is not None:
            names = [name for name in target.labels.values() if name not in target.codes]
            allowed = ", or ".join([describe(target.feature), *names])
            raise refused("label", message, allowed, shown(new.label))
        with services.database.begin() as connection:
            is_joined = _is_logged(connection, contract, new.prediction_id, services.log)
            row, is_new = _keep(connection, contract, new, float(target.codes.get(label, label)))
        response.status_code = 200 if not is_new else 201 if is_joined else 202
        value = target.values.get(row["target"], row["target"])
        return Feedback(**row, value=value, is_joined=is_joined)

    return routes


def schemas(contract: Contract) -> dict[str, Schema]:
    """The components of the document that the contract determines."""
    schema, target = NewFeedback.model_json_schema(), contract.target
    value, names = feature_schema(target.feature), {"enum": [*target.labels.values()]}
    schema["properties"]["label"] = {"anyOf": [value, names]} if target.classes else value
    return {"NewFeedback": schema}


def _class_value(target: Target, given: Any) -> Any:
    """The value of a class that is given by its name; anything else as it is."""
    if isinstance(given, str) and given not in target.codes:
        return next((option.value for option in target.classes if option.label == given), given)
    return given


def _is_logged(
    connection: "Connection", contract: Contract, prediction_id: str, log: "PredictionLog"
) -> bool:
    """Whether the prediction is in the log; ProblemError 422 where it cannot come there, either."""
    # An id begins with the time of its prediction. The spool is looked at before the table, since
    # meanwhile it may be shipped.
    made_at = int(prediction_id.replace("-", "")[:12], 16) / 1000
    earliest, latest = log.oldest_at() - _MAY_WAIT_SECONDS, time.time() + _MAY_WAIT_SECONDS
    request = prediction_id[:36]
    logged = rows(connection, _FIND, id=prediction_id, request=request, first=f"{request}-0")
    contracts = {row["prediction_id"]: row["contract"] for row in logged}
    logged_under = contracts.get(prediction_id, contract.name)
    if logged_under != contract.name:
        message = f"was answered under contract {logged_under}"
        allowed = f"a prediction under contract {contract.name}"
        raise refused("prediction_id", message, allowed, prediction_id)
    # The rows of a request reach the log together.
    if prediction_id not in contracts and (contracts or not earliest < made_at < latest):
        raise refused("prediction_id", "is not in the prediction log", _ALLOWED_ID, prediction_id)
    return prediction_id in contracts


def _keep(
    connection: "Connection", contract: Contract, new: NewFeedback, code: float
) -> tuple[dict[str, Any], bool]:
    """Keep a label; gives the current row, and whether that is new."""
    from mlops_for_mle.database.engine import lock

    lock(connection, f"feedback {new.prediction_id}")
    for current in rows(connection, _CURRENT, id=new.prediction_id):
        if current["target"] == code:
            return current, False
        if not new.correction:
            label = current["label"] or current["target"]
            raise ProblemError(409, f'The label is {label}; to replace it, send "correction": true')
    label = contract.target.labels.get(int(code))
    row = {"id": new.prediction_id, "contract": contract.name, "target": code, "label": label}
    return rows(connection, _KEEP, **row)[0], True
