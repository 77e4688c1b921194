//! The one error type of the crate.

/// An error, with a message that tells the caller how to act.
///
/// A frame without a solution is not an error: see [`crate::solve`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument has an invalid value.
    #[error("{name}: {problem}; {repair}")]
    Argument {
        /// Name of the argument as the caller wrote it.
        name: &'static str,
        /// The problem that was found.
        problem: String,
        /// The repair: a value to give instead.
        repair: String,
    },
    /// A file or byte buffer does not have the expected format.
    #[error("{0}")]
    Format(String),
    /// The data do not determine the requested quantity.
    #[error("{0}")]
    Undetermined(String),
    /// The work needs more memory than is available.
    #[error("{0}")]
    Memory(String),
    /// The caller's [`Monitor`](crate::Monitor) asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Result with the crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an [`Error::Argument`].
    pub fn argument(name: &'static str, problem: impl Into<String>, repair: impl Into<String>) -> Self {
        Self::Argument { name, problem: problem.into(), repair: repair.into() }
    }
}

/// Converts an angle to degrees for a message. It is rounded to the number that the caller gave before the
/// conversion to radians.
pub(crate) fn in_degrees(radians: f64) -> f64 {
    const DIGITS: f64 = 1e10;
    let degrees = radians.to_degrees();
    if degrees.abs() < 1e5 { (degrees * DIGITS).round() / DIGITS } else { degrees }
}

#[cfg(test)]
mod tests {
    use super::in_degrees;

    #[test]
    fn messages_have_the_degrees_that_were_given() {
        for degrees in [-1.0, 0.1, 0.7, 14.5, 29.3, 179.99, 360.0] {
            assert_eq!(in_degrees(f64::to_radians(degrees)), degrees);
        }
        assert!(in_degrees(f64::NAN).is_nan());
        assert_eq!(in_degrees(f64::INFINITY), f64::INFINITY);
    }
}
