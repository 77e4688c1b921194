"""Joint fits of images by their pixels: accuracy against the Cramer-Rao bound, time and memory.

``python benchmarks/scene.py accuracy --snr mid --scenes 200``: two bands, three stars, one pixel
off, or turned by pi/32 (``--turn``); ``cold``: turned, and only whether it is found; ``minimum``:
chi2 above that of scipy on the true model; ``phase``: bias with the phase of the pixel;
``epochs``: errors of ten epochs that are tied; ``big --images 10 --size 512 --stars 100
--scenes 1``;
``attitudes``: the same of a camera; ``crowded``: one image of many stars; ``galaxy``: a star beside
a galaxy. All are drawn here by quadrature, apart from the package.
"""

import argparse
import json
import resource
import time

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from scipy.optimize import brentq

import boresight
from boresight import scene
from boresight.scene.fit import turned

SCALE, SKY, READ = 0.262, 100.0, 5.0
CENTRES = np.array([[12.0, 9.0], [3.0, -7.0], [-15.0, -3.0]])
BOX = (0, 150, 20, 135)
SNR = {"faint": (20, 30, 50), "mid": (50, 100, 200), "bright": (200, 350, 500)}


def rotation(phi):
    """Give the matrix of a rotation."""
    return np.array([[np.cos(phi), -np.sin(phi)], [np.sin(phi), np.cos(phi)]])


def header(crpix, turn=0.0):
    """Give the TAN header of the cutouts."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [329.2715, 13.6483]
    wcs.wcs.crpix = np.asarray(crpix) + 1
    wcs.wcs.cd = SCALE * np.diag([-1.0, 1.0]) @ rotation(turn) / 3600
    return wcs


def moffat(x0, y0, n, rd, xs, ys, order=5):
    """Draw a pixel-integrated Moffat of flux 1."""
    u, w = np.polynomial.legendre.leggauss(order)
    x, y = ((g[:, None] + u / 2).ravel() - c for g, c in ((xs, x0), (ys, y0)))
    f = (n - 1) / (np.pi * rd**2) * (1 + (y[:, None] ** 2 + x**2) / rd**2) ** -n
    shape = (len(ys), order, len(xs), order)
    return np.einsum("iajb,a,b->ij", f.reshape(shape), w / 2, w / 2, optimize=True)


def observe(rng, image):
    """Add noise; pixels and their true variance."""
    variance = image + SKY + READ**2
    return rng.poisson(image + SKY) + rng.normal(0, READ, image.shape) - SKY, variance


def pair(snr, seed, turn, bounded=True):
    """Make r and g of the same stars, and the bound of (crtan, phi) of g if it is wanted."""
    rng = np.random.default_rng([seed, 7])
    centres = CENTRES + rng.uniform(-0.15, 0.15, CENTRES.shape)
    grid = np.arange(150.0)
    truth = []
    for n, rd, factor in ((2.0, 1.0 / SCALE, 1.0), (2.2, 1.1 / SCALE, 0.8)):
        places = centres @ np.linalg.inv(SCALE * np.diag([-1.0, 1.0])).T + 74.5
        fluxes = []
        for (x, y), target in zip(places, SNR[snr], strict=True):
            p = moffat(x, y, n, rd, grid, grid)

            def excess(f, p=p, target=target, factor=factor):
                return f * np.sqrt((p**2 / (SKY + READ**2 + f * p)).sum()) - factor * target

            fluxes.append(brentq(excess, 1, 1e9))
        truth.append([*fluxes, n, rd])
    phi = -turn
    p = np.concatenate(
        [centres.ravel(), *truth, SCALE * np.array([-1.0, 1.0]), [phi] if turn else []]
    )
    clean = [light(p, k, turn) for k in (0, 1)]
    data = [observe(rng, image) for image in clean]
    return centres, data, p, bound(p, turn, [v for _, v in data]) if bounded else None


def light(p, k, turn):
    """Image k of the parameters: centres, (fluxes, n, rd) of r and g, crtan and phi of g."""
    centres, (*fluxes, n, rd) = p[:6].reshape(3, 2), p[6 + 5 * k : 11 + 5 * k]
    crpix, cd = np.full(2, 74.5 + k), SCALE * np.diag([-1.0, 1.0])
    if k:
        cd = cd @ rotation(turn) @ rotation(p[18] if len(p) > 18 else 0.0)
        centres = centres - p[16:18]
    grid = np.arange(150.0)
    places = centres @ np.linalg.inv(cd).T + crpix
    return sum(
        f * moffat(x, y, n, rd, grid, grid, 4) for f, (x, y) in zip(fluxes, places, strict=True)
    )


def bound(p, turn, variances):
    """Give the Cramer-Rao bound of the WCS of g, with all else marginalised."""
    box = np.s_[BOX[2] : BOX[3], BOX[0] : BOX[1]]
    columns = []
    for i in range(len(p)):
        step = np.zeros(len(p))
        step[i] = 1e-4 * max(abs(p[i]), 0.1)
        difference = [
            ((light(p + step, k, turn) - light(p - step, k, turn)) / np.sqrt(variances[k]))[box]
            for k in (0, 1)
        ]
        columns.append(np.concatenate([d.ravel() for d in difference]) / (2 * step[i]))
    jacobian = np.array(columns)
    size = np.linalg.norm(jacobian, axis=1)
    unit = jacobian / size[:, None]
    return (np.sqrt(np.diag(np.linalg.inv(unit @ unit.T))) / size)[16:]


def accuracy(a):
    """Compare errors with the bound."""
    turn = np.pi / 32 if a.turn else 0.0
    rows, lost, seconds = [], 0, []
    for seed in range(a.scenes):
        _, ((r, vr), (g, vg)), p, cr = pair(a.snr, seed, turn)
        images = [
            scene.Image(r, header((74.5, 74.5)), variance=vr, window=BOX),
            scene.Image(
                g, header((75.5, 75.5), turn), variance=vg, window=BOX,
                wcs_freedom="rshift" if a.turn else "shift",
            ),
        ]  # fmt: skip
        pixels = CENTRES @ np.linalg.inv(SCALE * np.diag([-1.0, 1.0])).T + 74.5
        start = SkyCoord(header((74.5, 74.5)).pixel_to_world(*pixels.T))
        before = time.process_time()
        found = scene.fit(images, start)
        seconds.append(time.process_time() - before)
        image = found.images[1]
        value, error = image.crtan_arcsec, image.crtan_error_arcsec
        if a.turn:
            value, error = np.append(value, image.phi_rad), np.append(error, image.phi_error_rad)
        off = value - p[16:]
        if (np.abs(off / cr) > 10).any() or found.status != "converged":
            lost += 1
        else:
            rows.append((off / cr, error / cr, off / error))
    z, reported, pulls = (np.array(column) for column in zip(*rows, strict=True))
    return {
        "rms_over_bound": np.sqrt((z**2).mean(axis=0)).round(3).tolist(),
        "sigma_over_bound": np.median(reported, axis=0).round(4).tolist(),
        "pull_rms": np.sqrt((pulls**2).mean(axis=0)).round(3).tolist(),
        "lost": lost,
        "cpu_s": float(np.median(seconds)),
    }


def big(a):
    """Fit many images of many shared stars, in several scenes."""
    rows = [big_scene(a, seed) for seed in range(a.scenes)]
    median = {name: float(np.median([row[name] for row in rows])) for name in rows[0]}
    squares = [name for name in rows[0] if name.endswith("rms")]
    return median | {n: float(np.sqrt(np.mean([row[n] ** 2 for row in rows]))) for n in squares}


def big_scene(a, seed):
    """Fit one of them; of the shifts of all images the pulls, and these made independent."""
    rng = np.random.default_rng([seed, 11])
    half, crpix = 25, np.full(2, (a.size - 1) / 2)
    places = rng.uniform(half + 3, a.size - half - 3, (a.stars, 2))
    wcs = header(crpix)
    stars = SkyCoord(wcs.pixel_to_world(*(places + rng.normal(0, 0.3, places.shape)).T))
    peaks, images, truth = 10 ** rng.uniform(1.0, 3.0, a.stars), [], []
    for k in range(a.images):
        n, rd, image = 2.0 + 0.05 * k, (1.0 + 0.02 * k) / SCALE, np.zeros((a.size, a.size))
        for (x, y), peak in zip(places, peaks, strict=True):
            xs, ys = (np.arange(round(v) - half, round(v) + half + 1.0) for v in (x, y))
            flux = peak * np.pi * rd**2 / (n - 1)
            image[int(ys[0]) : int(ys[-1]) + 1, int(xs[0]) : int(xs[-1]) + 1] += flux * moffat(
                x, y, n, rd, xs, ys, 4
            )
        data, variance = observe(rng, image)
        shift = rng.uniform(-1, 1, 2) * (k > 0)
        truth.append(SCALE * np.diag([-1.0, 1.0]) @ shift)
        images.append(
            scene.Image(
                data, header(crpix + shift), variance=variance, window=51,
                wcs_freedom="shift" if k else "fixed",
            )
        )  # fmt: skip
    before, wall = time.process_time(), time.perf_counter()
    found = scene.fit(images, stars)
    cpu, wall = time.process_time() - before, time.perf_counter() - wall
    off = np.array([i.crtan_arcsec for i in found.images[1:]]) - truth[1:]
    error = np.array([i.crtan_error_arcsec for i in found.images[1:]])
    # All shifts are from the first image, and have its noise in common.
    of_shifts = [k for k, name in enumerate(found.parameter_names) if "crtan" in name]
    root = np.linalg.cholesky(found.covariance[np.ix_(of_shifts, of_shifts)])
    return {
        "converged": found.status == "converged", "cpu_s": cpu, "wall_s": wall,
        "chi2_dof": found.chi2_dof, "error_px_rms": float(np.sqrt((off**2).mean()) / SCALE),
        "pull_rms": float(np.sqrt(((off / error) ** 2).mean())),
        "independent_pull_rms": float(np.sqrt((np.linalg.solve(root, off.ravel()) ** 2).mean())),
        "steps": len(found.history),
    }  # fmt: skip


def minimum(a):
    """Compare chi2 with the minimum of the true model, by scipy on the simulated profiles."""
    from scipy.optimize import least_squares

    rows = []
    for seed in range(a.scenes):
        _, ((r, vr), (g, vg)), p, _ = pair(a.snr, seed, 0.0, bounded=False)
        images = [
            scene.Image(r, header((74.5, 74.5)), variance=vr, window=BOX),
            scene.Image(g, header((75.5, 75.5)), variance=vg, window=BOX, wcs_freedom="shift"),
        ]
        pixels = CENTRES @ np.linalg.inv(SCALE * np.diag([-1.0, 1.0])).T + 74.5
        found = scene.fit(images, SkyCoord(header((74.5, 74.5)).pixel_to_world(*pixels.T)))
        box = np.s_[BOX[2] : BOX[3], BOX[0] : BOX[1]]

        def residuals(q, p=p, data=((r, vr), (g, vg)), box=box):
            parts = [
                ((light(q * size(p), k, 0.0) - d) / np.sqrt(v))[box].ravel()
                for k, (d, v) in enumerate(data)
            ]
            return np.concatenate(parts)

        best = least_squares(residuals, p / size(p), method="lm", x_scale="jac")
        own = sum((found.pull(k)[box] ** 2)[np.isfinite(found.pull(k)[box])].sum() for k in (0, 1))
        rows.append(own - 2 * best.cost)
    return {"chi2_above_minimum": np.round([np.median(rows), np.max(rows)], 3).tolist()}


def size(p):
    """Give the scales of the parameters of a pair."""
    return np.maximum(np.abs(p), 0.1)


def phase(a):
    """Measure the bias of positions with the phase of the pixel: ten dithers, tied."""
    result = {}
    grid = np.arange(64.0)
    for fwhm in (1.2, 1.5):
        n = 3.0
        rd = fwhm / (2 * np.sqrt(2 ** (1 / n) - 1))
        bias = []
        for seed in range(a.scenes):
            rng = np.random.default_rng([seed, 17])
            start = np.array([20.0, 30.0]) + rng.uniform(0, 1, 2)
            dithers = np.vstack([[0.0, 0.0], rng.uniform(-1, 1, (9, 2))])
            others = np.array([[45.0, 15.0], [12.0, 50.0], [50.0, 48.0], [32.0, 32.0]])
            others = np.vstack([start, others + rng.uniform(0, 1, others.shape)])
            images = []
            for step in dithers:
                clean = sum(
                    f * moffat(x, y, n, rd, grid, grid, 40)
                    for f, (x, y) in zip((1e6, 8e5, 9e5, 1.1e6, 7e5), others + step, strict=True)
                )
                images.append(
                    scene.Image(
                        clean, header(np.full(2, 31.5) + step),
                        variance=clean + SKY + READ**2, psf=scene.Moffat(n=2.5, rd=rd),
                    )
                )  # fmt: skip
            wcs = header(np.full(2, 31.5))
            found = scene.fit(images, SkyCoord(wcs.pixel_to_world(*(others + 0.05).T)))
            there = np.array(
                wcs.world_to_pixel(SkyCoord(found.sources["ra"], found.sources["dec"]))
            ).T
            bias.append(there - others)
        result[f"bias_px_fwhm_{fwhm}"] = float(np.abs(bias).max())
    return result


def epochs(a):
    """Compare the errors of one epoch with those of ten that are tied."""
    sigmas, pulls = [], []
    for seed in range(a.scenes):
        rng = np.random.default_rng([seed, 19])
        grid, n, rd = np.arange(64.0), 2.2, 3.0
        places = rng.uniform(14, 50, (3, 2))
        wcs = header(np.full(2, 31.5))
        images = []
        for _ in range(10):
            clean = sum(3e4 * moffat(x, y, n, rd, grid, grid, 4) for x, y in places)
            data, variance = observe(rng, clean)
            images.append(
                scene.Image(data, wcs, variance=variance, psf=scene.Moffat(n=2.0, rd=2.8))
            )
        start = SkyCoord(wcs.pixel_to_world(*(places + 0.1).T))
        one, ten = (scene.fit(some, start).sources for some in (images[:1], images))
        sigmas.append(np.sqrt(10) * ten["ra_error"] / one["ra_error"])
        there = np.array(wcs.world_to_pixel(SkyCoord(ten["ra"], ten["dec"]))).T
        pulls.append((there - places) / (np.array([ten["ra_error"], ten["dec_error"]]).T / SCALE))
    return {
        "sqrt10_sigma10_over_sigma1": np.round(
            [np.median(sigmas), np.min(sigmas), np.max(sigmas)], 4
        ).tolist(),
        "pull_rms": float(np.sqrt(np.mean(np.square(pulls)))),
    }


def cold(a):
    """Count cold fits of a header that is turned by pi/32 and shifted."""
    lost, converged, seconds = 0, 0, []
    for seed in range(a.scenes):
        rng = np.random.default_rng([seed, 23])
        turn = (np.pi / 32) * rng.choice([-1, 1])
        _, ((r, vr), (g, vg)), p, _ = pair(a.snr, seed, turn, bounded=False)
        images = [
            scene.Image(r, header((74.5, 74.5)), variance=vr, window=BOX),
            scene.Image(
                g, header((75.5, 75.5), turn), variance=vg, window=BOX, wcs_freedom="rshift"
            ),
        ]
        pixels = CENTRES @ np.linalg.inv(SCALE * np.diag([-1.0, 1.0])).T + 74.5
        before = time.process_time()
        found = scene.fit(images, SkyCoord(header((74.5, 74.5)).pixel_to_world(*pixels.T)))
        seconds.append(time.process_time() - before)
        image = found.images[1]
        off = np.append(image.crtan_arcsec, image.phi_rad) - p[16:]
        error = np.append(image.crtan_error_arcsec, image.phi_error_rad)
        lost += bool((np.abs(off / error) > 6).any())
        converged += found.status == "converged"
    return {
        "lost": lost,
        "converged": converged,
        "of": a.scenes,
        "cpu_s": float(np.median(seconds)),
    }


def attitudes(a):
    """Fit many images of many shared stars, taken by one camera, with attitudes free."""
    rng = np.random.default_rng([0, 29])
    camera = boresight.CameraModel.from_fov(
        4.0, (a.size, a.size), distortion=boresight.RadialDistortion(k1=-0.02, scale=a.size / 2)
    )
    pixels = rng.uniform(-a.size / 2 + 40, a.size / 2 - 40, (a.stars, 2))
    matched = boresight.MatchedStars(
        pixels, np.tile([0.0, 0.0, 1.0], (a.stars, 1)), camera, np.array([0.5, 0.5, -0.5, 0.5])
    )
    first = boresight.Solution.from_matches(matched)
    ra, dec = first.pixel_to_world(*pixels.T)
    fluxes, images, truth = 10 ** rng.uniform(3.5, 5, a.stars), [], []
    for k in range(a.images):
        true = turned(first, np.append(rng.uniform(-60, 60, 3) * (k > 0), 0.0))
        places = np.array(true.world_to_pixel(ra, dec)).T + a.size / 2
        image = np.zeros((a.size, a.size))
        for (x, y), flux in zip(places, fluxes, strict=True):
            xs, ys = (np.arange(round(v) - 20.0, round(v) + 21.0) for v in (x, y))
            box = np.s_[int(ys[0]) : int(ys[-1]) + 1, int(xs[0]) : int(xs[-1]) + 1]
            image[box] += flux * moffat(x, y, 3.0, 2.2, xs, ys, 3)
        data, variance = observe(rng, image)
        start = turned(true, np.append(rng.uniform(-5, 5, 3), 0.0)) if k else true
        freedom = "attitude" if k else "fixed"
        images.append(scene.Image(data, start, variance=variance, wcs_freedom=freedom))
        truth.append(places - a.size / 2)
    before, wall = time.process_time(), time.perf_counter()
    found = scene.fit(images, SkyCoord(ra, dec, unit="deg"))
    cpu, wall = time.process_time() - before, time.perf_counter() - wall
    off = [
        np.array(i.wcs.world_to_pixel(ra, dec)).T - places
        for i, places in zip(found.images[1:], truth[1:], strict=True)
    ]
    return {
        "status": found.status, "cpu_s": cpu, "wall_s": wall, "chi2_dof": found.chi2_dof,
        "rms_px": float(np.sqrt(np.mean(np.square(off)))), "steps": len(found.history),
    }  # fmt: skip


def crowded(a):
    """Fit one image of many stars."""
    rng = np.random.default_rng([0, 13])
    n, rd = 3.0, 2.2
    places = rng.uniform(12, a.size - 12, (a.stars, 2))
    wcs = header(np.full(2, (a.size - 1) / 2))
    fluxes, image = 10 ** rng.uniform(3.2, 4.7, a.stars), np.zeros((a.size, a.size))
    for (x, y), flux in zip(places, fluxes, strict=True):
        x0, x1, y0, y1 = (
            int(np.clip(round(v) + d, 0, a.size)) for v, d in ((x, -20), (x, 21), (y, -20), (y, 21))
        )
        grids = np.arange(x0, x1, dtype=float), np.arange(y0, y1, dtype=float)
        image[y0:y1, x0:x1] += flux * moffat(x, y, n, rd, *grids, 3)
    data, variance = observe(rng, image)
    stars = SkyCoord(wcs.pixel_to_world(*(places + rng.normal(0, 0.05, places.shape)).T))
    given = scene.Image(data, wcs, variance=variance, psf=scene.Moffat(n=2.8, rd=2.1))
    before, wall = time.process_time(), time.perf_counter()
    found = scene.fit(given, stars)
    cpu, wall = time.process_time() - before, time.perf_counter() - wall
    table = found.sources
    pixels = np.array(wcs.world_to_pixel(SkyCoord(table["ra"], table["dec"]))).T
    pulls = (pixels - places) / (np.array([table["ra_error"], table["dec_error"]]).T / SCALE)
    return {
        "status": found.status, "cpu_s": cpu, "wall_s": wall, "chi2_dof": found.chi2_dof,
        "pull_rms": float(np.sqrt((pulls**2).mean())),
        "pull_robust": float(np.median(np.abs(pulls)) / 0.6745), "steps": len(found.history),
    }  # fmt: skip


def sersic(center, radius, n, ratio, theta, flux, psf, side, over=8):
    """Draw a Sersic profile in a Moffat PSF (n, rd), `over` times finer than pixels."""
    from astropy.modeling.models import Sersic2D
    from scipy.signal import fftconvolve
    from scipy.special import gamma, gammaincinv

    b = gammaincinv(2 * n, 0.5)
    total = 2 * np.pi * n * radius**2 * ratio * np.exp(b) * b ** (-2 * n) * gamma(2 * n)
    x0, y0 = ((c + 0.5) * over - 0.5 for c in center)
    model = Sersic2D(1.0, radius * over, n, x0, y0, ellip=1 - ratio, theta=theta)
    y, x = np.mgrid[: side * over, : side * over].astype(float)
    light, steps = model(x, y), (np.arange(40) - 19.5) / 40
    # The cusp is finer still.
    for j in range(int(y0) - 1, int(y0) + 3):
        for i in range(int(x0) - 1, int(x0) + 3):
            light[j, i] = model(i + steps[None, :], j + steps[:, None]).mean()
    grid = np.arange(-30.0 * over, 30 * over + 1)
    kernel = moffat(0.0, 0.0, psf[0], psf[1] * over, grid, grid, 1)
    fine = fftconvolve(light, kernel, mode="same").reshape(side, over, side, over)
    return flux / total / over**2 * fine.sum(axis=(1, 3))


def galaxy(a):
    """Measure a star 5 px from a galaxy, with the galaxy in the model and without."""
    psf, side, grid = (2.6, 2.2), 81, np.arange(81.0)
    wcs, star, at = header((40.0, 40.0)), np.array([36.2, 43.4]), np.array([40.3, 40.8])
    result = {}
    for n in (1.0, 1.5, 4.0):
        clean = sersic(at, 5.0, n, 0.6, 0.5, 4e5, psf, side)
        clean += 3e4 * moffat(*star, *psf, grid, grid)
        pulls, seconds = {"with": [], "without": []}, []
        for seed in range(a.scenes):
            data, variance = observe(np.random.default_rng([seed, 31]), clean)
            image = scene.Image(
                data, wcs, variance=variance, psf=scene.Moffat(n=psf[0], rd=psf[1], free=())
            )
            ra, dec = wcs.pixel_to_world_values(*np.array([star + 0.1, at + 0.1]).T)
            point = scene.PointSource(ra[0], dec[0])
            blob = scene.SersicSource(ra[1], dec[1], radius_arcsec=1.0, n=2.0, axis_ratio=0.9)
            for name, sources in (("with", [point, blob]), ("without", [point])):
                before = time.process_time()
                found = scene.fit(image, sources)
                seconds.append(time.process_time() - before)
                table, flux = found.sources[0], found.images[0]
                there = wcs.world_to_pixel_values(table["ra"], table["dec"])
                sigma = np.array([table["ra_error"].value, table["dec_error"].value]) / SCALE
                pulls[name].append(
                    [*((there - star) / sigma), (flux.flux[0] - 3e4) / flux.flux_error[0]]
                )
        for name, rows in pulls.items():
            result[f"n{n:g}_{name}"] = np.sqrt(np.mean(np.square(rows), axis=0)).round(2).tolist()
        result[f"n{n:g}_cpu_s"] = float(np.median(seconds[::2]))
    return result


MEASUREMENTS = {
    "accuracy": accuracy, "cold": cold, "minimum": minimum, "phase": phase, "epochs": epochs,
    "big": big, "attitudes": attitudes, "crowded": crowded, "galaxy": galaxy,
}  # fmt: skip


if __name__ == "__main__":
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("what", choices=tuple(MEASUREMENTS))
    cli.add_argument("--snr", default="mid", choices=tuple(SNR))
    cli.add_argument("--turn", action="store_true")
    for name, default in {"scenes": 200, "images": 10, "size": 512, "stars": 100}.items():
        cli.add_argument(f"--{name}", type=int, default=default)
    arguments = cli.parse_args()
    result = MEASUREMENTS[arguments.what](arguments)
    result["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(result))
