//! build/versions.txt, and all that must say the same: Cargo.toml, README.md, the scripts, and the library itself.

use crate::programs::*;
use crate::versions::*;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[test]
fn every_pair_has_its_wheels_and_every_wheel_a_checksum() {
    let table = read(root().join("build/versions.txt"));
    let pairs = known_pairs();
    let (mut wheels, mut head) = (BTreeSet::new(), "");
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if !line.starts_with(' ') {
            head = line;
            continue;
        }
        let [platform, wheel, sha256] = words(line)[..] else { panic!("{line}") };
        assert!(["linux-x86_64", "linux-aarch64", "macos-arm64"].contains(&platform), "{line}");
        assert!(sha256.len() == 64 && sha256.bytes().all(|byte| b"0123456789abcdef".contains(&byte)), "{line}");
        assert!(wheel.contains("=="), "{line}");
        assert!(wheels.insert((head, platform, wheel)), "twice: {line}");
    }
    for pair in &pairs {
        let head = table.lines().find(|line| line.starts_with(&format!("tch {} ", pair.tch))).unwrap();
        for platform in ["linux-x86_64", "linux-aarch64", "macos-arm64"] {
            let torch = format!("torch=={}", pair.libtorch);
            assert!(wheels.contains(&(head, platform, &torch)), "{head}: no {torch} for {platform}");
        }
    }
    let number = |text: &str| text.split('.').map(|part| part.parse().unwrap()).collect::<Vec<u32>>();
    assert!(pairs.is_sorted_by(|a, b| number(a.tch) > number(b.tch)), "the newest is first");
    assert!(pairs.is_sorted_by(|a, b| number(a.libtorch) > number(b.libtorch)));
}

#[test]
fn cargo_takes_the_tch_of_the_table_and_no_other() {
    let pairs = known_pairs();
    let (oldest, newest) = (pairs.last().unwrap().tch, pairs[0].tch);
    let (major, minor) = newest.split_once('.').unwrap();
    let range = format!("\">={oldest}, <{major}.{}\"", minor.parse::<u32>().unwrap() + 1);
    let manifest = read(root().join("Cargo.toml"));
    for package in ["tch", "torch-sys"] {
        assert!(manifest.lines().any(|line| line == format!("{package} = {range}")), "{package} = {range}");
    }
    assert!(pairs.contains(&locked_pair()));
}

#[test]
fn the_readme_has_the_table() {
    let readme = read(root().join("README.md"));
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let header = "| tch | libtorch | C++ | PyTorch for `torch.ops.svgd` | CUDA |";
    let header = cells(header);
    let mut lines = readme.lines().skip_while(|line| cells(line) != header);
    assert!(lines.next().is_some(), "README.md has no table of versions");
    let rows: Vec<_> = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect();
    let expected = known_pairs().into_iter().map(|pair| {
        let wheel = format!("`torch=={}`", pair.libtorch);
        ["", pair.tch, pair.libtorch, pair.cpp_standard, &wheel, pair.cuda, ""].map(str::to_owned).to_vec()
    });
    assert_eq!(rows, expected.collect::<Vec<_>>());
    assert!(readme.contains(&format!("tch = \"{}.0\"", known_pairs()[0].tch)), "the newest in the example");
}

#[test]
fn the_library_is_compiled_for_the_libtorch_of_its_tch() {
    let info = tch_svgd::build_info().unwrap();
    let pair = locked_pair();
    assert_eq!((&info.libtorch_version[..], info.tch_series), (pair.libtorch, pair.tch));
    let text = info.to_string();
    assert!(text.contains(&format!("libtorch {} in ", pair.libtorch)), "{text}");
    assert!(text.contains(&format!("\ntch {}\n", pair.tch)), "{text}");
}

fn libtorch_script() -> Command {
    let mut command = Command::new(root().join("scripts/libtorch"));
    for variable in ["LIBTORCH", "LIBTORCH_USE_PYTORCH"] {
        command.env_remove(variable);
    }
    command
}

#[test]
fn the_scripts_read_the_table_as_the_build_does() {
    let version = |arguments: &[&str]| stdout(&run(libtorch_script().arg("--version").args(arguments)));
    for pair in known_pairs() {
        for tch in [pair.tch.to_owned(), format!("{}.0", pair.tch)] {
            assert_eq!(version(&[&tch]), format!("{}\n", pair.libtorch));
        }
    }
    assert_eq!(version(&[]), format!("{}\n", locked_pair().libtorch), "that of Cargo.lock");
}

#[test]
fn another_tch_is_tried_in_a_copy_that_keeps_what_it_has_built() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for folder in ["project/scripts", "project/build", "bin", "libtorch/include/torch/headeronly"] {
        std::fs::create_dir_all(path(folder)).unwrap();
    }
    for file in
        ["scripts/with-tch", "scripts/libtorch", "scripts/wheels.sh", "scripts/versions.sh", "build/versions.txt"]
    {
        std::fs::copy(root().join(file), path("project").join(file)).unwrap();
    }
    std::fs::write(path("project/.gitignore"), "target\n").unwrap();
    std::fs::write(path("project/Cargo.lock"), "name = \"tch\"\nversion = \"0.1.0\"\n").unwrap();
    std::fs::write(path("project/first line"), "").unwrap();
    run(Command::new("git").arg("init").arg("--quiet").arg(path("project")));
    // A cargo that does what it is asked for without a registry, if it is asked for that.
    let cargo = "#!/bin/sh\n[ \"$3 $4 $5\" = '--offline tch --precise' ] && \
                 printf 'name = \"tch\"\\nversion = \"%s\"\\n' \"$6\" >Cargo.lock\n";
    std::fs::write(path("bin/cargo"), cargo).unwrap();
    run(Command::new("chmod").arg("755").arg(path("bin/cargo")));
    let pair = *known_pairs().last().unwrap();
    let numbers: Vec<_> = pair.libtorch.split('.').collect();
    let header = ["MAJOR", "MINOR", "PATCH"].iter().zip(numbers);
    let header: String = header.map(|(name, number)| format!("#define TORCH_VERSION_{name} {number}\n")).collect();
    std::fs::write(path("libtorch/include/torch/headeronly/version.h"), header).unwrap();
    let in_copy = |tch: &str, command: &str| {
        let mut script = Command::new(path("project/scripts/with-tch"));
        let paths = format!("{}:{}", path("bin").display(), std::env::var("PATH").unwrap());
        script.args([tch, "sh", "-c", command]).env("PATH", paths).env("CARGO_TARGET_DIR", path("target"));
        script.env_remove("LIBTORCH_USE_PYTORCH").env("LIBTORCH", path("libtorch"));
        script
    };

    let text =
        stdout(&run(&mut in_copy(pair.tch, "pwd; ls; cat Cargo.lock; echo ${CARGO_TARGET_DIR-unset}; touch built")));
    let copy = path("target").join(format!("tch-{}", pair.tch));
    for part in [copy.to_str().unwrap(), "first line", &format!("version = \"{}.0\"", pair.tch), "\nunset\n"] {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
    // A copy follows the checkout, whose lock is as it was, and what a command has written stays.
    assert!(read(path("project/Cargo.lock")).contains("0.1.0"));
    std::fs::rename(path("project/first line"), path("project/second line")).unwrap();
    // What differs has the time of now: cargo may have looked after the last change.
    std::fs::write(path("project/changed"), "one").unwrap();
    run(&mut in_copy("oldest", "true"));
    std::fs::write(path("project/changed"), "two").unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    std::fs::File::options().write(true).open(path("project/changed")).unwrap().set_modified(old).unwrap();
    run(&mut in_copy("oldest", "true"));
    assert_eq!(read(copy.join("changed")), "two");
    let age = copy.join("changed").metadata().unwrap().modified().unwrap().elapsed();
    assert!(age.unwrap_or_default().as_secs() < 1000);
    // A path of another sort.
    std::fs::remove_file(path("project/changed")).unwrap();
    std::fs::create_dir(path("project/changed")).unwrap();
    std::fs::write(path("project/changed/inside"), "").unwrap();
    run(&mut in_copy("oldest", "test -f changed/inside"));
    let text = stdout(&run(&mut in_copy("oldest", "ls")));
    assert!(text.contains("second line") && text.contains("built") && !text.contains("first line"), "{text}");
    let output = in_copy("oldest", "echo answer; exit 7").output().unwrap();
    assert_eq!((output.status.code(), stdout(&output)), (Some(7), "answer\n".to_owned()));
    // Within the checkout, and not ignored: it would copy itself.
    let inside = run_refused(in_copy("oldest", "true").env("CARGO_TARGET_DIR", path("project/out")));
    assert!(inside.contains("choose another CARGO_TARGET_DIR"), "{inside}");
}

#[test]
fn a_tch_that_is_not_known_is_named_with_those_that_are() {
    for unknown in ["0.99", "0.26 libtorch", "0.26.", "0.26.banana", "26"] {
        let mut with_tch = Command::new(root().join("scripts/with-tch"));
        for script in [libtorch_script().arg(unknown), with_tch.args([unknown, "true"])] {
            let text = run_refused(script);
            assert!(text.contains(&format!("tch {unknown} ")) && text.lines().count() == 1, "{text}");
            for pair in known_pairs() {
                assert!(text.contains(&format!("tch {} with libtorch {}", pair.tch, pair.libtorch)), "{text}");
            }
        }
    }
}

#[test]
fn a_wrong_libtorch_is_named_with_its_folder_and_the_known_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let include = folder.path().join("include");
    let missing = libtorch::header_version(&include).unwrap_err();
    let header = include.join("torch/headeronly/version.h");
    std::fs::create_dir_all(header.parent().unwrap()).unwrap();
    let found = |version: [u32; 3]| {
        let [major, minor, patch] = version;
        let lines = format!(
            "#define TORCH_VERSION_MAJOR {major}\n#define TORCH_VERSION_MINOR {minor}\n\
             #define TORCH_VERSION_PATCH {patch}\n"
        );
        std::fs::write(&header, lines).unwrap();
        let version = libtorch::header_version(&include).unwrap();
        libtorch::pair_of(&version, &include)
    };
    let wrong = found([2, 7, 1]).unwrap_err();
    for text in [&missing, &wrong] {
        assert!(text.contains(include.to_str().unwrap()) && text.contains("scripts/libtorch"), "{text}");
        for pair in known_pairs() {
            assert!(text.contains(&format!("tch {} with libtorch {}", pair.tch, pair.libtorch)), "{text}");
        }
    }
    for part in ["libtorch 2.7.1", "torch-sys", "LIBTORCH_BYPASS_VERSION_CHECK"] {
        assert!(wrong.contains(part), "'{part}' is not in: {wrong}");
    }
    let newest = known_pairs()[0];
    let numbers: Vec<u32> = newest.libtorch.split('.').map(|part| part.parse().unwrap()).collect();
    assert_eq!(found([numbers[0], numbers[1], numbers[2]]), Ok(newest));
}

/// A Python whose torch is of this version, with CUDA 13.0, and does nothing but tell what it is to load.
fn python_with_torch(folder: &Path, version: &str) -> Command {
    let torch = folder.join("torch");
    std::fs::create_dir_all(&torch).unwrap();
    std::fs::write(torch.join("version.py"), format!("__version__ = '{version}'\ncuda: str = '13.0'\n")).unwrap();
    let text =
        "from .version import __version__\nclass ops:\n  def load_library(path): raise SystemExit('loads ' + path)\n";
    std::fs::write(torch.join("__init__.py"), text).unwrap();
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", folder).env("PYTHONDONTWRITEBYTECODE", "1");
    python
}

#[test]
fn python_is_told_which_pytorch_the_library_is_for() {
    let folder = tempfile::tempdir().unwrap();
    let library = std::env::current_exe().unwrap().with_file_name("libtch_svgd.so");
    let wanted = locked_pair().libtorch;
    let load = |version: &str, library: &Path| {
        run_refused(python_with_torch(folder.path(), version).arg(root().join("examples/torch_ops.py")).arg(library))
    };
    let text = load("9.9.9+cpu", &library);
    assert_eq!(text.lines().count(), 1, "{text}");
    for part in [library.to_str().unwrap(), &format!("built for PyTorch {wanted}"), "9.9.9", "pip install torch=="] {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
    assert_eq!(load(&format!("{wanted}+cu130"), &library).trim(), format!("loads {}", library.display()));
    let other = root().join("README.md");
    assert!(load(wanted, &other).contains("is no library of tch-svgd"));
}

#[test]
fn gpu_suite_runs_with_the_pytorch_that_it_is_packed_for() {
    let folder = tempfile::tempdir().unwrap();
    let suite = |version: &str, manifest: &str| {
        std::fs::write(folder.path().join("manifest.json"), manifest).unwrap();
        let mut python = python_with_torch(folder.path(), version);
        python.arg(root().join("scripts/gpu-suite")).arg("run").arg(folder.path()).arg(folder.path().join("out"));
        run_refused(python.arg("--cpu"))
    };
    let manifest = |cuda: &str| {
        let programs = serde_json::json!({"test": [], "bench": [], "bin": [], "library": []});
        let fields = serde_json::json!({
            "commit": null, "built": "today", "torch": "2.11.0", "cuda": cuda, "programs": programs
        });
        fields.to_string()
    };
    let says = |text: String, parts: &[&str]| {
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    };
    says(suite("9.9.9", &manifest("13")), &["built for torch 2.11.0", "torch 9.9.9", "scripts/with-tch"]);
    says(suite("2.11.0", &manifest("12")), &["with CUDA 12", "with CUDA 13.0", "install a torch 2.11.0 with CUDA 12"]);
    for damaged in ["", "[]", "{}", r#"{"commit": null, "built": "today", "programs": {}}"#] {
        says(suite("2.11.0", damaged), &["manifest.json", "pack again"]);
    }
    // The right one: no step is packed, which is a failure that it tells in its report.
    suite("2.11.0", &manifest("13"));
    assert!(read(folder.path().join("out/gpu-suite.json")).contains("\"torch\": \"2.11.0\""));
}

#[test]
fn gpu_suite_leaves_out_the_tests_that_look_at_the_source() {
    let suite = read(root().join("scripts/gpu-suite"));
    let list = suite.split("TESTS_OF_THE_SOURCE = {").nth(1).unwrap().split('}').next().unwrap();
    let mut programs = 0;
    let folders = ["tests", "training/tests"].map(|folder| std::fs::read_dir(root().join(folder)).unwrap());
    for entry in folders.into_iter().flatten() {
        let path = entry.unwrap().path();
        // A program is a file or a folder with a main.rs, which names the modules that it shares.
        let main = if path.is_dir() { path.join("main.rs") } else { path.clone() };
        if main.is_file() {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let looks = read(&main).contains("common/programs.rs");
            assert_eq!(looks, list.contains(&format!("\"{name}\":")), "{name}");
            programs += 1;
        }
    }
    assert!(programs > 5 && !list.contains("\"downstream\""), "{programs} programs");
}

#[test]
fn a_tch_with_the_libtorch_of_another_is_told_when_it_is_compiled() {
    let pairs = known_pairs();
    let include = Path::new("/opt/\"lib torch\"/include");
    for found in &pairs {
        let code = libtorch::series_code(Some((found.libtorch, include)));
        let (series, mismatch) = code.trim().split_once('\n').unwrap();
        let mut newer = String::new();
        for pair in &pairs[..pairs.len() - 1] {
            newer += &format!("if binds!({}) {{ {:?} }} else ", pair.new_function, pair.tch);
        }
        assert_eq!(
            series,
            format!("pub(crate) const TCH_SERIES: &str = {newer}{{ {:?} }};", pairs.last().unwrap().tch)
        );
        assert_eq!(mismatch.matches("None").count(), 1, "the right tch alone: {mismatch}");
        for pair in pairs.iter().filter(|pair| pair != &found) {
            let text = format!(
                "tch {} binds libtorch {}, and {} holds libtorch {}. Known: tch ",
                pair.tch,
                pair.libtorch,
                include.display(),
                found.libtorch
            );
            let text = format!("{text:?}");
            assert!(mismatch.contains(text.trim_end_matches('"')), "{text} is not in: {mismatch}");
        }
    }
    assert_eq!(libtorch::series_code(None).matches("None").count(), pairs.len(), "nothing is asked of no libtorch");
}

#[test]
fn a_libtorch_that_is_tried_all_the_same_is_taken_for_the_one_before_it() {
    let pairs = known_pairs();
    let (newest, oldest) = (pairs[0], *pairs.last().unwrap());
    assert_eq!(libtorch::nearest_pair("99.0.0"), newest);
    assert_eq!(libtorch::nearest_pair("1.13.1"), oldest);
    for pair in pairs {
        let (minor, _) = pair.libtorch.rsplit_once('.').unwrap();
        assert_eq!(libtorch::nearest_pair(&format!("{minor}.9")), pair);
    }
}
