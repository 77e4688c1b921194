//! Alignment of lists of stars: which of one list are which of another, and the transformation between them.
//!
//! [`match_lists`] needs no start: patterns of neighbouring stars propose transformations ([`patterns`]), and each
//! proposal is grown from its pattern over the whole of both lists until chance is ruled out ([`growth`]).

pub mod growth;
pub mod matching;
pub mod patterns;
pub mod similarity;

pub use matching::{ListMatch, MatchOptions, match_lists};
pub use similarity::Similarity;
