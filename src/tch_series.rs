//! Which tch this is compiled with, and that libtorch is the one which it binds.
//!
//! torch-sys has no constant of its version, and looks at libtorch's only where the folder has a file `build-version`. But
//! each release binds functions that the one before lacked: build/versions.txt names one of each, and build.rs writes from
//! that table what is included here.

/// Whether torch-sys binds a function: its name in the inner block is torch-sys's where that has it, and else that of the
/// constant outside.
macro_rules! binds {
    ($function:ident) => {{
        #[allow(non_upper_case_globals, dead_code)]
        const $function: u8 = 0;
        {
            #[allow(unused_imports)]
            use torch_sys::c_generated::*;
            size_of_val(&$function) == 0 // as every function's own type is, and no number
        }
    }};
}

include!(concat!(env!("OUT_DIR"), "/tch_series.rs"));

const _: () = if let Some(text) = MISMATCH {
    panic!("{}", text)
};
