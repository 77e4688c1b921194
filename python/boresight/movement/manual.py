"""Manual matching of points, on a local web page."""

from __future__ import annotations

import webbrowser
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.arrays import Floats
from boresight._utils.naming import named, type_of
from boresight.errors import InputError
from boresight.movement.correction import MovementCorrection
from boresight.movement.detect import detect_movement
from boresight.movement.fitted import fitted_correction
from boresight.movement.images import pair_of
from boresight.movement.server import PageServer, as_png

__all__ = ["manual_movement"]

LEAST_PAIRS = 3
"""Minimum number of pairs for a fit."""

TOLERANCE_PX = 1e6
"""Inlier distance, in pixels. The large value keeps all pairs, because the user chose them."""

MOST_PAIRS = 60
"""Maximum number of pairs that automatic detection puts on the page."""

STRETCH = (0.5, 99.5)
"""Percentiles of an image that are shown as black and white."""


@named
def manual_movement(
    ref: Any,
    moved: Any,
    correction: MovementCorrection | None = None,
    parent_window: Any = None,
    *,
    port: int = 0,
    open_browser: bool = True,
    timeout: float | None = None,
) -> MovementCorrection | None:
    """Determine a movement by manual matching of points on a page in the browser.

    Both images are shown side by side. Click a point on one image and the same point on the other;
    drag or delete points; detect points automatically; inspect the fit; and blink both images. The
    page is served on 127.0.0.1 to this browser only, and needs no network.

    Parameters
    ----------
    ref, moved : array_like, Frame, path, or a calibration that carries an image
        Reference and moved image, of the same shape.
    correction : MovementCorrection, optional
        Correction whose points are shown at the start.
    parent_window : object, optional
        Ignored; for compatibility with programs written for calcam.
    port : int
        Port of the page. Default 0: any free port.
    open_browser : bool
        Whether to open the page in a browser. The address is always printed. Default True.
    timeout : float, optional
        Seconds to wait for a browser. Default: no limit.

    Returns
    -------
    MovementCorrection or None
        The accepted correction; None if the user cancelled or closed the page, or no browser
        connected.

    Raises
    ------
    InputError
        If the shapes differ, an argument is no image, or has a wrong type or value.
    OSError
        If the port is in use.

    Examples
    --------
    >>> from boresight.movement import manual_movement
    >>> manual_movement("reference.png", "moved.png")  # doctest: +SKIP
    """
    first, second = pair_of(ref, moved)
    if not isinstance(correction, MovementCorrection | None):
        raise InputError(f"correction: {type_of(correction)}; give a MovementCorrection")
    if not 0 <= port <= 65535:
        raise InputError(f"port: {port} is not valid; give 1 to 65535, or 0 for a free one")
    if correction is not None and correction.im_shape != first.shape:
        raise InputError(
            f"correction: it is of images of {correction.im_shape}, these are of {first.shape}"
        )
    session = _Session(first, second, correction)
    pictures = {"ref": as_png(_stretched(first)), "moved": as_png(_stretched(second))}
    pictures |= {
        f"{n}-enhanced": as_png(_equalised(i)) for n, i in (("ref", first), ("moved", second))
    }
    actions = {
        "start": session.start, "fit": session.fit, "detect": session.detect, "load": session.load,
        "accept": session.accept, "cancel": lambda _: {"done": True}, "alive": lambda _: {},
    }  # fmt: skip
    server = PageServer(pictures, actions, port)
    print(f"Match points on {server.address}", flush=True)
    if open_browser:
        webbrowser.open(server.address)
    server.wait(timeout)
    return session.accepted


class _Session:
    """Handlers for the requests of the page."""

    def __init__(
        self, ref: NDArray[Any], moved: NDArray[Any], correction: MovementCorrection | None
    ) -> None:
        self.ref, self.moved, self.correction = ref, moved, correction
        self.accepted: MovementCorrection | None = None

    def start(self, _: dict[str, Any]) -> dict[str, Any]:
        """Return the size of the images, and the initial points."""
        rows, columns = self.ref.shape
        return {"width": columns, "height": rows, "pairs": _pairs_of(self.correction)}

    def fit(self, given: dict[str, Any]) -> dict[str, Any]:
        """Fit a transform to the pairs and return it with its quality."""
        found = self._fitted(given)
        if found is None:
            return {"fit": None}
        residuals = np.linalg.norm(found.residuals, axis=1)
        x, y = found.moved_to_ref_coords(*found.moved_points.T)
        return {
            "fit": {
                "shift": list(found.shift),
                "rotation": found.rotation,
                "scale": found.scale,
                "rms": float(np.sqrt(np.mean(residuals**2))),
                "residuals": residuals.tolist(),
                "predicted": np.column_stack([x, y]).tolist(),
                "matrix": found.matrix.tolist(),
                "ddscore": found.get_ddscore(self.ref, self.moved),
                "file": self._as_file(found),
            }
        }

    def detect(self, _: dict[str, Any]) -> dict[str, Any]:
        """Detect the movement and return its pairs."""
        return {"pairs": _pairs_of(detect_movement(self.ref, self.moved))}

    def load(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the pairs of a .cmc file."""
        found = MovementCorrection(
            given["transform_matrix"], tuple(given["im_array_shape"][:2]), given["ref_points"],
            given["moved_points"], given["history"],
        )  # fmt: skip
        if found.im_shape != self.ref.shape:
            raise InputError(
                f"the file is of images of {found.im_shape}, these are of {self.ref.shape}"
            )
        return {"pairs": _pairs_of(found)}

    def accept(self, given: dict[str, Any]) -> dict[str, Any]:
        """Accept the fit of the pairs as the result."""
        found = self._fitted(given)
        if found is None:
            return {"error": f"it takes {LEAST_PAIRS} pairs of points"}
        self.accepted = found
        return {"done": True}

    def _fitted(self, given: dict[str, Any]) -> MovementCorrection | None:
        pairs: Floats = np.array(given["pairs"], np.float64).reshape(-1, 4)
        if len(pairs) < LEAST_PAIRS:
            return None
        moved, ref = np.ascontiguousarray(pairs[:, 2:]), np.ascontiguousarray(pairs[:, :2])
        found = core.fit_transform(
            moved, ref, str(given.get("transform", "similarity")), TOLERANCE_PX, None,
            float(self.ref.size),
        )  # fmt: skip
        parts = found | {"ref_points": ref, "moved_points": moved}
        return fitted_correction(parts, self.ref.shape, "manual")

    @staticmethod
    def _as_file(found: MovementCorrection) -> dict[str, Any]:
        return {
            "transform_matrix": found.matrix.tolist(),
            "im_array_shape": list(found.im_shape),
            "ref_points": found.ref_points.tolist(),
            "moved_points": found.moved_points.tolist(),
            "history": found.history,
        }


def _pairs_of(correction: MovementCorrection | None) -> list[list[float]]:
    """Return the inlier pairs of a correction as rows (x, y) of reference and moved image."""
    if correction is None:
        return []
    pairs = np.column_stack([correction.ref_points, correction.moved_points])[correction.inliers]
    step = max(1, -(-len(pairs) // MOST_PAIRS))
    chosen: list[list[float]] = pairs[::step].tolist()
    return chosen


def _stretched(image: NDArray[Any]) -> NDArray[np.uint8]:
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, STRETCH) if finite.size else (0.0, 1.0)
    if image.dtype == np.uint8:
        low, high = 0.0, 255.0
    scaled = (np.nan_to_num(image.astype(np.float64)) - low) * (255.0 / max(high - low, 1e-30))
    return np.asarray(np.clip(scaled, 0, 255), np.uint8)


def _equalised(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an image with an equalised histogram, which shows faint details."""
    flat = np.nan_to_num(image.astype(np.float64)).ravel()
    values, place = np.unique(flat, return_inverse=True)
    part = np.cumsum(np.bincount(place)) / len(flat)
    shown = part[place] if len(values) > 1 else np.zeros(len(flat))
    return np.asarray(255.0 * shown.reshape(image.shape), np.uint8)
