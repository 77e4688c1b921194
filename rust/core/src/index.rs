//! Neighbour search: cells over the sky and cells over the detector.

pub mod point_grid;
pub mod sky_cells;
pub mod sky_grid;
