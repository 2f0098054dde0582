//! Which libtorch torch-sys links, and whether it is the version that these bindings are written for.

use std::path::{Path, PathBuf};

/// The version that tch 0.24 binds.
pub const VERSION: &str = "2.11.0";

/// The libtorch that torch-sys links.
pub struct Libtorch {
    /// The folder of libtorch's shared libraries.
    pub lib: PathBuf,
    /// The folder of libtorch's headers.
    include: PathBuf,
}

impl Libtorch {
    /// Takes what torch-sys decided, so that the two can never link different copies.
    pub fn from_torch_sys() -> Result<Self, String> {
        for variable in ["LIBTORCH", "LIBTORCH_INCLUDE", "LIBTORCH_USE_PYTORCH"] {
            println!("cargo:rerun-if-env-changed={variable}");
        }
        println!("cargo:rerun-if-env-changed=LIBTORCH_BYPASS_VERSION_CHECK");
        let lib = std::env::var_os("DEP_TCH_LIBTORCH_LIB")
            .map(PathBuf::from)
            .ok_or("torch-sys did not say where libtorch is (DEP_TCH_LIBTORCH_LIB is not set)")?;
        // torch-sys names the libraries alone: the headers are where it looks for them.
        let chosen = match std::env::var_os("LIBTORCH_USE_PYTORCH") {
            Some(_) => None,
            None => std::env::var_os("LIBTORCH_INCLUDE").or_else(|| std::env::var_os("LIBTORCH")),
        };
        let root = chosen.map(PathBuf::from).unwrap_or_else(|| lib.parent().unwrap_or(&lib).to_path_buf());
        let include = root.join("include");
        let bypass = std::env::var_os("LIBTORCH_BYPASS_VERSION_CHECK").is_some();
        match check_version(&include) {
            Err(message) if !bypass => Err(message),
            _ => Ok(Self { lib, include }),
        }
    }

    /// The folders that libtorch's headers are included from.
    pub fn include_dirs(&self) -> [PathBuf; 2] {
        [self.include.clone(), self.include.join("torch/csrc/api/include")]
    }
}

/// Reads the version out of libtorch's own header: unlike `build-version`, every copy of libtorch has it.
pub fn check_version(include: &Path) -> Result<(), String> {
    let headers = ["torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h"];
    let text = headers.iter().find_map(|header| std::fs::read_to_string(include.join(header)).ok());
    let found = text.as_deref().and_then(|text| {
        let number = |name| {
            let line = text.lines().find(|line| line.starts_with(&format!("#define TORCH_VERSION_{name} ")))?;
            line.split_whitespace().last().map(str::to_owned)
        };
        Some([number("MAJOR")?, number("MINOR")?, number("PATCH")?].join("."))
    });
    match found {
        Some(found) if found == VERSION => Ok(()),
        Some(found) => Err(format!(
            "libtorch {VERSION} is needed, {} holds libtorch {found}; unset LIBTORCH and run scripts/libtorch to get \
             {VERSION}, or point LIBTORCH to one (LIBTORCH_BYPASS_VERSION_CHECK=1 tries this one all the same)",
            include.display()
        )),
        None => Err(format!(
            "libtorch {VERSION} is needed, {} holds no libtorch headers; run scripts/libtorch to get it, or point \
             LIBTORCH to a folder that has include/ and lib/",
            include.display()
        )),
    }
}
