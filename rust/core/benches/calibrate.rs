//! Time to calibrate one camera from 10, 100 and 1000 frames: it should grow as the number of frames.

use boresight::MatchedStars;
use boresight::calibrate::{Model, Options, calibrate};
use boresight::geometry::attitude::Attitude;
use boresight::geometry::camera::CameraModel;
use boresight::geometry::distortion::{Distortion, RadialDistortion};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const STARS: usize = 500;
const SIZE: f64 = 2048.0;
const NOISE_PX: f64 = 0.02;

/// Low-discrepancy numbers in -1..1: the same frames on every machine.
fn spread(index: usize, base: f64) -> f64 {
    2.0 * (index as f64 * base).fract() - 1.0
}

type Frame = (Attitude, Vec<[f64; 2]>, Vec<[f64; 3]>);

fn frame(camera: &CameraModel, index: usize) -> Frame {
    let attitude = Attitude::from_pointing(
        3.0 * spread(index, 0.754_877_666),
        spread(index, 0.569_840_291),
        3.0 * spread(index, 0.618_033_989),
    );
    let star = |i: usize| {
        let i = index * STARS + i;
        let pixel = [spread(i, 0.754_877_666) * SIZE / 2.0, spread(i, 0.569_840_291) * SIZE / 2.0];
        let noise = [spread(i, 0.414_213_562) * NOISE_PX, spread(i, 0.732_050_807) * NOISE_PX];
        let sky: [f64; 3] = attitude.to_sky(&camera.pixel_to_direction(pixel)).into();
        ([pixel[0] + noise[0], pixel[1] + noise[1]], sky)
    };
    let (pixels, sky) = (0..STARS).map(star).unzip();
    (attitude, pixels, sky)
}

fn calibrating(c: &mut Criterion) {
    let lens = RadialDistortion::new([-0.02, 0.002, 0.0, 0.0], [1e-4, 0.0], SIZE / 2.0).expect("a lens");
    let camera = CameraModel::new(10_000.0, [SIZE as u32; 2])
        .expect("a camera")
        .with_distortion(Distortion::Radial(lens));
    let frames: Vec<Frame> = (0..1000).map(|i| frame(&camera, i)).collect();
    let pinhole = CameraModel::new(10_010.0, [SIZE as u32; 2]).expect("a camera");
    let matches: Vec<MatchedStars> = frames
        .into_iter()
        .map(|(attitude, pixels, sky)| MatchedStars::new(pixels, sky, pinhole.clone(), attitude))
        .collect();
    let matches: Vec<&MatchedStars> = matches.iter().collect();
    let options = Options { model: Model::Polynomial { order: 6 }, ..Options::default() };
    let mut group = c.benchmark_group("calibrate order 6, 500 stars a frame");
    group.sample_size(10);
    for count in [10, 100, 1000] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_with_input(BenchmarkId::from_parameter(count), &count, |b, &count| {
            b.iter(|| calibrate(&matches[..count], None, &options, None, &()).expect("a calibration"));
        });
    }
    group.finish();
}

criterion_group!(benches, calibrating);
criterion_main!(benches);
