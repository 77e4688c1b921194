"""`boresight simulate`."""

from __future__ import annotations

from pathlib import Path

import click

from boresight.camera.model import CameraModel, Projection
from boresight.cli.options import PROJECTIONS, clear_errors, load_camera


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--ra", type=float, required=True, help="Right ascension of the centre in degrees.")
@click.option("--dec", type=float, required=True, help="Declination of the centre in degrees.")
@click.option("--roll", type=float, default=0.0, help="Position angle of up in degrees.")
@click.option(
    "--fov", type=float, default=12.0, show_default=True, help="Field of view in degrees."
)
@click.option(
    "--projection",
    type=click.Choice(PROJECTIONS),
    default="gnomonic",
    show_default=True,
    help="Projection of the lens.",
)
@click.option("--size", type=int, default=1024, show_default=True, help="Pixels per side.")
@click.option("--camera", type=click.Path(path_type=Path), help="Camera model, instead of --fov.")
@click.option(
    "--zero-point",
    type=float,
    default=20.0,
    show_default=True,
    help="Magnitude that gives one electron; 13 suits a camera of the whole sky.",
)
@click.option("--faint-limit", type=float, help="Make up stars down to this magnitude.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the noise.")
@clear_errors
def simulate(
    output: Path,
    ra: float,
    dec: float,
    roll: float,
    fov: float,
    projection: Projection,
    size: int,
    camera: Path | None,
    zero_point: float,
    faint_limit: float | None,
    seed: int,
) -> None:
    """Simulate a frame of the sky: a FITS file with its true WCS."""
    from boresight.simulate import simulate_frame

    model = load_camera(camera) or CameraModel.from_fov(fov, (size, size), projection=projection)
    frame = simulate_frame(
        model, ra, dec, roll, zero_point=zero_point, faint_limit=faint_limit, seed=seed
    )
    frame.write_fits(output)
    click.echo(f"{output}: {len(frame.stars)} stars")
