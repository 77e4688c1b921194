//! All exposures at once: a linear map for each and a position for every object, by least squares.
//!
//! A detection d at u in the plane of exposure e, of an object that is expected at x there, leaves the residual
//!
//! ```text
//! r = u - x + B(u) a - J b,
//! ```
//!
//! a being the few parameters of the exposure's map, b the displacement of the object from where it is expected, and J
//! what a displacement is in that plane. Catalogue stars have a prior on b. The objects are eliminated: what remains are
//! equations for the exposures alone. While these are few they are solved by the factor of
//! [`lsq`](crate::lsq), which tells what is not determined, and the covariance; many are solved by conjugate gradients
//! with the exposures' own blocks as preconditioner (Hestenes & Stiefel 1952), one pass over the detections a step, so
//! time and memory grow with their number alone.

use nalgebra::{DMatrix, DVector};

use super::linear::Geometry;
use crate::error::{Error, Result};
use crate::geometry::distortion::Point;
use crate::lsq::NormalEquations;
use crate::lsq::small::{Matrix2, inverse};
use crate::monitor::{Monitor, checkpoint};

/// Parameters up to which the equations are solved directly.
pub const DIRECT_PARAMETERS: usize = 1200;
/// Relative residual of the equations at which conjugate gradients stop, and steps at most.
const RELATIVE_RESIDUAL: f64 = 1e-10;
const MAX_STEPS: usize = 3000;

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
}

/// What all exposures at once give.
#[derive(Debug, Clone, PartialEq)]
pub struct JointSolution {
    /// Matrix and shift of each exposure.
    pub maps: Vec<([[f64; 2]; 2], Point)>,
    /// Displacement of each object.
    pub displacements: Vec<Point>,
    /// Residual of each detection, also of those without weight.
    pub residuals: Vec<Point>,
    /// Exposures of which some parameter is not determined.
    pub undetermined: Vec<usize>,
    /// Variance of the shift of each exposure, the mean of both axes; empty where it was solved step by step.
    pub shift_variances: Vec<f64>,
}

/// Most parameters of a map.
const MOST: usize = 6;

type Rows = [[f64; MOST]; 2];

impl JointProblem<'_> {
    fn parameters(&self) -> usize {
        self.geometry.parameters()
    }

    /// Derivatives of a mapped position by the parameters of its map.
    fn rows(&self, at: Point) -> Rows {
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
        let free: Vec<usize> = (0..self.frozen.len()).filter(|&e| !self.frozen[e]).collect();
        let n = free.len() * self.parameters();
        let mut a = vec![0.0; self.frozen.len() * self.parameters()];
        let (mut undetermined, mut shift_variances) = (Vec::new(), Vec::new());
        if n <= DIRECT_PARAMETERS {
            let equations = self.equations(&free, monitor)?;
            let delta = equations.solve(0.0);
            let covariance = equations.covariance();
            let p = self.parameters();
            for (k, &e) in free.iter().enumerate() {
                a[e * p..(e + 1) * p].copy_from_slice(&delta.as_slice()[k * p..(k + 1) * p]);
            }
            undetermined = covariance.frozen.iter().map(|&i| free[i / p]).collect();
            undetermined.dedup();
            shift_variances = vec![0.0; self.frozen.len()];
            for (k, &e) in free.iter().enumerate() {
                let of = |i: usize| covariance.matrix[(k * p + i, k * p + i)];
                shift_variances[e] = f64::midpoint(of(0), of(1));
            }
        } else {
            self.descend(&mut a, monitor)?;
        }
        Ok(self.solution(&a, undetermined, shift_variances))
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
        Ok(())
    }

    /// Equations of the exposures that are free, the objects eliminated.
    fn equations(&self, free: &[usize], monitor: &dyn Monitor) -> Result<NormalEquations> {
        let p = self.parameters();
        let mut place = vec![usize::MAX; self.frozen.len()];
        for (k, &e) in free.iter().enumerate() {
            place[e] = k;
        }
        let mut total = NormalEquations::new(free.len() * p);
        for object in 0..self.priors.len() {
            checkpoint(monitor)?;
            let mut seen: Vec<usize> = self.of(object).iter().map(|d| place[d.exposure as usize]).collect();
            seen.retain(|&k| k != usize::MAX);
            seen.sort_unstable();
            seen.dedup();
            let mut own = NormalEquations::new(seen.len() * p + 2);
            for d in self.of(object).iter().filter(|d| d.weight > 0.0) {
                let rows = self.rows(d.at);
                let k = seen.binary_search(&place[d.exposure as usize]).ok();
                for (axis, derivatives) in rows.iter().enumerate() {
                    let mut row = vec![0.0; seen.len() * p + 2];
                    if let Some(k) = k {
                        row[k * p..(k + 1) * p].copy_from_slice(&derivatives[..p]);
                    }
                    for (c, slot) in row[seen.len() * p..].iter_mut().enumerate() {
                        *slot = -d.jacobian[axis][c];
                    }
                    own.add(&row, d.at[axis] - d.expected[axis], d.weight);
                }
            }
            for c in 0..2 {
                let mut row = vec![0.0; seen.len() * p + 2];
                row[seen.len() * p + c] = 1.0;
                own.add(&row, 0.0, self.priors[object]);
            }
            if let Some((reduced, _)) = own.eliminate(2) {
                let places: Vec<usize> = seen.iter().flat_map(|&k| k * p..(k + 1) * p).collect();
                total.merge_at(&reduced, &places);
            }
        }
        Ok(total)
    }

    /// Product of the reduced matrix with parameters; with `constant`, the residuals of no correction are added.
    fn apply(&self, own: &[Option<Matrix2>], a: &[f64], constant: bool, out: &mut [f64]) {
        let p = self.parameters();
        out.fill(0.0);
        let mut moved: Vec<(Rows, Point)> = Vec::new();
        for (object, own) in own.iter().enumerate() {
            let Some(own) = own else { continue };
            moved.clear();
            for d in self.of(object) {
                let rows = self.rows(d.at);
                let of = &a[d.exposure as usize * p..][..p];
                let y = [0, 1].map(|axis| {
                    let start = if constant { d.at[axis] - d.expected[axis] } else { 0.0 };
                    start + rows[axis][..p].iter().zip(of).map(|(b, a)| b * a).sum::<f64>()
                });
                moved.push((rows, y));
            }
            let start = self.starts[object];
            let b = self.displacement(object, own, |i| moved[i - start].1);
            for (d, (rows, y)) in self.of(object).iter().zip(&moved) {
                let e = d.exposure as usize;
                if d.weight == 0.0 || self.frozen[e] {
                    continue;
                }
                let j = &d.jacobian;
                let r = [0, 1].map(|k| d.weight * (y[k] - j[k][0] * b[0] - j[k][1] * b[1]));
                for (i, sum) in out[e * p..(e + 1) * p].iter_mut().enumerate() {
                    *sum += rows[0][i] * r[0] + rows[1][i] * r[1];
                }
            }
        }
    }

    /// Inverses of the exposures' own blocks.
    fn blocks(&self) -> Vec<DMatrix<f64>> {
        let p = self.parameters();
        let mut sums = vec![DMatrix::<f64>::zeros(p, p); self.frozen.len()];
        for d in self.detections.iter().filter(|d| d.weight > 0.0) {
            let rows = self.rows(d.at);
            let sum = &mut sums[d.exposure as usize];
            for i in 0..p {
                for j in 0..p {
                    sum[(i, j)] += d.weight * (rows[0][i] * rows[0][j] + rows[1][i] * rows[1][j]);
                }
            }
        }
        let invert = |m: DMatrix<f64>| m.clone().cholesky().map_or(DMatrix::zeros(p, p), |c| c.inverse());
        sums.into_iter().map(invert).collect()
    }

    /// Conjugate gradients.
    fn descend(&self, a: &mut [f64], monitor: &dyn Monitor) -> Result<()> {
        let p = self.parameters();
        let own: Vec<Option<Matrix2>> = (0..self.priors.len()).map(|o| self.own(o)).collect();
        let blocks = self.blocks();
        let precondition = |r: &[f64]| -> Vec<f64> {
            let block = |(block, r): (&DMatrix<f64>, &[f64])| block * DVector::from_column_slice(r);
            blocks.iter().zip(r.chunks(p)).flat_map(|pair| block(pair).as_slice().to_vec()).collect()
        };
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let mut r = vec![0.0; a.len()];
        self.apply(&own, a, true, &mut r);
        for r in &mut r {
            *r = -*r;
        }
        let mut z = precondition(&r);
        let mut direction = z.clone();
        let mut rz = dot(&r, &z);
        let stop = rz * RELATIVE_RESIDUAL * RELATIVE_RESIDUAL;
        let mut image = vec![0.0; a.len()];
        for step in 0..MAX_STEPS {
            if rz <= stop {
                break;
            }
            checkpoint(monitor)?;
            monitor.progress(step as f64 / MAX_STEPS as f64);
            self.apply(&own, &direction, false, &mut image);
            let curvature = dot(&direction, &image);
            if curvature <= 0.0 {
                break;
            }
            let length = rz / curvature;
            for i in 0..a.len() {
                a[i] += length * direction[i];
                r[i] -= length * image[i];
            }
            z = precondition(&r);
            let next = dot(&r, &z);
            for i in 0..a.len() {
                direction[i] = z[i] + next / rz * direction[i];
            }
            rz = next;
        }
        Ok(())
    }

    /// Maps, objects and residuals of parameters.
    fn solution(&self, a: &[f64], undetermined: Vec<usize>, shift_variances: Vec<f64>) -> JointSolution {
        let p = self.parameters();
        let mut residuals: Vec<Point> = Vec::with_capacity(self.detections.len());
        for d in self.detections {
            let rows = self.rows(d.at);
            let of = &a[d.exposure as usize * p..][..p];
            residuals.push([0, 1].map(|axis| {
                d.at[axis] - d.expected[axis]
                    + rows[axis][..p].iter().zip(of).map(|(b, a)| b * a).sum::<f64>()
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
        JointSolution {
            maps: a.chunks(p).map(|of| self.map(of)).collect(),
            displacements,
            residuals,
            undetermined,
            shift_variances,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::testing::random;

    fn noise(i: usize) -> f64 {
        random(i as u64) - 0.5
    }

    type Chain = (Vec<Detection>, Vec<usize>, Vec<f64>, Vec<(f64, Point)>);

    /// Exposures in a chain, each shifted and turned a little; objects are seen by neighbours.
    fn chain(exposures: usize) -> Chain {
        let truth: Vec<(f64, Point)> = (0..exposures)
            .map(|e| if e == 0 { (0.0, [0.0; 2]) } else { (1e-3 * noise(e), [noise(e + 31), noise(e + 57)]) })
            .collect();
        let (mut detections, mut starts) = (Vec::new(), vec![0]);
        for object in 0..40 * exposures {
            let first = object % exposures;
            let sky = [100.0 * noise(3 * object), 100.0 * noise(3 * object + 1)];
            let off = [0.3 * noise(object + 5), 0.3 * noise(object + 9)];
            for e in [first, (first + 1) % exposures] {
                let (turn, shift) = truth[e];
                // The map brings `at` to where the object is.
                let x = [sky[0] + off[0] - shift[0], sky[1] + off[1] - shift[1]];
                let at = [x[0] + turn * x[1], x[1] - turn * x[0]].map(|c| c / (1.0 + turn * turn));
                detections.push(Detection {
                    exposure: e as u32,
                    at,
                    expected: sky,
                    jacobian: [[1.0, 0.0], [0.0, 1.0]],
                    weight: 1.0,
                });
            }
            starts.push(detections.len());
        }
        let priors = vec![0.0; 40 * exposures];
        (detections, starts, priors, truth)
    }

    #[test]
    fn maps_and_objects_are_recovered_both_ways() {
        for exposures in [5, 500] {
            let (detections, starts, priors, truth) = chain(exposures);
            let mut frozen = vec![false; exposures];
            frozen[0] = true;
            let problem = JointProblem {
                detections: &detections,
                starts: &starts,
                priors: &priors,
                frozen: &frozen,
                geometry: Geometry::Rscale,
                lever: 50.0,
            };
            let found = problem.solve(&()).unwrap();
            assert!(found.undetermined.is_empty());
            for (map, (turn, shift)) in found.maps.iter().zip(&truth) {
                assert!((map.0[1][0] - turn).abs() < 1e-7, "{map:?} {turn}");
                assert!((map.1[0] - shift[0]).abs() < 1e-5, "{map:?} {shift:?}");
            }
            assert!(found.residuals.iter().flatten().all(|r| r.abs() < 1e-5));
        }
    }

    #[test]
    fn without_anything_fixed_the_gauge_is_named() {
        let (detections, starts, priors, _) = chain(4);
        let problem = JointProblem {
            detections: &detections,
            starts: &starts,
            priors: &priors,
            frozen: &[false; 4],
            geometry: Geometry::Shift,
            lever: 50.0,
        };
        assert_eq!(problem.solve(&()).unwrap().undetermined.len(), 1);
        let catalogued = vec![1.0; priors.len()];
        assert!(JointProblem { priors: &catalogued, ..problem }.solve(&()).unwrap().undetermined.is_empty());
    }
}
