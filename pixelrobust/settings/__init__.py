"""Configuration as plain typed values: the one place where a config becomes arguments."""

from pixelrobust.settings.building import (
    build_settings,
    engine_settings,
    model_settings,
    preprocessing_settings,
)
from pixelrobust.settings.run import RETRAINED, RunSettings, fingerprint
from pixelrobust.settings.sections import (
    ATTACK_PREFIX,
    CLASSES,
    OWN_CLASSES,
    PACKAGE_PREFIX,
    AttackSettings,
    DatasetSettings,
    EngineName,
    EngineSettings,
    ModelSettings,
    Precision,
    PreprocessingSettings,
    RetrainSettings,
    TrackingSettings,
    is_weights_file,
    model_label,
)

__all__ = [
    "ATTACK_PREFIX",
    "CLASSES",
    "OWN_CLASSES",
    "PACKAGE_PREFIX",
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
    "build_settings",
    "engine_settings",
    "fingerprint",
    "is_weights_file",
    "model_label",
    "model_settings",
    "preprocessing_settings",
]
