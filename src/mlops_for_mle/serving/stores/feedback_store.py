"""Keeps the true labels of predictions, with their history."""

from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops_for_mle.contract import Contract
from mlops_for_mle.serving.formats.target_values import target_label
from mlops_for_mle.serving.http.problems import FieldError, ProblemError, unprocessable
from mlops_for_mle.serving.stores.route_database import RouteDatabase

if TYPE_CHECKING:
    from sqlalchemy import Connection


class KeptFeedback(NamedTuple):
    """A true label as it is kept.

    Attributes:
        prediction_id: The prediction that it belongs to.
        revision: 1 for the first label, one more for each correction.
        value: The class value or number.
        label: The name of the class; None for a regression.
        created_at: When it was kept.
        is_new: Whether this call has written it.
        is_joined: Whether the prediction is in the log already.
    """

    prediction_id: str
    revision: int
    value: float
    label: str | None
    created_at: datetime
    is_new: bool
    is_joined: bool


class FeedbackStore:
    """The table ``feedback``."""

    def __init__(self, database: RouteDatabase) -> None:
        """Use a database."""
        self._database = database

    def keep(
        self, contract: Contract, prediction_id: str, value: float, is_correction: bool
    ) -> KeptFeedback:
        """Keep a true label; the same label again changes nothing.

        Args:
            contract: What the label was checked against.
            prediction_id: The prediction, which may not have reached the log yet.
            value: The class value or number.
            is_correction: Whether the label may replace another one, which stays as history.

        Raises:
            ProblemError: 409, the prediction has another label; 422, the prediction was made
                under another contract, or the id is that of several predictions; 503.
        """
        with self._database.begin() as connection:
            is_joined = _find_prediction(connection, contract, prediction_id)
            while True:
                current = _current(connection, prediction_id)
                if current is None:
                    written = _insert(connection, contract, prediction_id, value, revision=1)
                    if written is None:
                        # Another request was quicker; its label is the current one now.
                        continue
                elif current.target == value:
                    return _kept(current, is_new=False, is_joined=is_joined)
                elif not is_correction:
                    shown = current.label if current.label is not None else f"{current.target:g}"
                    raise ProblemError(
                        HTTPStatus.CONFLICT,
                        f"Prediction {prediction_id} has the label {shown} since "
                        f"{current.created_at.isoformat()}; to replace it, send "
                        '"correction": true',
                    )
                else:
                    _supersede(connection, prediction_id)
                    revision = current.revision + 1
                    written = _insert(connection, contract, prediction_id, value, revision)
                return _kept(written, is_new=True, is_joined=is_joined)


def _find_prediction(connection: "Connection", contract: Contract, prediction_id: str) -> bool:
    """Whether the prediction is in the log."""
    from sqlalchemy import select

    from mlops_for_mle.database.tables import predictions

    first_row = f"{prediction_id}-0"
    rows = connection.execute(
        select(predictions.c.prediction_id, predictions.c.contract).where(
            predictions.c.prediction_id.in_([prediction_id, first_row])
        )
    )
    found = {row.prediction_id: row.contract for row in rows}
    if prediction_id not in found and first_row in found:
        raise unprocessable(
            [
                FieldError(
                    "prediction_id",
                    "is that of a request with several rows",
                    prediction_id,
                    f"the id of one of them, such as {first_row}",
                )
            ]
        )
    made_under = found.get(prediction_id)
    if made_under is not None and made_under != contract.name:
        raise unprocessable(
            [
                FieldError(
                    "prediction_id",
                    f"was answered under contract {made_under}",
                    prediction_id,
                    f"a prediction under contract {contract.name}",
                )
            ]
        )
    return made_under is not None


def _current(connection: "Connection", prediction_id: str) -> Any:
    from sqlalchemy import select

    from mlops_for_mle.database.tables import feedback

    return connection.execute(
        select(feedback)
        .where(feedback.c.prediction_id == prediction_id, feedback.c.superseded_at.is_(None))
        .with_for_update()
    ).one_or_none()


def _insert(
    connection: "Connection", contract: Contract, prediction_id: str, value: float, revision: int
) -> Any:
    from sqlalchemy.dialects.postgresql import insert

    from mlops_for_mle.database.tables import feedback

    statement = insert(feedback).values(
        prediction_id=prediction_id,
        revision=revision,
        contract=contract.name,
        target=value,
        label=target_label(contract.target, value),
    )
    return connection.execute(statement.on_conflict_do_nothing().returning(feedback)).one_or_none()


def _supersede(connection: "Connection", prediction_id: str) -> None:
    from sqlalchemy import func, update

    from mlops_for_mle.database.tables import feedback

    connection.execute(
        update(feedback)
        .where(feedback.c.prediction_id == prediction_id, feedback.c.superseded_at.is_(None))
        .values(superseded_at=func.now())
    )


def _kept(row: Any, *, is_new: bool, is_joined: bool) -> KeptFeedback:
    return KeptFeedback(
        row.prediction_id,
        row.revision,
        row.target,
        row.label,
        row.created_at,
        is_new,
        is_joined,
    )
