"""Layouts: told apart by themselves, read completely, and every oddity named."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inspection_models.data import Box, DatasetError, Polygon, RunLengths, Sample, load_dataset, twins
from inspection_models.data.dataset import make_dataset
from tests.inspection_models.data_files import image_folder, magnetic_tile, neu_det, real_data, write_image, write_mask

TILES = {
    "Free": ["exp1_num_100", "exp2_num_112", "exp6_num_300", "exp1_num_501"],
    "Crack": ["exp3_num_130", "exp1_num_9000"],
}


def test_an_image_folder(tmp_path: Path) -> None:
    image_folder(tmp_path, {"scratch": 3, "OK": 2})
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "OK" / "Thumbs.db").write_bytes(b"x")
    dataset = load_dataset(tmp_path)
    assert (dataset.layout, dataset.classes, dataset.good_class) == ("image-folder", ("OK", "scratch"), "OK")
    assert dataset.counts == {"OK": 2, "scratch": 3}
    assert dataset.ignored == ("OK/Thumbs.db", "notes.txt")
    assert [s.path.name for s in dataset.samples] == ["000.png", "001.png", "000.png", "001.png", "002.png"]
    assert dataset.samples[0].sha256 == hashlib.sha256(dataset.samples[0].path.read_bytes()).hexdigest()


def test_an_image_folder_beneath_images_with_masks(tmp_path: Path) -> None:
    image_folder(tmp_path, {"good": 2, "pit": 2}, beneath="images")
    mask = write_image(tmp_path / "masks" / "pit" / "001.png", 9)
    dataset = load_dataset(tmp_path)
    assert [s.mask_path for s in dataset.samples] == [None, None, None, mask]
    write_image(tmp_path / "masks" / "pit" / "777.png", 9)
    with pytest.raises(DatasetError, match=r"777\.png is a mask without an image"):
        load_dataset(tmp_path)


def test_the_magnetic_tile_layout(tmp_path: Path) -> None:
    dataset = load_dataset(magnetic_tile(tmp_path, TILES))
    assert (dataset.layout, dataset.classes, dataset.good_class) == ("magnetic-tile", ("Crack", "Free"), "Free")
    group = {s.path.stem: s.group for s in dataset.samples}
    together = {group[stem] for stem in ("exp1_num_100", "exp2_num_112", "exp3_num_130", "exp6_num_300")}
    assert len(together) == 1
    assert len({group["exp1_num_501"], group["exp1_num_9000"]} | together) == 3
    assert all(s.mask_path == s.path.with_suffix(".png") for s in dataset.samples)


@pytest.mark.parametrize(("suffix", "missing"), [(".png", "mask"), (".jpg", "photograph")])
def test_a_tile_without_its_partner_is_named(tmp_path: Path, suffix: str, missing: str) -> None:
    (magnetic_tile(tmp_path, TILES) / "MT_Free" / "Imgs" / f"exp2_num_112{suffix}").unlink()
    with pytest.raises(DatasetError, match=f"exp2_num_112 has no {missing}"):
        load_dataset(tmp_path)


def test_a_mask_of_another_size_a_foreign_name_and_damage_are_named(tmp_path: Path) -> None:
    folder = magnetic_tile(tmp_path, TILES) / "MT_Free" / "Imgs"
    write_image(folder / "exp2_num_112.png", 1, (3, 4))
    with pytest.raises(
        DatasetError, match=r"exp2_num_112\.png: the mask is 4 x 3 pixels and its image, as a viewer shows it, 16 x 12"
    ):
        load_dataset(tmp_path)
    (folder / "exp2_num_112.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"exp2_num_112\.png: the mask cannot be read"):
        load_dataset(tmp_path)
    for suffix in (".jpg", ".png"):
        (folder / f"exp2_num_112{suffix}").rename(folder / f"tile7{suffix}")
    with pytest.raises(DatasetError, match=r"tile7\.jpg is not named"):
        load_dataset(tmp_path)


def test_the_neu_det_layout_counts_boxes_from_zero_and_trusts_the_stem(tmp_path: Path) -> None:
    boxes = {
        "rolled-in_scale_1": [("rolled-in_scale", (1, 1, 16, 12))],
        "patches_7": [("inclusion", (3, 4, 3, 6)), ("patches", (2, 2, 5, 5))],
    }
    dataset = load_dataset(neu_det(tmp_path, boxes))
    assert (dataset.layout, dataset.classes, dataset.good_class) == ("neu-det", ("patches", "rolled-in_scale"), None)
    patches, scale = dataset.samples
    assert [(b.label, b.x, b.y, b.width, b.height) for b in patches.boxes] == [
        ("inclusion", 2, 3, 1, 3),
        ("patches", 1, 1, 4, 4),
    ]
    assert [(b.x, b.y, b.width, b.height) for b in scale.boxes] == [(0, 0, 16, 12)]


def test_oddities_of_annotations_are_named(tmp_path: Path) -> None:
    good = {"crazing_1": [("crazing", (1, 1, 4, 4))], "patches_1": [("patches", (1, 1, 4, 4))]}
    root = neu_det(tmp_path, good)
    annotation = root / "ANNOTATIONS" / "crazing_1.xml"
    text = annotation.read_text()
    for changed, message in (
        (text.replace("<xmax>4", "<xmax>17"), r"crazing_1\.xml: the box \(1, 1, 17, 4\) does not lie"),
        (text.replace("<xmin>1", "<xmin>0"), "does not lie"),
        (text.replace("<ymin>1", "<ymin>5"), "does not lie"),
        (text.replace("<xmin>1", "<xmin>one"), r"crazing_1\.xml: could not convert"),
        (text.replace("<width>16</width>", ""), "no element size/width"),
        (text[:50], r"crazing_1\.xml: "),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', r"crazing_1\.xml: .*Entit"),
    ):
        annotation.write_text(changed)
        with pytest.raises(DatasetError, match=message):
            load_dataset(root)
    annotation.unlink()
    with pytest.raises(DatasetError, match=r"crazing_1\.jpg has no annotation"):
        load_dataset(root)
    (root / "IMAGES" / "crazing_1.jpg").unlink()
    annotation.write_text(text)
    with pytest.raises(DatasetError, match=r"crazing_1\.xml has no image"):
        load_dataset(root)
    annotation.unlink()
    write_image(root / "IMAGES" / "patches_1.png", 3)
    with pytest.raises(DatasetError, match="same stem"):
        load_dataset(root)


def test_several_layouts_at_once_need_a_word(tmp_path: Path) -> None:
    magnetic_tile(tmp_path, TILES)
    neu_det(tmp_path, {"crazing_1": [], "patches_1": []})
    with pytest.raises(DatasetError, match="could be magnetic-tile or neu-det; say which"):
        load_dataset(tmp_path)
    assert load_dataset(tmp_path, layout="magnetic-tile").layout == "magnetic-tile"
    assert load_dataset(tmp_path, layout="neu-det").layout == "neu-det"
    with pytest.raises(DatasetError, match="no layout 'cocoa'"):
        load_dataset(tmp_path, layout="cocoa")


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is not a directory"):
        load_dataset(tmp_path / "absent")
    with pytest.raises(DatasetError, match="none of the layouts"):
        load_dataset(tmp_path)
    image_folder(tmp_path, {"train": 2, "test": 2})
    with pytest.raises(DatasetError, match="part of a split"):
        load_dataset(tmp_path)


def test_odd_class_folders_are_named(tmp_path: Path) -> None:
    image_folder(tmp_path, {"good": 2, "pit": 2})
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty has no image"):
        load_dataset(tmp_path)
    (tmp_path / "empty").rmdir()
    write_image(tmp_path / "pit" / "deep" / "1.png", 1)
    with pytest.raises(DatasetError, match="deep lies within a class folder"):
        load_dataset(tmp_path)


def test_empty_and_contradicting_files_are_named(tmp_path: Path) -> None:
    image_folder(tmp_path, {"good": 2, "pit": 2})
    (tmp_path / "pit" / "zero.jpg").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"zero\.jpg is empty"):
        load_dataset(tmp_path)
    (tmp_path / "pit" / "zero.jpg").write_bytes((tmp_path / "good" / "001.png").read_bytes())
    with pytest.raises(DatasetError, match=r"001\.png and .*zero\.jpg are the same file but labelled 'good' and 'pit'"):
        load_dataset(tmp_path)


def test_several_classes_of_an_image_are_counted_and_told_apart() -> None:
    root = Path("root")
    one = Sample(root / "1.png", "crack", "1", "1", also=("stain",))
    two = Sample(root / "2.png", "good", "2", "2", part="test")
    dataset = make_dataset(root, [one, two], "csv", notes=["read in a hurry"])
    assert dataset.classes == ("crack", "good", "stain")
    assert dataset.counts == {"crack": 1, "good": 1, "stain": 1}
    assert dataset.multi_label
    assert not make_dataset(root, [two, replace(one, also=())], "csv").multi_label
    assert dataset.notes == ("read in a hurry",)
    lines = [
        '["1.png", "1", ["crack", "stain"], null, "1", null, [], [], []]\n',
        '["2.png", "2", ["good"], "test", "2", null, [], [], []]\n',
    ]
    assert dataset.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    with pytest.raises(DatasetError, match=r"1\.png is labelled 'good' and 'crack' at once"):
        make_dataset(root, [replace(one, also=("good",)), two], "csv")
    with pytest.raises(DatasetError, match="but labelled 'crack' and 'stain' and 'good'; remove"):
        make_dataset(root, [one, replace(two, sha256="1")], "csv")
    for name in ("", " "):
        with pytest.raises(DatasetError, match=r"1\.png has a class without a name"):
            make_dataset(root, [replace(one, also=(name,)), two], "csv")


@pytest.mark.parametrize(
    "change",
    [
        {"group": "2"},
        {"also": ("stain",)},
        {"part": "train"},
        {"mask_sha256": "3"},
        {"boxes": (Box("crack", 1, 2, 3, 4),)},
        {"polygons": (Polygon("crack", ((0.0, 0.0), (1.5, 0.0), (1.0, 2.0))),)},
        {"runs": (RunLengths("crack", (2, 2), (1, 3)),)},
    ],
)
def test_the_data_hash_covers_all_that_a_training_follows_from(change: dict[str, Any]) -> None:
    root = Path("root")
    one, two = Sample(root / "1.png", "crack", "1", "1"), Sample(root / "2.png", "good", "2", "2")
    plain = make_dataset(root, [one, two], "csv").sha256
    assert make_dataset(root, [replace(one, **change), two], "csv").sha256 != plain


def test_the_data_hash_covers_the_mask_and_the_twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_folder(tmp_path, {"good": 3, "pit": 3})
    write_mask(tmp_path / "masks" / "pit" / "000.png")
    before = load_dataset(tmp_path)
    assert before.sha256 == load_dataset(tmp_path).sha256
    with monkeypatch.context() as patch:
        patch.setattr(twins, "twin_pairs", lambda _thumbnails: [(0, 1)])
        assert load_dataset(tmp_path).sha256 != before.sha256
    write_mask(tmp_path / "masks" / "pit" / "000.png", value=7)
    assert load_dataset(tmp_path).sha256 != before.sha256


@pytest.mark.parametrize("name", ["good", "OK", "free", "Normal", "defect-free", "no_defect", "MT_Free", "ok_front"])
def test_the_good_class_is_recognised_by_its_name(tmp_path: Path, name: str) -> None:
    assert load_dataset(image_folder(tmp_path, {name: 1, "pit": 1})).good_class == name


def test_the_good_class_can_be_stated(tmp_path: Path) -> None:
    image_folder(tmp_path, {"class_a": 1, "good": 1, "normal": 1})
    with pytest.raises(DatasetError, match="good, normal could each be the good one"):
        load_dataset(tmp_path)
    assert load_dataset(tmp_path, good_class="class_a").good_class == "class_a"
    assert load_dataset(tmp_path, good_class="").good_class is None
    with pytest.raises(DatasetError, match="'class_b' is not among"):
        load_dataset(tmp_path, good_class="class_b")


def test_the_data_hash_follows_content_place_and_label_only(tmp_path: Path) -> None:
    one = load_dataset(image_folder(tmp_path / "one", {"good": 2, "pit": 2}))
    other = load_dataset(image_folder(tmp_path / "other", {"good": 2, "pit": 2}))
    assert one.sha256 == other.sha256
    lines = [
        f'["{s.label}/{s.path.name}", "{s.sha256}", ["{s.label}"], null, "{s.sha256}", null, [], [], []]\n'
        for s in one.samples
    ]
    assert one.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    (tmp_path / "other" / "pit" / "000.png").rename(tmp_path / "other" / "pit" / "009.png")
    assert load_dataset(tmp_path / "other").sha256 != one.sha256


@pytest.mark.slow
def test_real_magnetic_tiles() -> None:
    dataset = load_dataset(real_data("magnetic-tile"))
    assert dataset.layout == "magnetic-tile"
    assert len(dataset.samples) == 1060
    assert dataset.good_class == "Free"
    assert dataset.counts["Free"] == 742
    assert dataset.classes == ("Blowhole", "Break", "Crack", "Fray", "Free", "Uneven")
    exposures = Counter(s.group for s in dataset.samples)
    # 200 chains of numbers; far apart in number, photographs of one tile join some of them.
    assert len(exposures) == 195
    assert len(dataset.twins) == 136


@pytest.mark.slow
def test_real_neu_det() -> None:
    dataset = load_dataset(real_data("neu-det"))
    assert dataset.layout == "neu-det"
    assert len(dataset.samples) == 1594
    assert dataset.good_class is None
    assert len(dataset.classes) == 6
    foreign = sum(box.label != sample.label for sample in dataset.samples for box in sample.boxes)
    assert foreign == 159
    assert all(sample.boxes for sample in dataset.samples)
    # Textures that are alike are no twins.
    assert [[path.name for path in family] for family in dataset.twins] == [["patches_101.jpg", "patches_105.jpg"]]
