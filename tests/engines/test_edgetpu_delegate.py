"""The Edge TPU's delegate: which TPU it is asked for, and what every refusal is taken for.

The library is a stand-in with libedgetpu's C interface, loaded by the real interpreter; see edgetpu_stand_in.c.
"""

import gc
import os
from contextlib import suppress

import numpy as np
import pytest
from edgetpu_made import USB_FRESH, build_stand_in, compiled_model, pci_tpu, put, usb_tpu

from edge.config import EngineSection
from edge.engines import edgetpu_delegate
from edge.engines.edgetpu import find_tpus
from edge.engines.edgetpu_delegate import OpenTpu, ask_library, choose, explain, loss, open_tpu
from edge.engines.portable import RunnerError
from edge.errors import AcceleratorError, ConfigError, EngineLostError, MissingBackendError
from edge.model import load_engine
from edge.testing import check_engine

HERE = "/sys/bus/usb/devices/"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build_stand_in(tmp_path_factory.mktemp("stand-in"))


@pytest.fixture
def machine(library, tmp_path, monkeypatch):
    """A tree with one TPU on USB and the stand-in; returns the tree."""
    root = tmp_path / "machine"
    usb_tpu(root, "2-1.4")
    monkeypatch.setattr(edgetpu_delegate, "ROOT", str(root))
    monkeypatch.setattr(edgetpu_delegate, "LIBRARY_FILE", str(library))
    monkeypatch.setattr(edgetpu_delegate, "_SETTLE_S", 0.5)
    monkeypatch.setattr(edgetpu_delegate, "_POLL_S", 0.01)
    for name in [name for name in os.environ if name.startswith("STAND_IN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STAND_IN_RUNTIME", "14")
    monkeypatch.setenv("STAND_IN_DEVICES", "1 " + HERE + "2-1.4")
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "asked"))
    return root


@pytest.fixture
def model(tmp_path):
    return compiled_model(tmp_path / "net_edgetpu.tflite")


def tpus_at(root, *places, fresh=()):
    for i, place in enumerate(places):
        if place.startswith("apex"):
            pci_tpu(root, int(place[5:]))
        else:
            usb_tpu(root, place, USB_FRESH if place in fresh else ("18d1", "9302"), number=i + 2)
    return find_tpus(str(root))


def test_a_compiled_file_runs_on_the_tpu_and_keeps_the_contract(machine, model, tmp_path):
    engine = load_engine(model, EngineSection(threads=1))
    engine.inputs[0][...] = np.arange(192).reshape(1, 8, 8, 3)
    engine.run()
    assert np.array_equal(engine.outputs[0], engine.inputs[0] ^ 0xFF)
    assert engine.input_specs[0].layout == "NHWC"
    assert engine.output_specs[0].quantization.zero_point == 3
    output = engine.outputs[0]
    engine.inputs[0][...] = 1
    engine.run()
    assert engine.outputs[0] is output
    assert (output == 0xFE).all()
    assert (tmp_path / "asked").read_text() == "[]\n"  # one TPU: whichever it is
    check_engine(engine)


def test_the_tpu_is_released_with_the_engine(machine, model, tmp_path):
    engine = load_engine(model, EngineSection(threads=1))
    output = engine.outputs[0]
    engine.close()
    assert (tmp_path / "asked").read_text() == "[]\nreleased\n"
    assert output.shape == (1, 8, 8, 3)  # whoever still looks at results does not keep the TPU


def test_a_failed_start_keeps_no_tpu(machine, model, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN_PREPARE", "Internal: Unsupported data type in custom op handler: 0")
    gc.collect()
    gc.disable()  # not by way of the garbage collector, which runs some time later
    try:
        with suppress(AcceleratorError):
            load_engine(model, EngineSection())
        assert (tmp_path / "asked").read_text() == "[]\nreleased\n"
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("wanted", "device", "place"),
    [
        ("", "", None),
        ("usb", "usb", None),
        ("pci", "pci", "apex_0"),
        ("pci:0", "pci:0", "apex_0"),
        ("usb:0", "usb:0", "2-2"),  # libedgetpu's order, as it was told
        ("usb:1", "usb:1", "2-1.4"),
        ("0", "pci:0", "apex_0"),  # the order of find_tpus
        ("1", "usb:1", "2-1.4"),
        ("2", "usb:0", "2-2"),
        ("2-1.4", "usb:1", "2-1.4"),
        (HERE + "2-2", "usb:0", "2-2"),
        ("apex_0", "pci:0", "apex_0"),
        ("/dev/apex_0", "pci:0", "apex_0"),
    ],
)
def test_one_of_several_is_chosen_in_the_librarys_own_order(tmp_path, wanted, device, place):
    tpus = tpus_at(tmp_path, "apex_0", "2-1.4", "2-2")
    listed = [("usb", HERE + "2-2"), ("usb", HERE + "2-1.4"), ("pci", "/dev/apex_0")]
    word, tpu = choose(wanted, tpus, listed)
    assert word == device
    assert (tpu.place if tpu else None) == place


def test_without_the_librarys_word_fresh_ones_are_counted_first(tmp_path):
    tpus = tpus_at(tmp_path, "2-1", "2-2", "2-3", fresh=("2-3",))
    assert [choose(place, tpus, None)[0] for place in ("2-1", "2-2", "2-3")] == ["usb:1", "usb:2", "usb:0"]


@pytest.mark.parametrize("wanted", ["pci", "usb:2", "pci:0", "2", "2-1.5", "apex_1"])
def test_a_tpu_that_is_not_here_says_which_are(tmp_path, wanted):
    tpus = tpus_at(tmp_path, "2-1.4", "2-2")
    with pytest.raises(RunnerError, match=r"no Edge TPU '.+' is here \(0: 2-1.4, 1: 2-2\)") as caught:
        choose(wanted, tpus, None)
    assert caught.value.kind == "accelerator"


@pytest.mark.parametrize("wanted", ["gpu", "usb:", "usb:-1", "cuda:0", "2-", "-1", "usb:²", "²"])
def test_a_word_that_names_no_tpu_is_an_error_of_the_configuration(machine, model, wanted):
    with pytest.raises(ConfigError, match="names no Edge TPU") as caught:
        load_engine(model, EngineSection(device=wanted))
    assert not isinstance(caught.value, MissingBackendError)


def test_the_chosen_device_reaches_the_library(machine, model, tmp_path, monkeypatch):
    tpus_at(machine, "2-1.4", "2-2")
    monkeypatch.setenv("STAND_IN_DEVICES", f"1 {HERE}2-2;1 {HERE}2-1.4;0 /dev/apex_9")
    load_engine(model, EngineSection(device="2-1.4")).close()
    assert (tmp_path / "asked").read_text().startswith("[usb:1]\n")


def test_what_the_library_says_of_itself(library, machine, monkeypatch):
    monkeypatch.setenv("STAND_IN_DEVICES", f"0 /dev/apex_0;1 {HERE}2-1.4")
    assert ask_library(str(library)) == ("", 14, [("pci", "/dev/apex_0"), ("usb", HERE + "2-1.4")])
    monkeypatch.setenv("STAND_IN_DEVICES", "")
    assert ask_library(str(library)).devices == []
    assert ask_library("libm.so.6") == ("", None, None)  # a library without this interface
    assert "No such file" in ask_library("/nowhere/libedgetpu.so.1").error


def test_a_missing_library_gives_the_package(machine, model, monkeypatch):
    monkeypatch.setattr(edgetpu_delegate, "LIBRARY_FILE", str(machine / "libedgetpu.so.1"))
    with pytest.raises(
        MissingBackendError, match="libedgetpu.so.1 is not installed: .*libedgetpu1-std.*community builds"
    ):
        load_engine(model, EngineSection())


def test_a_library_for_another_processor_is_told_from_a_missing_one(machine, model, monkeypatch):
    garbage = machine / "usr/lib/libedgetpu.so.1"
    put(garbage, "\x7fELF of another kind")
    monkeypatch.setattr(edgetpu_delegate, "LIBRARY_FILE", str(garbage))
    with pytest.raises(MissingBackendError, match="cannot be loaded .*built for this system and processor"):
        load_engine(model, EngineSection())


def test_no_tpu_is_said_before_a_missing_library(model, tmp_path, monkeypatch):
    monkeypatch.setattr(edgetpu_delegate, "ROOT", str(tmp_path / "empty"))
    monkeypatch.setattr(edgetpu_delegate, "LIBRARY_FILE", "/nowhere/libedgetpu.so.1")
    with pytest.raises(AcceleratorError, match="compiled for the Edge TPU, and no Edge TPU is here: .*uncompiled"):
        load_engine(model, EngineSection())


def test_a_file_for_a_newer_runtime_is_recognised_before_it_fails(machine, model, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN_RUNTIME", "12")
    with pytest.raises(
        AcceleratorError, match="for Edge TPU runtime 13, and libedgetpu here is runtime 12: .*version 12"
    ):
        load_engine(model, EngineSection())
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("Internal: Unsupported data type in custom op handler: 0", "different versions of TensorFlow Lite"),
        (
            "Failed precondition: Package requires runtime version (14), which is newer than this runtime version (13)",
            "for Edge TPU runtime 14, and libedgetpu here is runtime 13",
        ),
        ("USB error -1 [something]", "the Edge TPU at 2-1.4 failed"),
    ],
)
def test_what_libedgetpu_says_while_it_prepares(machine, model, monkeypatch, said, means):
    monkeypatch.setenv("STAND_IN_PREPARE", said)
    with pytest.raises((AcceleratorError, EngineLostError), match=means) as caught:
        load_engine(model, EngineSection())
    assert caught.value.cause.startswith("net_edgetpu.tflite")


def test_a_silent_refusal_is_explained_by_the_kernels_files(machine, model, monkeypatch):
    monkeypatch.setenv("STAND_IN_REFUSE", "silently")
    with pytest.raises(AcceleratorError, match=r"refuses the Edge TPU at 2-1.4 \(it does not say why\)"):
        load_engine(model, EngineSection())
    driver = machine / "sys/bus/usb/drivers/usbfs"
    driver.mkdir(parents=True)
    (machine / "sys/bus/usb/devices/2-1.4:1.0/driver").symlink_to(driver)
    with pytest.raises(AcceleratorError, match="in use by a process of another user"):
        load_engine(model, EngineSection())


def test_a_refusal_with_a_message_keeps_it(machine, model, monkeypatch):
    monkeypatch.setenv("STAND_IN_REFUSE", "the moon is full")
    with pytest.raises(AcceleratorError, match="the moon is full"):
        load_engine(model, EngineSection())


def test_a_tpu_that_comes_back_with_its_firmware_is_tried_again(machine):
    """The first attempt gives it the firmware and fails; it comes back under other ids and another device number."""
    usb_tpu(machine, "2-1.4", USB_FRESH)
    attempts = []

    def load_delegate(library, options):
        attempts.append(options)
        if len(attempts) == 1:
            usb_tpu(machine, "2-1.4", number=4)
            raise ValueError(f"Failed to load delegate from {library}\n")
        return "delegate"

    opened = open_tpu(load_delegate, "2-1.4", 0)
    assert attempts == [{"device": "usb:0"}] * 2
    assert (opened.delegate, opened.places, opened.tpu.node) == ("delegate", ["2-1.4"], "/dev/bus/usb/002/004")


def test_attempts_are_bounded(machine):
    attempts = []

    def load_delegate(library, options):
        attempts.append(options)
        raise ValueError(f"Failed to load delegate from {library}\n")

    with pytest.raises(RunnerError, match="does not say why"):
        open_tpu(load_delegate, "", 0)
    assert len(attempts) == 3
    usb_tpu(machine, "2-1.4", USB_FRESH)  # never gets its firmware: waited for once
    attempts.clear()
    with pytest.raises(RunnerError, match="does not say why"):
        open_tpu(load_delegate, "", 0)
    assert len(attempts) == 1


def test_what_can_not_pass_is_not_tried_again(machine):
    put(machine / "proc/4242/comm", "other")
    held = machine / "proc/4242/fd/7"
    held.parent.mkdir()
    held.symlink_to("/dev/bus/usb/002/003")
    attempts = []

    def load_delegate(library, options):
        attempts.append(options)
        raise ValueError("no")

    with pytest.raises(RunnerError, match=r"in use by process 4242 \(other\)"):
        open_tpu(load_delegate, "", 0)
    assert len(attempts) == 1


def test_an_unplugged_tpu_is_lost(machine, model, monkeypatch):
    engine = load_engine(model, EngineSection(device="2-1.4"))
    engine.run()
    (machine / "sys/bus/usb/devices/2-1.4/idVendor").unlink()
    monkeypatch.setenv("STAND_IN_BREAK", "HandleQueuedBulkIn transfer in failed. Not found: USB transfer error 5")
    with pytest.raises(EngineLostError, match="the Edge TPU at 2-1.4 is gone: plug it in again"):
        engine.run()
    engine.close()


def test_a_tpu_that_fails_while_it_is_plugged_in_is_lost_with_its_words(machine, model, monkeypatch):
    engine = load_engine(model, EngineSection())
    monkeypatch.setenv("STAND_IN_BREAK", "Deadline exceeded")
    with pytest.raises(EngineLostError, match="at 2-1.4 failed while running .Deadline exceeded") as caught:
        engine.run()
    assert "isolate" in caught.value.cure
    monkeypatch.delenv("STAND_IN_BREAK")
    engine.run()
    engine.close()


def test_one_of_several_that_is_gone_is_named(machine):
    tpus = tpus_at(machine, "2-1.4", "2-2")
    assert loss(OpenTpu(None, ["2-1.4", "2-2", "2-3"], None), "").cause == "the Edge TPU at 2-3 is gone"
    assert loss(OpenTpu(None, ["2-1.4"], tpus[0]), "reshape: sizes differ") is None


def test_other_words_are_left_to_others():
    assert explain("Encountered unresolved custom op: fake-op-double") is None
    assert explain("") is None


def test_the_device_means_nothing_to_a_file_for_the_cpu(machine, tmp_path, catalogue):
    model = catalogue("face") / "face_detection_short_range.tflite"
    (tmp_path / "asked").write_text("")
    load_engine(model, EngineSection(device="usb:7", threads=1)).close()
    assert "[" not in (tmp_path / "asked").read_text()
