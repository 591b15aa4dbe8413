"""The code knows no table: whatever names a column or a class is configuration or a test."""

import re

import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.paths import project_path
from tests.releases import IRIS_CONTRACT

SOURCE = project_path() / "src" / "mlops_for_mle"
FILES = sorted(
    path for path in SOURCE.rglob("*") if path.suffix in {".py", ".js", ".html", ".mako", ".css"}
)


def names_of(contract: Contract) -> list[str]:
    """The names that only this table has; "target" is what every contract calls its own."""
    return [
        contract.name,
        contract.table,
        *contract.feature_names,
        contract.target.response_name,
        *contract.target.labels.values(),
    ]


def test_the_names_of_the_shipped_table_are_searched_for() -> None:
    assert {"iris", "iris_data", "petal_width", "setosa"} <= set(names_of(IRIS_CONTRACT))
    assert len(FILES) > 100


@pytest.mark.parametrize("name", names_of(IRIS_CONTRACT))
def test_nothing_in_the_code_names_the_shipped_table(name: str) -> None:
    pattern = re.compile(rf"(?<![a-z]){re.escape(name)}(?![a-z])", re.IGNORECASE)

    found = [
        f"{path.relative_to(SOURCE)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]

    assert found == []
