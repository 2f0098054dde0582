//! Where data come from, what is said of those that are missing, damaged or others, and which they are.

use crate::common::*;
use crate::matlab::matlab_file;
use crate::programs::*;
use md5::{Digest, Md5};
use std::io::{Read, Write};
use std::path::Path;

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

#[test]
fn a_folder_in_cifar_format_trains() {
    let folder = tempfile::tempdir().unwrap();
    write_cifar(&folder.path().join("data/cifar-10-batches-bin"), 20);
    for data in ["data", "data/cifar-10-batches-bin", "auto"] {
        let arguments = words("--optimizer svgd --epochs 1 --batch-size 50 --out out --overwrite --data");
        let text = stdout(&run(resnet(folder.path(), &arguments).arg(data)));
        assert!(text.contains("CIFAR-10 (unverified, 641ba904): 100 training images, 20 test images"), "{text}");
        assert!(text.contains("svgd-seed0: 2 steps"), "an epoch of 100 images in batches of 50: {text}");
    }
    let arguments = ["--data", "data", "--optimizer", "sgd", "--steps", "2", "--batch-size", "1000", "--out", "out"];
    let text = run_refused(&mut resnet(folder.path(), &arguments));
    assert!(text.contains("--batch-size 1000: expected at most the 100 training images"), "{text}");
}

/// A server on this machine that answers each request for a path, from a byte on, with what it is given; 404 for nothing.
fn server(answer: impl Fn(&str, usize) -> Option<Vec<u8>> + Send + 'static) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let range = request.lines().find_map(|line| line.strip_prefix("range: bytes="));
            let from = range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
            let Some(body) = answer(&path, from) else {
                write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
                continue;
            };
            let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len()).unwrap();
            // A client that has gone away is none of the server's business.
            let _ = stream.write_all(&body);
        }
    });
    url
}

/// Serves one file.
fn serve(contents: Vec<u8>) -> String {
    server(move |_, from| Some(contents[from..].to_vec())) + "/cifar-10-binary.tar.gz"
}

#[test]
fn cifar_is_downloaded_verified_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (archive, md5) = cifar_archive(folder.path());
    let arguments = words("--optimizer sgd --steps 1 --batch-size 10 --out out --overwrite");
    let data = folder.path().join("data");
    let entries = || std::fs::read_dir(&data).map_or(0, |entries| entries.count());

    let mut wrong = resnet(folder.path(), &arguments);
    let text = run_refused(wrong.env("CIFAR10_URL", serve(archive.clone())));
    assert!(text.contains("expected the MD5 c32a1d4ab5d03f1284b67883e8d87530") && text.contains(&md5), "{text}");
    assert_eq!(entries(), 1, "nothing that is wrong is kept, but for the lock");

    let mut download = resnet(folder.path(), &arguments);
    // As md5sum prints it, and in capitals.
    let md5 = format!("{}  cifar.tar.gz", md5.to_uppercase());
    let text = stdout(&run(download.env("CIFAR10_URL", serve(archive)).env("CIFAR10_MD5", md5)));
    assert!(text.contains("CIFAR-10 (unverified, 641ba904): 100 training images, 20 test images"), "{text}");
    assert_eq!(entries(), 2, "nothing is left beside the files and the lock");
    let text = stdout(&run(&mut resnet(folder.path(), &arguments)));
    assert!(
        text.contains("CIFAR-10 (unverified, 641ba904): 100 training images"),
        "the second time needs no network: {text}"
    );
}

/// An archive in the format of CIFAR-10's, and its MD5.
fn cifar_archive(folder: &Path) -> (Vec<u8>, String) {
    let source = folder.join("source");
    write_cifar(&source, 20);
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none()));
    archive.append_dir_all("cifar-10-batches-bin", &source).unwrap();
    let archive = archive.into_inner().unwrap().finish().unwrap();
    let md5 = Md5::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
    (archive, md5)
}

/// A program that downloads from there.
fn downloading(folder: &Path, url: &str, md5: &str, out: &str) -> std::process::Command {
    let mut program = resnet(folder, &words(&format!("--optimizer sgd --steps 1 --batch-size 2 --out {out}")));
    program.env("CIFAR10_URL", format!("{url}/cifar.tar.gz")).env("CIFAR10_MD5", md5);
    program
}

#[test]
fn a_download_that_breaks_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let (archive, md5) = cifar_archive(folder.path());
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (whole, tell) = (archive.clone(), asked.clone());
    // Each connection breaks after a third, though it has promised the rest.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
            let range = request.lines().find_map(|line| line.strip_prefix("range: bytes="));
            let from: usize = range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
            tell.lock().unwrap().push(from);
            let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
            let (rest, part) = (whole.len() - from, (whole.len() / 3 + 1).min(whole.len() - from));
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {rest}\r\nConnection: close\r\n\r\n").unwrap();
            let _ = stream.write_all(&whole[from..from + part]);
        }
    });
    for _ in 0..2 {
        let text = run_refused(&mut downloading(folder.path(), &url, &md5, "out"));
        assert!(text.contains("cannot be downloaded") && text.contains("run this again to go on"), "{text}");
        assert!(!folder.path().join("data/cifar-10-batches-bin").exists());
    }
    let text = stdout(&run(&mut downloading(folder.path(), &url, &md5, "out")));
    assert!(text.contains("where it was broken off") && text.contains("100 training images"), "{text}");
    let third = archive.len() / 3 + 1;
    assert_eq!(*asked.lock().unwrap(), [0, third, 2 * third]);
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut streams = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nand then").unwrap();
            streams.push(stream);
        }
    });
    let text = run_refused(downloading(folder.path(), &url, "0", "out").env("DOWNLOAD_SILENCE", "1"));
    assert!(text.contains("nothing came for 1 s; run this again to go on"), "{text}");
}

/// The second waits for the first, and finds what that has fetched; what a killed one was unpacking is removed.
#[test]
fn two_programs_download_once() {
    let folder = tempfile::tempdir().unwrap();
    let (archive, md5) = cifar_archive(folder.path());
    let debris = folder.path().join("data/.unpacking-by-one-that-was-killed");
    std::fs::create_dir_all(debris.join("cifar-10-batches-bin")).unwrap();
    let requests = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = requests.clone();
    let url = server(move |_, _| {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(500));
        Some(archive.clone())
    });
    let start =
        |out: &str| downloading(folder.path(), &url, &md5, out).stdout(std::process::Stdio::piped()).spawn().unwrap();
    for output in ["one", "two"].map(start).map(|child| child.wait_with_output().unwrap()) {
        assert!(output.status.success() && stdout(&output).contains("100 training images"), "{}", stdout(&output));
    }
    assert_eq!(requests.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert!(!debris.exists());
}

#[test]
fn an_archive_that_lacks_a_file_is_not_published_and_a_folder_that_does_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    write_cifar(&source, 20);
    std::fs::remove_file(source.join("data_batch_4.bin")).unwrap();
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none()));
    archive.append_dir_all("cifar-10-batches-bin", &source).unwrap();
    let archive = archive.into_inner().unwrap().finish().unwrap();
    let md5: String = Md5::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
    let url = server(move |_, from| Some(archive[from..].to_vec()));
    let text = run_refused(&mut downloading(folder.path(), &url, &md5, "out"));
    assert!(text.contains("the archive is not whole") && text.contains("data_batch_4.bin: cannot be read"), "{text}");
    let data = folder.path().join("data/cifar-10-batches-bin");
    assert!(!data.exists());
    std::fs::create_dir_all(&data).unwrap();
    let text = run_refused(&mut resnet(folder.path(), &words("--steps 1")));
    assert!(text.contains("data/cifar-10-batches-bin: is there, and not whole: complete it, or remove it"), "{text}");
}

/// A missing network, a missing file and another file are three things.
#[test]
fn nothing_stands_for_data_that_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let text = run_refused(&mut resnet(folder.path(), &words("--paper")));
    assert!(
        text.contains("data/cifar-10-batches-bin: is not there") && text.contains("cannot be downloaded"),
        "{text}"
    );
    assert!(text.contains("give the folder of the data with --data") && text.lines().count() == 1, "{text}");
    let url = server(|_, _| None);
    let text = run_refused(&mut downloading(folder.path(), &url, "0", "out"));
    assert!(text.contains("404"), "{text}");
    assert!(!folder.path().join("runs").exists());
}

#[test]
fn data_are_found_where_others_keep_them() {
    let folder = tempfile::tempdir().unwrap();
    let (archive, _) = cifar_archive(folder.path());
    std::fs::write(folder.path().join("cifar-10-binary.tar.gz"), archive).unwrap();
    write_mnist(&folder.path().join("torchvision/MNIST/raw"), 40);
    std::fs::create_dir(folder.path().join("python")).unwrap();
    std::fs::write(folder.path().join("python/data_batch_1"), "a pickle").unwrap();
    let small = words("--optimizer sgd --steps 1 --batch-size 2");
    let text = stdout(&run(resnet(folder.path(), &small).args(["--data", "cifar-10-binary.tar.gz"])));
    assert!(text.contains("100 training images"), "{text}");
    let text = stdout(&run(mlp(folder.path(), &small).args(["--data", "torchvision"])));
    assert!(text.contains("40 training images"), "{text}");
    let text = run_refused(resnet(folder.path(), &small).args(["--data", "python", "--out", "other"]));
    assert!(text.contains("the Python version is there") && text.contains("binary version"), "{text}");
}

/// The same files under another name are the same data, and others are others: neither merged nor gone on with.
#[test]
fn data_are_told_by_what_is_in_them() {
    let folder = tempfile::tempdir().unwrap();
    write_mnist(&folder.path().join("a"), 40);
    write_mnist(&folder.path().join("b"), 40);
    write_mnist(&folder.path().join("c"), 40);
    let images = folder.path().join("c/train-images-idx3-ubyte");
    let mut bytes = std::fs::read(&images).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(images, bytes).unwrap();
    let train = |data: &str, more: &str| {
        let arguments = format!("--optimizer sgd --batch-size 20 --out out --data {data} {more}");
        mlp(folder.path(), &words(&arguments))
    };
    run(&mut train("a", "--steps 4"));
    let text = stdout(&run(&mut train("b", "--resume --steps 6")));
    assert!(text.contains("goes on from the checkpoint of step 4"), "{text}");
    let text = run_refused(&mut train("c", "--resume --steps 8"));
    assert!(text.contains("data was MNIST (unverified, ") && text.contains(", is MNIST (unverified, "), "{text}");
    let text = stdout(&run(&mut train("c", "--seed 1 --steps 6")));
    assert_eq!(text.matches("## MLP on MNIST (unverified, ").count(), 2, "{text}");
}

/// A folder with MNIST's files, or the contents of them: images of one grey, which is the label's.
fn mnist_files(images: usize) -> Vec<(&'static str, Vec<u8>)> {
    let header = |dimensions: &[usize]| -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
        bytes.extend(dimensions.iter().flat_map(|&n| (n as u32).to_be_bytes()));
        bytes
    };
    let pixels = (0..images * 784).map(|i| (i * (1 + i / 784 % 10)) as u8);
    let labels = (0..images).map(|i| (i % 10) as u8);
    let images_file = || header(&[images, 28, 28]).into_iter().chain(pixels.clone()).collect::<Vec<u8>>();
    let labels_file = || header(&[images]).into_iter().chain(labels.clone()).collect::<Vec<u8>>();
    vec![
        ("train-images-idx3-ubyte", images_file()),
        ("train-labels-idx1-ubyte", labels_file()),
        ("t10k-images-idx3-ubyte", images_file()),
        ("t10k-labels-idx1-ubyte", labels_file()),
    ]
}

fn write_mnist(folder: &Path, images: usize) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, bytes) in mnist_files(images) {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

#[test]
fn a_folder_in_mnist_format_trains() {
    let folder = tempfile::tempdir().unwrap();
    write_mnist(&folder.path().join("data/mnist"), 40);
    for data in ["data", "data/mnist", "auto"] {
        let arguments = words("--optimizer svgd --epochs 2 --batch-size 20 --out out --overwrite --data");
        let text = stdout(&run(mlp(folder.path(), &arguments).arg(data)));
        assert!(text.contains("MNIST (unverified, 6f2a11cb): 40 training images, 40 test images"), "{text}");
        assert!(text.contains("svgd-seed0: 4 steps"), "two epochs of 40 images in batches of 20: {text}");
    }
}

/// Mirrors compress in their own way: it is what is in the files that is verified.
#[test]
fn a_download_of_something_else_than_mnist_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<(String, Vec<u8>)> = mnist_files(10)
        .into_iter()
        .map(|(name, bytes)| {
            let mut compressed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            compressed.write_all(&bytes).unwrap();
            (format!("/{name}.gz"), compressed.finish().unwrap())
        })
        .collect();
    let url = server(move |path, _| files.iter().find(|(name, _)| name == path).map(|(_, bytes)| bytes.clone()));
    let mut program = mlp(folder.path(), &words("--optimizer sgd --steps 1 --batch-size 10 --out out"));
    let text = run_refused(program.env("MNIST_URL", url));
    assert!(text.contains("expected MNIST, got MNIST (unverified, "), "{text}");
    let left = std::fs::read_dir(folder.path().join("data")).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(left, [".downloading.lock"], "nothing is left to go on from");
    assert!(!folder.path().join("data/mnist").exists() && !folder.path().join("out").exists());
}

#[test]
fn damaged_mnist_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("mnist");
    let refused = |name: &str, damage: &dyn Fn(&Path)| {
        std::fs::remove_dir_all(&data).ok();
        write_mnist(&data, 10);
        damage(&data.join(name));
        let text = run_refused(&mut mlp(folder.path(), &words("--data mnist --steps 1 --out out")));
        assert!(text.contains(name), "{text}");
        assert!(!text.contains("panicked") && !folder.path().join("out").exists(), "{text}");
        text
    };
    let images = "train-images-idx3-ubyte";
    let text = refused(images, &|path| std::fs::remove_file(path).unwrap());
    assert!(text.contains("cannot be read") && text.contains("--data"), "{text}");
    let cut = |length: usize| move |path: &Path| std::fs::write(path, &std::fs::read(path).unwrap()[..length]).unwrap();
    for length in [0, 3, 16, 7000] {
        let text = refused(images, &cut(length));
        assert!(text.contains("expected an uncompressed IDX file of records of 784 bytes"), "{text}");
    }
    // Dimensions whose product is no number of bytes at all.
    let text = refused(images, &|path| std::fs::write(path, [&[0, 0, 8, 3][..], &[255; 12]].concat()).unwrap());
    assert!(text.contains("expected an uncompressed IDX file"), "{text}");
    let labels = "t10k-labels-idx1-ubyte";
    let text = refused(labels, &|path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, [&[0, 0, 8, 1, 0, 0, 0, 9], &bytes[8..17]].concat()).unwrap();
    });
    assert!(text.contains("expected 10 labels") && text.contains("got 9"), "{text}");
    let text = refused(labels, &|path| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[8 + 3] = 10;
        std::fs::write(path, bytes).unwrap();
    });
    assert!(text.contains("record 3: expected a label below 10, got 10"), "{text}");
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

/// A hundred lines at a time, of which each tenth is for the test: sentences of ten words that repeat.
fn write_texts(folder: &Path) {
    let sentence = |at: usize| (at..at + 10).map(|at| format!("word{}", at % 13)).collect::<Vec<_>>().join(" ");
    let verses: Vec<String> = (0..1_000).map(sentence).collect();
    std::fs::write(folder.join("verses.txt"), verses.join("\n")).unwrap();
    let rated = (0..200).map(|at| format!("{at}\t{}\t{}", [-1.5, 0.0, 2.0][at % 3], sentence(at % 3)));
    std::fs::write(folder.join("movieReviewSnippets_GroundTruth.txt"), rated.collect::<Vec<_>>().join("\r\n")).unwrap();
}

/// With the dropout that they had had: a run that goes on ends with the bits of one that was not stopped.
#[test]
fn texts_are_trained_on_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    write_texts(folder.path());
    for (program, samples) in [
        ("bng_language", "247 training windows of 40 words, 27 test windows of 40 words"),
        // 200, without the 67 whose rating is 0.
        ("bng_sentences", "120 training sentences, 13 test sentences"),
    ] {
        let train = |more: &str| {
            let arguments =
                format!("--data . --steps 4 --batch-size 8 --checkpoint-every 3 --optimizer adam-ng --out {program}");
            stdout(&run(training(program, folder.path(), &words(&arguments)).args(words(more))))
        };
        let text = train("");
        assert!(text.contains(samples) && text.contains("final test error"), "{text}");
        let checkpoints = folder.path().join(program).join("adam-ng-seed0/checkpoints");
        let weights = || std::fs::read(checkpoints.join("step-000000004/weights.safetensors")).unwrap();
        let whole = weights();
        std::fs::remove_dir_all(checkpoints.join("step-000000004")).unwrap();
        std::fs::remove_file(checkpoints.with_file_name("run.json")).unwrap();
        let text = train("--resume");
        assert!(text.contains("goes on from the checkpoint of step 3"), "{text}");
        assert!(whole == weights(), "{program}");
        assert!(folder.path().join(program).join(format!("{program}.svg")).exists());
        let mut evaluate = training("evaluate", folder.path(), &[&format!("{program}/adam-ng-seed0")]);
        let error = curve(&folder.path().join(program).join("adam-ng-seed0")).last().unwrap()[4];
        let text = stdout(&run(&mut evaluate));
        assert!(text.contains(&format!("test error {error:.2} %")), "{text}");
    }
}

#[test]
fn texts_that_are_missing_or_damaged_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |program: &str, arguments: &str| {
        run_refused(&mut training(program, folder.path(), &words(&format!("--steps 1 {arguments}"))))
    };
    // Nothing stands for a text.
    for (program, place) in [("bng_language", "data/king-james"), ("bng_sentences", "data/rotten-tomatoes")] {
        let text = refused(program, "");
        assert!(text.contains(&format!("{place}: is not there: run scripts/texts")), "{text}");
        let text = refused(program, "--data digits");
        assert!(text.contains("--data digits: expected the text of"), "{text}");
        let text = refused(program, "--data .");
        assert!(text.contains(".txt: cannot be read"), "{text}");
    }
    let sentences = folder.path().join("movieReviewSnippets_GroundTruth.txt");
    for (content, expected) in [
        ("1\t2.5\tgood\n2\tbad\tbad\n".as_bytes(), "line 2: expected a number, a rating and a sentence"),
        (b"1\tNaN\tgood\n", "line 1: expected"),
        (b"1\t2.5 good\n", "line 1: expected"),
        (b"1\t1\tgood\n", "expected sentences to train on and to test, got 1 and 0"),
        (b"", "got 0 and 0"),
        (b"1\t1\tg\xffod\n", "expected text in UTF-8"),
    ] {
        std::fs::write(&sentences, content).unwrap();
        let text = refused("bng_sentences", "--data .");
        assert!(text.contains("movieReviewSnippets_GroundTruth.txt") && text.contains(expected), "{text}");
    }
    write_texts(folder.path());
    let text = refused("bng_language", "--data . --cuda-graph");
    assert!(text.contains("--cuda-graph: expected a model without dropout"), "{text}");
}

/// As a package of the system has them.
#[test]
fn compressed_files_in_mnist_format_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("fashion");
    std::fs::create_dir(&data).unwrap();
    for (name, bytes) in mnist_files(40) {
        let file = std::fs::File::create(data.join(format!("{name}.gz"))).unwrap();
        let mut compressed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        compressed.write_all(&bytes).unwrap();
        compressed.finish().unwrap();
    }
    let arguments = words("--data fashion --steps 2 --batch-size 8 --threads 1 --optimizer tso-alra --out out");
    let text = stdout(&run(&mut tso_alra(folder.path(), &arguments)));
    assert!(
        text.contains("Fashion-MNIST (unverified, 6f2a11cb): 36 training images, 4 for validation, 40 test images"),
        "{text}"
    );
    let images = data.join("train-images-idx3-ubyte.gz");
    let bytes = std::fs::read(&images).unwrap();
    std::fs::write(&images, &bytes[..bytes.len() / 2]).unwrap();
    let text = run_refused(&mut tso_alra(folder.path(), &words("--data fashion --steps 2 --out other")));
    assert!(text.contains("train-images-idx3-ubyte") && text.contains("cannot be read"), "{text}");
}

#[test]
fn svhn_and_cifar100_train_from_their_folders() {
    let folder = tempfile::tempdir().unwrap();
    let (svhn, cifar) = (folder.path().join("svhn"), folder.path().join("cifar"));
    std::fs::create_dir_all(&svhn).unwrap();
    std::fs::create_dir_all(&cifar).unwrap();
    let n = 40;
    let pixels: Vec<u8> = (0..3072 * n).map(|i| (i / 3072 * 7 + i % 251) as u8).collect();
    let labels: Vec<u8> = (0..n).map(|i| (i % 10 + 1) as u8).collect();
    let file = matlab_file(&pixels, &labels);
    for name in ["train_32x32.mat", "test_32x32.mat"] {
        std::fs::write(svhn.join(name), &file).unwrap();
    }
    let records: Vec<u8> =
        pixels.chunks(3072).enumerate().flat_map(|(i, image)| [&[9, i as u8], image].concat()).collect();
    for name in ["train.bin", "test.bin"] {
        std::fs::write(cifar.join(name), &records).unwrap();
    }
    let train = |data_set: &str, data: &str| {
        let arguments = words("--steps 2 --batch-size 8 --threads 1 --optimizer tso-alra --overwrite");
        let mut program = tso_alra(folder.path(), &arguments);
        program.args(["--data-set", data_set, "--data", data, "--out", data_set]);
        program
    };
    let text = stdout(&run(&mut train("svhn", "svhn")));
    assert!(
        text.contains("SVHN (unverified, fb0e76ef): 36 training images, 4 for validation, 40 test images"),
        "{text}"
    );
    let text = stdout(&run(&mut train("cifar100", "cifar")));
    assert!(
        text.contains("CIFAR-100 (unverified, ")
            && text.contains("): 36 training images, 4 for validation, 40 test images"),
        "{text}"
    );
    let text = run_refused(&mut train("svhn", "auto"));
    assert!(text.contains("data/svhn: is not there: give the folder of train_32x32.mat"), "{text}");

    for length in [0, 127, 130, 200, file.len() - 5] {
        std::fs::write(svhn.join("test_32x32.mat"), &file[..length]).unwrap();
        let text = run_refused(&mut train("svhn", "svhn"));
        assert!(
            text.contains("test_32x32.mat: expected a MATLAB file") && !text.contains("panicked"),
            "{length}: {text}"
        );
    }
    let mut bad = records.clone();
    bad[3074 + 1] = 100;
    std::fs::write(cifar.join("test.bin"), bad).unwrap();
    let text = run_refused(&mut train("cifar100", "cifar"));
    assert!(text.contains("test.bin: record 1: expected a label below 100, got 100"), "{text}");
}
