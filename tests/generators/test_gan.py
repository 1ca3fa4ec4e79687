"""Generative adversarial networks: losses, penalties and steps against closed forms and against torch."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean, scattered
from equality import close, same
from scipy.special import expit

from generators.games import NonSaturating, Relativistic, Wasserstein
from generators.gan import GAN
from generators.gaussian import Gaussian
from generators.nets.convnet import ConvNet
from generators.nets.mlp import MLP
from generators.nets.upnet import UpNet
from generators.objective import Truncated
from simulator import Chain, Dataset, GenlossError, Pool, Truth, ensemble, run, simulate
from simulator.numerics.chance import fold_in, normal, uniform
from simulator.recipe import Mix

KEY = jax.random.key(0)
GAMES = {
    "relativistic": Relativistic(gamma=0.7),
    "non-saturating": NonSaturating(gamma=0.3),
    "wasserstein": Wasserstein(penalty=2.0),
}
NETWORK = partial(MLP, hidden=(5,))
SMALL = GAN(network=NETWORK, critic=NETWORK, shape=(3,), latent=2, steps=20, chunk=10, batch=4, warmup=0.2)


def filled(tree: Any, scale: float = 0.5) -> Any:
    """Numbers that are all different, none near 0."""
    leaves, tree = jax.tree.flatten(tree)
    return jax.tree.unflatten(
        tree, [jnp.asarray(scale * scattered(*a.shape, seed=i), jnp.float32) for i, a in enumerate(leaves)]
    )


def pairs(n: int, *shape: int) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(scattered(n, *shape), jnp.float32), jnp.asarray(scattered(n, *shape, seed=9), jnp.float32) - 0.4


# What each game is, in closed form.


def test_penalties_of_a_linear_critic_are_those_of_its_one_slope():
    """D(x) = w·x + b has the slope w everywhere: ‖w‖² at real rows and at fakes, (‖w‖ - 1)² between them."""
    (real, fake), w = pairs(6, 2, 3), jnp.asarray(scattered(6, seed=3), jnp.float32)

    def score(x: Any) -> Any:
        return x.reshape(len(x), -1) @ w + 0.3

    square, gap = float(w @ w), np.asarray(score(fake) - score(real), np.float64)
    expected = {
        "relativistic": np.log1p(np.exp(gap)) + 0.7 * square,
        "non-saturating": np.log1p(np.exp(-score(real))) + np.log1p(np.exp(score(fake))) + 0.15 * square,
        "wasserstein": gap + 2.0 * (np.sqrt(square) - 1) ** 2,
    }
    moved = {
        "relativistic": np.log1p(np.exp(-gap)),
        "non-saturating": np.log1p(np.exp(-score(fake))),
        "wasserstein": -score(fake),
    }
    for name, game in GAMES.items():
        assert np.allclose(game.critic(KEY, score, real, fake), expected[name], rtol=1e-5)
        assert np.allclose(game.generator(score, real, fake), moved[name], rtol=1e-5)


def test_penalties_lie_at_real_rows_at_fakes_and_evenly_between():
    """D(x) = ‖x‖²/2 has the slope x: R1 is ‖x‖² at the real row, R2 at the fake, and WGAN's is at neither."""
    many = 20_000
    real, fake = jnp.tile(jnp.array([2.0, 0.0]), (many, 1)), jnp.tile(jnp.array([0.0, 1.0]), (many, 1))

    def score(x: Any) -> Any:
        return jnp.square(x).sum(-1) / 2

    # D(x) = 2, D(G(z)) = 1/2
    assert np.allclose(GAMES["relativistic"].critic(KEY, score, real, fake), np.log1p(np.exp(-1.5)) + 0.35 * (4 + 1))
    expected = np.log1p(np.exp(-2)) + np.log1p(np.exp(0.5)) + 0.15 * 4
    assert np.allclose(GAMES["non-saturating"].critic(KEY, score, real, fake), expected)
    found = (GAMES["wasserstein"].critic(KEY, score, real, fake) + 1.5) / 2  # [many]: (‖x̂‖ - 1)²
    u = (np.arange(100_000) + 0.5) / 100_000
    far = (np.hypot(2 * u, 1 - u) - 1) ** 2
    assert_mean(np.asarray(found, np.float64), far.mean())
    assert_mean(np.asarray(found, np.float64) ** 2, (far**2).mean())


def test_the_best_linear_critic_of_two_points_is_as_steep_as_it_should_be():
    """Points at 0 (fake) and δ (real): the slope of least loss solves each game's own equation, and no other."""
    delta = 1.6
    real, fake = jnp.full((1, 1), delta), jnp.zeros((1, 1))
    slope = np.linspace(0.01, 3, 3000)

    def losses(game: Any) -> Any:
        return jax.vmap(lambda w: game.critic(KEY, lambda x: w * x[:, 0], real, fake)[0])(jnp.asarray(slope))

    best = {name: slope[np.argmin(np.asarray(losses(game)))] for name, game in GAMES.items()}
    assert best["wasserstein"] == pytest.approx(1 + delta / (2 * 2.0), abs=2e-3)  # δ = 2λ(w - 1)
    for name, weight in (("relativistic", 2 * 0.7), ("non-saturating", 0.3)):
        w = best[name]
        assert delta * expit(-w * delta) == pytest.approx(weight * w, abs=3e-3)


def test_a_critic_that_is_flat_has_a_gradient_all_the_same():
    real, fake = pairs(4, 3)
    for game in GAMES.values():
        told = lambda w, game=game: game.critic(KEY, lambda x: x @ w, real, fake).mean()  # noqa: E731
        assert np.isfinite(jax.jit(jax.grad(told))(jnp.zeros(3))).all()


# Losses and steps against torch.


def told(torch: Any, part: Any) -> tuple[list[Any], Any]:
    """(weights, the function) of an MLP of these parameters in torch."""
    layers = part["layers"]
    weights = [torch.tensor(np.array(layers[i][k]), requires_grad=True) for i in range(2) for k in ("kernel", "bias")]

    def net(x: Any) -> Any:
        hidden = torch.nn.functional.gelu(x @ weights[0] + weights[1], approximate="tanh")
        return hidden @ weights[2] + weights[3]

    return weights, net


def critics(torch: Any, name: str, key: Any, score: Any, real: Any, fake: Any) -> Any:
    """The critic's loss in torch, with penalties by `autograd.grad`."""
    logistic = torch.nn.functional.binary_cross_entropy_with_logits

    def square(x: Any) -> Any:
        x = x.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(score(x).sum(), x, create_graph=True)
        return (slope**2).sum(1)

    if name == "relativistic":
        gap = score(real) - score(fake)
        return (logistic(gap, torch.ones_like(gap), reduction="none") + 0.35 * (square(real) + square(fake))).mean()
    if name == "non-saturating":
        yes, no = score(real), score(fake)
        loss = logistic(yes, torch.ones_like(yes)) + logistic(no, torch.zeros_like(no))
        return loss + 0.15 * square(real).mean()
    u = torch.from_numpy(np.array(uniform(key, (len(real), 1))))
    between = square(u * real + (1 - u) * fake)
    return score(fake).mean() - score(real).mean() + 2.0 * ((between.sqrt() - 1) ** 2).mean()


def makers(torch: Any, name: str, score: Any, real: Any, fake: Any) -> Any:
    """The generator's loss in torch."""
    if name == "wasserstein":
        return -score(fake).mean()
    logit = score(fake) - score(real) if name == "relativistic" else score(fake)
    return torch.nn.functional.binary_cross_entropy_with_logits(logit, torch.ones_like(logit))


@pytest.mark.torch
@pytest.mark.parametrize(("name", "turns"), [("relativistic", 1), ("non-saturating", 2), ("wasserstein", 3)])
def test_steps_are_those_of_torch(name: str, turns: int):
    """Three steps of both players from the same weights, by autograd, clipping and Adam of torch, on the same rows."""
    torch: Any = pytest.importorskip("torch")
    model = dataclasses.replace(SMALL, game=GAMES[name], critic_steps=turns, clip=0.4, classes=3, beta1=0.3, beta2=0.9)
    params = jax.jit(model.init)(KEY)
    params = {**params, **filled({k: params[k] for k in ("generator", "critic")}), "mean": jnp.array([0.1, -0.3, 0.2])}
    params["scale"] = jnp.array([0.5, 1.5, 2.0])
    rows = model.batch * (turns + 1)
    x, label = scattered(3, rows, 3).astype(np.float32), (np.arange(3 * rows).reshape(3, rows) * 7) % 3

    moving = {k: params[k] for k in ("generator", "critic")}
    state = model.optimizer().init(moving)
    ours = []
    step = jax.jit(model.stepped)
    for i in range(3):
        given = {"x": jnp.asarray(x[i]), "label": jnp.asarray(label[i])}
        moving, state, loss = step(fold_in(KEY, i), params, moving, state, given)
        ours.append(loss)

    players = {part: told(torch, params[part]) for part in ("generator", "critic")}
    adam = {
        part: torch.optim.Adam(weights, lr=0.0, betas=(0.3, 0.9), eps=1e-8) for part, (weights, _) in players.items()
    }
    mean, scale = (torch.from_numpy(np.array(params[k])) for k in ("mean", "scale"))
    theirs = []
    for i in range(3):
        dealt = (torch.from_numpy(x[i]) - mean) / scale
        dealt, own = dealt.reshape(model.batch, -1, 3), torch.from_numpy(label[i]).reshape(model.batch, -1)
        losses = []
        for j in range(turns + 1):
            key = fold_in(fold_in(KEY, i), j)
            z = torch.from_numpy(np.array(normal(fold_in(key, 0), (model.batch, 2))))
            one_hot = torch.nn.functional.one_hot(own[:, j].long(), 3).float()
            fake = players["generator"][1](torch.cat([z, one_hot], 1))
            score = lambda a, y=one_hot: (players["critic"][1](a) * y).sum(1)  # noqa: E731
            part = "generator" if j == turns else "critic"
            if part == "critic":
                loss = critics(torch, name, fold_in(key, 1), score, dealt[:, j], fake.detach())
                losses.append(float(loss.detach()))
            else:
                loss = makers(torch, name, score, dealt[:, j], fake)
            adam[part].zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(players[part][0], 0.4)
            # warm-up over a fifth of 20 steps to the peak, counted in steps of both
            adam[part].param_groups[0]["lr"] = model.learning_rate * i / 4
            adam[part].step()
        theirs.append(np.mean(losses))
    assert np.allclose(ours, theirs, rtol=1e-5)
    for part, (weights, _) in players.items():
        flat = [moving[part]["layers"][i][k] for i in range(2) for k in ("kernel", "bias")]
        begun = [params[part]["layers"][i][k] for i in range(2) for k in ("kernel", "bias")]
        for i, (found, other, before) in enumerate(zip(flat, weights, begun, strict=True)):
            if i == 3 and part == "critic" and name != "non-saturating":
                continue  # a bias of all scores does not change their differences: its gradient is rounding
            assert np.allclose(found, other.detach(), atol=2e-6) and np.abs(found - before).max() > 1e-4


# What is learned, and what each argument does.


def fitted(model: GAN, rows: Any) -> Any:
    return jax.jit(lambda: model.fit(KEY, model.init(KEY), Pool.of(rows))[0])()


def sampled(model: GAN, params: Any, n: int, given: Any = None) -> Any:
    return jax.jit(lambda: model.sample(KEY, params, n, given))()


def test_a_linear_generator_learns_the_covariance_of_a_gaussian():
    """x = A·z + b is exact for it, so that nothing but the game stands between the fit and the moments."""
    true = np.array([[2.0, 1.2], [1.2, 1.0]])
    rows = jnp.asarray(np.random.default_rng(0).multivariate_normal([3, -1], true, 4000), jnp.float32)
    model = GAN(
        shape=(2,),
        latent=2,
        network=partial(MLP, hidden=()),
        critic=partial(MLP, hidden=(32,)),
        steps=1000,
        learning_rate=5e-3,
    )
    said = np.asarray(sampled(model, fitted(model, rows), 10_000))
    assert np.allclose(said.mean(0), [3, -1], atol=0.15)
    assert np.allclose(np.cov(said.T), np.cov(rows.T), atol=0.25)


def labelled(n: int = 600) -> Any:
    """Two classes at -2 and 2, a quarter and three quarters."""
    label = jnp.asarray(np.arange(n) % 4 > 0, jnp.int32)
    x = jnp.asarray(0.3 * scattered(n, 1), jnp.float32) + jnp.where(label == 1, 2.0, -2.0)[:, None]
    return {"x": x, "label": label}


TOLD = GAN(
    shape=(1,), classes=2, latent=2, network=partial(MLP, hidden=(16,)), critic=partial(MLP, hidden=(16,)), steps=300
)


def test_each_class_is_learned_by_itself_where_networks_are_told_labels():
    given, model = {"label": jnp.array([0, 1] * 500)}, dataclasses.replace(TOLD, learning_rate=5e-3)
    params = fitted(model, labelled())
    said = sampled(model, params, 1000, given)
    means = [float(said["x"][said["label"] == label].mean()) for label in (0, 1)]
    assert np.allclose(means, [-2, 2], atol=0.4)
    assert_mean(sampled(model, params, 4000)["label"], 0.75)


def test_networks_that_are_told_no_label_know_none():
    """Neither a fake nor its score depends on it."""
    model = dataclasses.replace(TOLD, conditional=False)
    params, rows = jax.jit(model.init)(KEY), labelled(50)

    @jax.jit
    def said(label: Any) -> Any:
        score, real, fake = model._shown(KEY, params, {**rows, "label": label})
        return fake, score(real), model.sample(KEY, params, 50, {"label": label})["x"]

    zero, one = said(jnp.zeros(50, jnp.int32)), said(jnp.ones(50, jnp.int32))
    assert same(zero, one) and all(a.std() > 0.01 for a in zero)


def test_no_temperature_says_one_row_a_class():
    model = dataclasses.replace(TOLD, temperature=0.0)
    params = jax.jit(model.init)(KEY)
    said = sampled(model, {**params, "generator": filled(params["generator"])}, 40)
    assert len(np.unique(np.asarray(said["x"]))) == 2 and len(np.unique(np.asarray(said["label"]))) == 2


def test_a_heavier_penalty_makes_a_flatter_critic_or_one_nearer_to_slope_one():
    """Weights side by side, as numbers that are swept."""
    rows = Truth(Gaussian(2)).draw(KEY, 300)
    model = dataclasses.replace(TOLD, shape=(2,), classes=None, steps=100, learning_rate=1e-2)

    def slope(game: Any, turns: int, weight: Any) -> Any:
        """The mean square of the critic's slopes at real rows."""
        made = dataclasses.replace(model, game=game(weight), critic_steps=turns)
        params = made.fit(KEY, made.init(KEY), Pool.of(rows))[0]
        score, real, _ = made._shown(KEY, params, rows)
        return jnp.square(jax.grad(lambda x: score(x).sum())(real)).sum(-1).mean()

    flatter = jax.jit(jax.vmap(partial(slope, Relativistic, 1)))(jnp.array([0.01, 1.0, 100.0]))
    assert flatter[0] > 2 * flatter[1] > 4 * flatter[2]
    nearer = jax.jit(jax.vmap(partial(slope, Wasserstein, 4)))(jnp.array([0.01, 100.0]))
    assert abs(nearer[1] - 1) < 0.15 < abs(nearer[0] - 1)


def test_more_steps_of_a_critic_find_a_better_one():
    """Of the same fixed generator, whose loss the critic's gets further below; of either player no other moves."""
    rows = Truth(Gaussian(2)).draw(KEY, 300)
    model = dataclasses.replace(TOLD, shape=(2,), classes=None, latent=2, batch=32, clip=1e3)

    def reached(critic_steps: int) -> tuple[float, Any]:
        made = dataclasses.replace(model, critic_steps=critic_steps, steps=20, chunk=20)
        params = jax.jit(made.init)(KEY)
        still = made.begin(KEY, params, Pool.of(rows))
        state, moving = still.optimizer, {k: params[k] for k in ("generator", "critic")}

        def step(carry: Any, i: Any) -> Any:
            moving, state = carry
            given = rows[jax.random.randint(fold_in(KEY, i), (made.drawn,), 0, 300)]
            now, state, loss = made.stepped(fold_in(KEY, 100 + i), params, moving, state, given)
            return ({**now, "generator": params["generator"]}, state), loss

        (_, state), losses = jax.lax.scan(step, (moving, state), jnp.arange(20))
        counts = [int(s[1][0].count) for s in (state["generator"], state["critic"])]
        return float(losses[-1]), counts

    (one, counts), (four, many) = reached(1), reached(4)
    assert four < one and counts == [20, 20] and many == [20, 80]


def test_images_are_read_from_and_written_to_all_grey_values():
    """A generator whose last bias is the only number of it that is not 0 says that grey value."""
    model = GAN(shape=(2, 2, 1), classes=3, network=NETWORK, critic=NETWORK)
    grey = np.array([[0, 255], [64, 200]], np.uint8).reshape(2, 2, 1)
    params = jax.tree.map(jnp.zeros_like, jax.jit(model.init)(KEY)) | {"labels": jnp.array([0.0, 0.0, 1.0])}
    params["generator"]["layers"][1]["bias"] = jnp.asarray(grey, jnp.float32).reshape(-1) / 127.5 - 1
    said = sampled(model, params, 3)
    assert (np.asarray(said["image"]) == grey).all() and (np.asarray(said["label"]) == 2).all()
    real, fake = model._shown(KEY, params, said)[1:]
    assert np.allclose(real, fake, atol=1e-6)
    bare = dataclasses.replace(model, classes=None).shaped({"image": said["image"]})
    assert bare.classes is None and list(sampled(bare, bare.init(KEY), 3)) == ["image"]


@pytest.mark.slow
def test_networks_of_convolutions_play():
    convolutions = {"network": partial(UpNet, widths=(8, 8)), "critic": partial(ConvNet, widths=(8, 8))}
    model = GAN(**convolutions, shape=(8, 8, 1), classes=10, steps=2, chunk=2, batch=8, warmup=0.0)
    rows = Dataset.digits().draw(KEY, 40)
    params = fitted(model, rows)
    said = sampled(model, params, 6)
    assert said["image"].shape == (6, 8, 8, 1) and said["image"].dtype == jnp.uint8
    begun = model.init(KEY)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), params["critic"], begun["critic"])
    assert np.mean(jax.tree.leaves(moved)) > 0.9  # but of scores' bias


@pytest.mark.slow
@pytest.mark.parametrize("images", [False, True])
def test_a_chain_of_networks_resumes_to_the_bit_and_is_that_of_many_side_by_side(images: bool, tmp_path: Path):
    """Stopped in the middle of a fit."""
    small = GAN(steps=30, chunk=10, batch=16, network=NETWORK, critic=NETWORK, latent=3, critic_steps=2)
    source = Dataset.digits() if images else Truth(Gaussian(2))
    chain = Chain(
        source=source, generator=small, recipe=Mix(real=0.5, size=40), real=40, rows=40, probes={"what": mean_said}
    )

    class Stopped(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.done == 1 and progress.part >= 0.3:
            raise Stopped

    whole = run(chain, KEY, 3)
    with pytest.raises(Stopped):
        run(chain, KEY, 3, tmp_path / "run", save_seconds=0, report=stop)
    assert same(run(chain, KEY, 3, tmp_path / "run", save_seconds=0), whole)
    keys = jax.random.split(KEY, 2)
    many = ensemble(lambda _: chain, jnp.zeros(1), keys, 2)
    alone = simulate(chain, keys[1], 2)
    assert close(jax.tree.map(lambda a: a[0, 1], many.flat()), alone.flat(), 1e-3, 1e-3)
    assert len(np.unique(np.asarray(many["what"]))) == 4  # two chains, two generations


def mean_said(key: Any, view: Any) -> jax.Array:
    return jnp.mean(view.synthetic["image"] / 255 if isinstance(view.synthetic, dict) else view.synthetic)


def test_what_a_gan_cannot_do_is_refused():
    with pytest.raises(GenlossError, match="an objective cannot weigh"):
        GAN(objective=Truncated(0.1))
    with pytest.raises(GenlossError, match=r"gamma=-1.* must be"):
        Relativistic(gamma=-1.0)
    with pytest.raises(GenlossError, match="nothing else can be given to a GAN"):
        SMALL.sample(KEY, SMALL.init(KEY), 2, {"label": jnp.zeros(2, jnp.int32)})
    with pytest.raises(GenlossError, match="no shape of rows"):
        GAN().init(KEY)
