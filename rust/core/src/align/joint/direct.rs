//! The equations of all maps, which touch where exposures share objects, and their solution by a sparse factor.

use std::sync::Arc;

use nalgebra::{DMatrix, SMatrix, SVector};

use super::super::device::MOST_OWN;
use super::{Column, JointProblem, JointSolution, Layout};
use crate::error::Result;
use crate::geometry::distortion::Point;
use crate::lsq::arrow::{Arrow, Eliminated};
use crate::lsq::sparse::{BlockMatrix, Pattern};
use crate::monitor::{Monitor, checkpoint};

/// Multiplications above which products with the matrix, step by step, are the quicker way.
const MOST_WORK: f64 = 1e10;

/// Most parameters of an exposure, a shift by colour and its own terms included.
const MOST: usize = super::MOST + 2 + MOST_OWN;

/// Exposures that are near each other are solved for together, about so many: long rows are the quicker ones.
const TOGETHER: usize = 8;

/// A detection in the equations: its exposure, and the products of its parameters with those of the object.
struct Touch<const D: usize> {
    exposure: usize,
    coupling: [SVector<f64, D>; MOST],
}

/// Blocks of the equations, of some exposures each.
pub(super) struct Blocks {
    pattern: Arc<Pattern>,
    /// Block of each free exposure, and its first parameter there.
    of: Vec<(usize, usize)>,
}

impl Blocks {
    /// Place of a free exposure's first parameter in the order of elimination.
    fn start(&self, exposure: usize) -> usize {
        let (block, first) = self.of[exposure];
        self.pattern.start(block) + first
    }
}

/// Halves a set of points until few are together.
fn split(mut set: Vec<usize>, points: &[Point], sets: &mut Vec<Vec<usize>>) {
    if set.len() <= TOGETHER {
        sets.push(set);
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
    /// Blocks of exposures, and which share an object; `None` where there is too much to be solved directly.
    pub(super) fn blocks_of(&self, layout: &Layout) -> Option<Blocks> {
        let points: Vec<Point> = layout.free.iter().map(|&e| self.places[e]).collect();
        let mut sets = Vec::new();
        split((0..points.len()).collect(), &points, &mut sets);
        let mut of = vec![(0, 0); points.len()];
        for (block, set) in sets.iter().enumerate() {
            for (k, &exposure) in set.iter().enumerate() {
                of[exposure] = (block, k * layout.stride);
            }
        }
        let n = sets.len();
        let mut touching = vec![false; n * n];
        let (mut work, mut seen) = (0.0, Vec::new());
        for object in 0..self.priors.len() {
            let detections = self.of(object).iter().filter(|d| d.weight > 0.0);
            seen.clear();
            seen.extend(detections.filter_map(|d| layout.number(d.exposure as usize)).map(|e| of[e].0));
            work += (seen.len() * layout.stride).pow(2) as f64;
            seen.sort_unstable();
            seen.dedup();
            for (at, &a) in seen.iter().enumerate() {
                seen[at + 1..].iter().for_each(|&b| touching[a * n + b] = true);
            }
        }
        let after = |a: usize| (a + 1..n).map(move |b| (a, b));
        let pairs: Vec<_> = (0..n).flat_map(after).filter(|&(a, b)| touching[a * n + b]).collect();
        // Not even the elements that are given, before any fill.
        if work + (pairs.len() * (TOGETHER * layout.stride).pow(3)) as f64 > MOST_WORK {
            return None;
        }
        let sizes: Vec<usize> = sets.iter().map(|set| set.len() * layout.stride).collect();
        let middles: Vec<Point> = sets.iter().map(|set| points[set[set.len() / 2]]).collect();
        let pattern = Arc::new(Pattern::new(&sizes, &middles, &pairs));
        (work + pattern.work() <= MOST_WORK).then_some(Blocks { pattern, of })
    }

    /// Equations of the parameters that are free, the objects eliminated.
    fn arrow<const D: usize>(
        &self,
        layout: &Layout,
        blocks: &Blocks,
        owns: &[Option<SMatrix<f64, D, D>>],
        monitor: &dyn Monitor,
    ) -> Result<Arrow> {
        let terms = layout.size - layout.device;
        let exposures = layout.free.len();
        let order = |exposure: usize| (blocks.start(exposure)..).take(layout.stride);
        let mut arrow = Arrow {
            order: (0..exposures).flat_map(order).collect(),
            own: BlockMatrix::new(blocks.pattern.clone()),
            held: Vec::new(),
            firsts: (0..=exposures).map(|exposure| exposure * layout.stride).collect(),
            cross: vec![0.0; layout.device * terms],
            shared: DMatrix::zeros(terms, terms),
            gradient: vec![0.0; layout.size],
            cost: 0.0,
            costs: Vec::new(),
        };
        for (object, own) in owns.iter().enumerate() {
            checkpoint(monitor)?;
            if let Some(own) = own {
                self.add_object(layout, blocks, (object, own), &mut arrow);
            }
        }
        for k in self.with_prior(layout) {
            let (block, first) = blocks.of[k / layout.stride];
            let at = (block, first + k % layout.stride);
            arrow.own.add(at, at, self.device.own_prior);
        }
        Ok(arrow)
    }

    fn add_object<const D: usize>(
        &self,
        layout: &Layout,
        blocks: &Blocks,
        (object, own): (usize, &SMatrix<f64, D, D>),
        arrow: &mut Arrow,
    ) {
        let terms = layout.size - layout.device;
        let mut columns = Vec::new();
        let mut touches: Vec<Touch<D>> = Vec::with_capacity(self.of(object).len());
        let mut of_device = vec![SVector::<f64, D>::zeros(); terms];
        let mut of_object = SVector::<f64, D>::zeros();
        for (i, d) in (self.starts[object]..).zip(self.of(object)).filter(|(_, d)| d.weight > 0.0) {
            self.columns(layout, i, &mut columns);
            let basis = self.motions.basis::<D>(i, &d.jacobian).map(SVector::from);
            let r = [0, 1].map(|axis| d.weight * (d.at[axis] - d.expected[axis]));
            of_object += basis[0] * r[0] + basis[1] * r[1];
            let split = columns.iter().take_while(|(k, _)| *k < layout.device).count();
            let (of_map, device) = columns.split_at(split);
            let coupling = |step: &Point| (basis[0] * step[0] + basis[1] * step[1]) * d.weight;
            for (k, step) in &columns {
                arrow.gradient[*k] += step[0] * r[0] + step[1] * r[1];
            }
            for (k, step) in device {
                of_device[k - layout.device] += coupling(step);
            }
            if let Some(exposure) = layout.number(d.exposure as usize) {
                let mut touch = Touch { exposure, coupling: [SVector::zeros(); MOST] };
                for (coupled, (_, step)) in touch.coupling.iter_mut().zip(of_map) {
                    *coupled = coupling(step);
                }
                touches.push(touch);
            }
            add_products(layout, blocks, (of_map, device), d.weight, arrow);
        }
        eliminate(layout, blocks, own, &touches, &of_device, &of_object, arrow);
    }

    /// Solves the equations, with what they leave open and covariances.
    pub(super) fn solve_directly<const D: usize>(
        &self,
        layout: &Layout,
        blocks: &Blocks,
        owns: &[Option<SMatrix<f64, D, D>>],
        monitor: &dyn Monitor,
    ) -> Result<JointSolution> {
        let arrow = self.arrow(layout, blocks, owns, monitor)?;
        let eliminated = arrow.eliminated(0.0, 0.0);
        let mut solution = self.solution(layout, owns, arrow.step(&eliminated).as_slice());
        let frozen = eliminated.factor.frozen();
        solution.undetermined = (0..layout.device)
            .filter(|&k| frozen[arrow.order[k]])
            .map(|k| (layout.free[k / layout.stride], k % layout.stride))
            .filter(|&(exposure, k)| k < layout.own || self.device.bends(exposure))
            .map(|(exposure, _)| exposure)
            .collect();
        solution.undetermined.dedup();
        let device = eliminated.covariance();
        solution.undetermined_terms = device.frozen;
        if self.with_covariances {
            solution.covariances = self.covariances(layout, blocks, &eliminated, &device.matrix);
        }
        Ok(solution)
    }

    /// Covariances of the shift, the matrix and the own terms of each exposure.
    fn covariances(
        &self,
        layout: &Layout,
        blocks: &Blocks,
        eliminated: &Eliminated,
        device: &DMatrix<f64>,
    ) -> Vec<DMatrix<f64>> {
        let (terms, own) = (device.nrows(), self.device.own.len());
        let mut covariances = vec![DMatrix::zeros(6 + own, 6 + own); self.frozen.len()];
        let mut by_parameters = DMatrix::zeros(6 + own, layout.stride);
        by_parameters.view_mut((0, 0), (6, self.parameters())).copy_from(&self.map_by_parameters());
        by_parameters.view_mut((6, layout.own), (own, own)).fill_with_identity();
        let inverses = eliminated.factor.inverse_blocks();
        for (exposure, &e) in layout.free.iter().enumerate() {
            let (block, first) = blocks.of[exposure];
            let width = inverses[block].len().isqrt();
            let element = |i: usize, j: usize| inverses[block][(first + i) * width + first + j];
            let given = DMatrix::from_fn(layout.stride, layout.stride, element);
            let start = blocks.start(exposure);
            let gain =
                DMatrix::from_fn(layout.stride, terms, |i, k| eliminated.gain[(start + i) * (terms + 1) + k]);
            // What all have in common of their own terms is told from the device by the prior alone: only the sum is known.
            let whole = if self.device.bends(e) { given } else { given + &gain * device * gain.transpose() };
            covariances[e] = &by_parameters * whole * by_parameters.transpose();
        }
        covariances
    }
}

/// Adds the products of a detection's own parameters with each other.
fn add_products(
    layout: &Layout,
    blocks: &Blocks,
    (of_map, device): (&[Column], &[Column]),
    weight: f64,
    arrow: &mut Arrow,
) {
    let terms = layout.size - layout.device;
    let product = |a: &Point, b: &Point| weight * (a[0] * b[0] + a[1] * b[1]);
    if let Some(at) = of_map.first().map(|(k, _)| blocks.of[k / layout.stride]) {
        arrow.own.add_block(at, at, of_map.len(), |i, j| product(&of_map[i].1, &of_map[j].1));
    }
    for (k, a) in of_map {
        let row = arrow.order[*k] * terms;
        for (l, b) in device {
            arrow.cross[row + l - layout.device] += product(a, b);
        }
    }
    for (k, a) in device {
        for (l, b) in device {
            arrow.shared[(k - layout.device, l - layout.device)] += product(a, b);
        }
    }
}

/// Takes the parameters of an object out of the equations.
fn eliminate<const D: usize>(
    layout: &Layout,
    blocks: &Blocks,
    own: &SMatrix<f64, D, D>,
    touches: &[Touch<D>],
    of_device: &[SVector<f64, D>],
    of_object: &SVector<f64, D>,
    arrow: &mut Arrow,
) {
    let terms = of_device.len();
    for (at, touch) in touches.iter().enumerate() {
        let (mine, stride) = (blocks.of[touch.exposure], layout.stride);
        let mut gain = [SVector::zeros(); MOST];
        for (gain, coupling) in gain.iter_mut().zip(&touch.coupling).take(stride) {
            *gain = own * coupling;
        }
        arrow.own.add_block(mine, mine, stride, |i, j| -gain[i].dot(&touch.coupling[j]));
        for other in &touches[at + 1..] {
            let product = |i: usize, j: usize| gain[i].dot(&other.coupling[j]);
            let theirs = blocks.of[other.exposure];
            if theirs == mine {
                arrow.own.add_block(mine, mine, stride, |i, j| -product(i, j) - product(j, i));
                continue;
            }
            arrow.own.add_block(mine, theirs, stride, |i, j| -product(i, j));
            if theirs.0 == mine.0 {
                arrow.own.add_block(theirs, mine, stride, |i, j| -product(j, i));
            }
        }
        for (k, gain) in (touch.exposure * stride..).zip(&gain[..stride]) {
            arrow.gradient[k] -= gain.dot(of_object);
            let row = arrow.order[k] * terms;
            for (cross, c) in arrow.cross[row..row + terms].iter_mut().zip(of_device) {
                *cross -= gain.dot(c);
            }
        }
    }
    for (k, coupling) in of_device.iter().enumerate() {
        let gain = own * coupling;
        arrow.gradient[layout.device + k] -= gain.dot(of_object);
        for (l, other) in of_device.iter().enumerate() {
            arrow.shared[(k, l)] -= gain.dot(other);
        }
    }
}
