"""Your own classes from a pretrained network: MobileNetV2 of Keras, on a folder with one folder of pictures a class.

    python examples/train/transfer.py PICTURES

The ImageNet weights are downloaded by Keras. Without a network the whole of MobileNetV2 is trained from nothing, which
needs many more pictures to be any good. A fifth of the pictures is kept for measuring.
"""

import argparse
import csv
import sys
from pathlib import Path

from shell import harrier, new_folder, run_and_listen, summary

from convert.quiet import quiet

with quiet():  # TensorFlow greets at length
    import keras
    from keras import layers

ALPHA = 0.35  # the narrowest MobileNetV2 with published weights
BATCH, CALIBRATED = 16, 300


def main() -> None:
    """Train, convert, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, metavar="PICTURES", help="folder of class folders")
    parser.add_argument("--side", type=int, default=96, help="input size in px: 96, 128, 160, 192 or 224 (96)")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--from-nothing", action="store_true", help="do not even try to download ImageNet weights")
    parser.add_argument("--max-drop", default="0.03", help="most top-1 that int8 may lose (0.03)")
    parser.add_argument("--out", type=Path, default=Path("transfer-out"), help="folder to write")
    arguments = parser.parse_args()
    out = new_folder(arguments.out)
    keras.utils.set_random_seed(1)
    learnt, tested, names = read(arguments.pictures, arguments.side)
    (out / "labels.txt").write_text("\n".join(names) + "\n")
    calibration, evaluation = out / "calibration.txt", out / "tested.csv"
    calibration.write_text("\n".join(learnt.file_paths[:CALIBRATED]) + "\n")
    with evaluation.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *((path, Path(path).parent.name) for path in tested.file_paths)])
    base = mobilenet(arguments.side, arguments.from_nothing)
    train(base, learnt, tested, len(names), arguments.epochs, out / "mobilenet.keras")
    harrier(
        *("convert", out / "mobilenet.keras", "--to", "tflite", "--precision", "fp32,int8"),
        *("--labels", out / "labels.txt", "--calibration", calibration, "--eval", evaluation),
        *("--max-drop", arguments.max_drop, "--out", out / "bundle"),
        "--allow-grey",  # the network was trained on these very pictures, whatever their colours
    )
    harrier("eval", out / "bundle", evaluation, "--target", "tflite-int8", "--html", out / "confusion.html")
    heard = run_and_listen(out / "bundle", f"images://{Path(tested.file_paths[0]).parent}?fps=20&loop=yes", 3)
    summary(out / "bundle", {"messages another process received": str(len(heard))})
    print(f"confusion   {out / 'confusion.html'}")


def read(folder: Path, side: int) -> tuple:
    """Return the pictures to learn from and those to test with, as Keras reads them, and the class names."""
    try:
        learnt, tested = keras.utils.image_dataset_from_directory(
            folder.expanduser().absolute(),
            validation_split=0.2,
            subset="both",
            seed=0,
            image_size=(side, side),
            batch_size=BATCH,
            verbose=False,
        )
    except (OSError, ValueError) as exc:
        sys.exit(f"{folder} cannot be read as a folder of class folders ({str(exc).splitlines()[0]})")
    if len(learnt.class_names) < 2:
        sys.exit(
            f"{folder} has {len(learnt.class_names)} class folders: make one folder of pictures a class, 2 or more"
        )
    return learnt, tested, learnt.class_names


def mobilenet(side: int, from_nothing: bool) -> keras.Model:
    """Return MobileNetV2 without its classes: pretrained and frozen, or new where the weights cannot be had."""
    shape = (side, side, 3)
    if not from_nothing:
        try:
            base = keras.applications.MobileNetV2(shape, ALPHA, include_top=False, weights="imagenet", pooling="avg")
        except Exception as exc:  # whatever the download raises
            print(f"note: no ImageNet weights ({exc}); the whole network is trained from nothing")
        else:
            base.trainable = False
            return base
    base = keras.applications.MobileNetV2(shape, ALPHA, include_top=False, weights=None, pooling="avg")
    for layer in base.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # the 0.999 it comes with would take thousands of steps to see these pictures
    return base


def train(base: keras.Model, learnt, tested, classes: int, epochs: int, path: Path) -> None:
    """Train new classes on top of `base` (and `base`, where it is not frozen), and save the network."""
    image = keras.Input(base.input_shape[1:])
    scaled = layers.Rescaling(1 / 127.5, offset=-1)(image)  # inside, so that the robot gives plain pixels
    features = base(scaled) if base.trainable else base(scaled, training=False)
    network = keras.Model(image, layers.Dense(classes, activation="softmax")(layers.Dropout(0.2)(features)))
    steps = epochs * len(learnt)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    network.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    batches = learnt.cache().shuffle(len(learnt))
    network.fit(batches, epochs=epochs, validation_data=tested.cache(), shuffle=False, verbose=2)
    network.save(path)


if __name__ == "__main__":
    main()
