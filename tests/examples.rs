//! The example programs, run as a user runs them.

#[path = "common/programs.rs"]
mod programs;

use md5::{Digest, Md5};
use programs::*;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

/// The CIFAR-10 program in a folder of its own, with a network that leads nowhere.
fn resnet(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(example("resnet20_cifar10"));
    command.current_dir(folder).args(arguments).env("CIFAR10_URL", "http://127.0.0.1:1/cifar.tar.gz");
    for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(proxy).env_remove(proxy.to_lowercase());
    }
    command
}

/// A folder in CIFAR-10's format: images of one colour, which is the label's.
fn write_cifar(folder: &Path, images_per_file: usize) {
    std::fs::create_dir_all(folder).unwrap();
    let files = (1..=5).map(|i| format!("data_batch_{i}.bin")).chain(["test_batch.bin".to_owned()]);
    for (number, file) in files.enumerate() {
        let mut bytes = Vec::new();
        for image in 0..images_per_file {
            let label = (image % 10) as u8;
            bytes.push(label);
            bytes.extend((0..3072usize).map(|i| (i * (1 + label as usize) / 7 + number) as u8));
        }
        std::fs::write(folder.join(file), bytes).unwrap();
    }
}

fn rows(csv: &str) -> Vec<Vec<f64>> {
    csv.lines().skip(1).map(|line| line.split(',').map(|cell| cell.parse().unwrap()).collect()).collect()
}

#[test]
fn quickstart_runs() {
    let text = stdout(&run(&mut Command::new(example("quickstart"))));
    assert!(text.contains("loss"), "{text}");
}

#[test]
fn every_optimizer_trains_on_the_digits_and_leaves_its_results() {
    let folder = tempfile::tempdir().unwrap();
    let optimizers = ["sgd", "momentum", "rmsprop", "adam", "svgd"];
    let names = optimizers.join(",");
    let arguments = [
        "--data",
        "auto",
        "--optimizer",
        &names,
        "--steps",
        "4",
        "--eval-every",
        "3",
        "--batch-size",
        "32",
        "--out",
        "out",
    ];
    let output = run(&mut resnet(folder.path(), &arguments));
    let text = stdout(&output);
    assert!(text.contains("cannot be downloaded") && text.contains("using the digits"), "{text}");
    assert!(text.contains("digits: 1437 training images, 360 test images"), "{text}");
    assert!(text.contains("final test error"), "{text}");
    let bar = |text: &str| text.contains(['\u{1b}', '\r']);
    assert!(!bar(&text) && !bar(&stderr(&output)), "a bar where there is no terminal");

    let out = folder.path().join("out");
    for optimizer in optimizers {
        let csv = read(out.join(format!("{optimizer}.csv")));
        assert!(csv.starts_with("step,epoch,train_loss,test_loss,test_error,seconds\n"), "{csv}");
        let rows = rows(&csv);
        assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), [3.0, 4.0], "{csv}");
        assert!(rows.iter().flatten().all(|value| value.is_finite()), "{csv}");
        let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        // The name, two errors with their signs, ms/step, images/s, bytes.
        assert!(text.lines().map(columns).any(|row| row.len() == 8 && row[0] == optimizer && row[2] == "%"), "{text}");
    }
    let summary: serde_json::Value = serde_json::from_str(&read(out.join("summary.json"))).unwrap();
    assert_eq!(summary["data"], "digits");
    assert_eq!(summary["libtorch_version"], "2.11.0");
    assert_eq!(summary["arguments"]["batch_size"], 32);
    let bytes: Vec<_> = summary["runs"].as_array().unwrap().iter().map(|run| run["state_bytes"].as_u64()).collect();
    let parameters = 4 * 269_722;
    // SVGD: one f32 for each element of every convolution's output, and for each of the ten logits.
    let svgd = 4 * (7 * 16 * 32 * 32 + 6 * 32 * 16 * 16 + 6 * 64 * 8 * 8 + 10);
    assert_eq!(bytes, [0, parameters, parameters, 2 * parameters, svgd].map(Some));
    let svg = read(out.join("curves.svg"));
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    for part in ["ResNet-20 on digits", "test error (%)", "svgd training", "momentum test"] {
        assert!(svg.contains(part), "'{part}' is not in the figure");
    }
    let left: Vec<_> = std::fs::read_dir(&out).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left.len(), optimizers.len() + 2, "{left:?}");
}

#[test]
fn a_seed_repeats_a_run_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let train = |seed: &str, out: &str| {
        let arguments =
            ["--data", "digits", "--optimizer", "svgd", "--steps", "3", "--batch-size", "16", "--threads", "1"];
        run(resnet(folder.path(), &arguments).args(["--seed", seed, "--out", out]));
        rows(&read(folder.path().join(out).join("svgd.csv")))[0][..5].to_vec()
    };
    let first = train("5", "a");
    assert_eq!(first, train("5", "b"));
    assert_ne!(first, train("6", "c"));
}

#[test]
fn a_folder_in_cifar_format_trains() {
    let folder = tempfile::tempdir().unwrap();
    write_cifar(&folder.path().join("data/cifar-10-batches-bin"), 20);
    for data in ["data", "data/cifar-10-batches-bin", "auto"] {
        let arguments = ["--data", data, "--optimizer", "svgd", "--epochs", "1", "--batch-size", "50", "--out", "out"];
        let text = stdout(&run(&mut resnet(folder.path(), &arguments)));
        assert!(text.contains("CIFAR-10: 100 training images, 20 test images"), "{text}");
        assert!(text.contains("svgd: 2 steps"), "an epoch of 100 images in batches of 50: {text}");
    }
    // A batch that is larger than the data is all of it.
    let arguments = ["--data", "data", "--optimizer", "sgd", "--steps", "2", "--batch-size", "1000", "--out", "out"];
    assert!(stdout(&run(&mut resnet(folder.path(), &arguments))).contains("sgd: 2 steps"));
}

/// Serves one file once, on this machine.
fn serve(contents: Vec<u8>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/cifar-10-binary.tar.gz", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", contents.len()).unwrap();
        stream.write_all(&contents).unwrap();
    });
    url
}

#[test]
fn cifar_is_downloaded_verified_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    write_cifar(&source, 20);
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    archive.append_dir_all("cifar-10-batches-bin", &source).unwrap();
    let archive = archive.into_inner().unwrap().finish().unwrap();
    let md5: String = Md5::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
    let arguments = ["--optimizer", "sgd", "--steps", "1", "--batch-size", "10", "--out", "out"];
    let data = folder.path().join("data");
    let entries = || std::fs::read_dir(&data).map_or(0, |entries| entries.count());

    let mut wrong = resnet(folder.path(), &arguments);
    let text = stdout(&run(wrong.env("CIFAR10_URL", serve(archive.clone()))));
    assert!(text.contains("expected MD5 c32a1d4ab5d03f1284b67883e8d87530") && text.contains(&md5), "{text}");
    assert!(text.contains("using the digits"), "{text}");
    assert_eq!(entries(), 0, "nothing that is wrong is kept");

    let mut download = resnet(folder.path(), &arguments);
    let text = stdout(&run(download.env("CIFAR10_URL", serve(archive)).env("CIFAR10_MD5", md5)));
    assert!(text.contains("CIFAR-10: 100 training images, 20 test images"), "{text}");
    assert_eq!(entries(), 1, "nothing is left beside the files");
    let text = stdout(&run(&mut resnet(folder.path(), &arguments)));
    assert!(text.contains("CIFAR-10: 100 training images"), "the second time needs no network: {text}");
}

#[test]
fn damaged_data_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("cifar");
    let refused = || run_refused(&mut resnet(folder.path(), &["--data", "cifar", "--steps", "1", "--out", "out"]));
    let fresh = || {
        std::fs::remove_dir_all(&data).ok();
        write_cifar(&data, 10);
    };
    fresh();
    std::fs::remove_file(data.join("data_batch_3.bin")).unwrap();
    let text = refused();
    assert!(text.contains("data_batch_3.bin: cannot be read") && text.contains("--data"), "{text}");

    fresh();
    let path = data.join("test_batch.bin");
    let bytes = std::fs::read(&path).unwrap();
    for short in [&bytes[..bytes.len() - 1], &[]] {
        std::fs::write(&path, short).unwrap();
        let text = refused();
        assert!(
            text.contains("test_batch.bin: expected records of 3073 bytes") && text.contains("download it again"),
            "{text}"
        );
    }

    fresh();
    let mut damaged = bytes.clone();
    damaged[3073 * 2] = 200;
    std::fs::write(&path, damaged).unwrap();
    let text = refused();
    assert!(text.contains("test_batch.bin: record 2: expected a label below 10, got 200"), "{text}");
    assert!(!folder.path().join("out").exists(), "nothing is written before the data is read");
}

#[test]
fn bad_options_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, part) in [
        (&["--optimizer", "sgdd"][..], "sgd"),
        (&["--lr", "-1"], "expected a finite number > 0"),
        (&["--scale", "nan"], "expected a finite number >= 0"),
        (&["--steps", "0"], "--steps"),
        (&["--steps", "5", "--epochs", "5"], "cannot be used with"),
        (&["--steps", "5", "--paper"], "cannot be used with"),
        (&["--batch-size", "0"], "--batch-size"),
        (&["--device", "gpu"], "expected auto, cpu, cuda or cuda:N"),
        (&["--device", "cuda:99", "--data", "digits"], "libtorch sees"),
    ] {
        let text = run_refused(&mut resnet(folder.path(), arguments));
        assert!(text.contains(part), "{arguments:?}: '{part}' is not in: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[test]
fn divergence_ends_the_run_with_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "--data",
        "digits",
        "--optimizer",
        "sgd,svgd",
        "--lr",
        "1e30",
        "--steps",
        "40",
        "--batch-size",
        "8",
        "--out",
        "out",
    ];
    let text = stdout(&run(&mut resnet(folder.path(), &arguments)));
    assert!(text.contains("sgd: ") && text.contains("diverged by step"), "{text}");
    assert!(text.contains("final test error"), "the table comes all the same: {text}");
    let rows = rows(&read(folder.path().join("out/sgd.csv")));
    assert_eq!(rows.len(), 1, "the test at the end");
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_whole_rows_and_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "--data",
        "digits",
        "--optimizer",
        "svgd,sgd",
        "--steps",
        "100000",
        "--eval-every",
        "1",
        "--batch-size",
        "4",
        "--out",
        "out",
    ];
    let mut child = resnet(folder.path(), &arguments)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let csv = folder.path().join("out/svgd.csv");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while std::fs::read_to_string(&csv).map_or(0, |text| text.lines().count()) < 3 {
        if std::time::Instant::now() > deadline {
            child.kill().unwrap();
            panic!("no rows after two minutes");
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    run(Command::new("kill").args(["-INT", &child.id().to_string()]));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("interrupted at step") && stdout(&output).contains("final test error"));
    let text = read(csv);
    assert!(text.ends_with('\n') && text.lines().all(|line| line.split(',').count() == 6), "{text}");
    assert!(!folder.path().join("out/sgd.csv").exists(), "the next optimizer is not started");
    assert!(folder.path().join("out/summary.json").exists());
}
