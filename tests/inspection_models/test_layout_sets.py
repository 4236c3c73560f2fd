"""The layouts of published sets, each on a small fabricated copy with its traps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inspection_models.data import Dataset, DatasetError, Sample, load_dataset, truth_of
from tests.inspection_models.data_files import image_folder, write_image, write_mask, write_text, write_voc

SIZE = (12, 16)
MARKED = np.zeros(SIZE, np.bool_)
MARKED[2:5, 3:8] = True


def by_name(dataset: Dataset) -> dict[str, Sample]:
    return {sample.path.relative_to(dataset.root).as_posix(): sample for sample in dataset.samples}


def neu_cls(root: Path) -> Path:
    for number, name in enumerate(("Cr_1", "Cr_2", "PS_1", "RS_300")):
        write_image(root / f"{name}.bmp", number)
    return root


def severstal(root: Path, *, joined: bool) -> Path:
    """Pixels 15 to 17 are rows 2 to 4 of column 1, counted from 0."""
    for number, name in enumerate(("aa.jpg", "bb.jpg", "cc.jpg")):
        write_image(root / "train_images" / name, number)
    write_image(root / "test_images" / "dd.jpg", 9)
    pixels = {("aa.jpg", 1): "15 3", ("aa.jpg", 3): "1 2 25 12", ("bb.jpg", 4): "192 1"}
    if joined:
        rows = [f"{n}_{c},{pixels.get((n, c), '')}" for n in ("aa.jpg", "bb.jpg", "cc.jpg") for c in (1, 2, 3, 4)]
        text = "ImageId_ClassId,EncodedPixels\n" + "\n".join(rows)
    else:
        text = "ImageId,ClassId,EncodedPixels\n" + "\n".join(f"{n},{c},{p}" for (n, c), p in pixels.items())
    write_text(root / "train.csv", text + "\n")
    return root


def mvtec(root: Path) -> Path:
    for number in range(3):
        write_image(root / "train" / "good" / f"00{number}.png", number)
    write_image(root / "test" / "good" / "000.png", 10)
    for number, mask in enumerate(("000_mask.png", "001.png")):
        write_image(root / "test" / "crack" / f"00{number}.png", 20 + number)
        write_mask(root / "ground_truth" / "crack" / mask)
    write_text(root / "license.txt", "-")
    return root


def dagm(root: Path) -> Path:
    for texture in ("Class1", "Class2"):
        for part, first in (("Train", 576), ("Test", 1)):
            folder = root / texture / part
            lines = [f"{texture[5:]}"]
            for number in range(first, first + 3):
                write_image(folder / f"{number:04d}.PNG", number + 7000 * int(texture[5:]))
                flawed = number == first + 1
                mask = f"{number:04d}_label.PNG"
                lines.append(f"{number}\t{int(flawed)}\t{number:04d}.PNG\t0\t{mask if flawed else 0}")
                if flawed:
                    write_mask(folder / "Label" / mask)
            write_text(folder / "Label" / "Labels.txt", "\n".join(lines) + "\n")
    write_text(root / "Class1" / "Train" / "Thumbs.db", "x")
    return root


def dagm_first(root: Path) -> Path:
    for number in range(1, 4):
        write_image(root / "Class3" / f"{number}.png", number)
        write_image(root / "Class3_def" / f"{number}.png", 50 + number)
    lines = [f"{number}\t4\t2\t0.0\t8\t6" for number in range(1, 4)]
    write_text(root / "Class3_def" / "labels.txt", "\n".join(lines))
    return root


def kolektor_sdd(root: Path) -> Path:
    for item in ("kos01", "kos02"):
        for part in range(3):
            write_image(root / item / f"Part{part}.jpg", int(item[3:]) * 10 + part)
            write_mask(root / item / f"Part{part}_label.bmp", marked=part == 1)
    return root


def kolektor_sdd2(root: Path) -> Path:
    for part, numbers in (("train", (10000, 10001)), ("test", (20000, 20001))):
        for number in numbers:
            write_image(root / part / f"{number}.png", number)
            write_mask(root / part / f"{number}_GT.png", marked=number % 2 == 1)
    write_mask(root / "train" / "10001_GT (copy).png")
    return root


def gc10(root: Path) -> Path:
    for number, name in ((1, "img_01"), (4, "img_04"), (10, "img_10"), (2, "img_02"), (3, "img_unmarked")):
        write_image(root / str(number) / f"{name}.jpg", number)
    (root / "5").mkdir()
    (root / "5" / "img_04.jpg").write_bytes((root / "4" / "img_04.jpg").read_bytes())
    write_voc(root / "lable" / "img_01.xml", [("1_chongkong", (1, 1, 4, 4)), ("d", (2, 2, 3, 3))])
    write_voc(root / "lable" / "img_04.xml", [("4_shuiban", (1, 1, 16, 12)), ("5_youban", (2, 2, 3, 3))])
    write_voc(root / "lable" / "img_10.xml", [("10_yaozhed", (1, 1, 4, 4))])
    write_voc(root / "lable" / "img_02.xml", [])
    return root


def deep_pcb(root: Path) -> Path:
    boxes = {"00041000": "1 2 5 6 1\n3 3 9 9 6\n", "00041001": "", "00041002": "0 0 16 12 2\n"}
    base = root / "PCBData" / "group00041"
    for number, (stem, text) in enumerate(boxes.items()):
        write_image(base / "00041" / f"{stem}_test.jpg", number)
        write_image(base / "00041" / f"{stem}_temp.jpg", 100 + number)
        write_text(base / "00041_not" / f"{stem}.txt", text)
    for name, stems in (("trainval.txt", ("00041000", "00041001")), ("test.txt", ("00041002",))):
        lines = [f"group00041/00041/{stem}.jpg group00041/00041_not/{stem}.txt" for stem in stems]
        write_text(root / "PCBData" / name, "\n".join(lines) + "\n")
    return root


def visa(root: Path) -> Path:
    rows = ["image,label,mask"]
    for number in range(2):
        path = f"Data/Images/Normal/000{number}.JPG"
        write_image(root / path, number)
        rows.append(f"{root.name}/{path},normal,")
    for number, label in enumerate(('"melt,scratch"', "melt")):
        path, mask = f"Data/Images/Anomaly/00{number}.JPG", f"Data/Masks/Anomaly/00{number}.png"
        write_image(root / path, 40 + number)
        write_mask(root / mask, value=2 - number)
        rows.append(f"{root.name}/{path},{label},{root.name}/{mask}")
    write_text(root / "image_anno.csv", "\ufeff" + "\r\n".join(rows) + "\r\n")
    return root


def casting(root: Path) -> Path:
    base = root / "casting_data" / "casting_data"
    image_folder(base, {"def_front": 2, "ok_front": 2}, beneath="train")
    for number, label in enumerate(("def_front", "ok_front")):
        write_image(base / "test" / label / "cast_0_1.jpeg", 900 + number)
    return root


def elpv(root: Path) -> Path:
    lines = []
    for number, (probability, kind) in enumerate(
        [("0.0", "mono"), ("0.333", "mono"), ("0.667", "poly"), ("1.0", "poly")]
    ):
        write_image(root / "images" / f"cell000{number}.png", number)
        lines.append(f"images/cell000{number}.png  {probability}   {kind}")
    write_text(root / "labels.csv", "\n".join(lines) + "\n")
    return root


def test_neu_cls(tmp_path: Path) -> None:
    dataset = load_dataset(neu_cls(tmp_path))
    assert dataset.layout == "neu-cls"
    assert dataset.counts == {"crazing": 2, "pitted_surface": 1, "rolled-in_scale": 1}
    write_image(tmp_path / "other.bmp", 7)
    with pytest.raises(DatasetError, match=r"other\.bmp is not named"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("joined", [True, False])
def test_severstal(tmp_path: Path, joined: bool) -> None:
    dataset = load_dataset(severstal(tmp_path, joined=joined))
    assert dataset.layout == "severstal"
    assert dataset.multi_label
    assert dataset.good_class == "good"
    samples = by_name(dataset)
    assert {name: sample.labels for name, sample in samples.items()} == {
        "train_images/aa.jpg": ("class_1", "class_3"),
        "train_images/bb.jpg": ("class_4",),
        "train_images/cc.jpg": ("good",),
    }
    first, third, last = np.zeros((3, *SIZE), np.bool_)
    first[2:5, 1] = True
    third[:2, 0] = third[:, 2] = True
    last[-1, -1] = True
    two = samples["train_images/aa.jpg"]
    np.testing.assert_array_equal(truth_of(two, SIZE, "class_1"), first)
    np.testing.assert_array_equal(truth_of(two, SIZE, "class_3"), third)
    np.testing.assert_array_equal(truth_of(two, SIZE), first | third)
    np.testing.assert_array_equal(truth_of(samples["train_images/bb.jpg"], SIZE), last)
    assert any("1 images are no part of the layout" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("15 3", "15 3 4", r"train\.csv line 2: run lengths come in pairs"),
        ("15 3", "190 4", r"train\.csv line 2: run lengths reach pixel 193"),
        ("15 3", "0 4", "line 2: run lengths must start at 1"),
        ("15 3", "5 4 7 2", "line 2: .*follow each other"),
        ("15 3", "a b", "line 2: invalid literal"),
        ("aa.jpg,3", "aa.jpg,5", "line 3: class '5' is none of"),
        ("bb.jpg,4", "zz.jpg,4", r"line 4: there is no image 'zz\.jpg'"),
        ("bb.jpg,4", "bb.jpg,4,5", "line 4: 4 cells for 3 columns"),
    ],
)
def test_lines_of_severstal_that_cannot_be(tmp_path: Path, old: str, new: str, message: str) -> None:
    table = severstal(tmp_path, joined=False) / "train.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(DatasetError, match=message):
        load_dataset(tmp_path)


def test_mvtec_ad(tmp_path: Path) -> None:
    dataset = load_dataset(mvtec(tmp_path / "bottle"))
    assert dataset.layout == "mvtec-ad"
    assert dataset.counts == {"crack": 2, "good": 4}
    samples = by_name(dataset)
    for name in ("test/crack/000.png", "test/crack/001.png"):
        np.testing.assert_array_equal(truth_of(samples[name], SIZE), MARKED)
    assert {sample.part for sample in dataset.samples} == {"train", "test"}
    assert dataset.ignored == ("license.txt",)
    assert load_dataset(tmp_path).layout == "mvtec-ad"  # one category within a folder
    mvtec(tmp_path / "screw")
    with pytest.raises(DatasetError, match="categories bottle, screw, each a data set of its own"):
        load_dataset(tmp_path)
    (tmp_path / "bottle" / "ground_truth" / "crack" / "001.png").unlink()
    write_mask(tmp_path / "bottle" / "ground_truth" / "crack" / "007_mask.png")
    with pytest.raises(DatasetError, match=r"(?s)2 problems:.*001\.png has no mask.*007_mask\.png is a mask without"):
        load_dataset(tmp_path / "bottle")


def test_dagm(tmp_path: Path) -> None:
    dataset = load_dataset(dagm(tmp_path))
    assert dataset.layout == "dagm"
    assert dataset.counts == {"Class1": 2, "Class2": 2, "good": 8}
    flawed = by_name(dataset)["Class2/Train/0577.PNG"]
    assert (flawed.label, flawed.part) == ("Class2", "train")
    np.testing.assert_array_equal(truth_of(flawed, SIZE), MARKED)
    assert dataset.ignored == ("Class1/Train/Thumbs.db",)
    (tmp_path / "Class1" / "Test" / "0003.PNG").unlink()
    (tmp_path / "Class1" / "Test" / "Label" / "0002_label.PNG").unlink()
    write_image(tmp_path / "Class1" / "Test" / "0009.PNG", 99)
    with pytest.raises(DatasetError) as caught:
        load_dataset(tmp_path)
    for part in (
        r"line 3: the defect of 0002.PNG has no mask",
        "line 4: there is no image '0003.PNG'",
        "0009.PNG is not",
    ):
        assert part in str(caught.value)


def test_dagm_as_it_was_first_given_out(tmp_path: Path) -> None:
    dataset = load_dataset(dagm_first(tmp_path))
    assert (dataset.layout, dataset.counts) == ("dagm", {"Class3": 3, "good": 3})
    truth = truth_of(by_name(dataset)["Class3_def/1.png"], SIZE)
    rows, columns = np.indices(SIZE) + 0.5
    ellipse = ((columns - 8) / 4) ** 2 + ((rows - 6) / 2) ** 2 <= 1
    np.testing.assert_array_equal(truth, ellipse)


def test_kolektor_sdd(tmp_path: Path) -> None:
    dataset = load_dataset(kolektor_sdd(tmp_path))
    assert dataset.layout == "kolektor-sdd"
    assert dataset.counts == {"defect": 2, "good": 4}
    assert {sample.group for sample in dataset.samples} == {"kos01", "kos02"}
    np.testing.assert_array_equal(truth_of(by_name(dataset)["kos01/Part1.jpg"], SIZE), MARKED)
    (tmp_path / "kos01" / "Part0_label.bmp").unlink()
    with pytest.raises(DatasetError, match=r"Part0\.jpg has no mask Part0_label"):
        load_dataset(tmp_path)


def test_kolektor_sdd2(tmp_path: Path) -> None:
    dataset = load_dataset(kolektor_sdd2(tmp_path))
    assert dataset.layout == "kolektor-sdd2"
    assert dataset.counts == {"defect": 2, "good": 2}
    assert by_name(dataset)["test/20001.png"].part == "test"
    assert dataset.ignored == ("train/10001_GT (copy).png",)
    assert any("copies of masks" in note for note in dataset.notes)
    (tmp_path / "train" / "10001_GT.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"10001_GT\.png: the mask cannot be read"):
        load_dataset(tmp_path)


def test_gc10_det(tmp_path: Path) -> None:
    dataset = load_dataset(gc10(tmp_path))
    assert dataset.layout == "gc10-det"
    assert {name: sample.labels for name, sample in by_name(dataset).items()} == {
        "1/img_01.jpg": ("punching_hole",),
        "10/img_10.jpg": ("waist_folding",),
        "2/img_02.jpg": ("welding_line",),
        "3/img_unmarked.jpg": ("crescent_gap",),
        "4/img_04.jpg": ("oil_spot", "water_spot"),
    }
    text = " ".join(dataset.notes)
    assert "1 images that lie in a second folder" in text
    assert "1 boxes whose name has no number are left out: 'd' in img_01.xml" in text
    assert "2 images without a box" in text
    write_image(tmp_path / "5" / "img_04.jpg", 77)
    with pytest.raises(DatasetError, match="have one name but differ"):
        load_dataset(tmp_path)


def test_deep_pcb(tmp_path: Path) -> None:
    dataset = load_dataset(deep_pcb(tmp_path))
    assert dataset.layout == "deep-pcb"
    samples = by_name(dataset)
    board = samples["PCBData/group00041/00041/00041000_test.jpg"]
    assert board.labels == ("open", "pin-hole")
    assert [(b.label, b.x, b.y, b.width, b.height) for b in board.boxes] == [
        ("open", 1, 2, 4, 4),
        ("pin-hole", 3, 3, 6, 6),
    ]
    template = samples["PCBData/group00041/00041/00041000_temp.jpg"]
    assert (template.labels, template.group, template.part) == (("good",), board.group, "train")
    assert samples["PCBData/group00041/00041/00041001_test.jpg"].labels == ("good",)
    assert samples["PCBData/group00041/00041/00041002_test.jpg"].part == "test"
    listing = tmp_path / "PCBData" / "group00041" / "00041_not" / "00041000.txt"
    listing.write_text("1 2 5 6 1\n1 2 5 6 9\n1 2 5 6\n1 2 50 6 1\n")
    (tmp_path / "PCBData" / "test.txt").write_text("group00041/00041/7.jpg group00041/00041_not/7.txt\n")
    with pytest.raises(DatasetError) as caught:
        load_dataset(tmp_path)
    for part in ("line 2: '9' is none of the types", "line 3: ", "line 4: the box (1, 2, 50, 6) does not", "7.txt' in"):
        assert part in str(caught.value)


def test_visa(tmp_path: Path) -> None:
    dataset = load_dataset(visa(tmp_path / "candle"))
    assert dataset.layout == "visa"
    samples = by_name(dataset)
    assert samples["Data/Images/Anomaly/000.JPG"].labels == ("melt", "scratch")
    assert samples["Data/Images/Normal/0000.JPG"].labels == ("normal",)
    assert dataset.good_class == "normal"
    for name in ("000", "001"):
        np.testing.assert_array_equal(truth_of(samples[f"Data/Images/Anomaly/{name}.JPG"], SIZE), MARKED)
    visa(tmp_path / "cashew")
    with pytest.raises(DatasetError, match="objects candle, cashew, each a data set"):
        load_dataset(tmp_path)
    write_image(tmp_path / "candle" / "Data" / "Images" / "Normal" / "0009.JPG", 99)
    with pytest.raises(DatasetError, match=r"0009\.JPG is not listed"):
        load_dataset(tmp_path / "candle")


def test_casting(tmp_path: Path) -> None:
    dataset = load_dataset(casting(tmp_path))
    assert dataset.layout == "casting"
    assert dataset.good_class == "ok_front"
    assert sorted(str(sample.part) for sample in dataset.samples) == ["test"] * 2 + ["train"] * 4
    assert any("augmented" in note for note in dataset.notes)


def test_elpv(tmp_path: Path) -> None:
    dataset = load_dataset(elpv(tmp_path))
    assert dataset.layout == "elpv"
    assert [sample.label for sample in dataset.samples] == ["functional", "functional", "defective", "defective"]
    assert dataset.good_class == "functional"
    assert any("one half" in note and "2 images lie between" in note for note in dataset.notes)
    listing = tmp_path / "labels.csv"
    listing.write_text(listing.read_text() + "images/cell0009.png  1.0  mono\nimages/cell0003.png  much  mono\n")
    with pytest.raises(DatasetError, match=r"(?s)line 5: there is no file.*line 6: not an image, a probability"):
        load_dataset(tmp_path)


MAKERS = {
    "casting": casting,
    "dagm": dagm,
    "deep-pcb": deep_pcb,
    "elpv": elpv,
    "gc10-det": gc10,
    "kolektor-sdd": kolektor_sdd,
    "kolektor-sdd2": kolektor_sdd2,
    "mvtec-ad": mvtec,
    "neu-cls": neu_cls,
    "severstal": lambda root: severstal(root, joined=False),
    "visa": visa,
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_set_is_told_within_a_folder_of_an_archive(tmp_path: Path, name: str) -> None:
    root = tmp_path / "unpacked" / "Set-1"
    root.mkdir(parents=True)
    MAKERS[name](root)
    (tmp_path / "__MACOSX").mkdir()
    write_text(tmp_path / "unpacked" / ".DS_Store", "x")
    dataset = load_dataset(tmp_path)
    assert dataset.layout == name
    assert dataset.samples == tuple(sorted(dataset.samples, key=lambda sample: sample.path.as_posix()))


@pytest.mark.parametrize("name", MAKERS)
def test_a_truncated_photograph_is_named(tmp_path: Path, name: str) -> None:
    MAKERS[name](tmp_path)
    dataset = load_dataset(tmp_path)
    victims = [dataset.samples[0].path, dataset.samples[-2].path]
    for victim in victims:
        data = victim.read_bytes()
        # A header that is whole, so that it is the pixels that are missing.
        victim.write_bytes(data[:-20] if victim.suffix.lower() in (".jpg", ".jpeg") else data[: len(data) * 7 // 10])
    with pytest.raises(DatasetError) as caught:
        load_dataset(tmp_path)
    assert all(str(victim) in str(caught.value) for victim in victims)
