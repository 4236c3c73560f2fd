"""Formats of annotations: read as other programs read them, with every line that cannot be read named."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from inspection_models import brush_rle
from inspection_models.data import Dataset, DatasetError, Sample, load_dataset, truth_of
from inspection_models.outlines import polygon_mask
from tests.inspection_models.data_files import image_folder, write_image, write_mask, write_text, write_voc

SIZE = (12, 16)
AREA = np.zeros(SIZE, np.bool_)
AREA[2:5, 3:8] = True
AREA[7:11, 10] = True

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")


def by_name(dataset: Dataset) -> dict[str, Sample]:
    return {sample.path.relative_to(dataset.root).as_posix(): sample for sample in dataset.samples}


def labels(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {name: sample.labels for name, sample in by_name(dataset).items()}


def images(root: Path, names: str) -> Path:
    for number, name in enumerate(names.split()):
        write_image(root / name, number)
    return root


def problems(root: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        load_dataset(root)
    return str(caught.value)


# CSV


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize(("start", "end"), [(b"", "utf-8"), (b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le")])
def test_a_table_of_any_delimiter_and_encoding(tmp_path: Path, delimiter: str, start: bytes, end: str) -> None:
    images(tmp_path, "a.png photos/b.png photos/c.png d.png")
    rows = [
        ["Image Path", "Class", "Split", "note"],
        ["a.png", "good", "train", "x"],
        ["photos/b.png", "Öl", "val", ""],
        ["photos\\c.png", "crack", "TEST", "y"],
        ["photos\\c.png", "Öl", "TEST", "y"],
    ]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    (tmp_path / "list.CSV").write_bytes(start + text.encode(end))
    dataset = load_dataset(tmp_path)
    assert dataset.layout == "csv"
    assert labels(dataset) == {"a.png": ("good",), "photos/b.png": ("Öl",), "photos/c.png": ("crack", "Öl")}
    assert [sample.part for sample in dataset.samples] == ["train", "validation", "test"]
    assert dataset.ignored == ("d.png",)
    assert any("1 images are no part of the layout and are left out: d.png" in note for note in dataset.notes)


def test_a_table_with_groups_and_masks(tmp_path: Path) -> None:
    images(tmp_path, "a.png b.png c.png")
    write_mask(tmp_path / "m.png")
    write_text(tmp_path / "t.csv", "file,label,group,mask\na.png,crack,7,m.png\nb.png,good,7,\nc.png,good,,\n")
    one, two, three = load_dataset(tmp_path).samples
    assert one.group == two.group == "7"
    assert three.group == three.sha256
    assert one.mask_path == tmp_path / "m.png"


def test_lines_of_a_table_that_cannot_be_are_told_together(tmp_path: Path) -> None:
    images(tmp_path, "a.png b.png c.png")
    lines = [
        "path,label,split",
        "a.png,good,train",
        "a.png,crack,test",
        "b.png,,train",
        "c.png,good,later",
        "gone.png,good,train",
        "../other/a.png,good,train",
        "/etc/hostname,good,train",
        "C:\\photos\\a.png,good,train",
    ]
    table = write_text(tmp_path / "t.csv", "\n".join(lines))
    told = problems(tmp_path)
    assert told.startswith("7 problems:")
    for part in (
        f"{table} line 3: says otherwise of part, group or mask than {table} line 2",
        f"{table} line 4: the label is missing",
        f"{table} line 5: 'later' is no part",
        f"{table} line 6: there is no file 'gone.png'",
        f"{table} line 7: '../other/a.png' leads out of the data set",
        f"{table} line 8: '/etc/hostname' leads out of the data set",
        f"{table} line 9: ",
    ):
        assert part in told
    table.write_bytes(b"path,label\na.png,good\nb.png,\xf6l\n")
    assert "t.csv line 3: not UTF-8 text" in problems(tmp_path)
    table.write_text('path,label\na.png,"good\nb.png,x\n')
    assert "t.csv line 3: unexpected end of data" in problems(tmp_path)
    table.write_text("path,label\na.png,good,x\n")
    assert "t.csv line 2: 3 cells for 2 columns" in problems(tmp_path)


def test_only_the_first_problems_are_listed_with_the_number_of_the_others(tmp_path: Path) -> None:
    write_text(tmp_path / "t.csv", "path,label\n" + "".join(f"{number}.png,good\n" for number in range(25)))
    told = problems(tmp_path).split("\n")
    assert told[0] == "25 problems:"
    assert len(told) == 22
    assert told[-1].strip() == "and 5 more"


def test_a_path_within_the_data_set_may_be_absolute_and_links_must_stay_inside(tmp_path: Path) -> None:
    root = images(tmp_path / "data", "a.png b.png")
    outside = write_image(tmp_path / "outside.png", 9)
    write_text(root / "t.csv", f"path,label\n{root / 'a.png'},good\nb.png,crack\n")
    assert labels(load_dataset(root)) == {"a.png": ("good",), "b.png": ("crack",)}
    (root / "b.png").unlink()
    (root / "b.png").symlink_to(outside)
    assert f"b.png is a link to {outside}, outside the data set" in problems(root)
    (root / "b.png").unlink()
    (root / "b.png").symlink_to(root / "a.png")
    assert "same file but labelled" in problems(root)


def test_broken_links_are_told_of(tmp_path: Path) -> None:
    image_folder(tmp_path, {"good": 2, "pit": 2})
    (tmp_path / "pit" / "9.png").symlink_to(tmp_path / "gone.png")
    assert "9.png cannot be read (No such file or directory)" in problems(tmp_path)


# COCO


def coco(root: Path) -> dict[str, Any]:
    images(root, "images/a.png images/b.png images/c.png images/d.png")
    runs = coco_mask.encode(np.asfortranarray(AREA.astype(np.uint8)))
    flat = AREA.T.ravel()
    ends = [*(np.flatnonzero(flat[1:] != flat[:-1]) + 1).tolist(), flat.size]
    counts = [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    polygon = [2.0, 1.0, 9.5, 1.0, 9.5, 8.0]

    def of(counts: object) -> dict[str, object]:
        return {"size": [12, 16], "counts": counts}

    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 16, "height": 12} for n in "abcd"],
        "categories": [{"id": 3, "name": "crack"}, {"id": 9, "name": "stain"}, {"id": 4, "name": "unused"}],
        "annotations": [
            {"id": 1, "image_id": "a", "category_id": 3, "bbox": [2.4, 1.6, 4.2, 5.0], "iscrowd": 0},
            {"id": 2, "image_id": "a", "category_id": 9, "bbox": [2, 1, 7.5, 7], "segmentation": [polygon]},
            {
                "id": 3,
                "image_id": "b",
                "category_id": 3,
                "iscrowd": 1,
                "segmentation": {"size": [12, 16], "counts": counts},
            },
            {
                "id": 4,
                "image_id": "c",
                "category_id": 9,
                "segmentation": {"size": [12, 16], "counts": runs["counts"].decode()},
            },
        ],
    }


def test_coco(tmp_path: Path) -> None:
    content = coco(tmp_path)
    write_text(tmp_path / "annotations" / "labels.json", json.dumps(content))
    dataset = load_dataset(tmp_path)
    assert dataset.layout == "coco"
    assert labels(dataset) == {
        "images/a.png": ("crack", "stain"),
        "images/b.png": ("crack",),
        "images/c.png": ("stain",),
        "images/d.png": ("good",),
    }
    samples = by_name(dataset)
    two = samples["images/a.png"]
    crack = two.boxes[0]
    assert (crack.x, crack.y, crack.width, crack.height) == (2, 2, 5, 5)
    corners = np.array([[2, 1], [9.5, 1], [9.5, 8]])
    np.testing.assert_array_equal(truth_of(two, SIZE, "stain"), polygon_mask(corners, SIZE))
    for name in ("b", "c"):
        np.testing.assert_array_equal(truth_of(samples[f"images/{name}.png"], SIZE), AREA)
    text = " ".join(dataset.notes)
    assert "1 images without an annotation in labels.json are read as good" in text
    assert "of the categories unused" in text


def test_several_files_of_coco_are_parts(tmp_path: Path) -> None:
    content = coco(tmp_path)
    for name, part in (("train2017", "a d"), ("val2017", "b"), ("test2017", "c")):
        chosen = copy.deepcopy(content)
        chosen["images"] = [entry for entry in chosen["images"] if entry["id"] in part]
        chosen["annotations"] = [entry for entry in chosen["annotations"] if entry["image_id"] in part]
        for entry in chosen["images"]:
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / "images" / entry["file_name"]).rename(tmp_path / name / entry["file_name"])
        write_text(tmp_path / "annotations" / f"instances_{name}.json", json.dumps(chosen))
        write_text(tmp_path / "annotations" / f"person_keypoints_{name}.json", json.dumps(chosen))
    (tmp_path / "images").rmdir()
    dataset = load_dataset(tmp_path)
    parts = {sample.path.name: sample.part for sample in dataset.samples}
    assert parts == {"a.png": "train", "b.png": "validation", "c.png": "test", "d.png": "train"}


def test_coco_beside_its_images_in_a_folder_for_each_part(tmp_path: Path) -> None:
    content = coco(tmp_path)
    for part in ("train", "valid"):
        for name in "abcd":
            write_image(tmp_path / part / f"{name}.png", ord(name) + len(part))
        write_text(tmp_path / part / "_annotations.coco.json", json.dumps(content))
    for name in "abcd":
        (tmp_path / "images" / f"{name}.png").unlink()
    dataset = load_dataset(tmp_path)
    assert dataset.layout == "coco"
    assert [sample.part for sample in dataset.samples] == ["train"] * 4 + ["validation"] * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][0].update(file_name="z.png"), "image 1: there is no file 'z.png'"),
        (lambda c: c["images"][0].update(file_name="../z.png"), "image 1: '../z.png' leads out"),
        (lambda c: c["images"][0].update(width=12, height=16), "image 1: 'a.png' is said to have 12 x 16 pixels"),
        (lambda c: c["images"][0].pop("id"), "image 1: it has no id"),
        (lambda c: c["images"][0].update(id=[1]), "image 1: its id [1] is no number and no text"),
        (lambda c: c["annotations"][0].update(image_id=["a"]), "annotation 1: there is no image"),
        (lambda c: c["annotations"][1].update(category_id=[7]), "annotation 2: there is no category [7]"),
        (lambda c: c["categories"][0].update(id=[7]), "category 1: it has no id or no name"),
        (lambda c: c["annotations"][0].update(image_id="q"), "annotation 1: there is no image"),
        (lambda c: c["annotations"][1].update(category_id=77), "annotation 2: there is no category 77"),
        (lambda c: c["annotations"][0].update(bbox=[1, 1, 99, 2]), "annotation 1: the box (1, 1, 100, 3) does not"),
        (lambda c: c["annotations"][0].update(bbox=[1, 1, 2]), "annotation 1: "),
        (lambda c: c["annotations"][0].update(bbox=[float("nan")] * 4), "annotation 1: the box"),
        (lambda c: c["annotations"][1].update(segmentation=[[1, 2, 3, 4]]), "annotation 2: a polygon of 4 numbers"),
        (lambda c: c["annotations"][2]["segmentation"].update(counts=[5]), "annotation 3: run lengths of 5 pixels"),
        (lambda c: c["annotations"][3]["segmentation"].update(counts="~~"), "annotation 4: '~' is no character"),
        (
            lambda c: c["annotations"][3]["segmentation"].update(size=[16, 12]),
            "annotation 4: its run lengths",
        ),
        (lambda c: c["categories"][0].pop("name"), "category 1: it has no id or no name"),
        (lambda c: c["images"].append(c["images"][0]), "image 5: its id 'a' is that of an earlier image"),
    ],
)
def test_entries_of_coco_that_cannot_be(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    content = coco(tmp_path)
    change(content)
    write_text(tmp_path / "labels.json", json.dumps(content))
    assert message in problems(tmp_path)


def test_a_broken_file_of_coco_is_named_with_its_line(tmp_path: Path) -> None:
    text = json.dumps(coco(tmp_path), indent=1)
    write_text(tmp_path / "labels.json", text[:-9])
    assert f"labels.json line {text[:-9].count(chr(10)) + 1}: " in problems(tmp_path)


# YOLO


def yolo(root: Path) -> Path:
    images(root, "images/train/a.jpg images/train/b.jpg images/val/c.jpg images/val/d.jpg")
    write_text(root / "labels" / "train" / "a.txt", "1 0.5 0.5 0.25 0.5\n0 0.125 0.25 0.25 0.5\n")
    write_text(root / "labels" / "train" / "b.txt", "")
    write_text(root / "labels" / "val" / "c.txt", "0 0.125 0.25 0.75 0.25 0.75 0.75\n")
    return root


YAML_LISTS = "path: /home/someone/data\ntrain: images/train\nval: images/val\nnames: [crack, stain]\n"


@pytest.mark.parametrize(
    "text",
    [
        YAML_LISTS,
        "train: ../images/train\nval: ../images/val\nnc: 2\nnames:\n  0: crack\n  1: stain\n",
        "names: {0: crack, 1: stain}\n",
        "train: [images/train]\nval: images/val\nnames: [crack, stain]\n",
    ],
)
def test_yolo(tmp_path: Path, text: str) -> None:
    write_text(yolo(tmp_path) / "data.yaml", text)
    dataset = load_dataset(tmp_path)
    assert dataset.layout == "yolo"
    assert labels(dataset) == {
        "images/train/a.jpg": ("crack", "stain"),
        "images/train/b.jpg": ("good",),
        "images/val/c.jpg": ("crack",),
        "images/val/d.jpg": ("good",),
    }
    assert [sample.part for sample in dataset.samples] == ["train", "train", "validation", "validation"]
    one, _, three, _ = dataset.samples
    assert [(b.label, b.x, b.y, b.width, b.height) for b in one.boxes] == [("stain", 6, 3, 4, 6), ("crack", 0, 0, 4, 6)]
    assert three.polygons[0].points == ((2.0, 3.0), (12.0, 3.0), (12.0, 9.0))
    assert any("1 images without a file of labels are read as good" in note for note in dataset.notes)


def test_yolo_with_names_beside_the_labels_and_with_lists(tmp_path: Path) -> None:
    root = images(tmp_path / "one", "images/a.png images/b.png")
    write_text(root / "labels" / "a.txt", "0 0.5 0.5 1 1\n")
    write_text(root / "classes.txt", "crack\n")
    assert labels(load_dataset(root)) == {"images/a.png": ("crack",), "images/b.png": ("good",)}
    root = images(tmp_path / "two", "all/a.png all/b.png")
    write_text(root / "all" / "a.txt", "0 0.5 0.5 1 1\n")
    write_text(root / "train.txt", "./all/a.png\n")
    write_text(root / "val.txt", "./all/b.png\n")
    write_text(root / "data.yaml", "train: train.txt\nval: val.txt\nnames: [crack]\n")
    dataset = load_dataset(root)
    assert [(sample.labels, sample.part) for sample in dataset.samples] == [
        (("crack",), "train"),
        (("good",), "validation"),
    ]


def test_an_empty_line_among_the_names_of_yolo_moves_no_class(tmp_path: Path) -> None:
    images(tmp_path, "images/a.png images/b.png")
    write_text(tmp_path / "labels" / "a.txt", "2 0.5 0.5 1 1\n")
    write_text(tmp_path / "classes.txt", "crack\n\nstain\n\n")
    assert labels(load_dataset(tmp_path)) == {"images/a.png": ("stain",), "images/b.png": ("good",)}
    write_text(tmp_path / "labels" / "b.txt", "1 0.5 0.5 1 1\n")
    assert "b.txt line 1: there is no class number 1" in problems(tmp_path)


def test_labels_of_yolo_in_a_part_without_images_are_told_of(tmp_path: Path) -> None:
    write_text(yolo(tmp_path) / "data.yaml", YAML_LISTS)
    write_text(tmp_path / "labels" / "test" / "e.txt", "0 0.5 0.5 0.1 0.1\n")
    assert f"{Path('labels/test/e.txt')} has no image of the same stem" in problems(tmp_path)


def test_yolo_in_a_folder_for_each_part(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "valid", "test")):
        write_image(tmp_path / part / "images" / "x.jpg", number)
        write_text(tmp_path / part / "labels" / "x.txt", f"{number % 2} 0.5 0.5 0.2 0.2\n")
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: ['a', 'b']\n"
    write_text(tmp_path / "data.yaml", text)
    dataset = load_dataset(tmp_path)
    assert [(s.label, s.part) for s in dataset.samples] == [("a", "test"), ("a", "train"), ("b", "validation")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.1 0.1", "line 2: there is no class number 2"),
        ("0 0.5 0.5 0.1", "line 2: a polygon of 3 numbers"),
        ("0 0.5 0.5 1.9 0.1", "line 2: the box"),
        ("crack 0.5 0.5 0.1 0.1", "line 2: invalid literal"),
        ("0 0.5 x 0.1 0.1", "line 2: could not convert"),
        ("0 0.5 0.5 nan 0.1", "line 2: the box"),
        ("0 0.5 0.5 0.6 0.7 0.8 1.9", "line 2: a corner of the polygon"),
    ],
)
def test_lines_of_yolo_that_cannot_be(tmp_path: Path, line: str, message: str) -> None:
    write_text(yolo(tmp_path) / "data.yaml", YAML_LISTS)
    path = write_text(tmp_path / "labels" / "train" / "a.txt", f"0 0.5 0.5 0.1 0.1\n{line}\n")
    assert f"{path} {message}" in problems(tmp_path)


def test_faults_of_yolo_s_files_are_named(tmp_path: Path) -> None:
    write_text(yolo(tmp_path) / "data.yaml", YAML_LISTS)
    write_text(tmp_path / "labels" / "val" / "z.txt", "0 0.5 0.5 0.1 0.1\n")
    assert "z.txt has no image of the same stem" in problems(tmp_path)
    write_text(tmp_path / "data.yaml", YAML_LISTS.replace("images/val", "images/nowhere"))
    assert "data.yaml: there is no 'images/nowhere'" in problems(tmp_path)
    write_text(tmp_path / "data.yaml", "names: [crack\ntrain: x\n")
    assert "data.yaml line 2: " in problems(tmp_path)


# VOC


def test_voc(tmp_path: Path) -> None:
    images(tmp_path, "JPEGImages/a.jpg JPEGImages/b.jpg JPEGImages/c.JPG JPEGImages/d.jpg")
    write_voc(tmp_path / "Annotations" / "a.xml", [("crack", (1, 1, 4, 4)), ("stain", (16, 12, 16, 12))])
    write_voc(tmp_path / "Annotations" / "b.xml", [])
    write_voc(tmp_path / "Annotations" / "c.xml", [("crack", (1, 2, 3, 4))], size=(0, 0))
    write_text(tmp_path / "ImageSets" / "Main" / "train.txt", "a\nb\n")
    write_text(tmp_path / "ImageSets" / "Main" / "test.txt", "c\n")
    dataset = load_dataset(tmp_path)
    assert dataset.layout == "voc"
    assert [(s.labels, s.part) for s in dataset.samples] == [
        (("crack", "stain"), "train"),
        (("good",), "train"),
        (("crack",), "test"),
    ]
    assert [(b.x, b.y, b.width, b.height) for b in dataset.samples[0].boxes] == [(0, 0, 4, 4), (15, 11, 1, 1)]
    assert any("1 images in JPEGImages/ have no annotation" in note for note in dataset.notes)
    assert dataset.ignored == ("JPEGImages/d.jpg",)


def test_voc_that_counts_from_zero(tmp_path: Path) -> None:
    images(tmp_path, "a.jpg b.jpg")
    write_voc(tmp_path / "a.xml", [("crack", (0, 0, 4, 4))])
    write_voc(tmp_path / "b.xml", [("stain", (2.4, 2, 16, 12))])
    dataset = load_dataset(tmp_path)
    assert [(b.x, b.y, b.width, b.height) for s in dataset.samples for b in s.boxes] == [(0, 0, 4, 4), (2, 2, 14, 10)]
    assert any("counted from 0" in note for note in dataset.notes)


def test_faults_of_voc_are_told_together(tmp_path: Path) -> None:
    images(tmp_path, "images/a.jpg images/b.jpg images/c.jpg images/d.jpg")
    write_voc(tmp_path / "annotations" / "a.xml", [("crack", (1, 1, 17, 4))])
    write_voc(tmp_path / "annotations" / "b.xml", [("crack", (1, 1, 4, 4))], size=(16, 12))
    write_voc(tmp_path / "annotations" / "c.xml", [("", (1, 1, 4, 4))])
    write_text(tmp_path / "annotations" / "d.xml", "<annotation>")
    write_voc(tmp_path / "annotations" / "e.xml", [])
    told = problems(tmp_path)
    assert told.startswith("5 problems:")
    for part in (
        "a.xml: the box (1, 1, 17, 4)",
        "b.xml: it is of an image of 12 x 16 pixels",
        "c.xml: a box has no name",
        "d.xml: no element found: line 1",
        "e.xml has no image of the same stem",
    ):
        assert part in told


def test_marks_are_of_the_turned_image(tmp_path: Path) -> None:
    """Stored 16 x 12 and shown 12 x 16: annotations of the stored picture are refused, those of the shown one fit."""
    for name in "ab":
        image = Image.fromarray(np.random.default_rng(ord(name)).integers(0, 256, SIZE, np.uint8))
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(tmp_path / f"{name}.jpg", exif=exif)
    write_voc(tmp_path / "a.xml", [("crack", (1, 1, 12, 16))], size=(16, 12))
    write_voc(tmp_path / "b.xml", [("stain", (2, 2, 3, 3))], size=(16, 12))
    dataset = load_dataset(tmp_path)
    assert truth_of(dataset.samples[0], (16, 12)).all()
    assert [photograph.seen.size for photograph in dataset.photographs] == [(16, 12), (16, 12)]
    write_voc(tmp_path / "b.xml", [("stain", (2, 2, 3, 3))])
    assert "b.xml: it is of an image of 16 x 12 pixels, b.jpg as a viewer shows it has 12 x 16" in problems(tmp_path)


# Label Studio


def result(kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "to_name": "image", "value": value, "original_width": 16, "original_height": 12}


def task(number: int, image: str, results: list[dict[str, Any]], **annotation: Any) -> dict[str, Any]:
    return {"id": number, "data": {"image": image}, "annotations": [{"result": results, **annotation}]}


def label_studio(root: Path) -> list[dict[str, Any]]:
    images(root, "upload/a.png inbox/b.png inbox/c.png other/b.png d.png e.png")
    rectangle = {"x": 25.0, "y": 25.0, "width": 50.0, "height": 50.0, "rotation": 0, "rectanglelabels": ["crack"]}
    polygon = {"points": [[0, 0], [50, 0], [50, 50]], "polygonlabels": ["stain"]}
    brush = {"format": "rle", "rle": brush_rle.encode(AREA), "brushlabels": ["pit"]}
    return [
        task(
            1,
            "/data/upload/3/0a1b2c3d-a.png",
            [result("choices", {"choices": ["crack"]}), result("rectanglelabels", rectangle)],
        ),
        task(2, "/data/local-files/?d=photos/inbox/b.png", [result("polygonlabels", polygon)]),
        task(3, "s3://bucket/x/inbox/c.png", [result("brushlabels", brush), result("rectanglelabels", rectangle)]),
        task(4, "http://desk/d.png?token=1", []),
        task(5, "e.png", [result("choices", {"choices": ["crack"]})], was_cancelled=True),
        {"id": 6, "data": {"image": "e.png"}, "annotations": []},
    ]


def test_a_label_studio_export(tmp_path: Path) -> None:
    tasks = label_studio(tmp_path)
    write_text(tmp_path / "project-1-at-2026.json", json.dumps(tasks))
    dataset = load_dataset(tmp_path)
    assert dataset.layout == "label-studio"
    assert labels(dataset) == {
        "d.png": ("good",),
        "inbox/b.png": ("stain",),
        "inbox/c.png": ("crack", "pit"),
        "upload/a.png": ("crack",),
    }
    samples = by_name(dataset)
    box = samples["upload/a.png"].boxes[0]
    assert (box.x, box.y, box.width, box.height) == (4, 3, 8, 6)
    triangle = polygon_mask(np.array([[0, 0], [8, 0], [8, 6]]), SIZE)
    np.testing.assert_array_equal(truth_of(samples["inbox/b.png"], SIZE), triangle)
    np.testing.assert_array_equal(truth_of(samples["inbox/c.png"], SIZE, "pit"), AREA)
    assert any("2 tasks without a submitted annotation" in note for note in dataset.notes)


def test_what_was_asked_of_the_model_is_no_mark(tmp_path: Path) -> None:
    images(tmp_path, "a.png b.png")
    rectangle = {"x": 25.0, "y": 25.0, "width": 50.0, "height": 50.0, "rectanglelabels": ["crack"]}
    drawn = result("rectanglelabels", rectangle)
    tasks = [task(1, "a.png", [{**drawn, "from_name": "ask"}]), task(2, "b.png", [{**drawn, "from_name": "box"}])]
    write_text(tmp_path / "export.json", json.dumps(tasks))
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {"a.png": ("good",), "b.png": ("crack",)}
    assert [len(by_name(dataset)[name].boxes) for name in ("a.png", "b.png")] == [0, 1]


def test_rotated_rectangles_and_ellipses(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", 1, (100, 200))
    write_image(tmp_path / "b.png", 2, (100, 200))
    turned = {"x": 50, "y": 20, "width": 10, "height": 40, "rotation": 90, "rectanglelabels": ["crack"]}
    ellipse = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 10, "ellipselabels": ["pit"]}
    content = [
        task(1, "a.png", [result("rectanglelabels", turned)]),
        task(2, "b.png", [result("ellipselabels", ellipse)]),
    ]
    write_text(tmp_path / "export.json", json.dumps(content))
    one, two = load_dataset(tmp_path).samples
    expected = np.zeros((100, 200), np.bool_)
    expected[20:40, 60:100] = True  # 20 wide and 40 high, turned clockwise about (100, 20)
    np.testing.assert_array_equal(truth_of(one, (100, 200)), expected)
    rows, columns = np.indices((100, 200)) + 0.5
    radius = ((columns - 100) / 20) ** 2 + ((rows - 50) / 10) ** 2
    drawn = truth_of(two, (100, 200))
    assert drawn[radius < 0.98].all()
    assert not drawn[radius > 1].any()


def test_of_several_annotations_the_ground_truth_or_the_last_counts(tmp_path: Path) -> None:
    images(tmp_path, "a.png b.png")
    one = task(1, "a.png", [result("choices", {"choices": ["crack"]})], updated_at="2026-01-02T00:00:00Z")
    older = {"result": [result("choices", {"choices": ["pit"]})], "updated_at": "2026-01-01T00:00:00Z"}
    one["annotations"].append(older)
    two = copy.deepcopy(one)
    two["data"]["image"] = "b.png"
    two["annotations"][1]["ground_truth"] = True
    write_text(tmp_path / "export.json", json.dumps([one, two]))
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {"a.png": ("crack",), "b.png": ("pit",)}
    assert any("2 tasks have several annotations" in note for note in dataset.notes)


def chosen(control: str, choice: str, **more: Any) -> dict[str, Any]:
    return {**result("choices", {"choices": [choice]}), "from_name": control, **more}


def test_of_several_controls_of_choices_that_of_the_classes_counts(tmp_path: Path) -> None:
    images(tmp_path, "a.png b.png")
    rectangle = {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["scratch"]}
    content = [
        task(1, "a.png", [chosen("verdict", "scratch"), chosen("lighting", "dark")]),
        task(2, "b.png", [chosen("lighting", "dark"), result("rectanglelabels", rectangle)]),
    ]
    write_text(tmp_path / "export.json", json.dumps([*content, task(3, "c.png", [])]))
    write_image(tmp_path / "c.png", 7)
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {"a.png": ("scratch",), "b.png": ("scratch",), "c.png": ("good",)}
    assert any("the choices of verdict are the classes; those of lighting are left out" in n for n in dataset.notes)
    for name in ("colour", "defect"):
        results = content[0]["annotations"][0]["result"]
        results[0]["from_name"], results[1]["from_name"] = name, "verdict" if name == "defect" else "lighting"
        write_text(tmp_path / "export.json", json.dumps(content))
        assert f"any of the controls {name}, lighting" in problems(tmp_path)


def test_choices_about_a_region_are_no_classes_of_the_image(tmp_path: Path) -> None:
    images(tmp_path, "a.png b.png")
    rectangle = {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0}
    results = [
        {**result("rectanglelabels", {**rectangle, "rectanglelabels": ["pit"]}), "id": "r1"},
        chosen("depth", "deep", id="r1"),
        chosen("verdict", "pit", id="c1"),
        result("choices", {**rectangle, "choices": ["shiny"]}),
    ]
    write_text(tmp_path / "export.json", json.dumps([task(1, "a.png", results), task(2, "b.png", [])]))
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {"a.png": ("pit",), "b.png": ("good",)}
    assert any("2 of choices about a single area" in note for note in dataset.notes)


def test_a_mark_in_an_image_said_to_be_good_is_a_contradiction(tmp_path: Path) -> None:
    images(tmp_path, "a.png b.png")
    rectangle = {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["scratch"]}
    results = [chosen("verdict", "OK"), result("rectanglelabels", rectangle)]
    content = [task(1, "a.png", results), task(2, "b.png", [chosen("verdict", "scratch")])]
    write_text(tmp_path / "export.json", json.dumps(content))
    assert "task 1: it is said to be 'OK', but scratch is drawn in it" in problems(tmp_path)


def test_the_short_export_of_label_studio(tmp_path: Path) -> None:
    images(tmp_path, "a.png b.png c.png")
    own = {"annotator": 1, "annotation_id": 5, "created_at": "x", "updated_at": "2026", "lead_time": 3.1}
    rectangle = {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["pit"]}
    area = {**rectangle, "original_width": 16, "original_height": 12}
    content = [
        {"image": "/data/upload/1/0a1b2c3d-a.png", "id": 1, "verdict": "crack", "serial": "4711", **own},
        {"image": "b.png", "id": 2, "verdict": {"choices": ["crack", "stain"]}, "where": [area], **own},
        {"image": "c.png", "id": 3, "where": [area], **own},
    ]
    write_text(tmp_path / "export.json", json.dumps(content))
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {"a.png": ("crack",), "b.png": ("crack", "stain"), "c.png": ("pit",)}
    assert [(b.x, b.y, b.width, b.height) for b in dataset.samples[1].boxes] == [(4, 3, 8, 6)]
    content[0]["batch"] = content[0].pop("verdict")
    write_text(tmp_path / "export.json", json.dumps(content))
    assert "task 1: any of the fields batch, serial could be the class" in problems(tmp_path)


def test_faults_of_an_export_are_named(tmp_path: Path) -> None:
    tasks = label_studio(tmp_path)
    tasks[0]["data"]["image"] = "/data/upload/3/0a1b2c3d-gone.png"
    tasks[1]["data"]["image"] = "b.png"
    tasks[2]["annotations"][0]["result"][0]["original_width"] = 17
    tasks[3]["annotations"][0]["result"] = [
        result("rectanglelabels", {"x": 1, "y": 2, "width": 400, "height": 3, "labels": ["x"]})
    ]
    write_text(tmp_path / "export.json", json.dumps(tasks))
    told = problems(tmp_path)
    for part in (
        "task 1: there is no photograph '/data/upload/3/0a1b2c3d-gone.png'",
        "task 2: 'b.png' could be ",
        "task 3: a brush stroke was drawn on an image of 17 x 12 pixels",
        "task 4: the box",
    ):
        assert part in told


def test_a_captured_annotation(tmp_path: Path, payloads: Path) -> None:
    annotation = json.loads((payloads / "api_annotation.json").read_text(encoding="utf-8"))
    captured = json.loads((payloads / "api_task.json").read_text(encoding="utf-8"))
    image = captured["data"]["image"]
    name = image.rsplit("/", 1)[-1].rsplit("=", 1)[-1]
    write_image(tmp_path / name, 1, (480, 640))
    write_image(tmp_path / "good.png", 2)
    content = [{"id": 1, "data": {"image": image}, "annotations": [annotation]}, task(2, "good.png", [])]
    write_text(tmp_path / "export.json", json.dumps(content))
    sample = next(s for s in load_dataset(tmp_path).samples if s.path.name == name)
    assert sample.labels == ("reject",)
    brush = next(entry for entry in annotation["result"] if entry["type"] == "brushlabels")
    drawn = truth_of(sample, (480, 640), "scratch")
    assert drawn[brush_rle.decode(brush["value"]["rle"], 480, 640)].all()


# Several formats


def test_formats_beside_each_other_need_a_word(tmp_path: Path) -> None:
    write_text(tmp_path / "labels.json", json.dumps(coco(tmp_path)))
    write_text(tmp_path / "list.csv", "path,label\nimages/a.png,crack\nimages/b.png,good\n")
    assert "could be coco or csv; say which layout it is" in problems(tmp_path)
    assert load_dataset(tmp_path, layout="csv").layout == "csv"


def test_annotations_go_before_folders_and_that_is_said(tmp_path: Path) -> None:
    image_folder(tmp_path, {"good": 2, "pit": 2})
    rows = "".join(f"{label}/{n:03d}.png,{label}\n" for label in ("good", "pit") for n in range(2))
    write_text(tmp_path / "list.csv", "path,label\n" + rows)
    dataset = load_dataset(tmp_path)
    assert dataset.layout == "csv"
    assert any("--layout image-folder" in note for note in dataset.notes)
    assert load_dataset(tmp_path, layout="image-folder").counts == {"good": 2, "pit": 2}


def test_an_image_folder_with_parts(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "val", "test")):
        for label in ("good", "pit"):
            write_image(tmp_path / part / label / "1.PNG", 10 * number + len(label))
    dataset = load_dataset(tmp_path)
    assert (dataset.layout, dataset.counts) == ("image-folder", {"good": 3, "pit": 3})
    assert sorted({(s.path.parts[-3], s.part) for s in dataset.samples}) == [
        ("test", "test"),
        ("train", "train"),
        ("val", "validation"),
    ]
