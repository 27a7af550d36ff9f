"""Which images a dataset config stands for, what they are called and how they are labelled."""

import unicodedata
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelrobust.datasets import ImageList, list_images, list_training_images
from pixelrobust.datasets.lists import sample
from pixelrobust.errors import InputError
from pixelrobust.settings import DatasetSettings, PreprocessingSettings


def listed(
    kind: str,
    root: Path | None,
    seed: int = 0,
    cache: Path = Path("/nonexistent-cache"),
    listing: Any = None,
    **changes: Any,
) -> ImageList:
    fields = {
        "kind": kind,
        "root": root,
        "labels": None,
        "classes": None,
        "candidates": None,
        "limit": None,
        "preprocessing": PreprocessingSettings(resize=256, crop=224, interpolation="bilinear"),
        "description": "images of a test",
        "caveat": "",
    } | changes
    return (listing or list_images)(DatasetSettings(**fields), cache, seed)


def touch(root: Path, *names: str) -> Path:
    """Empty files: listing images opens none of them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def labels_by_key(images: ImageList) -> dict[str, int]:
    return dict(zip(images.keys, images.labels.tolist(), strict=True))


# Class folders


def test_wordnet_ids_mean_imagenets_indices_not_the_folders_positions(tmp_path):
    touch(tmp_path, "n15075141/a.JPEG", "n01443537/b.JPEG", "n01440764/c.JPEG")
    assert labels_by_key(listed("imagefolder", tmp_path)) == {
        "n01440764/c.JPEG": 0,
        "n01443537/b.JPEG": 1,
        "n15075141/a.JPEG": 999,
    }


def test_english_names_mean_imagenets_indices(tmp_path):
    touch(tmp_path, "goldfish/a.png", "tench/b.png", "toilet tissue/c.png")
    assert labels_by_key(listed("imagefolder", tmp_path)) == {
        "goldfish/a.png": 1,
        "tench/b.png": 0,
        "toilet tissue/c.png": 999,
    }


@pytest.mark.parametrize(
    "name",
    ["great white shark", "great_white_shark", "Great-White-Shark", "Carcharodon carcharias"],
)
def test_spelling_and_synonyms_of_a_class_do_not_matter(tmp_path, name):
    touch(tmp_path, f"{name}/a.jpg")
    assert listed("imagefolder", tmp_path).labels.tolist() == [2]


def test_a_name_of_two_classes_is_refused(tmp_path):
    touch(tmp_path, "crane/a.jpg")
    with pytest.raises(InputError, match="'crane'"):
        listed("imagefolder", tmp_path)


@pytest.mark.parametrize(("known", "unknown"), [("tench", "my cat"), ("n01440764", "n00000001")])
def test_an_unknown_class_is_refused_by_name(tmp_path, known, unknown):
    touch(tmp_path, f"{known}/a.jpg", f"{unknown}/b.jpg")
    with pytest.raises(InputError, match=rf"'{unknown}'.*\(1 of 2 .*dataset\.classes"):
        listed("imagefolder", tmp_path)


def test_classes_file_gives_the_order_of_the_outputs(tmp_path):
    root = touch(tmp_path / "images", "cat/a.jpg", "dog/b.jpg", "tench/c.jpg")
    classes = write(tmp_path / "classes.txt", "tench\n  dog \n\ncat\n")
    assert labels_by_key(listed("imagefolder", root, classes=classes)) == {
        "tench/c.jpg": 0,
        "dog/b.jpg": 1,
        "cat/a.jpg": 2,
    }


def test_with_a_classes_file_imagenets_names_do_not_count(tmp_path):
    root = touch(tmp_path / "images", "cat/a.jpg", "goldfish/b.jpg")
    classes = write(tmp_path / "classes.txt", "cat\ndog\n")
    with pytest.raises(InputError, match="'goldfish'"):
        listed("imagefolder", root, classes=classes)


def test_a_missing_classes_file_is_refused_by_path(tmp_path):
    root = touch(tmp_path / "images", "cat/a.jpg")
    with pytest.raises(InputError, match=r"dataset\.classes=.*absent\.txt"):
        listed("imagefolder", root, classes=tmp_path / "absent.txt")


def test_images_in_nested_folders_belong_to_the_outer_folders_class(tmp_path):
    touch(tmp_path, "tench/2020/may/a.jpg", "tench/b.jpg")
    assert labels_by_key(listed("imagefolder", tmp_path)) == {
        "tench/2020/may/a.jpg": 0,
        "tench/b.jpg": 0,
    }


def test_hidden_files_hidden_folders_and_other_files_are_ignored(tmp_path):
    touch(
        tmp_path,
        "tench/a.jpg",
        "tench/._a.jpg",
        "tench/.hidden.png",
        "tench/notes.txt",
        ".cache/b.jpg",
        "stray.jpg",
        "readme.md",
    )
    assert listed("imagefolder", tmp_path).keys == ("tench/a.jpg",)


def test_suffixes_count_in_any_case(tmp_path):
    touch(tmp_path, "tench/a.JPEG", "tench/b.Png", "tench/c.tif", "tench/d.webp", "tench/e.gif")
    assert listed("imagefolder", tmp_path).keys == (
        "tench/a.JPEG",
        "tench/b.Png",
        "tench/c.tif",
        "tench/d.webp",
    )


def test_a_class_folder_without_images_is_ignored_whatever_its_name(tmp_path):
    touch(tmp_path, "tench/a.jpg", "not a class/notes.txt")
    (tmp_path / "empty").mkdir()
    assert listed("imagefolder", tmp_path).keys == ("tench/a.jpg",)


@pytest.mark.parametrize("kind", ["imagefolder", "imagenet"])
def test_a_root_without_images_is_refused_by_path(tmp_path, kind):
    root = tmp_path / "bare"
    root.mkdir()
    with pytest.raises(InputError, match=r"dataset\.root=.*bare"):
        listed(kind, root)


@pytest.mark.parametrize("kind", ["imagefolder", "imagenet"])
def test_a_missing_root_is_refused_by_path(tmp_path, kind):
    with pytest.raises(InputError, match=r"dataset\.root=.*absent is not a folder"):
        listed(kind, tmp_path / "absent")


@pytest.mark.parametrize("kind", ["imagefolder", "imagenet"])
def test_an_unset_root_is_refused_with_an_example(kind):
    with pytest.raises(InputError, match=r"dataset\.root is not set.*dataset\.root=/data/"):
        listed(kind, None)


# Keys and order


def test_a_decomposed_file_name_gets_the_composed_key(tmp_path):
    composed = "é.jpg"
    decomposed = unicodedata.normalize("NFD", composed)
    assert decomposed != composed
    touch(tmp_path, f"tench/{decomposed}")
    images = listed("imagefolder", tmp_path)
    assert images.keys == ("tench/é.jpg",)
    assert images.paths[0].exists()


def test_two_files_with_one_key_are_refused(tmp_path):
    touch(tmp_path, "tench/é.jpg", f"tench/{unicodedata.normalize('NFD', 'é')}.jpg")
    if len(list((tmp_path / "tench").iterdir())) == 1:
        pytest.skip("this file system normalises names itself")
    with pytest.raises(InputError, match=r"'tench/é\.jpg'"):
        listed("imagefolder", tmp_path)


def test_images_are_ordered_by_key_with_their_paths_and_labels(tmp_path):
    # As strings, '-' sorts before '/', and capitals before small letters.
    root = touch(tmp_path / "images", "a/y.jpg", "a/x.jpg", "a-b/z.jpg", "B/w.jpg")
    images = listed("imagefolder", root, classes=write(tmp_path / "c.txt", "a\na-b\nB\n"))
    assert images.keys == ("B/w.jpg", "a-b/z.jpg", "a/x.jpg", "a/y.jpg")
    assert images.labels.tolist() == [2, 1, 0, 0]
    assert images.paths == tuple(root / key for key in images.keys)


def test_take_keeps_the_order_that_was_asked_for(tmp_path):
    images = listed("imagefolder", touch(tmp_path, "tench/a.jpg", "goldfish/b.jpg", "tench/c.jpg"))
    taken = images.take([2, 0])
    assert taken.keys == ("tench/c.jpg", "goldfish/b.jpg")
    assert taken.labels.tolist() == [0, 1]
    assert [path.name for path in taken.paths] == ["c.jpg", "b.jpg"]


# The ILSVRC validation folder


def flat(tmp_path: Path) -> Path:
    return touch(
        tmp_path / "val",
        "ILSVRC2012_val_00000001.JPEG",
        "ILSVRC2012_val_00000002.JPEG",
        "ILSVRC2012_val_00000003.JPEG",
    )


@pytest.mark.parametrize(
    "text",
    [
        "ILSVRC2012_val_00000001.JPEG n01751748\n"
        "ILSVRC2012_val_00000003.JPEG n01440764\n"
        "ILSVRC2012_val_00000002.JPEG n15075141\n",
        "ILSVRC2012_val_00000001.JPEG,65\n"
        "ILSVRC2012_val_00000002.JPEG,999\n"
        "\n"
        "ILSVRC2012_val_00000003.JPEG,0\n",
        "ILSVRC2012_val_00000001\t65\r\n"
        "ILSVRC2012_val_00000002\t999\r\n"
        "ILSVRC2012_val_00000003\t0\r\n",
        "ImageId,PredictionString\n"
        "ILSVRC2012_val_00000002,n15075141 10 20 300 400 5 6 70 80 \n"
        "ILSVRC2012_val_00000001,n01751748 111 108 441 193 \n"
        "ILSVRC2012_val_00000003,n01440764 0 7 499 344 \n",
    ],
    ids=["name and wnid", "name,index", "name, tab, index", "Kaggle's LOC_val_solution.csv"],
)
def test_a_flat_folder_is_labelled_by_the_labels_file(tmp_path, text):
    labels = write(tmp_path / "labels.txt", text)
    images = listed("imagenet", flat(tmp_path), labels=labels)
    assert images.keys == (
        "ILSVRC2012_val_00000001.JPEG",
        "ILSVRC2012_val_00000002.JPEG",
        "ILSVRC2012_val_00000003.JPEG",
    )
    assert images.labels.tolist() == [65, 999, 0]


def test_labels_of_images_that_are_not_there_do_no_harm(tmp_path):
    root = touch(tmp_path / "val", "b.JPEG")
    labels = write(tmp_path / "labels.txt", "a.JPEG 3\nb.JPEG 4\nc.JPEG 5\n")
    assert labels_by_key(listed("imagenet", root, labels=labels)) == {"b.JPEG": 4}


def test_bare_ground_truth_numbers_are_refused(tmp_path):
    labels = write(tmp_path / "ILSVRC2012_validation_ground_truth.txt", "490\n361\n171\n")
    with pytest.raises(InputError, match=r"ground_truth\.txt holds bare numbers"):
        listed("imagenet", flat(tmp_path), labels=labels)


def test_a_flat_folder_without_labels_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"dataset\.labels"):
        listed("imagenet", flat(tmp_path))


def test_a_missing_labels_file_is_refused_by_path(tmp_path):
    with pytest.raises(InputError, match=r"dataset\.labels=.*absent\.txt"):
        listed("imagenet", flat(tmp_path), labels=tmp_path / "absent.txt")


def test_an_image_without_a_label_is_refused_by_name(tmp_path):
    labels = write(
        tmp_path / "labels.txt",
        "ILSVRC2012_val_00000001.JPEG 1\nILSVRC2012_val_00000003.JPEG 3\n",
    )
    with pytest.raises(InputError, match=r"ILSVRC2012_val_00000002\.JPEG \(1 of 3"):
        listed("imagenet", flat(tmp_path), labels=labels)


@pytest.mark.parametrize("label", ["n00000001", "1000", "-1", "tench", ""])
def test_a_bad_label_is_refused_with_its_line(tmp_path, label):
    labels = write(tmp_path / "labels.txt", f"\na.JPEG 1\nb.JPEG {label}\nc.JPEG 2\n")
    with pytest.raises(InputError, match=rf"labels\.txt, line 3: '{label}'"):
        listed("imagenet", flat(tmp_path), labels=labels)


def test_the_parent_of_val_stands_for_val(tmp_path):
    touch(tmp_path, "val/n01440764/a.JPEG", "train/n15075141/b.JPEG")
    from_parent = listed("imagenet", tmp_path)
    assert from_parent.keys == listed("imagenet", tmp_path / "val").keys == ("n01440764/a.JPEG",)
    assert from_parent.labels.tolist() == [0]


def test_the_parent_of_a_flat_val_stands_for_it_too(tmp_path):
    root = touch(tmp_path, "val/a.JPEG")
    labels = write(tmp_path / "labels.txt", "a.JPEG n01443537\n")
    assert labels_by_key(listed("imagenet", root, labels=labels)) == {"a.JPEG": 1}


# Images that packages and downloads bring


def test_foolbox_brings_20_images_labelled_by_their_names():
    images = listed("foolbox", None)
    assert len(images) == 20
    assert images.keys[:3] == ("imagenet_00_243.jpg", "imagenet_01_559.jpg", "imagenet_02_438.jpg")
    assert images.labels[:3].tolist() == [243, 559, 438]
    assert all(path.is_file() for path in images.paths)


def refuse_download(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(torchvision.datasets, "Imagenette", download)


def test_imagenette_that_is_there_is_not_downloaded(tmp_path, monkeypatch):
    refuse_download(monkeypatch, AssertionError("downloads"))
    touch(tmp_path, "imagenette2/val/n01440764/x.JPEG", "imagenette2/val/n03888257/y.JPEG")
    touch(tmp_path, "imagenette2/train/n01440764/z.JPEG")
    assert labels_by_key(listed("imagenette", tmp_path)) == {
        "n01440764/x.JPEG": 0,
        "n03888257/y.JPEG": 701,
    }


def test_imagenette_without_a_root_lies_in_the_cache(tmp_path, monkeypatch):
    refuse_download(monkeypatch, AssertionError("downloads"))
    touch(tmp_path, "imagenette/imagenette2/val/n01440764/x.JPEG")
    assert listed("imagenette", None, cache=tmp_path).keys == ("n01440764/x.JPEG",)


@pytest.mark.parametrize(
    "error", [RuntimeError("the archive is damaged"), URLError("no network here")], ids=repr
)
def test_a_failing_download_of_imagenette_says_why_and_what_else_to_do(
    tmp_path, monkeypatch, error
):
    refuse_download(monkeypatch, error)
    with pytest.raises(InputError, match=r"(damaged|no network here).*dataset\.root"):
        listed("imagenette", tmp_path)


# Samples


def test_candidates_keep_a_sample_of_the_images(tmp_path):
    root = touch(tmp_path, *(f"tench/{number}.jpg" for number in range(20)))
    everything = listed("imagefolder", root)
    some = listed("imagefolder", root, candidates=5)
    assert len(some) == 5
    assert set(some.keys) < set(everything.keys)
    assert list(some.keys) == sorted(some.keys)
    assert listed("imagefolder", root, candidates=5, seed=1).keys != some.keys


KEYS = st.lists(st.text(max_size=8), unique=True, max_size=30)
SIZES = st.integers(0, 40)
SEEDS = st.integers(0, 2**40)


def sampled(keys: list[str], size: int | None, seed: int) -> list[str]:
    return [keys[index] for index in sample(keys, size, seed)]


@settings(deadline=None)
@given(KEYS, SIZES, SEEDS)
def test_a_sample_has_the_size_asked_for_or_everything(keys, size, seed):
    indices = sample(keys, size, seed)
    assert len(indices) == min(size, len(keys))
    assert indices == sorted(set(indices))
    assert all(0 <= index < len(keys) for index in indices)


@settings(deadline=None)
@given(KEYS, SIZES, SEEDS)
def test_a_sample_repeats_itself(keys, size, seed):
    assert sample(keys, size, seed) == sample(keys, size, seed)


@settings(deadline=None)
@given(st.data(), KEYS, SIZES, SEEDS)
def test_a_sample_does_not_depend_on_the_order(data, keys, size, seed):
    shuffled = data.draw(st.permutations(keys))
    assert set(sampled(keys, size, seed)) == set(sampled(shuffled, size, seed))


@settings(deadline=None)
@given(st.data(), KEYS, SIZES, SEEDS)
def test_the_sample_of_a_subset_is_its_share_of_the_sample(data, keys, size, seed):
    chosen = set(sampled(keys, size, seed))
    subset = [key for key in keys if data.draw(st.booleans())]
    share = [key for key in subset if key in chosen]
    assert sampled(subset, len(share), seed) == share


@settings(deadline=None)
@given(KEYS, SEEDS)
def test_without_a_size_everything_is_kept(keys, seed):
    assert sample(keys, None, seed) == list(range(len(keys)))


def test_another_seed_draws_another_sample():
    keys = [f"{number}.jpg" for number in range(1000)]
    first, second = set(sample(keys, 500, 0)), set(sample(keys, 500, 1))
    # Two independent halves of 1000 share 250 ± 8 (one standard deviation).
    assert 200 < len(first & second) < 300


# What editors and file systems add


@pytest.mark.parametrize("folder", ["caf\u00e9", "cafe\u0301"], ids=["composed", "decomposed"])
def test_class_names_are_compared_as_composed_unicode(tmp_path, folder):
    touch(tmp_path / "images", f"{folder}/a.jpg")
    classes = write(tmp_path / "classes.txt", "tea\ncafé\n")
    found = listed("imagefolder", tmp_path / "images", classes=classes)
    assert found.labels.tolist() == [1]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    touch(tmp_path / "images", "cat/a.jpg")
    classes = write(tmp_path / "classes.txt", "\ufeffcat\ndog\n")
    assert listed("imagefolder", tmp_path / "images", classes=classes).labels.tolist() == [0]
    touch(tmp_path / "val", "a.JPEG")
    labels = write(tmp_path / "labels.csv", "\ufeffImageId,PredictionString\na,n01443537 1 2 3 4\n")
    assert listed("imagenet", tmp_path / "val", labels=labels).labels.tolist() == [1]


def test_hidden_folders_and_folders_named_like_images_are_ignored(tmp_path):
    touch(tmp_path, "tench/a.jpg", "tench/.thumbs/b.jpg", "tench/album.jpg/c.jpg")
    assert listed("imagefolder", tmp_path).keys == ("tench/a.jpg", "tench/album.jpg/c.jpg")


def test_wordnet_ids_and_english_names_may_stand_side_by_side(tmp_path):
    touch(tmp_path, "n01440764/a.jpg", "goldfish/b.jpg")
    assert labels_by_key(listed("imagefolder", tmp_path)) == {
        "n01440764/a.jpg": 0,
        "goldfish/b.jpg": 1,
    }


def test_an_ambiguous_name_is_told_apart_from_an_unknown_one(tmp_path):
    touch(tmp_path, "crane/a.jpg")
    with pytest.raises(InputError, match=r"'crane' fits 2 of .*WordNet id"):
        listed("imagefolder", tmp_path)


def test_two_labels_for_one_image_are_refused(tmp_path):
    touch(tmp_path / "val", "a.JPEG")
    labels = write(tmp_path / "labels.txt", "a.JPEG 1\na.JPEG 2\n")
    with pytest.raises(InputError, match=r"line 2: a\.JPEG had another label"):
        listed("imagenet", tmp_path / "val", labels=labels)


# Folders as classes, and training splits


def test_folders_are_classes_in_the_order_of_their_names(tmp_path):
    touch(tmp_path, "zebra/a.png", "cat/a.png", "my dog/b.png", "empty/notes.txt")
    assert labels_by_key(listed("imagefolder", tmp_path, classes="folders")) == {
        "cat/a.png": 0,
        "my dog/b.png": 1,
        "zebra/a.png": 2,
    }


def test_folders_are_the_same_classes_in_both_splits(tmp_path):
    """Also where one split lacks some of them."""
    test = touch(tmp_path / "test", "cat/a.png", "zebra/a.png")
    train = touch(tmp_path / "train", "ant/a.png", "cat/b.png", "dog/a.png", "zebra/b.png")
    splits = {"classes": "folders", "train_root": train}
    trained = listed("imagefolder", test, listing=list_training_images, **splits)
    assert trained.root == train
    assert labels_by_key(trained) == {
        "ant/a.png": 0, "cat/b.png": 1, "dog/a.png": 2, "zebra/b.png": 3,
    }  # fmt: skip
    assert labels_by_key(listed("imagefolder", test, **splits)) == {
        "cat/a.png": 1,
        "zebra/a.png": 3,
    }


def test_a_training_split_has_the_classes_of_the_data_set(tmp_path):
    train = touch(tmp_path / "train", "tench/a.jpg", "goldfish/b.jpg")
    images = listed("imagefolder", None, listing=list_training_images, train_root=train)
    assert labels_by_key(images) == {"tench/a.jpg": 0, "goldfish/b.jpg": 1}
    classes = write(tmp_path / "classes.txt", "goldfish\ntench\n")
    own = {"train_root": train, "classes": classes, "listing": list_training_images}
    assert labels_by_key(listed("imagefolder", None, **own)) == {
        "tench/a.jpg": 1,
        "goldfish/b.jpg": 0,
    }


@pytest.mark.parametrize("kind", ["imagefolder", "imagenet", "foolbox"])
def test_without_a_training_root_there_is_no_split(tmp_path, kind):
    assert listed(kind, tmp_path, listing=list_training_images) is None


def test_a_training_root_that_is_wrong_is_named(tmp_path):
    with pytest.raises(InputError, match=r"dataset\.train_root=.*absent is not a folder"):
        listed("imagefolder", None, listing=list_training_images, train_root=tmp_path / "absent")
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match=r"dataset\.train_root=.*bare holds no images"):
        listed("imagefolder", None, listing=list_training_images, train_root=tmp_path / "bare")


def test_candidates_limit_the_training_split(tmp_path):
    train = touch(tmp_path, *(f"tench/{index}.jpg" for index in range(9)))
    options = {"listing": list_training_images, "train_root": train, "candidates": 4}
    some = listed("imagefolder", None, **options)
    assert len(some) == 4
    assert some.keys == listed("imagefolder", train, candidates=4).keys
    assert some.keys != listed("imagefolder", None, seed=1, **options).keys


def test_imagenettes_training_split_lies_beside_its_validation_split(tmp_path):
    touch(tmp_path, "imagenette2/train/n01440764/a.JPEG", "imagenette2/val/n01440764/b.JPEG")
    images = listed("imagenette", tmp_path, listing=list_training_images)
    assert [Path(key).name for key in images.keys] == ["a.JPEG"]
    assert images.labels.tolist() == [0]
