//! Compiles the method against the headers of cpp/, as tch-svgd itself is compiled.

use std::env::var;

fn main() {
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=../../cpp");
    let told = |name: &str| var(format!("DEP_TCH_SVGD_{name}")).expect("tch-svgd tells how it is compiled");
    cxx_build::bridge("src/lib.rs")
        .file("src/counter.cpp")
        .std(&told("CPP_STANDARD"))
        .include(told("INCLUDE"))
        .flags(told("LIBTORCH_INCLUDE").split(':').map(|folder| format!("-isystem{folder}")))
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .debug(false)
        // Registered by static initialisers that nothing refers to.
        .link_lib_modifier("+whole-archive")
        .compile("counter");
}
