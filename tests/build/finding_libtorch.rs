//! How libtorch is obtained (scripts/libtorch).

use crate::programs::*;
use crate::project::*;
use crate::versions::*;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

#[test]
fn the_script_does_nothing_when_the_right_libtorch_is_chosen() {
    for pair in known_pairs() {
        let project = Project::new();
        project.lock(&format!("{}.0", pair.tch));
        let libtorch = project.installed("elsewhere", Some(pair.libtorch));
        let text = stdout(&run(project.script("libtorch").env("LIBTORCH", &libtorch)));
        assert!(text.contains("LIBTORCH is set") && text.contains("nothing to do"), "{text}");
        let path = run(project.script("libtorch").env("LIBTORCH", &libtorch).arg("--path"));
        assert_eq!(stdout(&path), format!("{}\n", libtorch.display()));
        // Headers in a folder of their own, as for torch-sys.
        let empty = project.installed("empty", None);
        run(project.script("libtorch").env("LIBTORCH", empty).env("LIBTORCH_INCLUDE", &libtorch));
        assert!(!project.libtorch().exists());
        assert_eq!(std::fs::read_dir(project.path("home")).unwrap().count(), 0);
    }
}

#[test]
fn the_script_refuses_a_chosen_libtorch_of_another_version() {
    let [newest, oldest] = ends();
    let project = Project::new();
    project.lock(&format!("{}.0", newest.tch));
    let other = project.installed("other", Some(oldest.libtorch));
    let none = project.installed("none", None);
    for (folder, found) in [(&other, format!("libtorch {}", oldest.libtorch)), (&none, "no libtorch headers".into())] {
        let text = run_refused(project.script("libtorch").env("LIBTORCH", folder));
        let binds = format!("tch {}.0 binds libtorch {}", newest.tch, newest.libtorch);
        let known = format!("tch {} with libtorch {}", oldest.tch, oldest.libtorch);
        for part in [folder.to_str().unwrap(), &found, &binds, &known, "unset LIBTORCH", "cargo update tch --precise"] {
            assert!(text.to_lowercase().contains(&part.to_lowercase()), "'{part}' is not in: {text}");
        }
        run(project.script("libtorch").env("LIBTORCH", folder).env("LIBTORCH_BYPASS_VERSION_CHECK", "1"));
    }
    // Set, but empty: tch takes that for a choice.
    for variable in ["LIBTORCH", "LIBTORCH_USE_PYTORCH"] {
        let text = run_refused(project.script("libtorch").env(variable, ""));
        assert!(text.contains(&format!("{variable} is set, but empty")), "{text}");
    }
}

#[test]
fn cargo_lock_is_read_with_any_line_ends_and_must_name_a_tch() {
    let [newest, oldest] = ends();
    let project = Project::new();
    let version = || run(project.script("libtorch").arg("--version"));
    assert_eq!(stdout(&version()).trim(), newest.libtorch, "without a lock");
    project.lock(&format!("{}.0", oldest.tch));
    let lock = project.path("project/Cargo.lock");
    std::fs::write(&lock, read(&lock).replace('\n', "\r\n")).unwrap();
    assert_eq!(stdout(&version()).trim(), oldest.libtorch);
    for damaged in ["", "no lock", "[[package]]\nname = \"tch\"\n"] {
        std::fs::write(&lock, damaged).unwrap();
        let text = run_refused(project.script("libtorch").arg("--version"));
        assert!(text.contains("names no tch") && text.contains(lock.to_str().unwrap()), "{text}");
    }
}

#[test]
fn the_script_asks_the_pytorch_that_is_chosen_for_its_version() {
    let [newest, oldest] = ends();
    let project = Project::new();
    let site = project.path("site");
    project.stub("python3", &format!("PYTHONPATH={} exec {} \"$@\"", site.display(), python()));
    let chosen = || {
        let mut script = project.script("libtorch");
        script.env("LIBTORCH_USE_PYTORCH", "1");
        script
    };
    for (version, fits) in [(newest.libtorch, true), (oldest.libtorch, newest == oldest)] {
        let torch = project.installed("site/torch", Some(version));
        std::fs::write(torch.join("__init__.py"), "raise Exception('not to be imported')").unwrap();
        let output = chosen().output().unwrap();
        assert_eq!(output.status.success(), fits, "{version}: {}", stderr(&output));
        let text = if fits { stdout(&output) } else { stderr(&output) };
        assert!(text.contains("LIBTORCH_USE_PYTORCH is set") && text.contains(version), "{text}");
    }
}

#[test]
fn a_wrong_option_is_told_how_the_script_is_called() {
    for arguments in ["--foo", "0.26 0.24", "--path --version", "--path 0.26 now"] {
        let text = run_refused(Project::new().script("libtorch").args(words(arguments)));
        assert!(text.contains("usage: scripts/libtorch [--path | --version] [TCH]"), "{text}");
    }
}

#[test]
fn the_script_names_a_missing_program_and_how_to_get_it() {
    let project = Project::new();
    let says = |parts: [&str; 2]| {
        let text = run_refused(&mut project.script("libtorch"));
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
    let unknown = format!("no libtorch {} wheel is known for Plan9", ends()[0].libtorch);
    says([&unknown, "LIBTORCH"]);
}

/// pip that makes small wheels; the third call fails as long as the file `network` is missing.
fn stub_pip(project: &Project) {
    let python = python();
    let folder = project.path("");
    let folder = folder.display();
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
# The wheels of CUDA 12 have it in their names.
cuda = "12" if name.endswith("-cu12") else "13"
files = {
    "torch": ["torch/include/torch/torch.h", "torch/lib/libtorch.so", "torch/lib/libtorch_cpu.so", "torch/lib/libc10.so",
              "torch/lib/libgomp.so.1", "torch/lib/libtorch_cuda.so", "torch/lib/libtorch_python.so", "torch/nn/init.py"],
    "nvidia-cuda-runtime": [f"nvidia/cuda/lib/libcudart.so.{cuda}", "nvidia/cuda/include/cuda.h"],
    "nvidia-cuda-cupti": [f"nvidia/cuda/lib/libcupti.so.{cuda}", "nvidia/cuda/lib/libnvperf_host.so"],
}[name.removesuffix("-cu12")]
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
    let version = ends()[0].libtorch;
    let refused = run_refused(&mut project.script("libtorch"));
    assert!(refused.contains("nvidia-cuda-cupti==") && refused.contains(" could not be fetched"), "{refused}");
    assert!(!project.libtorch().exists(), "half a libtorch must not be found");
    let cache = project.path("home/.cache/tch-svgd");
    let wheels = cache.join(format!("wheels-{version}-linux-x86_64"));
    assert!(wheels.join("torch.whl").exists(), "a complete wheel is kept");

    std::fs::write(project.path("network"), "").unwrap();
    let text = stdout(&run(&mut project.script("libtorch")));
    let is_in = format!("libtorch {version} is in");
    assert!(text.contains("unpacking into") && text.contains(&is_in), "{text}");
    let libtorch = project.libtorch();
    assert_eq!(read(libtorch.join("build-version")).trim(), version);
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

    // A folder that lost a part is made anew.
    std::fs::remove_file(libtorch.join("lib/libtorch_cpu.so")).unwrap();
    run(&mut project.script("libtorch"));
    assert!(libtorch.join("lib/libtorch_cpu.so").exists());

    // The second time, and in another clone, there is nothing to fetch.
    let calls = read(project.path("calls"));
    std::fs::remove_file(&libtorch).unwrap();
    let text = stdout(&run(&mut project.script("libtorch")));
    assert!(!text.contains("fetching") && libtorch.join("build-version").exists(), "{text}");
    assert_eq!(calls, read(project.path("calls")));
}

#[test]
fn the_libtorch_is_that_of_the_tch_in_cargo_lock_and_others_stay_beside_it() {
    let project = Project::new();
    stub_pip(&project);
    std::fs::write(project.path("network"), "").unwrap();
    let linked = || read(project.libtorch().join("build-version")).trim().to_owned();
    for pair in known_pairs() {
        project.lock(&format!("{}.0", pair.tch));
        run(&mut project.script("libtorch"));
        assert_eq!(linked(), pair.libtorch);
    }
    let calls = read(project.path("calls"));
    for pair in known_pairs() {
        // A patch release binds what its series binds.
        project.lock(&format!("{}.7", pair.tch));
        run(&mut project.script("libtorch"));
        assert_eq!(linked(), pair.libtorch);
    }
    // Asked for by name, as for a crate elsewhere: this checkout's link is left alone, and what is chosen now is no matter.
    let before = linked();
    for pair in known_pairs() {
        let folder = stdout(&run(project.script("libtorch").args(["--path", pair.tch]).env("LIBTORCH", "/elsewhere")));
        assert_eq!(folder.lines().count(), 1, "{folder}");
        assert_eq!(read(Path::new(folder.trim()).join("build-version")).trim(), pair.libtorch);
        let text = stdout(&run(project.script("libtorch").arg(pair.tch)));
        assert!(text.contains(&format!("export LIBTORCH={}", folder.trim())), "{text}");
    }
    assert_eq!(linked(), before);
    std::fs::remove_file(project.libtorch()).unwrap();
    std::fs::create_dir(project.libtorch()).unwrap();
    let text = run_refused(&mut project.script("libtorch"));
    assert!(text.contains(".libtorch is a folder, where a link belongs"), "{text}");
    assert_eq!(calls, read(project.path("calls")), "nothing is fetched twice");

    project.lock("0.99.0");
    let text = run_refused(&mut project.script("libtorch"));
    assert!(text.contains("tch 0.99.0 ") && text.contains(&format!("tch {} with", ends()[0].tch)), "{text}");
}

#[test]
fn two_at_once_fetch_once() {
    if !["/usr/bin/flock", "/bin/flock"].iter().any(|path| Path::new(path).exists()) {
        let _ =
            writeln!(std::io::stderr(), "no flock on this machine: runs do not wait for each other, and the test ends");
        return;
    }
    let project = Project::new();
    stub_pip(&project);
    project.link("flock");
    std::fs::write(project.path("network"), "").unwrap();
    let runs = [(); 2].map(|()| {
        let mut script = project.script("libtorch");
        script.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for run in runs {
        let output = run.wait_with_output().unwrap();
        assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    }
    assert_eq!(read(project.path("calls")).lines().count(), 3, "three wheels, each once");
    assert!(project.libtorch().join("build-version").exists());
}
