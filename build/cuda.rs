//! What the feature `cuda` needs: an nvcc, the architectures to compile for, and the CUDA libraries that libtorch uses.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The architectures when TORCH_CUDA_ARCH_LIST does not say: A100, H100, and whatever comes later by way of PTX.
pub const DEFAULT_ARCHITECTURES: &str = "8.0;9.0+PTX";

/// The folder in which scripts/nvcc leaves the compiler, in the root of the crate.
pub const FETCHED_TOOLKIT: &str = ".cuda";

/// Flags of every kernel, besides the architectures: those that are compiled for at the same time get a thread each.
pub const NVCC_FLAGS: &[&str] = &["--threads=0"];

/// The compiler and the headers of one CUDA toolkit.
#[derive(Debug, PartialEq)]
pub struct Toolkit {
    /// The program `nvcc`.
    pub nvcc: PathBuf,
    /// The folder of `cuda_runtime_api.h`; none where the host compiler finds that by itself.
    pub include: Option<PathBuf>,
}

impl Toolkit {
    /// The toolkit of CUDA_HOME, of CUDA_PATH, of the `nvcc` on PATH, or the one that scripts/nvcc has fetched.
    pub fn find(variable: impl Fn(&str) -> Option<OsString>, root: &Path) -> Result<Self, String> {
        for name in ["CUDA_HOME", "CUDA_PATH"] {
            if let Some(home) = variable(name).filter(|value| !value.is_empty()) {
                let nvcc = Path::new(&home).join("bin/nvcc");
                return match nvcc.is_file() {
                    true => Ok(Self::of(nvcc)),
                    false => Err(format!(
                        "{name} is set, but there is no {}; point it to the folder of a CUDA toolkit, or unset it and \
                         run scripts/nvcc to get the compiler",
                        nvcc.display()
                    )),
                };
            }
        }
        let path = variable("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path).map(|folder| folder.join("nvcc"));
        let fetched = root.join(FETCHED_TOOLKIT).join("bin/nvcc");
        on_path.chain([fetched.clone()]).find(|nvcc| nvcc.is_file()).map(Self::of).ok_or_else(|| {
            format!(
                "the feature 'cuda' needs nvcc: CUDA_HOME and CUDA_PATH are not set, no folder of PATH holds it, and \
                 there is no {}; run scripts/nvcc to get it, or set CUDA_HOME to the folder of a CUDA toolkit",
                fetched.display()
            )
        })
    }

    fn of(nvcc: PathBuf) -> Self {
        // The nvcc on PATH may be a link into the toolkit.
        let program = nvcc.canonicalize().unwrap_or_else(|_| nvcc.clone());
        let home = program.ancestors().nth(2).unwrap_or(Path::new("/"));
        let include = home.join("include");
        // A distribution's own toolkit has its headers among the system's, which must not be named again: that would
        // change the order in which they are found.
        let include = (home != Path::new("/usr") && include.join("cuda_runtime_api.h").is_file()).then_some(include);
        Self { nvcc, include }
    }
}

/// Turns a list in PyTorch's syntax, such as `8.0;9.0+PTX`, into the flags of nvcc for it.
pub fn architecture_flags(list: &str) -> Result<Vec<String>, String> {
    let entries: Vec<_> = list.split([';', ',', ' ', '\t', '\n']).filter(|entry| !entry.is_empty()).collect();
    if entries.is_empty() {
        return architecture_flags(DEFAULT_ARCHITECTURES);
    }
    let mut flags = BTreeSet::new();
    for entry in entries {
        let (number, with_ptx) = match entry.strip_suffix("+PTX") {
            Some(number) => (number, true),
            None => (entry, false),
        };
        // "9.0a" is Hopper with the instructions that later architectures lack.
        let (digits, suffix) = match number.strip_suffix(['a', 'f']) {
            Some(digits) => (digits, &number[digits.len()..]),
            None => (number, ""),
        };
        let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let Some((major, minor)) =
            digits.split_once('.').filter(|(major, minor)| all_digits(major) && all_digits(minor))
        else {
            return Err(format!(
                "TORCH_CUDA_ARCH_LIST: expected compute capabilities such as '{DEFAULT_ARCHITECTURES}', got '{entry}' \
                 in '{list}'; names of architectures are not known here: write the number, for Hopper 9.0"
            ));
        };
        let architecture = format!("{major}{minor}{suffix}");
        flags.insert(format!("-gencode=arch=compute_{architecture},code=sm_{architecture}"));
        if with_ptx {
            flags.insert(format!("-gencode=arch=compute_{architecture},code=compute_{architecture}"));
        }
    }
    Ok(flags.into_iter().collect())
}

/// The CUDA runtime that libtorch uses: kernels must be launched through that one and no other.
#[derive(Debug, PartialEq)]
pub struct Runtime {
    /// The folder that the library is in.
    pub folder: PathBuf,
    /// The library's file name, such as `libcudart.so.13`.
    pub library: String,
}

impl Runtime {
    /// Reads out of the libtorch in `lib` which runtime it wants, and finds it: beside libtorch, where PyTorch's wheels
    /// have it, or in the toolkit.
    pub fn of_libtorch(lib: &Path, toolkit: &Toolkit) -> Result<Self, String> {
        for library in ["libc10_cuda.so", "libtorch_cuda.so"] {
            if !lib.join(library).is_file() {
                return Err(format!(
                    "the feature 'cuda' needs a libtorch with CUDA, and {} holds no {library}; see `make cuda`",
                    lib.display()
                ));
            }
        }
        let c10_cuda = lib.join("libc10_cuda.so");
        let bytes = std::fs::read(&c10_cuda).map_err(|error| format!("{}: {error}", c10_cuda.display()))?;
        let library = cudart_name(&bytes)
            .ok_or_else(|| format!("{} names no libcudart.so that it is linked to", c10_cuda.display()))?;
        let mut folders = vec![lib.to_path_buf()];
        // PyTorch's wheels: torch/lib, and nvidia/cu13/lib or nvidia/cuda_runtime/lib.
        if let Some(packages) = lib.ancestors().nth(2) {
            let installed = std::fs::read_dir(packages.join("nvidia")).into_iter().flatten().flatten();
            let mut installed: Vec<_> = installed.map(|folder| folder.path().join("lib")).collect();
            installed.sort();
            folders.extend(installed);
        }
        let nvcc = toolkit.nvcc.canonicalize().unwrap_or_else(|_| toolkit.nvcc.clone());
        if let Some(home) = nvcc.ancestors().nth(2) {
            folders.extend(["lib64", "lib", "lib/x86_64-linux-gnu"].map(|folder| home.join(folder)));
        }
        match folders.iter().find(|folder| folder.join(&library).is_file()) {
            Some(folder) => Ok(Self { folder: folder.clone(), library }),
            None => Err(format!(
                "the libtorch in {} uses {library}, which is in none of {}; install the CUDA runtime of that version",
                lib.display(),
                folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
            )),
        }
    }

    /// Whether nvcc, by what `nvcc --version` prints, is of this runtime's major version.
    pub fn check_nvcc(&self, version_text: &str) -> Result<(), String> {
        let release = version_text.split("release ").nth(1).and_then(|rest| rest.split(',').next());
        let release = release.ok_or_else(|| format!("nvcc did not tell its version, but: {}", version_text.trim()))?;
        let major = self.library.rsplit('.').next().unwrap_or_default();
        if release.split('.').next() == Some(major) {
            return Ok(());
        }
        Err(format!(
            "this libtorch is built with CUDA {major}, and nvcc is of CUDA {release}; set CUDA_HOME to a CUDA {major} \
             toolkit"
        ))
    }
}

/// The file name of the CUDA runtime among the names in a library: `libcudart.so.13`, or with a hash in libtorch's own
/// archives.
fn cudart_name(library: &[u8]) -> Option<String> {
    let prefix = b"libcudart";
    let starts = library.windows(prefix.len()).enumerate().filter(|(_, window)| window == prefix);
    starts.map(|(start, _)| &library[start..]).find_map(|rest| {
        let name = rest.split(|&byte| byte == 0).next()?;
        let name = std::str::from_utf8(name).ok()?;
        let (stem, version) = name.split_once(".so.")?;
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (plain(stem) && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')).then(|| name.to_owned())
    })
}
