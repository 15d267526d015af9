"""What all explorers share on the kernel's side: one module and style for the browser, numbers as bytes, errors in place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import numpy as np
import traitlets

from stg_lab.errors import CallError, LabError
from stg_lab.recording import check_number
from stg_lab.widgets.assets import module as module
from stg_lab.widgets.assets import style as style
from stg_lab.widgets.page import alone, base64_of
from stg_lab.widgets.still import Still


def packed(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, bytes], dict[str, dict[str, Any]]]:
    """Numbers for the browser: bytes by name, and what they are.

    float arrays stay float32; int16 and uint8 ones may stand for `value * scale`, see `quantised`.
    """
    data, about = {}, {}
    for name, values in arrays.items():
        scale = 1.0
        if isinstance(values, Quantised):
            values, scale = values.data, values.scale
        elif values.dtype.kind == "f":
            values = values.astype("<f4")
        if values.dtype not in (np.dtype("<f4"), np.dtype("<i2"), np.dtype("u1")):
            raise TypeError(f"{name} is {values.dtype}: the browser takes floats, int16 and uint8.")
        data[name] = np.ascontiguousarray(values).tobytes()
        about[name] = {"dtype": values.dtype.name, "shape": list(values.shape), "scale": scale}
    return data, about


class Quantised:
    """An array as int16 with one scale: half the bytes, and an error below 2e-5 of its largest value."""

    def __init__(self, values: np.ndarray) -> None:
        self.scale = float(np.nanmax(np.abs(values), initial=0.0)) / 32767 or 1.0
        self.data = np.nan_to_num(values / self.scale).round().astype("<i2")


class Explorer(anywidget.AnyWidget):
    """A live view in a cell; all that it shows is on board, and its state is in traits.

    Subclasses set `_esm = module(...)`, `_css = style(...)` and `STATE`, the traits that a reader may set, each `sync=True`.

    Attributes:
        view: plain values that say what is shown; fixed.
        sheets: PNG bytes by `"row/sample"`.
        arrays: numbers as bytes by name; `view["arrays"]` says what they are.
        problem: what went wrong in the kernel, shown in place.
    """

    STATE: tuple[str, ...] = ()

    view = traitlets.Dict().tag(sync=True)
    sheets = traitlets.Dict().tag(sync=True)
    arrays = traitlets.Dict().tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        view: dict[str, Any],
        sheets: Mapping[str, bytes] | None = None,
        arrays: Mapping[str, Any] | None = None,
        **state: Any,
    ) -> None:
        data, about = packed(arrays or {})
        super().__init__(view={**view, "arrays": about}, sheets=dict(sheets or {}), arrays=data)
        for name, value in state.items():  # only now can they be checked against the view
            setattr(self, name, value)

    @property
    def state(self) -> dict[str, Any]:
        """Where the explorer stands, as plain values."""
        return {name: getattr(self, name) for name in self.STATE}

    def to_html(self, *, title: str = "") -> str:
        """The explorer as a web page of its own, as it stands: it works without Python and asks no network.

        All that needs no kernel works there: sliders, pictures, charts, keys. What computes (decoding a step, sampling on, a
        rating) says that it needs a running notebook. The page's content security policy forbids all that comes from
        elsewhere.

        Args:
            title: of the page, as a browser's tab shows it; by default the name of the explorer's class.

        Returns:
            The text of the page, about as large as what the explorer carries: `Path("seven.html").write_text(...)`.

        >>> page = lab.widgets.x0_explorer("repair").to_html(title="A red nine")  # doctest: +SKIP
        """
        return alone(self, title=title)

    def numbers(self, name: str) -> np.ndarray:
        """One of `arrays`, as what was packed."""
        about = self.view["arrays"][name]
        return np.frombuffer(self.arrays[name], about["dtype"]).reshape(about["shape"]) * about["scale"]

    def still(self) -> Still | None:
        """The explorer as one picture, as it stands; None where it has none to show."""
        return None

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The live view, and a picture for wherever scripts are not trusted or not run, such as a clone or a code host."""
        bundle, still = super()._repr_mimebundle_(**kwargs), self.still()
        if bundle is None or still is None:
            return bundle
        data, about = bundle
        return {**data, "image/png": base64_of(still.png)}, about

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.state.items())})"


class Sampled(traitlets.HasTraits):
    """An explorer of several samples, which `view["samples"]` lists.

    Attributes:
        sample: the one that is shown, from 0.
    """

    view: dict[str, Any]
    sample = traitlets.Int(0).tag(sync=True)

    @property
    def caption(self) -> str:
        """Of the sample that is shown, with its seed."""
        shown = self.view["samples"][self.sample]
        seed = shown.get("seed")
        return f"{shown['caption'] or '(no caption)'}{'' if seed is None else f', seed {seed}'}"

    @traitlets.validate("sample")
    def _check_sample(self, proposal: Any) -> int:
        return check_number("sample", proposal["value"], len(self.view["samples"]))


class Stepped(Sampled):
    """An explorer of a recording's steps, which `view["steps"]` lists, and samples.

    Attributes:
        step: the one that is shown, from 0.
    """

    step = traitlets.Int(0).tag(sync=True)

    @traitlets.validate("step")
    def _check_step(self, proposal: Any) -> int:
        return check_number("step", proposal["value"], len(self.view["steps"]))


def shows_problems(answer: Callable[..., Any]) -> Callable[..., Any]:
    """For methods that answer to the browser: errors there would vanish, so they are shown in the explorer itself."""

    @functools.wraps(answer)
    def guarded(self: Explorer, *args: Any, **kwargs: Any) -> Any:
        try:
            self.problem = ""
            return answer(self, *args, **kwargs)
        except LabError as error:
            self.problem = str(error)
        except Exception as error:
            self.problem = f"{type(error).__name__}: {error}"
        return None

    return guarded


def check_among(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """A value that must be one of a few.

    Raises:
        CallError: it is not.
    """
    if value not in allowed:
        raise CallError(f"{name} is {' or '.join(map(repr, allowed))}, got {value!r}.")
    return value
