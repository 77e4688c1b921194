//! Groups of exposures that show the same objects, such as those of one pointing in several bands.
//!
//! Other groups determine how the exposures of a group move together. Their movement relative to each other
//! is determined by the group's own objects alone, each of which has many detections. In the equations whose
//! factor grows faster than the number of parameters, a group therefore has a single set of parameters, those
//! of its first exposure.

use nalgebra::{DMatrix, SMatrix, Vector2};

use super::{JointProblem, Layout, MOST};

/// Partition of the free exposures into groups.
pub(super) struct Groups {
    /// First exposure of each group, by its index among the free exposures.
    pub first: Vec<usize>,
    /// Number of exposures of each group.
    pub sizes: Vec<usize>,
    /// Index of the group of each exposure.
    pub of: Vec<usize>,
    /// Matrix from the parameters of a group, which are those of its first exposure, to the parameters of
    /// each exposure that move the objects in the same way; `None` for the first exposure.
    carry: Vec<Option<DMatrix<f64>>>,
}

/// Objects that an exposure sees, in ascending order, with the detection of each.
type ObjectDetections = Vec<(usize, usize)>;

impl Groups {
    /// Puts each exposure into a separate group.
    pub(super) fn alone(exposures: usize) -> Self {
        Self {
            first: (0..exposures).collect(),
            sizes: vec![1; exposures],
            of: (0..exposures).collect(),
            carry: vec![None; exposures],
        }
    }

    /// Whether an exposure has parameters in addition to those of its group.
    pub(super) fn has_own(&self, exposure: usize) -> bool {
        self.sizes[self.of[exposure]] > 1
    }

    /// Whether every exposure is alone in its group.
    pub(super) fn are_alone(&self) -> bool {
        self.first.len() == self.of.len()
    }

    /// Converts parameters of a group, in rows, to parameters of an exposure.
    pub(super) fn carried(&self, exposure: usize, of_group: &DMatrix<f64>) -> DMatrix<f64> {
        self.carry[exposure].as_ref().map_or_else(|| of_group.clone(), |carry| carry * of_group)
    }

    /// Converts derivatives with respect to an exposure's parameters, in rows, to those with respect to the
    /// group's.
    pub(super) fn gathered(&self, exposure: usize, of_exposure: &DMatrix<f64>) -> DMatrix<f64> {
        self.carry[exposure].as_ref().map_or_else(|| of_exposure.clone(), |carry| carry.tr_mul(of_exposure))
    }

    /// Matrix from the parameters of its group to those of an exposure; `None` for the first exposure of a
    /// group.
    pub(super) fn carry(&self, exposure: usize) -> Option<&DMatrix<f64>> {
        self.carry[exposure].as_ref()
    }
}

impl JointProblem<'_> {
    /// Groups exposures that have more than the share `common` of objects in common with the group's first
    /// exposure.
    ///
    /// The share is relative to the exposure with more objects.
    pub(super) fn groups<const D: usize>(
        &self,
        layout: &Layout,
        owns: &[Option<SMatrix<f64, D, D>>],
        common: f64,
    ) -> Groups {
        let exposures = layout.free.len();
        let mut seen: Vec<ObjectDetections> = vec![Vec::new(); exposures];
        for (object, _) in owns.iter().enumerate().filter(|(_, own)| own.is_some()) {
            for (exposure, detection) in self.touching(layout, object) {
                seen[exposure].push((object, detection));
            }
        }
        let mut groups = Groups { first: Vec::new(), sizes: Vec::new(), ..Groups::alone(exposures) };
        let mut waiting = vec![true; exposures];
        for first in 0..exposures {
            if !waiting[first] {
                continue;
            }
            let mut counts = vec![0_usize; exposures];
            for &(object, _) in &seen[first] {
                self.touching(layout, object).for_each(|(exposure, _)| counts[exposure] += 1);
            }
            groups.first.push(first);
            groups.sizes.push(0);
            let has_own_terms = |exposure: usize| self.device.has_own_terms(layout.free[exposure]);
            for other in first..exposures {
                let most = seen[first].len().max(seen[other].len());
                let near = waiting[other] && counts[other] as f64 > common * most as f64;
                if other > first && (!near || has_own_terms(first) != has_own_terms(other)) {
                    continue;
                }
                if other > first {
                    let Some(carry) = self.carry(layout, &seen[first], &seen[other]) else { continue };
                    groups.carry[other] = Some(carry);
                }
                waiting[other] = false;
                groups.of[other] = groups.first.len() - 1;
                groups.sizes[groups.of[other]] += 1;
            }
        }
        groups
    }

    /// Free exposures that see an object, each with its detection of positive weight.
    pub(super) fn touching<'l>(
        &'l self,
        layout: &'l Layout,
        object: usize,
    ) -> impl Iterator<Item = (usize, usize)> + 'l {
        let detections = (self.starts[object]..).zip(self.of(object)).filter(|(_, d)| d.weight > 0.0);
        detections.filter_map(|(i, d)| Some((layout.number(d.exposure as usize)?, i)))
    }

    /// Matrix from the parameters of the first exposure to those of another that move their common objects in
    /// the same way, by least squares; `None` if the common objects do not determine it.
    fn carry(
        &self,
        layout: &Layout,
        first: &ObjectDetections,
        other: &ObjectDetections,
    ) -> Option<DMatrix<f64>> {
        let n = layout.stride;
        // Both matrices are stored by columns.
        let (mut normal, mut right) = ([[0.0; MOST]; MOST], [[0.0; MOST]; MOST]);
        let mut theirs = other.iter().peekable();
        for &(object, i) in first {
            while theirs.next_if(|(other, _)| *other < object).is_some() {}
            let Some(&&(_, j)) = theirs.peek().filter(|(other, _)| *other == object) else { continue };
            let d = &self.detections[j];
            let [from, to] = [&self.detections[i].jacobian, &d.jacobian]
                .map(|j| SMatrix::<f64, 2, 2>::new(j[0][0], j[0][1], j[1][0], j[1][1]));
            let Some(back) = from.try_inverse() else { continue };
            let turn = to * back * d.weight;
            let (rows, wanted) = (self.of_map(layout, j), self.of_map(layout, i));
            for (k, (normal, right)) in normal.iter_mut().zip(&mut right).enumerate().take(n) {
                let (same, other) = (rows[k], turn * Vector2::from(wanted[k]));
                for (i, row) in rows.iter().enumerate().take(n) {
                    normal[i] += d.weight * (row[0] * same[0] + row[1] * same[1]);
                    right[i] += row[0] * other[0] + row[1] * other[1];
                }
            }
        }
        let matrix = |columns: &[[f64; MOST]; MOST]| DMatrix::from_fn(n, n, |i, k| columns[k][i]);
        Some(inverse_of_known(matrix(&normal))? * matrix(&right))
    }
}

/// Inverse of equations in which parameters without information stay fixed; `None` if the others are not
/// determined.
pub(super) fn inverse_of_known(mut equations: DMatrix<f64>) -> Option<DMatrix<f64>> {
    for k in 0..equations.nrows() {
        if equations[(k, k)] == 0.0 {
            equations[(k, k)] = 1.0;
        }
    }
    equations.cholesky().map(|factor| factor.inverse())
}
