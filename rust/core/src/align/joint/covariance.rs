//! Covariances of the maps from the solution for groups of exposures.
//!
//! With the approximate inverse `M = C + V K Vᵀ` of the whole matrix S, V being what exposures have of their groups, K the
//! inverse of the equations of these, and `C = B⁻¹ - P T Pᵀ` that of exposures against their group, the inverse of S is
//! `2 M - M S M` to the square of how M differs from it. The blocks of that on the diagonal need K where it has a place in the
//! factor alone.

use nalgebra::{DMatrix, SMatrix, SVector};

use super::coarse::{Coarse, Products, Touch};
use super::{JointProblem, Layout, MOST};
use crate::lsq::sparse::BlockMatrix;

/// Parts of the matrix that couple an exposure which is not alone in its group.
struct Coupled {
    /// With itself.
    own: DMatrix<f64>,
    /// With what groups have in common, by group.
    groups: Vec<(usize, DMatrix<f64>)>,
    /// With the device.
    device: DMatrix<f64>,
}

impl JointProblem<'_> {
    /// Covariances of the shift, the matrix and the own terms of each exposure.
    pub(super) fn covariances<const D: usize>(
        &self,
        layout: &Layout,
        owns: &[Option<SMatrix<f64, D, D>>],
        products: &Products,
        coarse: &Coarse,
    ) -> Vec<DMatrix<f64>> {
        let own = self.device.own.len();
        let mut covariances = vec![DMatrix::zeros(6 + own, 6 + own); self.frozen.len()];
        let mut by_parameters = DMatrix::zeros(6 + own, layout.stride);
        by_parameters.view_mut((0, 0), (6, self.parameters())).copy_from(&self.map_by_parameters());
        by_parameters.view_mut((6, layout.own), (own, own)).fill_with_identity();
        let inverse = Inverse { coarse, given: coarse.eliminated.factor.inverse(), n: layout.stride };
        let coupled = self.coupled(layout, owns, products, coarse);
        for (exposure, &e) in layout.free.iter().enumerate() {
            // What all have in common of their own terms is told from the device by the prior alone: only the sum is known.
            let with_device = !self.device.bends(e);
            let whole = match &coupled[exposure] {
                None => inverse.block(coarse.groups.of[exposure], coarse.groups.of[exposure], with_device),
                Some(coupled) => inverse.of_exposure(exposure, coupled, with_device),
            };
            covariances[e] = &by_parameters * whole * by_parameters.transpose();
        }
        covariances
    }

    /// Parts of the matrix that couple the exposures which are not alone in their groups.
    fn coupled<const D: usize>(
        &self,
        layout: &Layout,
        owns: &[Option<SMatrix<f64, D, D>>],
        products: &Products,
        coarse: &Coarse,
    ) -> Vec<Option<Coupled>> {
        let (n, groups) = (layout.stride, &coarse.groups);
        let start = |exposure: usize| {
            let own = products.own[exposure].clone();
            let of_group = groups.gathered(exposure, &own).transpose();
            let device = products.cross[exposure].clone();
            let coupled = Coupled { own, groups: vec![(groups.of[exposure], of_group)], device };
            groups.has_own(exposure).then_some(coupled)
        };
        let mut coupled: Vec<Option<Coupled>> = (0..layout.free.len()).map(start).collect();
        if groups.are_alone() {
            return coupled;
        }
        let mut touches: Vec<Touch<D>> = Vec::new();
        let mut device = vec![SVector::zeros(); layout.size - layout.device];
        for (object, own) in owns.iter().enumerate() {
            let Some(own) = own else { continue };
            self.touches(layout, object, &mut touches, &mut device);
            let mut merged = touches.clone();
            groups.merge(&mut merged, n);
            for touch in &touches {
                let Some(coupled) = &mut coupled[touch.number] else { continue };
                let mut gain = [SVector::zeros(); MOST];
                gain.iter_mut().zip(&touch.coupling).take(n).for_each(|(gain, c)| *gain = own * c);
                take_products(&mut coupled.own, &gain, &touch.coupling);
                take_products(&mut coupled.device, &gain, &device);
                for group in &merged {
                    take_products(coupled.of_group(group.number, n), &gain, &group.coupling);
                }
            }
        }
        coupled
    }
}

impl Coupled {
    fn of_group(&mut self, group: usize, n: usize) -> &mut DMatrix<f64> {
        let at = self.groups.iter().position(|(other, _)| *other == group).unwrap_or_else(|| {
            self.groups.push((group, DMatrix::zeros(n, n)));
            self.groups.len() - 1
        });
        &mut self.groups[at].1
    }
}

/// Takes products of some vectors, by row, with others, by column, out of a matrix.
fn take_products<const D: usize>(
    from: &mut DMatrix<f64>,
    rows: &[SVector<f64, D>],
    columns: &[SVector<f64, D>],
) {
    let n = from.nrows();
    for (column, b) in from.as_mut_slice().chunks_exact_mut(n).zip(columns) {
        for (value, a) in column.iter_mut().zip(rows) {
            *value -= a.dot(b);
        }
    }
}

/// The inverse of the equations of groups and of the device.
struct Inverse<'a> {
    coarse: &'a Coarse,
    /// That of groups for a known device, as far as it has a place in the factor.
    given: BlockMatrix,
    n: usize,
}

impl Inverse<'_> {
    /// Parameters of a group by those of the device.
    fn gain(&self, group: usize) -> DMatrix<f64> {
        let (start, terms) = (self.coarse.blocks.start(group), self.coarse.device.nrows());
        DMatrix::from_fn(self.n, terms, |i, k| self.coarse.eliminated.gain[(start + i) * (terms + 1) + k])
    }

    /// The square of two groups that touch; without the device, for a known one.
    fn block(&self, a: usize, b: usize, with_device: bool) -> DMatrix<f64> {
        let given = self.coarse.blocks.square(&self.given, (a, b), self.n);
        if with_device {
            given + self.gain(a) * &self.coarse.device * self.gain(b).transpose()
        } else {
            given
        }
    }

    /// Covariance of the parameters of an exposure that is not alone in its group.
    fn of_exposure(&self, exposure: usize, coupled: &Coupled, with_device: bool) -> DMatrix<f64> {
        let Coarse { groups, arrow, blocks, .. } = self.coarse;
        let group = groups.of[exposure];
        let (own, together) = (&self.coarse.own[exposure], &self.coarse.together[group]);
        let mut of_others = DMatrix::zeros(self.n, self.n);
        for (other, coupling) in &coupled.groups {
            of_others += coupling * self.block(*other, group, with_device);
        }
        if with_device {
            of_others -= &coupled.device * &self.coarse.device * self.gain(group).transpose();
        }
        let square = blocks.square(&arrow.own, (group, group), self.n);
        let common = self.block(group, group, with_device) - together * square * together;
        let carried = |matrix: &DMatrix<f64>| groups.carried(exposure, matrix);
        let mixed = own * carried(&(&coupled.groups[0].1 * together - of_others).transpose()).transpose();
        let whole = own * 2.0 - own * &coupled.own * own + carried(&carried(&common).transpose());
        whole + &mixed + mixed.transpose()
    }
}
