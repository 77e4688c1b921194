//! All exposures at once: a linear map for each and a position for every object, by least squares.
//!
//! A detection d at u in the plane of exposure e, of an object that is expected at x there, leaves the residual
//!
//! ```text
//! r = u - x + B(u) a + D(p) c - J T(t) b,
//! ```
//!
//! a being the few parameters of the exposure's map, c those of the [`device`](super::device) that all exposures share, with
//! some that each exposure may have for itself, p the pixel, b the displacement of the object from where it is expected, which may change with the time t by proper
//! motion and parallax (T), and J what a displacement is in that plane. A map may also shift by the object's colour.
//! Catalogue stars have a prior on b. The objects are eliminated: what remains are equations for the maps alone, of
//! which those touch whose exposures share objects.
//!
//! They are solved by conjugate gradients, one pass over the detections a step, from an approximate inverse. Its heart is a
//! sparse factor (`coarse`), which tells what is not determined, and the covariances: of all exposures, where that is
//! little work, and it is exact; or else of `groups` of exposures that show the same objects, as those of a pointing in
//! several bands, each of which moves against its group as if the objects stayed (`descent`). What the covariances of single
//! exposures lack then is of second order (`covariance`).

mod coarse;
mod covariance;
mod descent;
mod groups;

use nalgebra::{DMatrix, SMatrix, SVector};

use super::device::{Device, MOST_OWN};
use super::linear::Geometry;
use super::objects::{Detection, Motion, Motions};
use crate::error::{Error, Result};
use crate::geometry::distortion::Point;
use crate::monitor::Monitor;

/// All detections of all objects.
#[derive(Debug, Clone)]
pub struct JointProblem<'a> {
    /// Detections, those of an object together.
    pub detections: &'a [Detection],
    /// Where the detections of each object start, and the end of the last.
    pub starts: &'a [usize],
    /// Inverse covariance of the parameters of each object by rows, as a catalogue knows them; 0 of those that none has.
    pub priors: &'a [f64],
    /// Exposures whose map stays.
    pub frozen: &'a [bool],
    /// Where each exposure looks, in any plane: those far from each other are solved for apart.
    pub places: &'a [Point],
    /// Kind of the maps.
    pub geometry: Geometry,
    /// Length in the plane in which the parameters of a matrix are meant: half the size of an exposure.
    pub lever: f64,
    /// The part that the exposures share.
    pub device: Device<'a>,
    /// How the objects move.
    pub motions: Motions<'a>,
    /// Colour of the object of each detection: each exposure that is free shifts by its colour too. Empty: by none.
    pub colors: &'a [f64],
    /// Whether the covariances are wanted.
    pub with_covariances: bool,
}

/// Solution for all exposures at once.
#[derive(Debug, Clone, PartialEq)]
pub struct JointSolution {
    /// Matrix and shift of each exposure.
    pub maps: Vec<([[f64; 2]; 2], Point)>,
    /// Parameters of the terms of the device.
    pub device: Vec<f64>,
    /// Parameters of the terms that each exposure has for itself; 0 of those that do not bend.
    pub own: Vec<Vec<f64>>,
    /// Shift of each exposure by a unit of colour; empty without colours.
    pub chromatic: Vec<Point>,
    /// Parameters of each object, one after the other.
    pub objects: Vec<f64>,
    /// Variances of these when the maps are known; infinite where nothing determines them.
    pub variances: Vec<f64>,
    /// Residual of each detection, also of those without weight.
    pub residuals: Vec<Point>,
    /// Share of each detection's own variance that its object leaves in its residual: 1 less its leverage.
    pub freedom: Vec<f64>,
    /// Exposures of which some parameter is not determined.
    pub undetermined: Vec<usize>,
    /// Terms of the device that are not determined.
    pub undetermined_terms: Vec<usize>,
    /// Covariance of the shift and the matrix by rows of each exposure, and of its own terms, of those that bend for a known
    /// device; empty where groups of exposures tell too little of them, or not wanted.
    pub covariances: Vec<DMatrix<f64>>,
}

/// Largest part of a variance that may be missing because exposures are solved for in groups: that of the worst combination of
/// parameters. Those of maps have a tenth of it.
const COVARIANCE_ERROR: f64 = 0.05;

/// Most parameters of a map.
const MOST_OF_MAP: usize = 6;

/// Most parameters of an exposure, a shift by colour and its own terms included.
const MOST: usize = MOST_OF_MAP + 2 + MOST_OWN;

impl JointProblem<'_> {
    fn parameters(&self) -> usize {
        self.geometry.parameters()
    }

    /// Derivatives of a mapped position by the parameters of its map.
    fn rows(&self, at: Point) -> [[f64; MOST_OF_MAP]; 2] {
        let [u, v] = at.map(|c| c / self.lever);
        match self.geometry {
            Geometry::Shift => [[1.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]],
            Geometry::Rshift => [[1.0, 0.0, -v, 0.0, 0.0, 0.0], [0.0, 1.0, u, 0.0, 0.0, 0.0]],
            Geometry::Rscale => [[1.0, 0.0, -v, u, 0.0, 0.0], [0.0, 1.0, u, v, 0.0, 0.0]],
            Geometry::General => [[1.0, 0.0, u, v, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, u, v]],
        }
    }

    fn map(&self, a: &[f64]) -> ([[f64; 2]; 2], Point) {
        let k = |i: usize| a[i] / self.lever;
        let matrix = match self.geometry {
            Geometry::Shift => [[1.0, 0.0], [0.0, 1.0]],
            // A rotation stays one: the linear step is its tangent.
            Geometry::Rshift => {
                let (s, c) = k(2).atan().sin_cos();
                [[c, -s], [s, c]]
            }
            Geometry::Rscale => [[1.0 + k(3), -k(2)], [k(2), 1.0 + k(3)]],
            Geometry::General => [[1.0 + k(2), k(3)], [k(4), 1.0 + k(5)]],
        };
        (matrix, [a[0], a[1]])
    }

    /// Derivatives of the shift and of the matrix by rows, by the parameters of a map.
    fn map_by_parameters(&self) -> DMatrix<f64> {
        let k = 1.0 / self.lever;
        let mut d = DMatrix::zeros(6, self.parameters());
        d[(0, 0)] = 1.0;
        d[(1, 1)] = 1.0;
        match self.geometry {
            Geometry::Shift => {}
            Geometry::General => (2..6).for_each(|i| d[(i, i)] = k),
            Geometry::Rshift | Geometry::Rscale => {
                d[(3, 2)] = -k;
                d[(4, 2)] = k;
                if self.geometry == Geometry::Rscale {
                    d[(2, 3)] = k;
                    d[(5, 3)] = k;
                }
            }
        }
        d
    }

    fn of(&self, object: usize) -> &[Detection] {
        &self.detections[self.starts[object]..self.starts[object + 1]]
    }

    /// Inverse of the equations of each object; `None` of those without information.
    fn owns<const D: usize>(&self) -> Vec<Option<SMatrix<f64, D, D>>> {
        let own = |(object, prior): (usize, &[f64])| {
            let prior = SMatrix::from_row_slice(prior);
            self.motions.own::<D>(self.starts[object], self.of(object), prior)
        };
        self.priors.chunks_exact(D * D).enumerate().map(own).collect()
    }

    /// Parameters of an object that fit its residuals best.
    fn best<const D: usize>(
        &self,
        object: usize,
        own: &SMatrix<f64, D, D>,
        residual: impl Fn(usize) -> Point,
    ) -> [f64; D] {
        let mut g = SVector::<f64, D>::zeros();
        for (i, d) in self.of(object).iter().enumerate().filter(|(_, d)| d.weight > 0.0) {
            let r = residual(i);
            let basis = self.motions.basis::<D>(self.starts[object] + i, &d.jacobian);
            for k in 0..D {
                g[k] += d.weight * (basis[0][k] * r[0] + basis[1][k] * r[1]);
            }
        }
        (own * g).into()
    }

    /// Residual of a detection once its object has moved.
    fn left<const D: usize>(&self, detection: usize, residual: Point, b: &[f64; D]) -> Point {
        let basis = self.motions.basis::<D>(detection, &self.detections[detection].jacobian);
        [0, 1].map(|axis| residual[axis] - basis[axis].iter().zip(b).map(|(j, b)| j * b).sum::<f64>())
    }

    /// Solves for all exposures and objects.
    ///
    /// # Errors
    /// If a number is not finite or an index is out of range, and when the monitor stops it.
    pub fn solve(&self, monitor: &dyn Monitor) -> Result<JointSolution> {
        self.check()?;
        match self.motions.motion {
            Motion::Still => self.solve_of::<2>(monitor),
            Motion::Proper => self.solve_of::<4>(monitor),
            Motion::Parallax => self.solve_of::<5>(monitor),
        }
    }

    /// The same with D parameters of each object.
    fn solve_of<const D: usize>(&self, monitor: &dyn Monitor) -> Result<JointSolution> {
        let layout = Layout::new(self);
        let owns = self.owns::<D>();
        let products = self.products(&layout, &owns);
        let coarse = self.coarse(&layout, &owns, &products, monitor)?;
        let found = self.descend(&layout, &owns, &coarse, monitor)?;
        let mut solution = self.solution(&layout, &owns, &found.x);
        solution.undetermined = coarse.undetermined(&layout, &self.device);
        solution.undetermined_terms.clone_from(&coarse.frozen_terms);
        if self.with_covariances {
            let fine = if found.spread().powi(2) <= COVARIANCE_ERROR {
                Some(coarse)
            } else {
                self.of_each_alone(&layout, &owns, &products, coarse::MOST_WORK, monitor)?
            };
            if let Some(coarse) = fine {
                solution.covariances = self.covariances(&layout, &owns, &products, &coarse);
            }
        }
        Ok(solution)
    }

    fn check(&self) -> Result<()> {
        let wrong =
            |problem: &str| Err(Error::argument("detections", problem, "give finite numbers in range"));
        let values = self.motions.motion.parameters().pow(2);
        if !self.priors.len().is_multiple_of(values)
            || self.starts.len() != self.priors.len() / values + 1
            || self.starts.last() != Some(&self.detections.len())
        {
            return wrong("objects and detections do not fit each other");
        }
        for d in self.detections {
            let finite =
                d.at.iter().chain(&d.expected).chain(d.jacobian.iter().flatten()).all(|x| x.is_finite());
            if !(finite && d.weight >= 0.0 && d.weight.is_finite()) {
                return wrong("a number is not finite or a weight negative");
            }
            if d.exposure as usize >= self.frozen.len() {
                return wrong("there is no such exposure");
            }
        }
        if !self.priors.iter().all(|p| p.is_finite()) {
            return wrong("a prior is not finite");
        }
        if self.places.len() != self.frozen.len() || !self.places.iter().flatten().all(|x| x.is_finite()) {
            return wrong("exposures have not a place each");
        }
        if let Some(problem) = self.device.problem(self.detections.len(), self.frozen.len()) {
            return wrong(problem);
        }
        if let Some(problem) = self.motions.problem(self.detections.len()) {
            return wrong(problem);
        }
        if !(self.colors.is_empty() || self.colors.len() == self.detections.len())
            || !self.colors.iter().all(|c| c.is_finite())
        {
            return wrong("their colours are not finite or not one each");
        }
        Ok(())
    }

    /// Parameters with a prior about 0.
    fn with_prior<'l>(&'l self, layout: &'l Layout) -> impl Iterator<Item = usize> + 'l {
        let bends = layout.free.iter().filter(|&&e| self.device.bends(e));
        bends.flat_map(|&e| (layout.starts[e] + layout.own..).take(self.device.own.len()))
    }

    /// Calls with each parameter that is free, and the derivative of the position of a detection by it.
    #[inline]
    fn for_each_column(&self, layout: &Layout, detection: usize, mut call: impl FnMut(usize, Point)) {
        let start = layout.starts[self.detections[detection].exposure as usize];
        if start != usize::MAX {
            self.for_each_of_map(layout, detection, |k, step| call(start + k, step));
        }
        self.device.for_each(detection, |k, step| call(layout.device + k, step));
    }

    /// The same of the parameters of the exposure alone, by their place among these, as if it were free.
    #[inline]
    fn for_each_of_map(&self, layout: &Layout, detection: usize, mut call: impl FnMut(usize, Point)) {
        let d = &self.detections[detection];
        let (rows, p) = (self.rows(d.at), self.parameters());
        (0..p).for_each(|i| call(i, [rows[0][i], rows[1][i]]));
        if let Some(&color) = self.colors.get(detection) {
            call(p, [color, 0.0]);
            call(p + 1, [0.0, color]);
        }
        self.device.for_each_own(detection, d.exposure as usize, |k, step| call(layout.own + k, step));
    }

    /// The same as a list; zeros of parameters that the exposure has not.
    #[inline]
    fn of_map(&self, layout: &Layout, detection: usize) -> [Point; MOST] {
        let mut columns = [[0.0; 2]; MOST];
        self.for_each_of_map(layout, detection, |k, step| columns[k] = step);
        columns
    }

    /// Displacement of a detection by the parameters.
    fn moved(&self, layout: &Layout, detection: usize, a: &[f64]) -> Point {
        let mut moved = [0.0; 2];
        self.for_each_column(layout, detection, |k, step| {
            moved = [moved[0] + step[0] * a[k], moved[1] + step[1] * a[k]];
        });
        moved
    }

    /// Maps, objects and residuals of parameters.
    fn solution<const D: usize>(
        &self,
        layout: &Layout,
        owns: &[Option<SMatrix<f64, D, D>>],
        a: &[f64],
    ) -> JointSolution {
        let p = self.parameters();
        let residual = |(i, d): (usize, &Detection)| {
            let moved = self.moved(layout, i, a);
            [0, 1].map(|axis| d.at[axis] - d.expected[axis] + moved[axis])
        };
        let mut residuals: Vec<Point> = self.detections.iter().enumerate().map(residual).collect();
        let mut objects = vec![0.0; D * owns.len()];
        let mut variances = vec![f64::INFINITY; D * owns.len()];
        let mut freedom = vec![1.0; self.detections.len()];
        for (object, own) in owns.iter().enumerate() {
            let Some(own) = own else { continue };
            let start = self.starts[object];
            let b = self.best(object, own, |i| residuals[start + i]);
            let of_object = &mut residuals[start..self.starts[object + 1]];
            for (i, residual) in of_object.iter_mut().enumerate() {
                *residual = self.left(start + i, *residual, &b);
            }
            objects[D * object..D * (object + 1)].copy_from_slice(&b);
            for (i, d) in (start..).zip(self.of(object)) {
                let basis = self.motions.basis::<D>(i, &d.jacobian).map(SVector::from);
                let leverage: f64 = basis.iter().map(|b| b.dot(&(own * b))).sum();
                freedom[i] = 1.0 - d.weight * leverage / 2.0;
            }
            variances[D * object..D * (object + 1)].copy_from_slice(own.diagonal().as_slice());
        }
        let still = [0.0; MOST_OF_MAP];
        let map = |&start: &usize| self.map(if start == usize::MAX { &still } else { &a[start..start + p] });
        let shift =
            |&start: &usize| if start == usize::MAX { [0.0; 2] } else { [a[start + p], a[start + p + 1]] };
        let own = |&start: &usize| {
            let count = self.device.own.len();
            if start == usize::MAX { vec![0.0; count] } else { a[start + layout.own..][..count].to_vec() }
        };
        JointSolution {
            maps: layout.starts.iter().map(map).collect(),
            own: layout.starts.iter().map(own).collect(),
            chromatic: if self.colors.is_empty() {
                Vec::new()
            } else {
                layout.starts.iter().map(shift).collect()
            },
            device: a[layout.device..].to_vec(),
            objects,
            variances,
            residuals,
            freedom,
            undetermined: Vec::new(),
            undetermined_terms: Vec::new(),
            covariances: Vec::new(),
        }
    }
}

/// Places of the parameters that are free: those of each exposure, then those of the device.
struct Layout {
    /// Exposures that are free.
    free: Vec<usize>,
    /// First parameter of each exposure; `usize::MAX` of those whose map stays.
    starts: Vec<usize>,
    /// Parameters of an exposure: of its map, its shift by colour, and from `own` on of its own terms.
    stride: usize,
    own: usize,
    /// First parameter of the device.
    device: usize,
    size: usize,
}

impl Layout {
    fn new(problem: &JointProblem<'_>) -> Self {
        let free: Vec<usize> = (0..problem.frozen.len()).filter(|&e| !problem.frozen[e]).collect();
        let mut starts = vec![usize::MAX; problem.frozen.len()];
        let own = problem.parameters() + if problem.colors.is_empty() { 0 } else { 2 };
        let stride = own + problem.device.own.len();
        for (k, &e) in free.iter().enumerate() {
            starts[e] = k * stride;
        }
        let device = free.len() * stride;
        Self { free, starts, stride, own, device, size: device + problem.device.terms.len() }
    }

    /// Number of an exposure among those that are free.
    fn number(&self, exposure: usize) -> Option<usize> {
        let start = self.starts[exposure];
        (start != usize::MAX).then(|| start / self.stride)
    }
}

#[cfg(test)]
mod tests;
