//! Results of a fit: covariances, chi² and windows in its final state.

use nalgebra::DMatrix;

use super::layout::{Layout, State};
use super::region::Window;
use super::stage::Stage;
use crate::lsq::arrow::{Arrow, Eliminated};

/// Maximum number of parameters for which the covariance of all parameters is computed.
const FULL_COVARIANCE: usize = 1500;

/// How a fit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The fit reached a minimum.
    Converged,
    /// The maximum number of steps was reached, or no step lowered the cost although its slope is not zero.
    Stalled,
    /// There is no finite result.
    Failed,
}

/// One iteration of a fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Stage: 0 for sources, 1 for images, 2 for all parameters.
    pub stage: usize,
    /// Number of steps tried in the stage so far.
    pub iteration: usize,
    /// Twice the cost divided by the degrees of freedom.
    pub chi2_dof: f64,
    /// Damping of the next step.
    pub damping: f64,
}

/// A fitted scene.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// Index of each parameter in the state.
    pub layout: Layout,
    /// Values of all parameters.
    pub state: Vec<f64>,
    /// How the fit ended.
    pub status: Status,
    /// Free parameters that did not move because the pixels do not determine them.
    pub frozen: Vec<usize>,
    /// Image whose free WCS is held as the reference, if no image was fixed.
    pub reference: Option<usize>,
    /// Image whose shift by colour is held, if all images have such a shift.
    pub chromatic_reference: Option<usize>,
    /// All iterations.
    pub history: Vec<Step>,
    /// Twice the cost of all data.
    pub chi2: f64,
    /// Twice the cost of each image.
    pub image_chi2: Vec<f64>,
    /// Number of pixels of each image.
    pub image_pixels: Vec<usize>,
    /// Number of fitted parameters.
    pub parameters: usize,
    /// Covariance of the shared parameters.
    pub shared_covariance: DMatrix<f64>,
    /// Covariance of the parameters of each source.
    pub own_covariances: Vec<DMatrix<f64>>,
    /// Covariance of all parameters, if there are not too many.
    pub covariance: Option<DMatrix<f64>>,
    /// Windows in which the light of sources is drawn, by image and source.
    pub windows: Vec<Vec<Option<Window>>>,
}

/// Summarizes a fit from its final state and normal equations.
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
