//! The same equations by products with their matrix alone, which is never formed.

use nalgebra::{DMatrix, DVector, SMatrix};

use super::{Column, JointProblem, Layout};
use crate::error::Result;
use crate::geometry::distortion::Point;
use crate::lsq::gradients::conjugate_gradients;
use crate::monitor::Monitor;

impl JointProblem<'_> {
    /// Product of the reduced matrix with parameters; with `constant`, the residuals of no correction are added.
    fn apply<const D: usize>(
        &self,
        layout: &Layout,
        owns: &[Option<SMatrix<f64, D, D>>],
        a: &[f64],
        constant: bool,
        out: &mut [f64],
    ) {
        out.fill(0.0);
        let mut moved: Vec<(Vec<Column>, Point)> = Vec::new();
        for (object, own) in owns.iter().enumerate() {
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
            let b = self.best(object, own, |i| moved[i].1);
            for (i, (columns, y)) in moved[..detections.len()].iter().enumerate() {
                let weight = detections[i].weight;
                if weight == 0.0 {
                    continue;
                }
                let r = self.left(start + i, *y, &b).map(|r| weight * r);
                for (k, step) in columns {
                    out[*k] += step[0] * r[0] + step[1] * r[1];
                }
            }
        }
        for k in self.with_prior(layout) {
            out[k] += self.device.own_prior * a[k];
        }
    }

    /// Inverses of the exposures' own blocks, and of the diagonal of the device.
    fn blocks(&self, layout: &Layout) -> (Vec<DMatrix<f64>>, Vec<f64>) {
        let n = layout.stride;
        let mut sums = vec![DMatrix::<f64>::zeros(n, n); layout.free.len()];
        let mut diagonal = vec![0.0; self.device.terms.len()];
        let mut columns = Vec::new();
        for (i, d) in self.detections.iter().enumerate().filter(|(_, d)| d.weight > 0.0) {
            self.columns(layout, i, &mut columns);
            let of_map = columns.iter().take_while(|(k, _)| *k < layout.device).count();
            for (k, step) in &columns[of_map..] {
                diagonal[k - layout.device] += d.weight * (step[0].powi(2) + step[1].powi(2));
            }
            for (k, a) in &columns[..of_map] {
                for (l, b) in &columns[..of_map] {
                    sums[k / n][(k % n, l % n)] += d.weight * (a[0] * b[0] + a[1] * b[1]);
                }
            }
        }
        for k in self.with_prior(layout) {
            sums[k / n][(k % n, k % n)] += self.device.own_prior;
        }
        let invert = |mut m: DMatrix<f64>| {
            // Of what an exposure does not have nothing is told, and it stays.
            for k in 0..n {
                if m[(k, k)] == 0.0 {
                    m[(k, k)] = 1.0;
                }
            }
            m.cholesky().map_or(DMatrix::zeros(n, n), |c| c.inverse())
        };
        let invert_one = |d: f64| if d > 0.0 { 1.0 / d } else { 0.0 };
        (sums.into_iter().map(invert).collect(), diagonal.into_iter().map(invert_one).collect())
    }

    /// Solves for the parameters that are free, by conjugate gradients.
    pub(super) fn descend<const D: usize>(
        &self,
        layout: &Layout,
        owns: &[Option<SMatrix<f64, D, D>>],
        monitor: &dyn Monitor,
    ) -> Result<Vec<f64>> {
        let (blocks, diagonal) = self.blocks(layout);
        let precondition = |r: &[f64]| -> Vec<f64> {
            let (of_maps, of_device) = r.split_at(layout.device);
            let block = |(block, r): (&DMatrix<f64>, &[f64])| block * DVector::from_column_slice(r);
            let maps = blocks.iter().zip(of_maps.chunks(layout.stride));
            let maps = maps.flat_map(|pair| block(pair).as_slice().to_vec());
            maps.chain(diagonal.iter().zip(of_device).map(|(d, r)| d * r)).collect()
        };
        let mut right = vec![0.0; layout.size];
        self.apply(layout, owns, &vec![0.0; layout.size], true, &mut right);
        for r in &mut right {
            *r = -*r;
        }
        let multiply = |x: &[f64], out: &mut [f64]| self.apply(layout, owns, x, false, out);
        conjugate_gradients(right, multiply, precondition, monitor)
    }
}
