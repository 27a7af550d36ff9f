"""`python -m experiments.verify`: what is stored is measured again, and what was tampered with is found."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from experiments.verify import REPORT, main
from tests.conftest import REPOSITORY, Run
from tests.fault_cases import Ended, folder_of, images, network, saved, sentence, state

pytestmark = pytest.mark.usefixtures("one_thread")

Verify = Callable[..., Ended]
Stored = tuple[Path, list[str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the results lie that every test begins with."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def stored(run: Run, made: Path, tmp_path: Path) -> Stored:
    """Return a test's own results of a run over five images, and the keys that name its data."""
    root = folder_of(made / "images", *(f"cat/{number}.png" for number in range(5)))
    keys = [*images(root), *network(saved(state(), made / "w.safetensors"))]
    if not (made / "results").exists():
        own = ("perturbation.num=[4,64]", "perturbation.area=[null,20]", "draws=4", "engine=eager")
        ended = run(*keys, *own, results=made / "results")
        assert ended.code == 0, ended.err
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    (folder,) = (tmp_path / "results").glob("run-*")
    keys = [key.replace(str(made), str(tmp_path)) for key in keys]
    return folder, [*keys, f"paths.cache={tmp_path / 'cache'}"]


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    return call_verify(capsys)


def call_verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    """Return what verifies a folder, with further arguments."""

    def call(folder: Path, *arguments: str) -> Ended:
        capsys.readouterr()
        code = main([str(folder), *arguments])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


def tamper(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = folder / "outcomes" / "table.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)


def test_sound_results_are_confirmed(stored: Stored, verify: Verify) -> None:
    folder, keys = stored
    ended = verify(folder, *keys, "--share", "1")
    assert ended.code == 0, ended.err
    # 5 images: the control once, and four cells with four draws.
    assert re.search(r"85 stored outcomes of run, 85 were recomputed", ended.out), ended.out
    assert ended.out.endswith((folder / REPORT).read_text() + "\n")
    digest = hashlib.sha256((folder / "outcomes" / "table.parquet").read_bytes()).hexdigest()
    assert f"Outcomes (SHA-256): run {digest[:16]}." in ended.out


def test_a_share_is_at_least_one_image(stored: Stored, verify: Verify) -> None:
    folder, keys = stored
    assert "17 were recomputed (1 % of the images" in verify(folder, *keys).out
    assert "34 were recomputed" in verify(folder, *keys, "--share", "0.3").out


def with_values(**values: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Return what gives the 38th row other values."""

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        rows.loc[37, list(values)] = list(values.values())
        return rows

    return change


@pytest.mark.parametrize(
    ("change", "what"),
    [
        pytest.param(with_values(prediction=1, wrong=True), "prediction", id="another prediction"),
        pytest.param(with_values(wrong=True), "label or wrong", id="a right one called wrong"),
        pytest.param(with_values(label=1, wrong=True), "label or wrong", id="another label"),
        pytest.param(lambda rows: rows.drop(index=37), "count", id="an outcome left out"),
        pytest.param(
            lambda rows: pd.concat([rows, rows.iloc[37:38]]), "count", id="an outcome there twice"
        ),
    ],
)
def test_tampering_with_one_outcome_is_found(
    change: Callable[[pd.DataFrame], pd.DataFrame], what: str, stored: Stored, verify: Verify
) -> None:
    folder, keys = stored
    tamper(folder, change)
    ended = verify(folder, *keys, "--share", "1")
    assert ended.code == 1
    assert "1 are contradicted." in ended.out
    (row,) = [line for line in ended.out.splitlines() if line.startswith("| run ")]
    assert row.rstrip(" |").endswith(what)


def test_other_images_are_told(stored: Stored, verify: Verify, tmp_path: Path) -> None:
    folder, keys = stored
    shutil.copy(tmp_path / "images" / "cat" / "1.png", tmp_path / "images" / "cat" / "0.png")
    said = sentence(verify(folder, *keys, "seed=1"), tmp_path)
    assert "the images of run are called as those of this data set, but their pixels" in said


def test_other_weights_are_told(stored: Stored, verify: Verify, tmp_path: Path) -> None:
    folder, keys = stored
    other = state()
    other["classifier.1.bias"][1] += 1
    path = saved(other, tmp_path / "other.safetensors")
    said = sentence(verify(folder, *keys, f"models.torchvision.weights={path}"), tmp_path)
    assert "the weights of squeezenet1_1 are not those that run ran with" in said


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("draw", -1, "does not hold outcomes: draw"),
        ("num", 2000, "perturbation.num=2000 is more than the 400 pixels"),
    ],
)
def test_rows_that_no_run_writes_are_told(
    column: str, value: object, words: str, stored: Stored, verify: Verify, tmp_path: Path
) -> None:
    folder, keys = stored
    tamper(folder, lambda rows: rows.assign(**{column: value}))
    assert words in sentence(verify(folder, *keys), tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config": {}}, "the manifest of run does not say by which seed its images were"),
        ({"engines": {"squeezenet1_1": {"name": "exec"}}}, "engine.name='exec' is wrong"),
        ({"engines": {"squeezenet1_1": {"batch_size": "many"}}}, "engine.batch_size='many'"),
        ({"engines": {"squeezenet1_1": "eager"}}, "is of another form"),
    ],
    ids=["no seed", "another program for an engine", "a batch of words", "engines of words"],
)
def test_manifests_that_no_run_writes_are_told(
    change: dict[str, object], words: str, stored: Stored, verify: Verify, tmp_path: Path
) -> None:
    folder, keys = stored
    path = folder / "outcomes" / "table.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert words in sentence(verify(folder, *keys), tmp_path)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--share=0", "--share=0.0 is wrong"),
        ("--runs=table9", "holds no outcomes of table9; give a folder"),
        ("model=alexnet", "is not among the models"),
        ("foo=3", "foo is not a key"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    argument: str, words: str, stored: Stored, verify: Verify
) -> None:
    folder, keys = stored
    own = [key for key in keys if "model" not in key] if "model" in argument else keys
    assert words in sentence(verify(folder, *own, argument))


@pytest.mark.slow
def test_runs_of_the_profile_are_verified(verify: Verify, tmp_path: Path) -> None:
    """The committed ones, on this machine's own engine: some predictions may be borderline."""
    source, folder = REPOSITORY / "results" / "bundled" / "outcomes", tmp_path / "bundled"
    (folder / "outcomes").mkdir(parents=True)
    for name in ("table6.json", "table6.parquet"):
        shutil.copy(source / name, folder / "outcomes")
    ended = verify(folder, "profile=bundled", "--share", "0.005")
    assert ended.code == 0, ended.err + ended.out
    count = json.loads((folder / "outcomes" / "table6.json").read_text())["images"]
    # A control and nine cells of 10 draws, of four networks.
    each = max(1, round(0.005 * count)) * (1 + 9 * 10)
    assert f"{4 * each} were recomputed" in " ".join(ended.out.split())
