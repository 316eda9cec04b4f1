"""The seam over pycuda and cuda-python on a stand-in driver: fake_cuda.c, compiled here as libcuda.so.1.

cuda-python is the real package. pycuda, which cannot be built without CUDA, is the stand-in fake_pycuda.py.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from edge.engines.cuda import open_cuda
from edge.engines.cuda_driver import Driver
from edge.engines.portable import RunnerError

HERE = Path(__file__).parent
ENGINES = HERE.parents[1] / "edge" / "engines"

pytestmark = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("g++")), reason="gcc and g++ are not installed: no stand-in driver"
)


@pytest.fixture(scope="module")
def drivers(tmp_path_factory) -> dict[str, Path]:
    """The folders of two stand-in drivers: "new", and "old" as before CUDA 11. Each has the stand-in of pycuda, too."""
    folders = {}
    for age, flags in (("new", []), ("old", ["-DOLD"])):
        folder = folders[age] = tmp_path_factory.mktemp(f"{age}-driver")
        library = folder / "libcuda.so.1"
        command = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *flags, "-o", str(library)]
        subprocess.run([*command, str(HERE / "fake_cuda.c"), "-ldl"], check=True, timeout=60)
        (folder / "libnvrtc.so").symlink_to(library)
        (folder / "pycuda").mkdir()
        (folder / "pycuda" / "__init__.py").write_text("")
        shutil.copy(HERE / "fake_pycuda.py", folder / "pycuda" / "driver.py")
    return folders


def run(driver: Path, tmp_path: Path, python_path: str) -> subprocess.CompletedProcess:
    """Run all scenarios; they print the binding they used."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("LD_", "PYTHON", "CUDA"))},
        "LD_LIBRARY_PATH": str(driver),
        "FAKE_FOLDER": str(tmp_path),
        "FAKE_SHIM": str(HERE / "cuda_shim.hpp"),
        "PYTHONPATH": python_path,
    }
    command = [sys.executable, "-B", str(HERE / "cuda_scenarios.py"), str(ENGINES)]
    return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("age", ["new", "old"])
def test_pycuda(age, drivers, tmp_path):
    result = run(drivers[age], tmp_path, str(drivers[age]))
    assert (result.returncode, result.stdout) == (0, "pycuda\n"), result.stderr


@pytest.mark.parametrize("age", ["new", "old"])
def test_cuda_python(age, drivers, tmp_path):
    if find_spec("cuda") is None:
        pytest.skip("cuda-python is not installed (pip install 'harrier-edge[cuda]')")
    if find_spec("pycuda") is not None:
        pytest.skip("pycuda is installed and comes first")
    result = run(drivers[age], tmp_path, "")
    if age == "old" and "cuGetProcAddress" in result.stderr:  # from 12.6 on it wants a driver of CUDA 11.3
        assert "accelerator" in result.stderr
        assert "install the cuda-python of the driver's CUDA release" in result.stderr
        return
    assert (result.returncode, result.stdout) == (0, "cuda-python\n"), result.stderr


def test_without_a_driver_that_is_the_reason():
    try:
        Driver()
    except RunnerError:
        pass
    else:
        pytest.skip("there is an NVIDIA driver here")
    with pytest.raises(RunnerError, match="there is no NVIDIA driver here") as caught:
        open_cuda(0)
    assert caught.value.kind == "accelerator"


BROKEN = {
    "nothing": ("", "neither pycuda nor cuda-python is installed: pip install 'harrier-edge[cuda]'"),
    "no libcurand": ("raise ImportError('libcurand.so.10: cannot open shared object file')", "pycuda: libcurand.so.10"),
    "half": ("import pycuda._driver", "No module named 'pycuda._driver': install it again"),
    "ancient": ("class Device: pass", "this pycuda cannot use the primary context: pip install 'pycuda>=2022.1'"),
}
OPEN = """
import sys
sys.modules["cuda"] = None  # as if it were not installed
sys.path.insert(0, sys.argv[1])
from edge.engines.cuda import open_cuda
from edge.engines.portable import RunnerError
try:
    open_cuda(0)
except RunnerError as exc:
    print(exc.kind, exc)
"""


@pytest.mark.parametrize("case", BROKEN)
def test_a_binding_that_does_not_work_says_why(case, drivers, tmp_path):
    text, words = BROKEN[case]
    if text:
        (tmp_path / "pycuda").mkdir()
        (tmp_path / "pycuda" / "__init__.py").write_text("")
        (tmp_path / "pycuda" / "driver.py").write_text(text)
    elif find_spec("pycuda") is not None:
        pytest.skip("pycuda is installed")
    result = subprocess.run(
        [sys.executable, "-B", "-c", OPEN, str(tmp_path)],
        env={"LD_LIBRARY_PATH": str(drivers["new"]), "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("missing ")
    assert words in result.stdout
