"""The tutorial everybody starts from, all the way to the robot: a Keras classifier of Fashion-MNIST in int8.

    python examples/train/fashion_mnist.py --data fashion           the whole set (keras.datasets downloads it)
    python examples/train/fashion_mnist.py --data digits            offline: scikit-learn's handwritten digits
    python examples/train/fashion_mnist.py --data FILE.npz          images (N, 28, 28) uint8, labels (N,), class_names

Trains, converts to float32 and int8 with the accuracy of both, runs the bundle and listens to it.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from shell import harrier, run_and_listen, write_class_folders, write_pictures

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FASHION = "T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle-boot".replace("/", "-").split()


def main() -> None:
    """Train, convert, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion", help="fashion, digits, or an .npz file")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("fashion-out"))
    arguments = parser.parse_args()
    out = arguments.out
    images, labels, names = read(arguments.data)
    train, test = split(len(images))
    out.mkdir(parents=True, exist_ok=True)
    (out / "labels.txt").write_text("\n".join(names) + "\n")
    fit(images[train], labels[train], len(names), arguments.epochs, out / "classifier.keras")
    kept = test[:2000]  # enough to tell half a percent
    evaluation = write_class_folders(out / "test", images[kept], labels[kept], names)
    calibration = write_pictures(out / "calibration", images[train[:200]])
    harrier(
        *("convert", out / "classifier.keras", "--to", "tflite", "--precision", "fp32,int8"),
        *("--labels", out / "labels.txt", "--set", "input.channel_order=gray", "--set", f"input.scale={1 / 255}"),
        *("--set", "input.resize=stretch", "--calibration", calibration, "--eval", evaluation, "--max-drop", "0.02"),
        *("--out", out / "bundle", "--force"),
    )
    harrier("eval", out / "bundle", evaluation, "--target", "tflite-int8", "--html", out / "confusion.html")
    run_and_listen(out / "bundle", f"images://{calibration}?fps=20&loop=yes", 3)
    print(f"\nthe bundle: {out / 'bundle'}\nits report: {out / 'bundle/report.html'}\nconfusion: {out}/confusion.html")


def read(data: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return images (N, H, W) uint8, labels (N,) int64 and the class names."""
    if data == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        return np.uint8(digits.images * 15.9375), digits.target.astype(np.int64), [str(i) for i in range(10)]
    if data == "fashion":
        import keras

        try:
            (images, labels), (more, more_labels) = keras.datasets.fashion_mnist.load_data()
        except Exception as exc:  # whatever the download raises
            sys.exit(f"Fashion-MNIST cannot be downloaded ({exc}): use --data digits, which comes with scikit-learn")
        return np.concatenate([images, more]), np.concatenate([labels, more_labels]).astype(np.int64), FASHION
    with np.load(data) as stored:
        names = [str(name).replace("/", "-").replace(" ", "-") for name in stored["class_names"]]
        return stored["images"], stored["labels"].astype(np.int64), names


def split(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return shuffled positions (int64) for training and, a fifth of all, for testing."""
    order = np.random.default_rng(0).permutation(count)
    return order[count // 5 :], order[: count // 5]


def fit(images: np.ndarray, labels: np.ndarray, classes: int, epochs: int, path: Path) -> None:
    """Train a small CNN on (N, H, W) uint8 images, scaled to 0..1, and save it."""
    import keras

    keras.utils.set_random_seed(1)
    network = keras.Sequential(
        [
            keras.Input((*images.shape[1:], 1)),
            keras.layers.Conv2D(16, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    scaled = images[..., None].astype(np.float32) / 255
    network.fit(scaled, labels, epochs=epochs, batch_size=64 if len(images) < 5000 else 256, verbose=2)
    network.save(path)


if __name__ == "__main__":
    main()
