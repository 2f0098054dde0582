//! Which libtorch torch-sys links, and what versions.txt says of that version.

use std::path::{Path, PathBuf};

/// Which tch goes with which libtorch, for everyone.
const VERSIONS: &str = include_str!("versions.txt");

/// A tch, the libtorch that it binds, and what follows from that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The series of tch, such as `0.26`.
    pub tch: &'static str,
    /// The version of libtorch, such as `2.13.0`.
    pub libtorch: &'static str,
    /// The C++ standard of libtorch's headers, such as `20`.
    pub cpp_standard: &'static str,
    /// The CUDA version of PyTorch's own wheels, such as `13.0`.
    pub cuda: &'static str,
    /// A function that torch-sys binds since this release.
    pub new_function: &'static str,
}

/// The pairs of versions.txt, the newest first.
pub fn known_pairs() -> Vec<Pair> {
    let heads = VERSIONS.lines().filter(|line| line.starts_with("tch "));
    let pairs = heads.map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["tch", tch, "libtorch", libtorch, "c++", cpp_standard, "cuda", cuda, "new", new_function] => {
            Pair { tch, libtorch, cpp_standard, cuda, new_function }
        }
        _ => panic!("build/versions.txt: the line '{line}' has not the form that stands at its top"),
    });
    pairs.collect()
}

/// The libtorch that torch-sys links.
pub struct Libtorch {
    /// The folder of libtorch's shared libraries.
    pub lib: PathBuf,
    /// The folder of libtorch's headers.
    include: PathBuf,
    /// What the headers call themselves.
    pub version: String,
    /// The known pair of that version, or the one that is nearest to it where the user has waived the check.
    pub pair: Pair,
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
        let version = header_version(&include)?;
        let pair = match pair_of(&version, &include) {
            Ok(pair) => pair,
            Err(message) if std::env::var_os("LIBTORCH_BYPASS_VERSION_CHECK").is_none() => return Err(message),
            Err(_) => {
                let pair = nearest_pair(&version);
                println!(
                    "cargo:warning=libtorch {version} is not a known one: compiled as libtorch {}, as \
                     LIBTORCH_BYPASS_VERSION_CHECK asks",
                    pair.libtorch
                );
                pair
            }
        };
        Ok(Self { lib, include, version, pair })
    }

    /// The folders that libtorch's headers are included from.
    pub fn include_dirs(&self) -> [PathBuf; 2] {
        [self.include.clone(), self.include.join("torch/csrc/api/include")]
    }

    /// The value of a compiler's `-std`.
    pub fn cpp_standard(&self) -> String {
        format!("c++{}", self.pair.cpp_standard)
    }

    /// What src/tch_series.rs includes: see [`series_code`].
    pub fn series_code(&self) -> String {
        let bypass = std::env::var_os("LIBTORCH_BYPASS_VERSION_CHECK").is_some();
        series_code((!bypass).then_some((&self.version, &self.include)))
    }
}

/// The constants of src/tch_series.rs, in Rust: the series of tch, and what is wrong with it for a libtorch of this version
/// with headers in this folder, or nothing. Only the compiler sees which functions torch-sys binds.
pub fn series_code(libtorch: Option<(&str, &Path)>) -> String {
    let chosen = |value: &dyn Fn(&Pair) -> String| {
        let pairs = known_pairs();
        let (oldest, newer) = pairs.split_last().expect("build/versions.txt has pairs");
        let branches: String =
            newer.iter().map(|pair| format!("if binds!({}) {{ {} }} else ", pair.new_function, value(pair))).collect();
        format!("{branches}{{ {} }}", value(oldest))
    };
    let mismatch = |pair: &Pair| match libtorch {
        Some((version, include)) if version != pair.libtorch => {
            let text = format!(
                "tch {} binds libtorch {}, and {} holds libtorch {version}. Known: {}. Unset LIBTORCH and run \
                 `scripts/libtorch {}`, or take the tch that binds yours",
                pair.tch,
                pair.libtorch,
                include.display(),
                known_pairs_text(),
                pair.tch
            );
            format!("Some({text:?})")
        }
        _ => "None".to_owned(),
    };
    format!(
        "pub(crate) const TCH_SERIES: &str = {};\nconst MISMATCH: Option<&str> = {};\n",
        chosen(&|pair| format!("{:?}", pair.tch)),
        chosen(&mismatch)
    )
}

/// Reads the version out of libtorch's own header: unlike `build-version`, every copy of libtorch has it.
pub fn header_version(include: &Path) -> Result<String, String> {
    let headers = ["torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h"];
    let text = headers.iter().find_map(|header| std::fs::read_to_string(include.join(header)).ok());
    let found = text.as_deref().and_then(|text| {
        let number = |name| {
            let line = text.lines().find(|line| line.starts_with(&format!("#define TORCH_VERSION_{name} ")))?;
            line.split_whitespace().last().map(str::to_owned)
        };
        Some([number("MAJOR")?, number("MINOR")?, number("PATCH")?].join("."))
    });
    found.ok_or_else(|| {
        format!(
            "{} holds no libtorch headers; run scripts/libtorch to get them, or point LIBTORCH to a folder that has \
             include/ and lib/. Known: {} (scripts/doctor looks at all of it)",
            include.display(),
            known_pairs_text()
        )
    })
}

/// The known pair of a libtorch, whose headers are in `include`.
pub fn pair_of(version: &str, include: &Path) -> Result<Pair, String> {
    known_pairs().into_iter().find(|pair| pair.libtorch == version).ok_or_else(|| {
        format!(
            "{} holds libtorch {version}, which goes with no tch that tch-svgd {} takes. Known: {}. `cargo tree --invert \
             torch-sys` tells your tch; unset LIBTORCH and run `scripts/libtorch TCH` to get the libtorch of that one, or \
             point LIBTORCH to it (LIBTORCH_BYPASS_VERSION_CHECK=1 tries this one all the same; scripts/doctor looks at all of it)",
            include.display(),
            env!("CARGO_PKG_VERSION"),
            known_pairs_text()
        )
    })
}

/// The newest pair that is not newer than this libtorch, or the oldest of all.
pub fn nearest_pair(version: &str) -> Pair {
    let numbers = |text: &str| text.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
    let pairs = known_pairs();
    let older = pairs.iter().find(|pair| numbers(pair.libtorch) <= numbers(version));
    *older.or(pairs.last()).expect("build/versions.txt has pairs")
}

fn known_pairs_text() -> String {
    let pairs = known_pairs().into_iter().map(|pair| format!("tch {} with libtorch {}", pair.tch, pair.libtorch));
    pairs.collect::<Vec<_>>().join(", ")
}
