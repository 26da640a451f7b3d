"""Parameter updates: Optax's, with what recurrent networks want of them, and FPTT."""

from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Int, PyTree

from onward.integers import is_integer
from onward.network import Network, is_recurrent


def adamw(
    network: Network,
    learning_rate: float | optax.Schedule,
    *,
    weight_decay: float = 0.01,
    recurrent_factor: float = 1.0,
    clip: float | None = None,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    """AdamW that treats recurrent parameters as they need it: no weight decay, and a learning rate of their own.

    With g the gradient (scaled down to norm `clip` where it is longer), eta the learning rate of this update and
    f = `recurrent_factor` for recurrent parameters, 1 for others:

        m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2,   both divided by (1 - b^updates)          (1)
        theta <- theta - f eta (m / (sqrt(v) + eps) + weight_decay theta)                            (2)

    where the last term is left out for recurrent parameters.

    **Arguments.** `learning_rate`: a number, or an Optax schedule of the count of updates (with `window=k` there are
    several in a batch). `network`: says which parameters are recurrent (`onward.is_recurrent`); the optimizer then
    serves any network of this structure.
    **Raises.** `ValueError` if a number is out of range.
    **Source.** Loshchilov and Hutter 2019, arXiv:1711.05101.
    **Example.**

        >>> import jax, onward as ow, optax
        >>> net = ow.stack(ow.cells.GRU(1, 2, key=jax.random.key(0)))
        >>> optimizer = adamw(net, optax.cosine_decay_schedule(1e-3, 1000), recurrent_factor=0.5, clip=1.0)
    """
    _not_negative(eps=eps)
    scale = optax.scale_by_adam(b1=b1, b2=b2, eps=eps)
    return _scaled(scale, network, learning_rate, weight_decay, recurrent_factor, clip)


def rmsprop(
    network: Network,
    learning_rate: float | optax.Schedule,
    *,
    weight_decay: float = 0.0,
    recurrent_factor: float = 1.0,
    clip: float | None = None,
    decay: float = 0.99,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    """RMSprop with `adamw`'s treatment of recurrent parameters: each gradient divided by its root mean square.

        v = decay v + (1 - decay) g^2                                                                (1)
        theta <- theta - f eta (g / (sqrt(v) + eps) + weight_decay theta)                            (2)

    with the symbols of `adamw`; v starts at 0 and is not corrected for it, so that first steps are long.

    **Arguments and raises.** As `adamw`.
    **Source.** Tieleman and Hinton 2012, lecture 6.5 of "Neural networks for machine learning".
    **Example.**

        >>> import jax, onward as ow
        >>> net = ow.stack(ow.cells.GRU(1, 2, key=jax.random.key(0)))
        >>> optimizer = rmsprop(net, 1e-3, clip=1.0)
    """
    _not_negative(eps=eps)
    scale = optax.scale_by_rms(decay=decay, eps=eps, eps_in_sqrt=False)
    return _scaled(scale, network, learning_rate, weight_decay, recurrent_factor, clip)


def _scaled(
    scale: optax.GradientTransformation,
    network: Network,
    learning_rate: float | optax.Schedule,
    weight_decay: float,
    recurrent_factor: float,
    clip: float | None,
) -> optax.GradientTransformation:
    """Clipped gradients through `scale`, then equation (2) of `adamw`."""
    if not callable(learning_rate):
        _not_negative(learning_rate=learning_rate)
    _not_negative(weight_decay=weight_decay, recurrent_factor=recurrent_factor)
    if clip is not None and not clip > 0:
        raise ValueError(f"`clip` must be None or above 0, got {clip!r}; it is the norm that gradients are cut to")
    recurrent = is_recurrent(network)
    others = jax.tree.map(lambda flag: not flag, recurrent)
    return optax.chain(
        optax.clip_by_global_norm(clip) if clip is not None else optax.identity(),
        scale,
        optax.add_decayed_weights(weight_decay, mask=lambda _: others),
        optax.scale_by_learning_rate(learning_rate),
        optax.masked(optax.scale(recurrent_factor), lambda _: recurrent),
    )


@dataclass(frozen=True)
class Settings:
    """The arguments of `fptt`."""

    alpha: float | optax.Schedule
    beta: float
    lmbda: float
    linear: float
    variant: Literal["running", "paper"]
    reset: int | None


class FPTTState(eqx.Module):
    """What FPTT remembers: how many updates it made, the anchor and the running estimate of the gradient.

    `pending`: whether the last update waits for the parameters that the optimizer made of it; `settle` takes them in,
    or else the next update does. Read the anchor with `anchor`, which sees to that.
    """

    count: Int[Array, ""]
    anchor: PyTree
    estimate: PyTree
    pending: Bool[Array, ""]
    settings: Settings = eqx.field(static=True)


def fptt(
    alpha: float | optax.Schedule,
    beta: float = 0.5,
    lmbda: float = 1.0,
    linear: float = 1.0,
    variant: Literal["running", "paper"] = "running",
    reset: int | None = None,
) -> optax.GradientTransformation:
    """Pull parameters that are updated from short windows towards an anchor that follows them.

    With W the parameters, g the window's gradient, Wbar the anchor and lam the running estimate of the gradient
    (at first W and 0), the optimizers after this one in the chain get, in place of g,

        running:  g - linear lam + lmbda alpha (W - Wbar)                                (1)
        paper:    g - lam / 2    + alpha (W - Wbar)                                      (2)

    and when they have made W' of it,

        running:  lam <- lam - alpha (W' - Wbar)                                         (3)
                  Wbar <- (1 - beta) Wbar + beta W' - (beta / alpha) lam                 (4)
        paper:    lam <- gradient of the same window at W'                               (5)
                  Wbar <- (Wbar + W') / 2 - lam / (2 alpha)                              (6)

    Where gradients come from is another matter: BPTT of the window as published, or any other algorithm.

    **Arguments.** `alpha`: strength of the pull, or an Optax schedule of it by the count of updates (the paper raises
    it gradually). Where it is 0 windows are trained plainly: the direction is g, lam is 0 and Wbar a moving average.
    `beta`, `lmbda`, `linear`: of (1) and (4); the authors' code has `linear` = 1, where the paper prints 1/2.
    `variant`: "running" costs no gradient more; "paper" (Algorithm 2) needs that of (5) through `settle`, and has
    constants of its own, so that `beta`, `lmbda` and `linear` stay as they are.
    `reset`: every so many updates W <- Wbar and lam <- 0, as the authors' code does at an epoch's end for images;
    None for never. Only `settle` can change parameters, so it must be called.
    **In a loop of one's own** a running FPTT needs nothing but Optax: (3) and (4) of an update are done when the next
    one brings W'. `settle` does them at once. `onward.train` calls it, with the gradient of (5) where it is needed.
    **Raises.** `ValueError` if a number is out of range, or constants are given to the "paper" variant; where its
    gradient was not given, at the next update.
    **Not to be confused with** `ForwardErrors` (the post on forward propagation of errors), which is also called so.
    **Source.** Kag and Saligrama 2021, https://proceedings.mlr.press/v139/kag21a.html; departures in docs/fptt.md.
    **Example.**

        >>> import jax.numpy as jnp, optax
        >>> optimizer = optax.chain(fptt(0.5), optax.clip_by_global_norm(1.0), optax.adam(1e-3))
        >>> weights = jnp.ones(2)
        >>> state = optimizer.init(weights)
        >>> updates, state = optimizer.update(jnp.ones(2), state, weights)
        >>> weights = optax.apply_updates(weights, updates)
        >>> weights, state = settle(weights, state)  # optional here
    """
    if not callable(alpha):
        _not_negative(alpha=alpha)
    if not 0 < beta <= 1:
        raise ValueError(f"`beta` must be above 0 and at most 1, got {beta!r}; it is the share of W' in the anchor")
    _not_negative(lmbda=lmbda, linear=linear)
    if variant not in ("running", "paper"):
        raise ValueError(f"`variant` must be 'running' or 'paper', got {variant!r}; choose one of the two")
    if variant == "paper" and (beta, lmbda, linear) != (0.5, 1.0, 1.0):
        raise ValueError(
            f"`beta`, `lmbda` and `linear` are {beta}, {lmbda} and {linear}, but variant 'paper' has constants of its "
            "own; leave them out, or choose 'running'"
        )
    if reset is not None and not is_integer(reset, 1):
        raise ValueError(f"`reset` must be None or a positive number of updates, got {reset!r}")
    settings = Settings(alpha, beta, lmbda, linear, variant, reset)

    def init(params: Any) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return FPTTState(jnp.int32(0), jax.tree.map(jnp.asarray, params), zeros, jnp.asarray(False), settings)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        if params is None:
            raise ValueError("fptt needs the parameters; call optimizer.update(gradient, state, parameters)")
        if variant == "paper":
            told = "variant 'paper' was not given the gradient at the new parameters; call settle after every update"
            state = eqx.tree_at(lambda s: s.count, state, eqx.error_if(state.count, state.pending, told))
        else:
            state = lax.cond(state.pending, _finish, _keep, state, params, None)
        alpha, _, on = _alpha(state)
        along, pull = (linear, lmbda) if variant == "running" else (0.5, 1.0)
        combine = lambda g, w, old, lam: (g - on * along * lam + pull * alpha * (w - old)).astype(g.dtype)  # noqa: E731
        direction = jax.tree.map(combine, updates, params, state.anchor, state.estimate)
        return direction, eqx.tree_at(lambda s: s.pending, state, jnp.asarray(True))

    return optax.GradientTransformation(init, update)


def settle(parameters: PyTree, state: PyTree, gradient: PyTree | None = None) -> tuple[Any, Any]:
    """Finish an update: `fptt` takes in the parameters that came of it, and resets them where that is due.

    Call it after `optax.apply_updates` with the new parameters and the whole optimizer's state; an optimizer without
    `fptt` is left as it is. Works inside `jit` and `scan`, and for `fptt` anywhere in a chain or `multi_transform`.

    **Arguments.** `gradient`: that of the last window at `parameters`; needed by the "paper" variant, which takes it
    as (5) of `fptt`, and by no other.
    **Returns.** Parameters, which only a reset changes, and state.
    **Raises.** `ValueError` if the "paper" variant gets no gradient.
    """
    leaves, tree = jax.tree.flatten(state, is_leaf=_is_ours)
    for index, leaf in enumerate(leaves):
        if not _is_ours(leaf):
            continue
        if leaf.settings.variant == "paper" and gradient is None:
            raise ValueError("`gradient` is None, but variant 'paper' needs that of the window at the new parameters")
        mine = _restrict(leaf, parameters), _restrict(leaf, gradient)
        leaf = lax.cond(leaf.pending, _finish, _keep, leaf, *mine)
        if leaf.settings.reset is not None:
            due = (leaf.count > 0) & (leaf.count % leaf.settings.reset == 0)
            back = jax.tree.map(lambda a, w, due=due: jnp.where(due, a, w), leaf.anchor, mine[0])
            parameters = _merge(back, parameters)
            forget = jax.tree.map(lambda e, due=due: jnp.where(due, 0, e).astype(e.dtype), leaf.estimate)
            leaf = eqx.tree_at(lambda s: s.estimate, leaf, forget)
        leaves[index] = leaf
    return parameters, jax.tree.unflatten(tree, leaves)


def anchor(parameters: PyTree, state: PyTree) -> Any:
    """The parameters with those that `fptt` holds an anchor of replaced by it; where there is no `fptt`, themselves.

    **Arguments.** `parameters` and the whole optimizer's `state`, after an update.
    """
    for leaf in filter(_is_ours, jax.tree.leaves(state, is_leaf=_is_ours)):
        if leaf.settings.variant == "running":
            leaf = lax.cond(leaf.pending, _finish, _keep, leaf, _restrict(leaf, parameters), None)
        parameters = _merge(leaf.anchor, parameters)
    return parameters


def uses_fptt(state: PyTree, variant: str | None = None) -> bool:
    """Whether an optimizer's state holds one of `fptt` (of that variant)."""
    found = filter(_is_ours, jax.tree.leaves(state, is_leaf=_is_ours))
    return any(variant in (None, leaf.settings.variant) for leaf in found)


def _finish(state: FPTTState, parameters: PyTree, gradient: PyTree | None) -> FPTTState:
    """(3) and (4), or (5) and (6)."""
    settings, (alpha, inverse, on) = state.settings, _alpha(state)
    if settings.variant == "paper":
        estimate, share, weight = gradient, 0.5, 0.5 * inverse
    else:
        share, weight = settings.beta, settings.beta * inverse
        move = lambda lam, new, old: (on * lam - alpha * (new - old)).astype(lam.dtype)  # noqa: E731
        estimate = jax.tree.map(move, state.estimate, parameters, state.anchor)
    follow = lambda old, new, lam: ((1 - share) * old + share * new - weight * lam).astype(old.dtype)  # noqa: E731
    followed = jax.tree.map(follow, state.anchor, parameters, estimate)
    return FPTTState(state.count + 1, followed, estimate, jnp.asarray(False), settings)


def _keep(state: FPTTState, parameters: PyTree, gradient: PyTree | None) -> FPTTState:
    del parameters, gradient
    return state


def _alpha(state: FPTTState) -> tuple[Any, Any, Any]:
    """alpha of update number `count`; then 1 / alpha and 1, or twice 0 where alpha is 0."""
    alpha = state.settings.alpha
    if callable(alpha):
        value = jnp.asarray(alpha(state.count))
        on = jnp.where(value > 0, 1, 0)
        return value, on / jnp.where(value > 0, value, 1), on
    return (alpha, 1 / alpha, 1) if alpha else (0.0, 0.0, 0)


def _is_ours(node: Any) -> bool:
    return isinstance(node, FPTTState)


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _restrict(state: FPTTState, tree: PyTree) -> PyTree:
    """`tree` where `state` has an anchor: other transformations of a `multi_transform` see to the rest."""
    if tree is None:
        return None
    return jax.tree.map(lambda a, w: a if _is_masked(a) else w, state.anchor, tree, is_leaf=_is_masked)


def _merge(part: PyTree, whole: PyTree) -> PyTree:
    """What `_restrict` left out, put back."""
    return jax.tree.map(lambda a, w: w if _is_masked(a) else a, part, whole, is_leaf=_is_masked)


def _not_negative(**numbers: Any) -> None:
    for name, value in numbers.items():
        if not value >= 0:
            raise ValueError(f"`{name}` must be 0 or above, got {value!r}; give a number that is not negative")
