"""Weights to and from PyTorch's modules of the same architecture.

PyTorch keeps a ``Linear`` weight as (out, in), the book as (D, M) = (in, out); a
``Conv2d`` weight is (FN, C, FH, FW) in both, and both flatten images in the order C, H, W.

A network whose layers have names uses PyTorch's names, and its `Network.state` is a ``state_dict``:
nothing needs translation. The book's W1, b1 and so on get a module's names by the order of its
layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, MissingDependency, WeightsError
from ..layers import Dropout
from ..ops.arrays import expect_names
from .dropout_scale import layer_count, rescale
from .torch_names import bare, by_own_names

__all__ = ["from_torch", "to_torch"]

LEAVE = "leave out network, and take the weights as they are"
"""What to do where the scaling of Dropout cannot be moved."""

DEEP_CONVNET_NAMES = (
    *(f"features.{number}" for number in (0, 2, 5, 7, 10, 12)),
    *(f"classifier.{number}" for number in (0, 3)),
)
"""DeepConvNet as two ``Sequential``: convolutions, ReLUs and poolings, then the rest."""


def from_torch(
    state_dict: Mapping[str, Any],
    network: Any = None,
    *,
    order: Sequence[str] | None = None,
) -> dict[str, NDArray[Any]]:
    """Return the weights of a PyTorch module as `Network.set_state` takes them.

    Parameters
    ----------
    state_dict : mapping of str to tensor or array
        ``module.state_dict()``, or what `load_params` returns for a safetensors file of it; also
        of a wrapped module (``module.``, ``_orig_mod.``). For the book's names: ``NAME.weight``
        and ``NAME.bias`` of ``Conv2d`` and ``Linear`` modules; a bias may be missing.
    network : Network, optional
        The network that the weights are for. If its layers have names, weights and statistics
        keep theirs. Else pass it for a module with ``torch.nn.Dropout``, which scales in
        training, while the book's Dropout scales in evaluation: the weights after each Dropout
        of `network` are rescaled, so that both give equal outputs. A Dropout with
        ``inverted=True`` scales like PyTorch's and needs no rescaling. None takes the weights
        unchanged: right for modules without dropout, and for those that scale as the book does.
    order : sequence of str, optional
        For the book's names: the modules' names in the order in which they run. By default the
        order of a ``state_dict``; in alphabetical order, as safetensors files have it,
        convolutions come before linear layers, each sorted by the numbers in their names.

    Returns
    -------
    dict of str to array
        ``W1``, ``b1``, ``W2`` and so on, without ``b1`` if the first module has no bias; or by
        the names of `network`.

    Raises
    ------
    WeightsError
        Anything but weights and biases of convolutions and linear layers; layers that do not fit
        one after another, or whose order is ambiguous. For a `network` with names, anything but
        its arrays.
    ArgumentError
        Dropout's scaling does not pass through a layer of `network`; an `order` for layers that
        have names.
    """
    arrays = {key: _array(value) for key, value in state_dict.items()}
    if getattr(network, "dotted", False):
        if order is not None:
            raise ArgumentError("from_torch: layers that have names need no order")
        return _by_name("from_torch", by_own_names(arrays, network.state()), network)
    arrays = by_own_names(arrays, {bare(key) for key in arrays})
    order = None if order is None else [bare(name) for name in order]
    names = _module_names("from_torch", arrays, order)
    params = {}
    for number, name in enumerate(names, start=1):
        weight = arrays[f"{name}.weight"]
        params[f"W{number}"] = np.array(weight.T if weight.ndim == 2 else weight, order="C")
        if f"{name}.bias" in arrays:
            params[f"b{number}"] = arrays[f"{name}.bias"].copy()
    _expect_chain(params, names)
    if network is not None:
        rescale(params, network, remedy=LEAVE)
    return params


def to_torch(
    params: Mapping[str, Any],
    names: Mapping[str, Any] | Sequence[str] | None = None,
    network: Any = None,
    *,
    tensors: bool = False,
) -> dict[str, Any]:
    """Return weights as a ``state_dict``.

    Parameters
    ----------
    params : mapping of str to array
        ``W1``, ``b1``, ``W2`` and so on, of convolutions and affine layers; or the
        `Network.state` of a network whose layers have names.
    names : sequence of str, or state_dict, optional
        For the book's names: the names of the module's layers in the order in which they
        run, or the ``state_dict()`` that the module has now. By default those of DeepConvNet
        as two ``Sequential``: ``features.0`` to ``features.12``, ``classifier.0`` and
        ``classifier.3``.
    network : Network, optional
        The network that the weights are from. Needed if its layers have names, or if the module
        has ``torch.nn.Dropout``; see `from_torch`.
    tensors : bool
        Return ``torch.Tensor``, for ``load_state_dict``, instead of NumPy arrays.

    Returns
    -------
    dict of str to array or tensor

    Raises
    ------
    ArgumentError
        The numbers of names and layers differ; names for layers that have names; a `network`
        as in `from_torch`.
    WeightsError
        The params are not those of a chain of convolutions and affine layers, or not those of
        `network`.
    MissingDependency
        Tensors without PyTorch.
    """
    if getattr(network, "dotted", False):
        if names is not None:
            raise ArgumentError("to_torch: the layers of this network have their names")
        if params is network.params:
            raise ArgumentError(
                "to_torch: of a network whose layers have names pass network.state(), which has "
                "the statistics too, and matrices as PyTorch has them"
            )
        arrays = {key: _array(value) for key, value in params.items()}
        return _as_tensors(_by_name("to_torch", arrays, network), tensors)
    count = layer_count(params)
    expected = [f"{kind}{number}" for number in range(1, count + 1) for kind in "Wb"]
    if not set(params) <= set(expected) or not all(key in params for key in expected[::2]):
        raise WeightsError(
            f"to_torch: expected weights and biases {', '.join(expected) or 'W1, b1'}, "
            f"got {', '.join(params)}"
        )
    if names is None and count != len(DEEP_CONVNET_NAMES):
        raise ArgumentError(
            f"to_torch: {count} layers are not DeepConvNet's {len(DEEP_CONVNET_NAMES)}: pass the "
            "names of the module's layers, or its state_dict()"
        )
    if isinstance(names, Mapping):
        names = _module_names("to_torch", names, None)
    names = list(DEEP_CONVNET_NAMES if names is None else names)
    if len(names) != count:
        raise ArgumentError(f"to_torch: {len(names)} names for {count} layers: {', '.join(names)}")
    arrays = {key: _array(params[key]) for key in expected if key in params}
    _expect_chain(arrays, names)
    if network is not None:
        rescale(arrays, network, remedy=LEAVE, invert=True)
    state = {}
    for number, name in enumerate(names, start=1):
        weight = arrays[f"W{number}"]
        state[f"{name}.weight"] = np.array(weight.T if weight.ndim == 2 else weight, order="C")
        if f"b{number}" in arrays:
            state[f"{name}.bias"] = arrays[f"b{number}"].copy()
    return _as_tensors(state, tensors)


def _as_tensors(state: dict[str, NDArray[Any]], tensors: bool) -> dict[str, Any]:
    if not tensors:
        return state
    try:
        import torch
    except ImportError as error:
        raise MissingDependency(
            "to_torch(tensors=True) needs PyTorch: pip install torch"
        ) from error
    return {key: torch.from_numpy(array) for key, array in state.items()}


def _by_name(op: str, arrays: dict[str, NDArray[Any]], network: Any) -> dict[str, NDArray[Any]]:
    """Return copies of the arrays, if they match the state of a network with names."""
    if any(
        isinstance(layer, Dropout) and not layer.inverted for _, layer in network.named_layers()
    ):
        raise ArgumentError(
            f"{op}: the network has a Dropout that scales as the book's does; give it "
            "inverted=True, which scales as PyTorch's"
        )
    own = network.state()
    given = {k: v for k, v in arrays.items() if not k.endswith("num_batches_tracked")}
    expect_names(f"{op}: not the state of the network", sorted(own), sorted(given))
    for key, value in given.items():
        if value.shape != own[key].shape:
            raise WeightsError(
                f"{op}: {key} has shape {value.shape}, expected {own[key].shape} as in "
                "network.state()"
            )
    return {key: np.array(given[key], order="C") for key in own}


def _array(value: Any) -> NDArray[Any]:
    """Return anything array-like as an array; a tensor, without importing its library."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # NumPy has no bfloat16
            value = value.float()
    return np.asarray(value)


def _module_names(op: str, state: Mapping[str, Any], order: Sequence[str] | None) -> list[str]:
    """Return the names of the modules, each of which has a weight, in the order they run."""
    names = _as_they_come(op, state) if order is None else list(order)
    weights, biases = ({f"{name}.{kind}" for name in names} for kind in ("weight", "bias"))
    what = f"{op}: expected the weight of each layer, and perhaps its bias"
    expect_names(what, sorted(weights) or ["NAME.weight"], sorted(set(state) - biases))
    # Alphabetically, bias comes before weight; in a state_dict, after it.
    if order is None and list(state) == sorted(state):
        return _by_number(op, names, state)
    return names


def _as_they_come(op: str, state: Mapping[str, Any]) -> list[str]:
    names: dict[str, None] = {}
    for key in state:
        name, _, kind = key.rpartition(".")
        if kind not in ("weight", "bias") or not name:
            raise WeightsError(
                f"{op}: {key} is neither weight nor bias of a convolution or linear layer"
            )
        names[name] = None
    return list(names)


def _by_number(op: str, names: list[str], state: Mapping[str, Any]) -> list[str]:
    """Return `names` sorted by their numbers, convolutions first, unless that is ambiguous.

    `features.2` comes before `features.10`. Names of one kind that differ in more than numbers,
    such as `body` and `head`, have no order.
    """
    ordered = []
    for axes in (4, 2):
        kind = [name for name in names if state[f"{name}.weight"].ndim == axes]
        if len({re.sub(r"\d+", "#", name) for name in kind}) > 1:
            raise WeightsError(
                f"{op}: the order of {', '.join(kind)} cannot be told from their names: "
                "pass the names in the order in which they run"
                f"{' as order=[...]' if op == 'from_torch' else ''}"
            )
        ordered += sorted(kind, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])
    rest = [name for name in names if name not in ordered]
    return ordered + rest


def _expect_chain(params: dict[str, NDArray[Any]], names: list[str]) -> None:
    """Raise `WeightsError` unless each layer takes what the one before gives."""
    given, flat = None, False
    for number, name in enumerate(names, start=1):
        weight, bias = params[f"W{number}"], params.get(f"b{number}")
        if weight.ndim not in (2, 4) or (weight.ndim == 4 and flat):
            raise WeightsError(
                f"{name}: a weight of shape {weight.shape}; expected convolutions (4 axes), "
                "then linear layers (2 axes)"
            )
        takes, gives = weight.shape[:2] if weight.ndim == 2 else weight.shape[1::-1]
        if given is not None and not _follows(weight, takes, gives, given, flat):
            raise WeightsError(
                f"{name} takes {takes} inputs, but the layer before it gives {given}: "
                "another order of layers, or another architecture"
            )
        if bias is not None and bias.shape != (gives,):
            raise WeightsError(f"{name}: a bias of shape {bias.shape}, expected ({gives},)")
        given, flat = gives, weight.ndim == 2


def _follows(weight: NDArray[Any], takes: int, gives: int, given: int, flat: bool) -> bool:
    """Whether a layer takes `given` inputs; its filters may each see a group of channels."""
    if weight.ndim == 4:
        return given % takes == 0 and gives % (given // takes) == 0
    return takes == given if flat else takes % given == 0
