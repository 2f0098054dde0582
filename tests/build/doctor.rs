//! What scripts/doctor finds: every fault that it knows, made on purpose.

use crate::programs::*;
use crate::project::*;
use crate::versions::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The machine of an ELF header.
const X86_64: u8 = 62;
const AARCH64: u8 = 183;

const NEW_ABI: &str = "torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcE";
const OLD_ABI: &str = "torchCheckFailEPKcS2_jRKSs";

const RUSTUP: &str = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh";

/// A machine on which all is well: a checkout of ours, its libtorch in the cache, and all tools, as stubs.
struct Machine {
    project: Project,
    environment: BTreeMap<&'static str, OsString>,
    /// Where the doctor is run.
    here: &'static str,
}

impl Machine {
    fn new() -> Self {
        Self::named("")
    }

    fn named(name: &'static str) -> Self {
        let project = Project::named(name);
        std::fs::create_dir(project.path("project/.cargo")).unwrap();
        for file in ["Cargo.toml", ".cargo/config.toml"] {
            std::fs::copy(root().join(file), project.path("project").join(file)).unwrap();
        }
        project.lock(&format!("{}.0", ends()[0].tch));
        for tool in ["od", "df", "iconv", "readlink", "touch"] {
            project.link(tool);
        }
        project.stub("uname", r#"case "$1" in -s) echo Linux ;; *) echo x86_64 ;; esac"#);
        project.stub("cargo", "");
        project.stub("rustc", r"printf 'rustc 1.95.0 (2026-04-14)\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n'");
        project.stub("c++", "echo '#define __GNUC__ 12'");
        // What it answers is what `real_python` answers, sooner.
        project.stub(
            "python3",
            &format!(
                r#"site=${{0%/*}}/../site
case "$*" in
  *'find_spec("pip")'*) [ -d "$site/pip" ] ;;
  *'find_spec("torch")'*) [ -d "$site/torch" ] && echo "$site/torch" ;;
  *) exec {} -S "$@" ;;
esac"#,
                python()
            ),
        );
        project.stub("ldd", r#"cat "${0%/*}/../ldd""#);
        project.stub("readelf", r#"cat "${0%/*}/../readelf""#);
        let machine = Machine { project, environment: BTreeMap::new(), here: "project" };
        machine.write("ldd", b"\tlinux-vdso.so.1 (0x1)\n");
        machine.write("readelf", b"");
        machine.write("site/pip/__init__.py", b"");
        machine.install(&cached(), ends()[0].libtorch);
        machine.write(&format!("{}/build-version", cached()), format!("{}\n", ends()[0].libtorch).as_bytes());
        symlink(machine.path(&cached()), machine.project.libtorch()).unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.project.path(name)
    }

    /// The path, as a command names it.
    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn remove(&self, name: &str) {
        let path = self.path(name);
        if path.is_dir() && !path.is_symlink() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }

    /// A libtorch for the CPU, but for what tells its version beside its libraries.
    fn install(&self, name: &str, version: &str) {
        self.project.installed(name, Some(version));
        self.binary(&format!("{name}/lib/libtorch_cpu.so"), X86_64, "");
        self.binary(&format!("{name}/lib/libtorch.so"), X86_64, "");
        self.binary(&format!("{name}/lib/libc10.so"), X86_64, NEW_ABI);
    }

    /// What makes a libtorch one with CUDA.
    fn add_cuda(&self, name: &str, major: &str) {
        self.binary(&format!("{name}/lib/libtorch_cuda.so"), X86_64, "");
        self.binary(&format!("{name}/lib/libc10_cuda.so"), X86_64, &format!("\0libcudart.so.{major}\0"));
    }

    /// The head of a program or a library, and a text in it.
    fn binary(&self, name: &str, machine: u8, text: &str) {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(20, 0);
        bytes[18] = machine;
        bytes.extend(text.as_bytes());
        self.write(name, &bytes);
    }

    /// A program of ours for this libtorch.
    fn program(&self, libtorch: &str) {
        let text = format!(
            "\0tch-svgd is built for libtorch {libtorch}\0cpp/svgd/library.cpp\0cpp/tso_alra/library.cpp\0cpp/bng/library.cpp\0"
        );
        self.binary("program", X86_64, &text);
    }

    /// What the dynamic linker says of a program whose libtorch is in this folder.
    fn loads(&self, folder: &str, more: &str) {
        let text = format!("\tlibtorch_cpu.so => {}/libtorch_cpu.so (0x00007f)\n{more}", self.text(folder));
        self.write("ldd", text.as_bytes());
    }

    /// A toolkit with an nvcc of this version.
    fn toolkit(&self, name: &str, release: &str) {
        std::fs::create_dir_all(self.path(name).join("bin")).unwrap();
        let text = format!(
            "case $1 in --version) echo 'Cuda compilation tools, release {release}, V{release}.88' ;; *) printf \
             'compute_80\\ncompute_90\\ncompute_100\\n' ;; esac"
        );
        self.project.stub(&format!("../{name}/bin/nvcc"), &text);
    }

    /// Of the packages of Python itself and of the folder `site` alone.
    fn real_python(&self) {
        self.project.stub("python3", &format!(r#"PYTHONPATH=${{0%/*}}/../site exec {} -S "$@""#, python()));
    }

    fn set(&mut self, name: &'static str, value: impl AsRef<OsStr>) {
        self.environment.insert(name, value.as_ref().to_owned());
    }

    fn prepare(&self, mut command: Command) -> Command {
        command.env("TCH_SVGD_DOCTOR_ROOT", self.path("machine")).current_dir(self.path(self.here));
        command.envs(&self.environment);
        command
    }

    fn doctor(&self, arguments: &[&str]) -> Command {
        let mut command = self.prepare(self.project.script("doctor"));
        command.args(arguments);
        command
    }

    /// What it tells as JSON, and that its exit status says whether something is wrong.
    #[track_caller]
    fn checks(&self, arguments: &[&str]) -> Vec<Value> {
        checks_of(self.doctor(&["--json"]).args(arguments))
    }

    /// That one thing is wrong, this one: told once, as JSON and as text.
    #[track_caller]
    fn wrong(&self, check: &str, found: &str, expected: &str, mend: &str) {
        self.wrong_with(&[], check, found, expected, mend);
    }

    #[track_caller]
    fn wrong_with(&self, arguments: &[&str], check: &str, found: &str, expected: &str, mend: &str) {
        let checks = self.checks(arguments);
        let wrong: Vec<_> = checks.iter().filter(|told| told["state"] == "WRONG").collect();
        assert_eq!(wrong.len(), 1, "{check}: {checks:#?}");
        assert_told(wrong[0], check, found, expected, mend);
        let output = self.doctor(arguments).output().unwrap();
        assert_eq!((output.status.code(), &stderr(&output)[..]), (Some(1), ""));
        let text = stdout(&output);
        assert_eq!(text.matches("WRONG").count(), 1, "{text}");
        let line = format!("WRONG  {check}: ");
        let mut lines = text.lines().skip_while(|told| !told.starts_with(&line));
        let told = lines.next().unwrap_or_else(|| panic!("no '{line}' in: {text}"));
        assert!(told.contains("; expected "), "{told}");
        if !mend.is_empty() {
            assert_eq!(lines.next(), Some(&format!("       mend: {mend}")[..]), "{text}");
        }
    }

    /// The same, and that nothing is wrong once the mend has run in a shell from which the doctor is then called.
    #[track_caller]
    fn wrong_and_mended(&self, check: &str, found: &str, expected: &str, mend: &str) {
        self.wrong(check, found, expected, mend);
        self.mended(mend);
    }

    #[track_caller]
    fn mended(&self, mend: &str) {
        let mut shell = self.prepare(Command::new(self.path("bin/bash")));
        let kept: Vec<_> =
            shell.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
        shell.env_clear().envs(kept).env("PATH", self.path("bin")).env("HOME", self.path("home"));
        shell
            .arg("-c")
            .arg(format!("{{ {mend}; }} >&2 && exec \"$0\" --json"))
            .arg(self.path("project/scripts/doctor"));
        let checks = checks_of(&mut shell);
        assert!(checks.iter().all(|told| told["state"] != "WRONG"), "after {mend}: {checks:#?}");
    }

    /// That nothing is wrong, and that this is told of a check.
    #[track_caller]
    fn told(&self, arguments: &[&str], check: &str, state: &str, found: &str, mend: &str) {
        let checks = self.checks(arguments);
        assert!(checks.iter().all(|told| told["state"] != "WRONG"), "{checks:#?}");
        let of_check: Vec<_> = checks.iter().filter(|told| told["check"] == check && told["state"] == state).collect();
        assert_eq!(of_check.len(), 1, "{check} {state}: {checks:#?}");
        assert_told(of_check[0], check, found, "", mend);
    }

    #[track_caller]
    fn note(&self, check: &str, found: &str, mend: &str) {
        self.told(&[], check, "note", found, mend);
    }
}

/// Where the libtorch of the newest tch is kept.
fn cached() -> String {
    format!("home/.cache/tch-svgd/libtorch-{}-linux-x86_64-cpu", ends()[0].libtorch)
}

#[track_caller]
fn checks_of(command: &mut Command) -> Vec<Value> {
    let output = command.output().unwrap();
    let text = std::str::from_utf8(&output.stdout).unwrap();
    let checks: Vec<Value> =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}{}", stderr(&output)));
    for told in &checks {
        let keys: Vec<_> = told.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["check", "expected", "found", "mend", "state"]);
        assert!(told.as_object().unwrap().values().all(Value::is_string), "{told}");
        assert!(["ok", "note", "WRONG"].contains(&told["state"].as_str().unwrap()), "{told}");
    }
    let wrong = checks.iter().any(|told| told["state"] == "WRONG");
    assert_eq!(output.status.code(), Some(wrong.into()), "{text}{}", stderr(&output));
    checks
}

#[track_caller]
fn assert_told(told: &Value, check: &str, found: &str, expected: &str, mend: &str) {
    assert_eq!(told["check"], check, "{told}");
    for (key, part) in [("found", found), ("expected", expected)] {
        assert!(told[key].as_str().unwrap().contains(part), "'{part}' is not what it {key}: {told}");
    }
    assert_eq!(told["mend"], mend);
}

/// All files below a folder, with what is in them.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            files.insert(path.clone(), std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec());
        } else if path.is_dir() {
            files.insert(path.clone(), Vec::new());
            files.extend(snapshot(&path));
        } else {
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn where_all_is_well_it_says_so_and_changes_nothing() {
    let machine = Machine::new();
    let before = snapshot(&machine.path(""));
    let checks = machine.checks(&[]);
    assert!(checks.iter().all(|told| told["state"] == "ok" && told["mend"] == ""), "{checks:#?}");
    let names: Vec<_> = checks.iter().map(|told| told["check"].as_str().unwrap()).collect();
    let expected = "tch rust c++ environment libtorch headers library libraries architecture abi dependencies cuda driver \
                    nvcc pip pytorch cache";
    assert_eq!(names, words(expected));
    let output = run(&mut machine.doctor(&[]));
    assert_eq!(stdout(&output).lines().count(), names.len(), "{}", stdout(&output));
    assert!(stdout(&output).lines().all(|line| line.starts_with("ok     ")));
    assert_eq!(stderr(&output), "");
    assert!(before == snapshot(&machine.path("")), "something is written");
}

#[test]
fn a_wrong_call_is_told_how_it_is_called() {
    for arguments in [&["--foo"][..], &["one", "two"], &[""], &["-h"], &["--json", "a", "b"]] {
        let output = Machine::new().doctor(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(stderr(&output), "usage: scripts/doctor [--json] [PROGRAM]\n");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn its_json_is_valid_whatever_is_in_a_path() {
    let mut machine = Machine::named("a \"quoted\" \\ back\\slash &\n\tand\u{1}\u{7f} é ∇");
    machine.told(&[], "libtorch", "ok", &machine.text("project/.libtorch"), "");
    // Mends are for the shell, whatever is in a path.
    machine.remove("project/.libtorch");
    machine.set("LIBTORCH", machine.path(&cached()).join("lib"));
    let told = machine.checks(&[]).into_iter().find(|told| told["state"] == "WRONG").unwrap();
    machine.mended(told["mend"].as_str().unwrap());
    // In a text each check is a line all the same.
    let text = stdout(&machine.doctor(&[]).output().unwrap());
    assert!(
        text.lines()
            .all(|line| ["ok ", "note ", "WRONG ", "       mend: "].iter().any(|start| line.starts_with(start))),
        "{text}"
    );
    // What is no UTF-8 is left out.
    machine.set("LIBTORCH", OsStr::from_bytes(b"/no\xff\"where"));
    machine.checks(&[]);
    assert!(
        machine.checks(&[]).iter().any(|told| told["found"].as_str().unwrap().starts_with("/no\"where, which is no"))
    );
}

#[test]
fn rust_must_be_there_and_new_enough() {
    for tool in ["cargo", "rustc"] {
        let machine = Machine::new();
        machine.remove(&format!("bin/{tool}"));
        machine.wrong("rust", &format!("no {tool} on PATH"), "Rust 1.", RUSTUP);
        machine.project.stub(&format!("../home/{tool}"), "");
        std::fs::create_dir_all(machine.path("home/.cargo/bin")).unwrap();
        std::fs::rename(machine.path(&format!("home/{tool}")), machine.path(&format!("home/.cargo/bin/{tool}")))
            .unwrap();
        let env = machine.text("home/.cargo/env");
        machine.wrong("rust", &format!("no {tool} on PATH"), "Rust 1.", &format!(". {env}"));
    }
    let machine = Machine::new();
    machine.project.stub("rustc", "echo 'rustc 1.70.0'; echo 'release: 1.70.0'");
    machine.wrong("rust", "rustc 1.70.0", "Rust 1.", RUSTUP);
    machine.project.stub("rustup", "");
    machine.wrong("rust", "rustc 1.70.0", "Rust 1.", "rustup update stable");
    machine.project.stub("rustc", "echo 'error: no default toolchain' >&2; exit 1");
    machine.wrong("rust", "no default toolchain", "Rust 1.", "rustup default stable");
    // The least that Cargo.toml takes.
    let manifest = read(root().join("Cargo.toml"));
    let least = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    machine.project.stub("rustc", &format!("echo 'release: {least}.0-nightly'"));
    machine.told(&[], "rust", "ok", least, "");
}

#[test]
fn the_cxx_compiler_must_know_the_standard_of_libtorch() {
    let mut machine = Machine::new();
    let standard = format!("C++{}", ends()[0].cpp_standard);
    machine.project.stub(
        "c++",
        &format!("case $* in *-std={}*) echo '#define __GNUC__ 12' ;; *) exit 1 ;; esac", standard.to_lowercase()),
    );
    machine.told(&[], "c++", "ok", &format!("g++ 12, knows {standard}"), "");
    machine.project.stub("c++", "echo \"c++: error: unrecognized command-line option '-std=c++20'\" >&2; exit 1");
    machine.wrong("c++", "unrecognized command-line option", "g++ 11", "apt install g++-12 && export CXX=g++-12");
    machine.project.stub("c++", "echo '#define __GNUC__ 10'");
    machine.wrong("c++", "c++ is g++ 10", "g++ 11 or later", "apt install g++-12 && export CXX=g++-12");
    machine.project.stub("c++", "printf '#define __GNUC__ 4\\n#define __clang__ 1\\n'");
    machine.note("c++", "the CPU kernels use one thread", "apt install g++ && export CXX=g++");
    machine.project.stub("g++", "echo '#define __GNUC__ 12'");
    machine.note("c++", "the CPU kernels use one thread", "export CXX=g++");
    machine.mended("export CXX=g++");
    machine.remove("bin/c++");
    machine.wrong("c++", "no c++ on PATH", &standard, "apt install g++");
    machine.project.stub("ccache", "echo '#define __GNUC__ 12'");
    machine.set("CXX", "ccache g++");
    machine.told(&[], "c++", "ok", "ccache g++", "");
    machine.set("CXX", "icc -O2");
    machine.wrong("c++", "no icc on PATH, which CXX names", &standard, "unset CXX && apt install g++");
}

#[test]
fn a_variable_that_says_something_else_than_it_seems_to_is_told() {
    let mut machine = Machine::new();
    for name in [
        "LIBTORCH",
        "LIBTORCH_USE_PYTORCH",
        "LIBTORCH_INCLUDE",
        "LIBTORCH_LIB",
        "LIBTORCH_CXX11_ABI",
        "LIBTORCH_STATIC",
        "LIBTORCH_BYPASS_VERSION_CHECK",
    ] {
        machine.set(name, "");
        machine.wrong_and_mended(name, "set, but empty", "not set at all", &format!("unset {name}"));
        machine.environment.remove(name);
    }
    for (name, value) in [
        ("LIBTORCH_USE_PYTORCH", "0"),
        ("LIBTORCH_USE_PYTORCH", "false"),
        ("LIBTORCH_BYPASS_VERSION_CHECK", "0"),
        ("LIBTORCH_CXX11_ABI", "0"),
        ("LIBTORCH_STATIC", "1"),
    ] {
        machine.set(name, value);
        machine.wrong_and_mended(name, value, "", &format!("unset {name}"));
        machine.environment.remove(name);
    }
    for (name, value) in [("LIBTORCH_CXX11_ABI", "1"), ("LIBTORCH_STATIC", "0")] {
        machine.set(name, value);
        machine.told(&[], "environment", "ok", "do not contradict", "");
    }
    machine.environment.clear();
    machine.set("LIBTORCH_BYPASS_VERSION_CHECK", "1");
    machine.note("LIBTORCH_BYPASS_VERSION_CHECK", "of any version", "unset LIBTORCH_BYPASS_VERSION_CHECK");
    machine.environment.clear();
    for name in ["libtorch_cpu.a", "libc10.a", "libtorch.a"] {
        machine.write(&format!("{}/lib/{name}", cached()), b"!<arch>\n");
    }
    machine.set("LIBTORCH_STATIC", "1");
    machine.note("LIBTORCH_STATIC", "is linked into the program", "");
}

#[test]
fn a_folder_that_is_none_of_a_libtorch_is_told_with_the_one_that_is_meant() {
    let mut machine = Machine::new();
    let folder = machine.text(&cached());
    machine.write("nothing/here", b"");
    // The links say the same as the names from /.
    symlink(machine.path(&cached()), machine.path("project/libtorch")).unwrap();
    symlink(machine.path(&cached()), machine.path("home/libtorch")).unwrap();
    for (value, found, meant) in [
        (
            "libtorch",
            "libtorch, which torch-sys takes for a path from its own folder",
            Some(machine.text("project/libtorch")),
        ),
        ("~/libtorch", "~/libtorch, which torch-sys takes", Some(machine.text("home/libtorch"))),
        ("libtroch", "libtroch, which torch-sys takes", None),
        (&format!("{folder}/lib"), "/lib, which has no include/torch", Some(folder.clone())),
        (&format!("{folder}/include"), "/include, which has no include/torch", Some(folder.clone())),
        (&machine.text("home"), "home, which has no include/torch", Some(machine.text("home/libtorch"))),
        (&machine.text("nowhere"), "nowhere, which is no folder", None),
        (&machine.text("nothing/here"), "here, which is no folder", None),
    ] {
        machine.set("LIBTORCH", value);
        let mend = match meant {
            Some(meant) => format!("export LIBTORCH={meant}"),
            None => "unset LIBTORCH && scripts/libtorch".to_owned(),
        };
        machine.wrong_and_mended("LIBTORCH", found, "the path, from /", &mend);
    }
    // Headers and libraries in folders of their own: each above include and lib.
    machine.environment.clear();
    for (name, part) in [("LIBTORCH_INCLUDE", "include"), ("LIBTORCH_LIB", "lib")] {
        machine.set(name, format!("{folder}/{part}"));
        machine.wrong_and_mended(name, "which has no", "above include and lib", &format!("export {name}={folder}"));
        machine.set(name, machine.path("nowhere"));
        machine.wrong_and_mended(name, "which is no folder", "above include and lib", &format!("unset {name}"));
        machine.set(name, &folder);
        machine.note(name, "the other half is that of LIBTORCH", "");
        machine.environment.remove(name);
    }
    machine.set("LIBTORCH_INCLUDE", &folder);
    machine.set("LIBTORCH_LIB", &folder);
    let checks = machine.checks(&[]);
    assert!(checks.iter().all(|told| told["state"] == "ok"), "{checks:#?}");
}

#[test]
fn of_two_libtorches_that_are_chosen_one_is_told_to_go() {
    let mut machine = Machine::new();
    machine.install("site/torch", ends()[0].libtorch);
    machine.write("site/torch/__init__.py", b"");
    machine.set("LIBTORCH_USE_PYTORCH", "1");
    machine.told(&[], "libtorch", "ok", "site/torch", "");
    for name in ["LIBTORCH", "LIBTORCH_INCLUDE", "LIBTORCH_LIB"] {
        machine.set(name, machine.path(&cached()));
        machine.wrong_and_mended(name, "because LIBTORCH_USE_PYTORCH is", "one of the two", &format!("unset {name}"));
        machine.environment.remove(name);
    }
    machine.set("LIBTORCH", machine.path("site/torch"));
    machine.told(&[], "environment", "ok", "", "");
}

#[test]
fn the_pytorch_that_is_chosen_must_be_there_and_of_the_right_version() {
    let [newest, oldest] = ends();
    let mut machine = Machine::new();
    machine.real_python();
    machine.set("LIBTORCH_USE_PYTORCH", "1");
    let install = format!("python3 -m pip install torch=={}", newest.libtorch);
    machine.wrong("libtorch", "python3 has no PyTorch", newest.libtorch, &install);
    machine.write("site/torch/__init__.py", b"raise Exception('not to be imported')");
    machine.install("site/torch", oldest.libtorch);
    machine.wrong("headers", &format!("libtorch {}", oldest.libtorch), newest.libtorch, &install);
    machine.install("site/torch", newest.libtorch);
    machine.write("site/torch/version.py", format!("__version__ = '{}+cpu'\n", newest.libtorch).as_bytes());
    machine.told(&[], "library", "ok", newest.libtorch, "");
    // Damaged: pip would find it installed.
    machine.remove("site/torch/lib/libc10.so");
    let again = format!("python3 -m pip install --force-reinstall torch=={}", newest.libtorch);
    machine.wrong("libraries", "libc10.so", newest.libtorch, &again);
    // In a virtual environment torch-sys asks another name.
    machine.set("VIRTUAL_ENV", "/venv");
    machine.wrong_and_mended("libtorch", "there is no python", "python with PyTorch", "unset LIBTORCH_USE_PYTORCH");
}

#[test]
fn a_tch_that_is_not_known_is_told_with_those_that_are() {
    let [newest, oldest] = ends();
    let machine = Machine::new();
    machine.project.lock("0.99.0");
    let update = format!("cargo update tch --precise {}.0", newest.tch);
    machine.wrong("tch", "tch 0.99.0", &format!("tch {} with libtorch {}", oldest.tch, oldest.libtorch), &update);
    machine.write("project/Cargo.lock", b"no lock");
    let lock = machine.text("project/Cargo.lock");
    machine.wrong("tch", "names no tch", newest.tch, &format!("rm {lock} && cargo generate-lockfile"));
    machine.remove("project/Cargo.lock");
    machine.told(&[], "tch", "ok", "as there is no Cargo.lock yet", "");
}

#[test]
fn of_a_crate_elsewhere_it_looks_at_its_own_tch_and_settings() {
    let [newest, oldest] = ends();
    let mut machine = Machine::new();
    std::fs::create_dir_all(machine.path("crate/src")).unwrap();
    machine.here = "crate/src";
    // Without a lock there is only ours.
    machine.write("crate/src/Cargo.toml", b"");
    machine.note("Cargo.lock", "has none that names a tch", "cargo generate-lockfile");
    machine.remove("crate/src/Cargo.toml");
    machine.project.lock(&format!("{}.3", oldest.tch));
    std::fs::rename(machine.path("project/Cargo.lock"), machine.path("crate/Cargo.lock")).unwrap();
    let old = format!("home/.cache/tch-svgd/libtorch-{}-linux-x86_64-cpu", oldest.libtorch);
    machine.install(&old, oldest.libtorch);
    machine.write(&format!("{old}/build-version"), format!("{}\n", oldest.libtorch).as_bytes());
    let fetch = format!("export LIBTORCH=\"$({} --path {})\"", machine.text("project/scripts/libtorch"), oldest.tch);
    machine.wrong_and_mended("libtorch", "LIBTORCH is not set", oldest.libtorch, &fetch);
    machine.set("LIBTORCH", machine.path("nowhere"));
    let checks = machine.checks(&[]);
    assert!(checks.iter().all(|told| told["state"] != "WRONG" || told["mend"] == fetch[..]), "{checks:#?}");
    machine.mended(&fetch);
    if newest != oldest {
        machine.set("LIBTORCH", machine.path(&cached()));
        machine.wrong_and_mended("headers", newest.libtorch, oldest.libtorch, &fetch);
    }
    machine.environment.clear();
    // What cargo's settings say, from the folder up, and where they are relative to.
    for (file, value) in [
        (
            "crate/.cargo/config.toml",
            format!("[build]\nLIBTORCH = \"no\"\n[env]\n  LIBTORCH = \"{}\" # ours", machine.text(&old)),
        ),
        ("crate/src/.cargo/config.toml", format!("[env]\nLIBTORCH = {{ relative = true, value = '../../{old}' }}\n")),
        ("home/.cargo/config.toml", format!("[env]\nLIBTORCH={{value=\"{}\"}}\n", machine.text(&old))),
    ] {
        machine.write(file, value.as_bytes());
        machine.told(&[], "libtorch", "ok", &format!("({})", machine.text(file)), "");
        machine.remove(file);
    }
    machine.write("cargo/config.toml", format!("[env]\nLIBTORCH = '{}'\n", machine.text(&old)).as_bytes());
    machine.set("CARGO_HOME", machine.path("cargo"));
    machine.told(&[], "libtorch", "ok", "cargo/config.toml)", "");
    machine.environment.clear();
    // That of the system, where torch-sys looks last.
    machine.install("machine/usr", oldest.libtorch);
    machine.write("machine/usr/lib/libtorch.so", b"");
    machine.binary("machine/usr/lib/libtorch.so", X86_64, "");
    machine.told(&[], "libtorch", "ok", &machine.text("machine/usr"), "");
}

#[test]
fn the_link_of_a_checkout_must_lead_to_a_libtorch() {
    let machine = Machine::new();
    let link = machine.text("project/.libtorch");
    machine.remove("project/.libtorch");
    machine.wrong_and_mended(
        "libtorch",
        &format!("none in {link}, which is no folder"),
        "libtorch",
        "scripts/libtorch",
    );
    machine.remove("project/.libtorch");
    symlink("/gone/libtorch", &link).unwrap();
    machine.wrong_and_mended("libtorch", "a link to /gone/libtorch, which is gone", "libtorch", "scripts/libtorch");
    machine.remove("project/.libtorch");
    machine.install("elsewhere", ends()[0].libtorch);
    symlink(machine.path("elsewhere"), &link).unwrap();
    machine.note(".libtorch", "elsewhere, which scripts/libtorch has not made", "scripts/libtorch");
    machine.mended("scripts/libtorch");
    machine.remove("project/.libtorch");
    machine.install("project/.libtorch", ends()[0].libtorch);
    let mend = format!("mv {link} {link}.old && scripts/libtorch");
    machine.note(".libtorch", "a folder", &mend);
    machine.mended(&mend);
    assert!(Path::new(&link).is_symlink());
}

#[test]
fn headers_and_libraries_must_be_of_the_version_that_tch_binds() {
    let newest = ends()[0];
    let mut machine = Machine::new();
    let other = "2.1.2";
    machine.install("other", other);
    machine.set("LIBTORCH", machine.path("other"));
    let fetch = "unset LIBTORCH && scripts/libtorch";
    machine.wrong_and_mended(
        "headers",
        &format!("libtorch {other} in "),
        &format!("libtorch {}", newest.libtorch),
        fetch,
    );
    machine.set("LIBTORCH_BYPASS_VERSION_CHECK", "1");
    machine.note("headers", other, "");
    machine.environment.remove("LIBTORCH_BYPASS_VERSION_CHECK");
    machine.remove("other/include/torch/headeronly/version.h");
    machine.wrong_and_mended("headers", "no torch/headeronly/version.h", newest.libtorch, fetch);
    // Old headers over new libraries.
    machine.install("other", newest.libtorch);
    machine.write("other/build-version", format!("{other}+cu118\n").as_bytes());
    machine.wrong_and_mended("library", &format!("libtorch {other} in "), "one version", fetch);
    machine.remove("other/build-version");
    machine.told(&[], "library", "ok", "nothing beside", "");
    machine.environment.clear();
    machine.set("LIBTORCH_LIB", machine.path("other"));
    machine.write("other/version.py", format!("__version__ = '{other}'\n").as_bytes());
    machine.wrong_and_mended("library", other, "one version", "unset LIBTORCH_LIB && scripts/libtorch");
}

#[test]
fn the_libraries_must_be_there_and_whole() {
    let cached = cached();
    for name in ["libtorch_cpu.so", "libc10.so", "libtorch.so"] {
        let machine = Machine::new();
        // In the cache it is fetched again: that it is there would be enough for scripts/libtorch.
        let again = format!("rm -rf {} && scripts/libtorch", machine.text(&cached));
        machine.write(&format!("{cached}/lib/{name}"), b"");
        machine.wrong("libraries", &format!("lib has no {name}"), ends()[0].libtorch, &again);
        machine.remove(&format!("{cached}/lib/{name}"));
        machine.wrong("libraries", &format!("lib has no {name}"), ends()[0].libtorch, &again);
    }
}

#[test]
fn the_libraries_must_be_for_this_machine_with_this_abi_and_all_that_they_need() {
    let mut machine = Machine::new();
    machine.install("other", ends()[0].libtorch);
    machine.set("LIBTORCH", machine.path("other"));
    let fetch = "unset LIBTORCH && scripts/libtorch";
    let cpu = "other/lib/libtorch_cpu.so";
    machine.binary(cpu, AARCH64, "");
    machine.wrong_and_mended("architecture", "for Linux-aarch64", "for Linux-x86_64", fetch);
    machine.write(cpu, b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01 and so on ........");
    machine.wrong_and_mended("architecture", "for Darwin-arm64", "for Linux-x86_64", fetch);
    machine.write(cpu, b"<html>404 Not Found</html>");
    machine.wrong_and_mended("architecture", "no library", "for Linux-x86_64", fetch);
    machine.binary(cpu, X86_64, "");
    machine.binary("other/lib/libc10.so", X86_64, OLD_ABI);
    machine.wrong_and_mended("abi", "pre-cxx11", "the new one", fetch);
    machine.binary("other/lib/libc10.so", X86_64, NEW_ABI);

    machine.write(
        "ldd",
        b"\tlibcupti.so.13 => not found\n\tlibcuda.so.1 => not found\n\tlibc.so.6 => /lib/libc.so.6 (0x1)\n",
    );
    machine.wrong("dependencies", "does not find libcupti.so.13 for", "linked to", fetch);
    machine.write(
        "ldd",
        b"/a b/libtorch_cpu.so: /lib/libc.so.6: version `GLIBC_2.28' not found (required by /a b/libtorch_cpu.so)\n",
    );
    machine.wrong("dependencies", "GLIBC_2.28", "newer", "");
    machine.remove("bin/ldd");
    machine.told(&[], "architecture", "ok", "x86_64", "");
}

#[test]
fn another_libtorch_on_the_search_path_is_told() {
    let mut machine = Machine::new();
    machine.install("other", ends()[0].libtorch);
    let [other, right] = [machine.text("other/lib"), format!("{}/lib", machine.text(&cached()))];
    machine.set("LD_LIBRARY_PATH", format!("/opt/lib:{other}:{right}"));
    let mend = format!("export LD_LIBRARY_PATH=/opt/lib:{right}");
    machine.wrong_and_mended("LD_LIBRARY_PATH", &other, "no libtorch in it", &mend);
    machine.set("LD_LIBRARY_PATH", &other);
    machine.wrong_and_mended("LD_LIBRARY_PATH", &other, "no libtorch in it", "unset LD_LIBRARY_PATH");
    machine.set("LD_LIBRARY_PATH", right);
    machine.told(&[], "libraries", "ok", "", "");
}

#[test]
fn the_driver_must_be_new_enough_for_the_cuda_of_libtorch() {
    let cached = cached();
    let mut machine = Machine::new();
    let proc = |version: &str| {
        let text = format!(
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build\nGCC version:  gcc version 12\n"
        );
        machine.write("machine/proc/driver/nvidia/version", text.as_bytes());
        machine.write("machine/dev/nvidiactl", b"");
    };
    // On a CPU libtorch a driver is only worth a hint.
    proc("580.95.05");
    let install = format!("python3 -m pip install torch=={} && export LIBTORCH_USE_PYTORCH=1", ends()[0].libtorch);
    machine.note("driver", "580.95.05, but libtorch computes on the CPU alone", &install);
    machine.add_cuda(&cached, "13");
    machine.told(&[], "driver", "ok", "580.95.05", "");
    machine.told(&[], "cuda", "ok", "CUDA 13", "");
    proc("535.129.03");
    machine.wrong("driver", "535.129.03", "580.65 or later, for CUDA 13", "apt install nvidia-driver-580");
    machine.add_cuda(&cached, "12");
    machine.told(&[], "driver", "ok", "535.129.03", "");
    machine.add_cuda(&cached, "13");
    let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  525.60.13  Wed Nov 30\n";
    machine.write("machine/proc/driver/nvidia/version", closed.as_bytes());
    machine.wrong("driver", "525.60.13", "580.65", "apt install nvidia-driver-580");
    // As in a container that is given no GPU.
    proc("580.95.05");
    machine.remove("machine/dev/nvidiactl");
    machine.note("driver", "nvidiactl, as in a container without GPUs", "docker run --gpus all");
    proc("580.95.05");
    machine.set("CUDA_VISIBLE_DEVICES", "-1");
    machine.note("CUDA_VISIBLE_DEVICES", "hides every GPU", "unset CUDA_VISIBLE_DEVICES");
    machine.set("CUDA_VISIBLE_DEVICES", "1");
    machine.told(&[], "driver", "ok", "580.95.05", "");
    machine.environment.clear();
    // Where there is no /proc of a driver, as under Windows.
    machine.remove("machine/proc");
    machine.note("driver", "no NVIDIA driver", "apt install nvidia-driver-580");
    machine.project.stub("nvidia-smi", "echo 581.42");
    machine.told(&[], "driver", "ok", "581.42", "");
    machine.project.stub("nvidia-smi", "echo 470.10; echo 470.10");
    machine.wrong("driver", "470.10", "580.65 or later", "apt install nvidia-driver-580");
    machine.project.stub("nvidia-smi", "echo 'NVIDIA-SMI has failed because it could not'; exit 9");
    machine.wrong("driver", "NVIDIA-SMI has failed", "a driver that is loaded", "modprobe nvidia");
    // Half of CUDA.
    machine.remove("bin/nvidia-smi");
    machine.remove(&format!("{cached}/lib/libc10_cuda.so"));
    let again = format!("rm -rf {} && scripts/libtorch", machine.text(&cached));
    machine.wrong("libraries", "libc10_cuda.so", ends()[0].libtorch, &again);
}

#[test]
fn nvcc_must_be_of_the_cuda_of_libtorch() {
    let cached = cached();
    let mut machine = Machine::new();
    machine.set("CUDA_HOME", machine.path("nowhere"));
    let home = machine.text("project/.cuda");
    let fetch = &format!("unset CUDA_HOME && scripts/nvcc && export CUDA_HOME={home}");
    machine.note("CUDA_HOME", "where there is no bin/nvcc", fetch);
    machine.add_cuda(&cached, "13");
    machine.wrong("CUDA_HOME", "where there is no bin/nvcc", "CUDA 13 toolkit", fetch);
    machine.mended("unset CUDA_HOME");
    machine.toolkit("old", "12.8");
    machine.set("CUDA_HOME", machine.path("old"));
    machine.wrong("nvcc", "nvcc of CUDA 12.8", "CUDA 13", fetch);
    machine.environment.clear();
    machine.note("nvcc", "none, which the feature 'cuda' needs", "scripts/nvcc");
    machine.toolkit("project/.cuda", "13.0");
    machine.told(&[], "nvcc", "ok", ".cuda/bin/nvcc of CUDA 13.0", "");
    machine.toolkit("new", "13.1");
    machine.set("CUDA_PATH", machine.path("new"));
    machine.told(&[], "nvcc", "ok", "new/bin/nvcc of CUDA 13.1", "");
    machine.set("CUDA_PATH", machine.path("nowhere"));
    machine.wrong("CUDA_PATH", "nowhere", "CUDA 13", &fetch.replace("CUDA_HOME &&", "CUDA_PATH &&"));
    machine.mended("unset CUDA_PATH");
    machine.environment.clear();
    machine.project.stub("nvcc", "echo 'cannot execute binary file' >&2; exit 126");
    machine.wrong("nvcc", "cannot execute binary file", "CUDA 13", &format!("scripts/nvcc && export CUDA_HOME={home}"));
    machine.mended(&format!("export CUDA_HOME={home}"));
}

#[test]
fn architectures_must_be_such_as_nvcc_knows() {
    let mut machine = Machine::new();
    machine.add_cuda(&cached(), "13");
    machine.toolkit("toolkit", "13.0");
    machine.set("CUDA_HOME", machine.path("toolkit"));
    for list in ["8.0;9.0+PTX", "8.0 9.0a,10.0f+PTX", " 9.0; "] {
        machine.set("TORCH_CUDA_ARCH_LIST", list);
        machine.told(&[], "TORCH_CUDA_ARCH_LIST", "ok", list, "");
    }
    for list in ["Hopper", "8.0;sm_90", "9", "9.0+ptx", "9.0b", "8.0;all"] {
        machine.set("TORCH_CUDA_ARCH_LIST", list);
        let entry = list.rsplit(';').next().unwrap();
        let mend = "export TORCH_CUDA_ARCH_LIST='8.0;9.0+PTX'";
        machine.wrong_and_mended("TORCH_CUDA_ARCH_LIST", &format!("'{entry}'"), "compute capabilities", mend);
    }
    for list in ["8.0;7.0", "1.0", "12.0+PTX"] {
        machine.set("TORCH_CUDA_ARCH_LIST", list);
        let (mend, known) = ("unset TORCH_CUDA_ARCH_LIST", "compute_80 compute_90 compute_100");
        machine.wrong_and_mended("TORCH_CUDA_ARCH_LIST", "which", known, mend);
    }
    machine.remove(&format!("{}/lib/libtorch_cuda.so", cached()));
    machine.note("TORCH_CUDA_ARCH_LIST", "'12.0+PTX', which", "unset TORCH_CUDA_ARCH_LIST");
}

#[test]
fn python_is_wrong_only_where_something_is_to_be_fetched() {
    let machine = Machine::new();
    machine.real_python();
    machine.remove("site/pip");
    let install = "apt install python3-pip";
    machine.note("pip", "python3 has no pip", install);
    machine.remove("bin/python3");
    machine.note("pip", "no python3 on PATH", install);
    machine.remove("project/.libtorch");
    machine.remove(&cached());
    let wrong: Vec<_> = machine.checks(&[]).into_iter().filter(|told| told["state"] == "WRONG").collect();
    assert_eq!(wrong.len(), 2, "{wrong:#?}");
    assert_told(&wrong[1], "pip", "no python3 on PATH", "scripts/libtorch", install);
}

#[test]
fn another_pytorch_in_python_is_a_hint() {
    let [newest, oldest] = ends();
    let machine = Machine::new();
    machine.real_python();
    machine.write("site/torch/__init__.py", b"raise Exception('not to be imported')");
    machine.install("site/torch", newest.libtorch);
    machine.told(&[], "pytorch", "ok", newest.libtorch, "");
    let version = if newest == oldest { "1.0.0" } else { oldest.libtorch };
    machine.install("site/torch", version);
    let mend = format!("python3 -m pip install torch=={}", newest.libtorch);
    machine.note("pytorch", &format!("{version} in python3"), &mend);
}

/// A machine without a libtorch, on which the index of packages is at this address.
fn without_libtorch(index: &str) -> Machine {
    let mut machine = Machine::new();
    machine.remove("project/.libtorch");
    machine.remove(&cached());
    machine.set("PIP_INDEX_URL", index);
    machine
}

/// An address at which nothing answers.
const CLOSED: &str = "http://127.0.0.1:1/simple";

impl Machine {
    /// That libtorch is missing, and what else is wrong.
    #[track_caller]
    fn wrong_besides_libtorch(&self, check: &str, found: &str, expected: &str, mend: &str) {
        let wrong: Vec<_> = self.checks(&[]).into_iter().filter(|told| told["state"] == "WRONG").collect();
        assert_eq!(wrong.len(), 2, "{wrong:#?}");
        assert_eq!(wrong[0]["check"], "libtorch");
        assert_told(&wrong[1], check, found, expected, mend);
    }
}

#[test]
fn what_a_download_needs_is_looked_at_where_one_is_needed() {
    // One answer a connection, whatever is asked.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/simple/", server.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.0 403 Forbidden\r\n\r\n");
        }
    });
    let machine = without_libtorch(&address);
    machine.wrong("libtorch", "none in", "libtorch", "scripts/libtorch");
    let checks = machine.checks(&[]);
    for (check, found) in [("cache", "is to be fetched into"), ("network", "answers")] {
        let told = checks.iter().find(|told| told["check"] == check).unwrap();
        assert_eq!(told["state"], "ok", "{told}");
        assert_told(told, check, found, "", "");
    }

    let mut machine = without_libtorch(CLOSED);
    let mend = "export PIP_INDEX_URL=URL_OF_A_MIRROR";
    machine.wrong_besides_libtorch("network", "does not answer", "an index that can be reached", mend);
    machine.set("http_proxy", "http://name:secret@127.0.0.1:1");
    machine.wrong_besides_libtorch("network", "by way of http_proxy", "a proxy that answers", "unset http_proxy");
    let text = stdout(&machine.doctor(&[]).output().unwrap());
    assert!(!text.contains("secret"), "{text}");
    machine.environment.remove("http_proxy");
    machine.set("PIP_INDEX_URL", &address);
    machine.wrong("libtorch", "none in", "libtorch", "scripts/libtorch");
}

#[test]
fn the_cache_must_have_room() {
    let mut machine = without_libtorch(CLOSED);
    machine.project.stub(
        "df",
        "printf 'Filesystem 1024-blocks Used Available Capacity Mounted on\\n/dev/sda1 1 1 900000 99%% /\\n'",
    );
    let larger = "export XDG_CACHE_HOME=FOLDER_ON_A_LARGER_DISK";
    machine.wrong_besides_libtorch("cache", "900 MB are free", "1100 MB", larger);
    // A file is where a folder should be.
    machine.write("file", b"");
    machine.set("XDG_CACHE_HOME", machine.path("file"));
    let target = format!("export XDG_CACHE_HOME={}", machine.text("project/target"));
    machine.wrong_besides_libtorch("cache", "file cannot be written", "a folder", &target);
    machine.environment.remove("XDG_CACHE_HOME");
    machine.project.stub("uname", "case $1 in -s) echo Plan9 ;; *) echo mips ;; esac");
    let own = format!("export LIBTORCH=FOLDER_OF_A_LIBTORCH_{}", ends()[0].libtorch);
    machine.wrong_besides_libtorch("cache", "Plan9 mips", "Linux x86_64", &own);
    machine.project.stub("uname", "case $1 in -s) echo Linux ;; *) echo x86_64 ;; esac");
    let without_home = checks_of(machine.doctor(&["--json"]).env_remove("HOME"));
    let wrong: Vec<_> = without_home.iter().filter(|told| told["state"] == "WRONG").collect();
    assert_told(wrong[1], "cache", "neither HOME nor XDG_CACHE_HOME", "a folder", &target);
}

#[test]
fn a_program_must_be_one_of_ours_for_this_machine() {
    let [newest, _] = ends();
    let machine = Machine::new();
    let path = machine.text("program");
    let program = &[&path[..]];
    let wrong = |found: &str, expected: &str| machine.wrong_with(program, "program", found, expected, "cargo build");
    wrong("no file", "a program that is built");
    machine.write("program", b"#!/bin/sh\necho a script, long enough\n");
    wrong("no program", "a program for Linux-x86_64");
    machine.binary("program", AARCH64, "");
    wrong("for Linux-aarch64", "a program for Linux-x86_64");
    let lib = format!("{}/lib", cached());
    machine.loads(&lib, "");
    let mend = "cargo clean -p tch-svgd && cargo build";
    machine.binary("program", X86_64, "");
    machine.wrong_with(program, "operators", "no operators of tch-svgd", "svgd, tso_alra, bng", mend);
    let some = format!("tch-svgd is built for libtorch {}\0cpp/svgd/library.cpp\0", newest.libtorch);
    machine.binary("program", X86_64, &some);
    machine.wrong_with(program, "operators", "only the operators of svgd", "svgd, tso_alra, bng", mend);
    machine.program("2.1.2");
    machine.wrong_with(program, "operators", "built for libtorch 2.1.2", newest.libtorch, "cargo build");
    machine.program(newest.libtorch);
    machine.told(program, "operators", "ok", "with CPU kernels", "");
    machine.told(program, "run-path", "ok", &machine.text(&lib), "");
    let bytes = std::fs::read(&path).unwrap();
    machine.write("program", &[&bytes[..], b"_ZN4svgd19virtual_grad_kernelE\0"].concat());
    machine.told(program, "operators", "ok", "with CPU and CUDA kernels", "");
    // Of an optimized build, the command is another.
    let release = machine.text("target/release/program");
    machine.wrong_with(&[&release], "program", "no file", "a program", "cargo build --release");
}

#[test]
fn the_dynamic_linker_must_find_the_libtorch_of_a_program() {
    let [newest, _] = ends();
    let mut machine = Machine::new();
    let path = machine.text("program");
    let program = &[&path[..]];
    let lib = machine.text("project/.libtorch/lib");
    machine.program(newest.libtorch);
    // Ours have a run path: the libtorch has moved.
    machine.write("readelf", b" 0x000000000000001d (RUNPATH)  Library runpath: [/gone/lib:/a b]\n");
    machine.write("ldd", b"\tlibtorch_cpu.so => not found\n\tlibc10.so => not found\n");
    let search = |folder: &str| format!("export LD_LIBRARY_PATH={folder}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}");
    // The stub of ldd tells the same of libtorch itself.
    let of_program = |machine: &Machine, found: &str, expected: &str, mend: &str| {
        let checks = machine.checks(program);
        let told = checks.iter().find(|told| told["check"] == "run-path").unwrap();
        assert_eq!(told["state"], "WRONG", "{told}");
        assert_told(told, "run-path", found, expected, mend);
    };
    of_program(&machine, "its run path is '/gone/lib:/a b'", &lib, &search(&lib));
    machine.write("readelf", b"");
    of_program(&machine, "its run path is ''", &lib, &search(&lib));
    // A crate elsewhere that has no build.rs.
    machine.write("crate/Cargo.toml", b"");
    machine.write("project/tests/downstream/build.rs", b"");
    std::fs::copy(machine.path("project/Cargo.lock"), machine.path("crate/Cargo.lock")).unwrap();
    machine.here = "crate";
    machine.set("LIBTORCH", machine.path(&cached()));
    let [ours, theirs] = [machine.text("project/tests/downstream/build.rs"), machine.text("crate/build.rs")];
    of_program(&machine, "its run path is ''", "README.md", &format!("cp {ours} {theirs} && cargo build"));
    machine.write("crate/build.rs", b"");
    of_program(&machine, "its run path is ''", "README.md", &search(&format!("{}/lib", machine.text(&cached()))));
    machine.here = "project";
    machine.environment.clear();

    // Another libtorch than the one that is chosen.
    machine.install("other", newest.libtorch);
    machine.loads("other/lib", "");
    machine.told(program, "run-path", "note", &machine.text("other/lib"), "cargo build");
    machine.install("other", "2.1.2");
    machine.wrong_with(program, "run-path", "2.1.2", newest.libtorch, "cargo build");
    // What libtorch or our kernels need.
    let right = format!("{}/lib", cached());
    machine.loads(&right, "\tlibcudart.so.13 => not found\n\tlibcuda.so.1 => not found\n");
    of_program(
        &machine,
        "does not find libcudart.so.13",
        "DEP_TCH_SVGD_CUDA_LIB",
        &search("FOLDER_OF_libcudart.so.13"),
    );
    machine.write("cuda/lib64/libcudart.so.13", b"");
    machine.set("CUDA_HOME", machine.path("cuda"));
    of_program(&machine, "does not find libcudart.so.13", "", &search(&machine.text("cuda/lib64")));
    machine.environment.clear();
    machine.write("ldd", b"\tlibc.so.6 => /lib/libc.so.6 (0x1)\n");
    machine.told(program, "run-path", "note", "is not linked to libtorch_cpu", "");
    machine.remove("bin/ldd");
    machine.told(program, "run-path", "note", "there is no ldd", "");
}

#[test]
fn a_program_must_refer_to_the_cuda_of_its_libtorch() {
    let machine = Machine::new();
    let path = machine.text("program");
    let program = &[&path[..]];
    let lib = format!("{}/lib", cached());
    machine.program(ends()[0].libtorch);
    machine.add_cuda(&cached(), "13");
    machine.loads(&lib, "");
    let mend = "RUSTFLAGS='-C link-arg=-Wl,--no-as-needed,-ltorch_cuda' cargo build";
    machine.told(program, "libtorch_cuda", "note", "does not refer to it", mend);
    machine.project.stub("nvidia-smi", "echo 580.95.05");
    machine.wrong_with(program, "libtorch_cuda", "sees no GPU", "--no-as-needed", mend);
    machine.loads(&lib, "\tlibtorch_cuda.so => /somewhere/libtorch_cuda.so (0x1)\n");
    machine.told(program, "libtorch_cuda", "ok", "refers to it", "");
}

/// The doctor itself on the machine that it is on, of the library that is built beside this test.
#[test]
#[cfg(target_os = "linux")]
fn a_library_that_is_built_here_has_its_operators_and_finds_its_libtorch() {
    let library = std::env::current_exe().unwrap().with_file_name("libtch_svgd.so");
    let mut doctor = Command::new(root().join("scripts/doctor"));
    doctor.arg("--json").arg(&library).current_dir(root()).env_remove("LD_LIBRARY_PATH");
    let checks: Vec<Value> = serde_json::from_slice(&doctor.output().unwrap().stdout).unwrap();
    for check in ["operators", "run-path", "headers", "libraries", "architecture", "abi"] {
        let told = checks.iter().find(|told| told["check"] == check);
        assert!(told.is_some_and(|told| told["state"] == "ok"), "{check}: {checks:#?}");
    }
    let operators = checks.iter().find(|told| told["check"] == "operators").unwrap();
    assert!(operators["found"].as_str().unwrap().contains(locked_pair().libtorch), "{operators}");
}
