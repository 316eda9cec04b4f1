"""Fingerprint, sensors and health of the run, on trees made up like a Jetson, a Pi, a PC, and on this machine."""

import time
from pathlib import Path

import pytest

from edge.bench.fingerprint import fingerprint, jetpack, temperatures_c
from edge.bench.health import Snapshot, findings, snapshot
from edge.bench.results import Finding
from edge.bench.sensors import EnergyCounter, PowerMeter, Sample, Sampler, energy_over, find_power


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
    found = [f for f in findings(first, second, 1.0, tmp_path) if f.kind.startswith("throttl")]
    assert (max(f.invalidates for f in found) if found else None) == invalidates


def marks_of_states(root: Path, states: list[str], write) -> list[str]:
    """What invalidates a run during which `write` sets these states one after the other, a sample at each."""
    write(states[0])
    before = snapshot(root, write.tool)
    sampler = Sampler(60.0, root, write.tool)
    with sampler:
        for state in states[1:-1]:
            write(state)
            sampler.sample()
        write(states[-1])
    found = findings(before, snapshot(root, write.tool), 1.0, root, sampler.throttle)
    return [f.text for f in found if f.invalidates]


@pytest.mark.parametrize(("states", "most"), [("55", 5), ("030", 3), ("00", None), ("50", 5)])
def test_a_cooling_state_counts_while_it_holds_also_from_start_to_end(tmp_path, states, most):
    root = tree(tmp_path, {"sys/class/thermal/cooling_device0/type": "cpufreq-cpu0\n"})
    tree(
        root, {"sys/class/thermal/cooling_device1/type": "pwm-fan", "sys/class/thermal/cooling_device1/cur_state": "4"}
    )

    def write(state: str) -> None:
        (root / "sys/class/thermal/cooling_device0/cur_state").write_text(state)

    write.tool = no_tool
    said = [] if most is None else [f"cooling state of cpufreq-cpu0 (cooling_device0) was up to {most}"]
    assert marks_of_states(root, list(states), write) == said
    assert fingerprint(root, no_tool)["throttle"] == {
        "cooling state of cpufreq-cpu0 (cooling_device0)": float(states[-1])
    }


@pytest.mark.parametrize(
    ("flags", "count"),
    [(["0x50000", "0x50005", "0x50000"], 2), (["0x50005", "0x50005"], 2), (["0x50000", "0x50000"], 0)],
)
def test_a_sticky_bit_hides_no_new_throttling_of_a_pi(tmp_path, flags, count):
    now = ["0x0"]

    def write(text: str) -> None:
        now[0] = text

    write.tool = lambda command: pi_tool(now[0])(command)
    marks = marks_of_states(tmp_path, flags, write)
    said = ["the firmware reports: under-voltage", "the firmware reports: throttled"]
    assert marks == said[:count]
    assert fingerprint(tmp_path, write.tool)["throttle"] == {"firmware flags": flags[-1]}


@pytest.mark.parametrize(("limits", "marked"), [(["1500000", "1200000", "1500000"], True), (["1200000"] * 3, False)])
def test_a_clock_limit_that_falls_in_the_run_is_throttling_and_one_before_it_a_note(tmp_path, limits, marked):
    folder = "sys/devices/system/cpu/cpu0/cpufreq/"
    root = tree(tmp_path, {folder + "cpuinfo_max_freq": "1500000"})

    def write(text: str) -> None:
        (root / folder / "scaling_max_freq").write_text(text)

    write.tool = no_tool
    said = ["the clock limit of cpu0 fell from 1500 to 1200 MHz during the run"] if marked else []
    assert marks_of_states(root, limits, write) == said


AGX_ORIN = {
    "hwmon3/name": "ina3221\n",
    "hwmon3/in1_label": "VDD_GPU_SOC\n",
    "hwmon3/in1_input": "20000\n",
    "hwmon3/curr1_input": "400\n",
    "hwmon3/in2_label": "VDD_CPU_CV\n",
    "hwmon3/in2_input": "20000\n",
    "hwmon3/curr2_input": "100\n",
    "hwmon3/in3_label": "VIN_SYS_5V0\n",
    "hwmon3/in3_input": "5000\n",
    "hwmon3/curr3_input": "600\n",
    "hwmon3/in7_label": "sum of shunt voltages\n",
    "hwmon3/in7_input": "9999\n",
    "hwmon3/curr7_input": "9999\n",
    "hwmon4/name": "ina3221\n",
    "hwmon4/in1_label": "NC\n",
    "hwmon4/in1_input": "5000\n",
    "hwmon4/curr1_input": "1000\n",
    "hwmon4/in2_label": "VDDQ_VDD2_1V8AO\n",
    "hwmon4/in2_input": "5000\n",
    "hwmon4/curr2_input": "200\n",
}


def test_a_board_without_an_input_rail_has_the_sum_of_its_rails(tmp_path):
    tree(tmp_path, {f"sys/class/hwmon/{name}": text for name, text in AGX_ORIN.items()})
    meter = find_power(tmp_path, no_tool)
    assert meter.scope == "sum of 4 rails"
    assert meter.read_w() == pytest.approx(8 + 2 + 3 + 1)
    (tmp_path / "sys/class/hwmon/hwmon4/curr2_input").unlink()
    assert meter.read_w() is None  # a part would look like the whole


def test_the_old_driver_of_an_agx_xavier_is_summed_too(tmp_path):
    folder = "sys/bus/i2c/drivers/ina3221x/1-004{}/iio:device{}/"
    rails = {(0, 0): ("GPU", 3000), (0, 1): ("CPU", 1500), (1, 0): ("CV", 0), (1, 2): ("SYS5V", 2500)}
    for (chip, channel), (name, milliwatts) in rails.items():
        where = folder.format(chip, chip)
        tree(
            tmp_path,
            {f"{where}rail_name_{channel}": f"{name}\n", f"{where}in_power{channel}_input": f"{milliwatts}\n"},
        )
    meter = find_power(tmp_path, no_tool)
    assert (meter.scope, meter.read_w()) == ("sum of 4 rails", pytest.approx(7.0))


@pytest.mark.parametrize(
    ("release", "revision", "known"),
    [
        ("R36", "4.0", "JetPack 6.1"),
        ("R36", "4.3", "JetPack 6.2"),
        ("R36", "4.4", "JetPack 6.2.1"),
        ("R36", "5.0", "JetPack 6.2.2"),
        ("R36", "3.0", "JetPack 6.0"),
        ("R35", "6.0", "JetPack 5.1.4"),
        ("R35", "6.1", "JetPack 5.1.5"),
        ("R34", "1.1", "JetPack 5.0.1 DP"),
        ("R32", "5.1", "JetPack 4.5.1"),
        ("R32", "7.1", "JetPack 4.6.1"),
        ("R32", "7.4", "JetPack 4.6.4"),
        ("R38", "2.0", "JetPack 7.0"),
        ("R38", "4.0", "JetPack 7.1"),
        ("R36", "4.9", None),
        ("R99", "1.0", None),
    ],
)
def test_the_jetpack_goes_by_the_whole_release(tmp_path, release, revision, known):
    tree(tmp_path, {"etc/nv_tegra_release": f"# {release} (release), REVISION: {revision}, GCID: 1, BOARD: generic\n"})
    number = f"L4T {release}.{revision}"
    assert jetpack(tmp_path) == (f"{known} ({number})" if known else number)


def test_no_sensor_hides_another_of_the_same_name(tmp_path):
    zones = {f"sys/class/thermal/thermal_zone{i}/type": "gpu-thermal" for i in (0, 2, 10)}
    values = {f"sys/class/thermal/thermal_zone{i}/temp": str(1000 * t) for i, t in ((0, 40), (2, 41), (10, 92))}
    tree(tmp_path, {**zones, **values, "sys/class/hwmon/hwmon0/name": "nvme"})
    tree(tmp_path, {"sys/class/hwmon/hwmon0/temp1_input": "95000", "sys/class/hwmon/hwmon1/name": "nvme"})
    tree(tmp_path, {"sys/class/hwmon/hwmon1/temp1_input": "30000"})
    assert temperatures_c(tmp_path, no_tool) == {
        "gpu-thermal": 40.0,
        "gpu-thermal 2": 41.0,
        "gpu-thermal 10": 92.0,
        "nvme temp1": 95.0,
        "nvme temp1 hwmon1": 30.0,
    }


def test_cores_that_are_switched_off_do_not_count(tmp_path):
    for i, online in enumerate(("", "1", "0", "1")):
        folder = tree(tmp_path, {f"sys/devices/system/cpu/cpu{i}/cpufreq/scaling_cur_freq": "1000000"})
        if online:
            tree(folder, {f"sys/devices/system/cpu/cpu{i}/online": online})
    assert fingerprint(tmp_path, no_tool)["cores"] == 3
    assert fingerprint(tmp_path, no_tool)["clocks_mhz"] == [1000.0] * 3


def test_the_revision_is_that_of_the_repository():
    said = fingerprint(tool=lambda c: "1a2b3c-dirty" if c[0] == "git" and "describe" in c else None)["git_revision"]
    assert said == ("1a2b3c-dirty" if (Path(__file__).parents[2] / ".git").exists() else None)


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
        Finding(kind="load", text="load by other programs: not available", invalidates=False),
        Finding(kind="throttling", text="throttling: not available", invalidates=False),
    ]
    facts = fingerprint(tmp_path, no_tool)
    assert facts["board"] is facts["clocks_mhz"] is facts["temperatures_c"] is facts["nvpmodel"] is None
    assert facts["throttle"] is None
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
    assert energy_over(sampler.samples) == pytest.approx((7.5 * span_s, span_s))


def test_energy_is_the_area_under_the_power():
    samples = [Sample(t * 10**9, 1.0, None, w, None) for t, w in ((0, 2.0), (1, 4.0), (3, None), (4, 0.0))]
    assert energy_over(samples) == pytest.approx((3.0 + 6.0, 4.0))
    assert energy_over(samples, averages=True) == pytest.approx((4.0, 4.0))
    assert energy_over(samples[:1]) is None


def test_energy_within_spans_leaves_out_what_lies_across_their_ends():
    samples = [Sample(t * 10**9, 1.0, None, w, None) for t, w in enumerate((2.0, 4.0, 100.0, 6.0, 8.0))]
    spans = [(0, 15 * 10**8), (25 * 10**8, 5 * 10**9)]
    assert energy_over(samples, spans_ns=spans) == pytest.approx((3.0 + 7.0, 2.0))
    assert energy_over(samples, averages=True, spans_ns=spans) == pytest.approx((4.0 + 8.0, 2.0))
    assert energy_over(samples, spans_ns=[(4 * 10**8, 16 * 10**8)]) is None


@pytest.mark.parametrize("averages", [True, False])
def test_samples_become_fewer_without_losing_a_peak_or_energy(tmp_path, averages, monkeypatch):
    monkeypatch.setattr("edge.bench.sensors._MAX_SAMPLES", 10)
    readings = iter(range(1, 10_000))
    meter = PowerMeter("counter", "made up", lambda: float(next(readings)), averages)
    monkeypatch.setattr("edge.bench.sensors.find_power", lambda *_: meter)
    zone = tree(tmp_path, {"sys/class/thermal/thermal_zone0/temp": "40000"}) / "sys/class/thermal/thermal_zone0/temp"
    seen: list[Sample] = []
    with Sampler(0.002, tmp_path, no_tool) as sampler:
        take = sampler.sample

        def sample() -> None:
            zone.write_text("90000" if len(seen) in (4, 5) else "40000")
            take()
            seen.append(sampler.samples[-1])

        sampler.sample = sample
        deadline = time.monotonic() + 20
        while len(seen) < 40 and time.monotonic() < deadline:
            time.sleep(0.005)
    assert 5 <= len(sampler.samples) <= 12 < len(seen)
    assert sampler.interval_s > 0.002
    assert max(s.temperature_c for s in sampler.samples) == 90.0
    first = Sample(sampler.samples[0].t_ns, 1.0, None, 1.0, None)
    whole, kept = energy_over([first, *seen], averages), energy_over(sampler.samples, averages)
    assert kept == pytest.approx(whole, rel=1e-9 if averages else 0.2)
