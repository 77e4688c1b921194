"""Trials of alignment by the hundred: what chance makes of lists, and reported errors.

    python benchmarks/alignment_trials.py [--only unrelated,small,reserved,...] [--trials 1000]

`unrelated` are lists without a star in common, `small` those of a few stars with any shift,
rotation and scale, `reserved` mosaics whose errors are known, `poisoned` mosaics one image
of which is spoilt, `sequence` dithers that are aligned to each other, beside the simultaneous fit
with the true matches, `priors` images of some years and a catalogue with correlated errors.
"""

import argparse
import warnings
from collections.abc import Callable
from itertools import combinations

import numpy as np
from astropy.table import Table
from astropy.time import Time
from numpy.typing import NDArray

from alignment import DEC, NOISE, RA, SCALE, SIZE, Floats, Image, Sky, limit, make_wcs, ours
from boresight import ImageCatalog, align
from boresight.alignment import ImageAlignment

FIELD = 1000.0
CORNERS = np.stack(np.meshgrid(*[np.linspace(0, FIELD, 8)] * 2), -1).reshape(-1, 2)


def unrelated(trials: int) -> None:
    """Align lists of 10 to 60 sources to catalogues that have none of them."""
    claimed = good = 0
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        wcs = make_wcs(np.zeros(2))
        sources = rng.uniform(0, FIELD, (int(rng.integers(10, 60)), 2))
        stars = rng.uniform(-FIELD / 2, 1.5 * FIELD, (int(rng.integers(30, 300)), 2))
        table = Table(wcs.all_pix2world(stars, 0), names=["RA", "DEC"])
        image = ImageCatalog(wcs, sources, image_shape=(int(FIELD), int(FIELD)))
        aligned = align(
            [image], table, searchrad=float(rng.choice([5, 50, 300])),
            fitgeom=str(rng.choice(["shift", "rshift", "rscale", "general"])),
        ).images[0]  # fmt: skip
        claimed += aligned.status != "failed"
        good += aligned.verdict == "good"
    print(f"unrelated lists: {claimed} of {trials} claimed, {good} good")


def small(trials: int) -> None:
    """Align 8 to 100 stars in the field and more around it, a fifth of them spurious."""
    claimed = good = wrong = wrong_good = 0
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(8, 100))
        roll = float(rng.choice([0, 0.1, 1, 30, 180])) * rng.uniform(-1, 1)
        shift = rng.uniform(-1, 1, 2) * float(rng.choice([3, 40, 400]))
        wcs, true = make_wcs(np.zeros(2)), make_wcs(shift, roll, 1 + rng.uniform(-0.05, 0.05))
        sky = wcs.all_pix2world(rng.uniform(-FIELD / 2, 1.5 * FIELD, (4 * count, 2)), 0)
        xy = true.all_world2pix(sky, 0)
        xy = xy[((xy > 0) & (xy < FIELD)).all(axis=1) & (rng.random(len(xy)) < 0.8)]
        xy = np.concatenate([xy, rng.uniform(0, FIELD, (count // 5, 2))])
        xy += rng.normal(0, 0.05, xy.shape)
        image = ImageCatalog(wcs, xy, image_shape=(int(FIELD), int(FIELD)))
        aligned = align(
            [image], Table(sky, names=["RA", "DEC"]), searchrad=float(rng.choice([5, 50])),
            fitgeom="rscale",
        ).images[0]  # fmt: skip
        if aligned.status == "failed":
            continue
        off = image.wcs.all_pix2world(CORNERS, 0) - true.all_pix2world(CORNERS, 0)
        off *= np.array([np.cos(np.radians(DEC)), 1.0]) / SCALE
        false = np.sqrt((off**2).sum(axis=1).mean()) > 1.0
        claimed, good = claimed + 1, good + (aligned.verdict == "good")
        wrong, wrong_good = wrong + false, wrong_good + (false and aligned.verdict == "good")
    print(
        f"small lists: {claimed} of {trials} claimed, {good} good; "
        f"wrong by 1 px {wrong}, of these good {wrong_good}"
    )


PLACES = [((i if j % 2 == 0 else 4 - i) - 2, j - 1.5) for j in range(4) for i in range(5)]
"""Places of a mosaic of 5 x 4 images, in serpentine order."""


def reserved(trials: int) -> None:
    """Fit mosaics of 5 x 4 images and compare reserved objects and positions with their errors."""
    found, freedom = [], []
    pulls: list[list[Floats]] = [[], [], []]
    for seed in range(max(trials // 40, 1)):
        sky = Sky(seed, 500, 3.2 * SIZE)
        images = [
            sky.image(0.8 * SIZE * np.array(p), 20, 0.02, exact=k == 0)
            for k, p in enumerate(PLACES)
        ]
        catalogs = []
        for image in images:
            x, y = image.xy.T
            sources = Table({"x": x, "y": y, "weight": image.sigma**-2.0})
            catalogs.append(ImageCatalog(image.wrong, sources))
        result = align(catalogs, method="global", fitgeom="rscale", searchrad=40)
        assert result.fit is not None
        found.append(result.fit.reserved_chi2_dof)
        freedom.append(result.fit.reserved_dof)
        for image, catalog, aligned in zip(
            images[1:], catalogs[1:], result.images[1:], strict=True
        ):
            of = np.asarray(aligned.matched["source"])[np.asarray(aligned.matched["fitted"])]
            of = of[image.star[of] >= 0]
            for k, part in enumerate(np.array_split(of[np.argsort(image.sigma[of])], 3)):
                pulls[k].append(position_pulls(image, catalog, aligned, sky.radec, part))
    print(
        f"reserved objects of {len(found)} mosaics: median {np.median(found):.3f}, mean "
        f"{np.mean(found):.3f} +- {np.std(found) / np.sqrt(len(found)):.3f}, scatter "
        f"{np.std(found):.3f}, that of chi square {np.sqrt(2 / np.mean(freedom)):.3f}"
    )
    spreads = [np.sqrt((np.concatenate(part) ** 2).mean()) for part in pulls]
    print(
        "pulls of corrected positions, of thirds of the sources from the brightest: "
        + ", ".join(f"{spread:.3f}" for spread in spreads)
    )


def position_pulls(
    image: Image,
    catalog: ImageCatalog,
    aligned: ImageAlignment,
    radec: Floats,
    of: NDArray[np.int64],
) -> Floats:
    """Errors of corrected positions over what those of the source and of the map are."""
    off = catalog.wcs.all_pix2world(image.xy[of], 0) - radec[image.star[of]]
    off *= np.array([np.cos(np.radians(DEC)), 1.0]) / SCALE
    u = catalog.mapping.to_plane(image.xy[of]) - aligned.center
    covariance = aligned.covariance
    variance = np.zeros(off.shape)
    for axis, rows in enumerate(([0, 2, 3], [1, 4, 5])):
        design = np.column_stack([np.ones(len(of)), u])
        part = covariance[np.ix_(rows, rows)]
        variance[:, axis] = np.einsum("ni,ij,nj->n", design, part, design)
    # Axes of the detector and of the sky are parallel here.
    return np.asarray(off / np.sqrt(image.sigma[of, None] ** 2 + variance))


POISONS: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "random": lambda xy, rng: rng.uniform(0, SIZE - 1, xy.shape),
    "noisy": lambda xy, rng: xy + rng.normal(0, 0.8, xy.shape),
    "replaced": lambda xy, rng: np.where(
        rng.random((len(xy), 1)) < 0.8, rng.uniform(0, SIZE - 1, xy.shape), xy
    ),
    "bent": lambda xy, rng: (
        xy + np.column_stack([4e-5 * (xy[:, 1] - SIZE / 2) ** 2, np.zeros(len(xy))])
    ),
}
"""Ways to spoil an image: without a star, with large errors, with few stars, bent."""


def poisoned(trials: int) -> None:
    """Fit mosaics of six images, one of them spoilt."""
    good = wrong = others = 0
    for seed in range(trials):
        sky = Sky(seed, 300, 2.2 * SIZE)
        at = [(0.8 * SIZE * np.array([k % 3 - 1, k // 3 - 0.5])) for k in (0, 1, 2, 5, 4, 3)]
        images = [sky.image(p, 20, 0.02, exact=k == 0) for k, p in enumerate(at)]
        bad = int(sky.rng.integers(1, 6))
        poison = POISONS[sorted(POISONS)[seed % len(POISONS)]]
        catalogs = [ImageCatalog(image.wrong, image.xy) for image in images]
        catalogs[bad] = ImageCatalog(images[bad].wrong, poison(images[bad].xy, sky.rng))
        aligned = align(catalogs, method="global", fitgeom="rscale", searchrad=40).images
        good += aligned[bad].verdict == "good"
        for k in set(range(6)) - {0, bad}:
            fine = aligned[k].verdict == "good"
            others += fine
            wrong += fine and images[k].error_px(catalogs[k].wcs) > 1.0
    print(
        f"{trials} mosaics with a spoilt image: {good} of them good; of the others {others} of "
        f"{4 * trials} good, {wrong} of these wrong by 1 px"
    )


def sequence(trials: int) -> None:
    """Align 20 dithered images to each other, and to a catalogue."""
    ratios: dict[str, list[float]] = {}
    for seed in range(max(trials // 40, 1)):
        for catalogue in (True, False):
            sky = Sky(seed, 2000, SIZE / 2 + 450)
            at = sky.rng.uniform(-300, 300, (20, 2))
            images = [
                sky.image(p, 50, 1.0, exact=k == 0 and not catalogue) for k, p in enumerate(at)
            ]
            skip = 0 if catalogue else 1
            best = np.median(limit(images, sky.radec, catalogue=catalogue)[skip:])
            for method in ("sequential", "global"):
                refcat = sky.radec if catalogue else None
                _, solved, _ = ours(images, refcat, 60, method=method)
                off = [i.error_px(w) for i, w in zip(images, solved, strict=True)][skip:]
                key = f"{method}, to {'a catalogue' if catalogue else 'each other'}"
                ratios.setdefault(key, []).append(float(np.median(off) / best))
    for key, found in ratios.items():
        print(
            f"{key}: {np.median(found):.2f} times the limit, {min(found):.2f} to {max(found):.2f} "
            f"of {len(found)} skies"
        )


MAS = np.array([np.cos(np.radians(DEC)), 1.0]) * 3.6e6
"""Milliarcseconds east and north in a degree of right ascension and declination."""


def correlated(rng: np.random.Generator) -> tuple[Floats, Floats, Table]:
    """Make stars, their proper motions, and a catalogue of 2010 with correlated errors of both."""
    errors = {"ra": 3.0, "dec": 2.0, "pmra": 1.5, "pmdec": 1.0}
    sky = np.array([RA, DEC]) + rng.uniform(-0.45, 0.45, (400, 2)) * SIZE * SCALE * 3.6e6 / MAS
    motion = rng.normal(0.0, 20.0, sky.shape)
    root = rng.normal(size=(len(sky), 4, 5)) + 1.5 * rng.normal(size=(len(sky), 4, 1))
    covariance = root @ root.transpose(0, 2, 1)
    unit = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    correlation = covariance / unit[:, :, None] / unit[:, None, :]
    root = np.linalg.cholesky(correlation)
    off = (root @ rng.normal(size=(len(sky), 4, 1)))[:, :, 0] * np.array(list(errors.values()))
    table = Table(sky + off[:, :2] / MAS, names=["RA", "DEC"])
    table["id"], table["ref_epoch"] = np.arange(len(sky)), 2010.0
    table["pmra"], table["pmdec"] = (motion + off[:, 2:]).T
    for name, error in errors.items():
        table[f"{name}_error"] = error
    for (i, a), (j, b) in combinations(enumerate(errors), 2):
        table[f"{a}_{b}_corr"] = correlation[:, i, j]
    return sky, motion, table


def priors(trials: int) -> None:
    """Fit ten images of five years to a catalogue with and without the correlations of errors."""
    pulls: list[Floats] = []
    squares: tuple[list[float], ...] = [], []
    errors: tuple[list[float], ...] = [], []
    for seed in range(max(trials // 40, 1)):
        rng = np.random.default_rng(seed)
        sky, motion, table = correlated(rng)
        alone = table[[name for name in table.colnames if not name.endswith("_corr")]]
        times = Time(2016.0 + np.linspace(0.0, 5.0, 10), format="jyear", scale="tdb")
        exposures = []
        for time in times:
            at, off = rng.uniform(-50, 50, 2), rng.uniform(-5, 5, 2)
            true, wrong = make_wcs(at), make_wcs(at + off, rng.uniform(-0.01, 0.01))
            xy = true.all_world2pix(sky + motion * (time.jyear - 2010.0) / MAS, 0)
            xy += rng.normal(0.0, NOISE, xy.shape)
            exposures.append(Image(wrong, true, xy, np.arange(len(xy)), np.full(len(xy), NOISE)))
        for k, given in enumerate((table, alone)):
            catalogs = []
            for image, time in zip(exposures, times, strict=True):
                sources = Table(image.xy, names=["x", "y"])
                sources["weight"] = image.sigma**-2.0
                catalogs.append(ImageCatalog(image.wrong, sources, time=time))
            fit = align(
                catalogs, given, method="global", motion="proper", fitgeom="rscale", searchrad=10,
                sigma=5.0, reserve=0.0,
            ).fit  # fmt: skip
            assert fit is not None
            assert fit.objects is not None
            found = fit.objects[fit.objects["id"] < len(sky)]
            both = [
                [found[name + end].value for name in ("pmra", "pmdec")] for end in ("", "_error")
            ]
            off = both[0] - motion[found["id"]].T
            squares[k].append(float((off**2).mean()))
            errors[k].extend(i.error_px(c.wcs) for i, c in zip(exposures, catalogs, strict=True))
            pulls += [off / both[1]] * (1 - k)
    rms, px = np.sqrt([np.mean(s) for s in squares]), [np.median(e) for e in errors]
    pull = np.sqrt(np.mean([(p**2).mean() for p in pulls]))
    print(
        f"proper motions of {len(pulls)} skies, with correlations and without: off by {rms[0]:.3f} "
        f"and {rms[1]:.3f} mas a year, maps by {px[0]:.5f} and {px[1]:.5f} px; pulls {pull:.3f}"
    )


CASES = {f.__name__: f for f in (unrelated, small, reserved, poisoned, sequence, priors)}


def main() -> None:
    """Run the cases that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--trials", type=int, default=1000)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in arguments.only.split(","):
        CASES[name](arguments.trials)


if __name__ == "__main__":
    main()
