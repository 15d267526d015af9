"""How many bytes of tensors live at once."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):
    """Counts the storages that operations inside it make, as long as they live; `bytes` is the most there were at once."""

    def __init__(self):
        super().__init__()
        self.bytes, self._now, self._seen = 0, 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for tensor in (x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)):
            self._note(tensor.untyped_storage(), 0)  # inputs that were there before
        output = func(*args, **(kwargs or {}))
        for tensor in (x for x in tree_leaves(output) if isinstance(x, torch.Tensor)):
            self._note(tensor.untyped_storage(), tensor.untyped_storage().nbytes())
        return output

    def _note(self, storage, size):
        """Count a storage from here on as `size` bytes, unless it is known."""
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        self._now += size
        self.bytes = max(self.bytes, self._now)
        weakref.finalize(storage, self._gone, key, size)  # another storage may come to lie at its address

    def _gone(self, key, size):
        self._seen.discard(key)
        self._now -= size
