//! Where the libraries of libtorch are at run time.

fn main() {
    let lib = std::env::var("DEP_TCH_SVGD_LIBTORCH_LIB").expect("tch-svgd says where libtorch is");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    // With the feature `cuda`, that of CUDA's runtime as well.
    if let Ok(cuda) = std::env::var("DEP_TCH_SVGD_CUDA_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{cuda}");
    }
}
