"""A real Triton core with three models, run by the interpreter HARRIER_TRITON_PYTHON names.

yolox: the ONNX file given, through ONNX Runtime. double: y = 2 x for a row of four numbers, after x[0] seconds, two
at a time. idle: tensors of YOLOX's sizes and nothing computed. Shared memory is for those who send the token alone.
When all are loaded there is a file `ready` in its folder; it ends with its standard input.
"""

import argparse
import faulthandler
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig, TritonSecurityConfig


def main() -> None:
    faulthandler.dump_traceback_later(60, exit=True)  # a start that hangs says where
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("onnx")
    parser.add_argument("workspace")
    parser.add_argument("token")
    parser.add_argument("ports", type=int, nargs=3, metavar="PORT", help="of HTTP, gRPC and metrics")
    arguments = parser.parse_args()
    http_port, grpc_port, metrics_port = arguments.ports
    config = TritonConfig(
        http_address="127.0.0.1",
        grpc_address="127.0.0.1",
        metrics_address="127.0.0.1",
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        allow_gpu_metrics=False,
        exit_timeout_secs=1,
    )
    security = TritonSecurityConfig(access_token=arguments.token, restricted_endpoints=["shared-memory"])
    with Triton(config=config, security_config=security, workspace=arguments.workspace) as triton:
        bind_yolox(triton, arguments.onnx)
        bind(triton, "double", [doubled, doubled], (4,), (4,))
        bind(triton, "idle", idle, (3, 416, 416), (3549, 85))
        triton.run()
        faulthandler.cancel_dump_traceback_later()
        (Path(arguments.workspace) / "ready").touch()
        sys.stdin.read()  # until the test goes


def bind_yolox(triton: Triton, path: str) -> None:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    image, output = session.get_inputs()[0], session.get_outputs()[0]

    @batch
    def infer(**tensors: np.ndarray) -> dict[str, np.ndarray]:
        rows = [session.run(None, {image.name: row[None]})[0] for row in tensors[image.name]]
        return {output.name: np.concatenate(rows)}

    triton.bind(
        model_name="yolox",
        infer_func=infer,
        inputs=[Tensor(name=image.name, dtype=np.float32, shape=tuple(image.shape[1:]))],
        outputs=[Tensor(name=output.name, dtype=np.float32, shape=tuple(output.shape[1:]))],
        config=ModelConfig(max_batch_size=8),
    )


def bind(triton: Triton, name: str, infer, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> None:
    triton.bind(
        model_name=name,
        infer_func=infer,
        inputs=[Tensor(name="x", dtype=np.float32, shape=input_shape)],
        outputs=[Tensor(name="y", dtype=np.float32, shape=output_shape)],
        config=ModelConfig(max_batch_size=8),
    )


@batch
def doubled(x: np.ndarray) -> dict[str, np.ndarray]:
    time.sleep(float(np.nan_to_num(x[0, 0])))
    return {"y": 2 * x}


@batch
def idle(x: np.ndarray) -> dict[str, np.ndarray]:
    return {"y": np.zeros((len(x), 3549, 85), np.float32)}


if __name__ == "__main__":
    main()
