//! Extraction of a simulated field, whole and in its stages.

use std::hint::black_box;

use boresight::imaging::background::{Background, COARSE_SAMPLES, FINE_SAMPLES};
use boresight::imaging::extract::{ExtractOptions, Extractor, Method, extract};
use boresight::imaging::image::Image;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// Pixels a side.
const SIZE: usize = 2048;

/// Uniform numbers from 0 to 1 (a linear congruential generator, so that the field is always the same).
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1_u64 << 24) as f32
    }

    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
}

/// A sky of 200 electrons with Gaussian stars of 2 pixels FWHM, their counts rising as flux^-0.55.
fn field(stars: usize) -> Vec<f32> {
    let mut random = Random(stars as u64);
    let mut pixels = vec![200.0_f32; SIZE * SIZE];
    let variance = 0.85_f32 * 0.85 + 1.0 / 12.0;
    for _ in 0..stars {
        let flux = 150.0 * random.uniform().max(1e-4).powf(-1.0 / 0.55);
        let [x, y] = [0, 1].map(|_| 10.0 + random.uniform() * (SIZE as f32 - 20.0));
        let (column, row) = (x.round() as usize, y.round() as usize);
        for j in row - 6..=row + 6 {
            for i in column - 6..=column + 6 {
                let r2 = (i as f32 - x).powi(2) + (j as f32 - y).powi(2);
                pixels[j * SIZE + i] +=
                    flux / (std::f32::consts::TAU * variance) * (-0.5 * r2 / variance).exp();
            }
        }
    }
    for v in &mut pixels {
        *v += (*v + 100.0).sqrt() * random.normal();
    }
    pixels
}

fn benchmark(criterion: &mut Criterion) {
    for stars in [3000, 20_000] {
        let pixels = field(stars);
        let image = Image::from_slice(&pixels, SIZE).expect("the field is square");
        let mut group = criterion.benchmark_group(format!("extract {stars} stars"));
        group.sample_size(20);
        for (name, samples) in [("fine", FINE_SAMPLES), ("coarse", COARSE_SAMPLES)] {
            group.bench_function(BenchmarkId::new("background", name), |b| {
                b.iter(|| Background::sample(black_box(&image), 64, samples));
            });
        }
        let nothing = ExtractOptions { sigma_threshold: 1e9, ..ExtractOptions::default() };
        let window = ExtractOptions { method: Method::Window, ..ExtractOptions::default() };
        let fast = ExtractOptions { fast: true, ..window.clone() };
        for (name, options) in [
            ("detection alone", nothing),
            ("psf", ExtractOptions::default()),
            ("window", window),
            ("fast", fast.clone()),
        ] {
            group.bench_function(name, |b| b.iter(|| extract(black_box(&image), &options)));
        }
        let mut kept = Extractor::new(fast).expect("the options are good");
        group.bench_function("fast, buffers kept", |b| b.iter(|| kept.extract(black_box(&image), &())));
        group.finish();
    }
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
