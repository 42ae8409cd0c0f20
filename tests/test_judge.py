"""The judge is scikit-learn's own model, on our rows, with as many trees as our validation rows want."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from sadari.data.prepare import Arrays, Prepared, prepare
from sadari.data.toy import planted
from sadari.judge import judge


@pytest.fixture(scope="module", params=["regress", "classify"])
def prepared(request: pytest.FixtureRequest) -> Prepared:
    return prepare(planted("product", 400, seed=1, task=request.param))


def test_it_is_scikit_learns_model_with_that_many_rounds(prepared: Prepared) -> None:
    judged = judge(prepared, seed=3)
    features, targets = prepared.train.features, prepared.train.targets
    if prepared.task == "classify":
        model = HistGradientBoostingClassifier(max_iter=judged.trees, early_stopping=False, random_state=3)
        expected = model.fit(features, targets).predict_proba(prepared.test.features)
    else:
        model = HistGradientBoostingRegressor(max_iter=judged.trees, early_stopping=False, random_state=3)
        expected = prepared.spec.decode_target(model.fit(features, targets).predict(prepared.test.features))
    np.testing.assert_allclose(judged.test, expected, rtol=1e-6)
    assert judged.test.shape[0] == len(prepared.test.targets)
    assert judged.validation.shape[0] == len(prepared.validation.targets)


def test_no_other_number_of_rounds_does_better_on_the_validation_rows() -> None:
    prepared = prepare(planted("product", 400, seed=1))
    judged = judge(prepared)
    model = HistGradientBoostingRegressor(max_iter=judged.trees + 15, early_stopping=False, random_state=0)
    model.fit(prepared.train.features, prepared.train.targets)
    losses = [
        np.mean((said - prepared.validation.targets) ** 2)
        for said in model.staged_predict(prepared.validation.features)
    ]
    assert int(np.argmin(losses)) + 1 == judged.trees


def test_it_finds_what_a_line_cannot(prepared: Prepared) -> None:
    judged = judge(prepared)
    if prepared.task == "classify":
        assert np.mean(judged.test.argmax(1) == prepared.test.targets) > 0.6
        np.testing.assert_allclose(judged.test.sum(1), 1)
    else:
        target = prepared.spec.decode_target(prepared.test.targets)
        assert np.mean((judged.test - target) ** 2) < 0.8 * np.var(target)


def test_it_has_a_price(prepared: Prepared) -> None:
    costs = judge(prepared).price
    assert costs.parameters > 0 and costs.macs == 0 and costs.bytes > costs.parameters
    assert costs.microseconds_per_example > costs.microseconds_at_256 > 0


def test_it_keeps_to_its_budget() -> None:
    prepared = prepare(planted("product", 3000, seed=0, task="classify"))
    judge(prepared, seconds=0.1)  # what is imported and warmed up once is not what is measured
    began = time.perf_counter()
    judged = judge(prepared, seconds=0.01)
    assert judged.trees <= 10 and time.perf_counter() - began < 30


def test_a_class_that_no_training_row_has_gets_no_probability() -> None:
    prepared = prepare(planted("linear", 300, seed=0, task="classify"))
    spec = replace(prepared.spec, classes=("aha", *prepared.spec.classes))
    shifted = {
        part: Arrays(getattr(prepared, part).features, getattr(prepared, part).targets + 1)
        for part in ("train", "validation", "test")
    }
    validation = shifted["validation"]
    validation.targets[0] = 0
    judged = judge(replace(prepared, spec=spec, **shifted), seconds=1)
    assert judged.test.shape[1] == 3 and np.all(judged.test[:, 0] == 0)
    np.testing.assert_allclose(judged.test.sum(1), 1)
