//! Solution of the joint equations by conjugate gradients, preconditioned by the solution for groups.
//!
//! Only products with the matrix of the equations are computed; the matrix is never formed.

use nalgebra::{DMatrix, SMatrix};

use super::coarse::Coarse;
use super::{JointProblem, Layout};
use crate::error::Result;
use crate::geometry::distortion::Point;
use crate::lsq::gradients::{Solution, conjugate_gradients};
use crate::monitor::Monitor;

impl JointProblem<'_> {
    /// Product of the reduced matrix with the parameters `a`; with `constant`, the residuals at zero
    /// parameters are added.
    fn apply<const D: usize>(
        &self,
        layout: &Layout,
        owns: &[Option<SMatrix<f64, D, D>>],
        a: &[f64],
        constant: bool,
        out: &mut [f64],
    ) {
        out.fill(0.0);
        let mut moved: Vec<Point> = Vec::new();
        for (object, own) in owns.iter().enumerate() {
            let Some(own) = own else { continue };
            let (start, detections) = (self.starts[object], self.of(object));
            moved.clear();
            moved.extend((start..).zip(detections).map(|(i, d)| {
                let moved = self.moved(layout, i, a);
                let start = |axis: usize| if constant { d.at[axis] - d.expected[axis] } else { 0.0 };
                [0, 1].map(|axis| start(axis) + moved[axis])
            }));
            let b = self.best(object, own, |i| moved[i]);
            for (i, d) in detections.iter().enumerate().filter(|(_, d)| d.weight > 0.0) {
                let r = self.left(start + i, moved[i], &b).map(|r| d.weight * r);
                self.for_each_column(layout, start + i, |k, step| out[k] += step[0] * r[0] + step[1] * r[1]);
            }
        }
        for k in self.with_prior(layout) {
            out[k] += self.device.own_prior * a[k];
        }
    }

    /// Solves for the free parameters by conjugate gradients.
    pub(super) fn descend<const D: usize>(
        &self,
        layout: &Layout,
        owns: &[Option<SMatrix<f64, D, D>>],
        coarse: &Coarse,
        monitor: &dyn Monitor,
    ) -> Result<Solution> {
        let mut right = vec![0.0; layout.size];
        self.apply(layout, owns, &vec![0.0; layout.size], true, &mut right);
        for r in &mut right {
            *r = -*r;
        }
        let multiply = |x: &[f64], out: &mut [f64]| self.apply(layout, owns, x, false, out);
        conjugate_gradients(right, multiply, |r| coarse.precondition(layout, r), monitor)
    }
}

impl Coarse {
    /// Approximate solution: each group as a whole, and each exposure relative to its group as if the objects
    /// stayed fixed.
    fn precondition(&self, layout: &Layout, right: &[f64]) -> Vec<f64> {
        let n = layout.stride;
        let (of_maps, of_device) = right.split_at(layout.device);
        let columns: Vec<_> = of_maps.chunks(n).map(|r| DMatrix::from_column_slice(n, 1, r)).collect();
        let mut of_groups = vec![DMatrix::zeros(n, 1); self.groups.first.len()];
        for (exposure, column) in columns.iter().enumerate() {
            of_groups[self.groups.of[exposure]] += self.groups.gathered(exposure, column);
        }
        let all: Vec<f64> = of_groups.iter().flatten().chain(of_device).copied().collect();
        let solved = self.solve(&all);
        let (maps, device) = solved.split_at(of_groups.len() * n);
        let mut out = Vec::with_capacity(right.len());
        for (exposure, column) in columns.iter().enumerate() {
            let group = self.groups.of[exposure];
            let mut of_group = DMatrix::from_column_slice(n, 1, &maps[group * n..(group + 1) * n]);
            if !self.groups.has_own(exposure) {
                out.extend_from_slice(of_group.as_slice());
                continue;
            }
            of_group -= &self.together[group] * &of_groups[group];
            let moved = self.groups.carried(exposure, &of_group) + &self.own[exposure] * column;
            out.extend_from_slice(moved.as_slice());
        }
        out.extend_from_slice(device);
        out
    }
}
