//! How libtorch is obtained (scripts/libtorch) and recognised (build/libtorch.rs).

#[path = "../build/libtorch.rs"]
#[allow(dead_code)]
mod libtorch;
#[path = "common/programs.rs"]
mod programs;

use programs::*;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn a_wrong_libtorch_is_named_with_both_versions_and_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let include = folder.path().join("include");
    let check = || libtorch::check_version(&include);
    let missing = check().unwrap_err();
    assert!(missing.contains(include.to_str().unwrap()) && missing.contains("2.11.0"), "{missing}");

    let header = include.join("torch/headeronly/version.h");
    std::fs::create_dir_all(header.parent().unwrap()).unwrap();
    let write = |minor: u32| {
        let lines = format!(
            "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR {minor}\n#define TORCH_VERSION_PATCH 0\n"
        );
        std::fs::write(&header, lines).unwrap();
    };
    write(7);
    let wrong = check().unwrap_err();
    for part in ["libtorch 2.11.0 is needed", "2.7.0", include.to_str().unwrap(), "scripts/libtorch"] {
        assert!(wrong.contains(part), "'{part}' is not in: {wrong}");
    }
    write(11);
    check().unwrap();
}

/// A copy of the script in a project of its own, with a home of its own and stubs for the programs it calls.
struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        let project = Project { folder: tempfile::tempdir().unwrap() };
        for folder in ["project/scripts", "bin", "home"] {
            std::fs::create_dir_all(project.path(folder)).unwrap();
        }
        for script in ["libtorch", "wheels.sh"] {
            std::fs::copy(root().join("scripts").join(script), project.path("project/scripts").join(script)).unwrap();
        }
        // The ordinary tools that the script may use, and no others.
        for tool in [
            "bash", "sync", "env", "uname", "dirname", "mkdir", "mktemp", "rm", "mv", "ln", "chmod", "sleep", "grep",
            "cat",
        ] {
            project.link(tool);
        }
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn link(&self, tool: &str) {
        let found =
            ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(tool)).into_iter().find(|path| path.exists());
        let found = found.unwrap_or_else(|| panic!("no {tool} on this machine"));
        std::os::unix::fs::symlink(found, self.path("bin").join(tool)).unwrap();
    }

    fn stub(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        // The name may be a link of `new`: writing through it would overwrite the machine's own program.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", path.display()),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&path).unwrap();
        file.write_all(format!("#!/usr/bin/env bash\n{text}\n").as_bytes()).unwrap();
    }

    fn script(&self) -> Command {
        let mut command = Command::new(self.path("project/scripts/libtorch"));
        command.env_clear().env("PATH", self.path("bin")).env("HOME", self.path("home"));
        command
    }

    fn libtorch(&self) -> PathBuf {
        self.path("project/.libtorch")
    }
}

/// The Python that runs the unpacking, whatever the PATH of the stubs is.
fn python() -> String {
    stdout(&run(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]))).trim().to_owned()
}

#[test]
fn the_script_does_nothing_when_libtorch_is_chosen() {
    for variable in ["LIBTORCH", "LIBTORCH_USE_PYTORCH"] {
        let project = Project::new();
        let text = stdout(&run(project.script().env(variable, "/opt/elsewhere")));
        assert!(text.contains(&format!("{variable} is set")) && text.contains("nothing to do"), "{text}");
        assert!(!project.libtorch().exists());
        assert_eq!(std::fs::read_dir(project.path("home")).unwrap().count(), 0);
    }
}

#[test]
fn the_script_names_a_missing_program_and_how_to_get_it() {
    let project = Project::new();
    let says = |parts: [&str; 2]| {
        let text = run_refused(&mut project.script());
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    };
    says(["cargo is missing", "https://rustup.rs"]);
    project.stub("cargo", "");
    says(["c++ is missing", "apt install g++"]);
    project.stub("c++", "");
    says(["pip is missing", "apt install python3-pip"]);
    project.stub("python3", "exit 1");
    says(["pip is missing", "apt install python3-pip"]);
    project.stub("python3", "");
    project.stub("uname", "echo Plan9");
    says(["no libtorch 2.11.0 wheel is known for Plan9", "LIBTORCH"]);
}

/// pip that makes small wheels; the third call fails as long as the file `network` is missing.
fn stub_pip(project: &Project) {
    let python = python();
    let folder = project.folder.path().display();
    project.stub(
        "python3",
        &format!(
            r#"if [ "$1" = - ]; then exec {python} "$@"; fi
case "$*" in *"pip download --no-cache-dir"*) ;; *) exit 0 ;; esac
while [ $# -gt 0 ]; do case "$1" in --dest) dest=$2 ;; --requirement) requirement=$2 ;; esac; shift; done
line=$(cat "$requirement")
case "$line" in *" --hash=sha256:"????????????????????????????????????????????????????????????????) ;; *) echo "no hash: $line" >&2; exit 1 ;; esac
name="${{line%%==*}}"
echo "$name" >> {folder}/calls
case "$name" in *cupti*) [ -f {folder}/network ] || exit 1 ;; esac
exec {python} {folder}/wheel.py "$name" "$dest""#
        ),
    );
    std::fs::write(
        project.path("wheel.py"),
        r#"
import sys, zipfile
name, dest = sys.argv[1:]
files = {
    "torch": ["torch/include/torch/torch.h", "torch/lib/libtorch.so", "torch/lib/libtorch_cpu.so", "torch/lib/libc10.so",
              "torch/lib/libgomp.so.1", "torch/lib/libtorch_cuda.so", "torch/lib/libtorch_python.so", "torch/nn/init.py"],
    "nvidia-cuda-runtime": ["nvidia/cu13/lib/libcudart.so.13", "nvidia/cu13/include/cuda.h"],
    "nvidia-cuda-cupti": ["nvidia/cu13/lib/libcupti.so.13", "nvidia/cu13/lib/libnvperf_host.so"],
}[name]
with zipfile.ZipFile(f"{dest}/{name}.whl", "w") as wheel:
    for file in files:
        wheel.writestr(file, file)
"#,
    )
    .unwrap();
    project.stub("cargo", "");
    project.stub("c++", "");
    project.stub("uname", r#"case "$1" in -s) echo Linux ;; *) echo x86_64 ;; esac"#);
    project.stub("sleep", "");
}

#[test]
fn the_script_goes_on_after_a_broken_download_and_does_its_work_once() {
    let project = Project::new();
    stub_pip(&project);
    let refused = run_refused(&mut project.script());
    assert!(refused.contains("nvidia-cuda-cupti==13.0.85 could not be fetched"), "{refused}");
    assert!(!project.libtorch().exists(), "half a libtorch must not be found");
    let cache = project.path("home/.cache/tch-svgd");
    assert!(cache.join("wheels-2.11.0-linux-x86_64/torch.whl").exists(), "a complete wheel is kept");

    std::fs::write(project.path("network"), "").unwrap();
    let text = stdout(&run(&mut project.script()));
    assert!(text.contains("unpacking into") && text.contains("libtorch 2.11.0 is in"), "{text}");
    let libtorch = project.libtorch();
    assert_eq!(read(libtorch.join("build-version")).trim(), "2.11.0");
    assert_eq!(read(libtorch.join("include/torch/torch.h")), "torch/include/torch/torch.h");
    let mut libraries: Vec<_> = std::fs::read_dir(libtorch.join("lib"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    libraries.sort();
    let expected = ["libc10.so", "libcudart.so.13", "libcupti.so.13", "libgomp.so.1", "libtorch.so", "libtorch_cpu.so"];
    assert_eq!(libraries, expected, "without libtorch_cuda.so torch-sys builds for the CPU");
    let left: Vec<_> = std::fs::read_dir(&cache).unwrap().collect();
    assert_eq!(left.len(), 1, "only the unpacked libtorch is left: {left:?}");

    // The second time, and in another clone, there is nothing to fetch.
    let calls = read(project.path("calls"));
    std::fs::remove_file(&libtorch).unwrap();
    let text = stdout(&run(&mut project.script()));
    assert!(!text.contains("fetching") && libtorch.join("build-version").exists(), "{text}");
    assert_eq!(calls, read(project.path("calls")));
}
