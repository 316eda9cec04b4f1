"""Fingerprint, sensors and health of the run, on trees made up like a Jetson, a Pi, a PC, and on this machine."""

import time
from pathlib import Path

import pytest

from edge.bench.fingerprint import fingerprint, temperatures_c
from edge.bench.health import Snapshot, findings, snapshot
from edge.bench.results import Finding
from edge.bench.sensors import EnergyCounter, Sample, Sampler, energy_j, find_power


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def no_tool(command: list[str]) -> str | None:
    return None


@pytest.fixture
def jetson(tmp_path) -> Path:
    return tree(
        tmp_path,
        {
            "proc/device-tree/model": "NVIDIA Orin Nano Developer Kit\0",
            "etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64\n",
            "proc/sys/kernel/osrelease": "5.10.120-tegra\n",
            "proc/meminfo": "MemTotal:        7816192 kB\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1510400\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1344000\n",
            "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1510400\n",
            "sys/class/devfreq/17000000.gpu/cur_freq": "624750000\n",
            "sys/class/thermal/thermal_zone0/type": "CPU-therm\n",
            "sys/class/thermal/thermal_zone0/temp": "48500\n",
            "sys/class/thermal/thermal_zone1/type": "PMIC-Die\n",
            "sys/class/thermal/thermal_zone1/temp": "-256000\n",
            "sys/class/hwmon/hwmon1/name": "soctherm_oc\n",
            "sys/class/hwmon/hwmon1/oc1_event_cnt": "3\n",
            "sys/class/hwmon/hwmon3/name": "ina3221\n",
            "sys/class/hwmon/hwmon3/in1_label": "VDD_IN\n",
            "sys/class/hwmon/hwmon3/in1_input": "5000\n",
            "sys/class/hwmon/hwmon3/curr1_input": "1500\n",
            "sys/class/hwmon/hwmon3/in2_label": "VDD_CPU_GPU_CV\n",
            "sys/class/hwmon/hwmon3/in2_input": "5000\n",
            "sys/class/hwmon/hwmon3/curr2_input": "600\n",
        },
    )


def test_a_jetson_is_recognised(jetson):
    facts = fingerprint(jetson, lambda c: "NV Power Mode: 15W\n0" if c[0] == "nvpmodel" else None)
    assert facts["board"] == "NVIDIA Orin Nano Developer Kit"
    assert facts["jetpack"] == "JetPack 5.1.2 (L4T R35.4.1)"
    assert facts["nvpmodel"] == "15W"
    assert facts["governor"] == ["schedutil"]
    assert facts["clock_limits_mhz"] == {"hardware": 1510.4, "allowed": 1344.0}
    assert facts["temperatures_c"] == {"CPU-therm": 48.5}  # the unused zone's -256 is no temperature
    assert facts["accelerator_clocks_mhz"] == {"17000000.gpu": 624.75}
    assert facts["kernel"] == "5.10.120-tegra"


def test_the_jetson_power_is_that_of_the_whole_board(jetson):
    meter = find_power(jetson, no_tool)
    assert (meter.sensor, meter.scope) == ("INA3221 VDD_IN", "whole board")
    assert meter.read_w() == pytest.approx(7.5)


def test_the_old_jetson_driver_is_read_too(tmp_path):
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/"
    tree(tmp_path, {folder + "rail_name_0": "POM_5V_IN\n", folder + "in_power0_input": "3100\n"})
    assert find_power(tmp_path, no_tool).read_w() == pytest.approx(3.1)


def test_over_current_throttling_and_notes_on_a_jetson(jetson):
    before = snapshot(jetson, no_tool)
    (jetson / "sys/class/hwmon/hwmon1/oc1_event_cnt").write_text("5\n")
    found = {f.kind: f for f in findings(before, snapshot(jetson, no_tool), 1.0, jetson)}
    assert found["throttled"].text == "over-current event count oc1 rose by 2"
    assert found["throttled"].invalidates
    assert not found["governor"].invalidates
    assert found["clock_cap"].text == "the CPU clock is capped at 1344 of 1510 MHz"


def pi_tool(flags: str):
    answers = {
        "measure_temp": "temp=61.2'C",
        "get_throttled": f"throttled={flags}",
        "pmic_read_adc": "VDD_CORE_A current(7)=2.0A\nVDD_CORE_V volt(15)=0.9V\n3V3_SYS_A current(1)=0.1A\n"
        "3V3_SYS_V volt(9)=3.3V\nEXT5V_V volt(24)=5.1V",
    }
    return lambda command: answers.get(command[1]) if command[0] == "vcgencmd" else None


def test_a_pi_is_recognised(tmp_path):
    tree(tmp_path, {"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"})
    facts = fingerprint(tmp_path, pi_tool("0x0"))
    assert facts["board"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert facts["jetpack"] is None
    assert facts["temperatures_c"] == {"soc": 61.2}
    assert find_power(tmp_path, pi_tool("0x0")).read_w() == pytest.approx(2.0 * 0.9 + 0.1 * 3.3)


@pytest.mark.parametrize(
    ("before", "after", "invalidates"),
    [("0x0", "0x50005", True), ("0x0", "0x40000", True), ("0x50000", "0x50000", False), ("0x0", "0x0", None)],
)
def test_pi_throttling_counts_only_when_it_happened_in_the_run(tmp_path, before, after, invalidates):
    first, second = snapshot(tmp_path, pi_tool(before)), snapshot(tmp_path, pi_tool(after))
    found = [f for f in findings(first, second, 1.0, tmp_path) if f.kind == "throttled"]
    assert (max(f.invalidates for f in found) if found else None) == invalidates


@pytest.fixture
def pc(tmp_path) -> Path:
    rapl = "sys/class/powercap/intel-rapl:0/"
    return tree(
        tmp_path,
        {
            "sys/class/dmi/id/sys_vendor": "LENOVO\n",
            "sys/class/dmi/id/product_name": "20XW\n",
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n",
            "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "7\n",
            "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "0\n",
            "sys/class/hwmon/hwmon0/name": "coretemp\n",
            "sys/class/hwmon/hwmon0/temp1_input": "55000\n",
            "sys/class/hwmon/hwmon0/temp1_label": "Package id 0\n",
            rapl + "name": "package-0\n",
            rapl + "energy_uj": "999000000\n",
            rapl + "max_energy_range_uj": "1000000000\n",
            "sys/class/powercap/intel-rapl:0:0/name": "core\n",
            "sys/class/powercap/intel-rapl:0:0/energy_uj": "1\n",
        },
    )


def test_a_pc_is_recognised(pc):
    facts = fingerprint(pc, no_tool)
    assert facts["board"] == "LENOVO 20XW"
    assert facts["cpu"] == "Some CPU @ 2 GHz"
    assert facts["governor"] is None  # not available, and not an empty list
    assert temperatures_c(pc, no_tool) == {"coretemp Package id 0": 55.0}
    assert find_power(pc, no_tool).scope == "processor package x1"


def test_rapl_wraps_around(pc):
    ticks = iter([0.0, 2.0, 3.0])
    counter = EnergyCounter([pc / "sys/class/powercap/intel-rapl:0"], lambda: next(ticks))
    (pc / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("19000000\n")
    assert counter.read_w() == pytest.approx(20.0 / 2)  # 1 J up to the range's end, 19 J after it
    (pc / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("25000000\n")
    assert counter.read_w() == pytest.approx(6.0)


def test_a_thermal_throttle_count_that_rises_invalidates(pc):
    before = snapshot(pc, no_tool)
    assert [f for f in findings(before, snapshot(pc, no_tool), 1.0, pc) if f.invalidates] == []
    (pc / "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count").write_text("4\n")
    marks = [f for f in findings(before, snapshot(pc, no_tool), 1.0, pc) if f.invalidates]
    assert [(f.kind, f.text) for f in marks] == [("throttled", "core thermal throttle count rose by 4")]


def test_stolen_time_invalidates(tmp_path):
    before, after = Snapshot(100.0, 10.0, 0.0, 5.0), Snapshot(200.0, 20.0, 9.0, 15.0)
    marks = [f for f in findings(before, after, 50.0, tmp_path) if f.invalidates]
    assert [(f.kind, f.text) for f in marks] == [("steal", "the hypervisor took 9.0 % of the time (limit 2 %)")]


def test_what_cannot_be_read_is_not_called_fine(tmp_path):
    empty = snapshot(tmp_path, no_tool)
    assert findings(empty, empty, 1.0, tmp_path) == [
        Finding(kind="load", text="load by other programs: not available", invalidates=False)
    ]
    facts = fingerprint(tmp_path, no_tool)
    assert facts["board"] is facts["clocks_mhz"] is facts["temperatures_c"] is facts["nvpmodel"] is None
    assert find_power(tmp_path, no_tool) is None


def test_a_busy_machine_is_marked_and_our_own_load_is_not_counted(busy_loop):
    time.sleep(0.5)  # the child is spinning by now
    before, t_start = snapshot(), time.monotonic()
    time.sleep(1.0)
    elapsed_s = time.monotonic() - t_start
    after = snapshot()
    assert [f.kind for f in findings(before, after, elapsed_s) if f.kind == "busy"] == ["busy"]
    own = Snapshot(after.total_s, after.busy_s, after.steal_s, before.own_s + (after.busy_s - before.busy_s))
    assert [f for f in findings(before, own, elapsed_s) if f.kind == "busy"] == []


def test_the_sampler_reads_the_tree(jetson):
    with Sampler(0.02, jetson, no_tool) as sampler:
        time.sleep(0.1)
    assert len(sampler.samples) >= 3
    assert {s.temperature_c for s in sampler.samples} == {48.5}
    assert {s.clock_mhz for s in sampler.samples} == {1510.4}
    span_s = (sampler.samples[-1].t_ns - sampler.samples[0].t_ns) / 1e9
    assert energy_j(sampler.samples) == pytest.approx(7.5 * span_s)


def test_energy_is_the_area_under_the_power():
    samples = [Sample(t * 10**9, 1.0, None, w, None) for t, w in ((0, 2.0), (1, 4.0), (3, None), (4, 0.0))]
    assert energy_j(samples) == pytest.approx(3.0 + 6.0)
    assert energy_j(samples, averages=True) == pytest.approx(4.0)
    assert energy_j(samples[:1]) is None
