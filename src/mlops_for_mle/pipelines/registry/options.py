"""The parameters of the registry's gates."""

from pydantic import Field

from mlops_for_mle.configuration import Configuration


class GateOptions(Configuration):
    """What a candidate must show to become champion.

    Attributes:
        metric: The metric that decides, such as ``accuracy``; see ``pipelines.metrics.measure``.
        greater_is_better: False for errors such as ``rmse``.
        threshold: The candidate must reach it on its validation rows.
        tolerance: By how much the candidate may be worse than the champion on the same rows.
    """

    metric: str
    greater_is_better: bool = True
    threshold: float
    tolerance: float = Field(default=0.0, ge=0)
