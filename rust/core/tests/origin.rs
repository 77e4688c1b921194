//! One origin of pixels: what extraction measures is where the camera model has the star.

use boresight::CameraModel;
use boresight::geometry::sphere::Direction;
use boresight::imaging::extract::{ExtractOptions, extract};
use boresight::imaging::image::Image;

/// An image with one star where the camera sees a direction, on a background with a little structure.
fn draw(camera: &CameraModel, direction: &Direction) -> Vec<f32> {
    let [width, height] = camera.image_size().map(|n| n as usize);
    let [x, y] = camera.direction_to_pixel(direction).unwrap();
    let [column, row] = [x + width as f64 / 2.0, y + height as f64 / 2.0];
    let pixel = |k: usize| {
        let [dx, dy] = [(k % width) as f64 - column, (k / width) as f64 - row];
        let noise = (k as f64 * 0.618_033_988_75).fract();
        (100.0 + noise + 5000.0 * (-(dx * dx + dy * dy) / 4.0).exp()) as f32
    };
    (0..width * height).map(pixel).collect()
}

#[test]
fn a_star_is_extracted_at_the_pixel_of_its_direction() {
    for size in [[128, 96], [101, 97], [64, 127]] {
        let camera = CameraModel::from_fov(0.2, size).unwrap();
        for at in [[0.0, 0.0], [0.041, -0.018], [-0.03, 0.02]] {
            let direction = Direction::new(at[0], at[1], 1.0).normalize();
            let pixels = draw(&camera, &direction);
            let image = Image::from_slice(&pixels, size[0] as usize).unwrap();
            let stars = extract(&image, &ExtractOptions::default()).unwrap().stars;
            assert_eq!(stars.len(), 1, "{size:?} {at:?}");
            let expected = camera.direction_to_pixel(&direction).unwrap();
            let [column, row] = stars[0].column_row(size.map(|n| n as usize));
            for (k, pixel) in [column, row].into_iter().enumerate() {
                assert!(
                    (stars[0].position[k] - expected[k]).abs() < 0.02,
                    "{:?} {expected:?}",
                    stars[0].position
                );
                assert_eq!(pixel, stars[0].position[k] + f64::from(size[k]) / 2.0);
            }
        }
    }
}
