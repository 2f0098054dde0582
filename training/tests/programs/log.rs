//! Logs for other programs to read.

use crate::common::*;
use crate::programs::*;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn train(folder: &Path, arguments: &str) -> Command {
    mlp(folder, &words(&format!("--data digits --optimizer sgd --eval-every 10 --validation 0.1 {arguments}")))
}

#[test]
fn json_lines_tell_what_the_curve_does() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut train(folder.path(), "--steps 20 --checkpoint-every 10 --log jsonl,jsonl --out out"));
    run(&mut train(folder.path(), "--steps 30 --checkpoint-every 10 --log jsonl --resume --out out"));
    let sgd = folder.path().join("out/sgd-seed0");
    let text = read(sgd.join("log.jsonl"));
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let first = ["begin", "test", "checkpoint", "test", "checkpoint", "end"];
    assert_eq!(names[..6], first, "{text}");
    assert_eq!(names[6..], ["begin", "message", "test", "checkpoint", "end"], "{text}");
    assert!(events[7]["text"].as_str().unwrap().contains("goes on from the checkpoint of step 20"));
    let tests: Vec<&Value> = events.iter().filter(|event| event["event"] == "test").collect();
    let curve = rows(&read(sgd.join("curve.csv")));
    assert_eq!((tests.len(), curve.len()), (3, 3));
    for (test, row) in tests.iter().zip(&curve) {
        let columns = ["step", "epoch", "train_loss", "test_loss", "test_error", "seconds", "validation_loss"];
        for (column, value) in columns.iter().zip(row) {
            assert_eq!(test[*column].as_f64(), Some(*value), "{column}");
        }
        assert_eq!(test["rate"], 0.1);
    }
    // A line that was cut off spoils no other.
    std::fs::write(sgd.join("log.jsonl"), &text[..text.len() - 20]).unwrap();
    run(&mut train(folder.path(), "--steps 40 --checkpoint-every 10 --log jsonl --resume --out out"));
    let cut = read(sgd.join("log.jsonl"));
    let broken = cut.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).count();
    assert_eq!((broken, cut.lines().count()), (1, text.lines().count() + 5), "{cut}");
    let times: Vec<&str> = events.iter().map(|event| event["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted() && times[0].ends_with('Z'), "{times:?}");
}

/// The tags and steps that TensorBoard shows; `training/src/log/tensorboard.rs` compares the bytes with its own.
#[test]
fn tensorboard_files_hold_a_summary_of_each_test() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut train(folder.path(), "--steps 20 --log tensorboard --out out"));
    let files = |folder: &Path| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.to_string_lossy().contains("events.out.tfevents.")).collect()
    };
    let files = files(&folder.path().join("out/sgd-seed0"));
    assert_eq!(files.len(), 1, "{files:?}");
    let bytes = std::fs::read(&files[0]).unwrap();
    // Length, checksum, message, checksum.
    let (mut messages, mut rest) = (Vec::new(), &bytes[..]);
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        messages.push(&rest[12..12 + length]);
        rest = &rest[12 + length + 4..];
    }
    // The version, the beginning, two tests.
    assert_eq!(messages.len(), 4);
    for message in &messages[2..] {
        for tag in ["loss/train", "loss/test", "loss/validation", "error/test", "error/validation", "rate"] {
            assert!(message.windows(tag.len()).any(|part| part == tag.as_bytes()), "{tag}");
        }
    }
}

#[test]
fn a_log_that_cannot_be_written_is_no_reason_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut train(folder.path(), "--steps 10 --out out"));
    let log = folder.path().join("out/sgd-seed0/log.jsonl");
    std::fs::create_dir(&log).unwrap();
    let output = run(&mut train(folder.path(), "--steps 30 --resume --log jsonl --out out"));
    assert_eq!(stderr(&output).matches("the log cannot be written, and is given up").count(), 1, "{}", stderr(&output));
    assert!(stdout(&output).contains("step 30/30"));
    // On a full device each write fails, and the first is told.
    std::fs::remove_dir(&log).unwrap();
    #[cfg(target_os = "linux")]
    {
        std::os::unix::fs::symlink("/dev/full", &log).unwrap();
        let output = run(&mut train(folder.path(), "--steps 50 --resume --log jsonl --out out"));
        assert_eq!(stderr(&output).matches("No space left").count(), 1, "{}", stderr(&output));
        assert!(stdout(&output).contains("step 50/50"));
    }
}
