"""Small tables as people have them, what is proposed for them, and what ingestion makes of that."""

from typing import Any

import numpy as np
import pandas as pd

from mlops_for_mle.contract.infer.propose import Proposal, propose
from mlops_for_mle.contract.infer.write import texts
from mlops_for_mle.pipelines.data_ingestion.nodes import Batch
from tests.pipelines.data_ingestion.observations import batch_of

ROWS = 40


def table(rows: int = ROWS, **columns: Any) -> pd.DataFrame:
    """A sound table with an ``a`` to learn from, a ``y`` to predict and columns of one's own.

    The values of a list are repeated until all rows have one.
    """
    random = np.random.default_rng(0)
    sound = {"a": random.random(rows).round(3).astype(str), "y": random.choice(["p", "q"], rows)}
    own = {
        name: np.resize(np.array(one, object), rows) if isinstance(one, list) else one
        for name, one in columns.items()
    }
    return pd.DataFrame(sound | own)


def infer(rows: pd.DataFrame, target: str = "y", **options: Any) -> Proposal:
    return propose(rows, "things", target, "things.csv", **options)


def contract_text(proposal: Proposal) -> str:
    return texts(proposal, {})["contract.yml"]


def parameters_text(proposal: Proposal) -> str:
    return texts(proposal, {})["parameters.yml"]


def ingest(rows: pd.DataFrame, proposal: Proposal) -> Batch:
    """What ingestion does with the rows, with the options that the inference writes."""
    return batch_of(proposal.contract(), rows, tolerated=0.5, **proposal.ingestion)


def ingested(rows: pd.DataFrame, **options: Any) -> list[Any]:
    """The values of ``x`` in the table, of as many rows as were given."""
    batch = ingest(rows, infer(rows, **options))
    assert batch.rejected["reason"].tolist() == []
    return list(batch.accepted["x"])
