//! Runs that are stopped, killed and damaged, and go on as if nothing had happened.

use crate::common::*;
use crate::programs::*;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const STEPS: usize = 120;

/// A run that writes a checkpoint after each of its steps, most of which take less time than that.
fn stepwise(folder: &Path, optimizer: &str, out: &str) -> Command {
    let arguments = format!(
        "--data digits --steps {STEPS} --batch-size 16 --eval-every 7 --checkpoint-every 1 --threads 1 --optimizer \
         {optimizer} --out {out}"
    );
    let mut command = training("mlp_mnist", folder, &words(&arguments));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(run.join("checkpoints")).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("step-"));
    paths.sort();
    paths
}

fn half_written(run: &Path) -> bool {
    let entries = std::fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(".writing-"))
}

/// What a run ends with, to the bit: all tensors of its last checkpoint, and its curve but for the seconds.
#[derive(Debug, PartialEq)]
struct Outcome {
    tensors: Vec<(String, Vec<u8>)>,
    curve: Vec<Vec<f64>>,
}

fn result(run: &Path) -> Outcome {
    let last = checkpoints(run).pop().expect("a checkpoint of the last step");
    assert!(last.ends_with(format!("step-{STEPS:09}")), "{}", last.display());
    let mut tensors: Vec<_> = std::fs::read_dir(&last)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    tensors.sort();
    let curve = rows(&read(run.join("curve.csv"))).into_iter().map(|row| row[..5].to_vec());
    Outcome { tensors, curve: curve.collect() }
}

fn assert_same(run: &Path, expected: &Path) {
    let (found, expected) = (result(run), result(expected));
    assert_eq!(found.curve, expected.curve);
    let names = |tensors: &[(String, Vec<u8>)]| tensors.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&found.tensors), names(&expected.tensors));
    for ((name, bytes), (_, expected)) in found.tensors.iter().zip(&expected.tensors) {
        assert!(bytes == expected, "{name} differs");
    }
}

/// Waits for something that a program does.
fn wait_until(child: &mut Child, mut happened: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !happened() {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(Instant::now() < deadline, "nothing has happened for two minutes");
        std::thread::sleep(Duration::from_micros(200));
    }
    true
}

/// `KILLS=1000 cargo test -p training --test programs a_killed_run` kills a thousand times.
#[test]
fn a_killed_run_goes_on_to_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    let wanted: usize = std::env::var("KILLS").map_or(6, |kills| kills.parse().expect("KILLS is a number"));
    // Their states: two moving means and the powers of the decays; a moving mean, and second moments of outputs.
    for optimizer in ["adam", "svgd-momentum"] {
        let run_of = |out: &str| folder.path().join(out).join(format!("{optimizer}-seed0"));
        run(&mut stepwise(folder.path(), optimizer, "whole"));
        assert_eq!(checkpoints(&run_of("whole")).len(), 2, "the last two are kept");

        let (mut kills, mut in_the_middle_of_a_write, mut runs) = (0, 0, 0);
        while runs == 0 || kills < wanted / 2 {
            let out = format!("killed{runs}");
            runs += 1;
            let killed = run_of(&out);
            for attempt in 0.. {
                let mut child = stepwise(folder.path(), optimizer, &out).arg("--resume").spawn().unwrap();
                // At a step that nobody has chosen, and in every other attempt while a checkpoint is being written.
                let time = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
                let more = 1 + time as usize % 9;
                let (mut newest, mut seen) = (checkpoints(&killed).pop(), 0);
                let alive = wait_until(&mut child, || {
                    let now = checkpoints(&killed).pop();
                    if now != newest {
                        newest = now;
                        seen += 1;
                    }
                    seen >= more && (attempt % 2 == 0 || half_written(&killed))
                });
                child.kill().unwrap(); // SIGKILL
                child.wait().unwrap();
                if !alive {
                    break;
                }
                kills += 1;
                in_the_middle_of_a_write += usize::from(half_written(&killed));
            }
            let text = stdout(&run(stepwise(folder.path(), optimizer, &out).arg("--resume")));
            assert!(text.contains("had come to its end before"), "{text}");
            assert_same(&killed, &run_of("whole"));
            assert!(!half_written(&killed), "what was half-written is cleared away");
            // A third is there if the last kill came between a checkpoint of the last step and the removal of the oldest.
            assert!((2..=3).contains(&checkpoints(&killed).len()), "the last two are kept");
            std::fs::remove_dir_all(killed).unwrap();
        }
        println!("{optimizer}: {kills} kills in {runs} runs, {in_the_middle_of_a_write} of them within a write");
        assert!(kills >= 3, "{kills} kills");
        assert!(in_the_middle_of_a_write >= 1, "of {kills} kills none left a part of a checkpoint");
    }
}

/// Each of the crate's optimizers, and what is done to gradients before.
#[test]
fn every_optimizer_goes_on_to_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    for optimizer in ["momentum-ng", "adam-ng-adap", "adamw", "adagrad-ng", "rmsprop", "adam-clip"] {
        let run_of = |out: &str| folder.path().join(out).join(format!("{optimizer}-seed0"));
        run(&mut stepwise(folder.path(), optimizer, "whole"));
        let mut child = stepwise(folder.path(), optimizer, "killed").spawn().unwrap();
        wait_until(&mut child, || checkpoints(&run_of("killed")).len() == 2);
        child.kill().unwrap();
        child.wait().unwrap();
        let text = stdout(&run(stepwise(folder.path(), optimizer, "killed").arg("--resume")));
        assert!(text.contains(&format!("{optimizer}-seed0: goes on from the checkpoint of step")), "{text}");
        assert_same(&run_of("killed"), &run_of("whole"));
    }
}

#[test]
fn an_interrupt_leaves_a_checkpoint_and_the_table() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut stepwise(folder.path(), "svgd", "whole"));
    for (signal, out) in [("-INT", "interrupted"), ("-TERM", "terminated")] {
        let svgd = folder.path().join(out).join("svgd-seed0");
        let mut child = stepwise(folder.path(), "svgd,sgd", out).spawn().unwrap();
        assert!(wait_until(&mut child, || std::fs::read_to_string(svgd.join("curve.csv"))
            .is_ok_and(|text| text.lines().count() >= 2)));
        run(Command::new("kill").args([signal, &child.id().to_string()]));
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}{}", stdout(&output), stderr(&output));
        assert!(stdout(&output).contains("interrupted at step") && stdout(&output).contains("final test error"));
        let text = read(svgd.join("curve.csv"));
        assert!(text.ends_with('\n') && text.lines().all(|line| line.split(',').count() == 6), "{text}");
        assert!(!folder.path().join(out).join("sgd-seed0").exists(), "the next optimizer is not started");
        assert!(folder.path().join(out).join("report.md").exists());

        let text = stdout(&run(stepwise(folder.path(), "svgd", out).arg("--resume")));
        assert!(text.contains("goes on from the checkpoint"), "{text}");
        assert_same(&svgd, &folder.path().join("whole/svgd-seed0"));
    }
}

/// Cuts a run off at a step, as if it had been killed there.
fn stop_after(run: &Path, folder: &Path, optimizer: &str, out: &str, steps: usize) {
    let mut child = stepwise(folder, optimizer, out).spawn().unwrap();
    let goal = run.join("checkpoints").join(format!("step-{steps:09}"));
    assert!(wait_until(&mut child, || checkpoints(run).pop().is_some_and(|newest| newest >= goal)));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_damaged_checkpoint_is_passed_over_with_a_word() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut stepwise(folder.path(), "svgd", "whole"));
    let svgd = folder.path().join("damaged/svgd-seed0");
    let truncate = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    let remove = |path: &Path| std::fs::remove_file(path).unwrap();
    type Damage<'a> = &'a dyn Fn(&Path);
    let damages: [(&str, Damage); 7] = [
        ("weights.safetensors", &truncate),
        ("weights.safetensors", &flip),
        ("optimizer.safetensors", &remove),
        ("svgd.safetensors", &flip),
        ("curve.csv", &truncate),
        ("checkpoint.json", &truncate),
        ("checkpoint.json", &flip),
    ];
    for (file, damage) in damages {
        std::fs::remove_dir_all(folder.path().join("damaged")).ok();
        stop_after(&svgd, folder.path(), "svgd", "damaged", 9);
        // The kill may have come before the third was removed.
        let [.., before, newest] = &checkpoints(&svgd)[..] else { panic!("two checkpoints") };
        damage(&newest.join(file));
        let output = run(stepwise(folder.path(), "svgd", "damaged").arg("--resume"));
        let text = stderr(&output);
        let name = newest.file_name().unwrap().to_string_lossy();
        assert!(text.contains(&*name) && text.contains("is damaged") && text.contains(file), "{text}");
        assert!(text.contains("falling back to the checkpoint before"), "{text}");
        let step: usize = before.file_name().unwrap().to_string_lossy()["step-".len()..].parse().unwrap();
        assert!(stdout(&output).contains(&format!("goes on from the checkpoint of step {step}\n")));
        assert_same(&svgd, &folder.path().join("whole/svgd-seed0"));
    }

    // A record that says that it has ended would be taken at its word.
    std::fs::remove_file(svgd.join("run.json")).unwrap();
    for path in checkpoints(&svgd) {
        flip(&path.join("weights.safetensors"));
    }
    let text = run_refused(stepwise(folder.path(), "svgd", "damaged").arg("--resume"));
    assert!(text.contains("all 2 checkpoints are damaged") && text.contains("--overwrite"), "{text}");
    assert_eq!(checkpoints(&svgd).len(), 2, "nothing is thrown away");
}

#[test]
fn a_run_is_neither_lost_nor_changed_by_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let svgd = folder.path().join("out/svgd-seed0");
    stop_after(&svgd, folder.path(), "svgd", "out", 5);
    let text = run_refused(&mut stepwise(folder.path(), "svgd", "out"));
    assert!(text.contains("holds a run") && text.contains("--resume") && text.contains("--overwrite"), "{text}");
    let text = run_refused(&mut stepwise(folder.path(), "sgd,svgd", "out"));
    assert!(text.contains("svgd-seed0 holds a run"), "{text}");
    assert!(!folder.path().join("out/sgd-seed0/run.json").exists(), "nothing is trained before all is known: {text}");
    let text = run_refused(stepwise(folder.path(), "svgd", "out").args(["--resume", "--lr", "0.25", "--scale", "0.5"]));
    assert!(text.contains("scale was 0.1, is 0.5") && text.contains("rates was [0.01,"), "{text}");
    assert!(!text.contains("panicked"), "{text}");

    // Two at once would mix their curves and remove each other's half-written checkpoints.
    let mut first = stepwise(folder.path(), "svgd", "out").arg("--resume").spawn().unwrap();
    let before = checkpoints(&svgd);
    assert!(wait_until(&mut first, || checkpoints(&svgd) != before));
    run(Command::new("kill").args(["-STOP", &first.id().to_string()]));
    let text = run_refused(stepwise(folder.path(), "svgd", "out").arg("--resume"));
    run(Command::new("kill").args(["-CONT", &first.id().to_string()]));
    assert!(text.contains("another process is training here"), "{text}");
    assert!(first.wait_with_output().unwrap().status.success());
    let (finished, written) = (result(&svgd), std::fs::metadata(svgd.join("curve.csv")).unwrap().modified().unwrap());
    // A finished one stays as it is, while others of the list are run.
    let text = stdout(&run(stepwise(folder.path(), "svgd,sgd", "out").arg("--resume")));
    assert!(text.contains("svgd-seed0: had come to its end before\n"), "{text}");
    assert!(text.contains(&format!("sgd-seed0: {STEPS} steps, test error")), "{text}");
    assert!(result(&svgd) == finished);

    run(stepwise(folder.path(), "svgd", "out").arg("--overwrite"));
    assert!(result(&svgd) == finished);
    assert!(std::fs::metadata(svgd.join("curve.csv")).unwrap().modified().unwrap() > written);
}
