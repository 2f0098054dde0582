//! Runs side by side.

use crate::common::*;
use crate::programs::*;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn train(folder: &Path, arguments: &str) -> Command {
    mlp(folder, &words(&format!("--data digits {arguments}")))
}

fn wait_until(what: &str, happened: impl Fn() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Three runs, two of them at work, with a test each.
fn long(folder: &Path) -> Child {
    let mut command = train(folder, "--optimizer sgd --seeds 0..3 --steps 1000000 --eval-every 50 --jobs 2 --out out");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let has_tests = |seed: u64| {
        let curve = std::fs::read_to_string(folder.join(format!("out/sgd-seed{seed}/curve.csv")));
        curve.is_ok_and(|text| text.lines().count() > 1)
    };
    wait_until("two runs at work", || has_tests(0) && has_tests(1));
    child
}

fn note(folder: &Path, seed: u64) -> String {
    record(&folder.join(format!("out/sgd-seed{seed}")))["progress"]["note"].as_str().unwrap_or_default().to_owned()
}

/// The processes of a program.
#[cfg(target_os = "linux")]
fn parts(parent: u32) -> Vec<u32> {
    let is_part = |pid: &u32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split(|&byte| byte == 0).any(|word| word == format!("--part={parent}").as_bytes())
    };
    let names = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).filter(is_part).collect()
}

#[test]
fn runs_side_by_side_are_those_one_after_another() {
    let folder = tempfile::tempdir().unwrap();
    let options = "--optimizer sgd,momentum,svgd --momentum 0.5 --scale 0.02 --lr sgd=0.2,momentum=0.02 --seeds 0..2 --steps 40 \
                   --eval-every 20 --threads 1";
    run(&mut train(folder.path(), &format!("{options} --out one")));
    let text = stdout(&run(&mut train(folder.path(), &format!("{options} --jobs 2 --out two"))));
    for run in ["sgd-seed0", "sgd-seed1", "momentum-seed0", "momentum-seed1", "svgd-seed0", "svgd-seed1"] {
        let [one, two] = ["one", "two"].map(|out| folder.path().join(out).join(run));
        assert_eq!(curve(&one), curve(&two));
        assert_eq!(record(&one)["id"], record(&two)["id"]);
        // The program as the user has called it.
        let names = [one, two].map(|run| record(&run)["origin"]["command"].as_str().unwrap().to_owned());
        let names = names.each_ref().map(|command| command.split(' ').next());
        assert_eq!(names[0], names[1]);
        assert!(text.contains(&format!("{run}: step 20/40")), "{text}");
    }
    // One table, one word on the data.
    assert_eq!(text.matches("# Training runs").count(), 1, "{text}");
    assert_eq!(text.matches("MLP on digits: 1437").count(), 1, "{text}");
    let text = stdout(&run(&mut train(folder.path(), &format!("{options} --jobs 2 --resume --out two"))));
    assert_eq!(text.matches("had come to its end before").count(), 6, "{text}");
}

#[test]
fn an_interrupt_reaches_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let child = long(folder.path());
    run(Command::new("kill").args(["-TERM", &child.id().to_string()]));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("not begun: sgd-seed2"), "{}", stderr(&output));
    assert!(stdout(&output).contains("# Training runs"));
    for seed in [0, 1] {
        assert!(note(folder.path(), seed).starts_with("interrupted at step"));
        assert!(folder.path().join(format!("out/sgd-seed{seed}/checkpoints")).read_dir().unwrap().count() > 0);
    }
}

/// One that somebody else has stopped is not at its end.
#[cfg(target_os = "linux")]
#[test]
fn one_that_is_interrupted_alone_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut command =
        train(folder.path(), "--optimizer sgd --seeds 0,1 --steps 1000000 --eval-every 50 --jobs 2 --out out");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let curve = |seed: u64| folder.path().join(format!("out/sgd-seed{seed}/curve.csv"));
    let has_tests = |seed| std::fs::read_to_string(curve(seed)).is_ok_and(|text| text.lines().count() > 1);
    wait_until("two runs at work", || has_tests(0) && has_tests(1));
    for part in parts(child.id()) {
        run(Command::new("kill").args(["-TERM", &part.to_string()]));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    for seed in [0, 1] {
        assert!(stderr(&output).contains(&format!("sgd-seed{seed} (interrupted)")), "{}", stderr(&output));
    }
}

/// Whatever one does to a program whose runs are just beginning.
#[cfg(target_os = "linux")]
#[test]
fn the_first_moments_of_a_run_are_safe_too() {
    let folder = tempfile::tempdir().unwrap();
    let start = |steps: u64, out: &str| {
        let arguments = format!("--optimizer sgd --seeds 0,1 --steps {steps} --eval-every 50 --jobs 2 --out {out}");
        let child = train(folder.path(), &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("a first process", || !parts(child.id()).is_empty());
        child
    };
    // A wish for a checkpoint ends none that does not listen yet: one that gets it by itself begins again.
    let mut child = start(50, "wished");
    for part in parts(child.id()) {
        let _ = Command::new("kill").args(["-USR1", &part.to_string()]).output();
    }
    while child.try_wait().unwrap().is_none() {
        let _ = Command::new("kill").args(["-USR1", &child.id().to_string()]).output();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // Killed, it leaves nobody behind.
    for attempt in 0..3 {
        let mut child = start(1_000_000, &format!("killed{attempt}"));
        std::thread::sleep(Duration::from_millis(100 * attempt));
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until("they end", || parts(child.id()).is_empty());
    }
}

/// Nobody would stop them otherwise.
#[cfg(target_os = "linux")]
#[test]
fn they_stop_with_a_checkpoint_when_the_program_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = long(folder.path());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("they stop", || [0, 1].iter().all(|&seed| note(folder.path(), seed).starts_with("interrupted")));
}

#[test]
fn one_that_fails_is_named_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let output =
        train(folder.path(), "--optimizer sgd,adam --lr sgd=1e30 --steps 20 --jobs 2 --out out").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("failed: sgd-seed0 (diverged at step"), "{}", stderr(&output));
    assert_eq!(record(&folder.path().join("out/adam-seed0"))["progress"]["steps"], 20);
    // The time of each.
    let arguments = "--optimizer sgd,adam --steps 1000000 --max-time 1s --jobs 2 --out timed";
    let output = train(folder.path(), arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("stopped by --max-time: "), "{}", stderr(&output));
}
