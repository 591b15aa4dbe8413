"""All parameters of an environment, checked before anything starts."""

from collections.abc import Mapping
from typing import Any

from mlops_for_mle.configuration import parse_configuration
from mlops_for_mle.contract import Configuration, Contract
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.releases.metrics import GREATER_IS_BETTER


def check_parameters(raw: Mapping[str, Any]) -> Contract:
    """Check every block of parameters, and what they say together; gives the contract.

    Raises:
        ConfigurationError: A parameter is wrong; the message names each.
    """
    from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
    from mlops_for_mle.pipelines.retraining.options import RetrainingOptions, require_decidable

    for name, kind in parameter_blocks().items():
        if kind not in (Contract, MonitoringOptions, RetrainingOptions):
            parse_configuration(kind, raw.get(name), name)
    require_decidable(
        parse_configuration(MonitoringOptions, raw.get("monitoring"), "monitoring"),
        parse_configuration(RetrainingOptions, raw.get("retraining"), "retraining"),
    )
    contract = Contract.model_validate(raw.get("contract"))
    check_metric(raw["gates"]["metric"], contract)
    return contract


def check_metric(metric: str, contract: Contract) -> None:
    """Check that the gates' metric is one of the contract's task.

    Raises:
        ConfigurationError: It is not; a model would be trained and registered in vain.
    """
    task = contract.target.task
    if metric not in GREATER_IS_BETTER[task]:
        raise ConfigurationError(
            f"gates.metric: contract {contract.name} is a {task}, allowed are "
            f"{', '.join(GREATER_IS_BETTER[task])} (found {metric!r})"
        )


def parameter_blocks() -> dict[str, type[Configuration]]:
    """The blocks of parameters and the class that describes each."""
    from mlops_for_mle.pipelines.data_ingestion.options import IngestionOptions
    from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
    from mlops_for_mle.pipelines.registry.options import GateOptions
    from mlops_for_mle.pipelines.retraining.options import RetrainingOptions
    from mlops_for_mle.pipelines.training.options import DataCheckOptions, TrainingOptions
    from mlops_for_mle.scoring.batch_options import ScoringOptions

    return {
        "contract": Contract,
        "ingestion": IngestionOptions,
        "training": TrainingOptions,
        "data_checks": DataCheckOptions,
        "gates": GateOptions,
        "retraining": RetrainingOptions,
        "monitoring": MonitoringOptions,
        "scoring": ScoringOptions,
    }
