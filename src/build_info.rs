//! What this build is made of: the first thing to print when something does not work.

use crate::bridge::ffi;
use crate::error::Result;
use crate::tch_series::TCH_SERIES;
use std::fmt;

/// Versions, libraries and operators of this build. `Display` prints it as a few lines.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BuildInfo {
    /// The version of this crate.
    pub crate_version: &'static str,
    /// The version of libtorch whose headers the crate was compiled with.
    pub libtorch_version: String,
    /// The series of tch that the crate was compiled with, such as `0.26`.
    pub tch_series: &'static str,
    /// The folder of libtorch's shared libraries at build time.
    pub libtorch_lib: &'static str,
    /// The C++ compiler.
    pub compiler: String,
    /// Whether libtorch sees a CUDA device in this process.
    pub cuda_available: bool,
    /// The operators of our methods, each method's in a namespace of its own.
    pub operators: Vec<Operator>,
}

/// An operator as libtorch's dispatcher knows it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Operator {
    /// Its qualified name, such as `svgd::linear`.
    pub name: String,
    /// Its schema.
    pub schema: String,
    /// The dispatch keys for which this crate has registered a kernel, of CPU, CUDA, CompositeExplicitAutograd (every
    /// device without a kernel of its own), Meta, Autograd, AutocastCPU and AutocastCUDA.
    pub dispatch_keys: Vec<String>,
}

/// Those of our methods.
const NAMESPACES: [&str; 3] = ["bng", "svgd", "tso_alra"];

/// Describes this build.
///
/// # Errors
/// [`Error::Torch`](crate::Error::Torch) if libtorch cannot be asked.
///
/// ```
/// let info = tch_svgd::build_info()?;
/// assert!(info.operators.iter().any(|op| op.name == "svgd::conv2d"));
/// println!("{info}");
/// # Ok::<(), tch_svgd::Error>(())
/// ```
pub fn build_info() -> Result<BuildInfo> {
    let mut all = Vec::new();
    for name_space in NAMESPACES {
        all.extend(operators(name_space)?);
    }
    Ok(BuildInfo {
        crate_version: env!("CARGO_PKG_VERSION"),
        libtorch_version: ffi::libtorch_version()?,
        tch_series: TCH_SERIES,
        libtorch_lib: env!("TCH_SVGD_LIBTORCH_LIB"),
        compiler: ffi::compiler()?,
        cuda_available: tch::Cuda::is_available(),
        operators: all,
    })
}

/// The operators of a namespace, in the order of their names.
pub(crate) fn operators(name_space: &str) -> Result<Vec<Operator>> {
    let described =
        |op: ffi::RegisteredOperator| Operator { name: op.name, schema: op.schema, dispatch_keys: op.dispatch_keys };
    let mut operators: Vec<_> = ffi::operators(name_space)?.into_iter().map(described).collect();
    operators.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(operators)
}

impl fmt::Display for BuildInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "tch-svgd {}", self.crate_version)?;
        writeln!(f, "libtorch {} in {}", self.libtorch_version, self.libtorch_lib)?;
        writeln!(f, "tch {}", self.tch_series)?;
        writeln!(f, "C++ compiler {}", self.compiler)?;
        writeln!(f, "CUDA {}", if self.cuda_available { "available" } else { "not available" })?;
        for op in &self.operators {
            writeln!(f, "{} [{}]", op.schema, op.dispatch_keys.join(", "))?;
        }
        Ok(())
    }
}
