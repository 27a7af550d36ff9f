"""What a benchmark is asked for, and what its processes tell each other, as JSON."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

NUMS = (4, 8, 16, 32, 64)
"""Changed pixels of the Table 6 grid."""

SIDE = 224
"""Of the crops that networks see, in pixels, after the short side has become `SHORT_SIDE`."""
SHORT_SIDE = 256


@dataclass(frozen=True)
class Request:
    """What to prepare.

    Attributes:
        model: key of the network's config.
        weights: its file; None: what the config says, or random ones where that is not at hand.
        images: folder of images; None: those of the foolbox package.
        count: how many images; None: what suits the machine.
        every: at least every image of the folder, where no count is given.
        draws: changes of each image in each cell, in arm c; None: enough for so many seconds.
        seconds: see draws.
        engine_keys: of arm c's command line.
    """

    model: str
    weights: str | None
    images: str | None
    count: int | None
    every: bool
    draws: int | None
    seconds: float
    engine_keys: tuple[str, ...]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_request(path: Path) -> Request:
    """What `Request.write` wrote."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return Request(**data | {"engine_keys": tuple(data["engine_keys"])})


@dataclass(frozen=True)
class Plan:
    """What to measure, and how much.

    Attributes:
        requests: one for each network.
        arms: letters of those that run, in their order.
        rounds: runs of each arm; None: as many as fit the minutes.
        minutes: in which all rounds end, but for the first; None: no limit.
        seconds: of forward passes in each run, about.
        trial_images: by which arm b's number of workers is found.
        output: folder for the results.
    """

    requests: tuple[Request, ...]
    arms: str
    rounds: int | None
    minutes: float | None
    seconds: float
    trial_images: int
    output: Path


@dataclass(frozen=True)
class Job:
    """A network and images, the same for all arms.

    Attributes:
        model: key of the network's config.
        label: what results call it.
        source, name, classes: library that builds it, its name there, number of outputs.
        weights: .safetensors file of the network, without normalisation.
        random: whether these weights were made on the spot.
        mean, std: of the normalisation, for images in [0, 1].
        images: folder of class folders, which are called by the index of the output that the
            network gives for the unchanged images in them.
        count: images in it.
        files: different ones among them.
        draws: changes of each image in each cell, in arm c.
        device: where networks run.
        keys: of arm c's command line, but for draws and folders to write to.
    """

    model: str
    label: str
    source: str
    name: str
    classes: int
    weights: str
    random: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    images: str
    count: int
    files: int
    draws: int
    device: str
    keys: tuple[str, ...]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_job(path: Path) -> Job:
    """What `Job.write` wrote."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return Job(**data | {key: tuple(data[key]) for key in ("mean", "std", "keys")})


@dataclass(frozen=True)
class Steady:
    """The steady state of one run of an arm.

    Attributes:
        passes: forward passes, in images.
        seconds: that they took, with all that an arm has to do for each image; without imports,
            loading, conversion and warming up.
        engine, precision, batch_size: what ran them.
        workers: processes that decode meanwhile; None where none could.
    """

    passes: int
    seconds: float
    engine: str
    precision: str
    batch_size: int
    workers: int | None = None

    def print(self) -> None:
        """Tell the process that started this one."""
        print(json.dumps(asdict(self)))


def read_steady(printed: str) -> Steady:
    """What `Steady.print` printed last."""
    return Steady(**json.loads(printed.splitlines()[-1]))


@dataclass(frozen=True)
class Measured:
    """One run of an arm.

    Attributes:
        model: what results call the network.
        arm: a, b, c or d.
        round: 0, 1, …: runs of a round are neighbours in time.
        steady: its steady state.
        whole_seconds: from the start of the process to its end.
        peak_bytes: largest anonymous resident memory of the process with its descendants; None
            where the system does not tell.
    """

    model: str
    arm: str
    round: int
    steady: Steady
    whole_seconds: float
    peak_bytes: int | None

    @property
    def rate(self) -> float:
        """Images a second in the steady state."""
        return self.steady.passes / self.steady.seconds
