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
    assert!(text.contains("was trained to step 30, and has no checkpoint to go on from"), "{text}");
    assert_eq!(read(sgd.join("curve.csv")), before);
    // The curve alone is a run, too.
    std::fs::remove_file(sgd.join("run.json")).unwrap();
    let text = run_refused(&mut train(folder.path(), "--steps 30"));
    assert!(text.contains("holds a run"), "{text}");
    // Nothing says under which conditions, and nothing is there to go on from.
    let text = run_refused(&mut train(folder.path(), "--steps 30 --lr 0.5 --resume"));
    assert!(text.contains("has tests of a run, and neither its run.json nor a checkpoint"), "{text}");
    assert_eq!(read(sgd.join("curve.csv")), before);
    // Nor is the way there that of a record that cannot be read.
    std::fs::write(sgd.join("run.json"), "").unwrap();
    let text = run_refused(&mut train(folder.path(), "--steps 30 --resume"));
    assert!(text.contains("and there is no checkpoint; begin anew with --overwrite"), "{text}");
    // Before its first record a run has a curve without rows, and is no loss.
    for file in ["run.json", "best.safetensors"] {
        std::fs::remove_file(sgd.join(file)).unwrap();
    }
    std::fs::write(sgd.join("curve.csv"), "step,epoch,train_loss,test_loss,test_error,seconds\n").unwrap();
    run(&mut train(folder.path(), "--steps 30 --resume"));
}

#[test]
fn a_run_that_was_stopped_at_what_is_now_its_last_step_is_tested() {
    let folder = tempfile::tempdir().unwrap();
    let sgd = folder.path().join("out/sgd-seed0");
    let output = train(folder.path(), "--steps 100000 --max-time 1ms --out out").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let steps = record(&sgd)["progress"]["steps"].as_u64().unwrap();
    run(&mut train(folder.path(), &format!("--steps {steps} --out out --resume")));
    run(&mut train(folder.path(), &format!("--steps {steps} --out whole")));
    let whole = folder.path().join("whole/sgd-seed0");
    assert_eq!(curve(&sgd), curve(&whole));
    let best = |run: &Path| std::fs::read(run.join("best.safetensors")).unwrap();
    assert!(best(&sgd) == best(&whole));
    let checkpoint = sgd.join(format!("checkpoints/step-{steps:09}"));
    assert!(best(&sgd) == best(&checkpoint), "its checkpoint has them, too");
    let text = stdout(&run(&mut train(folder.path(), &format!("--steps {steps} --out out --resume"))));
    assert!(text.contains("had come to its end before"), "{text}");
}

#[test]
fn the_best_weights_of_a_run_that_has_ended_come_back() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut train(folder.path(), "--steps 30 --eval-every 10 --out out"));
    let best = folder.path().join("out/sgd-seed0/best.safetensors");
    let before = std::fs::read(&best).unwrap();
    std::fs::remove_file(&best).unwrap();
    run(&mut train(folder.path(), "--steps 30 --eval-every 10 --out out --resume"));
    assert!(std::fs::read(&best).unwrap() == before);
}

#[test]
fn files_of_another_run_are_not_taken_for_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let train = |seeds| train(folder.path(), &format!("--steps 20 --eval-every 5 --seeds {seeds} --out out --resume"));
    run(&mut train("0,1"));
    let [own, other] = [0, 1].map(|seed| folder.path().join(format!("out/sgd-seed{seed}")));
    let bytes = || ["curve.csv", "best.safetensors"].map(|file| std::fs::read(own.join(file)).unwrap());
    let evaluate = || training("evaluate", folder.path(), &["out/sgd-seed0"]).output().unwrap();
    let before = bytes();
    assert!(evaluate().status.success());
    for file in ["curve.csv", "best.safetensors"] {
        std::fs::copy(other.join(file), own.join(file)).unwrap();
    }

    let output = evaluate();
    let refused = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{refused}");
    assert!(refused.contains("best.safetensors: expected the weights that run.json tells of"), "{refused}");
    let left_out = stderr(&run(&mut train("1")));
    assert!(left_out.contains("curve.csv: expected the 4 tests that run.json tells of, got others"), "{left_out}");

    // The last checkpoint has its own.
    run(&mut train("0"));
    assert!(bytes() == before);

    // The checkpoints of another run, or without the last: what answers is not what was asked for.
    let evaluate_last = || {
        let output = training("evaluate", folder.path(), &["out/sgd-seed0", "--weights", "last"]).output().unwrap();
        (output.status.code(), stdout(&output) + &stderr(&output))
    };
    let (status, text) = evaluate_last();
    assert!(status == Some(0) && text.contains("weights of the last checkpoint, at step 20 of 20"), "{text}");
    let kept = folder.path().join("kept");
    std::fs::rename(own.join("checkpoints"), &kept).unwrap();
    std::fs::rename(other.join("checkpoints"), own.join("checkpoints")).unwrap();
    let (status, text) = evaluate_last();
    assert!(status == Some(1) && text.contains("expected a checkpoint of the run that run.json tells of"), "{text}");
    // Nor is its curve taken for that of the run.
    let curve_before = read(own.join("curve.csv"));
    std::fs::remove_file(own.join("curve.csv")).unwrap();
    let text = run_refused(&mut train("0"));
    assert!(text.contains("no checkpoint of its last step has another"), "{text}");
    std::fs::write(own.join("curve.csv"), curve_before).unwrap();
    std::fs::rename(own.join("checkpoints"), other.join("checkpoints")).unwrap();
    std::fs::rename(&kept, own.join("checkpoints")).unwrap();
    std::fs::rename(own.join("checkpoints/step-000000020"), folder.path().join("last")).unwrap();
    std::fs::create_dir_all(own.join("checkpoints/step-000000010")).unwrap();
    let (status, text) = evaluate_last();
    assert!(status == Some(1) && !text.contains("test error"), "{text}");

    // A record that was changed by hand is none.
    let path = own.join("run.json");
    let before = read(&path);
    std::fs::write(&path, before.replace("\"batch_size\": 16", "\"batch_size\": 17")).unwrap();
    let text = run_refused(&mut training("evaluate", folder.path(), &["out/sgd-seed0"]));
    assert!(text.contains("it was changed since it was written"), "{text}");
    std::fs::write(&path, before).unwrap();

    // A run that was killed between its best test and the record of it has the weights of that test, and digests of before.
    let text = read(own.join("curve.csv"));
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let errors: Vec<_> = curve(&own).iter().map(|row| row[4]).collect();
    let best = (0..errors.len()).min_by(|left, right| errors[*left].total_cmp(&errors[*right])).unwrap();
    std::fs::write(own.join("curve.csv"), lines[..best + 2].concat()).unwrap();
    let hexadecimal = |bytes: &[u8]| -> String {
        <md5::Md5 as md5::Digest>::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let weights = hexadecimal(&std::fs::read(own.join("best.safetensors")).unwrap());
    // Weights of before are not those of a better test that they were killed at.
    for (known, weights, step) in
        [(best, "of before", Some(best)), (best + 1, "of before", None), (1, weights.as_str(), Some(0))]
    {
        let mut record = record(&own);
        let curve = hexadecimal(lines[..known + 1].concat().as_bytes());
        record["progress"]["digests"] = serde_json::json!({ "tests": known, "curve": curve, "best": weights });
        record["progress"]["steps"] = 19.into();
        std::fs::write(own.join("run.json"), record.to_string()).unwrap();
        let output = evaluate();
        assert_eq!(output.status.success(), step.is_some(), "{}", stderr(&output));
        if let Some(row) = step {
            let step = 5 * (row + 1);
            assert!(stdout(&output).contains(&format!("best test, at step {step} of 20")), "{}", stdout(&output));
        }
    }
}

#[test]
fn no_run_is_trained_within_another() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut train(folder.path(), "--steps 10 --out out"));
    let before = read(folder.path().join("out/sgd-seed0/curve.csv"));
    for out in ["out/sgd-seed0", "out/sgd-seed0/more/of/it", "out/sgd-seed0/"] {
        let output = train(folder.path(), &format!("--steps 20 --resume --out {out}")).output().unwrap();
        let text = stderr(&output);
        assert!(text.contains("expected a folder for runs, got a run") && text.contains("out/sgd-seed0"), "{text}");
        assert_eq!(output.status.code(), Some(2));
    }
    assert!(!folder.path().join("out/sgd-seed0/more").exists());
    assert_eq!(read(folder.path().join("out/sgd-seed0/curve.csv")), before);
}

/// `ulimit -f`: its signal would end the program without a word.
#[test]
fn a_file_that_may_not_grow_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let program = train(folder.path(), "--steps 30 --seeds 0,1 --out out");
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -f 100; exec \"$@\"", "sh"]).arg(program.get_program()).args(program.get_args());
    let output = shell.current_dir(folder.path()).output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("File too large") && text.contains("failed: sgd-seed0, sgd-seed1"), "{text}");
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
        shell.arg("-c").arg(format!("trap '' {ignored}; exec \"$@\"")).arg("sh");
        // Without the option by which its signals are not ignored.
        let words = program.get_args().skip_while(|word| word.to_string_lossy().starts_with("--"));
        let mut child = shell.args(words).current_dir(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
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
    let output = train(folder.path(), "--steps 100000 --max-time 1s --resume --out out").output().unwrap();
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(3), "neither at its end nor failed: {text}");
    assert!(stderr(&output).contains("stopped by --max-time: sgd-seed0; --resume goes on"), "{}", stderr(&output));
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
    assert!(folder.path().join("out/slow_sgd-seed0/run.json").exists());
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

/// Its test is in the curve, and so are its weights those of the best test until the run goes on.
#[test]
fn the_best_weights_of_a_run_that_is_stopped_are_those_of_its_best_test() {
    let folder = tempfile::tempdir().unwrap();
    let train = |more: &str| train(folder.path(), &format!("--steps 40 --eval-every 20 {more}"));
    run(&mut train("--out whole"));
    assert_eq!(train("--max-time 1ms --out out").output().unwrap().status.code(), Some(3));
    let [stopped, whole] = ["out/sgd-seed0", "whole/sgd-seed0"].map(|run| folder.path().join(run));
    let rows = curve(&stopped);
    assert!(rows.len() == 1 && rows[0][0] < 20.0, "{rows:?}");
    let text = stdout(&run(&mut training("evaluate", folder.path(), &["out/sgd-seed0"])));
    assert!(
        text.contains(&format!("weights of the best test, at step {} of 40; the run: stopped by", rows[0][0])),
        "{text}"
    );
    assert!(text.contains(&format!("test error {:.2} %", rows[0][4])), "{text}");
    run(&mut train("--resume --out out"));
    assert_eq!(curve(&stopped), curve(&whole));
    let best = |run: &Path| std::fs::read(run.join("best.safetensors")).unwrap();
    assert!(best(&stopped) == best(&whole));
}

/// Then nothing is left to be stopped after a step.
#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_of_the_report_ends_the_program() {
    use std::os::unix::fs::OpenOptionsExt;
    const O_NONBLOCK: i32 = 0o4000;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    run(&mut train(folder.path(), "--steps 10 --out out"));
    // A curve that does not come to its end: the report waits.
    std::fs::create_dir(out.join("other")).unwrap();
    std::fs::copy(out.join("sgd-seed0/run.json"), out.join("other/run.json")).unwrap();
    let pipe = out.join("other/curve.csv");
    run(Command::new("mkfifo").arg(&pipe));
    let mut child = train(folder.path(), "--steps 10 --seeds 1 --out out").stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    // It can be opened once there is a reader.
    let _writer = loop {
        match std::fs::OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(&pipe) {
            Ok(writer) => break writer,
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => panic!("nobody reports: {error}"),
        }
    };
    run(Command::new("kill").args(["-TERM", &child.id().to_string()]));
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it goes on");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(!stderr(&output).contains("stopping after this step"), "{}", stderr(&output));
    assert_eq!(record(&out.join("sgd-seed1"))["progress"]["steps"], 10);
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

/// A penalty of one's own is a condition, and is told.
#[test]
fn weight_decay_is_that_of_the_user() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut train(folder.path(), "--steps 20 --out out"));
    let text = stdout(&run(&mut train(folder.path(), "--steps 20 --weight-decay 0.01 --name decayed --out out")));
    assert!(text.contains("| sgd, weight decay 1e-2 "), "{text}");
    let (plain, decayed) = (folder.path().join("out/sgd-seed0"), folder.path().join("out/decayed_sgd-seed0"));
    assert_ne!(curve(&plain), curve(&decayed));
    let text =
        run_refused(&mut train(folder.path(), "--steps 30 --weight-decay 0.02 --name decayed --resume --out out"));
    assert!(text.contains("weight_decay was 0.01, is 0.02"), "{text}");
}

/// A copy of a run under another seed's name is no second sample.
#[test]
fn a_run_of_another_seed_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut train(folder.path(), "--steps 20 --out out"));
    std::fs::rename(folder.path().join("out/sgd-seed0"), folder.path().join("out/sgd-seed1")).unwrap();
    let text = run_refused(&mut train(folder.path(), "--steps 20 --seeds 1 --resume --out out"));
    assert!(text.contains("seed was 0, is 1"), "{text}");
}

/// The terminal and the shell both tell that it is closed, within a millisecond.
#[test]
fn a_closed_terminal_leaves_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let sgd = folder.path().join("out/sgd-seed0");
    let mut child = train(folder.path(), "--steps 100000 --out out").stdout(Stdio::null()).spawn().unwrap();
    while !sgd.join("curve.csv").exists() || !sgd.join("run.json").exists() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    let id = child.id().to_string();
    run(Command::new("sh").arg("-c").arg(format!("kill -HUP {id}; kill -HUP {id}; kill -HUP {id}")));
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(std::fs::read_dir(sgd.join("checkpoints")).unwrap().count() > 0);
    assert!(record(&sgd)["progress"]["note"].as_str().unwrap().starts_with("interrupted at step"));
}

#[test]
fn an_overwrite_by_mistake_can_be_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let sgd = out.join("sgd-seed0");
    run(&mut train(folder.path(), "--steps 20 --eval-every 5 --out out"));
    let first = read(sgd.join("curve.csv"));
    let mut child = train(folder.path(), "--steps 100000 --overwrite --out out")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !out.join(".replaced-sgd-seed0").exists() || !sgd.join("run.json").exists() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    run(Command::new("kill").args(["-TERM", &child.id().to_string()]));
    let text = stdout(&child.wait_with_output().unwrap());
    assert!(text.contains("the run whose place this one takes is out/.replaced-sgd-seed0"), "{text}");
    assert_eq!(read(out.join(".replaced-sgd-seed0/curve.csv")), first, "it was stopped before its time");

    // A finished run whose checkpoints were pruned has come to something, too: none of the three is lost.
    train(folder.path(), "--steps 100000 --max-time 1ms --resume --out out").output().unwrap();
    std::fs::remove_dir_all(sgd.join("checkpoints")).unwrap();
    let second = read(sgd.join("curve.csv"));
    kill_when(&mut train(folder.path(), "--steps 100000 --overwrite --out out"), || {
        out.join(".replaced-sgd-seed0-2").exists() && sgd.join("run.json").exists()
    });
    assert_eq!(read(out.join(".replaced-sgd-seed0/curve.csv")), first);
    assert_eq!(read(out.join(".replaced-sgd-seed0-2/curve.csv")), second);
    let text = stdout(&run(&mut train(folder.path(), "--steps 10 --resume --out out")));
    assert!(text.contains("sgd-seed0: has taken the place of the run before"), "{text}");
    assert!(
        std::fs::read_dir(&out)
            .unwrap()
            .flatten()
            .all(|entry| !entry.file_name().to_string_lossy().contains("replaced"))
    );
}

#[test]
fn a_curve_that_is_damaged_is_no_reason_to_begin_anew() {
    let folder = tempfile::tempdir().unwrap();
    let sgd = folder.path().join("out/sgd-seed0");
    let again = || train(folder.path(), "--steps 20 --eval-every 5 --resume --out out");
    run(&mut train(folder.path(), "--steps 20 --eval-every 5 --out out"));
    let whole = read(sgd.join("curve.csv"));
    // Of a run that has ended it is that of the last checkpoint: rows that are missing would be a wrong table.
    for damaged in [&whole[..whole.len() - 30], whole.split_inclusive('\n').take(3).collect::<String>().as_str(), ""] {
        std::fs::write(sgd.join("curve.csv"), damaged).unwrap();
        let output = run(&mut again());
        assert!(stderr(&output).contains("it is that of checkpoint"), "{}", stderr(&output));
        assert_eq!(read(sgd.join("curve.csv")), whole);
    }
    std::fs::remove_file(sgd.join("curve.csv")).unwrap();
    run(&mut again());
    assert_eq!(read(sgd.join("curve.csv")), whole);
    // And where there is no checkpoint, what is left is not thrown away.
    std::fs::remove_dir_all(sgd.join("checkpoints")).unwrap();
    std::fs::write(sgd.join("curve.csv"), &whole[..whole.len() - 30]).unwrap();
    let text = run_refused(&mut again());
    assert!(text.contains("no checkpoint of its last step has another"), "{text}");
    let text = run_refused(&mut train(folder.path(), "--steps 40 --eval-every 5 --resume --out out"));
    assert!(text.contains("was trained to step 20, and has no checkpoint"), "{text}");
    assert_eq!(read(sgd.join("curve.csv")).len(), whole.len() - 30);
}

/// An editor that saves it puts another file in its place.
#[test]
fn a_curve_that_is_removed_meanwhile_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("out/sgd-seed0/curve.csv");
    let mut child = train(folder.path(), "--steps 200 --eval-every 5 --out out").stdout(Stdio::null()).spawn().unwrap();
    while std::fs::read_to_string(&csv).map_or(0, |text| text.lines().count()) < 3 {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_micros(200));
    }
    std::fs::remove_file(&csv).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(curve(csv.parent().unwrap()).len(), 40);
}

#[test]
fn a_folder_that_is_moved_away_is_not_written_into_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let (out, moved) = (folder.path().join("out"), folder.path().join("moved"));
    let mut first = train(folder.path(), "--steps 20000 --eval-every 400 --lr 0.05 --out out")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !out.join("sgd-seed0/run.json").exists() {
        assert!(first.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    std::fs::rename(&out, &moved).unwrap();
    run(&mut train(folder.path(), "--steps 10 --out out"));
    let before = (curve(&out.join("sgd-seed0")), record(&out.join("sgd-seed0")));
    let output = first.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("has been moved, removed or replaced"), "{}", stderr(&output));
    assert_eq!((curve(&out.join("sgd-seed0")), record(&out.join("sgd-seed0"))), before);
}

/// What a killed run had not written into run.json is in its last checkpoint.
#[test]
fn what_a_checkpoint_knows_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let svgd = folder.path().join("out/svgd-seed0");
    let train = |more: &str| {
        let arguments =
            format!("--data digits --batch-size 16 --optimizer svgd --checkpoint-every 10 --out out {more}");
        run(&mut mlp(folder.path(), &words(&arguments)))
    };
    train("--steps 20 --eval-every 10");
    let whole = record(&svgd);
    std::fs::remove_file(svgd.join("run.json")).unwrap();
    train("--steps 20 --eval-every 10 --resume");
    for name in ["state_bytes", "steps", "eval_every"] {
        assert_eq!(record(&svgd)["progress"][name], whole["progress"][name], "{name}");
    }
    assert!(record(&svgd)["progress"]["state_bytes"].as_u64().unwrap() > 0);
    // Tested at other steps it is compared with none.
    train("--steps 30 --eval-every 3 --resume");
    assert_eq!(record(&svgd)["progress"]["eval_every"], 0);
    // The best weights are of a test that the curve has: those of a lost one go.
    let best = std::fs::read(svgd.join("checkpoints/step-000000020/best.safetensors")).unwrap();
    std::fs::remove_dir_all(svgd.join("checkpoints/step-000000030")).unwrap();
    std::fs::remove_file(svgd.join("run.json")).unwrap();
    std::fs::write(svgd.join("best.safetensors"), "of a test that is lost").unwrap();
    // No step is left, and no test that might be better.
    train("--steps 20 --eval-every 3 --resume");
    assert!(std::fs::read(svgd.join("best.safetensors")).unwrap() == best);
    // The best weights alone are a run, too.
    for left in ["checkpoints", "run.json", "curve.csv"] {
        let path = svgd.join(left);
        if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    }
    let arguments = words("--data digits --steps 1 --optimizer svgd --out out");
    assert!(run_refused(&mut mlp(folder.path(), &arguments)).contains("holds a run"));
}

/// Words on a standard error that nobody can read.
#[test]
fn a_full_standard_error_is_no_reason_to_stop() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else { return };
    let folder = tempfile::tempdir().unwrap();
    run(&mut train(folder.path(), "--steps 20 --checkpoint-every 10 --out out"));
    let sgd = folder.path().join("out/sgd-seed0");
    std::fs::write(sgd.join("checkpoints/step-000000020/weights.safetensors"), "damaged").unwrap();
    let output = train(folder.path(), "--steps 30 --seeds 0,1 --resume --out out").stderr(full).output().unwrap();
    assert!(output.status.success() && stdout(&output).contains("checkpoint of step 10"), "{}", stdout(&output));
    assert_eq!(record(&folder.path().join("out/sgd-seed1"))["progress"]["steps"], 30);
}
