"""Reads the position, scale and rotation of a frame from its header or EXIF."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from boresight._utils.arrays import east_north, unit_vector
from boresight._utils.celestial import sky_of_pixels
from boresight.frames.cards import card_number, number_of
from boresight.frames.exif import exif_number

if TYPE_CHECKING:
    from astropy.wcs import WCS

__all__ = ["HeaderHints"]

ARCSEC = math.radians(1.0) / 3600.0

#: Pairs of cards with a position, in order of preference.
POSITIONS = (("OBJCTRA", "OBJCTDEC"), ("RA", "DEC"), ("CENTRA", "CENTDEC"), ("RA_PNT", "DEC_PNT"),
             ("TELRA", "TELDEC"), ("RA_OBJ", "DEC_OBJ"), ("RA_TARG", "DEC_TARG"),
             ("OBJRA", "OBJDEC"))  # fmt: skip

#: Cards of the scale, in arcsec per pixel unless they name another unit.
SCALES = ("SCALE", "PIXSCALE", "PIXSCAL1", "PIXSCAL", "SECPIX", "SECPIX1")
SCALE_UNITS = {
    "arcsec": 1.0, "arcsecs": 1.0, "arcsec/pix": 1.0, "arcsec/pixel": 1.0, "arcsec/px": 1.0,
    "asec/pix": 1.0, "arcseconds": 1.0, "\"": 1.0, "\"/px": 1.0, "\"/pix": 1.0, "\"/pixel": 1.0,
    "mas": 1e-3, "mas/pix": 1e-3, "mas/pixel": 1e-3, "arcmin": 60.0, "arcmin/pix": 60.0,
    "arcmin/pixel": 60.0, "deg": 3600.0, "deg/pix": 3600.0, "deg/pixel": 3600.0, "degrees": 3600.0,
}  # fmt: skip

FOCAL_LENGTHS = ("FOCALLEN", "FOCAL", "FOCLEN", "TELFOCAL")
MILLIMETRES = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "millimeter": 1.0, "millimeters": 1.0,
               "millimetres": 1.0, "meter": 1000.0, "meters": 1000.0, "metres": 1000.0,
               "in": 25.4, "inch": 25.4, "inches": 25.4}  # fmt: skip
#: Cards of the pixel size: of binned pixels by convention (SBFITSEXT), and of sensor pixels.
BINNED_PIXEL_SIZES, SENSOR_PIXEL_SIZES = ("XPIXSZ",), ("PIXSIZE1", "PIXSIZE", "PIXSIZEX")
MICROMETRES = {"um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometers": 1.0,
               "micrometres": 1.0, "mm": 1000.0, "m": 1e6, "nm": 1e-3}  # fmt: skip
BINNINGS = ("XBINNING", "BINX", "CCDXBIN", "BINNING")

#: Smallest and largest possible scale of a camera, arcsec per pixel; other values are ignored.
SCALE_RANGE = (1e-3, 36000.0)
#: Relative difference between two sources of a number above which a note is made.
AGREEMENT = 0.1
#: Width of a 35 mm frame, in mm, to which EXIF's equivalent focal length refers.
WIDTH_35MM = 36.0

_SEXAGESIMAL = re.compile(
    r"([+-]?)\s*(\d+)\s*[:hd° ]\s*(\d+)\s*(?:[:m' ]\s*(\d+(?:[.,]\d*)?)\s*[s\"]?)?", re.IGNORECASE
)


@dataclass(frozen=True, eq=False)
class HeaderHints:
    """Position, scale and rotation of a frame, according to its header.

    Every value may be missing (None) or wrong: headers record the assumed pointing of the mount.

    Attributes
    ----------
    ra_deg, dec_deg : float or None
        Position in ICRS, degrees: of the image's centre if it comes from a WCS, else of the
        pointing or the object named by the cards.
    scale_arcsec : float or None
        Scale at the image's centre, arcsec per pixel.
    fov_deg : float or None
        Horizontal field of view in degrees, edge to edge, of a lens without distortion.
    roll_deg : float or None
        Angle at the image's centre from celestial north to the image's up (towards smaller rows),
        positive through east, from 0 to 360 degrees.
    parity_flip : bool or None
        True if the image shows the sky mirrored, east to the right of north.
    focal_length_mm, pixel_size_um : float or None
        Focal length, and side of a pixel of the image, binning included.
    pixel_ratio : float or None
        Height of a pixel over its width.
    wcs : astropy.wcs.WCS or None
        The header's WCS for 0-based pixels of the image; also None if IMAGEW and IMAGEH show that
        it was made for an image of another size.
    sources : mapping of str to str
        Cards from which the values were read, by the name of the attribute.
    notes : tuple of str
        Cards that cannot be read, and cards that disagree, one sentence each.

    Examples
    --------
    >>> from boresight.frames.hints import HeaderHints
    >>> header = {"FOCALLEN": 530.0, "XPIXSZ": 7.52, "OBJCTRA": "05 35 17", "OBJCTDEC": "-05 23 28"}
    >>> hints = HeaderHints.from_header(header, image_shape=(2080, 3096))
    >>> round(hints.scale_arcsec, 3), round(hints.fov_deg, 2)
    (2.927, 2.52)
    >>> round(hints.ra_deg, 3), round(hints.dec_deg, 3), hints.sources["ra_deg"]
    (83.821, -5.391, 'OBJCTRA')
    """

    ra_deg: float | None = None
    dec_deg: float | None = None
    scale_arcsec: float | None = None
    fov_deg: float | None = None
    roll_deg: float | None = None
    parity_flip: bool | None = None
    focal_length_mm: float | None = None
    pixel_size_um: float | None = None
    pixel_ratio: float | None = None
    wcs: WCS | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def from_header(
        cls, header: Mapping[str, Any], image_shape: tuple[int, int], *, wcs: WCS | None = None
    ) -> HeaderHints:
        """Read the hints of a header.

        Parameters
        ----------
        header : astropy.io.fits.Header or mapping
            The cards. Invalid cards raise no error.
        image_shape : (int, int)
            (height, width) in pixels.
        wcs : astropy.wcs.WCS, optional
            The celestial WCS of the header for 0-based pixels of the image, such as `Frame.wcs`. It
            takes precedence over all other cards.

        Returns
        -------
        HeaderHints
        """
        reader = _HeaderReader(header, image_shape)
        if wcs is not None and not reader.is_of_same_size():
            wcs = None
        if wcs is not None:
            reader.read_wcs(wcs)
        reader.read_positions()
        reader.read_scales()
        return reader.hints(wcs)

    @classmethod
    def from_exif(cls, exif: Mapping[str, Any], image_shape: tuple[int, int]) -> HeaderHints:
        """Read the field of view from EXIF: the focal length and the sensor's resolution.

        Parameters
        ----------
        exif : mapping of str to object
            Tags by their names, such as `Frame.exif`. Invalid tags raise no error.
        image_shape : (int, int)
            (height, width) in pixels.

        Returns
        -------
        HeaderHints
        """
        focal = exif_number(exif, "FocalLength")
        pixel = _exif_pixel_size(exif, image_shape[1])
        if focal is not None and pixel is not None:
            scale = math.atan(pixel / 1000.0 / focal) / ARCSEC
            return cls(
                scale_arcsec=scale,
                fov_deg=_field(scale, image_shape[1]),
                focal_length_mm=focal,
                pixel_size_um=pixel,
                sources={"scale_arcsec": "FocalLength, FocalPlaneXResolution"},
            )
        equivalent = exif_number(exif, "FocalLengthIn35mmFilm")
        if equivalent is None:
            return cls(focal_length_mm=focal)
        # The longer side of the picture corresponds to the 36 mm of the film.
        pitch = WIDTH_35MM / max(image_shape)
        scale = math.atan(pitch / equivalent) / ARCSEC
        return cls(
            scale_arcsec=scale,
            fov_deg=_field(scale, image_shape[1]),
            focal_length_mm=focal,
            sources={"scale_arcsec": "FocalLengthIn35mmFilm"},
        )


class _HeaderReader:
    """Collects the values of a header; the first source of a value takes precedence."""

    def __init__(self, header: Mapping[str, Any], image_shape: tuple[int, int]) -> None:
        self._header, self._shape = header, image_shape
        self._found: dict[str, Any] = {}
        self._sources: dict[str, str] = {}
        self._notes: list[str] = []

    def hints(self, wcs: WCS | None) -> HeaderHints:
        """Return all values that were found."""
        scale = self._found.get("scale_arcsec")
        if scale is not None:
            self._found["fov_deg"] = _field(scale, self._shape[1])
        notes = tuple(dict.fromkeys(self._notes))
        return HeaderHints(**self._found, wcs=wcs, sources=self._sources, notes=notes)

    def is_of_same_size(self) -> bool:
        """Whether the WCS was made for an image of this size, or does not state a size.

        An image of another size was cut or resampled later, and the reference pixel refers to the
        whole image. If the reference pixel lies in this image, it was updated with the cut.
        """
        height, width = self._shape
        sizes = [card_number(self._header, name) for name in ("IMAGEW", "IMAGEH")]
        stored = [card_number(self._header, f"NAXIS{axis}") for axis in (1, 2)]
        if None in sizes or sizes in ([width, height], stored):
            return True
        places = [card_number(self._header, f"CRPIX{axis}") for axis in (1, 2)]
        if all(p is None or 0 < p <= n for p, n in zip(places, (width, height), strict=True)):
            return True
        self._notes.append(
            f"the WCS was made for {sizes[0]:g} x {sizes[1]:g} pixels (IMAGEW, IMAGEH), and the "
            f"image has {width} x {height}, so it is not used"
        )
        return False

    def read_wcs(self, wcs: WCS) -> None:
        """Read the position, scale, rotation and parity at the image's centre from the WCS."""
        height, width = self._shape
        column, row = width / 2, height / 2
        around = sky_of_pixels(
            wcs,
            [column, column + 0.5, column - 0.5, column, column],
            [row, row, row, row - 0.5, row + 0.5],
        )
        if around is None:
            return
        ra, dec = around
        center, right, left, up, down = unit_vector(ra, dec)
        across, along = (2 * math.asin(np.linalg.norm(v) / 2) for v in (right - left, up - down))
        if not across * along > 0.0:
            return
        self._keep("ra_deg", float(ra[0]), "CRVAL")
        self._keep("dec_deg", float(dec[0]), "CRVAL")
        self._keep("scale_arcsec", math.sqrt(across * along) / ARCSEC, "WCS")
        self._keep("pixel_ratio", along / across, "WCS")
        east, north = east_north(down)
        roll = math.degrees(math.atan2(east.dot(up), north.dot(up)))
        self._keep("roll_deg", roll % 360.0, "WCS")
        self._keep("parity_flip", bool(np.cross(right - left, up - down).dot(center) > 0.0), "WCS")

    def read_positions(self) -> None:
        """Read the position from the first good pair of right ascension and declination cards."""
        for ra_name, dec_name in POSITIONS:
            if _is_empty(self._header.get(ra_name)) or _is_empty(self._header.get(dec_name)):
                continue
            ra, dec = self._right_ascension(ra_name), self._declination(dec_name)
            for name, value in ((ra_name, ra), (dec_name, dec)):
                if value is None:
                    self._unread(name)
            if ra is None or dec is None:
                continue
            icrs = self._to_icrs(ra, dec)
            if icrs is None:
                continue
            if "ra_deg" not in self._found:
                self._keep("ra_deg", icrs[0], ra_name)
                self._keep("dec_deg", icrs[1], dec_name)
            return

    def read_scales(self) -> None:
        """Read the scale from the linear WCS, from its own cards, and from focal and pixel size."""
        header = self._header
        linear = _linear_scale(header)
        if linear is not None:
            self._keep_scale(linear, "CD" if "CD1_1" in header else "CDELT")
        for name in SCALES:
            if (scale := self._number(name, SCALE_UNITS, "arcsec")) is not None:
                self._keep_scale(scale, name)
        focal, focal_name = self._first(FOCAL_LENGTHS, MILLIMETRES, "mm")
        pixel, pixel_name = self._pixel_size()
        if focal is not None:
            self._keep("focal_length_mm", focal, focal_name)
        if pixel is not None:
            self._keep("pixel_size_um", pixel, pixel_name)
        if focal is not None and pixel is not None:
            scale = math.atan(pixel / 1000.0 / focal) / ARCSEC
            self._keep_scale(scale, f"{focal_name}, {pixel_name}")
        sides = [self._number(name, MICROMETRES, "um") for name in ("XPIXSZ", "YPIXSZ")]
        if sides[0] is not None and sides[1] is not None:
            self._keep("pixel_ratio", sides[1] / sides[0], "YPIXSZ, XPIXSZ")

    def _pixel_size(self) -> tuple[float | None, str]:
        """Return the pixel size of the image, including binning, and its cards."""
        binning, binning_name = self._first(BINNINGS, {}, "")
        sensor, sensor_name = self._first(SENSOR_PIXEL_SIZES, MICROMETRES, "um")
        binned, binned_name = self._first(BINNED_PIXEL_SIZES, MICROMETRES, "um")
        factor = binning or 1.0
        if binned is not None:
            if sensor is not None and factor > 1 and math.isclose(binned, sensor, rel_tol=1e-3):
                # Some programs write the size of sensor pixels here, so that both cards have it.
                return sensor * factor, f"{sensor_name}, {binning_name}"
            if sensor is None and factor > 1:
                self._notes.append(
                    f"{binned_name} was taken as the size of binned pixels; where it is the "
                    f"sensor's, the scale is {factor:g} times as large"
                )
            return binned, binned_name
        if sensor is not None:
            return sensor * factor, f"{sensor_name}, {binning_name}".rstrip(", ")
        return None, ""

    def _keep(self, name: str, value: Any, source: str) -> None:
        if name not in self._found:
            self._found[name] = value
            self._sources[name] = source

    def _keep_scale(self, scale: float, source: str) -> None:
        if not SCALE_RANGE[0] <= scale <= SCALE_RANGE[1]:
            self._notes.append(
                f"{source} gives {scale:g} arcsec a pixel, which is not a possible scale"
            )
            return
        kept = self._found.get("scale_arcsec")
        if kept is not None and abs(scale - kept) > AGREEMENT * kept:
            self._notes.append(
                f"{source} gives {scale:.4g} arcsec a pixel, but {self._sources['scale_arcsec']} "
                f"{kept:.4g}"
            )
        self._keep("scale_arcsec", scale, source)

    def _first(
        self, names: tuple[str, ...], units: Mapping[str, float], unit: str
    ) -> tuple[float | None, str]:
        """Return the first positive number on these cards, and its card."""
        for name in names:
            if (number := self._number(name, units, unit)) is not None:
                return number, name
        return None, ""

    def _number(self, name: str, units: Mapping[str, float], unit: str) -> float | None:
        """Return the positive number of a card; zero means unknown."""
        if _is_empty(self._header.get(name)):
            return None
        number = card_number(self._header, name, units, unit)
        if number is None or number < 0:
            self._unread(name)
            return None
        return number or None

    def _unread(self, name: str) -> None:
        self._notes.append(f"{name} = {self._header.get(name)!r} cannot be read")

    def _right_ascension(self, name: str) -> float | None:
        """Return a right ascension in degrees: text of three numbers is hours, a number degrees."""
        value = self._header.get(name)
        units = {"deg": 1.0, "degrees": 1.0, "d": 1.0, "h": 15.0, "hr": 15.0, "hours": 15.0,
                 "hour": 15.0, "rad": math.degrees(1.0)}  # fmt: skip
        degrees = card_number(self._header, name, units, "deg")
        if degrees is None and isinstance(value, str):
            hours = _sexagesimal(value)
            in_degrees = hours is not None and (hours > 24 or "°" in value)
            degrees = None if hours is None else hours * (1.0 if in_degrees else 15.0)
        return degrees if degrees is not None and -180.0 <= degrees <= 360.0 else None

    def _declination(self, name: str) -> float | None:
        value = self._header.get(name)
        units = {"deg": 1.0, "degrees": 1.0, "d": 1.0, "rad": math.degrees(1.0)}
        degrees = card_number(self._header, name, units, "deg")
        if degrees is None and isinstance(value, str):
            degrees = _sexagesimal(value)
        return degrees if degrees is not None and abs(degrees) <= 90.0 else None

    def _to_icrs(self, ra: float, dec: float) -> tuple[float, float] | None:
        """Convert a position in the header's reference system and equinox to ICRS, degrees."""
        from astropy.coordinates import FK4, FK5, SkyCoord

        system = str(self._header.get("RADESYS", self._header.get("RADECSYS", ""))).strip().upper()
        equinox = None
        for name in ("EQUINOX", "OBJEQUIN", "EPOCH"):
            value = self._header.get(name)
            text = value.strip().upper().lstrip("JB") if isinstance(value, str) else value
            equinox = number_of(text)
            if equinox is not None and 1800 <= equinox <= 2200:
                break
            equinox = None
        if system == "FK4" or (not system and equinox is not None and equinox < 1984.0):
            frame: Any = FK4(equinox=f"B{equinox or 1950.0}")
        elif equinox in (None, 2000.0) or system == "ICRS":
            return ra % 360.0, dec  # FK5 of J2000 is within 0.1 arcsec
        else:
            frame = FK5(equinox=f"J{equinox}")
        try:
            sky = SkyCoord(ra, dec, unit="deg", frame=frame).icrs
            return float(sky.ra.deg), float(sky.dec.deg)
        except (ValueError, TypeError, ArithmeticError):
            return None


def _is_empty(value: Any) -> bool:
    return value is None or not str(value).strip() or type(value).__name__ == "Undefined"


def _sexagesimal(text: str) -> float | None:
    """Return the value of three numbers such as ``-05 23 28,1``; None for anything else."""
    match = _SEXAGESIMAL.fullmatch(text.strip())
    if match is None:
        return None
    minutes, seconds = int(match[3]), float((match[4] or "0").replace(",", "."))
    if minutes >= 60 or seconds >= 60:
        return None
    value = int(match[2]) + minutes / 60 + seconds / 3600
    return -value if match[1] == "-" else value


def _linear_scale(header: Mapping[str, Any]) -> float | None:
    """Return the scale by CD or CDELT, arcsec per pixel; None if it is missing or a unit step."""
    cd = [number_of(header.get(f"CD{i}_{j}", 0.0)) for i in (1, 2) for j in (1, 2)]
    if any(name in header for name in ("CD1_1", "CD1_2")) and None not in cd:
        a, b, c, d = (value or 0.0 for value in cd)
        degrees = math.sqrt(abs(a * d - b * c))
    else:
        steps = [number_of(header.get(f"CDELT{i}", 0.0)) or 0.0 for i in (1, 2)]
        degrees = math.sqrt(abs(steps[0] * steps[1]))
    # A step of 1 is the default of programs that do not know the scale.
    return None if degrees in (0.0, 1.0) or not math.isfinite(degrees) else degrees * 3600.0


def _field(scale_arcsec: float, width: int) -> float:
    """Return the field of view in degrees, edge to edge, of a gnomonic image."""
    return math.degrees(2.0 * math.atan(width / 2.0 * math.tan(scale_arcsec * ARCSEC)))


def _exif_pixel_size(exif: Mapping[str, Any], width: int) -> float | None:
    """Return the pixel size in µm of a picture, which may be smaller than the camera's image."""
    resolution = exif_number(exif, "FocalPlaneXResolution")
    unit = {2: 25400.0, 3: 10000.0, 4: 1000.0, 5: 1.0}.get(exif.get("FocalPlaneResolutionUnit", 2))
    if resolution is None or unit is None:
        return None
    taken = exif_number(exif, "ExifImageWidth") or width
    return unit / resolution * taken / width
