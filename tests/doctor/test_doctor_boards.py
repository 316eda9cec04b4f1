"""`harrier doctor` on recorded boards: every finding that is not ok, with the beginning of its cure."""

import pytest
from recorded_boards import BOARDS, NAMES, board_tree, shown

from edge.doctor.examination import examine
from edge.structs import read_toml


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_is_not_as_it_should_be_is_found_and_nothing_else(name, tmp_path):
    found = shown(examine(board_tree(name, tmp_path)))
    expected = [tuple(row) for row in read_toml(BOARDS / f"{name}.toml")["expected"]]
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    for (*_, cure), (*what, begins) in zip(found, expected, strict=True):
        assert cure.startswith(begins), what


def found_on(name, tmp_path):
    return {(f.id, f.subject): f for f in examine(board_tree(name, tmp_path))}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "jetson-nano-jetpack-4.6",
            "JetPack 4.6.1 (L4T R32.7.1), compute capability 5.3: Ubuntu 18.04, Python 3.6, CUDA 10.2, TensorRT 8.2",
        ),
        (
            "xavier-nx-jetpack-5.1",
            "JetPack 5.1.2 (L4T R35.4.1), compute capability 7.2: Ubuntu 20.04, Python 3.8, CUDA 11.4, TensorRT 8.5",
        ),
        (
            "orin-nano-jetpack-6.2",
            "JetPack 6.2 (L4T R36.4.3), compute capability 8.7: Ubuntu 22.04, Python 3.10, CUDA 12.6, TensorRT 10.3",
        ),
        (
            "thor-jetpack-7",
            "JetPack 7.0 (L4T R38.2.1), compute capability 11.0: Ubuntu 24.04, Python 3.12, CUDA 13.0, TensorRT 10.13",
        ),
    ],
)
def test_each_jetpack_is_named_with_what_it_brings(name, said, tmp_path):
    assert found_on(name, tmp_path)["board.jetpack", "JetPack"].found == said


def test_the_lasting_name_the_formats_and_the_speed_of_a_camera_are_told(tmp_path):
    found = found_on("xavier-nx-jetpack-5.1", tmp_path)
    by_path = "/dev/v4l/by-path/platform-3610000.xhci-usb-0:2.1:1.0-video-index0"
    assert found["camera.device", "/dev/video0"].found == (
        "UVC Camera (046d:0825), USB 480 Mbit/s; YUYV to 640x480 at 30/s, MJPG to 1280x720 at 30/s; "
        f"lasting name {by_path}"
    )
    assert ("camera.device", "/dev/video1") not in found  # its metadata
    assert found["camera.bandwidth", "USB bus 1"].found == (
        "480 Mbit/s carry 1 uncompressed stream of 640x480 at 30/s; 2 cameras on it"
    )


def test_serial_ports_have_their_lasting_names(tmp_path):
    found = found_on("xavier-nx-jetpack-5.1", tmp_path)
    by_id = "/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0"
    assert found["serial.port", "/dev/ttyUSB0"].found == f"FT232R USB UART; lasting name {by_id}"
    assert ("serial.port", "/dev/ttyTCU0") not in found  # Jetson's debug console
    pi = found_on("raspberry-pi-5-coral", tmp_path / "pi")
    assert pi["serial.port", "/dev/ttyAMA10"].found == "the board's own; lasting name /dev/serial0"


def test_numbers_without_a_chip_are_no_ports(tmp_path):
    ports = [subject for name, subject in found_on("x86-laptop-nvidia", tmp_path) if name == "serial.port"]
    assert ports == ["/dev/ttyACM0"]


def test_what_is_hot_is_named_with_its_limit(tmp_path):
    found = found_on("orin-nano-jetpack-6.2", tmp_path)
    assert found["heat.temperature", "temperature"].found == "tj-thermal has 96 °C, the limit is 99 °C"
    assert found["heat.throttling", "throttling"].found == "cooling state of cpufreq-cpu0 (cooling_device0) is 4"
    assert (
        found["power.clocks", "clocks"].found == "scaled with the load (governor schedutil); capped at 1510 of 1728 MHz"
    )


def test_the_supply_of_a_pi_is_read_from_firmware_and_device_tree(tmp_path):
    found = examine(board_tree("raspberry-pi-5-coral", tmp_path))
    assert [f.found for f in found if f.id in ("power.supply", "power.usb")] == [
        "under-voltage since the last start (0x50000)",
        "a supply of 3000 mA",
    ]


def test_a_gpu_is_told_with_its_driver(tmp_path):
    found = found_on("x86-laptop-nvidia", tmp_path)
    assert found["nvidia.gpu", "GPU"].found == "NVIDIA GeForce RTX 4060 Laptop GPU, 8188 MiB, 8.9, driver 550.120"
