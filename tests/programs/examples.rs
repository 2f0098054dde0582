//! The example programs, run as a user runs them.

use crate::matlab::matlab_file;
use crate::programs::*;
use md5::{Digest, Md5};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

fn resnet(folder: &Path, arguments: &[&str]) -> Command {
    training("resnet20_cifar10", folder, arguments)
}

fn mlp(folder: &Path, arguments: &[&str]) -> Command {
    training("mlp_mnist", folder, arguments)
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

#[test]
fn quickstart_runs() {
    let text = stdout(&run(&mut Command::new(example("quickstart"))));
    assert!(text.contains("loss"), "{text}");
}

#[test]
fn every_optimizer_trains_on_the_digits_and_leaves_its_results() {
    let folder = tempfile::tempdir().unwrap();
    let parameters = 4 * 269_722;
    // SVGD: one f32 for each element of every convolution's output (or each channel), and for each of the ten logits.
    let element = 4 * (7 * 16 * 32 * 32 + 6 * 32 * 16 * 16 + 6 * 64 * 8 * 8 + 10);
    let channel = 4 * (7 * 16 + 6 * 32 + 6 * 64 + 10);
    let optimizers = [
        ("sgd", 0),
        ("momentum", parameters),
        ("rmsprop", parameters),
        // And how many steps each of 59 variables has had.
        ("adam", 2 * parameters + 4 * 59),
        ("svgd", element),
        ("svgd-channel", channel),
        ("svgd-per-example", element),
        ("svgd-momentum", element + parameters),
    ];
    let names = optimizers.map(|(name, _)| name).join(",");
    let arguments = words("--data auto --steps 2 --eval-every 1 --batch-size 16 --out out --optimizer");
    let output = run(resnet(folder.path(), &arguments).arg(&names));
    let text = stdout(&output);
    assert!(text.contains("cannot be downloaded") && text.contains("using the digits"), "{text}");
    assert!(text.contains("digits: 1437 training images, 360 test images"), "{text}");
    assert!(text.contains("final test error"), "{text}");
    let bar = |text: &str| text.contains(['\u{1b}', '\r']);
    assert!(!bar(&text) && !bar(&stderr(&output)), "a bar where there is no terminal");

    let out = folder.path().join("out");
    for (optimizer, state_bytes) in optimizers {
        let run = out.join(format!("{optimizer}-seed0"));
        let csv = read(run.join("curve.csv"));
        assert!(csv.starts_with("step,epoch,train_loss,test_loss,test_error,seconds\n"), "{csv}");
        let rows = rows(&csv);
        assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), [1.0, 2.0], "{csv}");
        assert!(rows.iter().flatten().all(|value| value.is_finite()), "{csv}");
        let record: serde_json::Value = serde_json::from_str(&read(run.join("run.json"))).unwrap();
        assert_eq!(record["data"], "digits");
        assert_eq!(record["libtorch_version"], crate::versions::locked_pair().libtorch);
        assert_eq!((&record["batch_size"], &record["steps"]), (&16.into(), &2.into()));
        assert_eq!(record["parameters"], 269_722);
        assert_eq!(record["state_bytes"], state_bytes, "{optimizer}");
        assert!(text.lines().any(|line| line.starts_with(&format!("| {optimizer} "))), "{text}");
    }
    assert_eq!(
        read(out.join("report.md")).trim(),
        text[text.find("# Training runs").unwrap()..text.find("report, figure").unwrap()].trim()
    );
    let svg = read(out.join("resnet20_cifar10.svg"));
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.contains("ResNet-20 on digits"));
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), optimizers.len() + 2, "nothing is left beside");
}

#[test]
fn all_models_train_on_a_part_of_the_papers_schedule_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    for (program, budget, steps) in
        [("mlp_mnist", 0.005, 30), ("vgg_cifar10", 0.0001, 4), ("resnet20_cifar10", 4e-5, 2)]
    {
        let arguments = words("--data digits --paper --optimizer svgd --budget");
        let text = stdout(&run(training(program, folder.path(), &arguments).arg(budget.to_string())));
        let budget = format!("budget {budget}");
        assert!(text.matches(&budget).count() >= 2, "before and after: {text}");
        let out = folder.path().join("runs").join(program);
        assert!(read(out.join(format!("{program}.svg"))).contains(&budget), "{program}");
        assert!(read(out.join("report.md")).contains(&budget), "{program}");
        let rows = rows(&read(out.join("svgd-seed0/curve.csv")));
        assert_eq!(rows.last().unwrap()[0] as usize, steps, "{program}");
    }
}

#[test]
fn a_seed_repeats_a_run_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let train = |seed: &str, out: &str| {
        let arguments = words("--data digits --optimizer svgd --steps 3 --batch-size 16 --threads 1");
        run(resnet(folder.path(), &arguments).args(["--seed", seed, "--out", out]));
        rows(&read(folder.path().join(out).join(format!("svgd-seed{seed}/curve.csv"))))[0][..5].to_vec()
    };
    let first = train("5", "a");
    assert_eq!(first, train("5", "b"));
    assert_ne!(first, train("6", "c"));
}

#[test]
fn several_seeds_are_runs_of_their_own_and_averaged() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = words("--data digits --optimizer sgd,svgd --seeds 3..6 --steps 4 --out out");
    let text = stdout(&run(&mut mlp(folder.path(), &arguments)));
    let curves: Vec<_> =
        (3..6).map(|seed| read(folder.path().join(format!("out/svgd-seed{seed}/curve.csv")))).collect();
    assert!(curves[0] != curves[1] && curves[1] != curves[2]);
    assert_eq!(text.lines().filter(|line| line.starts_with('|') && line.contains('±')).count(), 2, "{text}");
}

/// The columns of a curve but for the seconds, which no two runs share.
fn curve(folder: &Path) -> Vec<Vec<f64>> {
    rows(&read(folder.join("curve.csv"))).into_iter().map(|row| row[..5].to_vec()).collect()
}

#[test]
fn a_loss_scale_leaves_training_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    for optimizer in ["svgd", "svgd-per-example", "adam"] {
        let train = |scale: &str| {
            let arguments = words("--data digits --steps 20 --eval-every 5 --threads 1 --optimizer");
            run(mlp(folder.path(), &arguments).args([optimizer, "--loss-scale", scale, "--out", scale]));
            curve(&folder.path().join(scale).join(format!("{optimizer}-seed0")))
        };
        // Powers of two change exponents and no digit: a scale that is undone everywhere changes nothing at all.
        assert_eq!(train("1"), train("1024"), "{optimizer}");
    }
}

#[test]
fn mixed_precision_trains_almost_alike() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = words("--data digits --steps 40 --eval-every 40 --threads 1 --optimizer svgd --out");
    run(mlp(folder.path(), &arguments).arg("float"));
    run(mlp(folder.path(), &arguments).args(["mixed", "--amp"]));
    let [float, mixed] = ["float", "mixed"].map(|out| curve(&folder.path().join(out).join("svgd-seed0"))[0][2]);
    assert!(float != mixed, "bfloat16 has fewer digits");
    assert!((float / mixed - 1.0).abs() < 0.1, "{float} and {mixed}");
}

#[test]
fn a_graph_that_cannot_be_captured_is_done_without() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = words("--data digits --steps 6 --device cpu --optimizer svgd --cuda-graph --out out");
    let output = run(&mut mlp(folder.path(), &arguments));
    let text = stderr(&output);
    assert_eq!(text.matches("--cuda-graph: CudaGraph::capture").count(), 1, "{text}");
    assert!(text.contains("got Cpu") && text.contains("without a graph"), "{text}");
    assert!(stdout(&output).contains("svgd-seed0: 6 steps"));
    let record = read(folder.path().join("out/svgd-seed0/run.json"));
    assert!(record.contains("\"cuda_graph\": false"), "what was done, and not what was asked for: {record}");
}

#[test]
fn a_folder_in_cifar_format_trains() {
    let folder = tempfile::tempdir().unwrap();
    write_cifar(&folder.path().join("data/cifar-10-batches-bin"), 20);
    for data in ["data", "data/cifar-10-batches-bin", "auto"] {
        let arguments = words("--optimizer svgd --epochs 1 --batch-size 50 --out out --overwrite --data");
        let text = stdout(&run(resnet(folder.path(), &arguments).arg(data)));
        assert!(text.contains("CIFAR-10: 100 training images, 20 test images"), "{text}");
        assert!(text.contains("svgd-seed0: 2 steps"), "an epoch of 100 images in batches of 50: {text}");
    }
    // A batch that is larger than the data is all of it.
    let arguments = ["--data", "data", "--optimizer", "sgd", "--steps", "2", "--batch-size", "1000", "--out", "out"];
    assert!(stdout(&run(&mut resnet(folder.path(), &arguments))).contains("sgd-seed0: 2 steps"));
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
    let arguments = words("--optimizer sgd --steps 1 --batch-size 10 --out out --overwrite");
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
        assert!(text.contains("MNIST: 40 training images, 40 test images"), "{text}");
        assert!(text.contains("svgd-seed0: 4 steps"), "two epochs of 40 images in batches of 20: {text}");
    }
}

#[test]
fn a_download_of_something_else_than_mnist_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (name, bytes) = mnist_files(10).swap_remove(0);
    let mut compressed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    compressed.write_all(&bytes).unwrap();
    let url = serve(compressed.finish().unwrap());
    let mut program = mlp(folder.path(), &words("--optimizer sgd --steps 1 --batch-size 10 --out out"));
    let text = stdout(&run(program.env("MNIST_URL", url.rsplit_once('/').unwrap().0)));
    assert!(text.contains(&format!("downloading {name}")), "{text}");
    assert!(
        text.contains("expected MD5 f68b3c2dcbeaaa9fbdd348bbdeb94873") && text.contains("using the digits"),
        "{text}"
    );
    assert_eq!(std::fs::read_dir(folder.path().join("data")).unwrap().count(), 0, "nothing that is wrong is kept");
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
        (&["--budget", "0.5"], "--paper"),
        (&["--paper", "--budget", "0"], "expected a number in (0, 1]"),
        (&["--paper", "--budget", "1.5"], "expected a number in (0, 1]"),
        (&["--seeds", "3..3"], "expected at least one seed"),
        (&["--seeds", "1,1"], "each once"),
        (&["--seeds", "one"], "got 'one'"),
        (&["--seeds", "0..99999999999"], "at most"),
        (&["--optimizer", "sgd,svgd,sgd"], "got sgd twice"),
        (&["--lr", "1e39"], "expected a finite number > 0"),
        (&["--threads", "4294967296"], "--threads"),
        (&["--loss-scale", "0"], "expected a finite number > 0"),
        (&["--resume", "--overwrite"], "cannot be used with"),
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
    let arguments = words("--data digits --optimizer sgd,svgd --lr 1e30 --steps 60 --batch-size 8 --out out");
    let text = stdout(&run(&mut resnet(folder.path(), &arguments)));
    assert!(text.contains("sgd-seed0: ") && text.contains("diverged by step"), "{text}");
    assert!(text.contains("final test error"), "the table comes all the same: {text}");
    let rows = rows(&read(folder.path().join("out/sgd-seed0/curve.csv")));
    assert_eq!(rows.len(), 1, "the test at the end");
}

/// On the digits, whose images are those of the data sets that they stand for.
#[test]
fn deep_networks_train_on_normalized_gradients() {
    let folder = tempfile::tempdir().unwrap();
    for (program, more, figure, rates) in [
        ("bng_mlp", "--depth 18 --init torch --steps 30", "bng_mlp18_torch.svg", "adam-ng 0.001"),
        ("bng_mlp", "--depth 6 --steps 30", "bng_mlp6.svg", "adam-ng 0.001"),
        ("bng_resnet", "--depth 20 --steps 1 --batch-size 16", "bng_resnet20.svg", "adam-ng 0.001"),
    ] {
        let arguments = format!("--data digits --optimizer adam-ng --out {program} --overwrite {more}");
        let text = stdout(&run(&mut training(program, folder.path(), &words(&arguments))));
        assert!(text.contains("final test error") && text.contains(rates), "{text}");
        assert!(folder.path().join(program).join(figure).exists(), "{text}");
    }
    let refused = run_refused(&mut training("bng_mlp", folder.path(), &words("--depth 7")));
    assert!(refused.contains("[possible values: 6, 12, 18]"), "{refused}");
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
        let text = train("--resume");
        assert!(text.contains("goes on from the checkpoint of step 3"), "{text}");
        assert!(whole == weights(), "{program}");
        assert!(folder.path().join(program).join(format!("{program}.svg")).exists());
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
        assert!(text.contains(place) && text.contains("run scripts/texts"), "{text}");
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

fn tso_alra(folder: &Path, arguments: &[&str]) -> Command {
    training("tso_alra", folder, arguments)
}

#[test]
fn tso_alra_trains_with_all_its_optimizers_and_reports_test_losses() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = words("--data digits --steps 14 --eval-every 6 --batch-size 16 --threads 1 --out out");
    let text = stdout(&run(&mut tso_alra(folder.path(), &arguments)));
    // A tenth of 1,437 is held out.
    assert!(text.contains("digits: 1293 training images, 144 for validation, 360 test images"), "{text}");
    assert!(text.contains("1,293 training (144 more for validation) and 360 test images"), "{text}");
    for optimizer in ["sgd", "adam", "amsgrad", "tso-alra", "tso-alra-switch"] {
        let tables = text.lines().filter(|line| line.starts_with(&format!("| {optimizer} "))).count();
        assert_eq!(tables, 3, "errors, levels, losses of {optimizer}: {text}");
    }
    assert!(text.contains("Test loss") && text.contains("switched at step"), "{text}");
    for model in ["vgg", "alexnet"] {
        for data_set in ["fashion-mnist", "cifar10"] {
            let arguments = words("--data digits --steps 2 --batch-size 8 --threads 1 --optimizer tso-alra --out");
            let out = format!("{model}-{data_set}");
            let mut program = tso_alra(folder.path(), &arguments);
            let text = stdout(&run(program.args([&out[..], "--model", model, "--data-set", data_set])));
            assert!(text.contains("tso-alra-seed0: 2 steps"), "{text}");
        }
    }
}

/// A rate so low that no weight changes, and no validation loss is better than the first: the switch comes with the third
/// test. The run goes on from the checkpoint before it, in which one loss has been no better.
#[test]
fn tso_alra_switches_and_goes_on_from_a_checkpoint_as_if_it_had_not_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let train = |more: &str| {
        let arguments = "--data digits --steps 14 --eval-every 4 --batch-size 16 --threads 1 --lr 1e-12 --checkpoint-every 5 \
                         --optimizer tso-alra-switch --out out";
        stdout(&run(tso_alra(folder.path(), &words(arguments)).args(words(more))))
    };
    let checkpoints = folder.path().join("out/tso-alra-switch-seed0/checkpoints");
    let last = || {
        let file = |name: &str| std::fs::read(checkpoints.join("step-000000014").join(name)).unwrap();
        ["weights.safetensors", "optimizer.safetensors", "tso_alra.safetensors"].map(file)
    };
    let record = || read(folder.path().join("out/tso-alra-switch-seed0/run.json"));
    let switched = "plain gradients from step 12 on: the validation loss has stalled";
    let text = train("");
    assert!(text.contains(switched), "{text}");
    assert!(record().contains("\"switched_at\": 12"), "{}", record());
    let whole = last();
    std::fs::remove_dir_all(checkpoints.join("step-000000014")).unwrap();
    let text = train("--resume");
    assert!(text.contains("goes on from the checkpoint of step 10") && text.contains(switched), "{text}");
    assert!(record().contains("\"switched_at\": 12"), "{}", record());
    assert!(whole == last());
}

#[test]
fn what_tso_alra_cannot_do_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = run_refused(&mut mlp(folder.path(), &words("--data digits --steps 2 --optimizer tso-alra-switch")));
    assert!(text.contains("--optimizer tso-alra-switch") && text.contains("validation images"), "{text}");
    let text =
        run_refused(&mut mlp(folder.path(), &words("--data digits --steps 2 --optimizer tso-alra --cuda-graph")));
    assert!(text.contains("--cuda-graph") && text.contains("tso-alra"), "{text}");
    assert!(!folder.path().join("runs").exists());
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
    assert!(text.contains("Fashion-MNIST: 36 training images, 4 for validation, 40 test images"), "{text}");
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
        let arguments = words("--steps 2 --batch-size 8 --threads 1 --optimizer tso-alra --overwrite --out out");
        let mut program = tso_alra(folder.path(), &arguments);
        program.args(["--data-set", data_set, "--data", data]);
        program
    };
    let text = stdout(&run(&mut train("svhn", "svhn")));
    assert!(text.contains("SVHN: 36 training images, 4 for validation, 40 test images"), "{text}");
    let text = stdout(&run(&mut train("cifar100", "cifar")));
    assert!(text.contains("CIFAR-100: 36 training images, 4 for validation, 40 test images"), "{text}");
    let text = stdout(&run(&mut train("svhn", "auto")));
    assert!(text.contains("SVHN is not in data/svhn") && text.contains("using the digits"), "{text}");

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
