"""A folder as the documents assume it: their placeholders are small data sets, their photo a picture."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision
from PIL import Image

from classification.toy_shapes import make_toy
from crowd_counting.toy_crowds import make_toy_crowd
from segmentation.toy_scenes import make_toy_voc
from segmentation.voc import CLASSES

ROOT = Path(__file__).resolve().parents[2]
KEPT = 4  # images of a generated training set


def make_world(world: Path) -> None:
    """Fill an empty folder."""
    for name in ("tools", "configs", "benchmarks", "docs", "README.md", "Makefile"):
        (world / name).symlink_to(ROOT / name)
    data = world / "data"
    voc = make_toy_voc(world / "made", train=KEPT, val=2, size=64)
    for place in (data / "VOCdevkit" / "VOC2012", world / "mine", world / "camvid_voc" / "VOC2012"):
        shutil.copytree(voc, place)
    (world / "names.txt").write_text("\n".join(CLASSES) + "\n")
    toy = make_toy_voc(data / "toy")
    for name in ("train", "train_aug", "val"):  # what --toy finds made
        path = toy / "ImageSets" / "Segmentation" / f"{name}.txt"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[: KEPT if name != "val" else 2]))

    folders = make_toy(world / "made", "folder", train=6, test=2)
    for name in ("FOLDER", "flowers", "data/imagenet"):
        shutil.copytree(folders, world / name)
    shutil.copytree(make_toy(world / "made", "cifar100", train=8, test=2), data, dirs_exist_ok=True)

    for part in ("A", "B"):
        made = make_toy_crowd(world / "made", part, train=KEPT, test=2, size=(96, 128))
        shutil.copytree(made, data, dirs_exist_ok=True)
    crowd = make_toy_crowd(data / "toy", "B")
    for image in sorted((crowd / "part_B_final" / "train_data" / "images").iterdir())[2 * KEPT :]:
        image.unlink()
        (image.parents[1] / "ground_truth" / f"GT_{image.stem}.mat").unlink()
    people = world / "people"
    (people / "images").mkdir(parents=True)
    (people / "annotations").mkdir()
    for i, image in enumerate(sorted((data / "part_B_final" / "train_data" / "images").iterdir())):
        shutil.copy(image, people / "images" / f"{i}.jpg")
        (people / "annotations" / f"{i}.csv").write_text("".join(f"{20 + 9 * k},{30 + 7 * k}\n" for k in range(i + 2)))

    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    photo = Image.fromarray(pixels).resize((128, 96))
    photo.save(world / "photo.jpg")
    for folder in ("FOLDER", "photos", "holiday", "more"):
        (world / folder).mkdir(exist_ok=True)
        photo.save(world / folder / "0.jpg")
        photo.save(world / folder / "1.png")
    film = cv2.VideoWriter(str(world / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 5, photo.size)
    for _ in range(3):
        film.write(np.asarray(photo))
    film.release()
    resnet = torchvision.models.resnet50(weights=None).state_dict()
    for name in ("torchvision.pth", "their_checkpoint.pth"):
        torch.save(resnet, world / name)
    shutil.rmtree(world / "made")
