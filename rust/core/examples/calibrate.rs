//! Calibrate a camera from ten frames: stars with noise, false detections, a lens that nobody knows.
//!
//!     cargo run --release --example calibrate

use boresight::calibrate::{Model, Options, calibrate};
use boresight::database::Parameters;
use boresight::geometry::distortion::{Distortion, RadialDistortion};
use boresight::solve::{SolveOptions, solve_many};
use boresight::{Attitude, CameraModel, Catalog, Database, Error};

const SIZE: u32 = 2048;
const FOV_DEG: f64 = 12.0;
const FRAMES: usize = 10;
const STARS: usize = 200;
const NOISE_PX: f64 = 0.05;
/// One detection of so many is no star.
const FALSE_EVERY: usize = 10;

fn main() -> Result<(), Error> {
    let fov = FOV_DEG.to_radians();
    let parameters = Parameters { max_fov: fov, ..Parameters::default() };
    let database = Database::generate(&Catalog::hipparcos(), &parameters, &())?;
    let lens = RadialDistortion::new([-0.01, 0.002, 0.0, 0.0], [0.0; 2], f64::from(SIZE) / 2.0)?;
    let truth = CameraModel::from_fov(fov, [SIZE; 2])?.with_distortion(Distortion::Radial(lens));
    let frames: Vec<_> = (0..FRAMES).map(|index| observe(&database, &truth, index)).collect();

    // Solve all frames, on all cores; of the camera only the image size and about the field of view are known.
    let guess = CameraModel::from_fov(fov, [SIZE; 2])?;
    let options = SolveOptions { fov_estimate: Some(0.97 * fov), ..SolveOptions::new(guess) };
    let pixels: Vec<&[[f64; 2]]> = frames.iter().map(Vec::as_slice).collect();
    let outcomes = solve_many(&database, &pixels, &vec![options; FRAMES], &())?;
    let solved: Vec<_> = outcomes.into_iter().filter_map(|outcome| outcome.solution).collect();
    println!("{} of {FRAMES} frames solved", solved.len());

    // One camera for all of them.
    let matches: Vec<_> = solved.iter().map(|solution| &solution.matches).collect();
    let options = Options { model: Model::Polynomial { order: 5 }, ..Options::default() };
    let calibration = calibrate(&matches, None, &options, None, &())?;

    println!("{} stars used, {} left out", calibration.num_inliers, calibration.num_outliers);
    let before = calibration.rmse_before_px.unwrap_or(f64::NAN);
    println!("rmse {before:.3} -> {:.3} px", calibration.rmse_after_px);
    let error = largest_error(&calibration.camera, &truth);
    println!("largest error of the camera model {error:.3} px, noise of one star {NOISE_PX} px");
    assert!(error < 3.0 * NOISE_PX, "the example does not find its own truth");
    Ok(())
}

/// Detections of one frame, brightest first. Low-discrepancy numbers make it the same on every machine.
fn observe(database: &Database, camera: &CameraModel, index: usize) -> Vec<[f64; 2]> {
    let spread = |i: usize, base: f64| 2.0 * ((i + 1) as f64 * base).fract() - 1.0;
    let attitude = Attitude::from_pointing(
        3.0 * spread(index, 0.754_877_666),
        1.2 * spread(index, 0.569_840_291),
        3.0 * spread(index, 0.618_033_989),
    );
    let half = f64::from(SIZE) / 2.0;
    let seen = database.directions().iter().filter_map(|&star| {
        camera.direction_to_pixel(&attitude.to_camera(&star.into())).filter(|&pixel| camera.contains(pixel))
    });
    let detection = |(i, [x, y]): (usize, [f64; 2])| {
        let i = index * STARS + i;
        if i.is_multiple_of(FALSE_EVERY) {
            return [half * spread(i, 0.414_213_562), half * spread(i, 0.732_050_807)];
        }
        // The sum of two uniform numbers of variance 1/3 each.
        let noise = |a, b| NOISE_PX * (1.5_f64).sqrt() * (spread(i, a) + spread(i, b));
        [x + noise(0.414_213_562, 0.236_067_977), y + noise(0.732_050_807, 0.645_751_311)]
    };
    seen.take(STARS).enumerate().map(detection).collect()
}

/// Largest difference in pixels between two cameras over the image, apart from a rotation of the whole.
fn largest_error(found: &CameraModel, truth: &CameraModel) -> f64 {
    let half = f64::from(SIZE) / 2.0;
    let grid = || {
        (0..17 * 17).map(move |i| [f64::from(i % 17 - 8) / 8.0 * half, f64::from(i / 17 - 8) / 8.0 * half])
    };
    let seen: Vec<_> =
        grid().map(|pixel| (found.pixel_to_direction(pixel), truth.pixel_to_direction(pixel), 1.0)).collect();
    let turn = Attitude::from_pairs(seen.iter().map(|(found, truth, weight)| (truth, found, *weight)));
    let Some(turn) = turn else { return f64::INFINITY };
    let back = |(pixel, (_, truth, _)): ([f64; 2], &(_, _, f64))| {
        let [x, y] = found.direction_to_pixel(&turn.to_camera(truth)).unwrap_or([f64::INFINITY; 2]);
        (x - pixel[0]).hypot(y - pixel[1])
    };
    grid().zip(&seen).map(back).fold(0.0, f64::max)
}

#[test]
fn the_example_finds_its_truth() {
    main().unwrap();
}
