//! All exposures at once: a linear map for each and a position for every object, by least squares.
//!
//! A detection d at u in the plane of exposure e, of an object that is expected at x there, leaves the residual
//!
//! ```text
//! r = u - x + B(u) a + D(p) c - J b,
//! ```
//!
//! a being the few parameters of the exposure's map, c those of the [`device`](super::device) that all exposures share,
//! p the pixel, b the displacement of the object from where it is expected, and J what a displacement is in that plane.
//! Catalogue stars have a prior on b. The objects are eliminated: what remains are equations for the maps alone. While
//! these are few they are solved by the factor of [`lsq`](crate::lsq), which tells what is not determined, and the
//! covariance; many are solved by conjugate gradients with the maps' own blocks as preconditioner, one pass over the detections a step, so time and memory grow with their number alone.

use nalgebra::{DMatrix, DVector, Matrix6};

use super::device::Device;
use super::linear::Geometry;
use crate::error::{Error, Result};
use crate::geometry::distortion::Point;
use crate::lsq::NormalEquations;
use crate::lsq::gradients::conjugate_gradients;
use crate::lsq::small::{Matrix2, inverse};
use crate::monitor::{Monitor, checkpoint};

/// Parameters up to which the equations are solved directly.
pub const DIRECT_PARAMETERS: usize = 1200;

/// One detection of an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Number of the exposure.
    pub exposure: u32,
    /// Where it is, in the plane of the exposure.
    pub at: Point,
    /// Where the object is expected in that plane.
    pub expected: Point,
    /// What displacements of the object are in that plane, by rows.
    pub jacobian: [[f64; 2]; 2],
    /// Inverse variance per axis; 0 leaves it out.
    pub weight: f64,
}

/// All detections of all objects.
#[derive(Debug, Clone)]
pub struct JointProblem<'a> {
    /// Detections, those of an object together.
    pub detections: &'a [Detection],
    /// Where the detections of each object start, and the end of the last.
    pub starts: &'a [usize],
    /// Inverse variance per axis of each object's expected place; 0 of those that no catalogue has.
    pub priors: &'a [f64],
    /// Exposures whose map stays.
    pub frozen: &'a [bool],
    /// Kind of the maps.
    pub geometry: Geometry,
    /// Length in the plane in which the parameters of a matrix are meant: half the size of an exposure.
    pub lever: f64,
    /// What the exposures share.
    pub device: Device<'a>,
}

/// What all exposures at once give.
#[derive(Debug, Clone, PartialEq)]
pub struct JointSolution {
    /// Matrix and shift of each exposure.
    pub maps: Vec<([[f64; 2]; 2], Point)>,
    /// Parameters of the terms of the device.
    pub device: Vec<f64>,
    /// Displacement of each object.
    pub displacements: Vec<Point>,
    /// Residual of each detection, also of those without weight.
    pub residuals: Vec<Point>,
    /// Exposures of which some parameter is not determined.
    pub undetermined: Vec<usize>,
    /// Terms of the device that are not determined.
    pub undetermined_terms: Vec<usize>,
    /// Covariance of the shift and the matrix by rows of each exposure; empty where it was solved step by step.
    pub covariances: Vec<Matrix6<f64>>,
}

/// Most parameters of a map.
const MOST: usize = 6;

/// A parameter, and the derivative of a position by it.
type Column = (usize, Point);

impl JointProblem<'_> {
    fn parameters(&self) -> usize {
        self.geometry.parameters()
    }

    /// Derivatives of a mapped position by the parameters of its map.
    fn rows(&self, at: Point) -> [[f64; MOST]; 2] {
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

    /// Inverse of the object's own equations; `None` without information.
    fn own(&self, object: usize) -> Option<Matrix2> {
        let mut h = [[self.priors[object], 0.0], [0.0, self.priors[object]]];
        for d in self.of(object) {
            let j = &d.jacobian;
            for (r, row) in h.iter_mut().enumerate() {
                for (c, sum) in row.iter_mut().enumerate() {
                    *sum += d.weight * (j[0][r] * j[0][c] + j[1][r] * j[1][c]);
                }
            }
        }
        let found = inverse(&h);
        found.iter().flatten().all(|x| x.is_finite()).then_some(found)
    }

    /// Displacement of an object that fits its residuals best.
    fn displacement(&self, object: usize, own: &Matrix2, residual: impl Fn(usize) -> Point) -> Point {
        let mut g = [0.0; 2];
        for (i, d) in self.of(object).iter().enumerate() {
            let r = residual(self.starts[object] + i);
            let j = &d.jacobian;
            g = [0, 1].map(|k| g[k] + d.weight * (j[0][k] * r[0] + j[1][k] * r[1]));
        }
        [0, 1].map(|k| own[k][0] * g[0] + own[k][1] * g[1])
    }

    /// Solves for all exposures and objects.
    ///
    /// # Errors
    /// If a number is not finite or an index is out of range, and when the monitor stops it.
    pub fn solve(&self, monitor: &dyn Monitor) -> Result<JointSolution> {
        self.check()?;
        let layout = Layout::new(self);
        if layout.size > DIRECT_PARAMETERS {
            let found = self.descend(&layout, monitor)?;
            return Ok(self.solution(&layout, &found));
        }
        let equations = self.equations(&layout, monitor)?;
        let covariance = equations.covariance();
        let mut solution = self.solution(&layout, equations.solve(0.0).as_slice());
        let p = self.parameters();
        for &i in &covariance.frozen {
            if i < layout.device {
                solution.undetermined.push(layout.free[i / p]);
            } else {
                solution.undetermined_terms.push(i - layout.device);
            }
        }
        solution.undetermined.dedup();
        solution.covariances = vec![Matrix6::zeros(); self.frozen.len()];
        let by_parameters = self.map_by_parameters();
        for (k, &e) in layout.free.iter().enumerate() {
            let block = covariance.matrix.view((k * p, k * p), (p, p));
            solution.covariances[e].copy_from(&(&by_parameters * block * by_parameters.transpose()));
        }
        Ok(solution)
    }

    fn check(&self) -> Result<()> {
        let wrong =
            |problem: &str| Err(Error::argument("detections", problem, "give finite numbers in range"));
        if self.starts.len() != self.priors.len() + 1 || self.starts.last() != Some(&self.detections.len()) {
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
        if !self.priors.iter().all(|p| *p >= 0.0) {
            return wrong("a prior is negative");
        }
        if let Some(problem) = self.device.problem(self.detections.len()) {
            return wrong(problem);
        }
        Ok(())
    }

    /// Derivatives of the position of a detection by all parameters that are free.
    fn columns(&self, layout: &Layout, detection: usize, columns: &mut Vec<Column>) {
        columns.clear();
        let d = &self.detections[detection];
        let start = layout.starts[d.exposure as usize];
        if start != usize::MAX {
            let rows = self.rows(d.at);
            columns.extend((0..self.parameters()).map(|i| (start + i, [rows[0][i], rows[1][i]])));
        }
        self.device.for_each(detection, |k, step| columns.push((layout.device + k, step)));
    }

    /// Equations of the parameters that are free, the objects eliminated.
    fn equations(&self, layout: &Layout, monitor: &dyn Monitor) -> Result<NormalEquations> {
        let mut total = NormalEquations::new(layout.size);
        let mut of_detections: Vec<Vec<Column>> = Vec::new();
        for object in 0..self.priors.len() {
            checkpoint(monitor)?;
            let range = self.starts[object]..self.starts[object + 1];
            of_detections.resize_with(range.len().max(of_detections.len()), Vec::new);
            for (i, columns) in range.clone().zip(&mut of_detections) {
                self.columns(layout, i, columns);
            }
            let of_detections = &of_detections[..range.len()];
            let mut seen: Vec<usize> = of_detections.iter().flatten().map(|column| column.0).collect();
            seen.sort_unstable();
            seen.dedup();
            let mut own = NormalEquations::new(seen.len() + 2);
            let mut rows = [vec![0.0; seen.len() + 2], vec![0.0; seen.len() + 2]];
            for (d, columns) in self.of(object).iter().zip(of_detections).filter(|(d, _)| d.weight > 0.0) {
                for (axis, row) in rows.iter_mut().enumerate() {
                    row.fill(0.0);
                    for (parameter, step) in columns {
                        let k = seen.binary_search(parameter).expect("all are in the list");
                        row[k] = step[axis];
                    }
                    for (c, slot) in row[seen.len()..].iter_mut().enumerate() {
                        *slot = -d.jacobian[axis][c];
                    }
                    own.add(row, d.at[axis] - d.expected[axis], d.weight);
                }
            }
            for c in 0..2 {
                let row = &mut rows[0];
                row.fill(0.0);
                row[seen.len() + c] = 1.0;
                own.add(row, 0.0, self.priors[object]);
            }
            if let Some((reduced, _)) = own.eliminate(2) {
                total.merge_at(&reduced, &seen);
            }
        }
        Ok(total)
    }

    /// Product of the reduced matrix with parameters; with `constant`, the residuals of no correction are added.
    fn apply(&self, layout: &Layout, own: &[Option<Matrix2>], a: &[f64], constant: bool, out: &mut [f64]) {
        out.fill(0.0);
        let mut moved: Vec<(Vec<Column>, Point)> = Vec::new();
        for (object, own) in own.iter().enumerate() {
            let Some(own) = own else { continue };
            let start = self.starts[object];
            let detections = self.of(object);
            moved.resize_with(detections.len().max(moved.len()), Default::default);
            for (i, (columns, y)) in moved[..detections.len()].iter_mut().enumerate() {
                self.columns(layout, start + i, columns);
                let d = &detections[i];
                *y = [0, 1].map(|axis| {
                    let start = if constant { d.at[axis] - d.expected[axis] } else { 0.0 };
                    start + columns.iter().map(|(k, step)| step[axis] * a[*k]).sum::<f64>()
                });
            }
            let b = self.displacement(object, own, |i| moved[i - start].1);
            for (d, (columns, y)) in detections.iter().zip(&moved).filter(|(d, _)| d.weight > 0.0) {
                let j = &d.jacobian;
                let r = [0, 1].map(|k| d.weight * (y[k] - j[k][0] * b[0] - j[k][1] * b[1]));
                for (k, step) in columns {
                    out[*k] += step[0] * r[0] + step[1] * r[1];
                }
            }
        }
    }

    /// Inverses of the exposures' own blocks, and of the diagonal of the device.
    fn blocks(&self, layout: &Layout) -> (Vec<DMatrix<f64>>, Vec<f64>) {
        let p = self.parameters();
        let mut sums = vec![DMatrix::<f64>::zeros(p, p); layout.free.len()];
        let mut diagonal = vec![0.0; self.device.terms.len()];
        for (i, d) in self.detections.iter().enumerate().filter(|(_, d)| d.weight > 0.0) {
            self.device.for_each(i, |k, step| diagonal[k] += d.weight * (step[0].powi(2) + step[1].powi(2)));
            let start = layout.starts[d.exposure as usize];
            if start == usize::MAX {
                continue;
            }
            let (rows, sum) = (self.rows(d.at), &mut sums[start / p]);
            for i in 0..p {
                for j in 0..p {
                    sum[(i, j)] += d.weight * (rows[0][i] * rows[0][j] + rows[1][i] * rows[1][j]);
                }
            }
        }
        let invert = |m: DMatrix<f64>| m.clone().cholesky().map_or(DMatrix::zeros(p, p), |c| c.inverse());
        let invert_one = |d: f64| if d > 0.0 { 1.0 / d } else { 0.0 };
        (sums.into_iter().map(invert).collect(), diagonal.into_iter().map(invert_one).collect())
    }

    /// Conjugate gradients.
    fn descend(&self, layout: &Layout, monitor: &dyn Monitor) -> Result<Vec<f64>> {
        let p = self.parameters();
        let own: Vec<Option<Matrix2>> = (0..self.priors.len()).map(|o| self.own(o)).collect();
        let (blocks, diagonal) = self.blocks(layout);
        let precondition = |r: &[f64]| -> Vec<f64> {
            let (of_maps, of_device) = r.split_at(layout.device);
            let block = |(block, r): (&DMatrix<f64>, &[f64])| block * DVector::from_column_slice(r);
            let maps = blocks.iter().zip(of_maps.chunks(p)).flat_map(|pair| block(pair).as_slice().to_vec());
            maps.chain(diagonal.iter().zip(of_device).map(|(d, r)| d * r)).collect()
        };
        let mut right = vec![0.0; layout.size];
        self.apply(layout, &own, &vec![0.0; layout.size], true, &mut right);
        for r in &mut right {
            *r = -*r;
        }
        let multiply = |x: &[f64], out: &mut [f64]| self.apply(layout, &own, x, false, out);
        conjugate_gradients(right, multiply, precondition, monitor)
    }

    /// Maps, objects and residuals of parameters.
    fn solution(&self, layout: &Layout, a: &[f64]) -> JointSolution {
        let p = self.parameters();
        let mut columns = Vec::new();
        let mut residuals: Vec<Point> = Vec::with_capacity(self.detections.len());
        for (i, d) in self.detections.iter().enumerate() {
            self.columns(layout, i, &mut columns);
            residuals.push([0, 1].map(|axis| {
                let moved = columns.iter().map(|(k, step)| step[axis] * a[*k]).sum::<f64>();
                d.at[axis] - d.expected[axis] + moved
            }));
        }
        let mut displacements = vec![[0.0; 2]; self.priors.len()];
        for (object, displacement) in displacements.iter_mut().enumerate() {
            let Some(own) = self.own(object) else { continue };
            *displacement = self.displacement(object, &own, |i| residuals[i]);
            for (d, r) in self.of(object).iter().zip(&mut residuals[self.starts[object]..]) {
                let (j, b) = (&d.jacobian, &displacement);
                *r = [0, 1].map(|k| r[k] - j[k][0] * b[0] - j[k][1] * b[1]);
            }
        }
        let still = [0.0; MOST];
        let map = |&start: &usize| self.map(if start == usize::MAX { &still } else { &a[start..start + p] });
        JointSolution {
            maps: layout.starts.iter().map(map).collect(),
            device: a[layout.device..].to_vec(),
            displacements,
            residuals,
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
    /// First parameter of the device.
    device: usize,
    size: usize,
}

impl Layout {
    fn new(problem: &JointProblem<'_>) -> Self {
        let free: Vec<usize> = (0..problem.frozen.len()).filter(|&e| !problem.frozen[e]).collect();
        let mut starts = vec![usize::MAX; problem.frozen.len()];
        for (k, &e) in free.iter().enumerate() {
            starts[e] = k * problem.parameters();
        }
        let device = free.len() * problem.parameters();
        Self { free, starts, device, size: device + problem.device.terms.len() }
    }
}

#[cfg(test)]
mod tests;
