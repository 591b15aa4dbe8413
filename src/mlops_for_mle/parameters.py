"""All parameters of an environment, checked before anything starts."""

from collections.abc import Mapping
from typing import Any

from mlops_for_mle.configuration import Configuration, parse_configuration
from mlops_for_mle.contract import Contract


def check_parameters(raw: Mapping[str, Any]) -> Contract:
    """Check every block of parameters, and what they say together; gives the contract.

    Raises:
        ConfigurationError: A parameter is wrong; the message names each.
    """
    from mlops_for_mle.pipelines.data_ingestion.options import IngestionOptions
    from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
    from mlops_for_mle.pipelines.registry.options import GateOptions
    from mlops_for_mle.pipelines.retraining.options import RetrainingOptions, require_decidable
    from mlops_for_mle.pipelines.training.data_checks import DataCheckOptions
    from mlops_for_mle.pipelines.training.options import TrainingOptions
    from mlops_for_mle.scoring.batch_options import ScoringOptions

    contract = Contract.from_parameters(raw.get("contract"))
    others: dict[str, type[Configuration]] = {
        "ingestion": IngestionOptions,
        "training": TrainingOptions,
        "data_checks": DataCheckOptions,
        "gates": GateOptions,
        "scoring": ScoringOptions,
    }
    for name, kind in others.items():
        parse_configuration(kind, raw.get(name), name)
    retraining = parse_configuration(RetrainingOptions, raw.get("retraining"), "retraining")
    monitoring = parse_configuration(MonitoringOptions, raw.get("monitoring"), "monitoring")
    require_decidable(monitoring, retraining)
    return contract
