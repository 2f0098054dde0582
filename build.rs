//! Finds libtorch where torch-sys found it, compiles cpp/, and lets every target and dependent find the libraries.

#[path = "build/cuda.rs"]
mod cuda;
#[path = "build/libtorch.rs"]
mod libtorch;
#[path = "build/objects.rs"]
mod objects;
#[path = "build/sources.rs"]
mod sources;

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=cpp");
    println!("cargo:rerun-if-changed=cuda");
    println!("cargo:rerun-if-changed=src/bridge.rs");
    if std::env::var_os("CARGO_FEATURE_DOC_ONLY").is_some() {
        println!("cargo:rustc-env=TCH_SVGD_LIBTORCH_LIB=");
        write_series_code(&libtorch::series_code(None));
        return;
    }
    if let Err(message) = build() {
        eprintln!("tch-svgd: {message}");
        std::process::exit(1);
    }
}

fn out_dir() -> PathBuf {
    std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR").into()
}

/// For src/tch_series.rs.
fn write_series_code(code: &str) {
    std::fs::write(out_dir().join("tch_series.rs"), code).expect("OUT_DIR can be written");
}

fn build() -> Result<(), String> {
    let libtorch = libtorch::Libtorch::from_torch_sys()?;

    let mut cpp = cxx_build::bridge("src/bridge.rs");
    cpp.std(&libtorch.cpp_standard())
        // libtorch's headers are not ours to warn about.
        .flags(libtorch.include_dirs().iter().map(|dir| format!("-isystem{}", dir.display())))
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        // The kernels are what this crate is for: a debug build of Rust has them optimized all the same.
        .opt_level(3)
        // Optimized C++ is stepped through by few, and libtorch's headers make it 20 times as large and twice as slow to
        // compile; CXXFLAGS=-g asks for it.
        .debug(false);
    // at::parallel_for is serial unless OpenMP is on where it is compiled. torch-sys links GNU's library for it, which
    // is not the one that clang's code calls.
    if cpp.get_compiler().is_like_clang() {
        println!("cargo:warning=clang: the CPU kernels use one thread; g++ compiles them for all");
    } else {
        cpp.flag("-fopenmp");
    }
    let with_cuda = std::env::var_os("CARGO_FEATURE_CUDA").is_some();
    let cuda = if with_cuda { Some(add_cuda(&mut cpp, &libtorch)?) } else { None };
    let groups: &[_] = match with_cuda {
        true => &["operators", "bridge", "cuda-operators", "cuda-bridge"],
        false => &["operators", "bridge"],
    };
    let sources: Vec<_> = sources::of(groups).map(|source| source.path).collect();
    let archived = objects::objects(&cpp, &sources, &out_dir()).and_then(|objects| {
        let mut library = cc::Build::new();
        if let Some(cuda) = &cuda {
            library.objects(&cuda.kernels);
        }
        // TORCH_LIBRARY works by static initialisers that nothing refers to; without this the linker drops them.
        library.cpp(true).link_lib_modifier("+whole-archive").objects(objects).try_compile("tch_svgd_cpp")
    });
    archived.map_err(|error| {
        format!("cpp/ did not compile as C++{}, for libtorch {}: {error}", libtorch.pair.cpp_standard, libtorch.version)
    })?;
    compile_loops(&libtorch)?;

    let lib = libtorch.lib.display();
    println!("cargo:rustc-env=TCH_SVGD_LIBTORCH_LIB={lib}");
    write_series_code(&libtorch.series_code());
    // For our own tests, examples, benches and the cdylib. A dependent's build.rs does the same with
    // DEP_TCH_SVGD_LIBTORCH_LIB, which the next line gives it.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    println!("cargo:libtorch_lib={lib}");
    // For C++ beside ours: a method in a crate of its own, as tests/counter.
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let include = libtorch.include_dirs().map(|dir| dir.display().to_string()).join(":");
    println!("cargo:include={folder}/cpp");
    println!("cargo:libtorch_include={include}");
    println!("cargo:cpp_standard={}", libtorch.cpp_standard());
    if let Some(Cuda { runtime, .. }) = cuda {
        link_cuda(&libtorch, &runtime);
    }
    Ok(())
}

/// After cpp/, whose symbols these libraries resolve.
fn compile_loops(libtorch: &libtorch::Libtorch) -> Result<(), String> {
    let x86_64 = std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    let groups: &[_] = if x86_64 { &["loops", "loops-x86_64"] } else { &["loops"] };
    for sources::Source { path, flags } in sources::of(groups) {
        let name = Path::new(path).file_stem().unwrap_or_default().to_string_lossy();
        let mut build = cc::Build::new();
        build
            .cpp(true)
            .std(&libtorch.cpp_standard())
            .flags(flags)
            .flags(sources::flags("loops"))
            .opt_level(3)
            .debug(false);
        objects::objects(&build, &[path], &out_dir())
            .and_then(|objects| cc::Build::new().cpp(true).objects(objects).try_compile(&format!("tch_svgd_{name}")))
            .map_err(|error| format!("{path} did not compile: {error}"))?;
    }
    Ok(())
}

/// What the feature `cuda` brings: the objects of the kernels, and the runtime that they need.
struct Cuda {
    kernels: Vec<PathBuf>,
    runtime: cuda::Runtime,
}

/// Compiles the kernels, and sets the compiler of cpp/ for what calls them.
fn add_cuda(cpp: &mut cc::Build, libtorch: &libtorch::Libtorch) -> Result<Cuda, String> {
    for variable in ["CUDA_HOME", "CUDA_PATH", "TORCH_CUDA_ARCH_LIST"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let toolkit = cuda::Toolkit::find(|name| std::env::var_os(name), Path::new(&root))?;
    let runtime = cuda::Runtime::of_libtorch(&libtorch.lib, &toolkit)?;
    let version = Command::new(&toolkit.nvcc).arg("--version").output();
    let version = version.map_err(|error| format!("{} did not run: {error}", toolkit.nvcc.display()))?;
    runtime.check_nvcc(&String::from_utf8_lossy(&version.stdout))?;
    let architectures = std::env::var("TORCH_CUDA_ARCH_LIST").unwrap_or_default();
    let architectures = cuda::architecture_flags(&architectures)?;

    // SAFETY: no other thread runs in this program. The variable is where cc takes nvcc from.
    unsafe { std::env::set_var("NVCC", &toolkit.nvcc) };
    let mut kernels = Vec::new();
    for sources::Source { path: kernel, .. } in sources::of(&["kernels"]) {
        // One build a file: given several, cc would compile code that is linked on the device, which nothing here needs.
        let mut nvcc = cc::Build::new();
        nvcc.cuda(true)
            .cudart("none")
            .std(&libtorch.cpp_standard())
            .file(kernel)
            .flags(cuda::NVCC_FLAGS)
            .flags(&architectures)
            .flags(libtorch.include_dirs().iter().map(|dir| format!("-isystem={}", dir.display())))
            // Warnings would be those of the code that nvcc generates; debug information would turn its optimizer off.
            .warnings(false)
            .debug(false)
            .opt_level(3);
        let objects = nvcc.try_compile_intermediates();
        kernels.extend(objects.map_err(|error| format!("{kernel} did not compile: {error}"))?);
    }
    if let Some(include) = &toolkit.include {
        cpp.flag(format!("-isystem{}", include.display()));
    }
    // For the shims of what there is in cuda/ alone.
    cpp.define("TCH_SVGD_CUDA", None);
    Ok(Cuda { kernels, runtime })
}

/// After the library of cpp/, whose symbols these libraries resolve.
fn link_cuda(libtorch: &libtorch::Libtorch, runtime: &cuda::Runtime) {
    println!("cargo:rustc-link-search=native={}", libtorch.lib.display());
    println!("cargo:rustc-link-lib=c10_cuda");
    println!("cargo:rustc-link-lib=torch_cuda");
    let folder = runtime.folder.display();
    println!("cargo:rustc-link-search=native={folder}");
    println!("cargo:rustc-link-lib=dylib:+verbatim={}", runtime.library);
    // As with libtorch_lib above: a dependent's build.rs finds the folder in DEP_TCH_SVGD_CUDA_LIB.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    println!("cargo:cuda_lib={folder}");
}
