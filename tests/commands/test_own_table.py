"""From an unseen CSV file to a prediction, with nothing reviewed and no code touched."""

import json
import os

import pytest
import yaml

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import plain_rows
from tests.end_to_end.conftest import served
from tests.mixed import TARGET, mixed_rows, orders

pytestmark = pytest.mark.end_to_end

ROWS = int(os.environ.get("OWN_TABLE_ROWS", "1500"))
INFER = ("contract", "infer", "--target", TARGET, "--name", "orders", "--env", "new")
GROUP = "customer no"


def test_an_unseen_file_becomes_a_model_that_has_learned_something(project):
    rows = orders(ROWS)
    rows.to_csv(project.folder / "orders.csv", index=False)
    csv = ("--group", GROUP, "--csv", str(project.folder / "orders.csv"))

    said = project.succeed(*INFER, *csv).output

    assert "kedro run --env new" in said
    assert "refund alone tells the target" in said
    assert yaml.safe_load((project.folder / "conf/new/globals.yml").read_text("utf-8")) == {
        "source": "csv",
        "csv_path": "orders.csv",
        "data_folder": "data/new",
        "experiment": "orders",
    }

    said = project.succeed("run", "--env", "new").output

    assert f"{ROWS} in orders_data, 0 rejected" in said
    assert "orders-v1-" in said
    with served(project, "--env", "new") as client:
        contract = Contract.model_validate(client.get("/model").json()["contract"])
        typed = mixed_rows(ROWS).join(rows[["price", "zip"]].astype({"price": float}))
        (first,) = plain_rows(typed.head(1), contract)
        answer = client.predict(dict(zip(contract.features, first, strict=True)))
    (manifest,) = project.folder.glob("data/releases/orders/*/manifest.json")
    trained = json.loads(manifest.read_bytes())
    assert trained["metrics"]["validation_roc_auc"] > 0.75
    assert (trained["training"]["split"]["by"], trained["contract"]["group"]) == ("group", GROUP)
    assert GROUP not in contract.features
    assert answer[TARGET] in {"stays", "leaves"}
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
