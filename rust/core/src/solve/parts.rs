//! Parts of a frame that are searched by themselves, for the brightest detections of the whole may be no stars: a tree or
//! a roof in one part of the image, lamps, or hot pixels.
//!
//! Each part is a [`Field`] of its own, with its brightest detections, its area and the stars in it, so that what lies
//! outside it is neither in its patterns nor evidence against what they find.

use super::field::Field;

/// Detections of each part from which patterns are made: as many as clean fields need.
pub(super) const STARS: usize = 9;
/// Regions of the image, as left, top, right and bottom in fractions of its width and height: halves, quarters and the
/// middle, one of which most kinds of foreground leave free.
const REGIONS: [[f64; 4]; 9] = [
    [0.0, 0.0, 1.0, 0.5],
    [0.0, 0.5, 1.0, 1.0],
    [0.0, 0.0, 0.5, 1.0],
    [0.5, 0.0, 1.0, 1.0],
    [0.25, 0.25, 0.75, 0.75],
    [0.0, 0.0, 0.5, 0.5],
    [0.5, 0.0, 1.0, 0.5],
    [0.0, 0.5, 0.5, 1.0],
    [0.5, 0.5, 1.0, 1.0],
];
/// Of the whole image, so many of the brightest are left out at first, and each time this many times as many, so that once
/// most of the patterns' stars are the brightest that are stars ...
const FIRST_LEFT_OUT: f64 = 18.0;
const GROWTH: f64 = 1.2;
/// ... up to this many.
const MOST_LEFT_OUT: f64 = 250.0;

/// Parts of a field whose brightest `tried` detections were searched in vain: those that bring in others.
pub(super) fn parts(field: &Field, tried: usize) -> impl Iterator<Item = Field> {
    let [low, high] = field.bounds();
    let regions = REGIONS.iter().map(move |[left, top, right, bottom]| {
        let at = |x: f64, y: f64| [low[0] + x * (high[0] - low[0]), low[1] + y * (high[1] - low[1])];
        field.part([at(*left, *top), at(*right, *bottom)], 0)
    });
    let fainter = std::iter::successors(Some(FIRST_LEFT_OUT), |number| Some(GROWTH * number))
        .take_while(|&number| number <= MOST_LEFT_OUT)
        .map(move |number| field.part([low, high], number as usize));
    let is_new = move |part: &Field| {
        let brightest = part.order.iter().take(STARS.min(part.distinct().len()));
        let known = field.order.iter().take(tried);
        part.distinct().len() >= 4 && !brightest.into_iter().all(|i| known.clone().any(|j| i == j))
    };
    regions.chain(fainter).filter(is_new)
}
