"""Run by the Python that has ROS: make the Python package vision_msgs, of which ROS's wheels have none.

    python ros2_interfaces.py FOLDER     prints the folder to put on PYTHONPATH

The messages are those of vision_msgs 4.1.1 that `ros2://` publishes and what they consist of. ROS's own generators
(rosidl) write the sources, the system's compiler builds them.
"""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy
from rosidl_adapter.msg import convert_msg_to_idl
from rosidl_cli.command.helpers import legacy_generator_arguments_file
from rosidl_generator_c.cli import GenerateC
from rosidl_generator_py.cli import GeneratePython
from rosidl_generator_type_description import generate_type_hash
from rosidl_typesupport_c.cli import GenerateCTypesupport
from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport

PACKAGE = "vision_msgs"
NEEDS = ("std_msgs", "geometry_msgs", "builtin_interfaces")
IMPLEMENTATION = "rosidl_typesupport_fastrtps_c"
PREFIX = Path(sys.prefix)


def generate(sources: Path, package: Path) -> None:
    """Write the C, C++ and Python sources."""
    needs = [str(PREFIX / "share" / name) for name in NEEDS]
    names = sorted(path.stem for path in (sources / "msg").glob("*.msg"))
    for name in names:
        convert_msg_to_idl(sources, PACKAGE, Path("msg") / f"{name}.msg", package / "msg")
    idls = [f"{package}:msg/{name}.idl" for name in names]
    arguments = {
        "package_name": PACKAGE,
        "interface_files": idls,
        "include_paths": needs,
        "templates_path": str(package),
        "output_path": str(package),
    }
    with legacy_generator_arguments_file(**arguments) as path:
        values = json.loads(Path(path).read_text())
        values["include_paths"] = [f"{name}:{PREFIX / 'share' / name}" for name in NEEDS]
        Path(path).write_text(json.dumps(values))
        generate_type_hash(path)
    described = [str(package / "msg" / f"{name}.json") for name in names]
    both = ["rosidl_typesupport_c", IMPLEMENTATION]
    GenerateC("c").generate(PACKAGE, idls, needs, package, described)
    GenerateCTypesupport("c", typesupport_implementations=[IMPLEMENTATION]).generate(PACKAGE, idls, needs, package)
    GenerateFastRTPSCTypesupport("fastrtps").generate(PACKAGE, idls, needs, package)
    GeneratePython("py", typesupport_implementations=both).generate(PACKAGE, idls, needs, package)


def build(package: Path) -> None:
    """Compile one library with everything in it, and the two modules that Python loads."""
    include = [package.parent, PREFIX / "include", sysconfig.get_paths()["include"], numpy.get_include()]
    include += [path for path in (PREFIX / "include").iterdir() if path.is_dir()]
    flags = ["-O0", "-w", "-fPIC", *(f"-I{path}" for path in include)]
    modules = sorted(package.glob("_*_s.ep.*.c"))
    plain = sorted(path for path in package.rglob("*.c") if path not in modules)
    mixed = sorted(package.rglob("*.cpp"))
    together = package / "all.cc"  # one unit: the headers of fastcdr take longer than what is in it
    together.write_text("".join(f'#include "{path}"\n' for path in mixed))
    slow = subprocess.Popen(["g++", "-std=c++17", "-c", *flags, str(together), "-o", f"{together}.o"])
    for path in plain:
        subprocess.run(["gcc", "-c", *flags, str(path), "-o", f"{path}.o"], check=True)
    assert slow.wait() == 0, "the compiler failed"
    libraries = [path for name in NEEDS for path in (PREFIX / "lib").glob(f"lib{name}__rosidl_*.so")]
    libraries += (PREFIX / "lib").glob("librosidl_*.so")
    libraries += [PREFIX / "lib" / "librcutils.so", PREFIX / "lib" / "libfastcdr.so"]
    whole = package / f"lib{PACKAGE}.so"
    link = [*map(str, libraries), f"-Wl,-rpath,{PREFIX / 'lib'}", f"-Wl,-rpath,{package}"]
    objects = [f"{path}.o" for path in (*plain, together)]
    subprocess.run(["g++", "-shared", "-o", str(whole), *objects, *link], check=True)
    for path in modules:
        out = package / f"{PACKAGE}_s__{path.name.split('.')[2]}{sysconfig.get_config_var('EXT_SUFFIX')}"
        subprocess.run(["gcc", "-shared", *flags, str(path), "-o", str(out), str(whole), *link], check=True)
    (package / "__init__.py").touch()


if __name__ == "__main__":
    os.environ["AMENT_PREFIX_PATH"] = str(PREFIX)
    folder = Path(sys.argv[1]).resolve()
    here = folder / "interfaces"
    (here / PACKAGE / "msg").mkdir(parents=True)
    stdout, sys.stdout = sys.stdout, sys.stderr  # the generators talk
    generate(Path(__file__).parent / "ros2_msgs", here / PACKAGE)
    build(here / PACKAGE)
    print(here, file=stdout, flush=True)  # it is not sys.stdout any more, which alone is flushed at the end
