//! What becomes of runs that are there already, of those that fail, and of what is said meanwhile.

use crate::common::*;
use crate::programs::*;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SHORT: &str = "--data digits --batch-size 16 --optimizer sgd";

fn train(folder: &Path, arguments: &str) -> Command {
    mlp(folder, &words(&format!("{SHORT} {arguments}")))
}

/// What is said of a program that is started, once `happened`.
fn kill_when(command: &mut Command, happened: impl Fn() -> bool) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !happened() {
        assert!(child.try_wait().unwrap().is_none(), "it has ended before");
        assert!(Instant::now() < deadline, "nothing has happened for a minute");
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_run_without_checkpoints_is_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let sgd = folder.path().join("runs/mlp_mnist/sgd-seed0");
    // Killed before its first test and its first checkpoint.
    kill_when(&mut train(folder.path(), "--steps 100000"), || sgd.join("run.json").exists());
    let text = run_refused(&mut train(folder.path(), "--steps 100000"));
    assert!(text.contains("sgd-seed0 holds a run") && text.contains("--resume"), "{text}");
    let text = run_refused(&mut train(folder.path(), "--steps 30 --lr 0.5 --resume"));
    assert!(text.contains("rates was [0.1,") && text.contains("is [0.5,"), "{text}");
    // A run at a constant rate may become shorter or longer, as long as it has not come so far.
    let text = stdout(&run(&mut train(folder.path(), "--steps 30 --eval-every 10 --resume")));
    assert!(
        text.contains("sgd-seed0: had no checkpoint: it begins anew") && text.contains("sgd-seed0: 30 steps"),
        "{text}"
    );

    // One that has ended is done, whatever became of its checkpoints.
    std::fs::remove_dir_all(sgd.join("checkpoints")).unwrap();
    let before = read(sgd.join("curve.csv"));
    let text = stdout(&run(&mut train(folder.path(), "--steps 30 --resume")));
    assert!(text.contains("had come to its end before"), "{text}");
    assert_eq!(read(sgd.join("curve.csv")), before);
    // But there is nothing to go on from, and its curve is not thrown away.
    let text = run_refused(&mut train(folder.path(), "--steps 60 --resume"));
    assert!(text.contains("a curve of 3 rows, to step 30, and no checkpoint to go on from"), "{text}");
    assert_eq!(read(sgd.join("curve.csv")), before);
    // The curve alone is a run, too.
    std::fs::remove_file(sgd.join("run.json")).unwrap();
    let text = run_refused(&mut train(folder.path(), "--steps 30"));
    assert!(text.contains("holds a run"), "{text}");
}

#[test]
fn a_run_may_be_trained_for_longer_and_tested_at_other_steps() {
    let folder = tempfile::tempdir().unwrap();
    let run_of = |out: &str| folder.path().join(out).join("sgd-seed0");
    run(&mut train(folder.path(), "--steps 40 --eval-every 10 --out whole"));
    run(&mut train(folder.path(), "--steps 20 --eval-every 10 --out parts"));
    let text = stdout(&run(&mut train(folder.path(), "--steps 40 --eval-every 5 --resume --out parts")));
    assert!(text.contains("goes on from the checkpoint of step 20"), "{text}");
    let steps: Vec<f64> = curve(&run_of("parts")).iter().map(|row| row[0]).collect();
    assert_eq!(steps, [10.0, 20.0, 25.0, 30.0, 35.0, 40.0]);
    assert_eq!(curve(&run_of("parts")).last().unwrap()[3..], curve(&run_of("whole")).last().unwrap()[3..]);
    let text = run_refused(&mut train(folder.path(), "--steps 30 --resume --out parts"));
    assert!(text.contains("planned_steps was 40, is 30"), "{text}");
    // The best weights are those of the test with the least error.
    let rows = curve(&run_of("whole"));
    let least = rows.iter().map(|row| row[4]).fold(f64::INFINITY, f64::min);
    let best = rows.iter().find(|row| row[4] == least).unwrap()[0] as usize;
    let weights = std::fs::read(run_of("whole").join("best.safetensors")).unwrap();
    let last = std::fs::read(run_of("whole").join("checkpoints/step-000000040/weights.safetensors")).unwrap();
    assert_eq!(weights == last, best == 40, "the best was at step {best}");
}

/// `nohup` and shells that put programs into the background have them ignore signals.
#[test]
fn a_signal_that_came_in_ignored_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    for (ignored, signal) in [("HUP", "-HUP"), ("INT", "-INT")] {
        let program = train(folder.path(), &format!("--steps 60 --out {ignored}"));
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("trap '' {ignored}; exec \"$@\"")).arg("sh").arg(program.get_program());
        let mut child =
            shell.args(program.get_args()).current_dir(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
        let record = folder.path().join(ignored).join("sgd-seed0/run.json");
        while !record.exists() {
            assert!(child.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(1));
        }
        run(Command::new("kill").args([signal, &child.id().to_string()]));
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && stdout(&output).contains("sgd-seed0: 60 steps"), "{}", stdout(&output));
    }
}

#[test]
fn a_signal_asks_for_a_checkpoint_and_a_time_for_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = folder.path().join("out/sgd-seed0/checkpoints");
    let mut child = train(folder.path(), "--steps 100000 --out out").stdout(Stdio::null()).spawn().unwrap();
    let count = || {
        std::fs::read_dir(&checkpoints).map_or(0, |entries| {
            entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("step-")).count()
        })
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !checkpoints.exists() {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(count(), 0);
    run(Command::new("kill").args(["-USR1", &child.id().to_string()]));
    while count() == 0 {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let text = stdout(&run(&mut train(folder.path(), "--steps 100000 --max-time 1s --resume --out out")));
    assert!(
        text.contains("goes on from the checkpoint of step") && text.contains("stopped by --max-time at step"),
        "{text}"
    );
}

#[test]
fn the_report_is_on_every_run_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut train(folder.path(), "--steps 10 --out out"));
    let text = stdout(&run(&mut train(folder.path(), "--steps 10 --seeds 1,2 --out out")));
    assert!(text.lines().any(|line| line.starts_with("| sgd ") && line.contains("|     3 |")), "{text}");
    let text = stdout(&run(&mut train(folder.path(), "--steps 10 --lr sgd=0.01 --name slow --out out")));
    assert!(folder.path().join("out/slow-sgd-seed0/run.json").exists());
    assert!(text.contains("| sgd, rate 0.1 ") && text.contains("| sgd, rate 0.01 "), "{text}");
}

#[test]
fn an_old_run_goes_when_the_new_one_has_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (sgd, aside) = (out.join("sgd-seed0"), out.join(".replaced-sgd-seed0"));
    run(&mut train(folder.path(), "--steps 20 --eval-every 5 --out out"));
    let old = read(sgd.join("curve.csv"));
    // Twice it comes to no checkpoint: what is kept is the run that had some.
    for _ in 0..2 {
        let start = || train(folder.path(), "--steps 100000 --overwrite --out out");
        kill_when(&mut start(), || aside.join("run.json").exists() && sgd.join("run.json").exists());
        assert_eq!(read(aside.join("curve.csv")), old);
    }
    // Gone on with, the new one has taken its place.
    run(&mut train(folder.path(), "--steps 10 --resume --out out"));
    assert!(!aside.exists() && read(sgd.join("curve.csv")).lines().count() == 2);

    // Another experiment's run is nobody's to replace or to go on with.
    for how in ["--overwrite", "--resume"] {
        let arguments = format!("{SHORT} --steps 1 --out out {how}");
        let text = run_refused(&mut resnet(folder.path(), &words(&arguments)));
        assert!(text.contains("holds a run of mlp_mnist, not of resnet20_cifar10"), "{text}");
    }
    assert!(read(sgd.join("curve.csv")).lines().count() == 2);
}

#[test]
fn one_run_that_fails_does_not_take_the_others_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    // A file where the folder of a run is to be.
    std::fs::write(out.join("sgd-seed1"), "in the way").unwrap();
    let output = train(folder.path(), "--steps 10 --seeds 0..3 --out out").output().unwrap();
    let (text, failed) = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(1), "{failed}");
    assert!(failed.contains("out/sgd-seed1: cannot be made") && failed.contains("failed: sgd-seed1"), "{failed}");
    assert!(text.lines().any(|line| line.starts_with("| sgd ") && line.contains("|     2 |")), "{text}");
    assert_eq!(read(out.join("sgd-seed1")), "in the way");
}

#[test]
fn a_screen_that_is_gone_or_full_is_no_reason_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let start = |out: &str| {
        let mut command = train(folder.path(), &format!("--steps 20 --eval-every 2 --seeds 0..2 --out {out}"));
        command.stdout(Stdio::piped());
        command
    };
    let mut child = start("closed").spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    if let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") {
        assert!(start("full").stdout(full.try_clone().unwrap()).stderr(full).status().unwrap().success());
    }
    for (out, seed) in [("closed", 0), ("closed", 1), ("full", 0), ("full", 1)] {
        let run = folder.path().join(out).join(format!("sgd-seed{seed}"));
        if out == "closed" || run.exists() {
            assert_eq!(record(&run)["progress"]["steps"], 20);
        }
    }
}

#[test]
fn an_interrupt_says_what_was_not_begun() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = train(folder.path(), "--steps 100000 --seeds 0..3 --out out")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !folder.path().join("out/sgd-seed0/run.json").exists() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    run(Command::new("kill").args(["-INT", &child.id().to_string()]));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(stderr(&output).contains("not begun: sgd-seed1, sgd-seed2"), "{}", stderr(&output));
}

/// Without a terminal there is a line for each test, and the first line before any training.
#[test]
fn each_test_is_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(&run(&mut train(folder.path(), "--steps 20 --eval-every 10 --out out")));
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("sgd-seed0: step ")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    for part in ["step 20/20", "loss ", "test loss ", "test error ", " %", "rate 0.1", "images/s", "0 s left"] {
        assert!(lines[1].contains(part), "'{part}' is not in {}", lines[1]);
    }
    assert!(
        text.starts_with("MLP on digits: 1437 training images, 360 test images\nsgd-seed0: 20 steps of 16 images\n")
    );
}

/// The perceptron's steps are too short to be shared; that is chosen, and told, unless the user says otherwise.
#[test]
fn the_threads_are_those_that_serve_the_model() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut train(folder.path(), "--steps 2 --out one"));
    run(&mut train(folder.path(), "--steps 2 --threads 2 --out two"));
    for (out, threads) in [("one", 1), ("two", 2)] {
        let record = record(&folder.path().join(out).join("sgd-seed0"));
        assert_eq!(record["machine"]["threads"], threads, "{record}");
    }
}

/// The statistics of a test batch are those of its other images: an error of one image depends on them.
#[test]
fn batch_norm_tests_by_moving_means_or_by_the_test_batch() {
    let folder = tempfile::tempdir().unwrap();
    let outs = ["", "--batch-norm running", "--batch-norm batch"].map(|option| {
        let out = option.replace(' ', "");
        run(&mut train(folder.path(), &format!("--steps 30 --eval-every 15 {option} --out out{out}")));
        folder.path().join(format!("out{out}/sgd-seed0"))
    });
    let weights =
        outs.each_ref().map(|out| std::fs::read(out.join("checkpoints/step-000000030/weights.safetensors")).unwrap());
    assert!(weights[0] == weights[1] && weights[0] == weights[2], "a test changes no weight and no moving mean");
    assert_eq!(curve(&outs[0]), curve(&outs[1]), "moving means are the default");
    assert_ne!(curve(&outs[0]), curve(&outs[2]));
    assert_eq!(record(&outs[2])["conditions"]["batch_norm"], "batch");
    // The paper's schedule tests as the paper does.
    run(&mut train(folder.path(), "--paper --budget 0.001 --out paper"));
    assert_eq!(record(&folder.path().join("paper/sgd-seed0"))["conditions"]["batch_norm"], "batch");
    let text = run_refused(&mut mlp(folder.path(), &words("--data digits --batch-size 1 --steps 1")));
    assert!(text.contains("--batch-size 1: expected at least 2 for the MLP"), "{text}");
}
