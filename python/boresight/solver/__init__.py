"""Solving: finds where on the sky a frame points, from the positions of its stars."""

from boresight.solver.matches import MatchedStars as MatchedStars
from boresight.solver.solution import Solution as Solution
from boresight.solver.solve import solve as solve
from boresight.solver.solve import solve_from_centroids as solve_from_centroids
from boresight.solver.solve import solve_many as solve_many
