//! Parts of a frame that are searched separately, because the brightest detections of the whole frame may not
//! be stars: a tree or a roof in one part of the image, lamps, or hot pixels.
//!
//! Each part is a separate [`Field`] with its own brightest detections, area and stars. Detections outside a
//! part are neither in its patterns nor evidence against its candidates.

use super::field::Field;

/// Number of detections of each part from which patterns are made: as many as needed for fields without false
/// detections.
pub(super) const STARS: usize = 9;
/// Regions of the image, as left, top, right and bottom in fractions of its width and height: halves,
/// quarters and the middle. Most kinds of foreground leave one of them free.
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
/// Number of brightest detections of the whole image that are excluded at first.
const FIRST_LEFT_OUT: f64 = 18.0;
/// Factor by which the number of excluded detections grows each time. It is so small that in one of the steps
/// most detections in patterns are the brightest true stars.
const GROWTH: f64 = 1.2;
/// Maximum number of brightest detections that are excluded.
const MOST_LEFT_OUT: f64 = 250.0;

/// Parts of a field whose brightest `tried` detections were searched without success. Parts whose patterns
/// would consist of these detections alone are omitted.
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
