//! Finds libtorch where torch-sys found it, compiles cpp/, and lets every target and dependent find the libraries.

#[path = "build/libtorch.rs"]
mod libtorch;

const SOURCES: &[&str] = &[
    "cpp/bridge.cpp",
    "cpp/library.cpp",
    "cpp/ops.cpp",
    "cpp/autocast.cpp",
    "cpp/autograd/linear.cpp",
    "cpp/autograd/conv2d.cpp",
    "cpp/autograd/virtual_grad.cpp",
    "cpp/kernels/forward.cpp",
    "cpp/kernels/backward.cpp",
    "cpp/kernels/composed.cpp",
    "cpp/kernels/meta.cpp",
    "cpp/kernels/cpu/virtual_grad.cpp",
];

/// The inner loops of the CPU kernels, each with the flags of its instruction set. Which of them run is decided at run
/// time: the build asks nothing of the machine that it is for.
const LOOPS: &[(&str, &[&str])] = &[("cpp/kernels/cpu/loops_portable.cpp", &[])];
const LOOPS_X86_64: &[(&str, &[&str])] = &[
    ("cpp/kernels/cpu/loops_avx2.cpp", &["-mavx2", "-mf16c"]),
    (
        "cpp/kernels/cpu/loops_avx512.cpp",
        &["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mf16c", "-mprefer-vector-width=512"],
    ),
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=cpp");
    println!("cargo:rerun-if-changed=src/bridge.rs");
    if std::env::var_os("CARGO_FEATURE_DOC_ONLY").is_some() {
        println!("cargo:rustc-env=TCH_SVGD_LIBTORCH_LIB=");
        return;
    }
    if let Err(message) = build() {
        eprintln!("tch-svgd: {message}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let libtorch = libtorch::Libtorch::from_torch_sys()?;

    let mut cpp = cxx_build::bridge("src/bridge.rs");
    cpp.files(SOURCES)
        .std("c++17")
        // libtorch's headers are not ours to warn about.
        .flags(libtorch.include_dirs().iter().map(|dir| format!("-isystem{}", dir.display())))
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        // The kernels are what this crate is for: a debug build of Rust has them optimized all the same.
        .opt_level(3)
        // TORCH_LIBRARY works by static initialisers that nothing refers to; without this the linker drops them.
        .link_lib_modifier("+whole-archive");
    // at::parallel_for is serial unless OpenMP is on where it is compiled. torch-sys links GNU's library for it, which
    // is not the one that clang's code calls.
    if cpp.get_compiler().is_like_clang() {
        println!("cargo:warning=clang: the CPU kernels use one thread; g++ compiles them for all");
    } else {
        cpp.flag("-fopenmp");
    }
    cpp.try_compile("tch_svgd_cpp").map_err(|error| format!("cpp/ did not compile: {error}"))?;
    compile_loops()?;

    let lib = libtorch.lib.display();
    println!("cargo:rustc-env=TCH_SVGD_LIBTORCH_LIB={lib}");
    // For our own tests, examples, benches and the cdylib. A dependent's build.rs does the same with
    // DEP_TCH_SVGD_LIBTORCH_LIB, which the next line gives it.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    println!("cargo:libtorch_lib={lib}");
    Ok(())
}

/// After cpp/, whose symbols these libraries resolve.
fn compile_loops() -> Result<(), String> {
    let x86_64 = std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    for (source, flags) in LOOPS.iter().chain(if x86_64 { LOOPS_X86_64 } else { &[] }) {
        let name = std::path::Path::new(source).file_stem().unwrap_or_default().to_string_lossy();
        cc::Build::new()
            .cpp(true)
            .std("c++17")
            .file(source)
            .flags(*flags)
            // No fused multiply-add: every instruction set gives the same bits. No errno and no floating-point traps:
            // both would keep roots and selections from becoming vector instructions.
            .flags(["-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"])
            .opt_level(3)
            .try_compile(&format!("tch_svgd_{name}"))
            .map_err(|error| format!("{source} did not compile: {error}"))?;
    }
    Ok(())
}
