//! A grid of cells on the sphere, which finds the stars within a cone without testing all others.
//!
//! The sphere is cut into bands of declination of equal height and each band into cells of equal right
//! ascension, about as wide as high. Stars are stored cell by cell, so that the stars of a band in cells that
//! a cone touches are one contiguous run (two if the cone crosses right ascension zero).

use std::f64::consts::{FRAC_PI_2, PI, TAU};
use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use crate::geometry::sphere::{Direction, chord};

/// Intended number of stars per cell. Fewer stars make more runs per cone; more stars make longer runs to
/// search.
const STARS_PER_CELL: usize = 24;

/// Largest number of bands of a grid; each is then 0.2 degrees high.
const MAX_BANDS: usize = 900;

/// Number of stars that are tested together: as many as a word has bits.
const BLOCK: usize = u64::BITS as usize;

/// Margin of single precision in a chord, 0.02 arcsec. Single precision decides outside the margin, double
/// precision within.
const SINGLE_PRECISION: f64 = 1e-7;

/// A star in its cell: all data that a cone search reads, stored together.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct CellStar {
    direction: [f32; 3],
    star: u32,
}

impl CellStar {
    /// Index of the star in the catalogue.
    pub fn star(&self) -> u32 {
        self.star
    }

    /// Direction of the star, to single precision.
    pub fn direction(&self) -> Direction {
        Direction::from(self.direction.map(f64::from))
    }
}

/// Largest error, in single precision, of a squared chord that is about as large as `square`.
fn chord_error(square: f64) -> f64 {
    SINGLE_PRECISION * (square.sqrt() + SINGLE_PRECISION) * 4.0
}

/// The division of the sphere into cells; it follows from the number of bands alone.
#[derive(Debug, Clone)]
pub struct SkyGrid {
    /// First cell of each band, and the number of all cells.
    first_cell: Vec<u32>,
    /// Southern edge of each band, and the north pole.
    edges: Vec<Declination>,
}

impl SkyGrid {
    /// The grid suited to a number of stars.
    pub fn for_stars(stars: usize) -> Self {
        let cells = (stars / STARS_PER_CELL).max(12) as f64;
        Self::with_bands((PI / (4.0 * PI / cells).sqrt()).round() as usize)
    }

    /// The grid of `bands` bands (at least 1, at most 900).
    pub fn with_bands(bands: usize) -> Self {
        let bands = bands.clamp(1, MAX_BANDS);
        let height = PI / bands as f64;
        let mut first_cell = vec![0];
        let mut cells = 0;
        for band in 0..bands {
            let middle = (band as f64 + 0.5) * height - FRAC_PI_2;
            cells += (TAU * middle.cos() / height).round().max(1.0) as u32;
            first_cell.push(cells);
        }
        let edge = |band: usize| {
            let (sin, cos) = (band as f64 * height - FRAC_PI_2).sin_cos();
            [cos.max(0.0), sin]
        };
        Self { first_cell, edges: (0..=bands).map(edge).collect() }
    }

    /// Number of bands.
    pub fn num_bands(&self) -> usize {
        self.first_cell.len() - 1
    }

    /// Number of cells.
    pub fn num_cells(&self) -> usize {
        self.first_cell[self.num_bands()] as usize
    }

    /// The cell of a direction.
    pub fn cell(&self, v: &Direction) -> usize {
        let band = self.band(v.z.clamp(-1.0, 1.0).asin());
        let cells = self.cells_of(band);
        cells.start + Self::column(cells.len(), v.y.atan2(v.x))
    }

    fn band(&self, dec: f64) -> usize {
        let bands = self.num_bands();
        (((dec + FRAC_PI_2) / PI * bands as f64) as usize).min(bands - 1)
    }

    /// The cells of a band.
    pub(crate) fn cells_of(&self, band: usize) -> Range<usize> {
        self.first_cell[band] as usize..self.first_cell[band + 1] as usize
    }

    /// The cell of a band at a right ascension.
    pub(crate) fn cell_in(&self, band: usize, ra: f64) -> usize {
        let cells = self.cells_of(band);
        cells.start + Self::column(cells.len(), ra)
    }

    /// Sines of the declinations between which a band lies.
    pub(crate) fn heights_of(&self, band: usize) -> [f64; 2] {
        [self.edges[band][1], self.edges[band + 1][1]]
    }

    fn column(columns: usize, ra: f64) -> usize {
        ((ra.rem_euclid(TAU) / TAU * columns as f64) as usize).min(columns - 1)
    }

    /// Calls `visit` with runs of cells that together cover a cone.
    pub(crate) fn runs(&self, center: &Direction, radius: f64, mut visit: impl FnMut(Range<usize>)) {
        // Slightly wider, so that rounding never loses a star.
        let cone = Cone::new(center, (radius + 1e-9).min(PI));
        let ra = center.y.atan2(center.x);
        let dec = center.z.clamp(-1.0, 1.0).asin();
        for band in self.band(dec - cone.radius)..=self.band(dec + cone.radius) {
            let width = cone.half_width(self.edges[band], self.edges[band + 1]);
            let cells = self.cells_of(band);
            let (first, last) =
                (Self::column(cells.len(), ra - width), Self::column(cells.len(), ra + width));
            // If first and last are one cell, the cone is narrow there or goes nearly all the way round.
            let whole = width >= PI || (first == last && width > FRAC_PI_2);
            if whole || (first > last && first == last + 1) {
                visit(cells);
            } else if first <= last {
                visit(cells.start + first..cells.start + last + 1);
            } else {
                visit(cells.start..cells.start + last + 1);
                visit(cells.start + first..cells.end);
            }
        }
    }
}

/// A declination, as a point of the unit circle: (cosine, sine).
type Declination = [f64; 2];

/// A cone on the sky, with the quantities from which its width at a declination is calculated.
struct Cone {
    radius: f64,
    /// Declination of its axis.
    axis: Declination,
    /// Declination where it is widest in right ascension: where it touches meridians, poleward of the axis.
    widest: Declination,
    /// Haversine of the radius.
    haversine: f64,
    /// Sine of the declination, positive towards the axis's pole, beyond which the cone goes all the way
    /// round.
    all_round: f64,
}

impl Cone {
    fn new(center: &Direction, radius: f64) -> Self {
        let axis = [center.x.hypot(center.y), center.z];
        let (sin, cos) = radius.sin_cos();
        let sin_widest = (center.z / cos).clamp(-1.0, 1.0);
        // With a pole inside, the rim beyond it is at declination π - |dec| - radius.
        let all_round = if cos <= 0.0 {
            -1.0
        } else if center.z.abs() >= cos {
            center.z.abs() * cos + axis[0] * sin
        } else {
            f64::INFINITY
        };
        Self {
            radius,
            axis,
            widest: [(1.0 - sin_widest * sin_widest).sqrt(), sin_widest],
            haversine: (radius / 2.0).sin().powi(2),
            all_round,
        }
    }

    /// Largest difference in right ascension between the axis and points of the cone in a band.
    fn half_width(&self, south: Declination, north: Declination) -> f64 {
        if (if self.axis[1] > 0.0 { north[1] } else { -south[1] }) > self.all_round {
            return PI;
        }
        // Haversine of the difference at a declination, from chords, which are exact for small differences
        // too.
        let haversine_at = |[cos, sin]: Declination| {
            let chord = (cos - self.axis[0]).powi(2) + (sin - self.axis[1]).powi(2);
            (self.haversine - chord / 4.0) / (cos * self.axis[0])
        };
        let mut widest = haversine_at(south).max(haversine_at(north));
        if south[1] < self.widest[1] && self.widest[1] < north[1] {
            widest = widest.max(haversine_at(self.widest));
        }
        2.0 * widest.clamp(0.0, 1.0).sqrt().asin() + 1e-9
    }
}

/// A view of stars in the cells of a grid, wherever they are stored.
#[derive(Debug, Clone, Copy)]
pub struct CellView<'a> {
    /// The grid.
    pub grid: &'a SkyGrid,
    /// Index of the first star of each cell, and the number of all stars.
    pub offsets: &'a [u32],
    /// The stars, cell by cell, ascending within each.
    pub stars: &'a [CellStar],
}

impl CellView<'_> {
    /// Appends the indices of all stars within `radius` of a direction, ascending.
    ///
    /// `directions` are those from which the cells were made. Damaged cells lose stars but do no other harm.
    pub fn cone(&self, directions: &[[f64; 3]], center: &Direction, radius: f64, out: &mut Vec<u32>) {
        let limit = chord(radius.min(PI)).powi(2);
        let inside = (limit - chord_error(limit)) as f32;
        let exactly_inside = |star: u32| {
            let distance = |v: &[f64; 3]| (Direction::from(*v) - center).norm_squared();
            directions.get(star as usize).is_some_and(|v| distance(v) <= limit)
        };
        let begin = out.len();
        self.visit_cone(u32::MAX, center, radius, |entry, distance| {
            if (distance < inside && (entry.star as usize) < directions.len()) || exactly_inside(entry.star) {
                out.push(entry.star);
            }
        });
        out[begin..].sort_unstable();
    }

    /// Calls `visit` with each star within `radius` of a direction whose index is below `end` (the brightest
    /// of a sorted catalogue), and with its squared chord, cell by cell. All is in single precision, so that
    /// some stars slightly outside are included.
    pub fn visit_cone(
        &self,
        end: u32,
        center: &Direction,
        radius: f64,
        mut visit: impl FnMut(&CellStar, f32),
    ) {
        if !(radius >= 0.0 && center.iter().all(|x| x.is_finite())) {
            return;
        }
        let limit = chord(radius.min(PI)).powi(2);
        let outside = (limit + chord_error(limit)) as f32;
        let c = [center.x as f32, center.y as f32, center.z as f32];
        let distance = |entry: &CellStar| {
            let d = [entry.direction[0] - c[0], entry.direction[1] - c[1], entry.direction[2] - c[2]];
            d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
        };
        let mut look_through = |stars: &[CellStar]| {
            for block in stars.chunks(BLOCK) {
                // A bit for each star, without branches: half of the branches would be mispredicted.
                let bit = |(k, entry): (usize, &CellStar)| u64::from(distance(entry) <= outside) << k;
                let mut near = block.iter().enumerate().map(bit).fold(0, std::ops::BitOr::bitor);
                while let Some(entry) = block.get(near.trailing_zeros() as usize) {
                    visit(entry, distance(entry));
                    near &= near - 1;
                }
            }
        };
        self.grid.runs(center, radius, |cells| {
            if end as usize >= self.stars.len() {
                look_through(self.run(cells));
            } else {
                for cell in cells {
                    let stars = self.run(cell..cell + 1);
                    look_through(&stars[..stars.partition_point(|entry| entry.star < end)]);
                }
            }
        });
    }

    fn run(&self, cells: Range<usize>) -> &[CellStar] {
        match (self.offsets.get(cells.start), self.offsets.get(cells.end)) {
            (Some(&start), Some(&end)) => self.stars.get(start as usize..end as usize).unwrap_or(&[]),
            _ => &[],
        }
    }
}

/// Stars in cells, in memory.
#[derive(Debug, Clone)]
pub struct CellIndex {
    /// The grid.
    pub grid: SkyGrid,
    /// As in [`CellView`].
    pub offsets: Vec<u32>,
    /// As in [`CellView`].
    pub stars: Vec<CellStar>,
}

impl CellIndex {
    /// Puts stars into the cells of a grid that suits their number.
    pub fn new(directions: &[[f64; 3]]) -> Self {
        Self::with_grid(SkyGrid::for_stars(directions.len()), directions)
    }

    /// Puts stars into the cells of a grid.
    pub fn with_grid(grid: SkyGrid, directions: &[[f64; 3]]) -> Self {
        let cells: Vec<u32> = directions.iter().map(|v| grid.cell(&Direction::from(*v)) as u32).collect();
        let mut offsets = vec![0_u32; grid.num_cells() + 1];
        for cell in &cells {
            offsets[*cell as usize + 1] += 1;
        }
        for cell in 0..grid.num_cells() {
            offsets[cell + 1] += offsets[cell];
        }
        let mut next = offsets.clone();
        let mut stars = vec![CellStar::zeroed(); directions.len()];
        for (star, (cell, v)) in cells.iter().zip(directions).enumerate() {
            let place = &mut next[*cell as usize];
            stars[*place as usize] = CellStar { direction: v.map(|x| x as f32), star: star as u32 };
            *place += 1;
        }
        Self { grid, offsets, stars }
    }

    /// A view of the cells, for searches.
    pub fn view(&self) -> CellView<'_> {
        CellView { grid: &self.grid, offsets: &self.offsets, stars: &self.stars }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::sphere::direction;
    use proptest::prelude::*;

    /// Stars spread evenly, with some at the poles and around right ascension zero.
    fn sky(stars: usize) -> Vec<[f64; 3]> {
        let golden = PI * (3.0 - 5.0_f64.sqrt());
        let spread = (0..stars).map(|i| {
            let z = 1.0 - (2 * i + 1) as f64 / stars as f64;
            direction((golden * i as f64).rem_euclid(TAU), z.asin())
        });
        let special =
            [(0.0, FRAC_PI_2), (0.0, -FRAC_PI_2), (0.0, 0.0), (TAU - 1e-12, 0.3), (1e-12, -0.3), (PI, 1.5)];
        spread.chain(special.map(|(ra, dec)| direction(ra, dec))).map(Into::into).collect()
    }

    fn brute_force(directions: &[[f64; 3]], center: &Direction, radius: f64) -> Vec<u32> {
        let limit = chord(radius).powi(2);
        let inside = |i: &u32| (Direction::from(directions[*i as usize]) - center).norm_squared() <= limit;
        (0..directions.len() as u32).filter(inside).collect()
    }

    proptest! {
        #[test]
        fn cone_equals_brute_force(
            stars in 1_usize..3000, bands in 1_usize..60,
            ra in prop_oneof![Just(0.0), 0.0..TAU], dec in prop_oneof![Just(FRAC_PI_2), Just(-FRAC_PI_2), -FRAC_PI_2..FRAC_PI_2],
            radius in prop_oneof![Just(0.0), 0.0..0.1, 0.0..PI],
        ) {
            let directions = sky(stars);
            let index = CellIndex::with_grid(SkyGrid::with_bands(bands), &directions);
            let center = direction(ra, dec);
            let mut found = Vec::new();
            index.view().cone(&directions, &center, radius, &mut found);
            prop_assert_eq!(found, brute_force(&directions, &center, radius));
        }

        #[test]
        fn a_star_is_in_a_cone_around_itself(star in 0_usize..500) {
            let directions = sky(500);
            let mut found = Vec::new();
            CellIndex::new(&directions).view().cone(&directions, &directions[star].into(), 0.0, &mut found);
            prop_assert!(found.contains(&(star as u32)));
        }
    }

    #[test]
    fn senseless_cones_are_empty() {
        let directions = sky(10);
        let mut found = Vec::new();
        let index = CellIndex::new(&directions);
        index.view().cone(&directions, &direction(0.0, 0.0), f64::NAN, &mut found);
        index.view().cone(&directions, &direction(0.0, 0.0), -1.0, &mut found);
        index.view().cone(&directions, &Direction::new(f64::NAN, 0.0, 0.0), 1.0, &mut found);
        assert!(found.is_empty());
    }
}
