"""Correction of a movement: the transform from a moved image to the reference image."""

from __future__ import annotations

import os
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight._utils.arguments import image_size, number
from boresight._utils.arrays import Floats, map_points, points_of
from boresight._utils.html import html_table
from boresight._utils.naming import named
from boresight.errors import FileFormatError, InputError
from boresight.movement.checks import checked_covariance, checked_matrix, checked_points, normalised
from boresight.movement.cmc import read_cmc, write_cmc
from boresight.movement.images import grey, image_of, noise_of
from boresight.movement.warp import warp_plane

__all__ = ["MovementCorrection"]

ASPECT_TOLERANCE = 0.005
"""Largest relative difference of the aspect ratio of a binned or enlarged image from the
original."""

TOLERANCE_OF_NOISE = 10.0
"""Divisor that converts the DDScore's tolerance to standard deviations of the noise of a
difference, for images that are not 8-bit. The default tolerance of 50 corresponds to five."""

Interpolation = Literal["linear", "nearest"]


@named
class MovementCorrection:
    """Geometric transform from a moved image to a reference image.

    Pixels are array pixels: x is the column and y the row, 0-based at pixel centres.

    Parameters
    ----------
    matrix : array_like, shape (2, 3) or (3, 3)
        Affine or projective transform from moved to reference pixels.
    im_shape : (int, int)
        Rows and columns of the images.
    ref_points, moved_points : array_like, shape (n, 2)
        Corresponding points (x, y) on both images; may be empty.
    src : str
        Description of how the transform was made.
    method : str, optional
        Method that found the transform: "stars", "features", "phase" or "manual".
    covariance : array_like, shape (8, 8), optional
        Covariance of the first eight elements of the matrix, by rows; the ninth is 1.
    inliers : array_like of bool, shape (n,), optional
        Which pairs of points agree with the transform. Default: all.
    log10_chance : float, optional
        Decimal logarithm of the expected number of such transforms between unrelated images. With 0
        or more, the transform may be a coincidence.

    Attributes
    ----------
    matrix : ndarray, shape (3, 3)
        The transform, normalised to 1 in the last element.
    im_shape : tuple of int
        Rows and columns of the images.
    ref_points, moved_points : ndarray, shape (n, 2)
        Corresponding points.
    history : str
        Description of how the transform was made.
    method, covariance, inliers, log10_chance
        As given, but `inliers` is never None.

    Raises
    ------
    InputError
        If the matrix has a wrong shape, is not finite or cannot be inverted, or if points are not
        in pairs.

    See Also
    --------
    boresight.movement.detect_movement : finds the correction from two images.

    Examples
    --------
    >>> from boresight.movement import MovementCorrection
    >>> shift = MovementCorrection([[1, 0, 5], [0, 1, -2]], (480, 640), [], [], "by hand")
    >>> shift.translation, shift.rotation, shift.scale
    ((5.0, -2.0), 0.0, 1.0)
    >>> shift.moved_to_ref_coords(100, 100)
    (105.0, 98.0)
    """

    def __init__(
        self,
        matrix: ArrayLike,
        im_shape: tuple[int, int],
        ref_points: ArrayLike,
        moved_points: ArrayLike,
        src: str,
        *,
        method: str | None = None,
        covariance: ArrayLike | None = None,
        inliers: ArrayLike | None = None,
        log10_chance: float | None = None,
    ) -> None:
        columns, rows = image_size(im_shape)
        self.im_shape = (rows, columns)
        self.matrix = checked_matrix(matrix, self.im_shape)
        self.ref_points = checked_points("ref_points", ref_points)
        self.moved_points = checked_points("moved_points", moved_points)
        if len(self.ref_points) != len(self.moved_points):
            raise InputError(
                f"moved_points: {len(self.moved_points)} for {len(self.ref_points)} points of the "
                "reference; give pairs"
            )
        self.history = str(src)
        self.method = method
        self.covariance = None if covariance is None else checked_covariance(covariance)
        kept = np.ones(len(self.ref_points), bool) if inliers is None else np.asarray(inliers, bool)
        if kept.shape != (len(self.ref_points),):
            raise InputError(f"inliers: their shape is {kept.shape}; give one for each pair")
        self.inliers: NDArray[np.bool_] = kept
        self.log10_chance = None if log10_chance is None else float(log10_chance)

    @property
    def src(self) -> str:
        """Description of how the transform was made; same as `history`."""
        return self.history

    @property
    def translation(self) -> tuple[float, float]:
        """Translation (x, y) from the moved to the reference image, in pixels.

        The translation of pixel (0, 0), as in calcam. With a rotation, `shift` is more meaningful.
        """
        return float(self.matrix[0, 2]), float(self.matrix[1, 2])

    @property
    def rotation(self) -> float:
        """Rotation from the moved to the reference image, degrees clockwise as displayed."""
        return float(np.degrees(np.arctan2(self.matrix[1, 0], self.matrix[0, 0])))

    @property
    def scale(self) -> float:
        """Scale factor from the moved to the reference image."""
        return float(np.hypot(self.matrix[1, 0], self.matrix[0, 0]))

    @property
    def shift(self) -> tuple[float, float]:
        """Shift (x, y) of the centre of the moved image, in pixels."""
        x, y = self._middle
        ref_x, ref_y = self.moved_to_ref_coords(x, y)
        return float(ref_x - x), float(ref_y - y)

    @property
    def shift_sigma(self) -> tuple[float, float] | None:
        """Standard deviations of `shift`; None without a covariance."""
        if self.covariance is None:
            return None
        x, y = self._middle
        variance = np.diag(self.position_cov(x, y))
        return float(variance[0] ** 0.5), float(variance[1] ** 0.5)

    @property
    def rotation_sigma(self) -> float | None:
        """Standard deviation of `rotation`, degrees; None without a covariance."""
        if self.covariance is None:
            return None
        a, b = self.matrix[0, 0], self.matrix[1, 0]
        slope = np.zeros(8)
        slope[[0, 3]] = np.array([-b, a]) / (a * a + b * b)
        return float(np.degrees(np.sqrt(slope @ self.covariance @ slope)))

    @property
    def scale_sigma(self) -> float | None:
        """Standard deviation of `scale`; None without a covariance."""
        if self.covariance is None:
            return None
        slope = np.zeros(8)
        slope[[0, 3]] = self.matrix[[0, 1], [0, 0]] / self.scale
        return float(np.sqrt(slope @ self.covariance @ slope))

    @property
    def residuals(self) -> Floats:
        """Reference points minus transformed moved points, pixels, shape (n, 2)."""
        return self.ref_points - self._map(self.matrix, self.moved_points)

    def position_cov(self, x: ArrayLike, y: ArrayLike) -> Floats:
        """Return the covariance of transformed positions on the reference image.

        Parameters
        ----------
        x, y : array_like
            Pixels of the moved image.

        Returns
        -------
        ndarray of shape (..., 2, 2)
            In square pixels.

        Raises
        ------
        InputError
            If this correction has no covariance.
        """
        if self.covariance is None:
            raise InputError("covariance: that of this correction is not known; fit it to points")
        points, shape = points_of(x, y)
        ones = np.column_stack([points, np.ones(len(points))])
        depth = ones @ self.matrix[2]
        u, v = self._map(self.matrix, points).T
        slopes = np.zeros((len(points), 2, 8))
        slopes[:, 0, :3] = slopes[:, 1, 3:6] = ones / depth[:, None]
        slopes[:, 0, 6:] = -u[:, None] * points / depth[:, None]
        slopes[:, 1, 6:] = -v[:, None] * points / depth[:, None]
        cov: Floats = slopes @ self.covariance @ np.swapaxes(slopes, 1, 2)
        return cov.reshape(*shape, 2, 2)

    def moved_to_ref_coords(self, x: ArrayLike, y: ArrayLike) -> tuple[Any, Any]:
        """Transform points of the moved image to the reference image.

        Parameters
        ----------
        x, y : array_like
            Columns and rows on the moved image; scalars and arrays broadcast.

        Returns
        -------
        x, y : float or ndarray
            Columns and rows on the reference image; NaN beyond the horizon of a projective
            transform.
        """
        return map_points(lambda points: self._map(self.matrix, points), x, y)

    def ref_to_moved_coords(self, x: ArrayLike, y: ArrayLike) -> tuple[Any, Any]:
        """Transform points of the reference image to the moved image.

        Parameters
        ----------
        x, y : array_like
            Columns and rows on the reference image; scalars and arrays broadcast.

        Returns
        -------
        x, y : float or ndarray
            Columns and rows on the moved image; NaN beyond the horizon of a projective transform.
        """
        inverse = normalised(self._inverse, self.im_shape)
        return map_points(lambda points: self._map(inverse, points), x, y)

    def warp_moved_to_ref(
        self, image: ArrayLike, interp: Interpolation = "linear", fill_edges: bool = False
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Warp a moved image to align with the reference.

        Parameters
        ----------
        image : array_like, shape (rows, columns) or (rows, columns, colours)
            Moved image, of any real dtype. It may be binned or enlarged relative to `im_shape`,
            with the same aspect ratio.
        interp : {"linear", "nearest"}
            Interpolation. Default "linear".
        fill_edges : bool
            Whether to repeat the edge pixels outside the image. Default False: pixels outside are
            0.

        Returns
        -------
        image : ndarray
            The warped image, of the same shape and dtype, in native byte order.
        mask : ndarray of bool, shape (rows, columns)
            True where the result shows valid pixels of the given image: within the outermost pixel
            centres (nearest: within the pixels), and not NaN.

        Raises
        ------
        InputError
            If the aspect ratio differs by more than 0.5 %, or `interp` is unknown.
        """
        return self._warp(image, self._inverse, interp, fill_edges)

    def warp_ref_to_moved(
        self, image: ArrayLike, interp: Interpolation = "linear", fill_edges: bool = False
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Warp an image aligned with the reference to align with the moved image.

        Parameters
        ----------
        image, interp, fill_edges
            As for `warp_moved_to_ref`.

        Returns
        -------
        image : ndarray
            The warped image, of the same shape and dtype, in native byte order.
        mask : ndarray of bool, shape (rows, columns)
            True where the result shows valid pixels of the given image.

        Raises
        ------
        InputError
            As `warp_moved_to_ref`.
        """
        return self._warp(image, self.matrix, interp, fill_edges)

    def get_ddscore(self, ref_im: Any, moved_im: Any, tol: float = 50) -> float:
        """Return a score of how much the correction improves the agreement of two images.

        Parameters
        ----------
        ref_im, moved_im : array_like, or calibrations that carry an image
            Both images. Of colour images the luminance is used.
        tol : float
            Only pixels whose difference changes by more than this are counted. The unit is grey
            levels for 8-bit images, and for others a tenth of a standard deviation of the noise of
            a difference. Default 50.

        Returns
        -------
        float
            From -1 to 1: negative if the agreement gets worse, 0 if no pixel changes enough to be
            counted, positive if it improves.

        Notes
        -----
        The DDScore of van Stroud et al.: ``2 n(d > 0) / n - 1`` over the n valid pixels with
        ``|d| > tol``, where d is the absolute difference of both images before the correction minus
        that after the correction.

        Raises
        ------
        InputError
            If the shapes differ, an argument is no image, or `tol` is not a number of at least 0.
        """
        ref, moved = grey(image_of(ref_im, "ref_im")), grey(image_of(moved_im, "moved_im"))
        if ref.shape != moved.shape:
            raise InputError(
                f"moved_im: its shape is {moved.shape}, not the reference's {ref.shape}"
            )
        limit = number("tol", tol, "give a number, at least 0")
        if not limit >= 0.0:
            raise InputError(f"tol: {tol} is negative; give a number, at least 0")
        if not ref.dtype == moved.dtype == np.uint8:
            limit *= float(np.hypot(noise_of(ref), noise_of(moved))) / TOLERANCE_OF_NOISE
        warped, valid = self.warp_moved_to_ref(moved)
        before, there, after = (np.asarray(a, np.float64)[valid] for a in (moved, ref, warped))
        better = np.abs(before - there) - np.abs(after - there)
        better = better[np.abs(better) > limit]
        return 2.0 * float(np.mean(better > 0)) - 1.0 if better.size else 0.0

    def save(self, filename: str | os.PathLike[str]) -> None:
        """Save to a ``.cmc`` file, which calcam can also read.

        Parameters
        ----------
        filename : path-like
            File to create or replace, atomically. ``.cmc`` is appended to a name that does not end
            with it.
        """
        extra = {
            "method": self.method,
            "covariance": None if self.covariance is None else self.covariance.tolist(),
            "inliers": self.inliers.tolist(),
            "log10_chance": self.log10_chance,
        }
        values = {
            "transform_matrix": self.matrix.tolist(),
            "im_array_shape": list(self.im_shape),
            "ref_points": self.ref_points.tolist(),
            "moved_points": self.moved_points.tolist(),
            "history": self.history,
            "boresight": extra,
        }
        write_cmc(filename, values)

    @classmethod
    def load(cls, filename: str | os.PathLike[str]) -> MovementCorrection:
        """Load a correction from a ``.cmc`` file of Boresight or calcam.

        Parameters
        ----------
        filename : path-like
            The file.

        Returns
        -------
        MovementCorrection

        Raises
        ------
        FileFormatError
            If the file is damaged, or no ``.cmc`` file.
        """
        values = read_cmc(filename)
        try:
            extra = dict(values.get("boresight") or {})
            known = ("method", "covariance", "inliers", "log10_chance")
            return cls(
                values["transform_matrix"],
                tuple(values["im_array_shape"][:2]),
                values["ref_points"],
                values["moved_points"],
                values["history"],
                **{name: extra.get(name) for name in known},
            )
        except (InputError, TypeError, ValueError) as error:
            raise FileFormatError(f"{os.fspath(filename)} is damaged: {error}") from error

    @property
    def _middle(self) -> tuple[float, float]:
        rows, columns = self.im_shape
        return (columns - 1) / 2, (rows - 1) / 2

    @property
    def _inverse(self) -> Floats:
        return np.asarray(np.linalg.inv(self.matrix), np.float64)

    @staticmethod
    def _map(matrix: Floats, points: Floats) -> Floats:
        ones = np.column_stack([points, np.ones(len(points))])
        u, v, depth = matrix @ ones.T
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where((depth > 0)[:, None], np.column_stack([u, v]) / depth[:, None], np.nan)

    def _warp(
        self, image: ArrayLike, to_source: Floats, interp: str, fill_edges: bool
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        array = image_of(image)
        if interp not in ("linear", "nearest"):
            raise InputError(f"interp: {interp!r} is unknown; give 'linear' or 'nearest'")
        factors = np.array(array.shape[1::-1]) / np.array(self.im_shape[::-1])
        if abs(1.0 - factors[0] / factors[1]) > ASPECT_TOLERANCE:
            raise InputError(
                f"image: its shape is {array.shape[:2]}; give one with the aspect ratio of "
                f"{self.im_shape}"
            )
        # Matrix from pixels of this image to pixels of the original. The image edges coincide, half
        # a pixel before the first centre.
        enlarge = np.diag([*(1.0 / factors), 1.0])
        enlarge[:2, 2] = (1.0 / factors - 1.0) / 2.0
        matrix = np.linalg.inv(enlarge) @ to_source @ enlarge if np.any(factors != 1) else to_source
        planes = [array] if array.ndim == 2 else list(np.moveaxis(array, 2, 0))
        warped = [warp_plane(plane, matrix, interp == "linear", fill_edges) for plane in planes]
        valid = np.logical_and.reduce([mask for _, mask in warped])
        return (warped[0][0] if array.ndim == 2 else np.stack([w for w, _ in warped], 2)), valid

    def to_dict(self) -> dict[str, Any]:
        """Return the movement as numbers and text, for JSON.

        Returns
        -------
        dict
            ``method``, ``matrix``, ``shift_px``, ``shift_sigma_px`` (None without a covariance),
            ``rotation_deg``, ``scale`` and ``points``, the number of inlier pairs.

        Examples
        --------
        >>> from boresight.movement import MovementCorrection
        >>> moved = MovementCorrection([[1, 0, 3], [0, 1, -2]], (100, 200), [], [], "by hand")
        >>> moved.to_dict()["shift_px"]
        [3.0, -2.0]
        """
        sigma = self.shift_sigma
        return {
            "method": self.method,
            "matrix": self.matrix.tolist(),
            "shift_px": [float(shift) for shift in self.shift],
            "shift_sigma_px": None if sigma is None else [float(error) for error in sigma],
            "rotation_deg": float(self.rotation),
            "scale": float(self.scale),
            "points": int(np.count_nonzero(self.inliers)),
        }

    def _repr_html_(self) -> str:
        rows = ((name, str(value)) for name, value in self.to_dict().items() if name != "matrix")
        return html_table("MovementCorrection", rows, [self.src])

    def __repr__(self) -> str:
        (x, y), found = self.shift, "" if self.method is None else f"{self.method}: "
        sigma = self.shift_sigma
        error = "" if sigma is None else f" +- ({sigma[0]:.3f}, {sigma[1]:.3f})"
        return (
            f"<MovementCorrection: {found}shift ({x:.3f}, {y:.3f}){error} px, "
            f"rotation {self.rotation:.4f} deg, scale {self.scale:.5f}, "
            f"{int(self.inliers.sum())} of {len(self.inliers)} points>"
        )
