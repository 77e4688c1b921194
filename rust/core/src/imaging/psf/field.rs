//! The point-spread function (PSF) as a function of the position in a frame.

use rayon::prelude::*;

use super::Psf;
use crate::imaging::stamp::part_of;

/// Number of cells between two nodes, along each axis. Within a cell the PSF is constant.
const CELLS_BETWEEN_NODES: usize = 4;

/// A PSF that varies over the frame: given at nodes, bilinear between them.
///
/// It is interpolated once for each of the cells into which the frame is divided. So rendering a star is as
/// fast as with a uniform PSF.
#[derive(Debug, Clone)]
pub(crate) struct PsfField {
    /// Width and height of the frame.
    size: [usize; 2],
    /// Number of nodes along each axis. The outermost are on the edge of the frame. 1 for a uniform PSF.
    along: usize,
    /// The PSFs at the nodes, row by row.
    nodes: Vec<Psf>,
    /// The PSFs in the cells, row by row.
    cells: Vec<Psf>,
}

impl PsfField {
    /// A uniform PSF in a frame of width and height `size`.
    pub(crate) fn uniform(psf: Psf, size: [usize; 2]) -> Self {
        Self { size, along: 1, nodes: vec![psf.clone()], cells: vec![psf] }
    }

    /// The same PSF, given at `along` nodes (two at least) along each axis.
    pub(crate) fn divided(&self, along: usize) -> Self {
        let place = |k: usize, side: usize| (k * side / (along - 1)) as isize;
        let node =
            |k: usize| self.at([place(k % along, self.size[0]), place(k / along, self.size[1])]).clone();
        let nodes = (0..along * along).map(node).collect();
        let mut field = Self { size: self.size, along, nodes, cells: Vec::new() };
        field.update();
        field
    }

    /// Number of nodes along each axis.
    pub(crate) fn along(&self) -> usize {
        self.along
    }

    /// Half width of a stamp.
    pub(crate) fn half(&self) -> usize {
        self.nodes[0].half()
    }

    /// Index of the cell that contains a pixel.
    pub(crate) fn cell(&self, pixel: [isize; 2]) -> usize {
        part_of(pixel, self.size, self.across())
    }

    /// The PSF at a pixel.
    pub(crate) fn at(&self, pixel: [isize; 2]) -> &Psf {
        &self.cells[self.cell(pixel)]
    }

    /// The PSFs in the cells.
    pub(crate) fn cells(&self) -> &[Psf] {
        &self.cells
    }

    /// The PSFs at the nodes.
    pub(crate) fn nodes(&self) -> &[Psf] {
        &self.nodes
    }

    /// The PSF at node `k`.
    pub(crate) fn node(&self, k: usize) -> &Psf {
        &self.nodes[k]
    }

    /// The PSFs at the nodes, to be changed. Call [`update`](Self::update) afterwards.
    pub(crate) fn nodes_mut(&mut self) -> &mut [Psf] {
        &mut self.nodes
    }

    /// The four nodes around a cell, each with its weight in the cell's PSF.
    pub(crate) fn parts(&self, cell: usize) -> [(usize, f32); 4] {
        let across = self.across();
        let [(left, right), (top, bottom)] = [cell % across, cell / across].map(|at| {
            let t = (at as f32 + 0.5) / across as f32 * (self.along - 1) as f32;
            let low = (t as usize).min(self.along.saturating_sub(2));
            let part = if self.along == 1 { 0.0 } else { t - low as f32 };
            ((low, 1.0 - part), ((low + 1).min(self.along - 1), part))
        });
        [(top, left), (top, right), (bottom, left), (bottom, right)]
            .map(|((row, y), (column, x))| (row * self.along + column, x * y))
    }

    /// Interpolates the PSFs of the cells from those of the nodes.
    pub(crate) fn update(&mut self) {
        let across = self.across();
        let mut cells = std::mem::take(&mut self.cells);
        cells.resize_with(across * across, Psf::default);
        cells.par_iter_mut().enumerate().for_each(|(cell, psf)| {
            psf.blend(self.parts(cell).map(|(node, part)| (&self.nodes[node], part)));
        });
        self.cells = cells;
    }

    /// Converts to the public type, which holds only the PSFs at the nodes.
    pub(crate) fn into_effective(self, kind: PsfKind) -> EffectivePsf {
        EffectivePsf { kind, size: self.size, along: self.along, nodes: self.nodes }
    }

    /// Number of cells along each axis.
    fn across(&self) -> usize {
        (CELLS_BETWEEN_NODES * (self.along - 1)).max(1)
    }
}

/// Kind of the point-spread function of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PsfKind {
    /// Measured from the frame's stars; varies over the frame.
    Varying,
    /// Measured from the frame's stars; the same everywhere.
    Uniform,
    /// A Gaussian of the stars' width, because too few stars can measure the function, or because the
    /// measured one is not plausible for a star.
    Gaussian,
}

/// The effective point-spread function of a frame, measured from its stars, at nodes. The outermost nodes are
/// on the edge of the frame.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectivePsf {
    /// Kind of the function.
    pub kind: PsfKind,
    size: [usize; 2],
    along: usize,
    nodes: Vec<Psf>,
}

impl EffectivePsf {
    /// Samples per pixel along either axis.
    pub const OVERSAMPLING: usize = super::OVERSAMPLING;

    /// Number of samples along a side of a node's square grid. The star is at the middle sample.
    pub fn side(&self) -> usize {
        self.nodes[0].samples_a_side()
    }

    /// Samples of all nodes: the nodes row by row, the grid of each node row by row. A sample is the fraction
    /// of the light in a pixel centred there.
    pub fn samples(&self) -> Vec<f64> {
        self.nodes.iter().flat_map(Psf::samples).collect()
    }

    /// Columns and rows of the nodes in the frame.
    pub fn places(&self) -> [Vec<f64>; 2] {
        let last = self.along.max(2) as f64 - 1.0;
        self.size.map(|side| (0..self.along).map(|k| side as f64 * k as f64 / last - 0.5).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_every_cell_are_one() {
        let everywhere = PsfField::uniform(Psf::gaussian(4, 1.0), [640, 480]);
        for field in [everywhere.clone(), everywhere.divided(2), everywhere.divided(3), everywhere.divided(5)]
        {
            let along = field.along();
            for cell in 0..field.cells().len() {
                let sum: f32 = field.parts(cell).iter().map(|&(_, part)| part).sum();
                assert!((sum - 1.0).abs() < 1e-6);
                assert!(field.parts(cell).iter().all(|&(node, part)| node < along * along && part >= 0.0));
            }
        }
    }

    #[test]
    fn it_varies_between_its_nodes() {
        let (narrow, wide) = (Psf::gaussian(6, 1.0), Psf::gaussian(6, 2.0));
        let mut field = PsfField::uniform(narrow.clone(), [1000, 1000]).divided(2);
        field.nodes_mut()[1] = wide.clone();
        field.nodes_mut()[3] = wide.clone();
        field.update();
        let sharpness: Vec<f32> = (0..4).map(|k| field.at([125 + 250 * k, 500]).sharpness()).collect();
        assert!(sharpness.is_sorted_by(|a, b| a > b));
        assert!(sharpness[0] < narrow.sharpness() && sharpness[3] > wide.sharpness());
        let finer: Vec<f32> = field.divided(5).nodes()[..5].iter().map(Psf::sharpness).collect();
        assert!(finer.is_sorted_by(|a, b| a >= b) && finer[0] > finer[4]);
    }

    #[test]
    fn pixels_off_the_frame_belong_to_its_edge() {
        let field = PsfField::uniform(Psf::gaussian(4, 1.0), [300, 200]).divided(3);
        assert_eq!(field.cell([-5, -1]), 0);
        assert_eq!(field.cell([305, 999]), field.cells().len() - 1);
    }
}
