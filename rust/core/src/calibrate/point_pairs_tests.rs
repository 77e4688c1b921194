use super::*;

const SIZE: [u32; 2] = [640, 480];

fn truth(position: Option<Vector3<f64>>) -> Resection {
    let radial = RadialDistortion::new([-0.08, 0.02, 0.0, 0.0], [0.0; 2], 400.0).unwrap();
    let camera = CameraModel::new(850.0, SIZE)
        .unwrap()
        .with_optical_center([12.0, -7.0])
        .with_distortion(Distortion::Radial(radial));
    let attitude = Attitude::from_rotation_vector(&Vector3::new(0.3, -0.2, 0.5));
    Resection { camera, attitude, position }
}

/// Pixels on a grid, and points that they see at many distances.
fn pairs(truth: &Resection) -> (Vec<Point>, Vec<[f64; 3]>) {
    let pixels: Vec<Point> =
        (0..80).map(|k| [f64::from(k % 10) * 66.0 - 300.0, f64::from(k / 10) * 60.0 - 210.0]).collect();
    let point = |(k, &pixel): (usize, &Point)| {
        let distance = if truth.position.is_some() { 3.0 + (k * 7 % 13) as f64 / 2.0 } else { 1.0 };
        let ray = truth.attitude.to_sky(&truth.camera.pixel_to_direction(pixel)) * distance;
        (truth.position.unwrap_or_default() + ray).into()
    };
    let points = pixels.iter().enumerate().map(point).collect();
    (pixels, points)
}

#[test]
fn the_true_camera_is_found() {
    for position in [Some(Vector3::new(1.0, -2.0, 0.5)), None] {
        let truth = truth(position);
        let (pixels, points) = pairs(&truth);
        let start = Resection::direct(&pixels, &points, position.is_none(), SIZE, None).unwrap();
        assert!(start.attitude.angle_to(&truth.attitude) < 0.05);
        let free = Freedom { focal_length: true, center: true, radial: [true; 2] };
        let found = start.fit(&pixels, &points, free).unwrap();
        assert!(found.attitude.angle_to(&truth.attitude) < 1e-8);
        assert!((found.camera.focal_length_px() - 850.0).abs() < 1e-5);
        assert!((found.camera.optical_center()[0] - 12.0).abs() < 1e-5);
        assert!((found.position.unwrap_or_default() - position.unwrap_or_default()).norm() < 1e-7);
    }
}

#[test]
fn derivatives_are_those_of_the_step() {
    let state = truth(Some(Vector3::new(1.0, -2.0, 0.5)));
    let (pixels, points) = pairs(&state);
    let names = Freedom { focal_length: true, center: true, radial: [true; 2] }.names();
    let parameters = Parameters::named(state.camera.distortion(), &names);
    let pairs = Pairs { pixels: &pixels, points: &points, parameters };
    let count = pairs.parameters.len() + ATTITUDE + POSITION;
    let (mut slopes, mut ignored) = (vec![[0.0; 2]; count], vec![[0.0; 2]; count]);
    for point in points.iter().step_by(11) {
        pairs.image(&state, point, &mut slopes).unwrap();
        let system = pairs.linearize(&state);
        for (k, slope) in slopes.iter().enumerate() {
            let mut at = |step: f64| {
                let mut delta = DVector::zeros(count);
                delta[k] = step;
                pairs.image(&pairs.step(&state, &system, &delta).unwrap(), point, &mut ignored).unwrap()
            };
            let (plus, minus) = (at(1e-6), at(-1e-6));
            for axis in [0, 1] {
                let expected = (plus[axis] - minus[axis]) / 2e-6;
                assert!((slope[axis] - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{k} {axis}");
            }
        }
    }
}

#[test]
fn points_in_a_plane_have_no_direct_solution() {
    let truth = truth(Some(Vector3::zeros()));
    let (pixels, points) = pairs(&truth);
    let flat: Vec<[f64; 3]> = points.iter().map(|p| [p[0], p[1], 0.0]).collect();
    for points in [&flat[..], &[]] {
        let found = Resection::direct(&pixels[..points.len()], points, false, SIZE, None);
        assert!(matches!(found, Err(Error::Undetermined(_))));
    }
}

#[test]
fn what_the_camera_does_not_see_is_refused() {
    let state = truth(None);
    let (pixels, points) = pairs(&state);
    let behind: Vec<[f64; 3]> = points.iter().map(|p| p.map(|c| -c)).collect();
    let found = state.fit(&pixels, &behind, Freedom::default());
    assert!(matches!(found, Err(Error::Undetermined(_))));
}
