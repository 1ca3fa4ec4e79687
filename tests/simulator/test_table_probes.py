"""Measures of tables against scipy, pandas and scikit-learn."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
from mixed_tables import mixed
from scipy.stats import f_oneway, ks_2samp
from scipy.stats.contingency import association, crosstab
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.neighbors import NearestNeighbors

from generators import Copula
from simulator import Chain, GenlossError, Pool, Table, View, simulate
from simulator.probes import Associations, Marginals, Memorisation, Mixed, RareKinds, Utility
from simulator.sources.columns import Layout

KEY = jax.random.key(0)
REAL, SAID = mixed(300), mixed(200, seed=1)
SAID["kinds"] = (jnp.roll(SAID["kinds"][0], 1, 1), SAID["kinds"][1])


class Given:
    """A source of these rows alone."""

    def __init__(self, rows: Any):
        self.rows = rows

    def draw(self, key: Any, n: int, held_out: bool = False) -> Any:
        return jax.tree.map(lambda leaf: leaf[:n], self.rows)


def probed(what: Any, said: Any = SAID, real: Any = REAL, train: Any = REAL, diet: Any = None) -> dict[str, Any]:
    """Compiled, the reference being a constant."""
    from simulator.abilities import taught

    prepared = taught({"it": what}, KEY, Given(train))  # pyright: ignore[reportArgumentType]

    @jax.jit
    def call(said: Any, diet: Any) -> Any:
        return what(KEY, View(jnp.int32(0), None, Pool.of(diet), said, real, Copula(), None, prepared))

    found = call(said, said if diet is None else diet)
    return jax.tree.map(float, found)


def frame(rows: Any) -> Any:
    """Numbers with NaN where missing, kinds, flags and label as numbers."""
    numbers = np.concatenate([rows["numbers"], rows["wholes"]], 1).astype(float)
    columns = {f"x{i}": np.where(rows["missing"][:, i], np.nan, numbers[:, i]) for i in range(3)}
    columns |= {f"k{i}": np.asarray(leaf).argmax(1) for i, leaf in enumerate(rows["kinds"])}
    columns |= {f"m{i}": np.asarray(rows["missing"])[:, i].astype(int) for i in range(3)}
    return pandas.DataFrame({**columns, "label": np.asarray(rows["label"])})


NUMBERS, STATES = ["x0", "x1", "x2"], ["k0", "k1", "m0", "m1", "m2", "label"]


def test_distances_of_columns_are_those_of_scipy():
    real, said, found = frame(REAL), frame(SAID), probed(Marginals())
    tests: list[Any] = [ks_2samp(real[name].dropna(), said[name].dropna()) for name in NUMBERS]
    ks = [test.statistic for test in tests]
    tv = [sum(abs((real[name] == k).mean() - (said[name] == k).mean()) for k in range(3)) / 2 for name in STATES]
    assert found["numbers"] == pytest.approx(np.mean(ks), abs=1e-5) and found["states"] == pytest.approx(
        np.mean(tv), abs=1e-5
    )
    assert found["worst"] == pytest.approx(max(*ks, *tv), abs=1e-5) and max(ks) != max(*ks, *tv)
    assert (found["rows"], found["reference_rows"]) == (200, 300)


def test_a_column_that_is_never_there_is_as_far_as_can_be():
    gone = {**SAID, "missing": jnp.ones_like(SAID["missing"])}
    assert probed(Marginals(), gone)["numbers"] == pytest.approx(1)
    assert probed(Marginals(), gone, gone)["numbers"] == 0


def test_how_columns_hang_together_is_as_scipy_and_pandas_say():
    real, said, found = frame(REAL), frame(SAID), probed(Associations())
    pairs = np.triu_indices(3, 1)
    r = [part[NUMBERS].corr().to_numpy()[pairs] for part in (real, said)]
    assert found["correlation"] == pytest.approx(np.abs(r[0] - r[1]).mean(), abs=1e-4)
    assert found["strength"] == pytest.approx(np.abs(r[1]).mean() / np.abs(r[0]).mean(), rel=1e-4)

    def cramer(part: Any, a: str, b: str) -> float:
        found: Any = crosstab(part[a], part[b])
        table: Any = found.count
        return float(association(table, method="cramer")) if min(table.shape) > 1 else 0.0

    v = [[cramer(part, a, b) for i, a in enumerate(STATES) for b in STATES[i + 1 :]] for part in (real, said)]
    assert found["cramer"] == pytest.approx(np.abs(np.subtract(v[0], v[1])).mean(), abs=1e-4) and max(v[0]) > 0.3

    def ratio(part: Any, x: str, k: str) -> float:
        known = part.dropna(subset=[x])
        groups = [group for _, group in known.groupby(k)[x]]
        if len(groups) == 1:
            return 0.0
        between, within = len(groups) - 1, len(known) - len(groups)
        F = f_oneway(*groups).statistic
        return float(np.sqrt(F * between / (F * between + within)))

    eta = [[ratio(part, x, k) for x in NUMBERS for k in STATES] for part in (real, said)]
    assert found["ratio"] == pytest.approx(np.abs(np.subtract(eta[0], eta[1])).mean(), abs=1e-4) and max(eta[0]) > 0.5


def test_a_constant_column_hangs_together_with_none():
    flat = {**SAID, "numbers": jnp.full((200, 2), 1234.567), "label": jnp.ones(200, jnp.int32)}
    assert probed(Associations(), flat, flat | {"label": SAID["label"]})["correlation"] == 0
    real = frame(REAL)
    assert probed(Associations(), flat)["correlation"] == pytest.approx(
        np.abs(real[NUMBERS].corr().to_numpy()[np.triu_indices(3, 1)]).mean(), abs=1e-4
    )


def test_rare_kinds_are_counted():
    real, said, found = frame(REAL), frame(SAID), probed(RareKinds(0.1))
    share = (real["k0"] == 2).mean()
    assert 0 < share < 0.1 and found["kinds"] == 1 and found["kept"] == 1
    assert found["said"] == pytest.approx((said["k0"] == 2).mean() / share, rel=1e-4)
    rarest = real["label"].value_counts().idxmin()
    assert found["minority"] == pytest.approx(
        (said["label"] == rarest).mean() / (real["label"] == rarest).mean(), rel=1e-4
    )
    none = {**SAID, "kinds": (SAID["kinds"][0].at[:].set(jnp.array([True, False, False])), SAID["kinds"][1])}
    assert probed(RareKinds(0.1), none)["kept"] == 0 and probed(RareKinds(0.1), none)["said"] == 0
    assert probed(RareKinds(0.001))["kept"] == 1 and probed(RareKinds(0.001))["kinds"] == 0


def test_distances_to_the_closest_record_are_those_of_scikit_learn():
    """In standard deviations of training rows, beside those of held-out rows (`Memorisation` in this space)."""
    held_out = mixed(120, seed=2)

    def space(rows: Any) -> np.ndarray:
        part, train = frame(rows), frame(REAL)
        x = ((part[NUMBERS] - train[NUMBERS].mean()) / train[NUMBERS].std(ddof=0)).fillna(0).to_numpy()
        states = [np.eye(3 if name == "k0" else 2)[part[name]] / np.sqrt(2) for name in STATES[:-1]]
        return np.concatenate([x, *states], 1)

    near = NearestNeighbors(n_neighbors=1).fit(space(REAL))
    said, real = (near.kneighbors(space(rows))[0][:, 0] for rows in (SAID, held_out))
    found = probed(Memorisation(features=Mixed()), SAID, held_out)["training"]
    assert found["generalisation"] == pytest.approx(said.mean(), rel=1e-4)
    assert found["ratio"] == pytest.approx(said.mean() / real.mean(), rel=1e-4)
    assert found["near"] == pytest.approx((said <= np.quantile(real, 0.05)).mean(), abs=0.01)
    copies = probed(Memorisation(features=Mixed()), jax.tree.map(lambda leaf: leaf[:50], REAL), held_out)["training"]
    assert copies["ratio"] == 0 and copies["near"] == 1


def test_the_space_of_tables_is_numbers_in_deviations_and_what_is_of_kinds():
    """By pandas, which leaves out what is missing; a gap lies at the mean and says that it is one."""
    space = Mixed()
    found = np.asarray(space(SAID, space.prepare(KEY, Given(REAL))))  # pyright: ignore[reportArgumentType]
    real, said = frame(REAL).filter(like="x"), frame(SAID).filter(like="x")
    assert said.isna().any(axis=None)
    numbers = ((said - real.mean()) / real.std(ddof=0)).fillna(0)
    np.testing.assert_allclose(found[:, :3], numbers, atol=1e-5)
    flags = [np.concatenate([SAID["missing"], ~SAID["missing"]], 1)]
    np.testing.assert_allclose(found[:, 3:], np.concatenate([*SAID["kinds"], *flags], 1) / np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize("target", ["label", "y"])
def test_use_is_what_scikit_learn_says_of_it(target: str):
    train, test = mixed(150, target=target), mixed(80, seed=3, target=target)
    space = Mixed()
    learned = space.prepare(KEY, Given(train))  # pyright: ignore[reportArgumentType]
    x, shown = np.asarray(space(train, learned)), np.asarray(space(test, learned))
    found = probed(Utility(), train, test, train)
    if target == "y":
        judge = RandomForestRegressor(random_state=0).fit(x, train["y"])
        assert found["r2"] == pytest.approx(judge.score(shown, test["y"]), abs=1e-3) and found["r2"] > 0.2
        return
    judge: Any = RandomForestClassifier(random_state=0).fit(x, train["label"])
    assert found["accuracy"] == pytest.approx(judge.score(shown, test["label"]), abs=1e-6) and found["accuracy"] > 0.6
    assert found["macro_f1"] == pytest.approx(f1_score(test["label"], judge.predict(shown), average="macro"), abs=1e-6)
    linear = LogisticRegression(max_iter=1000).fit(x, train["label"]).score(shown, test["label"])
    assert probed(Utility("linear"), train, test, train)["accuracy"] == pytest.approx(linear, abs=1e-6)
    alone = probed(Utility(), {**train, "label": jnp.ones(150, jnp.int32)}, test, train)
    assert alone["accuracy"] == pytest.approx(np.mean(test["label"] == 1)) and 0 < alone["macro_f1"] < 0.5


def test_a_chain_is_measured_by_all_of_them():
    space = Mixed()
    probes = {
        "columns": Marginals(),
        "pairs": Associations(),
        "rare": RareKinds(),
        "near": Memorisation(features=space),
    }
    chain = Chain(source=Table.diabetes(), generator=Copula(size=50), probes=probes, real=50, rows=50)
    found = simulate(chain, KEY, 2)
    assert chain.model.layout == Layout(numbers=6, wholes=3, kinds=(2,), y=True)  # pyright: ignore
    assert all(np.isfinite(value).all() for value in found.flat().values())


def test_rows_without_what_is_asked_are_refused():
    points = jnp.zeros((5, 2))
    for probe in (Marginals(), Associations(), Utility()):
        with pytest.raises(GenlossError):
            probe(KEY, View(jnp.int32(0), None, Pool.of(points), points, points, Copula()))  # pyright: ignore
    one = {"numbers": jnp.zeros((5, 1))}
    with pytest.raises(GenlossError, match="of two columns"):
        Associations()(KEY, View(jnp.int32(0), None, Pool.of(one), one, one, Copula()))
