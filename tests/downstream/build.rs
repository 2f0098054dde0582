//! What every program that uses tch-svgd needs: the place of libtorch's libraries at run time.

fn main() {
    let lib = std::env::var("DEP_TCH_SVGD_LIBTORCH_LIB").expect("tch-svgd says where libtorch is");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
}
