"""Configuration as plain typed values: the one place where a config becomes arguments."""

from pixelrobust.settings.building import (
    attack_settings,
    build_settings,
    engine_settings,
    model_settings,
    preprocessing_settings,
    retrain_settings,
)
from pixelrobust.settings.images import (
    CLASSES,
    OWN_CLASSES,
    DatasetSettings,
    PreprocessingSettings,
)
from pixelrobust.settings.networks import (
    PACKAGE_PREFIX,
    ModelSettings,
    is_weights_file,
    model_label,
)
from pixelrobust.settings.run import ATTACK_PREFIX, RETRAINED, RunSettings, fingerprint
from pixelrobust.settings.sections import (
    RENAMED_ATTACK,
    AttackSettings,
    EngineName,
    EngineSettings,
    Precision,
    RetrainSettings,
    TrackingSettings,
)

__all__ = [
    "ATTACK_PREFIX",
    "CLASSES",
    "OWN_CLASSES",
    "PACKAGE_PREFIX",
    "RENAMED_ATTACK",
    "RETRAINED",
    "AttackSettings",
    "DatasetSettings",
    "EngineName",
    "EngineSettings",
    "ModelSettings",
    "Precision",
    "PreprocessingSettings",
    "RetrainSettings",
    "RunSettings",
    "TrackingSettings",
    "attack_settings",
    "build_settings",
    "engine_settings",
    "fingerprint",
    "is_weights_file",
    "model_label",
    "model_settings",
    "preprocessing_settings",
    "retrain_settings",
]
