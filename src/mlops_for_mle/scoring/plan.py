"""What a process that scores is to do; given to worker processes as JSON."""

from pydantic import Field

from mlops_for_mle.contract import Configuration, Contract


class ScoringPlan(Configuration):
    """What is scored and how.

    Attributes:
        contract: Names the table, its queue and the deployments to follow.
        release_store: Where releases are: a local folder or any URL that fsspec opens.
        follow: Go on with rows as they arrive until told to stop; else end when none waits.
        batch_size: At most so many rows a transaction.
        report_seconds: Time between two lines of progress.
        poll_seconds: The longest time between two looks into the queue, since a notification may
            be missed, and between two looks for a newer deployment.
    """

    contract: Contract
    release_store: str
    follow: bool = False
    batch_size: int = Field(default=500, ge=1, le=100_000)
    report_seconds: float = Field(default=10.0, gt=0)
    poll_seconds: float = Field(default=1.0, gt=0)
