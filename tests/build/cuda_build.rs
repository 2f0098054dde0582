//! How the feature `cuda` finds its compiler and libraries (build/cuda.rs, scripts/nvcc).

#[path = "../../build/cuda.rs"]
#[allow(dead_code)]
mod cuda;

use cuda::{Runtime, Toolkit, architecture_flags};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

fn flags(list: &str) -> Vec<String> {
    architecture_flags(list).unwrap()
}

#[test]
fn architectures_are_read_in_the_syntax_of_pytorch() {
    let expected = [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90,code=compute_90",
        "-gencode=arch=compute_90,code=sm_90",
    ];
    for list in ["8.0;9.0+PTX", "8.0 9.0+PTX", "9.0+PTX,8.0", " 8.0; 9.0+PTX 8.0;"] {
        assert_eq!(flags(list), expected, "{list}");
    }
    assert_eq!(flags("9.0a"), ["-gencode=arch=compute_90a,code=sm_90a"]);
    assert_eq!(flags("12.0"), ["-gencode=arch=compute_120,code=sm_120"]);
    for nothing in ["", " ; "] {
        assert_eq!(flags(nothing), expected, "the default");
    }
}

#[test]
fn an_unknown_architecture_is_named_with_what_is_expected() {
    for wrong in ["Hopper", "9", "9.", ".0", "sm_90", "9.0+ptx", "9.0b", "8.0;all"] {
        let refused = architecture_flags(wrong).unwrap_err();
        let entry = wrong.rsplit(';').next().unwrap();
        for part in ["TORCH_CUDA_ARCH_LIST", &format!("'{entry}'"), "8.0;9.0+PTX"] {
            assert!(refused.contains(part), "'{part}' is not in: {refused}");
        }
    }
}

/// A folder of toolkits and libraries that hold nothing.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        // Resolved: some systems' folder for temporary files is a link.
        let folder = tempfile::tempdir_in(std::env::temp_dir().canonicalize().unwrap()).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn toolkit(&self, name: &str) -> Toolkit {
        let include = self.file(&format!("{name}/include/cuda_runtime_api.h"), b"").parent().unwrap().to_owned();
        Toolkit { nvcc: self.file(&format!("{name}/bin/nvcc"), b""), include: Some(include) }
    }

    /// Looks for a toolkit with these environment variables, whose values are folders of this machine.
    fn find(&self, variables: &[(&str, &str)]) -> Result<Toolkit, String> {
        let value = |name: &str| {
            let (_, folder) = variables.iter().find(|(variable, _)| *variable == name)?;
            Some(if folder.is_empty() { OsString::new() } else { self.path(folder).into_os_string() })
        };
        Toolkit::find(value, &self.path("crate"))
    }
}

#[test]
fn nvcc_is_that_of_the_variables_then_of_path_then_the_fetched_one() {
    let machine = Machine::new();
    let none = machine.find(&[("PATH", "bin"), ("CUDA_HOME", "")]).unwrap_err();
    for part in ["CUDA_HOME", "CUDA_PATH", "PATH", "crate/.cuda/bin/nvcc", "scripts/nvcc"] {
        assert!(none.contains(part), "'{part}' is not in: {none}");
    }
    let fetched = machine.toolkit("crate/.cuda");
    assert_eq!(machine.find(&[]).unwrap(), fetched);
    let installed = machine.toolkit("installed");
    assert_eq!(machine.find(&[("PATH", "installed/bin")]).unwrap(), installed);
    let [home, other] = ["home", "other"].map(|name| machine.toolkit(name));
    let variables = [("PATH", "installed/bin"), ("CUDA_PATH", "other"), ("CUDA_HOME", "home")];
    assert_eq!(machine.find(&variables).unwrap(), home);
    assert_eq!(machine.find(&variables[..2]).unwrap(), other);

    let wrong = machine.find(&[("CUDA_HOME", "nowhere"), ("PATH", "installed/bin")]).unwrap_err();
    for part in ["CUDA_HOME is set", "nowhere/bin/nvcc", "scripts/nvcc"] {
        assert!(wrong.contains(part), "'{part}' is not in: {wrong}");
    }
}

#[test]
fn a_link_to_nvcc_leads_to_the_headers_of_its_toolkit() {
    let machine = Machine::new();
    let toolkit = machine.toolkit("cuda-13.0");
    std::fs::create_dir(machine.path("bin")).unwrap();
    std::os::unix::fs::symlink(&toolkit.nvcc, machine.path("bin/nvcc")).unwrap();
    let found = machine.find(&[("PATH", "bin")]).unwrap();
    assert_eq!(found, Toolkit { nvcc: machine.path("bin/nvcc"), include: toolkit.include });
}

#[test]
fn the_runtime_is_the_one_that_libtorch_is_linked_to() {
    let machine = Machine::new();
    let toolkit = machine.toolkit("toolkit");
    let lib = machine.path("site/torch/lib");
    let find = || Runtime::of_libtorch(&lib, &toolkit);
    let refused = |part: &str| {
        let text = find().unwrap_err();
        assert!(text.contains(part) && text.contains(lib.to_str().unwrap()), "{text}");
    };
    refused("the feature 'cuda' needs a libtorch with CUDA");
    machine.file("site/torch/lib/libc10_cuda.so", b"\0libc10.so\0libcudart.so.13\0cudaFree@libcudart.so.13\0");
    refused("libtorch_cuda.so");
    machine.file("site/torch/lib/libtorch_cuda.so", b"");
    refused("libcudart.so.13");
    let library = || "libcudart.so.13".to_owned();
    for folder in ["toolkit/lib64", "site/nvidia/cu13/lib", "site/torch/lib"] {
        machine.file(&format!("{folder}/libcudart.so.13"), b"");
        assert_eq!(find().unwrap(), Runtime { folder: machine.path(folder), library: library() });
    }

    machine.file("site/torch/lib/libc10_cuda.so", b"\0libcudart-0123abcd.so.12\0");
    machine.file("site/torch/lib/libcudart-0123abcd.so.12", b"");
    assert_eq!(find().unwrap().library, "libcudart-0123abcd.so.12");
}

#[test]
fn an_nvcc_of_another_major_version_is_refused() {
    let runtime = Runtime { folder: Path::new("/").into(), library: "libcudart.so.13".into() };
    let version = |release: &str| format!("Cuda compilation tools, release {release}, V{release}.88\n");
    runtime.check_nvcc(&version("13.0")).unwrap();
    runtime.check_nvcc(&version("13.2")).unwrap();
    let refused = runtime.check_nvcc(&version("12.9")).unwrap_err();
    for part in ["CUDA 13", "CUDA 12.9", "CUDA_HOME"] {
        assert!(refused.contains(part), "'{part}' is not in: {refused}");
    }
    runtime.check_nvcc("no such program").unwrap_err();
}
