"""Stars and near objects that pixels see."""

import numpy as np
import pytest

import boresight
from boresight import ApparentPlace, InputError, MatchedStars, Solution


def test_what_is_near_has_no_aberration():
    velocity = np.array([20.0, -15.0, 8.0])
    camera = boresight.CameraModel.from_fov(12.0, (512, 512))
    x, y = np.random.default_rng(1).uniform(-250, 250, (2, 30))
    place = ApparentPlace(velocity_km_s=tuple(velocity))
    seen = camera.pixel_to_direction(x, y)
    matches = MatchedStars(
        np.column_stack([x, y]), place.icrs(seen), camera_model=camera,
        quaternion=(1.0, 0.0, 0.0, 0.0), place=place,
    )  # fmt: skip
    solution = Solution.from_matches(matches)
    star, near = (np.radians(solution.pixel_to_world(x, y, source=s)) for s in ("star", "near"))
    there = [
        np.column_stack([np.cos(d) * np.cos(r), np.cos(d) * np.sin(r), np.sin(d)])
        for r, d in (star, near)
    ]
    # The attitude is that of ICRS: what is near is where it is seen.
    assert np.allclose(there[1], seen, atol=1e-14)
    # Aberration, exactly (Klioner 2003): the star seen from an observer that moves.
    beta = velocity / 299792.458
    gamma = 1 / np.sqrt(1 - beta @ beta)
    along = there[0] @ beta
    moved = there[0] / gamma + beta + (gamma / (1 + gamma)) * along[:, None] * beta
    moved /= (1 + along)[:, None]
    assert np.allclose(moved, seen, atol=1e-13)
    ra, dec = solution.pixel_to_world(np.array([1.0]), np.array([2.0]), source="near")
    assert solution.pixel_to_world(1.0, 2.0, source="near") == pytest.approx((ra[0], dec[0]))
    with pytest.raises(InputError, match="source"):
        solution.pixel_to_world(0.0, 0.0, source="meteor")
