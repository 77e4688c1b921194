//! Solve a frame from its pixels: draw stars into an image, find them, and ask where the image looks.
//!
//!     cargo run --release --example solve

use boresight::database::Parameters;
use boresight::imaging::extract::{ExtractOptions, extract};
use boresight::imaging::image::Image;
use boresight::solve::{SolveOptions, solve};
use boresight::{Attitude, CameraModel, Catalog, Database, Error};

const SIZE: usize = 1024;
const FOV_DEG: f64 = 12.0;
/// Background and the peak of a star of magnitude 0, in counts.
const SKY: f64 = 200.0;
const PEAK: f64 = 2e6;
/// Width (sigma) of a star's image, px, and how far it is drawn.
const SIGMA_PX: f64 = 1.2;
const RADIUS_PX: i64 = 6;

fn main() -> Result<(), Error> {
    let camera = CameraModel::from_fov(FOV_DEG.to_radians(), [SIZE as u32; 2])?;
    let truth = Attitude::from_pointing(83.8_f64.to_radians(), -1.2_f64.to_radians(), 0.5);
    let catalog = Catalog::hipparcos();
    let pixels = draw(&catalog, &camera, &truth);

    // Once for a camera; a program keeps the bytes of `Database::as_bytes` in a file.
    let parameters = Parameters { max_fov: FOV_DEG.to_radians(), epoch: None, ..Parameters::default() };
    let database = Database::generate(&catalog, &parameters, &())?;
    println!("{} patterns of {} stars", database.num_patterns(), database.num_stars());

    // Once for a frame. Stars come brightest first, as the solver wants them.
    let found = extract(&Image::from_slice(&pixels, SIZE)?, &ExtractOptions::default())?.stars;
    let centroids: Vec<[f64; 2]> = found.iter().map(|star| star.position).collect();
    let options = SolveOptions {
        fov_estimate: Some(11.0_f64.to_radians()),
        ..SolveOptions::new(CameraModel::from_fov(1.0, [SIZE as u32; 2])?)
    };
    let outcome = solve(&database, &centroids, &options, &())?;
    let Some(solution) = outcome.solution else {
        println!("{} stars, not solved: {:?}", found.len(), outcome.status);
        return Ok(());
    };

    let (ra, dec, roll) = solution.matches.pointing();
    let [ra, dec, roll] = [ra, dec, roll].map(f64::to_degrees);
    println!("{} of {} stars matched", solution.matches.ids.len(), found.len());
    println!("RA {ra:.4}  Dec {dec:.4}  roll {roll:.3} degrees");
    println!("field of view {:.4} degrees", solution.matches.camera.fov().to_degrees());
    println!("false-alarm probability {:.0e}", solution.probability);
    let error_arcsec = solution.matches.attitude.angle_to(&truth).to_degrees() * 3600.0;
    println!("attitude differs from the truth by {error_arcsec:.2} arcsec");
    assert!(error_arcsec < 30.0, "the example does not find its own truth");
    Ok(())
}

/// An image of the catalogue's stars: Gaussians on a flat sky, with a little noise.
fn draw(catalog: &Catalog, camera: &CameraModel, attitude: &Attitude) -> Vec<u16> {
    let noise = |pixel: usize| 10.0 * ((pixel as f64 * 0.618_033_989).fract() - 0.5);
    let mut light: Vec<f64> = (0..SIZE * SIZE).map(|pixel| SKY + noise(pixel)).collect();
    let center = SIZE as f64 / 2.0;
    for (direction, magnitude) in catalog.directions_at(catalog.epoch).iter().zip(&catalog.magnitude) {
        let Some([x, y]) = camera.direction_to_pixel(&attitude.to_camera(direction)) else { continue };
        let [column, row] = [x + center, y + center];
        let peak = PEAK * 10_f64.powf(-0.4 * f64::from(*magnitude));
        let inside = |value: i64| usize::try_from(value).ok().filter(|&value| value < SIZE);
        for r in (row.round() as i64 - RADIUS_PX..=row.round() as i64 + RADIUS_PX).filter_map(inside) {
            for c in
                (column.round() as i64 - RADIUS_PX..=column.round() as i64 + RADIUS_PX).filter_map(inside)
            {
                let distance2 = (r as f64 - row).powi(2) + (c as f64 - column).powi(2);
                light[r * SIZE + c] += peak * (-distance2 / (2.0 * SIGMA_PX * SIGMA_PX)).exp();
            }
        }
    }
    light.into_iter().map(|value| value.min(f64::from(u16::MAX)) as u16).collect()
}

#[test]
fn the_example_finds_its_truth() {
    main().unwrap();
}
