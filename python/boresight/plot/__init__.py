"""Figures of frames, calibrations and other results, drawn by matplotlib on given or new axes."""

from boresight._utils import extras as _extras
from boresight.plot.alignment import plot_alignment_residuals as plot_alignment_residuals
from boresight.plot.alignment import plot_closure as plot_closure
from boresight.plot.alignment import plot_overlap as plot_overlap
from boresight.plot.alignment import plot_pulls as plot_pulls
from boresight.plot.calibration import plot_convergence as plot_convergence
from boresight.plot.calibration import plot_coverage as plot_coverage
from boresight.plot.calibration import plot_distortion as plot_distortion
from boresight.plot.calibration import plot_model_error as plot_model_error
from boresight.plot.calibration import plot_residual_trends as plot_residual_trends
from boresight.plot.calibration import plot_residuals as plot_residuals
from boresight.plot.frames import plot_centroids as plot_centroids
from boresight.plot.frames import plot_solution as plot_solution
from boresight.plot.frames import plot_solutions as plot_solutions
from boresight.plot.movement import plot_drift as plot_drift
from boresight.plot.scene import plot_parameter_correlations as plot_parameter_correlations
from boresight.plot.scene import plot_scene as plot_scene
from boresight.plot.sky import plot_sky as plot_sky

_extras.check_extra("matplotlib", "plot")
