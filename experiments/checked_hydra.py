"""Hydra, with a loader that gives no config away that holds what is not permitted.

What `hydra.main` does, without what it does before a config can be looked at: it takes other main
configs and search paths, which load modules, and files of earlier runs, which may hold code.
"""

from argparse import Namespace
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments.launchers import BASIC_LAUNCHER, Lost, outlive_jobs
from experiments.permitted import check_override, check_permitted, check_sending
from pixelrobust.errors import InputError

CONFIG_NAME = "config"
HYDRA_VERSION = "1.3"


def run_hydra(
    configs: Path,
    main: Callable[[DictConfig], None],
    lost: Lost,
    words: Sequence[str] | None = None,
) -> None:
    """Do what the command line says.

    Args:
        configs: the folder of the main config and its groups.
        main: called with the config of each job.
        lost: called with that of each job of a sweep whose process ended before main did.
        words: of the command line; None: of this process's.

    Raises:
        InputError: the command line or a config holds what is not permitted.
        Exception: it is wrong; Hydra has many kinds.
    """
    parser = get_args_parser()
    arguments = parser.parse_args(words)
    _check_flags(arguments)
    _check_overrides(arguments.overrides)
    version.setbase(HYDRA_VERSION)
    hydra = Hydra("pixelrobust", _CheckedLoader(configs, _search_path(configs, arguments)))
    GlobalHydra.instance().initialize(hydra)
    outlive_jobs(lost)
    overrides = arguments.overrides
    try:
        if arguments.help:
            hydra.app_help(CONFIG_NAME, parser, arguments)
        elif arguments.hydra_help:
            hydra.hydra_help(CONFIG_NAME, parser, arguments)
        elif arguments.cfg:
            shown = arguments.cfg, arguments.package, arguments.resolve
            hydra.show_cfg(CONFIG_NAME, overrides, *shown)
        elif arguments.info:
            hydra.show_info(arguments.info, CONFIG_NAME, overrides)
        elif arguments.shell_completion:
            hydra.shell_completion(CONFIG_NAME, overrides)
        elif arguments.multirun or _is_sweep(hydra, overrides):
            hydra.multirun(CONFIG_NAME, main, [*overrides, "hydra.mode=MULTIRUN"])
        else:
            hydra.run(CONFIG_NAME, main, [*overrides, "hydra.mode=RUN"])
    finally:
        GlobalHydra.instance().clear()


def _is_sweep(hydra: Hydra, overrides: list[str]) -> bool:
    """Whether a config makes jobs although nobody wrote -m: a launcher would not be asked otherwise."""
    if hydra.get_mode(CONFIG_NAME, overrides) == RunMode.MULTIRUN:
        return True
    if not any(override.lstrip("+").startswith("hydra/launcher=") for override in overrides):
        return False
    config = hydra.compose_config(CONFIG_NAME, overrides, run_mode=RunMode.MULTIRUN)
    return bool(config.hydra.launcher.get("_target_") != BASIC_LAUNCHER)


class _CheckedLoader(ConfigLoaderImpl):
    """Composes configs, and checks each.

    Hydra composes everything with its loader, each job of a sweep too, before it makes anything of it.
    """

    def __init__(self, configs: Path, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        self._configs = configs

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """See Hydra's `ConfigLoader`; without a name it is the main config too."""
        keys = _check_overrides(overrides)
        config = super().load_configuration(
            config_name or CONFIG_NAME, overrides, run_mode, from_shell, validate_sweep_overrides
        )
        check_composed(config, self._configs, keys)
        return config


def check_composed(config: DictConfig, configs: Path, overridden: Collection[str] = ()) -> None:
    """Raise InputError where a composed config holds what is not permitted.

    Args:
        config: with or without Hydra's own part.
        configs: the folder of the main config.
        overridden: keys that the command line gives.
    """
    own = OmegaConf.to_container(OmegaConf.load(configs / f"{CONFIG_NAME}.yaml"))
    composed = OmegaConf.to_container(config)
    assert isinstance(own, dict)
    assert isinstance(composed, dict)
    plain = {str(key): value for key, value in composed.items()}
    check_permitted(plain, own["hydra"])
    check_sending(plain, overridden)


def _check_overrides(overrides: list[str]) -> list[str]:
    """The keys of overrides, none of which loads modules."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    keys = [override.get_key_element().lstrip("+") for override in parsed]
    for key in keys:
        check_override(key)
    return keys


def _search_path(configs: Path, arguments: Namespace) -> ConfigSearchPath:
    """Hydra's own configs, this software's, and those of a folder that the user names."""
    path = create_config_search_path(str(configs))
    if arguments.config_dir is not None:
        folder = f"file://{Path(arguments.config_dir).resolve()}"
        path.prepend("command-line", folder, SearchPathQuery(provider="schema"))
    return path


def _check_flags(arguments: Namespace) -> None:
    if arguments.experimental_rerun is not None:
        raise InputError(
            "--experimental-rerun is not supported, since the file could hold code; give the overrides."
        )
    if arguments.config_path is not None or arguments.config_name is not None:
        raise InputError(
            "--config-path and --config-name are not supported; put FOLDER/experiment/NAME.yaml, and "
            "give --config-dir FOLDER experiment=NAME."
        )
    if arguments.config_dir is not None and not Path(arguments.config_dir).is_dir():
        raise InputError(
            f"--config-dir={arguments.config_dir} is not a folder; give the path of an existing one."
        )
