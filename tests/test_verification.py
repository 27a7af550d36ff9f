"""`python -m experiments.verify`: what is stored is computed again, and what was tampered with is found."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from experiments.verify import REPORT, main
from tests.conftest import Run
from tests.fault_cases import Ended, folder_of, images, network, saved, sentence, state

SAID = {
    "rows of draws below 0": "does not hold outcomes: draw of some rows cannot be such",
    "rows of more pixels than there are": "perturbation.num=2000 is more than the 400 pixels that an area of",
    "rows whose labels are words": "does not hold outcomes: label of some rows cannot be such",
    "rows whose predictions are no numbers": "does not hold outcomes: prediction of some rows cannot be such",
    "rows whose wrong is a number": "does not hold outcomes: wrong of some rows cannot be such",
    "rows of amplitudes above 255": "does not hold outcomes: amplitude of some rows cannot be such",
    "rows whose images are numbers": "does not hold outcomes: image of some rows cannot be such",
    "a manifest without a seed": "the manifest of run does not say by which seed its images were",
    "a manifest with an engine that there is not": "engine.name='exec' is wrong: it should be 'eager', 'compile' or",
    "a manifest with a batch of words": "engine.batch_size='many' is wrong: it should be a valid integer",
    "a manifest whose engines are words": "is of another form",
}
"""What the sentence about each case says, by the case's id."""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where results lie that several tests begin with."""
    return tmp_path_factory.mktemp("made")


def small_run(run: Run, made: Path, tmp_path: Path, *own: str) -> tuple[Path, list[str]]:
    """A test's own results of a run over five images, and the keys that name images and weights."""
    made = made / own[0].partition("=")[0]
    is_first = not made.exists()
    root = folder_of(made / "images", *(f"cat/{number}.png" for number in range(5)))
    keys = [*images(root), *network(saved(state(), made / "w.safetensors"))]
    if is_first:
        results = made / "results"
        ended = run(*keys, "perturbation.num=[4,64]", "engine=eager", *own, results=results)
        assert ended.code == 0, ended.err
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    (folder,) = (tmp_path / "results").glob("run-*")
    keys = [key.replace(str(made), str(tmp_path)) for key in keys]
    return folder, [*keys, f"paths.cache={tmp_path / 'cache'}"]


@pytest.fixture
def stored(run: Run, made: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    return small_run(run, made, tmp_path, "perturbation.area=[null,20]", "draws=4")


Verify = Callable[..., Ended]


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    return call_verify(capsys)


def call_verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    """`python -m experiments.verify` on a folder, with further arguments."""

    def call(folder: Path, *arguments: str) -> Ended:
        capsys.readouterr()
        code = main([str(folder), *arguments])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


def tamper(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    path = folder / "outcomes" / "table.parquet"
    outcomes = pd.read_parquet(path)
    changed = change(outcomes)
    (outcomes if changed is None else changed).to_parquet(path, index=False)


def test_sound_results_are_confirmed(stored: tuple[Path, list[str]], verify: Verify) -> None:
    folder, keys = stored
    ended = verify(folder, *keys, "--share", "1")
    assert ended.code == 0, ended.err
    # 5 images: the control once, and four cells with four draws.
    found = re.search(r"85 stored outcomes of run, 85 were recomputed", ended.out)
    assert found, ended.out
    assert ended.out.endswith((folder / REPORT).read_text() + "\n")
    digest = hashlib.sha256((folder / "outcomes" / "table.parquet").read_bytes()).hexdigest()
    assert f"Outcomes (SHA-256): run {digest[:16]}." in ended.out


def test_a_share_is_at_least_one_image(stored: tuple[Path, list[str]], verify: Verify) -> None:
    folder, keys = stored
    assert "17 were recomputed (1 % of the images" in verify(folder, *keys).out
    # 2 of 5 images: the control once, and four cells with four draws.
    assert "34 were recomputed" in verify(folder, *keys, "--share", "0.3").out


def flip_prediction(outcomes: pd.DataFrame) -> None:
    outcomes.loc[37, ["prediction", "wrong"]] = [1, True]


def flip_wrong(outcomes: pd.DataFrame) -> None:
    outcomes.loc[37, "wrong"] = True


def flip_label(outcomes: pd.DataFrame) -> None:
    outcomes.loc[37, ["label", "wrong"]] = [1, True]


def leave_out(outcomes: pd.DataFrame) -> pd.DataFrame:
    return outcomes.drop(index=37)


def count_twice(outcomes: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([outcomes, outcomes.iloc[37:38]])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (flip_prediction, "prediction"),
        (flip_wrong, "label or wrong"),
        (flip_label, "label or wrong"),
        (leave_out, "count"),
        (count_twice, "count"),
    ],
    ids=[
        "one stored prediction changed",
        "one outcome called wrong",
        "one label changed",
        "one outcome left out",
        "one outcome there twice",
    ],
)
def test_tampering_with_one_outcome_is_found(
    change: Callable[[pd.DataFrame], pd.DataFrame | None],
    what: str,
    stored: tuple[Path, list[str]],
    verify: Verify,
) -> None:
    folder, keys = stored
    tamper(folder, change)
    ended = verify(folder, *keys, "--share", "1")
    assert ended.code == 1
    assert "1 are contradicted." in ended.out
    (row,) = [line for line in ended.out.splitlines() if line.startswith("| run ")]
    assert row.rstrip(" |").endswith(what)


def test_other_images_are_told(
    stored: tuple[Path, list[str]], verify: Verify, tmp_path: Path
) -> None:
    folder, keys = stored
    (tmp_path / "images" / "cat" / "0.png").write_bytes(
        (tmp_path / "images" / "cat" / "1.png").read_bytes()
    )
    assert "the images of run are called as those of this data set, but their" in sentence(
        verify(folder, *keys, "seed=1"), tmp_path
    )


def test_other_weights_are_told(
    stored: tuple[Path, list[str]], verify: Verify, tmp_path: Path
) -> None:
    folder, keys = stored
    other = state()
    other["classifier.1.bias"][1] += 1
    saved(other, tmp_path / "other.safetensors")
    changed = f"models.torchvision.weights={tmp_path / 'other.safetensors'}"
    assert "the weights of squeezenet1_1 are not those that run ran with" in sentence(
        verify(folder, *keys, changed), tmp_path
    )


MALFORMED: dict[str, dict[str, object]] = {
    "rows of draws below 0": {"draw": -1},
    "rows of more pixels than there are": {"num": 2000},
    "rows whose labels are words": {"label": "cat"},
    "rows whose predictions are no numbers": {"prediction": float("nan")},
    "rows whose wrong is a number": {"wrong": 2},
    "rows of amplitudes above 255": {"amplitude": 256},
    "rows whose images are numbers": {"image": 5},
}


@pytest.mark.parametrize("fault", MALFORMED, ids=str)
def test_rows_that_no_run_writes_are_told(
    fault: str,
    stored: tuple[Path, list[str]],
    verify: Verify,
    tmp_path: Path,
    words: str,
) -> None:
    folder, keys = stored
    tamper(folder, lambda rows: rows.assign(**MALFORMED[fault]))
    assert words in sentence(verify(folder, *keys), tmp_path)


MANIFESTS: dict[str, dict[str, object]] = {
    "a manifest without a seed": {"config": {}},
    "a manifest with an engine that there is not": {"engines": {"squeezenet1_1": {"name": "exec"}}},
    "a manifest with a batch of words": {"engines": {"squeezenet1_1": {"batch_size": "many"}}},
    "a manifest whose engines are words": {"engines": {"squeezenet1_1": "eager"}},
}


@pytest.mark.parametrize("fault", MANIFESTS, ids=str)
def test_manifests_that_no_run_writes_are_told(
    fault: str,
    stored: tuple[Path, list[str]],
    verify: Verify,
    tmp_path: Path,
    words: str,
) -> None:
    folder, keys = stored
    path = folder / "outcomes" / "table.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | MANIFESTS[fault]))
    assert words in sentence(verify(folder, *keys), tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--share", "0"], "--share=0.0 is wrong"),
        (["--runs=table9"], "holds no outcomes of table9; give a folder"),
        (["model=alexnet"], "is not among the models"),
        (["foo=3"], "foo is not a key"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    arguments: list[str], words: str, stored: tuple[Path, list[str]], verify: Verify
) -> None:
    folder, keys = stored
    own = [key for key in keys if "model" not in key] if "model" in arguments[0] else keys
    assert words in sentence(verify(folder, *own, *arguments))


@pytest.mark.slow
def test_runs_of_the_profile_are_verified(verify: Verify, tmp_path: Path) -> None:
    """The committed ones, on this machine's own engine: some predictions may be borderline."""
    source = Path(__file__).resolve().parent.parent / "results" / "bundled"
    folder = tmp_path / "bundled"
    (folder / "outcomes").mkdir(parents=True)
    for end in (".json", ".parquet"):
        content = (source / "outcomes" / f"table6{end}").read_bytes()
        (folder / "outcomes" / f"table6{end}").write_bytes(content)
    ended = verify(folder, "profile=bundled", "--share", "0.005")
    assert ended.code == 0, ended.err + ended.out
    images_of = json.loads((folder / "outcomes" / "table6.json").read_text())["images"]
    # A control and five cells of 20 draws, of three networks.
    each = max(1, round(0.005 * images_of)) * (1 + 5 * 20)
    assert f"{3 * each} were recomputed" in ended.out
