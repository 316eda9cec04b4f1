"""The tutorial everybody starts from, all the way to the robot: a Keras classifier of Fashion-MNIST in int8.

    python examples/train/fashion_mnist.py --data fashion           the whole set (keras.datasets downloads it)
    python examples/train/fashion_mnist.py --data digits            offline: scikit-learn's handwritten digits
    python examples/train/fashion_mnist.py --data FILE.npz          images (N, 28, 28) uint8, labels (N,), class_names

Trains, converts to float32 and int8 with the accuracy of both, runs the bundle and listens to it.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from shell import harrier, new_folder, run_and_listen, summary, write_class_folders, write_pictures

from convert.quiet import quiet

with quiet():  # TensorFlow greets at length
    import keras

CLASSES = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
MOST_TESTED, CALIBRATED = 2000, 200


def main() -> None:
    """Train, convert, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion", help="fashion, digits, or an .npz file")
    parser.add_argument("--epochs", type=int, help="passes over the training pictures (by their number: 3 to 25)")
    parser.add_argument("--out", type=Path, default=Path("fashion-out"), help="folder to write")
    arguments = parser.parse_args()
    out = new_folder(arguments.out)
    images, labels, names, tested = read(arguments.data)
    epochs = arguments.epochs or int(np.clip(20_000 / len(images), 3, 25))
    (out / "labels.txt").write_text("\n".join(names) + "\n")
    train(images[:-tested], labels[:-tested], len(names), epochs, out / "classifier.keras")
    kept = slice(-tested, None if tested <= MOST_TESTED else MOST_TESTED - tested)
    evaluation = write_class_folders(out / "test", images[kept], labels[kept], names)
    calibration = write_pictures(out / "calibration", images[:CALIBRATED])
    harrier(
        *("convert", out / "classifier.keras", "--to", "tflite", "--precision", "fp32,int8"),
        *("--labels", out / "labels.txt", "--set", "input.channel_order=gray", "--set", f"input.scale={1 / 255}"),
        *("--calibration", calibration, "--eval", evaluation, "--max-drop", "0.02", "--out", out / "bundle"),
    )
    harrier("eval", out / "bundle", evaluation, "--target", "tflite-int8", "--html", out / "confusion.html")
    heard = run_and_listen(out / "bundle", f"images://{calibration}?fps=20&loop=yes", 3)
    summary(out / "bundle", {"messages another process received": str(len(heard))})
    print(f"confusion   {out / 'confusion.html'}")


def read(data: str) -> tuple[np.ndarray, np.ndarray, list[str], int]:
    """Return images (N, H, W) uint8, labels (N,) int64, the class names, and how many of the last are for testing."""
    if data == "fashion":
        try:
            (images, labels), (unseen, unseen_labels) = keras.datasets.fashion_mnist.load_data()
        except Exception as exc:  # whatever the download raises
            sys.exit(f"Fashion-MNIST cannot be downloaded ({exc}): --data digits comes with scikit-learn")
        both = np.concatenate([images, unseen]), np.concatenate([labels, unseen_labels]).astype(np.int64)
        return *both, CLASSES, len(unseen)
    if data == "digits":
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            sys.exit("the digits come with scikit-learn: pip install scikit-learn")
        digits = load_digits()
        images, labels, names = np.uint8(digits.images * 15.9375), digits.target, [str(name) for name in range(10)]
    else:
        with np.load(data) as stored:
            images, labels, names = stored["images"], stored["labels"], [str(name) for name in stored["class_names"]]
    order = np.random.default_rng(0).permutation(len(images))
    names = [name.replace("/", "-") for name in names]  # they become folders
    return images[order], labels[order].astype(np.int64), names, len(images) // 5


def train(images: np.ndarray, labels: np.ndarray, classes: int, epochs: int, path: Path) -> None:
    """Train a small CNN on (N, H, W) uint8 images, scaled to 0..1, and save it."""
    keras.utils.set_random_seed(1)
    network = keras.Sequential(
        [
            keras.Input((*images.shape[1:], 1)),
            keras.layers.Conv2D(16, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    batch = 32 if len(images) < 5000 else 256
    scaled = images[..., None].astype(np.float32) / 255
    network.fit(scaled, labels, epochs=epochs, batch_size=batch, verbose=2)
    network.save(path)


if __name__ == "__main__":
    main()
