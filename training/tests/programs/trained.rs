//! Models of runs at work.

use crate::common::*;
use crate::programs::*;
use std::path::Path;
use std::process::Command;

fn program(name: &str, folder: &Path, arguments: &str) -> Command {
    training(name, folder, &words(arguments))
}

#[test]
fn a_run_is_evaluated_as_its_curve_says() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut program(
        "mlp_mnist",
        folder.path(),
        "--data digits --optimizer svgd --steps 120 --eval-every 40 --out out",
    ));
    let svgd = folder.path().join("out/svgd-seed0");
    let rows = curve(&svgd);
    let best = rows.iter().min_by(|left, right| left[4].total_cmp(&right[4])).unwrap();
    for (weights, row) in [("best", best), ("last", rows.last().unwrap())] {
        let arguments = format!("out/svgd-seed0 --weights {weights} --out evaluation");
        let text = stdout(&run(&mut program("evaluate", folder.path(), &arguments)));
        let expected = format!("test loss {:.4}, test error {:.2} % of 360", row[3], row[4]);
        assert!(text.contains(&expected), "'{expected}' is not in {text}");
    }
    let csv = read(folder.path().join("evaluation/confusion.csv"));
    let counts: Vec<Vec<i64>> =
        csv.lines().skip(1).map(|line| line.split(',').skip(1).map(|cell| cell.parse().unwrap()).collect()).collect();
    assert_eq!((counts.len(), counts.iter().flatten().sum::<i64>()), (10, 360));
    let right: i64 = (0..10).map(|class| counts[class][class]).sum();
    let error = 100.0 * (1.0 - right as f64 / 360.0);
    assert!((error - rows.last().unwrap()[4]).abs() < 1e-3, "{error}");
    let svg = read(folder.path().join("evaluation/confusion.svg"));
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));

    // Other data are told.
    let output = run(&mut program("evaluate", folder.path(), "out/svgd-seed0 --data digits"));
    assert!(stderr(&output).is_empty());
    let text = run_refused(&mut program("evaluate", folder.path(), "nowhere"));
    assert!(text.contains("nowhere/run.json: cannot be read"), "{text}");
    std::fs::remove_file(svgd.join("best.safetensors")).unwrap();
    let text = run_refused(&mut program("evaluate", folder.path(), "out/svgd-seed0"));
    assert!(text.contains("best.safetensors: is not there") && text.contains("--weights last"), "{text}");
    // The weights before a damaged checkpoint are not those of the end.
    let arguments =
        "--data digits --optimizer svgd --steps 160 --eval-every 40 --checkpoint-every 120 --out out --resume";
    run(&mut program("mlp_mnist", folder.path(), arguments));
    let newest = svgd.join("checkpoints/step-000000160/weights.safetensors");
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let text = run_refused(&mut program("evaluate", folder.path(), "out/svgd-seed0 --weights last"));
    assert!(text.contains("step-000000160 is damaged"), "{text}");
    assert!(
        text.contains("expected the checkpoint of step 160, where the run has ended, got that of step 120"),
        "{text}"
    );
    // An answer that nobody gets is none.
    if cfg!(target_os = "linux") {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = program("evaluate", folder.path(), "out/svgd-seed0").stdout(full).output().unwrap();
        assert!(!output.status.success());
        assert!(stderr(&output).contains("standard output: No space left on device"), "{}", stderr(&output));
    }
    // Digits are no things.
    run(&mut program(
        "resnet20_cifar10",
        folder.path(),
        "--data digits --optimizer sgd --steps 1 --batch-size 8 --out r",
    ));
    let text = stdout(&run(&mut program("evaluate", folder.path(), "r/sgd-seed0")));
    assert!(text.contains("| 7 ") && !text.contains("horse"), "{text}");
}

/// An image alone: its answer depends on no other.
#[test]
fn images_are_classified_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut program("mlp_mnist", folder.path(), "--data digits --optimizer svgd --epochs 6 --out out"));
    let data = training::data::digits::load(experiments::benchmark::Benchmark::Mnist).unwrap();
    let (mut right, mut together) = (0, Vec::new());
    for at in 0..10 {
        let pixels: Vec<u8> = Vec::try_from(data.test.inputs.get(at).flatten(0, -1)).unwrap();
        let image = image::GrayImage::from_raw(28, 28, pixels).unwrap();
        let name = format!("{at}.png");
        // Larger and in colour: it is scaled and made grey.
        let image = image::imageops::resize(&image, 56, 56, image::imageops::FilterType::Nearest);
        image::DynamicImage::from(image).to_rgb8().save(folder.path().join(&name)).unwrap();
        let text = stdout(&run(&mut program("predict", folder.path(), &format!("out/svgd-seed0 {name} --top 1"))));
        let label = data.test.labels.int64_value(&[at]);
        right += i64::from(text.starts_with(&format!("{name}: {label} ")));
        together.push(text);
    }
    assert!(right >= 8, "{right} of 10: {together:?}");
    let names: Vec<String> = (0..10).map(|at| format!("{at}.png")).collect();
    std::fs::write(folder.path().join("text.png"), "no image").unwrap();
    let arguments = format!("out/svgd-seed0 text.png {} --top 1", names.join(" "));
    let output = program("predict", folder.path(), &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("text.png: expected a PNG or JPEG"), "{}", stderr(&output));
    assert_eq!(stdout(&output), together.concat());
    let text = run_refused(&mut program("predict", folder.path(), "out/svgd-seed0 0.png --top 0"));
    assert!(text.contains("invalid value '0' for '--top <TOP>'"), "{text}");
}

/// The recipe of docs/training.md.
#[test]
fn the_weights_load_into_a_plain_tch_model() {
    use tch::nn::{self, ModuleT};
    use tch::{Device, Kind};
    let folder = tempfile::tempdir().unwrap();
    run(&mut program(
        "mlp_mnist",
        folder.path(),
        "--data digits --optimizer svgd --steps 60 --eval-every 30 --out out",
    ));
    let mut vs = nn::VarStore::new(Device::Cpu);
    let (p, widths) = (vs.root(), [784, 256, 128, 64, 32]);
    let norm = nn::BatchNormConfig { eps: 1e-3, ..Default::default() };
    let mut net = nn::seq_t();
    for (number, pair) in (1..).zip(widths.windows(2)) {
        net = net
            .add(nn::linear(&p / format!("hidden{number}"), pair[0], pair[1], Default::default()))
            .add(nn::batch_norm1d(&p / format!("norm{number}"), pair[1], norm))
            .add_fn(|xs| xs.relu());
    }
    let net = net.add(nn::linear(&p / "head", 32, 10, Default::default()));
    let svgd = folder.path().join("out/svgd-seed0");
    vs.load(svgd.join("best.safetensors")).unwrap();
    let data = training::data::digits::load(experiments::benchmark::Benchmark::Mnist).unwrap();
    let images = training::data::batches::whiten(&data.test.inputs).flatten(1, -1);
    let answers = tch::no_grad(|| net.forward_t(&images, false)).argmax(1, false);
    let wrong = answers.ne_tensor(&data.test.labels).sum(Kind::Int64).int64_value(&[]);
    let least = curve(&svgd).iter().map(|row| row[4]).fold(f64::INFINITY, f64::min);
    assert!((100.0 * wrong as f64 / 360.0 - least).abs() < 1e-3, "{wrong} of 360 wrong, and the curve has {least} %");
}
