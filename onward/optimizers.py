"""Parameter updates: Optax's, with what recurrent networks want of them."""

from typing import Any

import jax
import optax

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
    if not callable(learning_rate):
        _not_negative(learning_rate=learning_rate)
    _not_negative(weight_decay=weight_decay, recurrent_factor=recurrent_factor, eps=eps)
    if clip is not None and not clip > 0:
        raise ValueError(f"`clip` must be None or above 0, got {clip!r}; it is the norm that gradients are cut to")
    recurrent = is_recurrent(network)
    others = jax.tree.map(lambda flag: not flag, recurrent)
    return optax.chain(
        optax.clip_by_global_norm(clip) if clip is not None else optax.identity(),
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        optax.add_decayed_weights(weight_decay, mask=lambda _: others),
        optax.scale_by_learning_rate(learning_rate),
        optax.masked(optax.scale(recurrent_factor), lambda _: recurrent),
    )


def _not_negative(**numbers: Any) -> None:
    for name, value in numbers.items():
        if not value >= 0:
            raise ValueError(f"`{name}` must be 0 or above, got {value!r}; give a number that is not negative")
