"""The sensitivity search on a made-up network whose layers' damage and cost are known."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from convert.search import GOAL, Candidate, goal_for, search
from edge.errors import ConfigError

LAYERS = [f"layer{i}" for i in range(40)]


class Network:
    """A file is a JSON list of the layers kept in float; damages add up, and every build is counted."""

    def __init__(self, folder: Path, damage: dict[str, float], cost_ms: dict[str, float]) -> None:
        self.folder, self.damage, self.cost_ms = folder, damage, cost_ms
        self.builds = 0

    def build(self, kept: frozenset[str]) -> Path:
        self.builds += 1
        file = self.folder / f"{self.builds}.json"
        file.write_bytes(msgspec.json.encode(sorted(kept)))
        return file

    def measure(self, file: Path) -> float:
        kept = set(msgspec.json.decode(file.read_bytes()))
        return max(0.0, 1.0 - sum(loss for name, loss in self.damage.items() if name not in kept))

    def time_ms(self, file: Path) -> float:
        return 4.0 + sum(self.cost_ms.get(name, 0.1) for name in msgspec.json.decode(file.read_bytes()))

    def search(self, goal: float, budget_s: float = 60.0, layers: list[str] = LAYERS) -> list[Candidate]:
        state = self.folder / "search.json"
        return search(layers, self.build, self.measure, self.time_ms, goal, budget_s, state, "k")


@pytest.fixture
def network(tmp_path: Path) -> Callable[..., Network]:
    return lambda damage, cost_ms=None: Network(tmp_path, damage, cost_ms or {})


def chosen_of(candidates: list[Candidate]) -> Candidate:
    (chosen,) = [candidate for candidate in candidates if candidate.chosen]
    return chosen


def test_only_the_layers_that_do_the_damage_are_kept(network: Callable[..., Network]) -> None:
    chosen = chosen_of(network({"layer3": 0.2, "layer4": 0.1, "layer31": 0.15}).search(goal=0.99))
    assert chosen.kept == {"layer3", "layer4", "layer31"}
    assert chosen.fidelity == pytest.approx(1.0)
    assert chosen.latency_ms == pytest.approx(4.3)


def test_a_good_integer_model_is_left_alone(network: Callable[..., Network]) -> None:
    made = network({"layer3": 0.005})
    candidates = made.search(goal=0.99)
    assert [candidate.kept for candidate in candidates] == [frozenset()]
    assert candidates[0].chosen
    assert made.builds == 1


def test_the_cheaper_cure_of_two_is_taken(network: Callable[..., Network]) -> None:
    """Either layer would do; one of them costs thirty times as much."""
    chosen = chosen_of(network({"layer5": 0.05, "layer30": 0.05}, {"layer5": 3.0}).search(goal=0.95))
    assert chosen.kept == {"layer30"}


def test_damage_that_shows_only_when_a_whole_stem_is_spared(tmp_path: Path) -> None:
    made = Network(tmp_path, {}, {})
    stem = set(LAYERS[:11])

    def measure(file: Path) -> float:
        return 0.99 if stem <= set(msgspec.json.decode(file.read_bytes())) else 0.6

    found = search(LAYERS, made.build, measure, None, 0.98, 60.0, tmp_path / "state.json")
    assert chosen_of(found).kept == stem
    assert chosen_of(found).latency_ms is None


def test_a_goal_out_of_reach_ends_with_the_most_faithful(network: Callable[..., Network]) -> None:
    made = network(dict.fromkeys(LAYERS, 0.001) | {"hidden": 0.1})
    chosen = chosen_of(made.search(goal=0.95))
    assert chosen.kept == set(LAYERS)
    assert chosen.fidelity == pytest.approx(0.9)


def test_the_frontier_rises_with_cost_and_holds_the_integer_model(network: Callable[..., Network]) -> None:
    candidates = network({"layer3": 0.2, "layer20": 0.1}).search(goal=0.99)
    assert frozenset() in [candidate.kept for candidate in candidates]
    costs = [candidate.cost for candidate in candidates]
    fidelities = [candidate.fidelity for candidate in candidates]
    assert costs == sorted(costs)
    assert fidelities == sorted(fidelities)


def test_a_search_goes_on_where_it_stopped(network: Callable[..., Network]) -> None:
    made = network({"layer3": 0.2, "layer31": 0.15})
    stopped = made.search(goal=0.99, budget_s=0.0)  # no time at all: the integer model is measured even so
    assert [candidate.kept for candidate in stopped] == [frozenset()]
    first = made.search(goal=0.99)
    builds = made.builds
    assert made.search(goal=0.99) == first
    assert made.builds == builds
    made.search(goal=0.99, layers=LAYERS[:20])
    assert made.builds > builds  # other layers: another question


def test_a_garbled_state_is_begun_again(network: Callable[..., Network], tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text('{"key": "x", "trials"')
    assert chosen_of(network({"layer3": 0.2}).search(goal=0.99)).kept == {"layer3"}


def test_a_state_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    made = Network(tmp_path, {}, {})
    with pytest.raises(ConfigError, match="cannot write"):
        search(LAYERS, made.build, made.measure, None, 1.1, 9.0, tmp_path / "none" / "state.json")


def test_a_stricter_gate_asks_for_more() -> None:
    assert goal_for(None) == goal_for(0.01) == pytest.approx(GOAL)
    goals = [goal_for(drop) for drop in (0.2, 0.05, 0.02, 0.01, 0.005, 0.002, 0.0)]
    assert goals == sorted(goals)
    assert goal_for(0.005) == pytest.approx((1 + GOAL) / 2)
    assert goals[0] >= 0.5, "a mixture that finds other things is no mixture"
    assert goals[-1] < 1.0, "float16 weights alone are not quite 1"


def test_a_mixture_that_a_lucky_moment_made_cheap_is_found_out(network: Callable[..., Network]) -> None:
    made = network({"layer3": 0.2, "layer30": 0.2}, {"layer30": 0.5})
    told: dict[frozenset[str], int] = {}

    def time_ms(file: Path) -> float:
        """The first time that everything is kept in float, the clock reads far too little."""
        kept = frozenset(msgspec.json.decode(file.read_bytes()))
        told[kept] = told.get(kept, 0) + 1
        return 1.0 if len(kept) == len(LAYERS) and told[kept] == 1 else made.time_ms(file)

    candidates = search(LAYERS, made.build, made.measure, time_ms, 0.99, 60.0, made.folder / "s.json", "k")
    chosen = chosen_of(candidates)
    assert len(chosen.kept) < len(LAYERS)
    assert told[chosen.kept] == 2
