//! The equations of all maps, which touch where exposures share objects, and their solution by a sparse factor.

use std::sync::Arc;

use nalgebra::{DMatrix, Matrix6, SMatrix, SVector};

use super::{Column, JointProblem, JointSolution, Layout};
use crate::error::Result;
use crate::geometry::distortion::Point;
use crate::lsq::arrow::{Arrow, Eliminated};
use crate::lsq::sparse::{BlockMatrix, Pattern};
use crate::monitor::{Monitor, checkpoint};

/// Multiplications above which products with the matrix, step by step, are the quicker way.
const MOST_WORK: f64 = 1e10;

/// Most parameters of an exposure, a shift by colour included.
const MOST: usize = super::MOST + 2;

/// A detection in the equations: its exposure's block, and the products of its parameters with those of the object.
struct Touch<const D: usize> {
    block: usize,
    coupling: [SVector<f64, D>; MOST],
}

impl JointProblem<'_> {
    /// Which free exposures share an object; `None` where the equations are too many to be solved directly.
    pub(super) fn pattern(&self, layout: &Layout) -> Option<Pattern> {
        let n = layout.free.len();
        let words = n.div_ceil(64);
        let mut touching = vec![0_u64; n * words];
        let mut work = 0.0;
        let mut blocks = Vec::new();
        for object in 0..self.priors.len() {
            blocks.clear();
            blocks.extend(
                self.of(object)
                    .iter()
                    .filter(|d| d.weight > 0.0)
                    .filter_map(|d| layout.block(d.exposure as usize)),
            );
            work += (blocks.len() * layout.stride).pow(2) as f64;
            for (at, &a) in blocks.iter().enumerate() {
                for &b in &blocks[at + 1..] {
                    touching[a.min(b) * words + a.max(b) / 64] |= 1 << (a.max(b) % 64);
                }
            }
        }
        let touch = |a: usize, b: usize| touching[a * words + b / 64] >> (b % 64) & 1 == 1;
        let after = |a: usize| (a + 1..n).map(move |b| (a, b));
        let pairs: Vec<_> = (0..n).flat_map(after).filter(|&(a, b)| touch(a, b)).collect();
        // Not even the elements that are given, before any fill.
        if work + (pairs.len() * layout.stride.pow(3)) as f64 > MOST_WORK {
            return None;
        }
        let points: Vec<Point> = layout.free.iter().map(|&e| self.places[e]).collect();
        let pattern = Pattern::new(&vec![layout.stride; n], &points, &pairs);
        (work + pattern.work() <= MOST_WORK).then_some(pattern)
    }

    /// Equations of the parameters that are free, the objects eliminated.
    fn arrow<const D: usize>(
        &self,
        layout: &Layout,
        pattern: Pattern,
        owns: &[Option<SMatrix<f64, D, D>>],
        monitor: &dyn Monitor,
    ) -> Result<Arrow> {
        let terms = layout.size - layout.device;
        let blocks = layout.free.len();
        let order = |block: usize| (0..layout.stride).map(move |i| (block, i));
        let mut arrow = Arrow {
            order: (0..blocks).flat_map(order).map(|(block, i)| pattern.start(block) + i).collect(),
            own: BlockMatrix::new(Arc::new(pattern)),
            firsts: (0..=blocks).map(|block| block * layout.stride).collect(),
            cross: vec![0.0; layout.device * terms],
            shared: DMatrix::zeros(terms, terms),
            gradient: vec![0.0; layout.size],
            cost: 0.0,
            costs: Vec::new(),
        };
        for (object, own) in owns.iter().enumerate() {
            checkpoint(monitor)?;
            if let Some(own) = own {
                self.add_object(layout, object, own, &mut arrow);
            }
        }
        Ok(arrow)
    }

    fn add_object<const D: usize>(
        &self,
        layout: &Layout,
        object: usize,
        own: &SMatrix<f64, D, D>,
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
            if let Some(block) = layout.block(d.exposure as usize) {
                let mut touch = Touch { block, coupling: [SVector::zeros(); MOST] };
                for (coupled, (_, step)) in touch.coupling.iter_mut().zip(of_map) {
                    *coupled = coupling(step);
                }
                touches.push(touch);
            }
            add_products(layout, (of_map, device), d.weight, arrow);
        }
        eliminate(layout, own, &touches, &of_device, &of_object, arrow);
    }

    /// Solves the equations, with what they leave open and covariances.
    pub(super) fn solve_directly<const D: usize>(
        &self,
        layout: &Layout,
        pattern: Pattern,
        owns: &[Option<SMatrix<f64, D, D>>],
        monitor: &dyn Monitor,
    ) -> Result<JointSolution> {
        let arrow = self.arrow(layout, pattern, owns, monitor)?;
        let eliminated = arrow.eliminated(0.0, 0.0);
        let mut solution = self.solution(layout, owns, arrow.step(&eliminated).as_slice());
        let frozen = eliminated.factor.frozen();
        solution.undetermined = (0..layout.device)
            .filter(|&k| frozen[arrow.order[k]])
            .map(|k| layout.free[k / layout.stride])
            .collect();
        solution.undetermined.dedup();
        let device = eliminated.covariance();
        solution.undetermined_terms = device.frozen;
        solution.covariances = self.covariances(layout, &arrow, &eliminated, &device.matrix);
        Ok(solution)
    }

    /// Covariances of the shift and the matrix of each exposure.
    fn covariances(
        &self,
        layout: &Layout,
        arrow: &Arrow,
        eliminated: &Eliminated,
        device: &DMatrix<f64>,
    ) -> Vec<Matrix6<f64>> {
        let (p, terms) = (self.parameters(), device.nrows());
        let mut covariances = vec![Matrix6::zeros(); self.frozen.len()];
        let by_parameters = self.map_by_parameters();
        let blocks = eliminated.factor.inverse_blocks();
        for (block, &e) in layout.free.iter().enumerate() {
            let given = DMatrix::from_row_slice(layout.stride, layout.stride, &blocks[block]);
            let gain = DMatrix::from_fn(layout.stride, terms, |i, k| {
                eliminated.gain[arrow.order[block * layout.stride + i] * (terms + 1) + k]
            });
            let whole = given + &gain * device * gain.transpose();
            let map = whole.view((0, 0), (p, p));
            covariances[e].copy_from(&(&by_parameters * map * by_parameters.transpose()));
        }
        covariances
    }
}

/// Adds the products of a detection's own parameters with each other.
fn add_products(layout: &Layout, (of_map, device): (&[Column], &[Column]), weight: f64, arrow: &mut Arrow) {
    let terms = layout.size - layout.device;
    let product = |a: &Point, b: &Point| weight * (a[0] * b[0] + a[1] * b[1]);
    if let Some(block) = of_map.first().map(|(k, _)| k / layout.stride) {
        arrow.own.add_block(block, block, |i, j| product(&of_map[i].1, &of_map[j].1));
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
    own: &SMatrix<f64, D, D>,
    touches: &[Touch<D>],
    of_device: &[SVector<f64, D>],
    of_object: &SVector<f64, D>,
    arrow: &mut Arrow,
) {
    let terms = of_device.len();
    for (at, touch) in touches.iter().enumerate() {
        let gain = touch.coupling.map(|c| own * c);
        arrow.own.add_block(touch.block, touch.block, |i, j| -gain[i].dot(&touch.coupling[j]));
        for other in &touches[at + 1..] {
            let product = |i: usize, j: usize| gain[i].dot(&other.coupling[j]);
            if other.block == touch.block {
                arrow.own.add_block(touch.block, touch.block, |i, j| -product(i, j) - product(j, i));
            } else {
                arrow.own.add_block(touch.block, other.block, |i, j| -product(i, j));
            }
        }
        for (k, gain) in (touch.block * layout.stride..).zip(&gain[..layout.stride]) {
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
