//! Covariances of the maps, computed from the solution for groups of exposures.
//!
//! Let `M = C + V K Vᵀ` be the approximate inverse of the whole matrix S. V maps the parameters of groups to
//! those of their exposures, K is the inverse of the equations of the groups, and `C = B⁻¹ - P T Pᵀ` is the
//! inverse for exposures relative to their group: B are the own products of the exposures, T is the inverse
//! of their sum over a group, and P is V for the exposures that share a group. The inverse of S is then
//! `2 M - M S M`, with an error of second order in the error of M. The diagonal blocks of this expression
//! need only the elements of K that the sparse factor stores.

use nalgebra::{DMatrix, SMatrix, SVector};

use super::coarse::{Coarse, Coupling, Products};
use super::{JointProblem, Layout, MOST};
use crate::lsq::sparse::BlockMatrix;

/// Parts of the matrix that couple an exposure, if it is not alone in its group.
struct Coupled {
    /// Coupling of the exposure with itself.
    own: DMatrix<f64>,
    /// Couplings with the parameters of groups, each with its group.
    groups: Vec<(usize, DMatrix<f64>)>,
    /// Coupling with the device.
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
            // Only the prior separates a distortion common to all own terms from that of the device; the data
            // give their sum. The device is therefore taken as known.
            let with_device = !self.device.has_own_terms(e);
            let whole = match &coupled[exposure] {
                None => inverse.block(coarse.groups.of[exposure], coarse.groups.of[exposure], with_device),
                Some(coupled) => inverse.of_exposure(exposure, coupled, with_device),
            };
            covariances[e] = &by_parameters * whole * by_parameters.transpose();
        }
        covariances
    }

    /// Parts of the matrix that couple each exposure; `None` for exposures that are alone in their group.
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
        let mut couplings: Vec<Coupling<D>> = Vec::new();
        let mut device = vec![SVector::zeros(); layout.size - layout.device];
        for (object, own) in owns.iter().enumerate() {
            let Some(own) = own else { continue };
            self.couplings(layout, object, &mut couplings, &mut device);
            let mut merged = couplings.clone();
            groups.merge(&mut merged, n);
            for coupling in &couplings {
                let Some(coupled) = &mut coupled[coupling.number] else { continue };
                let mut gain = [SVector::zeros(); MOST];
                gain.iter_mut().zip(&coupling.products).take(n).for_each(|(gain, c)| *gain = own * c);
                take_products(&mut coupled.own, &gain, &coupling.products);
                take_products(&mut coupled.device, &gain, &device);
                for group in &merged {
                    take_products(coupled.of_group(group.number, n), &gain, &group.products);
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

/// Subtracts the products of the vectors `rows` with the vectors `columns` from a matrix.
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

/// The inverse of the equations of the groups and the device.
struct Inverse<'a> {
    coarse: &'a Coarse,
    /// Inverse of the groups' equations for a known device, at the elements that the factor stores.
    given: BlockMatrix,
    n: usize,
}

impl Inverse<'_> {
    /// Negative derivative of a group's parameters with respect to those of the device.
    fn gain(&self, group: usize) -> DMatrix<f64> {
        let (start, terms) = (self.coarse.blocks.start(group), self.coarse.device.nrows());
        DMatrix::from_fn(self.n, terms, |i, k| self.coarse.eliminated.gain[(start + i) * (terms + 1) + k])
    }

    /// Square part of the inverse that couples two groups; without `with_device`, for a known device.
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
