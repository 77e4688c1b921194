"""Trials of alignment by the hundred: what chance makes of lists, and errors that are told.

    python benchmarks/alignment_trials.py [--only unrelated,small,reserved] [--trials 1000]

`unrelated` are lists without a star in common, `small` those of a few stars with any shift,
rotation and scale, `reserved` mosaics whose sources tell their errors.
"""

import argparse
import warnings

import numpy as np
from astropy.table import Table

from alignment import DEC, SCALE, SIZE, Sky, make_wcs
from boresight import ImageCatalog, align

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
        told = align(
            [image], table, searchrad=float(rng.choice([5, 50, 300])),
            fitgeom=str(rng.choice(["shift", "rshift", "rscale", "general"])),
        ).images[0]  # fmt: skip
        claimed += told.status != "failed"
        good += told.verdict == "good"
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
        told = align(
            [image], Table(sky, names=["RA", "DEC"]), searchrad=float(rng.choice([5, 50])),
            fitgeom="rscale",
        ).images[0]  # fmt: skip
        if told.status == "failed":
            continue
        off = image.wcs.all_pix2world(CORNERS, 0) - true.all_pix2world(CORNERS, 0)
        off *= np.array([np.cos(np.radians(DEC)), 1.0]) / SCALE
        false = np.sqrt((off**2).sum(axis=1).mean()) > 1.0
        claimed, good = claimed + 1, good + (told.verdict == "good")
        wrong, wrong_good = wrong + false, wrong_good + (false and told.verdict == "good")
    print(
        f"small lists: {claimed} of {trials} claimed, {good} good; "
        f"wrong by 1 px {wrong}, of these good {wrong_good}"
    )


def reserved(trials: int) -> None:
    """Fit mosaics of 5 x 4 images and compare the reserved objects with their errors."""
    at = [((i if j % 2 == 0 else 4 - i) - 2, j - 1.5) for j in range(4) for i in range(5)]
    found, freedom = [], []
    for seed in range(max(trials // 40, 1)):
        sky = Sky(seed, 500, 3.2 * SIZE)
        images = [
            sky.image(0.8 * SIZE * np.array(p), 20, 0.02, exact=k == 0) for k, p in enumerate(at)
        ]
        catalogs = []
        for image in images:
            x, y = image.xy.T
            sources = Table({"x": x, "y": y, "weight": image.sigma**-2.0})
            catalogs.append(ImageCatalog(image.wrong, sources))
        fit = align(catalogs, method="global", fitgeom="rscale", searchrad=40).fit
        assert fit is not None
        found.append(fit.reserved_chi2_dof)
        freedom.append(fit.reserved_dof)
    print(
        f"reserved objects of {len(found)} mosaics: median {np.median(found):.3f}, mean "
        f"{np.mean(found):.3f} +- {np.std(found) / np.sqrt(len(found)):.3f}, scatter "
        f"{np.std(found):.3f}, that of chi square {np.sqrt(2 / np.mean(freedom)):.3f}"
    )


CASES = {f.__name__: f for f in (unrelated, small, reserved)}


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
