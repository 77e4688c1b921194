//! The results of a fit: covariances, chi² and windows at its end.

use nalgebra::DMatrix;

use super::fit::{FULL_COVARIANCE, Fitted, Status, Step};
use super::problem::State;
use super::stage::Stage;
use crate::lsq::arrow::{Arrow, Eliminated};

/// Summarizes a fit that ended at a state with these normal equations.
pub(super) fn summary(
    stage: &Stage<'_>,
    arrow: &Arrow,
    (state, status): (State, Status),
    history: Vec<Step>,
    reference: Option<usize>,
) -> Fitted {
    let layout = stage.layout;
    let eliminated = arrow.eliminated(0.0, 0.0);
    let shared = eliminated.covariance();
    let (n, p) = (layout.shared, layout.total - layout.shared);
    let own_frozen = eliminated.factor.frozen();
    let mut frozen: Vec<usize> = (0..n).filter(|&i| own_frozen[arrow.order[i]]).collect();
    frozen.extend(shared.frozen.iter().map(|i| n + i));
    frozen.retain(|&i| !stage.held[i]);
    let gain = |at: usize, j: usize| eliminated.gain[at * (p + 1) + j];
    let blocks = eliminated.factor.inverse_blocks();
    let own = |(source, block): (usize, &Vec<f64>)| {
        let size = layout.sizes[source];
        let rows = DMatrix::from_fn(size, p, |i, j| gain(arrow.order[layout.sources[source] + i], j));
        DMatrix::from_row_slice(size, size, block) + &rows * &shared.matrix * rows.transpose()
    };
    let own_covariances = blocks.iter().enumerate().map(own).collect();
    let covariance =
        (layout.total <= FULL_COVARIANCE).then(|| full_covariance(arrow, &eliminated, &shared.matrix));
    let windows = stage.fields.iter().map(|field| {
        let mut windows = vec![None; layout.sources.len()];
        for stamp in &field.stamps {
            windows[stamp.source] = Some(stamp.window);
        }
        windows
    });
    let held = stage.held.iter().filter(|held| **held).count();
    Fitted {
        parameters: layout.total - held - frozen.len(),
        chi2: 2.0 * arrow.cost,
        image_chi2: arrow.costs.iter().map(|cost| 2.0 * cost).collect(),
        image_pixels: stage.fields.iter().map(|field| field.region.len()).collect(),
        windows: windows.collect(),
        shared_covariance: shared.matrix,
        own_covariances,
        covariance,
        layout: layout.clone(),
        state: state.as_slice().to_vec(),
        status,
        frozen,
        reference,
        chromatic_reference: layout.chromatic.iter().position(|at| at.is_some_and(|at| stage.held[at])),
        history,
    }
}

/// Covariance of all parameters in the order of the state.
fn full_covariance(arrow: &Arrow, eliminated: &Eliminated, shared: &DMatrix<f64>) -> DMatrix<f64> {
    let (n, p) = (arrow.own_count(), shared.nrows());
    let mut unit = vec![0.0; n * n];
    for i in 0..n {
        unit[arrow.order[i] * n + i] = 1.0;
    }
    eliminated.factor.solve(&mut unit, n);
    let gain = DMatrix::from_fn(n, p, |i, j| eliminated.gain[arrow.order[i] * (p + 1) + j]);
    let cross = -(&gain * shared);
    let mut all = DMatrix::zeros(n + p, n + p);
    let own = DMatrix::from_fn(n, n, |i, j| unit[arrow.order[i] * n + j]) - &cross * gain.transpose();
    all.view_mut((0, 0), (n, n)).copy_from(&own);
    all.view_mut((0, n), (n, p)).copy_from(&cross);
    all.view_mut((n, 0), (p, n)).copy_from(&cross.transpose());
    all.view_mut((n, n), (p, p)).copy_from(shared);
    all
}
