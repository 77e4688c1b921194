"""Alignment of simulated images with known truth, beside tweakwcs where it is installed.

    python benchmarks/alignment.py [--only dither,capture,mosaic,large,overlap,joint] [--trials 100]

Errors are root mean square lengths over a grid of the detector, in pixels of 0.1 arcsec; "limit" is
the least-squares fit with the true matches. Times are CPU seconds of the whole process.
"""

import argparse
import resource
import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS, Sip
from numpy.typing import NDArray

from boresight import ImageCatalog, align
from boresight.alignment import overlap_matrix

Floats = NDArray[np.float64]

SCALE, SIZE, NOISE = 0.1 / 3600, 2048, 0.05
RA, DEC = 150.0, 30.0
GRID = np.stack(np.meshgrid(*[np.linspace(0, SIZE - 1, 12)] * 2), -1).reshape(-1, 2)


@dataclass
class Image:
    """Sources of an image, the WCS that is wrong, and the truth."""

    wrong: WCS
    true: WCS
    xy: Floats
    star: NDArray[np.int64]
    sigma: Floats

    def error_px(self, wcs: WCS) -> float:
        """Root mean square error of a WCS."""
        off = wcs.all_pix2world(GRID, 0) - self.true.all_pix2world(GRID, 0)
        off *= np.array([np.cos(np.radians(DEC)), 1.0]) / SCALE
        return float(np.sqrt((off**2).sum(axis=1).mean()))


def make_wcs(at: Floats, roll: float = 0.0, scale: float = 1.0, sip: bool = False) -> WCS:
    """Make a WCS that looks at a place in pixels from the middle of the sky."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"] if sip else ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix = [SIZE / 2 + 0.5] * 2
    wcs.wcs.crval = [RA + at[0] * SCALE / np.cos(np.radians(DEC)), DEC + at[1] * SCALE]
    c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    wcs.wcs.cd = SCALE * scale * np.array([[-c, s], [s, c]])
    wcs.pixel_shape = (SIZE, SIZE)
    if sip:
        a, b = np.zeros((4, 4)), np.zeros((4, 4))
        a[2, 0], a[1, 1], a[3, 0] = 2e-6, -1e-6, 6e-10
        b[0, 2], b[1, 1], b[0, 3] = 1e-6, 1.5e-6, 6e-10
        wcs.sip = Sip(a, b, None, None, wcs.wcs.crpix)
    wcs.wcs.set()
    return wcs


class Sky:
    """Stars, and images of them: a fifth is missing, a fifth of the sources is spurious."""

    def __init__(self, seed: int, stars: int, half: float) -> None:
        self.rng = np.random.default_rng(seed)
        count = int(stars * (2 * half / SIZE) ** 2)
        off = self.rng.uniform(-half, half, (2, count)) * SCALE
        self.stars = stars
        self.radec = np.column_stack([RA + off[0] / np.cos(np.radians(DEC)), DEC + off[1]])

    def image(
        self, at: Floats, shift: float, roll: float, *, exact: bool = False, **kind: Any
    ) -> Image:
        """Make an image whose WCS is wrong by up to a shift in pixels and a roll in degrees."""
        rng = self.rng
        true = make_wcs(at, **kind)
        near = np.flatnonzero(
            np.abs(make_wcs(at).all_world2pix(self.radec, 0) - SIZE / 2).max(axis=1) < SIZE / 2 + 99
        )
        xy = true.all_world2pix(self.radec[near], 0, quiet=True)
        seen = ((xy > 0) & (xy < SIZE - 1)).all(axis=1) & (rng.random(len(xy)) < 0.8)
        false = rng.uniform(0, SIZE - 1, (self.stars // 5, 2))
        star = np.concatenate([near[seen], np.full(len(false), -1)])
        sigma = NOISE * rng.uniform(0.5, 1.5, len(star))
        xy = np.concatenate([xy[seen], false]) + rng.normal(size=(len(star), 2)) * sigma[:, None]
        order = rng.permutation(len(xy))
        angle, length = rng.uniform(0, 2 * np.pi), shift * np.sqrt(rng.random())
        off = length * np.array([np.cos(angle), np.sin(angle)])
        wrong = make_wcs(at + off, rng.uniform(-roll, roll), 1 + rng.uniform(-1e-4, 1e-4), **kind)
        return Image(true if exact else wrong, true, xy[order], star[order], sigma[order])


def ours(images: list[Image], refcat: Floats | None, radius: float, **options: Any) -> Any:
    """Align with Boresight."""
    catalogs = [ImageCatalog(image.wrong, image.xy) for image in images]
    table = None if refcat is None else Table(refcat, names=["RA", "DEC"])
    kind = {"fitgeom": "rscale", "searchrad": radius, "expand_refcat": refcat is None} | options
    result = align(catalogs, table, **kind)
    claimed = [image.status != "failed" for image in result.images]
    return claimed, [catalog.wcs for catalog in catalogs], result


def tweakwcs(images: list[Image], refcat: Floats | None, radius: float, **_: Any) -> Any:
    """Align with tweakwcs: its defaults but for the search radius."""
    from tweakwcs import FITSWCSCorrector, XYXYMatch, align_wcs

    correctors = [
        FITSWCSCorrector(
            image.wrong.deepcopy(), meta={"catalog": Table(image.xy, names=["x", "y"])}
        )
        for image in images
    ]
    table = None if refcat is None else Table(refcat, names=["RA", "DEC"])
    align_wcs(correctors, table, expand_refcat=refcat is None, fitgeom="rscale",
              match=XYXYMatch(searchrad=radius, tolerance=1.0, separation=0.5))  # fmt: skip
    claimed = [c.meta["fit_info"]["status"] in ("SUCCESS", "REFERENCE") for c in correctors]
    return claimed, [c.wcs for c in correctors], None


def programs() -> dict[str, Any]:
    """Programs that are installed."""
    found = {"boresight": ours}
    try:
        import tweakwcs as _  # noqa: F401
    except ModuleNotFoundError:
        return found
    return found | {"tweakwcs": tweakwcs}


def limit(images: list[Image], radec: Floats, *, catalogue: bool) -> Floats:
    """Errors of the least-squares fit with the true matches."""
    from scipy import sparse

    flat = make_wcs(np.zeros(2))

    def design(p: Floats) -> Floats:
        x, y, o, z = p[:, 0] / 1e3, p[:, 1] / 1e3, np.ones(len(p)), np.zeros(len(p))
        return np.concatenate([np.column_stack([x, -y, o, z]), np.column_stack([y, x, z, o])])

    def plane(sky: Floats) -> Floats:
        return flat.all_world2pix(sky, 0) - SIZE / 2

    known = [image.star >= 0 for image in images]
    at = [plane(i.wrong.all_pix2world(i.xy[k], 0)) for i, k in zip(images, known, strict=True)]
    stars = [image.star[k] for image, k in zip(images, known, strict=True)]
    if catalogue:
        truth = plane(radec)
        fits = [
            np.linalg.lstsq(design(p), truth[s].T.ravel(), rcond=None)[0]
            for p, s in zip(at, stars, strict=True)
        ]
    else:
        blocks = [
            sparse.block_diag([design(p)[k * len(p) : (k + 1) * len(p)] for p in at])
            for k in (0, 1)
        ]
        rows, of = sparse.vstack(blocks), np.concatenate(stars)
        of = np.concatenate([of, of + len(radec)])
        mean = sparse.csr_matrix(
            (np.ones(len(of)), (of, np.arange(len(of)))), (2 * len(radec), len(of))
        )
        counts = np.maximum(np.asarray(mean.sum(axis=1)).ravel(), 1)
        left = (rows - mean.T @ (sparse.diags(1 / counts) @ (mean @ rows))).tocsc()
        first = np.array([1e3, 0, 0, 0])
        normal = (left[:, 4:].T @ left[:, 4:]).toarray()
        solved = np.linalg.solve(normal, -(left[:, 4:].T @ (left[:, :4] @ first)))
        fits = [first, *solved.reshape(-1, 4)]
    errors = []
    for image, fit in zip(images, fits, strict=True):
        found = (design(plane(image.wrong.all_pix2world(GRID, 0))) @ fit).reshape(2, -1).T
        errors.append(
            np.sqrt(((found - plane(image.true.all_pix2world(GRID, 0))) ** 2).sum(axis=1).mean())
        )
    return np.array(errors)


def run(
    name: str, images: list[Image], refcat: Floats | None, radius: float, skip: int, **options: Any
) -> str:
    """Align with a program; the numbers as a line."""
    start = time.process_time()
    try:
        claimed, solved, result = programs()[name](images, refcat, radius, **options)
    except Exception as error:  # a crash of a peer is a result too
        return f"{name:10s} {type(error).__name__}: {error}"
    spent = time.process_time() - start
    errors = np.array([i.error_px(w) for i, w in zip(images, solved, strict=True)])
    false = sum(c and e > 1 for c, e in zip(claimed, errors, strict=True))
    fit = "" if result is None or result.fit is None else f"  {result.fit}"
    return (
        f"{name:10s} median {np.median(errors[skip:]):.4f} px, largest {errors[skip:].max():.4f}, "
        f"claimed {sum(claimed)}/{len(images)}, false {false}, {spent:.2f} s{fit}"
    )


def dither(_: argparse.Namespace) -> None:
    """20 images of 2,000 sources, shifts to 50 px."""
    for sip in (False, True):
        for roll in (0.0, 0.1, 1.0):
            for catalogue in (True, False):
                sky = Sky(1, 2000, SIZE / 2 + 450)
                at = sky.rng.uniform(-300, 300, (20, 2))
                images = [
                    sky.image(p, 50, roll, sip=sip, exact=k == 0 and not catalogue)
                    for k, p in enumerate(at)
                ]
                skip = 0 if catalogue else 1
                best = np.median(limit(images, sky.radec, catalogue=catalogue)[skip:])
                mode = "catalogue" if catalogue else "each other"
                print(f"SIP {sip}, rolls to {roll} deg, to {mode}: limit {best:.4f} px")
                for name in programs():
                    print("  ", run(name, images, sky.radec if catalogue else None, 60, skip))


def capture(arguments: argparse.Namespace) -> None:
    """One image of 1,000 sources, any rotation, shifts to 1,000 px, scales to 5 %."""
    for shift, roll in ((20, 0.5), (20, 30), (1000, 0.0), (1000, 180)):
        for name in programs():
            good = false = 0
            spent = []
            for seed in range(
                arguments.trials if name == "boresight" else min(arguments.trials, 10)
            ):
                sky = Sky(seed, 1000, SIZE / 2 + shift + 300)
                image = sky.image(np.zeros(2), shift, roll)
                image.wrong.wcs.cd = image.wrong.wcs.cd * (1 + sky.rng.uniform(-0.05, 0.05))
                start = time.process_time()
                claimed, solved, _ = programs()[name]([image], sky.radec, shift + 10.0)
                spent.append(time.process_time() - start)
                error = image.error_px(solved[0])
                good += claimed[0] and error < NOISE
                false += claimed[0] and error > 1
            n = len(spent)
            print(f"shift {shift} px, rotation {roll} deg, scale 5 %: {name:10s} {good}/{n} good, "
                  f"{false} false, {1e3 * np.median(spent):.1f} ms")  # fmt: skip


def mosaic(_: argparse.Namespace) -> None:
    """5 x 4 images with an overlap of a fifth, the first one fixed."""
    step = 0.8 * SIZE
    at = [((i if j % 2 == 0 else 4 - i) - 2, j - 1.5) for j in range(4) for i in range(5)]
    for seed in range(3):
        sky = Sky(seed, 500, 3.2 * SIZE)
        images = [sky.image(step * np.array(p), 20, 0.02, exact=k == 0) for k, p in enumerate(at)]
        best = np.median(limit(images, sky.radec, catalogue=False)[1:])
        print(f"mosaic, sky {seed}: limit {best:.4f} px")
        print("   global   ", run("boresight", images, None, 40, 1, method="global"))
        for name in programs():
            print("   one by one", run(name, images, None, 40, 1))


def large(_: argparse.Namespace) -> None:
    """100 images of 20,000 sources to a catalogue."""
    sky = Sky(1, 20_000, SIZE / 2 + 450)
    images = [sky.image(p, 10, 0.0) for p in sky.rng.uniform(-300, 300, (100, 2))]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(run("boresight", images, sky.radec, 15, 0))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {after:.0f} MB, {before:.0f} MB before")
    if "tweakwcs" in programs():
        print(run("tweakwcs", images[:10], sky.radec, 15, 0), "(10 images)")


def overlap(_: argparse.Namespace) -> None:
    """Overlaps of 40 nearly identical footprints."""
    for dither_px in (0.0, 1e-6, 1e-3, 1.0, 100.0):
        steps = np.random.default_rng(1).uniform(-dither_px, dither_px, (40, 2))
        images = []
        for step in steps:
            wcs = make_wcs(np.zeros(2))
            wcs.wcs.crpix = wcs.wcs.crpix - step
            images.append(ImageCatalog(wcs, np.zeros((0, 2))))
        start = time.process_time()
        areas = overlap_matrix(images)
        spent = time.process_time() - start
        apart = np.abs(steps[:, None] - steps[None])
        wanted = (SIZE - apart).prod(axis=-1) * np.radians(SCALE) ** 2
        off = np.abs(areas / wanted - 1)[~np.eye(40, dtype=bool)].max()
        print(f"dither {dither_px} px: {1e6 * spent / 780:.1f} us a pair, largest error {off:.1e}")


def joint(_: argparse.Namespace) -> None:
    """Time the solver of the global fit alone, by the number of exposures."""
    from boresight import _core as core

    for exposures in (250, 500, 1000):
        rng = np.random.default_rng(1)
        objects = 200 * exposures
        middle = rng.uniform(0, exposures, objects).astype(int)
        seen = (middle[:, None] + rng.integers(0, 20, (objects, 10))) % exposures
        n = seen.size
        at = rng.uniform(-1000, 1000, (n, 2))
        truth = rng.normal(0, 0.2, (exposures, 2))
        truth[0] = 0.0
        exposure = seen.ravel().astype(np.uint32)
        noise = rng.normal(0, NOISE, (n, 2))
        device = {
            "terms": [], "detector": exposure[:0], "at": at[:0], "gradient": np.zeros((0, 4)),
            "own": [], "has_own_terms": [], "own_prior": 0.0,
        }  # fmt: skip
        jacobian = np.tile([1.0, 0.0, 0.0, 1.0], (n, 1))
        expected = at + truth[exposure] + noise
        detections = core.JointDetections(exposure, at, expected, jacobian)
        values = {
            "detections": detections, "weight": np.full(n, NOISE**-2.0),
            "starts": np.arange(0, n + 1, 10).astype(np.uint64), "priors": np.zeros(4 * objects),
            "frozen": [k == 0 for k in range(exposures)], "geometry": "general", "lever": 1000.0,
            "places": np.column_stack([np.arange(exposures), np.zeros(exposures)]).astype(float),
            "device": device, "motion": "still", "years": np.zeros(0), "colors": np.zeros(0),
            "parallax_factors": np.zeros((0, 2)), "covariances": True,
        }  # fmt: skip
        start, clock = time.process_time(), time.perf_counter()
        shifts = core.solve_joint(values, None)["shifts"]
        error = np.sqrt(((shifts - truth) ** 2).sum(axis=1).mean())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        spent, waited = time.process_time() - start, time.perf_counter() - clock
        print(
            f"{exposures} exposures, {n} detections: {spent:.1f} s of CPU, {waited:.1f} s, "
            f"error {error:.4f} px, peak {peak:.0f} MB"
        )


def survey(arguments: argparse.Namespace) -> None:
    """Fit a survey at once: pointings half a field apart, each of them in every band."""
    bands = arguments.bands
    pointings = max(arguments.exposures // bands, 1)
    wide = max(round(np.sqrt(pointings)), 1)
    steps = np.stack(np.divmod(np.arange(pointings), wide), -1) - wide / 2
    sky = Sky(1, 2000, (wide / 2 + 3) * SIZE / 2 + 200)
    at = np.repeat(steps * SIZE / 2, bands, axis=0)
    at += sky.rng.uniform(-100, 100, at.shape)
    images = [sky.image(p, 5, 0.02, exact=k == 0) for k, p in enumerate(at)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    clock = time.perf_counter()
    print(
        f"{len(images)} exposures, {bands} bands:",
        run("boresight", images, None, 10, 1, method="global", fitgeom=arguments.fitgeom),
    )
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"   {time.perf_counter() - clock:.1f} s by the clock, "
        f"peak memory {after:.0f} MB, {before:.0f} MB before"
    )


CASES = {f.__name__: f for f in (dither, capture, mosaic, large, overlap, joint, survey)}


def main() -> None:
    """Run the cases that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--exposures", type=int, default=1000)
    parser.add_argument("--bands", type=int, default=10)
    parser.add_argument("--fitgeom", default="rscale")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in arguments.only.split(","):
        CASES[name](arguments)


if __name__ == "__main__":
    main()
