//! The file format: a header, then sections of plain little-endian numbers, each aligned to 64 bytes.
//!
//! The header carries magic, version, the length of the file, a checksum of itself, the parameters, and for each
//! section its offset, length and CRC-32. Any change of meaning or layout changes [`VERSION`].

use std::ops::Range;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use super::{Parameters, SharedBytes};
use crate::error::{Error, Result};
use crate::pattern::Pattern;

#[cfg(target_endian = "big")]
compile_error!("databases are read in place and are little-endian");

/// The first bytes of every database.
const MAGIC: [u8; 8] = *b"BSIGHTDB";

/// The version written, and the only one read.
const VERSION: u32 = 1;

/// Sections begin at multiples of this many bytes, the length of a cache line.
const ALIGNMENT: usize = 64;

/// The parts of a file, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// `[f64; 3]` per star.
    Directions,
    /// `f32` per star.
    Magnitudes,
    /// `i64` per star.
    Ids,
    /// `u32` per star: the stars in the order of their identifiers.
    IdOrder,
    /// `u32` per cell of the sky, and one more.
    CellOffsets,
    /// `CellStar` per star.
    CellStars,
    /// `u32` per cell of the ratio grid, and one more.
    RatioOffsets,
    /// `Pattern` per pattern.
    Patterns,
}

pub(super) const NUM_SECTIONS: usize = 8;

/// Bytes of one element of each section.
const ELEMENT_BYTES: [usize; NUM_SECTIONS] = [24, 4, 8, 4, 4, 16, 4, 32];

#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub(super) struct Extent {
    offset: u64,
    length: u64,
    crc: u32,
    padding: u32,
}

/// The first bytes of a file.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub(super) struct Header {
    magic: [u8; 8],
    version: u32,
    /// Checksum of this header, with zero in place of the checksum.
    pub(super) crc: u32,
    file_length: u64,
    sections: [Extent; NUM_SECTIONS],
    max_fov: f64,
    min_fov: f64,
    multiscale_step: f64,
    epoch: f64,
    star_max_magnitude: f32,
    pattern_max_error: f32,
    lattice_field_oversampling: u32,
    patterns_per_lattice_field: u32,
    verification_stars_per_fov: u32,
    /// Number of bands of the sky's cells.
    pub(super) sky_bands: u32,
    /// Number of coarse steps of the ratio grid.
    pub(super) ratio_coarse: u32,
    /// Number of fine steps of the ratio grid.
    pub(super) ratio_fine: u32,
}

pub(super) const HEADER_BYTES: usize = size_of::<Header>();

impl Header {
    /// A header of parameters. Unset parameters are filled in; `faintest` replaces an unset magnitude limit.
    pub(super) fn new(parameters: &Parameters, epoch: f64, faintest: f32) -> Self {
        Self {
            magic: MAGIC,
            version: VERSION,
            max_fov: parameters.max_fov,
            min_fov: parameters.smallest_fov(),
            multiscale_step: parameters.multiscale_step,
            epoch,
            star_max_magnitude: parameters.star_max_magnitude.unwrap_or(faintest),
            pattern_max_error: parameters.pattern_max_error,
            lattice_field_oversampling: parameters.lattice_field_oversampling,
            patterns_per_lattice_field: parameters.patterns_per_lattice_field,
            verification_stars_per_fov: parameters.verification_stars_per_fov,
            ..Self::zeroed()
        }
    }

    /// The parameters and the epoch of the stars.
    pub(super) fn content(&self) -> (Parameters, f64) {
        let parameters = Parameters {
            max_fov: self.max_fov,
            min_fov: Some(self.min_fov),
            star_max_magnitude: Some(self.star_max_magnitude),
            pattern_max_error: self.pattern_max_error,
            lattice_field_oversampling: self.lattice_field_oversampling,
            patterns_per_lattice_field: self.patterns_per_lattice_field,
            verification_stars_per_fov: self.verification_stars_per_fov,
            multiscale_step: self.multiscale_step,
            epoch: Some(self.epoch),
        };
        (parameters, self.epoch)
    }

    fn computed_crc(&self) -> u32 {
        crc32fast::hash(bytemuck::bytes_of(&Self { crc: 0, ..*self }))
    }
}

/// Bytes that begin at a multiple of 8, as required for reading in place.
struct AlignedBytes {
    words: Vec<u64>,
    length: usize,
}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.length]
    }
}

impl AlignedBytes {
    fn copy_of(bytes: &[u8]) -> Self {
        let mut words = vec![0; bytes.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self { words, length: bytes.len() }
    }
}

/// The bytes of a database whose header is valid.
pub(super) struct Image {
    bytes: SharedBytes,
    header: Header,
    ranges: [Range<usize>; NUM_SECTIONS],
}

fn damaged(what: impl std::fmt::Display) -> Error {
    Error::Format(format!("damaged database: {what}"))
}

impl Image {
    /// Checks the header, the length and the bounds of the sections.
    pub(super) fn open(bytes: SharedBytes) -> Result<Self> {
        let aligned = (*bytes).as_ref().as_ptr().align_offset(8) == 0;
        let bytes = if aligned { bytes } else { Arc::new(AlignedBytes::copy_of((*bytes).as_ref())) };
        let all = (*bytes).as_ref();
        if all.get(..8) != Some(&MAGIC) {
            return Err(Error::Format("not a Boresight database: it does not begin with BSIGHTDB".into()));
        }
        let version = all.get(8..12).map(bytemuck::pod_read_unaligned::<u32>);
        if version.is_some_and(|version| version != VERSION) {
            let found = version.unwrap_or_default();
            let problem = format!(
                "a database of format {found}, this program reads format {VERSION}; generate it anew"
            );
            return Err(Error::Format(problem));
        }
        let Some(header) = all.get(..HEADER_BYTES).map(bytemuck::pod_read_unaligned::<Header>) else {
            return Err(damaged("it ends within the header"));
        };
        if header.crc != header.computed_crc() {
            return Err(damaged("the header does not match its checksum"));
        }
        if header.file_length != all.len() as u64 {
            return Err(damaged(format!("{} bytes instead of {}", all.len(), header.file_length)));
        }
        let mut ranges: [Range<usize>; NUM_SECTIONS] = Default::default();
        for ((extent, range), element) in header.sections.iter().zip(&mut ranges).zip(ELEMENT_BYTES) {
            let (start, length) = (extent.offset as usize, extent.length as usize);
            *range = start..start.saturating_add(length);
            if range.end > all.len() || !start.is_multiple_of(ALIGNMENT) || !length.is_multiple_of(element) {
                return Err(damaged("a section lies outside the file"));
            }
        }
        Ok(Self { bytes, header, ranges })
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn bytes(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }

    /// The numbers of a section. Sizes and alignment were checked at opening.
    pub(super) fn section<T: Pod>(&self, section: Section) -> &[T] {
        let bytes = self.bytes().get(self.ranges[section as usize].clone()).unwrap_or(&[]);
        bytemuck::try_cast_slice(bytes).unwrap_or(&[])
    }

    /// Compares all sections with their checksums, and the bytes between the sections with zero.
    pub(super) fn verify(&self) -> Result<()> {
        let bytes = self.bytes();
        let mut end = HEADER_BYTES;
        for (extent, range) in self.header.sections.iter().zip(&self.ranges) {
            if range.start < end || bytes[end..range.start].iter().any(|byte| *byte != 0) {
                return Err(damaged("something lies between the sections"));
            }
            if crc32fast::hash(&bytes[range.clone()]) != extent.crc {
                return Err(damaged("a section does not match its checksum"));
            }
            end = range.end;
        }
        if end == bytes.len() { Ok(()) } else { Err(damaged("something lies behind the sections")) }
    }
}

/// Extents of sections with these numbers of elements, and the length of the file.
pub(super) fn layout(elements: [usize; NUM_SECTIONS]) -> ([Extent; NUM_SECTIONS], usize) {
    let mut sections = [Extent::zeroed(); NUM_SECTIONS];
    let mut end = HEADER_BYTES;
    for ((extent, elements), element) in sections.iter_mut().zip(elements).zip(ELEMENT_BYTES) {
        let offset = end.next_multiple_of(ALIGNMENT);
        let length = elements * element;
        *extent = Extent { offset: offset as u64, length: length as u64, crc: 0, padding: 0 };
        end = offset + length;
    }
    (sections, end)
}

/// A database being written, in memory.
pub(super) struct Draft {
    words: Vec<u64>,
    header: Header,
}

impl Draft {
    /// Allocates sections with these numbers of elements.
    pub(super) fn new(mut header: Header, elements: [usize; NUM_SECTIONS]) -> Self {
        let end;
        (header.sections, end) = layout(elements);
        header.file_length = end as u64;
        Self { words: vec![0; end.div_ceil(8)], header }
    }

    /// A section to be filled.
    pub(super) fn section<T: Pod>(&mut self, section: Section) -> &mut [T] {
        let extent = self.header.sections[section as usize];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        bytemuck::cast_slice_mut(&mut bytes[extent.offset as usize..][..extent.length as usize])
    }

    /// The last two sections, to be filled together.
    pub(super) fn pattern_sections(&mut self) -> (&mut [u32], &mut [Pattern]) {
        let offsets = self.header.sections[Section::RatioOffsets as usize];
        let patterns = self.header.sections[Section::Patterns as usize];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        let (front, back) = bytes.split_at_mut(patterns.offset as usize);
        let offsets = &mut front[offsets.offset as usize..][..offsets.length as usize];
        let patterns = &mut back[..patterns.length as usize];
        (bytemuck::cast_slice_mut(offsets), bytemuck::cast_slice_mut(patterns))
    }

    /// Adds the checksums.
    pub(super) fn finish(mut self) -> SharedBytes {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        for extent in &mut self.header.sections {
            extent.crc = crc32fast::hash(&bytes[extent.offset as usize..][..extent.length as usize]);
        }
        self.header.crc = self.header.computed_crc();
        bytes[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&self.header));
        Arc::new(AlignedBytes { length: self.header.file_length as usize, words: self.words })
    }
}
