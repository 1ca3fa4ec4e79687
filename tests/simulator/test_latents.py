"""What is left of the code of a VAE that encodes linearly, and how likely it finds rows: against NumPy and SciPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import scattered
from scipy.stats import multivariate_normal

from generators.gaussian import Gaussian
from generators.likelihood import Normal
from generators.vae import VAE
from simulator import GenlossError, Pool, View
from simulator.probes import Evidence, Latents

KEY = jax.random.key(0)
MODEL = VAE(shape=(3,), latent=2, hidden=(), likelihood=Normal(scale=0.5))
REAL, SAID = (jnp.asarray(scattered(n, 3, seed=n) * [1, 2, 3], jnp.float32) for n in (40, 50))


def parameters(encode: np.ndarray, decode: np.ndarray) -> Any:
    """Of q(z|x) = N(x encode, 1/(1 + 4 |w|²)) and x = z decode + σε, |w|² the square of a row of it."""
    params = MODEL.init(KEY)

    def filled(part: str, kernel: np.ndarray, bias: np.ndarray) -> Any:
        return jax.tree.unflatten(jax.tree.structure(params[part]), [jnp.float32(bias), jnp.float32(kernel)])

    log_var = -np.log1p(4 * (decode**2).sum(1))
    encoder = filled("encoder", np.concatenate([encode, np.zeros((3, 2))], 1), np.concatenate([[0, 0], log_var]))
    return {"encoder": encoder, "decoder": filled("decoder", decode, np.zeros(3))}


def measured(probe: Any, params: Any, model: Any = MODEL) -> dict[str, float]:
    view = View(jnp.int32(0), params, Pool.of(SAID), SAID, REAL, model)
    return {name: float(value) for name, value in jax.jit(lambda key: probe(key, view))(KEY).items()}


def test_the_spread_of_codes_is_that_of_their_means_over_rows_and_dimensions():
    encode = np.array([[0.5, 0.0], [0.0, 0.02], [0.1, 0.0]])
    found = measured(Latents(), parameters(encode, np.zeros((2, 3))))
    for name, rows in (("std", REAL), ("said", SAID)):
        assert found[name] == pytest.approx(np.sqrt((np.asarray(rows, np.float64) @ encode).var(0).mean()), rel=1e-4)
    assert found["active"] == 1 and measured(Latents(least=1e-4), parameters(encode, np.zeros((2, 3))))["active"] == 2
    assert (found["rows"], found["reference_rows"]) == (50, 40)


def test_a_code_that_says_nothing_has_no_spread():
    found = measured(Latents(), parameters(np.zeros((3, 2)), np.zeros((2, 3))))
    assert found["std"] == found["said"] == found["active"] == 0


def test_evidence_is_the_likelihood_where_the_posterior_is_exact():
    decode = np.array([[1.0, 0.5, 0.0], [-0.4, 0.8, 0.3]])  # of orthogonal rows
    encode = 4 * decode.T / (1 + 4 * (decode**2).sum(1))
    open_: Any = decode.T @ decode + 0.25 * np.eye(3)
    law = multivariate_normal(np.zeros(3), open_)
    found = measured(Evidence(draws=3), parameters(encode, decode))
    assert found["real"] == pytest.approx(law.logpdf(REAL).mean(), rel=1e-4)
    assert found["said"] == pytest.approx(law.logpdf(SAID).mean(), rel=1e-4)
    assert found["elbo"] == pytest.approx(law.logpdf(REAL).mean(), rel=0.1)  # of one draw a row


def test_more_draws_are_a_higher_bound():
    params = parameters(np.full((3, 2), 0.1), np.array([[1.0, 0.5, 0.0], [-0.4, 0.8, 0.3]]))
    one, many = (measured(Evidence(draws=draws), params)["real"] for draws in (1, 300))
    assert many > one + 0.1


@pytest.mark.parametrize("probe", [Latents(), Evidence()])
def test_who_encodes_nothing_is_refused(probe: Any):
    with pytest.raises(GenlossError, match="encodes no rows"):
        measured(probe, Gaussian(3).init(KEY), Gaussian(3))
