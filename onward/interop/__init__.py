"""Bridges to other libraries; each is imported only when one of its functions is called."""

from onward.interop.torch import from_torch as from_torch
from onward.interop.torch import gradient_from_torch as gradient_from_torch
from onward.interop.torch import to_torch as to_torch
