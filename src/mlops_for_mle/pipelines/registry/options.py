"""The parameters of the registry's gates."""

from pydantic import Field

from mlops_for_mle.contract import Configuration


class GateOptions(Configuration):
    """What a candidate must show to become champion, besides that it has learned something.

    Attributes:
        metric: The metric that decides. For classification ``accuracy``, ``balanced_accuracy``,
            ``macro_f1``, and of models with probabilities ``log_loss``, ``roc_auc``, ``brier``;
            for regression ``rmse``, ``mae``, ``r2``.
        threshold: The candidate must reach it on its validation rows; None sets no such bound.
        tolerance: By how much the candidate may be worse than the champion on the same rows.
    """

    metric: str
    threshold: float | None = None
    tolerance: float = Field(default=0.0, ge=0)
