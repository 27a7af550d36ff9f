"""Images in folders: what they are called and how they are labelled."""

import os
import unicodedata
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torchvision
from PIL import Image

from pixelrobust.datasets import list_training_images
from pixelrobust.datasets.classes import imagenet_class_names
from pixelrobust.datasets.decoded import decode
from pixelrobust.datasets.folders import class_names_of
from pixelrobust.errors import InputError
from tests.datasets.cases import SMALL, config, labels_by_key, listed


def touch(root: Path, *names: str) -> Path:
    """Empty files: listing images opens none of them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_wordnet_ids_and_english_names_mean_imagenets_indices(tmp_path):
    touch(tmp_path, "n15075141/a.JPEG", "goldfish/b.JPEG", "n01440764/c.JPEG")
    assert labels_by_key(listed("imagefolder", root=tmp_path)) == {
        "n01440764/c.JPEG": 0,
        "goldfish/b.JPEG": 1,
        "n15075141/a.JPEG": 999,
    }


@pytest.mark.parametrize(
    "name",
    ["great white shark", "great_white_shark", "Great-White-Shark", "Carcharodon carcharias"],
)
def test_spelling_and_synonyms_of_a_class_do_not_matter(tmp_path, name):
    touch(tmp_path, f"{name}/a.jpg")
    assert listed("imagefolder", root=tmp_path).labels.tolist() == [2]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("my cat", r"'my cat' is not among ImageNet.*\(1 of 2 .*dataset\.classes"),
        ("n00000001", r"'n00000001' is not among .*\(1 of 2 "),
        ("crane", r"'crane' fits 2 of .*WordNet id"),
    ],
)
def test_an_unknown_or_ambiguous_class_is_refused(tmp_path, name, fault):
    touch(tmp_path, "tench/a.jpg", f"{name}/b.jpg")
    with pytest.raises(InputError, match=fault):
        listed("imagefolder", root=tmp_path)


def test_a_classes_file_gives_the_order_of_the_outputs(tmp_path):
    root = touch(tmp_path / "images", "cat/a.jpg", "dog/b.jpg", "tench/c.jpg")
    classes = write(tmp_path / "classes.txt", "\ufefftench\n  dog \n\ncat\n")
    assert labels_by_key(listed("imagefolder", root=root, classes=classes)) == {
        "tench/c.jpg": 0,
        "dog/b.jpg": 1,
        "cat/a.jpg": 2,
    }
    touch(root, "goldfish/b.jpg")
    with pytest.raises(InputError, match=r"'goldfish' is not among the names in dataset\.classes"):
        listed("imagefolder", root=root, classes=classes)
    with pytest.raises(InputError, match=r"dataset\.classes=.*absent\.txt"):
        listed("imagefolder", root=root, classes=tmp_path / "absent.txt")


def test_a_synset_file_names_classes_by_id_and_by_words(tmp_path):
    lines = "n02123045 tabby, tabby cat\nn01440764 tench, Tinca tinca\nn02012849\tcrane\nn03126707\tcrane"
    classes = write(tmp_path / "synsets.txt", lines)
    root = touch(tmp_path / "images", "n01440764/a.jpg", "tabby cat/b.jpg", "n03126707/c.jpg")
    found = labels_by_key(listed("imagefolder", root=root, classes=classes))
    assert found == {"n01440764/a.jpg": 1, "tabby cat/b.jpg": 0, "n03126707/c.jpg": 3}


@pytest.mark.parametrize("first", [[], ["background"]])
def test_a_list_of_imagenets_names_in_its_order_knows_their_ids(tmp_path, first):
    """By which alone its two cranes can be told apart."""
    names = [*first, *(names[0] for names in imagenet_class_names())]
    classes = write(tmp_path / "classes.txt", "\n".join(names))
    root = touch(tmp_path / "images", "n02012849/a.jpg", "n03126707/b.jpg", "polecat/c.jpg")
    found = labels_by_key(listed("imagefolder", root=root, classes=classes))
    shift = len(first)
    assert found == {
        "n02012849/a.jpg": 134 + shift, "n03126707/b.jpg": 517 + shift, "polecat/c.jpg": 358 + shift
    }  # fmt: skip


def test_a_whole_name_counts_before_a_part_of_another(tmp_path):
    classes = write(tmp_path / "classes.txt", "dog, small\ndog\n")
    root = touch(tmp_path / "images", "dog/a.jpg", "dog, small/b.jpg")
    found = labels_by_key(listed("imagefolder", root=root, classes=classes))
    assert found == {"dog/a.jpg": 1, "dog, small/b.jpg": 0}


@pytest.mark.parametrize("folder", ["caf\u00e9", "cafe\u0301"], ids=["composed", "decomposed"])
def test_class_names_are_compared_as_composed_unicode(tmp_path, folder):
    root = touch(tmp_path / "images", f"{folder}/a.jpg")
    classes = write(tmp_path / "classes.txt", "tea\ncafé\n")
    assert listed("imagefolder", root=root, classes=classes).labels.tolist() == [1]


def test_images_count_below_class_folders_by_their_suffix_unless_they_are_hidden(tmp_path):
    touch(tmp_path, "tench/2020/may/a.JPEG", "tench/b.Png", "tench/c.tif", "tench/album.jpg/d.webp")
    touch(tmp_path, "tench/._a.jpg", "tench/.thumbs/b.jpg", "tench/e.gif", "tench/notes.txt")
    touch(tmp_path, "tench/f.jfif", "tench/g.AVIF", "tench/h.eps", "tench/i.heic")
    touch(tmp_path, ".cache/b.jpg", "stray.jpg", "not a class/notes.txt")
    (tmp_path / "empty").mkdir()
    images = listed("imagefolder", root=tmp_path)
    assert labels_by_key(images) == {
        "tench/2020/may/a.JPEG": 0,
        "tench/album.jpg/d.webp": 0,
        "tench/b.Png": 0,
        "tench/c.tif": 0,
        "tench/e.gif": 0,
        "tench/f.jfif": 0,
        "tench/g.AVIF": 0,
    }
    assert sorted(images.left_out) == [
        "not a class/notes.txt", "stray.jpg", "tench/h.eps", "tench/i.heic", "tench/notes.txt",
    ]  # fmt: skip
    assert images.what_is_left_out.endswith(
        "5 files in " + str(tmp_path) + " are left out for their place or ending: "
        "'not a class/notes.txt', 'stray.jpg', 'tench/h.eps', …"
    )
    assert images.take([0]).left_out == images.left_out
    assert (
        listed("imagefolder", root=touch(tmp_path / "x", "tench/a.jpg").parent / "x").left_out == ()
    )


def test_linked_folders_take_part_but_for_those_that_lead_back(tmp_path):
    elsewhere = touch(tmp_path / "elsewhere", "deep/a.jpg", "b.jpg")
    root = touch(tmp_path / "images", "tench/c.jpg")
    for link, target in {
        "goldfish": elsewhere,
        "tench/more": elsewhere / "deep",
        "tench/same": elsewhere / "deep",
        "tench/deep/up": root / "tench",
        "all": root,
    }.items():
        (root / link).parent.mkdir(exist_ok=True)
        (root / link).symlink_to(target, target_is_directory=True)
    images = listed("imagefolder", root=root)
    assert labels_by_key(images) == {
        "goldfish/b.jpg": 1,
        "goldfish/deep/a.jpg": 1,
        "tench/c.jpg": 0,
        "tench/more/a.jpg": 0,
        "tench/same/a.jpg": 0,
    }
    assert images.left_out == ("all", "tench/deep/up")


@pytest.mark.parametrize(
    ("form", "ending"),
    [("GIF", "gif"), ("JPEG", "jfif"), ("JPEG2000", "jp2"), ("TGA", "tga"), ("PPM", "pnm")],
)
def test_images_of_these_endings_are_read(tmp_path, form, ending):
    path = tmp_path / "tench" / f"a.{ending}"
    path.parent.mkdir()
    Image.new("RGB", (16, 16), (200, 30, 40)).save(path, form)
    (source,) = listed("imagefolder", root=tmp_path).sources
    assert decode(source, SMALL).mean(axis=(1, 2)) == pytest.approx([200, 30, 40], abs=3)


def test_class_folders_may_be_called_by_the_outputs_numbers(tmp_path):
    root = touch(tmp_path / "images", "0/a.jpg", "7/b.jpg", "010/c.jpg", "999/d.jpg")
    expected = {"0/a.jpg": 0, "7/b.jpg": 7, "010/c.jpg": 10, "999/d.jpg": 999}
    assert labels_by_key(listed("imagefolder", root=root)) == expected
    assert class_names_of(config("imagefolder", root=root)) is None
    # Of a file of names, they are lines, unless names are numbers themselves.
    digits = touch(tmp_path / "digits", "1/a.jpg", "0/b.jpg")
    for names, labels in (("cat\ndog\n", [0, 1]), ("1\n0\n", [1, 0])):
        classes = write(tmp_path / "classes.txt", names)
        assert listed("imagefolder", root=digits, classes=classes).labels.tolist() == labels
    # As torchvision's ImageFolder orders them.
    own = labels_by_key(listed("imagefolder", root=root, classes="own"))
    assert own == {"0/a.jpg": 0, "010/c.jpg": 1, "7/b.jpg": 2, "999/d.jpg": 3}
    touch(root, "-1/e.jpg")
    with pytest.raises(InputError, match=r"class folder '-1' has label -1; give the index"):
        listed("imagefolder", root=root)


@pytest.mark.parametrize("kind", ["imagefolder", "imagenet"])
def test_a_root_that_is_unset_missing_or_bare_is_refused(tmp_path, kind):
    with pytest.raises(InputError, match=r"dataset\.root is not set.*dataset\.root=/data/"):
        listed(kind)
    absent, bare = tmp_path / "absent", tmp_path / "bare"
    training = {"listing": list_training_images, "train_root": absent}
    for key, keys in (("root", {"root": absent}), ("train_root", training)):
        with pytest.raises(InputError, match=rf"dataset\.{key}=.*absent is not a folder"):
            listed(kind, **keys)
    for folder in (bare, bare / "cat"):
        folder.mkdir()
        for key, keys in (
            ("root", {"root": bare}),
            ("train_root", training | {"train_root": bare}),
        ):
            with pytest.raises(InputError, match=rf"dataset\.{key}=.*bare holds no images"):
                listed(kind, **keys)


def test_a_decomposed_file_name_gets_the_composed_key_unless_both_are_there(tmp_path):
    touch(tmp_path, f"tench/{unicodedata.normalize('NFD', 'é')}.jpg")
    images = listed("imagefolder", root=tmp_path)
    assert images.keys == ("tench/é.jpg",)
    assert images.paths[0].exists()
    touch(tmp_path, "tench/é.jpg")
    if len(list((tmp_path / "tench").iterdir())) == 1:
        pytest.skip("this file system normalises names itself")
    with pytest.raises(InputError, match=r"'tench/é\.jpg'"):
        listed("imagefolder", root=tmp_path)


def test_a_name_that_is_not_unicode_is_refused(tmp_path):
    touch(tmp_path, "tench/" + os.fsdecode(b"\xff.png"))
    with pytest.raises(InputError, match=r"a name that is not Unicode.*rename it"):
        listed("imagefolder", root=tmp_path)


def test_images_are_ordered_by_key_with_their_paths_and_labels(tmp_path):
    # As strings, '-' sorts before '/', and capitals before small letters.
    root = touch(tmp_path / "images", "a/y.jpg", "a/x.jpg", "a-b/z.jpg", "B/w.jpg")
    images = listed("imagefolder", root=root, classes=write(tmp_path / "c.txt", "a\na-b\nB\n"))
    assert images.keys == ("B/w.jpg", "a-b/z.jpg", "a/x.jpg", "a/y.jpg")
    assert images.labels.tolist() == [2, 1, 0, 0]
    assert images.paths == tuple(root / key for key in images.keys)
    taken = images.take([2, 0])
    assert (taken.keys, taken.labels.tolist()) == (("a/x.jpg", "B/w.jpg"), [0, 2])
    assert [path.name for path in taken.paths] == ["x.jpg", "w.jpg"]


def flat(folder: Path) -> Path:
    return touch(folder / "val", "val_1.JPEG", "val_2.JPEG", "val_3.JPEG")


@pytest.mark.parametrize(
    "text",
    [
        "val_1.JPEG n01751748\nval_3.JPEG n01440764\nval_2.JPEG n15075141\nabsent.JPEG 5\n",
        "val_1.JPEG,65\nval_2.JPEG,999\n\nval_3.JPEG,0\n",
        "val_1\t65\r\nval_2\t999\r\nval_3\t0\r\n",
        "\ufeffImageId,PredictionString\n"
        "val_2,n15075141 10 20 300 400 5 6 70 80 \n"
        "val_1,n01751748 111 108 441 193 \n"
        "val_3,n01440764 0 7 499 344 \n",
        'file name,class\nval_1.JPEG,65\nval_2.JPEG,999\n"val_3.JPEG",0\n',
        "\nimage label\nval_1.JPEG 65\nval_2.JPEG 999\nval_3.JPEG 0\n",
    ],
    ids=[
        "name and wnid",
        "name,index",
        "name, tab, index",
        "Kaggle's LOC_val_solution.csv",
        "another header",
        "a header without commas",
    ],
)
def test_a_flat_folder_is_labelled_by_the_labels_file(tmp_path, text):
    labels = write(tmp_path / "labels.txt", text)
    images = listed("imagenet", root=flat(tmp_path), labels=labels)
    assert labels_by_key(images) == {"val_1.JPEG": 65, "val_2.JPEG": 999, "val_3.JPEG": 0}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, r"dataset\.labels=.*labels\.txt cannot be read"),
        ("490\n361\n171\n", r"labels\.txt holds bare numbers"),
        ("val_1.JPEG 1\nval_3.JPEG 3\n", r"val_2\.JPEG \(1 of 3"),
        # What names an image is no header.
        ("val_1.JPEG tench\nval_2.JPEG 1\nval_3.JPEG 3\n", r"labels\.txt, line 1: 'tench'"),
        ("image label\nother header\n", r"labels\.txt, line 2: 'header'"),
        ("val_1.JPEG 1\nval_1.JPEG 2\n", r"line 2: val_1\.JPEG had another label"),
        *(
            (f"\na.JPEG 1\nb.JPEG {label}\n", rf"labels\.txt, line 3: '{label}'")
            for label in ("n00000001", "1000", "-1", "tench", "")
        ),
    ],
)
def test_a_labels_file_that_cannot_be_meant_is_refused(tmp_path, text, fault):
    if text is not None:
        write(tmp_path / "labels.txt", text)
    with pytest.raises(InputError, match=fault):
        listed("imagenet", root=flat(tmp_path), labels=tmp_path / "labels.txt")


def test_names_in_a_labels_file_may_hold_blanks_and_commas(tmp_path):
    root = touch(tmp_path / "val", "my tench.jpg", "one, two.jpg")
    labels = write(tmp_path / "labels.csv", 'my tench.jpg,0\n"one, two.jpg",1\n')
    images = listed("imagenet", root=root, labels=labels)
    assert labels_by_key(images) == {"my tench.jpg": 0, "one, two.jpg": 1}


def test_a_stray_image_beside_imagenets_class_folders_is_left_out(tmp_path):
    touch(tmp_path, "n01440764/a.JPEG", "preview.png")
    images = listed("imagenet", root=tmp_path)
    assert (images.keys, images.left_out) == (("n01440764/a.JPEG",), ("preview.png",))
    # With labels it is the images without folders that are meant.
    labels = write(tmp_path / "labels.txt", "preview.png 5\n")
    images = listed("imagenet", root=tmp_path, labels=labels)
    assert images.keys == ("preview.png",)
    assert sorted(images.left_out) == ["labels.txt", "n01440764/a.JPEG"]


def test_a_flat_folder_without_labels_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"labels are unknown; give dataset\.labels"):
        listed("imagenet", root=flat(tmp_path))


def test_the_parent_of_val_stands_for_val(tmp_path):
    touch(tmp_path, "val/n01440764/a.JPEG", "train/n15075141/b.JPEG")
    for root in (tmp_path, tmp_path / "val"):
        assert labels_by_key(listed("imagenet", root=root)) == {"n01440764/a.JPEG": 0}
    labels = write(tmp_path / "labels.txt", "a.JPEG n01443537\n")
    root = touch(tmp_path / "flat", "val/a.JPEG").parent / "flat"
    assert labels_by_key(listed("imagenet", root=root, labels=labels)) == {"a.JPEG": 1}


def test_foolbox_brings_20_images_labelled_by_their_names(monkeypatch):
    images = listed("foolbox")
    assert len(images) == 20
    assert images.keys[:3] == ("imagenet_00_243.jpg", "imagenet_01_559.jpg", "imagenet_02_438.jpg")
    assert images.labels[:3].tolist() == [243, 559, 438]
    assert all(path.is_file() for path in images.paths)
    monkeypatch.setattr("pixelrobust.datasets.folders.package_folder", lambda name: None)
    with pytest.raises(InputError, match=r"foolbox package, which is not installed; .*bundled"):
        listed("foolbox")


def refuse_download(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(torchvision.datasets, "Imagenette", download)


def test_imagenette_that_is_there_is_not_downloaded(tmp_path, monkeypatch):
    refuse_download(monkeypatch, AssertionError("downloads"))
    root = tmp_path / "imagenette"
    touch(root, "imagenette2/val/n01440764/x.JPEG", "imagenette2/val/n03888257/y.JPEG")
    touch(root, "imagenette2/train/n01440764/z.JPEG")
    # Without a root it lies in the cache folder.
    for place in ({"root": root}, {"cache": tmp_path}):
        expected = {"n01440764/x.JPEG": 0, "n03888257/y.JPEG": 701}
        assert labels_by_key(listed("imagenette", **place)) == expected
        trained = listed("imagenette", listing=list_training_images, **place)
        assert labels_by_key(trained) == {"n01440764/z.JPEG": 0}


@pytest.mark.parametrize(
    "error", [RuntimeError("the archive is damaged"), URLError("no network here")], ids=repr
)
def test_a_failing_download_of_imagenette_says_why_and_what_else_to_do(
    tmp_path, monkeypatch, error
):
    refuse_download(monkeypatch, error)
    with pytest.raises(InputError, match=r"(damaged|no network here).*dataset\.root"):
        listed("imagenette", root=tmp_path)


def test_folders_are_the_same_classes_in_both_splits_in_the_order_of_their_names(tmp_path):
    """Also where one split lacks some of them."""
    test = touch(tmp_path / "test", "cat/a.png", "zebra/a.png", "empty/notes.txt")
    train = touch(tmp_path / "train", "ant/a.png", "cat/b.png", "my dog/a.png", "zebra/b.png")
    assert listed("imagefolder", root=test, classes="folders").labels.tolist() == [0, 1]
    splits = {"root": test, "train_root": train, "classes": "own"}
    trained = listed("imagefolder", listing=list_training_images, **splits)
    assert (trained.root, trained.labels.tolist()) == (train, [0, 1, 2, 3])
    assert labels_by_key(listed("imagefolder", **splits)) == {"cat/a.png": 1, "zebra/a.png": 3}
    assert class_names_of(config("imagefolder", **splits)) == (
        ("ant",), ("cat",), ("my dog",), ("zebra",),
    )  # fmt: skip


def test_a_training_split_has_the_classes_of_the_data_set(tmp_path):
    train = touch(tmp_path / "train", "tench/a.jpg", "goldfish/b.jpg")
    keys = {"train_root": train, "listing": list_training_images}
    assert labels_by_key(listed("imagefolder", **keys)) == {"tench/a.jpg": 0, "goldfish/b.jpg": 1}
    classes = write(tmp_path / "classes.txt", "goldfish\ntench\n")
    own = listed("imagefolder", classes=classes, **keys)
    assert labels_by_key(own) == {"tench/a.jpg": 1, "goldfish/b.jpg": 0}
    for kind in ("imagefolder", "imagenet", "foolbox"):
        assert listed(kind, root=train, listing=list_training_images) is None


def test_candidates_keep_the_same_sample_of_either_split(tmp_path):
    root = touch(tmp_path, *(f"tench/{number}.jpg" for number in range(20)))
    some = listed("imagefolder", root=root, candidates=5)
    assert len(some) == 5
    assert listed("imagefolder", root=root, candidates=5, seed=1).keys != some.keys
    training = {"listing": list_training_images, "train_root": root, "candidates": 5}
    assert listed("imagefolder", **training).keys == some.keys
