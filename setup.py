"""The part of the build that pyproject.toml cannot say: wheels carry the configs.

In the repository `configs/` lies beside the packages. A wheel holds it within `experiments`, so that
nothing of that common name lands among other people's packages.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

_CONFIGS = Path("configs")


class BuildWithConfigs(build_py):
    def run(self) -> None:
        super().run()
        # An editable installation reads those of the repository.
        if not self.editable_mode:
            for source in self._configs():
                self._place(source).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, self._place(source))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        own = [] if self.editable_mode else [str(self._place(path)) for path in self._configs()]
        return super().get_outputs(include_bytecode) + own

    def _configs(self) -> list[Path]:
        return sorted(_CONFIGS.rglob("*.yaml"))

    def _place(self, source: Path) -> Path:
        return Path(self.build_lib, "experiments", source)


setup(cmdclass={"build_py": BuildWithConfigs})
