//! Joint fit of all exposures by least squares: a linear map for each exposure and a position for every
//! object.
//!
//! Let detection d be at u in the plane of exposure e, where its object is expected at x. Its residual is
//!
//! ```text
//! r = u - x + B(u) a + D(p) c - J T(t) b,
//! ```
//!
//! Here a are the few parameters of the exposure's map. The parameters c are those of the
//! [`device`](super::device), which all exposures share; an exposure may also have some distortion terms of
//! its own. The pixel is p. The displacement of the object from its expected position is b, which may change
//! with the time t by proper motion and parallax (T). J is the derivative of the position in the plane with
//! respect to the displacement. A map may also shift by the object's colour. Catalogue stars have a prior on
//! b. The objects are eliminated: equations for the maps alone remain. Two maps are coupled if their
//! exposures share objects.
//!
//! The equations are solved by conjugate gradients, with one pass over the detections per step and an
//! approximate inverse as preconditioner. The core of the approximate inverse is a sparse factor (`coarse`),
//! which also shows the undetermined parameters and gives the covariances. If the work is small, the factor
//! covers every exposure separately and is exact. Otherwise it covers `groups` of exposures that show the
//! same objects, such as those of one pointing in several bands; each exposure then moves relative to its
//! group as if the objects stayed fixed (`descent`). The covariances of single exposures then have an error
//! of second order (`covariance`).

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

/// Input of a joint fit: all detections of all objects, and the model.
#[derive(Debug, Clone)]
pub struct JointProblem<'a> {
    /// Detections, grouped by object.
    pub detections: &'a [Detection],
    /// Index of the first detection of each object, and the end of the detections of the last object.
    pub starts: &'a [usize],
    /// Inverse covariance of the parameters of each object by rows, from a catalogue; 0 where no catalogue
    /// gives a value.
    pub priors: &'a [f64],
    /// Whether the map of each exposure is held fixed.
    pub frozen: &'a [bool],
    /// Position of each exposure in any common plane. Exposures far from each other are eliminated
    /// separately.
    pub places: &'a [Point],
    /// Type of the maps.
    pub geometry: Geometry,
    /// Length in the plane that scales the parameters of a matrix: half the size of an exposure.
    pub lever: f64,
    /// Distortion that the exposures share, and their own distortion terms.
    pub device: Device<'a>,
    /// Motion model of the objects.
    pub motions: Motions<'a>,
    /// Colour of the object of each detection. Each free exposure also shifts in proportion to colour. If
    /// empty, there are no such shifts.
    pub colors: &'a [f64],
    /// Whether covariances are computed.
    pub with_covariances: bool,
}

/// Solution for all exposures at once.
#[derive(Debug, Clone, PartialEq)]
pub struct JointSolution {
    /// Matrix and shift of each exposure.
    pub maps: Vec<([[f64; 2]; 2], Point)>,
    /// Parameters of the terms that all exposures share.
    pub device: Vec<f64>,
    /// Parameters of the own distortion terms of each exposure; 0 for exposures without such terms.
    pub own: Vec<Vec<f64>>,
    /// Shift of each exposure per unit of colour; empty without colours.
    pub chromatic: Vec<Point>,
    /// Parameters of all objects, object after object.
    pub objects: Vec<f64>,
    /// Variances of the object parameters for known maps; infinite where nothing determines them.
    pub variances: Vec<f64>,
    /// Residual of each detection, including detections of zero weight.
    pub residuals: Vec<Point>,
    /// Share of each detection's own variance that remains in its residual after its object is fitted: 1
    /// minus its leverage.
    pub freedom: Vec<f64>,
    /// Exposures with an undetermined parameter.
    pub undetermined: Vec<usize>,
    /// Terms of the device that are undetermined.
    pub undetermined_terms: Vec<usize>,
    /// Covariance of the shift, the matrix by rows and the own terms of each exposure. For exposures with own
    /// terms, the device is taken as known. Empty if not requested, or if groups of exposures give it too
    /// inaccurately.
    pub covariances: Vec<DMatrix<f64>>,
}

/// Largest relative part of a variance that may be missing because exposures are solved in groups, for the
/// worst combination of parameters. For the parameters of maps, a tenth of it is missing.
const COVARIANCE_ERROR: f64 = 0.05;

/// Maximum number of parameters of a map.
const MOST_OF_MAP: usize = 6;

/// Maximum number of parameters of an exposure, including its shift by colour and its own terms.
const MOST: usize = MOST_OF_MAP + 2 + MOST_OWN;

impl JointProblem<'_> {
    fn parameters(&self) -> usize {
        self.geometry.parameters()
    }

    /// Derivatives of a mapped position with respect to the parameters of its map.
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
            // The map stays a rotation: the linear step is the tangent of its angle.
            Geometry::Rshift => {
                let (s, c) = k(2).atan().sin_cos();
                [[c, -s], [s, c]]
            }
            Geometry::Rscale => [[1.0 + k(3), -k(2)], [k(2), 1.0 + k(3)]],
            Geometry::General => [[1.0 + k(2), k(3)], [k(4), 1.0 + k(5)]],
        };
        (matrix, [a[0], a[1]])
    }

    /// Derivatives of the shift and of the matrix by rows, with respect to the parameters of a map.
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

    /// Inverse of the normal equations of each object; `None` for objects without information.
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

    /// Residual of a detection after the displacement of its object is subtracted.
    fn left<const D: usize>(&self, detection: usize, residual: Point, b: &[f64; D]) -> Point {
        let basis = self.motions.basis::<D>(detection, &self.detections[detection].jacobian);
        [0, 1].map(|axis| residual[axis] - basis[axis].iter().zip(b).map(|(j, b)| j * b).sum::<f64>())
    }

    /// Solves for all exposures and objects.
    ///
    /// # Errors
    /// If a number is not finite, an index is out of range, or the monitor stops the solution.
    pub fn solve(&self, monitor: &dyn Monitor) -> Result<JointSolution> {
        self.check()?;
        match self.motions.motion {
            Motion::Still => self.solve_of::<2>(monitor),
            Motion::Proper => self.solve_of::<4>(monitor),
            Motion::Parallax => self.solve_of::<5>(monitor),
        }
    }

    /// Solves with D parameters per object.
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
            return wrong("the objects do not match the detections");
        }
        for d in self.detections {
            let finite =
                d.at.iter().chain(&d.expected).chain(d.jacobian.iter().flatten()).all(|x| x.is_finite());
            if !(finite && d.weight >= 0.0 && d.weight.is_finite()) {
                return wrong("a number is not finite, or a weight is negative");
            }
            if d.exposure as usize >= self.frozen.len() {
                return wrong("an exposure number is out of range");
            }
        }
        if !self.priors.iter().all(|p| p.is_finite()) {
            return wrong("a prior is not finite");
        }
        if self.places.len() != self.frozen.len() || !self.places.iter().flatten().all(|x| x.is_finite()) {
            return wrong("not every exposure has a finite place");
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
            return wrong("the colours are not finite, or not one per detection");
        }
        Ok(())
    }

    /// Indices of the parameters with a prior about 0: the own distortion terms of free exposures.
    fn with_prior<'l>(&'l self, layout: &'l Layout) -> impl Iterator<Item = usize> + 'l {
        let with_own_terms = layout.free.iter().filter(|&&e| self.device.has_own_terms(e));
        with_own_terms.flat_map(|&e| (layout.starts[e] + layout.own..).take(self.device.own.len()))
    }

    /// Calls `call` with each free parameter and the derivative of a detection's position with respect to it.
    #[inline]
    fn for_each_column(&self, layout: &Layout, detection: usize, mut call: impl FnMut(usize, Point)) {
        let start = layout.starts[self.detections[detection].exposure as usize];
        if start != usize::MAX {
            self.for_each_of_map(layout, detection, |k, step| call(start + k, step));
        }
        self.device.for_each(detection, |k, step| call(layout.device + k, step));
    }

    /// Calls `call` with each parameter of the detection's exposure and the derivative of the position with
    /// respect to it.
    ///
    /// Parameters are numbered within the exposure, and a fixed exposure is treated as free.
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

    /// Derivatives of a detection's position with respect to the parameters of its exposure, in order; 0 for
    /// parameters that the exposure does not have.
    #[inline]
    fn of_map(&self, layout: &Layout, detection: usize) -> [Point; MOST] {
        let mut columns = [[0.0; 2]; MOST];
        self.for_each_of_map(layout, detection, |k, step| columns[k] = step);
        columns
    }

    /// Displacement of a detection by the parameters `a`.
    fn moved(&self, layout: &Layout, detection: usize, a: &[f64]) -> Point {
        let mut moved = [0.0; 2];
        self.for_each_column(layout, detection, |k, step| {
            moved = [moved[0] + step[0] * a[k], moved[1] + step[1] * a[k]];
        });
        moved
    }

    /// Maps, objects and residuals for the parameters `a`.
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

/// Indices of the free parameters: those of each exposure, then those of the device.
struct Layout {
    /// Exposures that are free.
    free: Vec<usize>,
    /// Index of the first parameter of each exposure; `usize::MAX` for exposures whose map is fixed.
    starts: Vec<usize>,
    /// Number of parameters of an exposure: its map, its shift by colour and, from index `own` on, its own
    /// terms.
    stride: usize,
    own: usize,
    /// Index of the first parameter of the device.
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

    /// Index of an exposure among the free exposures; `None` if it is fixed.
    fn number(&self, exposure: usize) -> Option<usize> {
        let start = self.starts[exposure];
        (start != usize::MAX).then(|| start / self.stride)
    }
}

#[cfg(test)]
mod tests;
