"""The rule on contributions made by hand: every action, every sentence, and how often it is wrong when
nothing is there.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sadari.budget import Budget
from sadari.errors import SadariError
from sadari.metrics import METRICS, Resamples
from sadari.verdict import Candidate, Verdict, check_worth, decide, rows_to_settle, rule

NAMES = ("mean", "line", "shallow", "deep", "deep-skip")
RMSE = METRICS["rmse"]


def _ladder(
    errors: tuple[float, ...],
    rows: int = 200,
    seed: int = 0,
    own: float = 0.2,
    validation: tuple[float, ...] = (),
) -> list[Candidate]:
    """Rungs whose test errors are `errors` in expectation: a share of noise common to all, and a little of
    their own.
    """
    draw = np.random.default_rng(seed)
    shared = draw.standard_normal(rows)
    rungs = []
    for name, error, seen in zip(NAMES, errors, validation or errors, strict=False):
        residual = error * (shared + own * draw.standard_normal(rows)) / np.sqrt(1 + own**2)
        rungs.append(Candidate(name, seen, RMSE.contributions(residual, np.zeros(rows))))
    return rungs


def _decide(rungs: list[Candidate], worth: float | None = None, rows: int = 1000) -> Verdict:
    return decide(rungs, RMSE, Resamples(len(rungs[0].contributions)), rows=rows, worth=worth)


def test_a_clear_step_is_climbed_and_no_further() -> None:
    verdict = _decide(_ladder((2.0, 1.0, 0.999, 0.998)))
    assert (verdict.rung, verdict.action) == ("line", "climb")
    assert verdict.headline.english == "Climb to line" and "over mean" in verdict.reason.english
    assert "No further: deep adds " in verdict.reason.english


def test_the_top_is_climbed_when_nothing_below_comes_near() -> None:
    verdict = _decide(_ladder((2.0, 1.5, 1.2, 1.0)))
    assert (verdict.rung, verdict.action, verdict.best) == ("deep", "climb", "deep")
    assert "better with a probability of >0.99" in verdict.reason.english
    assert "none below comes as near as one standard error" in verdict.reason.english


def test_nothing_better_stays_on_the_ground() -> None:
    verdict = _decide(_ladder((1.0, 1.3, 1.4)))
    assert (verdict.rung, verdict.action) == ("mean", "stay")
    assert verdict.to_json("en")["reason"] == (
        "Stay on the ground: mean is enough. No rung above scores better on validation and test rows alike."
    )


def test_the_verdict_agrees_with_the_table_that_a_reader_sees() -> None:
    """The rung with the best score on the test rows is the one that the others are measured against."""
    rungs = _ladder((2.0, 1.2, 1.0, 1.1))
    scores = [RMSE.reduce(rung.contributions.mean(0)) for rung in rungs]
    verdict = _decide(rungs)
    assert verdict.best == NAMES[int(np.argmin(scores))] == verdict.rung == "shallow"


def test_a_rung_that_was_no_better_on_validation_rows_does_not_count() -> None:
    """The line is far better on the test rows, but nothing before the test said so."""
    verdict = _decide(_ladder((1.0, 0.5), validation=(1.0, 1.1)))
    assert (verdict.rung, verdict.action, verdict.best) == ("mean", "stay", "mean")


def test_worth_in_the_metrics_own_units_asks_for_more() -> None:
    rungs = _ladder((2.0, 1.0, 0.9))
    assert _decide(rungs).rung == "shallow"
    verdict = _decide(rungs, worth=0.3)
    assert (verdict.rung, verdict.action) == ("line", "climb")
    assert "within 0.3 of RMSE" in verdict.reason.english and "RMSE 0.3 이내" in verdict.reason.korean
    assert _decide(rungs, worth=5.0).action == "stay"


@pytest.mark.parametrize("worth", [-0.1, float("nan"), float("inf")])
def test_a_worth_that_is_no_gain_is_refused(worth: float) -> None:
    with pytest.raises(
        SadariError, match=r"--worth .* is no gain; give a number from 0 up, in the metric's own units"
    ):
        check_worth(worth)


def _unclear() -> Verdict:
    for seed in range(100):
        verdict = _decide(_ladder((2.0, 1.0, 0.985), rows=60, seed=seed, own=0.25))
        if verdict.action == "unclear":
            return verdict
    raise AssertionError("no seed was unclear")


def test_too_little_data_says_so_and_how_much_more() -> None:
    verdict = _unclear()
    assert (verdict.rung, verdict.best) == ("line", "shallow")  # what the rule says of the rungs below
    assert verdict.more_rows and 0 < verdict.more_rows < 3000
    assert verdict.headline.english == "Not enough data to tell: take line for now"
    assert verdict.reason.english.startswith("On the test rows shallow looks ")
    assert f"about {verdict.more_rows:,} more rows would settle it." in verdict.reason.english
    assert (
        f"{verdict.more_rows:,}개 더" in verdict.reason.korean
        and "line 단이 낫습니다" in verdict.headline.korean
    )
    assert verdict.reason.about["better"] < 0.975


@given(better=st.floats(0.55, 0.974), rows=st.integers(100, 10**6))
@settings(max_examples=50, deadline=None)
def test_rows_to_settle_follow_the_square_root_law(better: float, rows: int) -> None:
    more = rows_to_settle(better, rows)
    assert more is not None
    # the same gain, its error shrunk by sqrt(rows)
    z = stats.norm.ppf(better) * np.sqrt((rows + more) / rows)
    assert stats.norm.cdf(z) >= 0.975 - 1e-9
    # and not many more than needed
    assert more <= 1.11 * rows * ((1.95996 / stats.norm.ppf(better)) ** 2 - 1) + 1


def test_a_coin_is_never_settled() -> None:
    assert rows_to_settle(0.5, 1000) is None and rows_to_settle(0.2, 1000) is None


def test_all_sentences_exist_in_both_languages_and_the_verdict_is_json() -> None:
    verdicts = [
        _decide(_ladder((2.0, 1.0, 0.999))),
        _decide(_ladder((2.0, 1.0))),
        _decide(_ladder((1.0, 1.1))),
        _decide(_ladder((1.0, 0.8)), worth=0.5),
        _unclear(),
    ]
    assert len({verdict.reason.english[:24] for verdict in verdicts}) >= 4
    for verdict in verdicts:
        english, korean = verdict.to_json("en"), verdict.to_json("ko")
        assert json.loads(json.dumps(english))["reason"].endswith(verdict.reason.english)
        assert korean["reason"].startswith(verdict.headline.korean) and korean["rung"] == english["rung"]
        assert "{" not in verdict.reason.english + verdict.reason.korean


def test_the_rule_is_said_with_its_worth() -> None:
    assert "within one standard error of that difference" in rule(None, RMSE, "en")
    assert "within 2.0 points of accuracy" in rule(0.02, METRICS["accuracy"], "en")
    assert "정확도 2.0%p 이내" in rule(0.02, METRICS["accuracy"], "ko")


def test_a_lower_rung_that_cannot_prove_itself_leaves_the_climb_to_a_higher_one() -> None:
    """Shallow is as good as the best but too noisy against the line; deep is surely better than the line."""
    draw = np.random.default_rng(1)
    shared, own = draw.standard_normal((2, 100))
    residuals = {"line": shared, "shallow": 0.92 * shared + 0.25 * own, "deep": 0.93 * shared}
    rungs = [
        Candidate(name, seen, RMSE.contributions(residual, np.zeros(100)))
        for seen, (name, residual) in zip((1.0, 0.95, 0.93), residuals.items(), strict=True)
    ]
    verdict = _decide(rungs)
    assert (verdict.rung, verdict.action) == ("deep", "climb")


@pytest.mark.parametrize("rows", [60, 200])
def test_five_equal_rungs_are_climbed_at_most_one_time_in_ten(rows: int) -> None:
    """Nothing to find: every rung has a small share of noise of its own, and one will look best."""
    climbed, draw, resamples = 0, np.random.default_rng(0), Resamples(rows)
    for seed in range(200):
        seen = tuple(1 + 0.02 * draw.standard_normal(5))
        rungs = _ladder((1.0,) * 5, rows, seed, validation=seen)
        climbed += decide(rungs, RMSE, resamples, rows=5 * rows).action == "climb"
    assert climbed / 200 <= 0.1


def _benchmark() -> Any:
    """benchmarks/verdict.py, which runs fifty seeds of the same."""
    path = Path(__file__).parent.parent / "benchmarks" / "verdict.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_the_verdict", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("truth", ["noise", "linear", "product"])
@pytest.mark.parametrize("task", ["regress", "classify"])
def test_a_planted_truth_is_found(task: str, truth: str) -> None:
    """One seed of the benchmark: a line stops at the line, a product climbs above it, noise stays on the
    ground.
    """
    bench = _benchmark()
    reached = bench.verdict(task, truth, seed=0, rows=600, budget=Budget(steps=600))
    assert bench.answer(task, truth, reached) == "right"
