"""Benchmark of movements: detectors with truth, unrelated images, warps, and the verdict.

    python benchmarks/movement.py [--pairs N] [--first K] [--only WHAT,WHAT]

WHAT is stars, scenes, unrelated, warp and verdict by default; "clouds" and "night" are run only if
they are named. Unrelated images and clouds begin with pair or sequence K, so that a long run can be
divided.

Errors are root mean square displacements over the frame, pixels; right is below 1, wrong is one
that was returned and is above 3. Scenes need scikit-image, which brings them, and OpenCV, which
warps them.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections import Counter

import numpy as np

from boresight import (
    CameraModel,
    Centroids,
    RadialDistortion,
    UndeterminedError,
    simulate_frame,
)
from boresight._utils.arrays import quaternion_of, rotation_about
from boresight.movement import (
    DetectionFailedError,
    MountedCamera,
    MovementCorrection,
    Watch,
    compare,
    detect_movement,
    place_at,
    update_calibration,
)
from boresight.movement.change import FrameStars, fit_change, predicted
from boresight.movement.verdict import KINDS, judge

SIZE = 1000
#: Names of scikit-image's scenes that its wheel brings.
SCENES = (
    "camera", "astronaut", "coffee", "brick", "grass", "gravel", "coins", "chelsea", "moon",
    "rocket", "clock", "hubble_deep_field", "immunohistochemistry", "retina",
)  # fmt: skip


def similarity(rng, shift, rotation, scale):
    """Draw a movement about the middle of the frame, (3, 3), moved to reference."""
    angle = np.radians(rng.uniform(-rotation, rotation))
    size = np.exp(rng.uniform(-1, 1) * np.log(scale))
    turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle, way = np.full(2, (SIZE - 1) / 2), rng.uniform(0, 2 * np.pi)
    far = shift * np.sqrt(rng.random()) * np.array([np.cos(way), np.sin(way)])
    return np.vstack([np.column_stack([turn, middle - turn @ middle + far]), [0, 0, 1]])


def stars(rng, truth, replaced=0.2):
    """Draw two frames of one sky; a part of the stars of the second are others."""
    count = int(50 * 10 ** rng.random() * 3.6)
    places = rng.uniform(-0.45 * SIZE, 1.45 * SIZE, (count, 2))
    peaks = np.minimum(60 * rng.random(count) ** (-1 / 1.2), 4e4)
    back = np.linalg.inv(truth)
    moved = places @ back[:2, :2].T + back[:2, 2]
    other = rng.random(count) < replaced
    moved[other] = rng.uniform(0, SIZE, (other.sum(), 2))
    return tuple(star_frame(rng, p, peaks) for p in (places, moved))


def star_frame(rng, places, peaks, sigma=0.85):
    """Draw stars at places into a frame with noise."""
    image = rng.normal(100, 10, (SIZE, SIZE))
    for (x, y), peak in zip(places, peaks, strict=True):
        i, j = round(x), round(y)
        if 6 <= i < SIZE - 6 and 6 <= j < SIZE - 6:
            across = np.exp(-0.5 * ((np.arange(i - 5, i + 6) - x) / sigma) ** 2)
            down = np.exp(-0.5 * ((np.arange(j - 5, j + 6) - y) / sigma) ** 2)
            image[j - 5 : j + 6, i - 5 : i + 6] += peak * down[:, None] * across
    return image.clip(0, 65535).astype(np.uint16)


def scenes():
    """Load pictures, 1400 pixels along the shorter side."""
    import cv2
    from skimage import data

    found = []
    for name in SCENES:
        image = getattr(data, name)()
        image = image[..., :3].mean(axis=2).astype(np.uint8) if image.ndim == 3 else image
        factor = 1400 / min(image.shape)
        found.append(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC))
    return found


def scene_pair(rng, picture, truth):
    """Cut two frames out of a picture: other exposure, noise, and a thing that moves by itself."""
    import cv2

    corner = (np.array(picture.shape[::-1]) - SIZE) // 2
    pair = []
    for number, matrix in enumerate((np.eye(3), truth)):
        matrix = matrix.copy()
        matrix[:2, 2] += corner
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        image = cv2.warpPerspective(picture.astype(np.float32), matrix, (SIZE, SIZE), flags=flags)
        if number:
            image = image * rng.uniform(0.8, 1.2) + rng.uniform(-20, 20)
        image = np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
        place = tuple(int(v) for v in rng.uniform(150, 850, 2))
        cv2.ellipse(image, place, (150, 90), 30, 0, 360, int(rng.integers(0, 255)), -1)
        pair.append(image)
    return pair


def error(found, truth):
    """Root mean square displacement over the frame."""
    y, x = np.mgrid[0:SIZE:111, 0:SIZE:111].astype(float)
    wanted = MovementCorrection(truth, (SIZE, SIZE), [], [], "").moved_to_ref_coords(x, y)
    miss = np.subtract(found.moved_to_ref_coords(x, y), wanted)
    return float(np.sqrt((miss**2).sum(axis=0).mean()))


def score(name, pairs):
    """Print how many of some pairs are right."""
    errors, methods, spent, count = [], Counter(), 0.0, 0
    for first, second, truth in pairs:
        start = time.process_time()
        try:
            found = detect_movement(first, second)
        except DetectionFailedError:
            found = None
        spent += time.process_time() - start
        count += 1
        if found is not None:
            methods[found.method] += 1
            errors.append(np.inf if truth is None else error(found, truth))
    got = np.array(errors)
    right = got[got < 1]
    middle = f"{np.median(right):.4f}" if right.size else "-"
    print(
        f"{name}: {right.size} right, {(got > 3).sum()} wrong, {count - got.size} refused "
        f"of {count}; median {middle} px, {1e3 * spent / count:.0f} ms CPU, {dict(methods)}",
        flush=True,
    )


STAR_CASES = {
    "stars, shift to 200": (200, 0, 1),
    "stars, any turn, scale to 1.25": (200, 180, 1.25),
}
SCENE_CASES = {"scenes, shift to 60": (60, 0, 1), "scenes, 10 deg, 5 %": (60, 10, 1.05)}


def detectors(count, first, only):
    """Run the detectors."""
    draw = np.random.default_rng
    if "stars" in only:
        for name, case in STAR_CASES.items():
            truths = [similarity(draw(k), *case) for k in range(count)]
            score(name, ((*stars(draw(k), truth), truth) for k, truth in enumerate(truths)))
    pictures = scenes() if {"scenes", "unrelated"} & only else []
    if "scenes" in only:
        for name, case in SCENE_CASES.items():
            truths = [similarity(draw(k), *case) for k in range(max(count, len(pictures)))]
            score(
                name,
                (
                    (*scene_pair(draw(k), pictures[k % len(pictures)], truth), truth)
                    for k, truth in enumerate(truths)
                ),
            )
    if "unrelated" in only:
        every = range(first, first + count)
        score("unrelated stars", (unrelated_stars(k) for k in every))
        score("unrelated scenes", (unrelated_scenes(k, pictures) for k in every))


def unrelated_stars(k):
    """Draw frames of two skies."""
    first, second = (stars(np.random.default_rng(seed), np.eye(3))[0] for seed in (k, 5000 + k))
    return first, second, None


def unrelated_scenes(k, pictures):
    """Cut frames out of two pictures."""
    rng, count = np.random.default_rng(k), len(pictures)
    other = (k + 1 + k // count % (count - 1)) % count
    first = scene_pair(rng, pictures[k % count], np.eye(3))[0]
    return first, scene_pair(rng, pictures[other], np.eye(3))[1], None


def warps():
    """Time the warp of a large image."""
    image = np.random.default_rng(0).random((4096, 4096), np.float32)
    moved = MovementCorrection([[1, 0.02, -3.3], [-0.02, 1, 4.4]], image.shape, [], [], "")
    times = []
    for _ in range(7):
        start = time.process_time()
        moved.warp_moved_to_ref(image)
        times.append(time.process_time() - start)
    print(f"warp 4096 x 4096 float32 linear: {1e3 * np.median(times):.1f} ms CPU", flush=True)


def verdicts(count):
    """Tell changes of each kind at five standard deviations, and unchanged frames."""
    camera = CameraModel.from_fov(
        60.0, (1000, 1400), projection="equidistant",
        distortion=RadialDistortion(-0.01, scale=700.0),
    )  # fmt: skip
    rng = np.random.default_rng(1)

    def seen(values, number=150, noise=0.05):
        pixels = rng.uniform(-1, 1, (number, 2)) * [690, 490]
        sky = camera.pixel_to_direction(*pixels.T)
        there = predicted(camera, sky, values) + rng.normal(0, noise, (number, 2))
        return FrameStars(sky, there, np.full(number, noise))

    def verdict(values):
        return judge(camera, fit_change(camera, [seen(values)]), np.zeros((8, 8)), 1e-3)

    alarms = sum(bool(verdict(np.zeros(8))["kinds"]) for _ in range(10 * count))
    print(f"unchanged frames: {alarms} alarms of {10 * count}", flush=True)
    usual = np.mean(
        [fit_change(camera, [seen(np.zeros(8))]).information for _ in range(30)], axis=0
    )
    cov = np.linalg.inv(usual)
    for kind, places in KINDS.items():
        rows, right, close = list(places), 0, 0
        root = np.linalg.cholesky(cov[np.ix_(rows, rows)])
        for _ in range(count):
            along, values = rng.normal(size=len(rows)), np.zeros(8)
            values[rows] = 5.0 * root @ (along / np.linalg.norm(along))
            found = verdict(values)
            if found["kinds"] == (kind,):
                right += 1
                sigma = np.sqrt(np.diag(found["covariance"]))[rows]
                close += bool((np.abs(found["values"] - values)[rows] < 2 * sigma).all())
        print(f"{kind} at 5 sigma: {right} right, {close} within 2 sigma, of {count}", flush=True)


def clouds(sequences, first, length=20):
    """Watch a camera under clouds, and update its calibration when it seems to have moved."""
    from boresight.cli.check import refusal

    camera = CameraModel.from_fov(12.0, (512, 512))
    frame = simulate_frame(camera, 83.8, -1.2, 30.0, seed=1)
    stars = np.column_stack([frame.stars.x, frame.stars.y])
    truth = MountedCamera(camera, quaternion_of(frame.rotation_icrs_to_camera))
    counts = Counter()
    for number in range(first, first + sequences):
        rng, watch = np.random.default_rng(number), Watch(truth)
        for _ in range(length):
            verdict = watch.look(cloudy(rng, stars))
            alone = verdict.alone or verdict
            counts["decided"] += alone.moved is not None or bool(alone.suspected)
            counts["suspected"] += bool(alone.kinds or alone.suspected)
            if alone.suspected:
                counts["compare"] += bool(compare(watch.calibration, alone.solutions[0]).moved)
            if verdict.moved:
                counts["compare"] += bool(alone.kinds)
                counts["moved"] += 1
                print(f"sequence {number}: {verdict}, {verdict.evidence}", flush=True)
                if refusal(verdict) is None:
                    with contextlib.suppress(UndeterminedError):
                        watch.calibration = update_calibration(watch.calibration, None, verdict)
        turn = watch.calibration.matrix @ truth.matrix.T
        far = np.degrees(np.arccos(min(1.0, (np.trace(turn) - 1) / 2))) * 3600
        counts["walks"] += bool(far > 60.0)
    print(
        f"clouds: {counts['walks']} walks beyond 60 arcsec, {counts['moved']} verdicts of movement "
        f"({counts['compare']} of compare), {counts['suspected']} frames suspected, "
        f"{counts['decided']} frames decided, of {sequences} sequences of {length}",
        flush=True,
    )


def cloudy(rng, stars, noise=0.1):
    """Draw the positions of a frame under clouds: some stars of a part, and edges of clouds."""
    middle, radius = rng.uniform(-256, 256, 2), rng.uniform(40, 300)
    faintest = rng.integers(3, 80)
    seen = stars[:faintest][np.hypot(*(stars[:faintest] - middle).T) < radius]
    seen = seen + rng.normal(0, noise, seen.shape)
    edges = rng.uniform(-256, 256, (rng.integers(5, 40), 2))
    mixed = np.concatenate([seen, edges])
    order = np.argsort(rng.normal(0, 10, len(mixed)) + np.arange(len(mixed)))
    return Centroids(*mixed[order].T, brightness=np.arange(len(mixed), 0, -1.0))


def nights():
    """Follow a camera fixed to the ground through nights of the years 2000 to 2040."""
    from astropy import units as u
    from astropy.coordinates import AltAz, EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    iers.conf.auto_download, iers.conf.auto_max_age = False, None
    iers.conf.iers_degraded_accuracy = "ignore"
    site = EarthLocation.from_geodetic(16.0, 48.0, 300.0)
    camera = CameraModel(180 / np.pi * 60, (7000, 7000), projection="equidistant")
    attitude = quaternion_of(rotation_about([0.2, 0.1, 0.3]))  # not far from the zenith
    mounted = MountedCamera(camera, attitude, None, site)
    rng = np.random.default_rng(1)
    sky = rng.normal(size=(2000, 3))
    sky /= np.linalg.norm(sky, axis=1)[:, None]
    stars = SkyCoord(*sky.T, representation_type="cartesian", frame="icrs")
    stars = SkyCoord(stars.spherical.lon, stars.spherical.lat)
    pressure = 1013.25 * np.exp(-300.0 / 8434.0) * u.hPa
    for year in (2000, 2010, 2020, 2030, 2040):
        found = []
        for when in Time(f"{year}-12-20T17:00:00") + np.arange(0, 13, 2) * u.hour:
            seen = AltAz(
                obstime=when, location=site, pressure=pressure, temperature=10 * u.deg_C,
                relative_humidity=0.5, obswl=0.6 * u.um,
            )  # fmt: skip
            place = stars.transform_to(seen)
            az, alt = place.az.rad, place.alt.rad
            high = alt > np.radians(15.0)
            east = np.column_stack(
                [np.sin(az) * np.cos(alt), np.cos(az) * np.cos(alt), np.sin(alt)]
            )
            pixels = np.column_stack(camera.direction_to_pixel(east[high] @ mounted.matrix.T))
            there = place_at(site, when).apparent(np.ascontiguousarray(sky[high]))
            change = fit_change(
                camera, [FrameStars(there @ mounted.attitude(when).T, pixels, None)]
            )
            found.append(change.values[:3] * 206265)
        wander = np.linalg.norm(found, axis=1)
        spread = np.linalg.norm(found - np.mean(found, axis=0), axis=1)
        print(
            f"night of {year}: off by {wander.max():.3f} arcsec, wanders {spread.max():.3f}",
            flush=True,
        )


def main():
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=28)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", default="stars,scenes,unrelated,warp,verdict")
    given = parser.parse_args()
    only = set(given.only.split(","))
    detectors(given.pairs, given.first, only)
    if "warp" in only:
        warps()
    if "verdict" in only:
        verdicts(given.pairs)
    if "clouds" in only:
        clouds(given.pairs, given.first)
    if "night" in only:
        nights()


if __name__ == "__main__":
    main()
