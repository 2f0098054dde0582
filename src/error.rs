//! The error of every function of this crate.

use std::path::{Path, PathBuf};

/// What went wrong. The text names the operator, the argument, what was expected, what came and what to do.
///
/// ```
/// use tch_svgd::{Error, Svgd, SvgdConfig};
/// let error = Svgd::new(SvgdConfig { decay: 1.5, ..Default::default() }).unwrap_err();
/// assert!(matches!(error, Error::Config(_)));
/// assert_eq!(error.to_string(), "Svgd: setting 'decay': expected a number in [0, 1), got 1.5; correct the setting");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has a shape that does not fit the others.
    #[error("{0}")]
    Shape(String),
    /// A tensor has an element kind that does not fit, or none that can be trained.
    #[error("{0}")]
    Kind(String),
    /// Tensors of one call are on different devices.
    #[error("{0}")]
    Device(String),
    /// A setting is out of its range.
    #[error("{0}")]
    Config(String),
    /// There is no memory left on the device.
    #[error("{0}")]
    OutOfMemory(String),
    /// The operator cannot do this at all.
    #[error("{0}")]
    Unsupported(String),
    /// A state file is damaged, or belongs to something else.
    #[error("{}: {message}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        message: String,
    },
    /// Any other error that libtorch raised.
    #[error("{0}")]
    Torch(String),
    /// An error that tch raised.
    #[error(transparent)]
    Tch(#[from] tch::TchError),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
}

/// The result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The same error, said of a layer.
    pub(crate) fn in_layer(self, layer: &str) -> Self {
        let named = |text: String| format!("layer '{layer}': {text}");
        match self {
            Error::Shape(text) => Error::Shape(named(text)),
            Error::Kind(text) => Error::Kind(named(text)),
            Error::Device(text) => Error::Device(named(text)),
            Error::Config(text) => Error::Config(named(text)),
            Error::OutOfMemory(text) => Error::OutOfMemory(named(text)),
            Error::Unsupported(text) => Error::Unsupported(named(text)),
            Error::Torch(text) => Error::Torch(named(text)),
            Error::Tch(error) => {
                let text = error.to_string();
                // What follows is a C++ backtrace.
                let text = text.split("\nException raised from").next().unwrap_or_default();
                Error::from_libtorch(named(text.to_owned()))
            }
            other => other,
        }
    }

    /// For the failure of a plain operator: the error of the hatted one, whose checks say what is wrong, or `self` when
    /// it has none.
    pub(crate) fn explained_by<T>(self, hatted: Result<T>) -> Self {
        hatted.err().unwrap_or(self)
    }

    /// An error that came without a class of its own, as those of libtorch's CPU allocator do.
    pub(crate) fn from_libtorch(text: String) -> Self {
        match text.contains("DefaultCPUAllocator") || text.contains("out of memory") {
            true => Error::OutOfMemory(text + "; use a smaller batch or layer, or free memory"),
            false => Error::Torch(text),
        }
    }

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Error::Io { path: path.to_owned(), source }
    }

    pub(crate) fn state(path: &Path, message: impl Into<String>) -> Self {
        Error::State { path: path.to_owned(), message: message.into() }
    }
}

/// cpp/bridge.h leads every text with the name of a variant and a unit separator.
impl From<cxx::Exception> for Error {
    fn from(exception: cxx::Exception) -> Self {
        let (variant, text) = exception.what().split_once('\x1f').unwrap_or(("Torch", exception.what()));
        let text = text.to_owned();
        match variant {
            "Shape" => Error::Shape(text),
            "Kind" => Error::Kind(text),
            "Device" => Error::Device(text),
            "Config" => Error::Config(text),
            "Unsupported" => Error::Unsupported(text),
            "OutOfMemory" => Error::OutOfMemory(text),
            _ => Error::from_libtorch(text),
        }
    }
}
