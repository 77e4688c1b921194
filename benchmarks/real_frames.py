"""Solutions of real frames with default arguments, and the lens of one frame.

    python benchmarks/real_frames.py              # simulated frames of known distortion
    python benchmarks/real_frames.py FOLDER ...   # also every frame in these folders

Of each frame of a folder: whether it solves from its path, how many detections match, how many
matches are expected to be chance, the RMS of the residuals, and the time. The frames of one folder
are taken for one camera's, those that its calibration does not explain for another's, and so on:
matches that lie more than five sigmas from where that has their stars are counted as wrong.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np

import boresight

SHAPE = (1024, 1024)
#: Residuals beyond so many sigmas, and so many pixels, of a calibrated camera are of other stars.
WRONG_SIGMAS, WRONG_PX = 5.0, 1.0
#: A frame of which more than this share of the matches is wrong is another camera's.
MOST_WRONG = 0.05
SUFFIXES = {".fits", ".fit", ".fz", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


def timed(call):
    """Call, and tell the milliseconds of CPU and of the clock."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = call()
    return result, (time.process_time() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3


def rms(values):
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def residuals_px(solution):
    """Residuals of a solution in pixels."""
    return solution.residuals_arcsec / 3600 / solution.fov_deg * solution.image_shape[1]


def sky_error_arcsec(solution, camera, rotation):
    """Find the errors of the sky over a grid of the frame."""
    x, y = (g.ravel() for g in np.meshgrid(*[np.linspace(-n / 2, n / 2, 50) for n in SHAPE[::-1]]))
    truth = camera.pixel_to_direction(x, y) @ rotation
    found = solution.camera_model.pixel_to_direction(x, y)
    found = found @ solution.rotation_matrix_icrs_to_camera
    return np.degrees(np.linalg.norm(found - truth, axis=1)) * 3600


def lenses():
    """Cameras of 12 degrees: the optical axis in the middle, off it, off the chip; not round."""
    radial = boresight.RadialDistortion(-0.01, 0.001, scale=512.0)
    rng = np.random.default_rng(1)
    a, b = rng.uniform(-4.0, 4.0, (2, 10))
    a[:3] = b[:1] = 0.0
    polynomial = boresight.PolynomialDistortion(3, 512.0, a, b)
    yield "no distortion", boresight.CameraModel.from_fov(12.0, SHAPE)
    for name, center in (
        ("axis in the middle", (0, 0)),
        ("off it", (150, -90)),
        ("off the chip", (560, 560)),
    ):
        yield (
            name,
            boresight.CameraModel.from_fov(12.0, SHAPE, optical_center=center, distortion=radial),
        )
    yield "polynomial", boresight.CameraModel.from_fov(12.0, SHAPE, distortion=polynomial)


def simulated(frames):
    """Print the sky error of the lens of one frame: RMS and largest over the grid, arcsec."""
    print("lens                 lens='auto': RMS  max  worst RMS  max | coarse: RMS  max | ms")
    for name, camera in lenses():
        auto, coarse, times = [], [], []
        for seed in range(frames):
            ra, dec = 360.0 * seed / frames, 60.0 * np.sin(seed)
            frame = boresight.simulate_frame(camera, ra, dec, 40.0 * seed, seed=seed)
            stars = boresight.extract_centroids(frame.image)
            solution, cpu, _ = timed(lambda stars=stars: boresight.solve(stars))
            plain, before, _ = timed(lambda stars=stars: boresight.solve(stars, lens=None))
            for errors, solved in ((auto, solution), (coarse, plain)):
                error = sky_error_arcsec(solved, camera, frame.rotation_icrs_to_camera)
                errors.append((rms(error), error.max()))
            times.append(cpu - before)
        middle, worst = np.median(auto, axis=0), np.max(auto, axis=0)
        print(
            f"{name:20s} {middle[0]:12.2f} {middle[1]:6.2f} {worst[0]:8.2f} {worst[1]:6.2f} | "
            f"{np.median(coarse, axis=0)[0]:8.2f} {np.median(coarse, axis=0)[1]:8.2f} | "
            f"{np.median(times):.1f}"
        )


def of_folder(folder):
    """Print what comes of every frame of a folder, and of its matches by the calibrated camera."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    solutions = []
    print(
        f"{folder.name}\nframe                     matches  chance  RMS px  lens         "
        "ms CPU / wall"
    )
    for path in paths:
        try:
            solution, cpu, wall = timed(lambda path=path: boresight.solve(path))
        except boresight.BoresightError as error:
            print(f"{path.name[-24:]:26s}{error}")
            continue
        if solution is None:
            print(f"{path.name[-24:]:26s}not solved {cpu:40.0f} / {wall:.0f}")
            continue
        solutions.append(solution)
        distortion = solution.camera_model.distortion
        lens = "-" if distortion is None else type(distortion).__name__.removesuffix("Distortion")
        chance = np.sum(1.0 - solution.matched_stars.probability)
        print(
            f"{path.name[-24:]:26s}{solution.num_matches:7d}{chance:8.1f}"
            f"{rms(residuals_px(solution)):8.2f}  "
            f"{lens:12s}{cpu:6.0f} / {wall:.0f}"
        )
    wrong = total = cameras = 0
    while solutions:
        same, off, solutions = of_one_camera(solutions)
        wrong, total, cameras = wrong + off, total + same, cameras + 1
    print(
        f"by {cameras} calibrated cameras {wrong} of {total} matches are wrong "
        f"({100 * wrong / max(total, 1):.1f} %)"
    )


def of_one_camera(solutions):
    """Count the matches of the frames of one camera, and those that it says are wrong.

    Between sessions cameras are focused anew: frames that the calibration of all does not explain
    are given back, to be judged by one of their own.
    """
    try:
        result = boresight.calibrate_camera(solutions, model="auto", order="auto")
    except boresight.BoresightError as error:
        print(f"{len(solutions)} frames cannot be calibrated: {error}")
        return 0, 0, []
    # Of frames that the calibration leaves out no star is where it says.
    far = [np.full(one.num_matches, np.inf) for one in solutions]
    pairs = zip(result.frames, far, strict=True)
    lengths = [np.linalg.norm(part.residuals_px, axis=1) if part else none for part, none in pairs]
    middle = np.median([np.median(part) for part in lengths])
    limit = max(WRONG_SIGMAS * middle / 1.18, WRONG_PX)
    off = [int(np.sum(~(part < limit))) for part in lengths]
    own = [count <= MOST_WRONG * len(part) for count, part in zip(off, lengths, strict=True)]
    if all(own) or not any(own):
        return sum(map(len, lengths)), sum(off), []
    others = [one for one, ours in zip(solutions, own, strict=True) if not ours]
    solutions = [one for one, ours in zip(solutions, own, strict=True) if ours]
    same, wrong, rest = of_one_camera(solutions)
    return same, wrong, rest + others


def main():
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--frames", type=int, default=8, help="simulated frames of each lens, or 0")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.frames:
        simulated(arguments.frames)
    for folder in arguments.folders:
        of_folder(folder)


if __name__ == "__main__":
    main()
