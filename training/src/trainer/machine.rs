//! What this machine is, as far as a record tells it.

use anyhow::Result;
use experiments::record::{Machine, Options, Origin};
use std::path::Path;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The machine, with libtorch as it is set now.
pub fn machine(device: tch::Device, cuda_graph: bool) -> Result<Machine> {
    let info = tch_svgd::build_info()?;
    Ok(Machine {
        device: format!("{device:?}"),
        threads: tch::get_num_threads(),
        cuda_graph,
        cpu: field(Path::new("/proc/cpuinfo"), "model name"),
        instructions: instructions().map(str::to_owned),
        crate_version: info.crate_version.to_owned(),
        libtorch_version: info.libtorch_version,
    })
}

/// How this process came about.
pub fn origin(data_folder: Option<&Path>, options: Options) -> Origin {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    Origin {
        host: host.map(|name| name.trim().to_owned()),
        started: OffsetDateTime::now_utc().format(&Rfc3339).ok(),
        options,
        command: Some(command()),
        commit: option_env!("TRAINING_COMMIT").map(str::to_owned),
        data_folder: data_folder.map(|folder| folder.display().to_string()),
    }
}

/// The command line, as the user would give it for this run alone.
fn command() -> String {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    words.filter(|word| !word.starts_with("--part=")).collect::<Vec<_>>().join(" ")
}

/// The most memory that the process has had, in bytes.
pub fn peak_memory() -> Option<u64> {
    let kibibytes = field(Path::new("/proc/self/status"), "VmHWM")?;
    Some(kibibytes.strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The first value of a name in one of Linux's files of "name: value".
fn field(path: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let values = text.lines().filter_map(|line| line.split_once(':'));
    values.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

#[cfg(target_arch = "x86_64")]
fn instructions() -> Option<&'static str> {
    Some(match () {
        () if is_x86_feature_detected!("avx512f") => "avx512",
        () if is_x86_feature_detected!("avx2") => "avx2",
        () => "sse",
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn instructions() -> Option<&'static str> {
    Some(std::env::consts::ARCH)
}
