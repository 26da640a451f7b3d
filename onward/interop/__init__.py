"""Bridges to other libraries; each is imported only when one of its functions is called.

`onward.interop.river` and `onward.interop.sklearn` define subclasses of the other library's, and are imported by name.
"""

from onward.interop.torch import from_torch as from_torch
from onward.interop.torch import gradient_from_torch as gradient_from_torch
from onward.interop.torch import to_torch as to_torch
