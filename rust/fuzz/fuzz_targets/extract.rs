//! Extraction of any bytes as an image, of integers or of floating-point numbers.

#![no_main]

use boresight::imaging::extract::{ExtractOptions, extract};
use boresight::imaging::image::Image;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else { return };
    let width = usize::from(first % 48) + 1;
    let options = ExtractOptions::default();
    let floats: Vec<f32> =
        rest.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
    let shorts: Vec<u16> = rest.chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).collect();
    // The same numbers, but of a size as cameras give them.
    let counts: Vec<f32> = shorts.iter().map(|&count| f32::from(count) * 0.1).collect();
    if let Ok(image) = Image::from_slice(&floats[..floats.len() / width * width], width) {
        let _ = extract(&image, &options);
    }
    if let Ok(image) = Image::from_slice(&shorts[..shorts.len() / width * width], width) {
        let _ = extract(&image, &options);
    }
    if let Ok(image) = Image::from_slice(&counts[..counts.len() / width * width], width) {
        let _ = extract(&image, &options);
    }
});
