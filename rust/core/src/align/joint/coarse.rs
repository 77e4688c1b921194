//! Equations of all groups of exposures, coupled where groups share objects, and their solution by a sparse
//! factor.

use std::sync::Arc;

use nalgebra::{DMatrix, SMatrix, SVector};

use super::super::device::Device;
use super::groups::{Groups, inverse_of_known};
use super::{JointProblem, Layout, MOST};
use crate::error::Result;
use crate::geometry::distortion::Point;
use crate::lsq::arrow::{Arrow, Eliminated};
use crate::lsq::sparse::{BlockMatrix, Pattern};
use crate::monitor::{Monitor, checkpoint};

/// Largest number of multiplications per detection for the factor of each exposure separately. With more, a
/// factor of groups and some products with the whole matrix are faster.
const WORK_PER_DETECTION: f64 = 600.0;
/// Smallest limit of the multiplications for the factor of each exposure separately.
const LEAST_WORK: f64 = 1e7;

/// Maximum number of multiplications for a factor, except for the last resort of `COMMON`.
pub(super) const MOST_WORK: f64 = 1e10;

/// Smallest share of its objects that an exposure of a group has in common with the group's first exposure,
/// relative to the exposure with more objects. The values are tried in order until the factor is small
/// enough.
const COMMON: [f64; 3] = [0.5, 0.2, 0.0];

/// Maximum number of neighbouring groups that form a block of the equations. Longer rows are faster.
const GROUPS_PER_BLOCK: usize = 8;

/// Coupling of an exposure or group with an object: products of the derivatives by their parameters.
#[derive(Clone)]
pub(super) struct Coupling<const D: usize> {
    pub number: usize,
    pub products: [SVector<f64, D>; MOST],
}

/// Products of the derivatives of the detections with respect to their own parameters, without elimination of
/// the objects.
pub(super) struct Products {
    /// Products of each exposure's parameters with themselves.
    pub own: Vec<DMatrix<f64>>,
    /// Products of each exposure's parameters with those of the device.
    pub cross: Vec<DMatrix<f64>>,
    /// Products of the parameters of the device with themselves.
    pub device: DMatrix<f64>,
}

/// The factorised equations of the groups and the device.
pub(super) struct Coarse {
    pub groups: Groups,
    pub arrow: Arrow,
    pub eliminated: Eliminated,
    /// Covariance of the parameters of the device.
    pub device: DMatrix<f64>,
    /// Indices of the undetermined parameters of the device.
    pub frozen_terms: Vec<usize>,
    /// Inverse of the own products of each exposure; empty for exposures that are alone in their group.
    pub own: Vec<DMatrix<f64>>,
    /// Inverse of the own products of each group.
    pub together: Vec<DMatrix<f64>>,
    pub blocks: Blocks,
}

/// Blocks of the equations, each of a few groups.
pub(super) struct Blocks {
    pattern: Arc<Pattern>,
    /// Block of each group, and index of the group's first parameter in it.
    of: Vec<(usize, usize)>,
}

impl Blocks {
    /// Index of a group's first parameter in the order of elimination.
    pub(super) fn start(&self, group: usize) -> usize {
        let (block, first) = self.of[group];
        self.pattern.start(block) + first
    }

    /// Square part of a matrix that couples two groups.
    pub(super) fn square(&self, matrix: &BlockMatrix, (a, b): (usize, usize), side: usize) -> DMatrix<f64> {
        let ((row, i), (column, j)) = (self.of[a], self.of[b]);
        DMatrix::from_fn(side, side, |k, l| matrix.element((row, i + k), (column, j + l)))
    }
}

/// Halves a set of points recursively until each part has at most `GROUPS_PER_BLOCK` points.
fn split(mut set: Vec<usize>, points: &[Point], sets: &mut Vec<Vec<usize>>) {
    if set.len() <= GROUPS_PER_BLOCK {
        sets.extend((!set.is_empty()).then_some(set));
        return;
    }
    let spread = |axis: usize| {
        let values = set.iter().map(|&k| points[k][axis]);
        values.clone().fold(f64::MIN, f64::max) - values.fold(f64::MAX, f64::min)
    };
    let axis = usize::from(spread(1) > spread(0));
    set.sort_by(|&a, &b| points[a][axis].total_cmp(&points[b][axis]).then(a.cmp(&b)));
    let upper = set.split_off(set.len() / 2);
    split(set, points, sets);
    split(upper, points, sets);
}

impl JointProblem<'_> {
    /// Chooses groups whose equations can be factorised at acceptable cost, and factorises them.
    pub(super) fn coarse<const D: usize>(
        &self,
        layout: &Layout,
        owns: &[Option<SMatrix<f64, D, D>>],
        products: &Products,
        monitor: &dyn Monitor,
    ) -> Result<Coarse> {
        let limit = LEAST_WORK.max(WORK_PER_DETECTION * self.detections.len() as f64);
        if let Some(alone) = self.of_each_alone(layout, owns, products, limit, monitor)? {
            return Ok(alone);
        }
        let tried = COMMON.map(|common| (common, if common > 0.0 { MOST_WORK } else { f64::INFINITY }));
        let chosen = tried.into_iter().find_map(|(common, limit)| {
            let groups = self.groups(layout, owns, common);
            let blocks = self.blocks_of(layout, &groups, limit)?;
            Some((groups, blocks))
        });
        self.factorised(layout, owns, products, chosen.expect("the last has no limit"), monitor)
    }

    /// Factorises the equations of each exposure separately; `None` if that takes more multiplications than
    /// `limit`.
    pub(super) fn of_each_alone<const D: usize>(
        &self,
        layout: &Layout,
        owns: &[Option<SMatrix<f64, D, D>>],
        products: &Products,
        limit: f64,
        monitor: &dyn Monitor,
    ) -> Result<Option<Coarse>> {
        let alone = Groups::alone(layout.free.len());
        let blocks = self.blocks_of(layout, &alone, limit);
        blocks.map(|blocks| self.factorised(layout, owns, products, (alone, blocks), monitor)).transpose()
    }

    /// Blocks of groups, and which of them share objects; `None` if the factor takes more multiplications
    /// than `limit`.
    pub(super) fn blocks_of(&self, layout: &Layout, groups: &Groups, limit: f64) -> Option<Blocks> {
        let points: Vec<Point> = groups.first.iter().map(|&e| self.places[layout.free[e]]).collect();
        let mut sets = Vec::new();
        split((0..points.len()).collect(), &points, &mut sets);
        let mut of = vec![(0, 0); points.len()];
        for (block, set) in sets.iter().enumerate() {
            for (k, &group) in set.iter().enumerate() {
                of[group] = (block, k * layout.stride);
            }
        }
        let n = sets.len();
        let mut touching = vec![false; n * n];
        let (mut work, mut seen) = (0.0, Vec::new());
        for object in 0..self.starts.len() - 1 {
            seen.clear();
            seen.extend(self.touching(layout, object).map(|(exposure, _)| groups.of[exposure]));
            if !groups.are_alone() {
                seen.sort_unstable();
                seen.dedup();
            }
            work += (seen.len() * layout.stride).pow(2) as f64;
            for group in &mut seen {
                *group = of[*group].0;
            }
            seen.sort_unstable();
            seen.dedup();
            for (at, &a) in seen.iter().enumerate() {
                seen[at + 1..].iter().for_each(|&b| touching[a * n + b] = true);
            }
        }
        let after = |a: usize| (a + 1..n).map(move |b| (a, b));
        let pairs: Vec<_> = (0..n).flat_map(after).filter(|&(a, b)| touching[a * n + b]).collect();
        // The given elements alone, before any fill-in, exceed the limit.
        if work + (pairs.len() * (GROUPS_PER_BLOCK * layout.stride).pow(3)) as f64 > limit {
            return None;
        }
        let sizes: Vec<usize> = sets.iter().map(|set| set.len() * layout.stride).collect();
        let middles: Vec<Point> = sets.iter().map(|set| points[set[set.len() / 2]]).collect();
        let pattern = Arc::new(Pattern::new(&sizes, &middles, &pairs));
        work += pattern.work();
        (work <= limit).then_some(Blocks { pattern, of })
    }

    /// Computes the products of the derivatives of the detections with respect to their own parameters.
    pub(super) fn products<const D: usize>(
        &self,
        layout: &Layout,
        owns: &[Option<SMatrix<f64, D, D>>],
    ) -> Products {
        let (n, exposures, terms) = (layout.stride, layout.free.len(), layout.size - layout.device);
        let mut products = Products {
            own: vec![DMatrix::zeros(n, n); exposures],
            cross: vec![DMatrix::zeros(n, terms); exposures],
            device: DMatrix::zeros(terms, terms),
        };
        let mut of_device: Vec<(usize, Point)> = Vec::new();
        for (object, _) in owns.iter().enumerate().filter(|(_, own)| own.is_some()) {
            for (i, d) in (self.starts[object]..).zip(self.of(object)).filter(|(_, d)| d.weight > 0.0) {
                of_device.clear();
                self.device.for_each(i, |k, step| of_device.push((k, step)));
                if let Some(exposure) = layout.number(d.exposure as usize) {
                    let of_map = self.of_map(layout, i);
                    let own = products.own[exposure].as_mut_slice();
                    own.chunks_exact_mut(n)
                        .zip(&of_map)
                        .for_each(|(to, b)| add_products(to, &of_map, b, d.weight));
                    for (l, b) in &of_device {
                        let mut column = products.cross[exposure].column_mut(*l);
                        add_products(column.as_mut_slice(), &of_map, b, d.weight);
                    }
                }
                for (l, b) in &of_device {
                    for (k, a) in &of_device {
                        products.device[(*k, *l)] += d.weight * (a[0] * b[0] + a[1] * b[1]);
                    }
                }
            }
        }
        for k in self.with_prior(layout) {
            products.own[k / n][(k % n, k % n)] += self.device.own_prior;
        }
        products
    }

    /// Builds the equations of the groups and the device, with the objects eliminated, and factorises them.
    pub(super) fn factorised<const D: usize>(
        &self,
        layout: &Layout,
        owns: &[Option<SMatrix<f64, D, D>>],
        products: &Products,
        (groups, blocks): (Groups, Blocks),
        monitor: &dyn Monitor,
    ) -> Result<Coarse> {
        let (n, terms) = (layout.stride, layout.size - layout.device);
        let number = groups.first.len();
        let order = |group: usize| (blocks.start(group)..).take(n);
        let mut arrow = Arrow {
            order: (0..number).flat_map(order).collect(),
            own: BlockMatrix::new(blocks.pattern.clone()),
            held: Vec::new(),
            firsts: (0..=number).map(|group| group * n).collect(),
            cross: vec![0.0; number * n * terms],
            shared: products.device.clone(),
            gradient: vec![0.0; number * n + terms],
            cost: 0.0,
            costs: Vec::new(),
        };
        let mut together = vec![DMatrix::zeros(n, n); number];
        for (exposure, &group) in groups.of.iter().enumerate() {
            // Both sides of a symmetric matrix are transformed.
            let own =
                groups.gathered(exposure, &groups.gathered(exposure, &products.own[exposure]).transpose());
            let at = blocks.of[group];
            arrow.own.add_block(at, at, n, |i, j| own[(i, j)]);
            together[group] += own;
            let cross = groups.gathered(exposure, &products.cross[exposure]);
            for i in 0..n {
                let row = arrow.order[group * n + i] * terms;
                (0..terms).for_each(|k| arrow.cross[row + k] += cross[(i, k)]);
            }
        }
        let (mut couplings, mut device) = (Vec::new(), vec![SVector::zeros(); terms]);
        for (object, own) in owns.iter().enumerate() {
            checkpoint(monitor)?;
            if let Some(own) = own {
                self.couplings(layout, object, &mut couplings, &mut device);
                groups.merge(&mut couplings, n);
                eliminate(&blocks, own, &couplings, &device, (n, &mut arrow));
            }
        }
        let has_own = |exposure: &usize| groups.has_own(*exposure);
        let invert = |matrix: &DMatrix<f64>| inverse_of_known(matrix.clone()).unwrap_or(DMatrix::zeros(n, n));
        let own = (0..groups.of.len())
            .map(|e| if has_own(&e) { invert(&products.own[e]) } else { DMatrix::zeros(0, 0) });
        let own = own.collect();
        let together = together.iter().map(invert).collect();
        let eliminated = arrow.eliminated(0.0, 0.0);
        let (device, frozen_terms) = eliminated.equations.inverse();
        Ok(Coarse { groups, arrow, eliminated, device, frozen_terms, own, together, blocks })
    }

    /// Couplings of an object with exposures, one for each exposure, and with the device.
    pub(super) fn couplings<const D: usize>(
        &self,
        layout: &Layout,
        object: usize,
        couplings: &mut Vec<Coupling<D>>,
        of_device: &mut [SVector<f64, D>],
    ) {
        couplings.clear();
        of_device.fill(SVector::zeros());
        for (i, d) in (self.starts[object]..).zip(self.of(object)).filter(|(_, d)| d.weight > 0.0) {
            let basis = self.motions.basis::<D>(i, &d.jacobian).map(SVector::from);
            let product = |step: Point| (basis[0] * step[0] + basis[1] * step[1]) * d.weight;
            self.device.for_each(i, |k, step| of_device[k] += product(step));
            if let Some(number) = layout.number(d.exposure as usize) {
                let mut coupling = Coupling { number, products: [SVector::zeros(); MOST] };
                self.for_each_of_map(layout, i, |k, step| coupling.products[k] = product(step));
                couplings.push(coupling);
            }
        }
        couplings.sort_by_key(|coupling| coupling.number);
        couplings.dedup_by(|more, coupling| more.number == coupling.number && coupling.add(more));
    }
}

/// Adds the weighted products of the derivatives `rows` with the derivative `column`.
fn add_products(to: &mut [f64], rows: &[Point], column: &Point, weight: f64) {
    let column = column.map(|c| weight * c);
    to.iter_mut().zip(rows).for_each(|(to, a)| *to += a[0] * column[0] + a[1] * column[1]);
}

impl<const D: usize> Coupling<D> {
    /// Adds another coupling of the same exposure or group. Returns true, so that `dedup_by` removes `other`.
    fn add(&mut self, other: &Self) -> bool {
        self.products.iter_mut().zip(&other.products).for_each(|(a, b)| *a += b);
        true
    }
}

impl Groups {
    /// Combines the couplings of exposures into couplings of their groups.
    pub(super) fn merge<const D: usize>(&self, couplings: &mut Vec<Coupling<D>>, stride: usize) {
        if self.are_alone() {
            return;
        }
        for mut coupling in std::mem::take(couplings) {
            if let Some(carry) = self.carry(coupling.number) {
                let mut carried = [SVector::zeros(); MOST];
                for (j, carried) in carried.iter_mut().enumerate().take(stride) {
                    *carried = carry.column(j).iter().zip(&coupling.products).map(|(c, t)| t * *c).sum();
                }
                coupling.products = carried;
            }
            coupling.number = self.of[coupling.number];
            // Few groups see an object, so a linear search is fast.
            match couplings.iter_mut().find(|other| other.number == coupling.number) {
                Some(other) => drop(other.add(&coupling)),
                None => couplings.push(coupling),
            }
        }
    }
}

impl Coarse {
    /// Exposures with an undetermined parameter; for a group, its first exposure.
    pub(super) fn undetermined(&self, layout: &Layout, device: &Device<'_>) -> Vec<usize> {
        let frozen = self.eliminated.factor.frozen();
        let undetermined = |k: &usize| {
            let exposure = layout.free[self.groups.first[k / layout.stride]];
            let is_there = k % layout.stride < layout.own || device.has_own_terms(exposure);
            (frozen[self.arrow.order[*k]] && is_there).then_some(exposure)
        };
        let mut exposures: Vec<usize> =
            (0..self.arrow.order.len()).filter_map(|k| undetermined(&k)).collect();
        exposures.dedup();
        exposures
    }

    /// Solves for another right-hand side: the parameters of the groups, then those of the device.
    pub(super) fn solve(&self, right: &[f64]) -> Vec<f64> {
        self.arrow.solve_with(&self.eliminated, &self.device, right)
    }
}

/// Eliminates the parameters of an object from the equations.
fn eliminate<const D: usize>(
    blocks: &Blocks,
    own: &SMatrix<f64, D, D>,
    couplings: &[Coupling<D>],
    of_device: &[SVector<f64, D>],
    (stride, arrow): (usize, &mut Arrow),
) {
    let terms = of_device.len();
    for (at, coupling) in couplings.iter().enumerate() {
        let mine = blocks.of[coupling.number];
        let mut gain = [SVector::zeros(); MOST];
        for (gain, product) in gain.iter_mut().zip(&coupling.products).take(stride) {
            *gain = own * product;
        }
        arrow.own.add_block(mine, mine, stride, |i, j| -gain[i].dot(&coupling.products[j]));
        for other in &couplings[at + 1..] {
            let product = |i: usize, j: usize| gain[i].dot(&other.products[j]);
            let theirs = blocks.of[other.number];
            arrow.own.add_block(mine, theirs, stride, |i, j| -product(i, j));
            if theirs.0 == mine.0 {
                arrow.own.add_block(theirs, mine, stride, |i, j| -product(j, i));
            }
        }
        for (k, gain) in (coupling.number * stride..).zip(&gain[..stride]) {
            let row = arrow.order[k] * terms;
            for (cross, c) in arrow.cross[row..row + terms].iter_mut().zip(of_device) {
                *cross -= gain.dot(c);
            }
        }
    }
    for (k, coupling) in of_device.iter().enumerate() {
        let gain = own * coupling;
        for (l, other) in of_device.iter().enumerate() {
            arrow.shared[(k, l)] -= gain.dot(other);
        }
    }
}
