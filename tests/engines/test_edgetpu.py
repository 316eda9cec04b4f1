"""Edge TPUs in trees of the kernel's files, and what is said of each that cannot work as it should."""

import os
import subprocess
import sys

import pytest
from edgetpu_made import USB_FRESH, pci_tpu, put, usb_tpu

from edge.engines.edgetpu import LIBRARY, diagnose, find_library, find_tpus, usb_order


def findings(root, **options):
    """Kind -> finding, of a machine that has the library."""
    put(root / "usr/lib/aarch64-linux-gnu" / LIBRARY)
    return {finding.kind: finding for finding in diagnose(str(root), **options)}


def test_tpus_are_found_in_an_order_that_first_use_does_not_change(tmp_path):
    assert find_tpus(str(tmp_path)) == []
    for place, ids in (
        ("2-1.10", USB_FRESH),
        ("2-1.4", ("18d1", "9302")),
        ("1-2", USB_FRESH),
        ("3-1", ("046d", "c077")),
    ):
        usb_tpu(tmp_path, place, ids, number=int(place[-1]) + 1)
    for number in (10, 2):
        pci_tpu(tmp_path, number)
    found = find_tpus(str(tmp_path))
    assert [tpu.place for tpu in found] == ["apex_2", "apex_10", "1-2", "2-1.4", "2-1.10"]
    assert [tpu.fresh for tpu in found] == [False, False, True, False, True]
    assert found[3].path == "/sys/bus/usb/devices/2-1.4"
    assert found[3].node == "/dev/bus/usb/002/005"
    assert found[0].temperature_c == 45.0
    assert [tpu.place for tpu in usb_order(found)] == ["1-2", "2-1.10", "2-1.4"]  # libedgetpu: fresh ones first
    usb_tpu(tmp_path, "1-2", number=9)
    assert [tpu.place for tpu in find_tpus(str(tmp_path))] == [tpu.place for tpu in found]


def test_a_good_machine_has_no_findings(tmp_path):
    usb_tpu(tmp_path, "2-1")
    pci_tpu(tmp_path)
    assert findings(tmp_path) == {}


def test_no_tpu_and_no_library_are_two_findings(tmp_path):
    found = diagnose(str(tmp_path))
    assert [finding.kind for finding in found] == ["absent", "library"]
    assert "1a6e:089a" in found[0].cure
    assert "libedgetpu1-std" in found[1].cure
    assert find_library(str(tmp_path)) is None
    assert [finding.kind for finding in diagnose(str(tmp_path), library=False)] == ["absent"]


def test_a_pcie_tpu_without_its_driver_is_told_from_none(tmp_path):
    put(tmp_path / "sys/bus/pci/devices/0000:01:00.0/vendor", "0x1ac1")
    put(tmp_path / "sys/bus/pci/devices/0000:01:00.0/device", "0x089a")
    found = findings(tmp_path)
    assert set(found) == {"driver"}
    assert "0000:01:00.0" in found["driver"].cause
    assert "gasket-dkms" in found["driver"].cure


@pytest.mark.parametrize("ids", [USB_FRESH, ("18d1", "9302")])
def test_a_usb_tpu_that_may_not_be_opened(tmp_path, ids):
    usb_tpu(tmp_path, "2-1", ids)
    asked = []
    found = findings(tmp_path, access=lambda path, mode: asked.append((path, mode)))
    assert set(found) == {"permission"}
    assert asked == [(str(tmp_path / "dev/bus/usb/002/003"), os.R_OK | os.W_OK)]
    assert "plugdev" in found["permission"].cure
    assert "18d1:9302" in found["permission"].cure


def test_a_pcie_tpu_that_may_not_be_opened(tmp_path):
    pci_tpu(tmp_path)
    found = findings(tmp_path, access=lambda path, mode: False)
    assert 'GROUP="apex"' in found["permission"].cure


def test_a_tpu_that_a_container_was_not_given(tmp_path):
    usb_tpu(tmp_path, "2-1")
    (tmp_path / "dev/bus/usb/002/003").unlink()
    pci_tpu(tmp_path)
    (tmp_path / "dev/apex_0").unlink()
    found = {finding.place: finding for finding in diagnose(str(tmp_path), library=False)}
    assert {finding.kind for finding in found.values()} == {"node"}
    assert "all of /dev/bus/usb" in found["2-1"].cure
    assert "modprobe apex" in found["apex_0"].cure


def test_a_tpu_in_use_names_the_process(tmp_path):
    usb_tpu(tmp_path, "2-1")
    held = tmp_path / "proc/4242/fd/7"
    put(tmp_path / "proc/4242/comm", "frigate")
    held.parent.mkdir()
    held.symlink_to("/dev/bus/usb/002/003")
    folder = pci_tpu(tmp_path)
    put(folder / "device_owner", "17")
    causes = [finding.cause for finding in diagnose(str(tmp_path), library=False)]
    assert causes == [
        "the Edge TPU at PCIe apex_0 is in use by process 17",
        "the Edge TPU at USB 2-1 is in use by process 4242 (frigate)",
    ]
    assert [finding.place for finding in diagnose(str(tmp_path), place="2-1", library=False)] == ["2-1"]


def test_a_tpu_in_use_by_another_user_or_by_this_process(tmp_path):
    usb_tpu(tmp_path, "2-1")
    driver = tmp_path / "sys/bus/usb/drivers/usbfs"
    driver.mkdir(parents=True)
    (tmp_path / "sys/bus/usb/devices/2-1:1.0/driver").symlink_to(driver)
    assert "a process of another user" in findings(tmp_path)["busy"].cause
    own = tmp_path / f"proc/{os.getpid()}/fd/3"
    own.parent.mkdir(parents=True)
    own.symlink_to("/dev/bus/usb/002/003")
    assert findings(tmp_path) == {}


@pytest.mark.parametrize(("file", "value"), [("status", "DEAD"), ("temp", "-89700")])
def test_a_pcie_tpu_that_fell_off_the_bus(tmp_path, file, value):
    put(pci_tpu(tmp_path) / file, value)
    found = findings(tmp_path)["dead"]
    assert found.fatal
    assert "off and on" in found.cure


def test_heat_is_a_warning_that_names_both_temperatures(tmp_path):
    pci_tpu(tmp_path, temperature=91_100)
    found = findings(tmp_path)["hot"]
    assert not found.fatal
    assert found.cause.endswith("has 91.1 C and slows down from 84.8 C on")


def test_usb_2_and_weak_power_are_warnings(tmp_path):
    usb_tpu(tmp_path, "1-1.4", speed="480")
    put(tmp_path / "sys/bus/usb/devices/1-1/bmAttributes", "a0")  # takes its power from the bus
    put(tmp_path / "sys/bus/usb/devices/1-1:1.0/1-1-port4/over_current_count", "2")
    found = diagnose(str(tmp_path), library=False)
    assert [(finding.kind, finding.fatal) for finding in found] == [("power", False), ("power", False), ("slow", False)]
    assert "up to 896mA, is behind a hub without a power supply" in found[0].cause
    assert "switched off 2 times" in found[1].cause
    assert "480 of 5000 Mbit/s" in found[2].cause
    put(tmp_path / "sys/bus/usb/devices/1-1/bmAttributes", "e0")  # has its own
    assert len(diagnose(str(tmp_path), library=False)) == 2


def test_over_current_of_a_port_of_the_machine(tmp_path):
    usb_tpu(tmp_path, "2-1")
    put(tmp_path / "sys/bus/usb/devices/2-0:1.0/usb2-port1/over_current_count", "1")
    assert "switched off 1 times" in findings(tmp_path)["power"].cause


def test_under_voltage_of_a_raspberry_pi(tmp_path):
    usb_tpu(tmp_path, "2-1")
    put(tmp_path / "sys/class/hwmon/hwmon1/name", "rpi_volt")
    put(tmp_path / "sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0")
    assert findings(tmp_path) == {}
    put(tmp_path / "sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1")
    assert "voltage" in findings(tmp_path)["power"].cause


def test_what_is_fatal_comes_first(tmp_path):
    usb_tpu(tmp_path, "2-1", speed="480")
    assert [finding.kind for finding in diagnose(str(tmp_path))] == ["library", "slow"]


def test_garbled_files_are_no_accident(tmp_path):
    folder = usb_tpu(tmp_path, "2-1.4", speed="unknown")
    (folder / "devnum").write_bytes(b"\xff\xfe")
    put(folder.parent / "2-1/bmAttributes", "zz")
    put(pci_tpu(tmp_path) / "temp", "hot")
    found = find_tpus(str(tmp_path))
    assert [(tpu.speed_mbps, tpu.temperature_c) for tpu in found] == [(None, None), (None, None)]
    assert {finding.kind for finding in diagnose(str(tmp_path), library=False)} == {"node"}


def test_looking_for_tpus_loads_no_interpreter():
    script = "import sys, edge.engines.edgetpu as e; e.diagnose(); print([n for n in sys.modules if n in %r])"
    heavy = ("numpy", "ai_edge_litert", "tflite_runtime", "tensorflow", "msgspec")
    out = subprocess.run([sys.executable, "-c", script % (heavy,)], capture_output=True, text=True, timeout=60)
    assert out.stdout.strip() == "[]", out.stderr
