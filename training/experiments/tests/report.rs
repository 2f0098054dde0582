//! The report program: what it says of runs whose numbers are worked out by hand here.

#[path = "../../../tests/common/programs.rs"]
mod programs;

use programs::{binary, read, root, run, run_refused, stderr, stdout};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A record of ResNet-20 on CIFAR-10 by the paper's whole schedule.
fn record(optimizer: &str, seed: u64) -> Value {
    let rates = match optimizer {
        "sgd" | "momentum" => [0.1, 0.01, 0.001],
        "adam" => [1e-3, 1e-4, 5e-5],
        "rmsprop" => [1e-3, 1e-4, 1e-4],
        _ => [0.5, 0.02, 0.01],
    };
    json!({
        "format": 1, "experiment": "resnet20_cifar10", "model": "ResNet-20", "data": "CIFAR-10",
        "training_images": 50_000, "test_images": 10_000, "optimizer": optimizer, "seed": seed, "batch_size": 128,
        "planned_steps": 30, "eval_every": 10, "decay_at": [19, 25], "rates": rates, "scale": 0.01, "l1": 1e-4,
        "paper": true, "budget": 1.0, "device": "Cpu", "threads": 2, "amp": false, "loss_scale": 1.0,
        "cuda_graph": false, "crate_version": "0.1.0", "libtorch_version": "2.11.0", "parameters": 269_722,
        "state_bytes": 750_632, "steps": 30, "seconds": 3.0, "note": null
    })
}

fn with(mut record: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        assert!(record.get(name).is_some(), "{name}");
        record[name] = value.clone();
    }
    record
}

const HEADER: &str = "step,epoch,train_loss,test_loss,test_error,seconds\n";

/// Writes a run; the rows are steps, errors and seconds.
fn write_run(folder: &Path, record: Value, rows: &[(usize, f64, f64)]) {
    let row = |(step, error, seconds): &(usize, f64, f64)| format!("{step},0.1,1.5,1.25,{error},{seconds}\n");
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("run.json"), record.to_string()).unwrap();
    std::fs::write(folder.join("curve.csv"), HEADER.to_owned() + &rows.iter().map(row).collect::<String>()).unwrap();
}

/// Three seeds of SVGD.
fn write_seeds(folder: &Path) {
    let curves = [
        [(10, 60.0, 1.0), (20, 40.0, 2.0), (30, 10.0, 3.0)],
        [(10, 50.0, 1.0), (20, 30.0, 3.0), (30, 12.0, 4.0)],
        [(10, 70.0, 2.0), (20, 15.0, 4.0), (30, 17.0, 6.0)],
    ];
    for (seed, curve) in curves.iter().enumerate() {
        let record = with(record("svgd", seed as u64), json!({ "seconds": curve[2].2 }));
        write_run(&folder.join(format!("svgd-seed{seed}")), record, curve);
    }
}

/// The authors' curves of SVGD, as they published them.
fn write_reference(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let resnet = ",datetime,loss,accuracy\n\
                  0,2019-07-03 23:59:50.500000,2.5,10.5\n\
                  10,2019-07-04 00:00:00,1.5,60.25\n\
                  20,2019-07-04 00:00:10.500000,0.5,91.5\n\
                  30,2019-07-04 00:00:20.500000,0.5,91.25\n";
    let mlp = ",datetime,step,loss,accuracy\n\
               0,2019-06-18 22:02:42.220917,0,2.5,0.0975\n\
               10,2019-06-18 22:02:44.220917,10,0.5,0.9825\n";
    std::fs::write(folder.join("resnet_so.csv"), resnet).unwrap();
    std::fs::write(folder.join("mlp_so.csv"), mlp).unwrap();
}

fn report(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("report"));
    command.current_dir(folder).args(arguments).env_remove("RUST_BACKTRACE");
    command
}

/// The cells of the rows that begin with this label, in the order of the tables.
fn cells(markdown: &str, label: &str) -> Vec<Vec<String>> {
    let row =
        |line: &str| -> Vec<String> { line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect() };
    let rows = markdown.lines().filter(|line| line.starts_with('|')).map(row);
    rows.filter(|row| row[0] == label).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_error_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let text = run_refused(report(folder.path(), &["nowhere"]).env("RUST_BACKTRACE", "1"));
    assert!(text.starts_with("error: nowhere") && text.lines().count() == 1, "{text}");
}

#[test]
fn seeds_are_averaged_as_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    write_seeds(folder.path());
    let text = stdout(&run(&mut report(folder.path(), &["."])));
    assert!(text.contains("no file is written without --out") && !text.contains(".svg"), "{text}");
    assert_eq!(names(folder.path()), ["svgd-seed0", "svgd-seed1", "svgd-seed2"]);
    let text = stdout(&run(&mut report(folder.path(), &[".", "--out", "."])));
    assert!(text.contains("## ResNet-20 on CIFAR-10\n"), "{text}");
    assert!(text.contains("**The paper's schedule**: 30 steps, lower rates from 19 and 25; batch 128;"), "{text}");
    assert!(text.contains("seeds 0, 1, 2; device Cpu; 2 threads; libtorch 2.11.0;"), "{text}");
    // Final 10, 12, 17; best 10, 12, 15; 100, 133.3 and 200 ms a step.
    let errors = ["svgd", "3", "13.00 ± 3.61", "12.33 ± 2.52", "8.62", "144.4", "750,632", "30"];
    let interval = ["svgd", "4.04 to 21.96"];
    let levels = ["svgd", "17 / 2.3 s", "20 / 3.0 s", "23 / 3.3 s", "27 / 3.7 s", "30 / 3.0 s (1 of 3)"];
    assert_eq!(cells(&text, "svgd"), [errors.to_vec(), interval.to_vec(), levels.to_vec()], "{text}");
    let report = read(folder.path().join("report.md"));
    assert!(text.starts_with(&report), "what is printed is what is written");
    assert!(report.contains("](resnet20_cifar10.svg)"));

    // A terminal shows the tables as tables: a row is as wide as the one before it.
    for lines in report.lines().collect::<Vec<_>>().windows(2).filter(|lines| lines.iter().all(|l| l.starts_with('|')))
    {
        assert_eq!(lines[0].chars().count(), lines[1].chars().count(), "{report}");
    }
}

const WHOLE: &str = "\
# Training runs

## small VGG on Fashion-MNIST

**The paper's schedule at 50 % of its steps (budget 0.5)**: 30 steps, lower rates from 19 and 25; batch 128; 50,000 training and 10,000 test images; seeds 0, 1; device Cpu; 2 threads; libtorch 2.11.0; tch-svgd 0.1.0.
Rates: sgd 0.1, 0.01, 0.001; adam 0.001, 0.0001, 0.00001.

![small VGG on Fashion-MNIST](tso_alra_vgg_fashion_mnist.svg)

| optimizer                    | seeds | final test error, % | best test error, % | ms/step | optimizer state, bytes | steps |
|------------------------------|------:|--------------------:|-------------------:|--------:|-----------------------:|------:|
| sgd                          |     2 |        10.00 ± 0.71 |       10.00 ± 0.71 |   100.0 |                750,632 |    30 |
| adam, unfinished, at step 10 |     1 |               15.00 |              15.00 |    50.0 |                750,632 |    10 |

Errors: mean over the seeds ± sample standard deviation; best: the least on the test curve, which the test samples chose.

Steps / seconds of training to the first test with this error or less (mean over the seeds that got there):

| optimizer                    |       20 % |       15 % |       12 % |                10 % |
|------------------------------|-----------:|-----------:|-----------:|--------------------:|
| sgd                          | 15 / 1.5 s | 20 / 2.0 s | 30 / 3.0 s | 30 / 3.0 s (1 of 2) |
| adam, unfinished, at step 10 | 10 / 0.5 s | 10 / 0.5 s |          - |                   - |

Test loss, the mean cross-entropy of the test samples:

| optimizer                    |       epoch 0.1 |       epoch 0.1 |       epoch 0.1 |           least | switched at step |
|------------------------------|----------------:|----------------:|----------------:|----------------:|-----------------:|
| sgd                          | 1.2500 ± 0.0000 | 1.2500 ± 0.0000 | 1.2500 ± 0.0000 | 1.2500 ± 0.0000 |                - |
| adam, unfinished, at step 10 |          1.2500 |               - |               - |          1.2500 |                - |

Runs that ended before their time, or have not ended:

- adam, seed 0: unfinished, at step 10
";

/// Whole, so that nothing of it changes unseen: on TSO-ALRA's experiment, which has all that a section may have but published
/// numbers.
#[test]
fn the_report_is_this_to_the_letter() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = |optimizer: &str, seed: u64, rates: [f64; 3]| {
        let changes = json!({
            "experiment": "tso_alra_vgg_fashion_mnist", "model": "small VGG", "data": "Fashion-MNIST",
            "rates": rates, "budget": 0.5, "l1": 0.0
        });
        with(record(optimizer, seed), changes)
    };
    let (sgd, adam) = ([0.1, 0.01, 0.001], [1e-3, 1e-4, 1e-5]);
    write_run(&folder.path().join("a"), experiment("sgd", 0, sgd), &[(10, 21.0, 1.0), (20, 13.0, 2.0), (30, 9.5, 3.0)]);
    write_run(
        &folder.path().join("b"),
        experiment("sgd", 1, sgd),
        &[(10, 18.0, 1.0), (20, 14.0, 2.0), (30, 10.5, 3.0)],
    );
    let unfinished = with(experiment("adam", 0, adam), json!({ "steps": 10, "seconds": 0.5 }));
    write_run(&folder.path().join("c"), unfinished, &[(10, 15.0, 0.5)]);
    run(&mut report(folder.path(), &[".", "--out", "out"]));
    assert_eq!(read(folder.path().join("out/report.md")), WHOLE);
}

/// Runs of five optimizers on the seeds that each has, one of which diverged.
fn write_comparison(folder: &Path) {
    let errors: [(&str, &[(u64, f64)]); 5] = [
        ("sgd", &[(0, 12.0), (1, 11.5), (2, 13.1), (3, 12.2), (4, 11.8)]),
        ("momentum", &[(0, 12.0), (1, 11.0)]),
        ("rmsprop", &[(0, 12.5), (1, 12.0), (2, 13.6), (7, 1.0)]),
        ("adam", &[(1, 12.0), (2, 13.0), (4, 12.9)]),
        ("svgd", &[(0, 11.1), (1, 10.9), (3, 11.6), (4, 11.5)]),
    ];
    for (optimizer, errors) in errors {
        for &(seed, error) in errors {
            write_run(&folder.join(format!("{optimizer}-seed{seed}")), record(optimizer, seed), &[(30, error, 3.0)]);
        }
    }
    let diverged = with(record("svgd", 2), json!({ "steps": 10, "note": "diverged by step 10" }));
    write_run(&folder.join("svgd-seed2"), diverged, &[(10, 90.0, 1.0)]);
}

/// Numbers of scipy 1.17.1 and statsmodels 0.15.0, here for svgd, whose seeds are 0, 1, 3 and 4:
/// `r = stats.ttest_rel([11.1, 10.9, 11.6, 11.5], [12.0, 11.5, 12.2, 11.8]); r.confidence_interval()`, and
/// `multipletests([0.01627660345942852, 0.2857142857142856], method="holm")`.
#[test]
fn differences_are_tested_over_the_seeds_that_both_have() {
    let folder = tempfile::tempdir().unwrap();
    write_comparison(folder.path());
    let text = stdout(&run(&mut report(folder.path(), &["."])));
    assert!(text.contains("\nDifferences to sgd, over paired seeds:\n"), "{text}");
    assert!(text.contains("share initial weights and the order of samples"), "{text}");
    assert!(text.contains("adjusted for the 2 tests") && text.contains("not whole have no part in it"), "{text}");
    for row in [
        ["sgd", "11.37 to 12.87", "-", "-", "-", "-", "-", "-"],
        ["momentum", "-", "2", "-0.25", "-", "-", "-", "-"],
        // Always 0.5 more, which has no t.
        ["rmsprop", "0.41 to 19.14", "3", "+0.50", "+0.50 to +0.50", "-", "-", "-"],
        ["adam", "11.27 to 14.00", "3", "+0.50", "-0.99 to +1.99", "1.44", "0.286", "0.286"],
        ["svgd", "10.75 to 11.80", "4", "-0.60", "-0.99 to -0.21", "-4.90", "0.016", "0.033"],
    ] {
        assert_eq!(cells(&text, row[0])[1], row, "{text}");
    }
    assert_eq!(cells(&text, "svgd, diverged by step 10").len(), 2, "{text}");
    assert!(!text.contains("NaN"), "{text}");
}

#[test]
fn the_baseline_may_be_another() {
    let folder = tempfile::tempdir().unwrap();
    write_comparison(folder.path());
    let text = stdout(&run(&mut report(folder.path(), &[".", "--baseline", "Adam", "--out", "adam"])));
    assert!(text.contains("\nDifferences to adam, over paired seeds:\n"), "{text}");
    // One test alone needs no adjustment.
    assert_eq!(
        cells(&text, "sgd")[1],
        ["sgd", "11.37 to 12.87", "3", "-0.50", "-1.99 to +0.99", "-1.44", "0.286"],
        "{text}"
    );
    assert_eq!(cells(&text, "adam")[1], ["adam", "11.27 to 14.00", "-", "-", "-", "-", "-"], "{text}");
    assert_eq!(cells(&text, "svgd")[1], ["svgd", "10.75 to 11.80", "2", "-1.25", "-", "-", "-"], "{text}");
    assert!(!text.contains("Holm"), "{text}");
    let section = &json_report(&folder.path().join("adam"))["experiments"][0];
    assert_eq!((&section["baseline"], &section["optimizers"][0]["label"]), (&json!("adam"), &json!("sgd")));
    let sgd = &section["optimizers"][0]["difference"];
    assert!(sgd["test"]["p"].is_number() && sgd["p_holm"].is_null(), "{sgd:#}");

    let output = report(folder.path(), &[".", "--baseline", "lion"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("expected one of sgd, momentum, "), "{}", stderr(&output));
    let text = run_refused(&mut report(folder.path(), &[".", "--baseline", "adagrad", "--out", "out"]));
    assert!(
        text.contains("expected a baseline")
            && text.contains("are here sgd, momentum, rmsprop, adam, svgd, got adagrad"),
        "{text}"
    );
    assert!(!folder.path().join("out").exists());
    // One that came to no end is none, and in a section without it the first is compared with.
    let text = run_refused(&mut report(folder.path(), &["svgd-seed2", "sgd-seed0", "--baseline", "svgd"]));
    assert!(text.contains("here sgd, got svgd"), "{text}");
    let mnist = json!({
        "experiment": "mlp_mnist", "model": "MLP", "data": "MNIST", "batch_size": 32, "rates": [0.01, 0.005, 0.001]
    });
    for seed in 0..3 {
        write_run(
            &folder.path().join(format!("mnist{seed}")),
            with(record("svgd", seed), mnist.clone()),
            &[(30, 2.0, 1.0)],
        );
        write_run(
            &folder.path().join(format!("other{seed}")),
            with(record("amsgrad", seed), mnist.clone()),
            &[(30, 2.0, 1.0)],
        );
    }
    let text = stdout(&run(&mut report(folder.path(), &[".", "--baseline", "adam"])));
    assert!(text.contains("Differences to svgd, ") && text.contains("Differences to adam, "), "{text}");
}

fn json_report(folder: &Path) -> Value {
    serde_json::from_str(&read(folder.join("report.json"))).unwrap()
}

#[test]
fn json_has_the_numbers_of_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    write_comparison(folder.path());
    write_seeds(&folder.path().join("more"));
    // Another schedule, another section.
    for seed in 0..3 {
        let path = folder.path().join(format!("more/svgd-seed{seed}/run.json"));
        let record: Value = serde_json::from_str(&read(&path)).unwrap();
        std::fs::write(&path, with(record, json!({ "budget": 0.5 })).to_string()).unwrap();
    }
    let text = stdout(&run(&mut report(folder.path(), &[".", "--out", "out"])));
    let json = json_report(&folder.path().join("out"));
    assert_eq!(json["format"], 1);
    let [whole, half] = json["experiments"].as_array().unwrap().as_slice() else { panic!("{json:#}") };
    for (section, figure, budget) in [(whole, "resnet20_cifar10.svg", 1.0), (half, "resnet20_cifar10-2.svg", 0.5)] {
        assert_eq!(section["experiment"], "resnet20_cifar10");
        assert_eq!((&section["model"], &section["data"]), (&json!("ResNet-20"), &json!("CIFAR-10")));
        assert_eq!((&section["batch_size"], &section["planned_steps"]), (&json!(128), &json!(30)));
        assert_eq!((&section["figure"], &section["budget"]), (&json!(figure), &json!(budget)));
        assert!(folder.path().join("out").join(figure).exists());
    }
    let two = |value: &Value| format!("{:.2}", value.as_f64().unwrap());
    let signed = |value: &Value| format!("{:+.2}", value.as_f64().unwrap());
    let rows = whole["optimizers"].as_array().unwrap();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let tables = cells(&text, row["label"].as_str().unwrap());
        let errors = &row["final_error"];
        let deviation =
            if errors["deviation"].is_null() { String::new() } else { format!(" ± {}", two(&errors["deviation"])) };
        assert_eq!(tables[0][2], two(&errors["mean"]) + &deviation, "{row:#}");
        assert_eq!(tables[0][1], row["seeds"].as_array().unwrap().len().to_string());
        assert_eq!((&row["state_bytes"], &row["steps"]), (&json!(750_632), &row["seeds"][0]["steps"]));
        if tables[1][1].contains("to") {
            let interval = &row["final_error_interval"];
            assert_eq!(tables[1][1], format!("{} to {}", two(&interval["low"]), two(&interval["high"])));
        }
    }
    assert_eq!(whole["baseline"], "sgd");
    let svgd = rows.iter().find(|row| row["label"] == "svgd").unwrap();
    let (of_svgd, table) = (&svgd["difference"], &cells(&text, "svgd")[1]);
    assert_eq!(of_svgd["seeds"], json!([0, 1, 3, 4]));
    assert_eq!(table[3], signed(&of_svgd["points"]["mean"]));
    assert_eq!(
        table[4],
        format!("{} to {}", signed(&of_svgd["interval"]["low"]), signed(&of_svgd["interval"]["high"]))
    );
    assert_eq!(table[5], two(&of_svgd["test"]["t"]));
    assert_eq!(table[6], format!("{:.3}", of_svgd["test"]["p"].as_f64().unwrap()));
    assert_eq!(table[7], format!("{:.3}", of_svgd["p_holm"].as_f64().unwrap()));
    // The baseline has no difference, nor has what came to no end; two pairs have one, and no test.
    let difference = |label: &str| &rows.iter().find(|row| row["label"] == label).unwrap()["difference"];
    assert!(difference("sgd").is_null() && difference("svgd, diverged by step 10").is_null());
    assert!(difference("momentum")["test"].is_null() && difference("momentum")["points"]["mean"] == -0.25);

    // Those of write_seeds, worked out by hand above.
    let row = &half["optimizers"][0];
    assert!(half["baseline"].is_null() && row["difference"].is_null());
    assert_eq!((&row["final_error"]["mean"], &row["final_error"]["least"]), (&json!(13.0), &json!(10.0)));
    assert_eq!(two(&row["best_error"]["mean"]), "12.33");
    assert_eq!(row["paper_error"], 8.62);
    assert_eq!(row["final_test_loss"]["mean"], 1.25);
    assert_eq!(two(&row["ms_per_step"]["mean"]), "144.44");
    assert_eq!(row["crossings"][4], json!({ "error": 10.0, "seeds": 1, "steps": 30.0, "seconds": 3.0 }));
    assert_eq!(row["conditions"]["rates"], json!([0.5, 0.02, 0.01]));
    let seed = json!({
        "seed": 2, "steps": 30, "final_error": 17.0, "best_error": 15.0, "final_test_loss": 1.25, "seconds": 6.0,
        "ms_per_step": 200.0, "state_bytes": 750_632, "cut_short": null
    });
    assert_eq!(row["seeds"][2], seed);
}

/// A number that is none has no JSON.
#[test]
fn json_has_null_for_what_is_no_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    write_run(&path, with(record("svgd", 0), json!({ "steps": 10, "note": "diverged by step 10" })), &[]);
    std::fs::write(path.join("curve.csv"), HEADER.to_owned() + "10,0.1,NaN,inf,90,1\n").unwrap();
    run(&mut report(folder.path(), &[".", "--out", "."]));
    let row = &json_report(folder.path())["experiments"][0]["optimizers"][0];
    assert!(row["final_test_loss"]["mean"].is_null() && row["seeds"][0]["final_test_loss"].is_null(), "{row:#}");
    assert_eq!((&row["final_error"]["mean"], &row["cut_short"]), (&json!(90.0), &json!("diverged by step 10")));
    assert!(read(folder.path().join("report.csv")).contains(",inf,"));
}

#[test]
fn csv_has_a_row_for_each_run() {
    let folder = tempfile::tempdir().unwrap();
    write_seeds(folder.path());
    let constant =
        json!({ "paper": false, "budget": null, "decay_at": null, "data": "a \"b\", c\nd", "rates": [0.25, 0.0, 0.0] });
    write_run(&folder.path().join("sgd"), with(record("sgd", 7), constant), &[(10, 3.0, 1.0), (30, 4.5, 12.0)]);
    run(&mut report(folder.path(), &[".", "--out", "out"]));
    let mut csv = csv::Reader::from_path(folder.path().join("out/report.csv")).unwrap();
    let rows: Vec<std::collections::HashMap<String, String>> = csv.deserialize().map(Result::unwrap).collect();
    let column = |name: &str| -> Vec<&str> { rows.iter().map(|row| row[name].as_str()).collect() };
    assert_eq!(column("optimizer"), ["svgd", "svgd", "svgd", "sgd"]);
    assert_eq!(column("seed"), ["0", "1", "2", "7"]);
    assert_eq!(column("data"), ["CIFAR-10", "CIFAR-10", "CIFAR-10", "a \"b\", c\nd"]);
    assert_eq!(column("label"), ["svgd", "svgd", "svgd", "sgd, rate 0.25"]);
    for (name, svgd, sgd) in [
        ("experiment", "resnet20_cifar10", "resnet20_cifar10"),
        ("model", "ResNet-20", "ResNet-20"),
        ("batch_size", "128", "128"),
        ("planned_steps", "30", "30"),
        ("steps", "30", "30"),
        ("budget", "1.0", ""),
        ("rate", "0.5", "0.25"),
        ("decay_at_1", "19", ""),
        ("rate_1", "0.02", ""),
        ("decay_at_2", "25", ""),
        ("rate_2", "0.01", ""),
        ("scale", "0.01", ""),
        ("device", "Cpu", "Cpu"),
        ("amp", "false", "false"),
        ("state_bytes", "750632", "750632"),
        ("final_test_loss", "1.25", "1.25"),
        ("cut_short", "", ""),
    ] {
        assert_eq!((rows[0][name].as_str(), rows[3][name].as_str()), (svgd, sgd), "{name}");
    }
    let numbers = |name: &str| -> Vec<f64> { rows.iter().map(|row| row[name].parse().unwrap()).collect() };
    assert_eq!(numbers("final_error"), [10.0, 12.0, 17.0, 4.5]);
    assert_eq!(numbers("best_error"), [10.0, 12.0, 15.0, 3.0]);
    assert_eq!(numbers("seconds"), [3.0, 4.0, 6.0, 3.0]);
    assert_eq!(numbers("ms_per_step"), [100.0, 4000.0 / 30.0, 200.0, 100.0]);
}

/// Early stopping ends a run as it was to end: it is compared. The best test is that of the least validation error.
#[test]
fn runs_of_recipes_of_ones_own_are_told_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    write_comparison(folder.path());
    let old = experiments::record::Record::load(&folder.path().join("sgd-seed0")).unwrap();
    for seed in 0..3 {
        let mut record = old.clone();
        record.seed = seed;
        record.conditions.optimizer = experiments::optimizer::OptimizerKind::Adam;
        record.conditions.rates = [1e-3, 1e-4, 5e-5];
        record.conditions.data.validation = 100;
        let recipe = &mut record.conditions.recipe;
        (recipe.warmup, recipe.betas, recipe.label_smoothing) = (5, Some([0.8, 0.99]), 0.1);
        (recipe.clip_norm, recipe.patience) = (Some(2.5), Some(3));
        record.progress.steps = 20 + seed as usize;
        record.progress.note = Some("no better test in 3".to_owned());
        record.id = record.conditions.id();
        let path = folder.path().join(format!("own{seed}"));
        write_run(&path, serde_json::to_value(&record).unwrap(), &[]);
        let curve = format!(
            "{},validation_loss,validation_error\n10,0.1,1,1,9,1,1,7\n{},0.2,1,1,8,2,1,7.5\n",
            HEADER.trim(),
            record.progress.steps
        );
        std::fs::write(path.join("curve.csv"), curve).unwrap();
    }
    run(&mut report(folder.path(), &[".", "--out", "out"]));
    let mut csv = csv::Reader::from_path(folder.path().join("out/report.csv")).unwrap();
    let rows: Vec<std::collections::HashMap<String, String>> = csv.deserialize().map(Result::unwrap).collect();
    let own: Vec<_> = rows.iter().filter(|row| row["patience"] == "3").collect();
    assert_eq!(own.iter().map(|row| row["steps"].as_str()).collect::<Vec<_>>(), ["20", "21", "22"]);
    for (name, value, elsewhere) in [
        ("cosine", "false", "false"),
        ("warmup", "5", "0"),
        ("momentum", "", ""),
        ("beta_1", "0.8", ""),
        ("beta_2", "0.99", ""),
        ("label_smoothing", "0.1", "0.0"),
        ("validation", "100", "0"),
        ("training", "50000", "50000"),
        ("eval_every", "10", "10"),
        ("clip_norm", "2.5", ""),
        ("patience", "3", ""),
        ("best_error", "9.0", "12.0"),
        ("final_error", "8.0", "12.0"),
        ("cut_short", "", ""),
    ] {
        assert_eq!((own[0][name].as_str(), rows[0][name].as_str()), (value, elsewhere), "{name}");
    }
    let json = json_report(&folder.path().join("out"));
    let row =
        json["experiments"][0]["optimizers"].as_array().unwrap().iter().find(|row| row["seeds"][1]["steps"] == 21);
    assert_eq!(row.unwrap()["difference"]["seeds"], json!([0, 1, 2]));
}

#[test]
fn the_page_has_all_that_the_markdown_has_and_needs_no_other_file() {
    let folder = tempfile::tempdir().unwrap();
    write_comparison(folder.path());
    let name = "<script>alert('a & b')</script>";
    let strange = json!({ "data": name, "device": "<i>&amp;", "note": "stopped <b>" });
    write_run(&folder.path().join("strange"), with(record("svgd", 8), strange), &[(30, 10.0, 3.0)]);
    let text = stdout(&run(&mut report(folder.path(), &[".", "--out", "out"])));
    let html = read(folder.path().join("out/report.html"));
    assert!(html.starts_with("<!DOCTYPE html>\n<html lang=\"en\">") && html.contains("<title>Training runs</title>"));
    assert!(html.contains("color-scheme: light dark"));
    for part in ["http", "<script", " src=", " href=", "url(", "@import", "<i>", "<b>", "xmlns"] {
        assert!(!html.contains(part), "'{part}' is in {html}");
    }
    for part in [
        "<h2>ResNet-20 on &lt;script&gt;alert(&#39;a &amp; b&#39;)&lt;/script&gt;</h2>",
        "device &lt;i&gt;&amp;amp;;",
        "<li>svgd, seed 8: stopped &lt;b&gt;</li>",
        "<caption>Differences to sgd, over paired seeds</caption>",
    ] {
        assert!(html.contains(part), "'{part}' is not in {html}");
    }
    // Each figure once, with words for those who do not see it.
    assert_eq!(names(&folder.path().join("out")).iter().filter(|file| file.ends_with(".svg")).count(), 2);
    assert_eq!(html.matches("<svg").count(), 2);
    assert_eq!(html.matches("<svg role=\"img\" aria-label=\"ResNet-20 on ").count(), 2);
    let figure = read(folder.path().join("out/resnet20_cifar10.svg"));
    assert!(html.contains(&figure[figure.find("\n").unwrap()..]), "the figure is the one in the file");
    // Every cell of every table, in its order.
    let cells: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>())
        .collect();
    let pieces = html.split("<th scope=\"col\">").flat_map(|piece| piece.split("<th scope=\"row\">"));
    let pieces = pieces.flat_map(|piece| piece.split("<td>")).skip(1);
    assert_eq!(html.matches("<tr><th scope=\"col\">").count(), html.matches("<thead>").count());
    assert_eq!(
        html.matches("<tr><th scope=\"row\">").count() + html.matches("<thead>").count(),
        html.matches("<tr>").count()
    );
    let in_page = pieces.map(|piece| {
        piece.split_once("</t").unwrap().0.replace("&lt;", "<").replace("&gt;", ">").replace("&#39;", "'")
    });
    assert_eq!(in_page.collect::<Vec<_>>(), cells);
}

#[test]
fn one_seed_has_no_deviation_and_a_level_that_nobody_reached_a_dash() {
    let folder = tempfile::tempdir().unwrap();
    write_run(&folder.path().join("a"), record("momentum", 7), &[(30, 45.678, 12.4)]);
    let text = stdout(&run(&mut report(folder.path(), &["."])));
    assert!(!text.contains('±') && text.contains("seed 7;"), "{text}");
    // The paper's table has no momentum.
    assert_eq!(cells(&text, "momentum")[0], ["momentum", "1", "45.68", "45.68", "-", "100.0", "750,632", "30"]);
    assert_eq!(cells(&text, "momentum")[1], ["momentum", "30 / 12 s", "-", "-", "-", "-"]);
}

#[test]
fn the_authors_curves_stand_beside_ours() {
    let folder = tempfile::tempdir().unwrap();
    write_seeds(&folder.path().join("runs"));
    write_run(&folder.path().join("runs/sgd"), record("sgd", 0), &[(30, 45.0, 12.0)]);
    let mnist = json!({
        "experiment": "mlp_mnist", "model": "MLP", "data": "MNIST", "batch_size": 32, "rates": [0.01, 0.005, 0.001],
        "scale": 0.1
    });
    write_run(&folder.path().join("runs/mnist"), with(record("svgd", 0), mnist), &[(30, 2.0, 1.0)]);
    write_reference(&folder.path().join("authors"));
    let output = run(&mut report(folder.path(), &["runs", "--reference", "authors", "--out", "out"]));
    let text = stdout(&output);
    // MNIST comes first, as in the paper; its accuracies are shares of 1.
    let (mnist, resnet) = text.split_once("## ResNet-20 on CIFAR-10").unwrap();
    assert!(mnist.contains("## MLP on MNIST"), "{text}");
    assert_eq!(cells(mnist, "svgd")[0][4..6], ["1.60", "1.75, 1.75"], "{text}");
    assert_eq!(cells(mnist, "svgd, authors' log")[0][1..], ["10 / 2.0 s"; 4], "{text}");
    assert_eq!(cells(resnet, "svgd")[0][4..6], ["8.62", "8.75, 8.50"], "{text}");
    let levels = ["10 / 9.5 s", "10 / 9.5 s", "20 / 20 s", "20 / 20 s", "20 / 20 s"];
    assert_eq!(cells(resnet, "svgd, authors' log")[0][1..], levels, "{text}");
    // Of SGD there is no file here.
    assert_eq!(cells(resnet, "sgd")[0][4..6], ["10.69", "-"], "{text}");
    let left_out = stderr(&output);
    assert!(left_out.contains("resnet_sgd.csv") && left_out.contains("left out"), "{left_out}");
    assert!(!left_out.contains("_so.csv"), "{left_out}");
    let files = ["mlp_mnist.svg", "report.csv", "report.html", "report.json", "report.md", "resnet20_cifar10.svg"];
    assert_eq!(names(&folder.path().join("out")), files);

    std::fs::write(folder.path().join("authors/resnet_so.csv"), ",datetime,loss,accuracy\n0,yesterday,1,2\n").unwrap();
    let text = run_refused(&mut report(folder.path(), &["runs", "--reference", "authors"]));
    for part in ["resnet_so.csv", "line 2: expected a datetime", "'yesterday'"] {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
    std::fs::write(folder.path().join("authors/resnet_so.csv"), ",datetime,loss\n").unwrap();
    let text = run_refused(&mut report(folder.path(), &["runs", "--reference", "authors"]));
    assert!(text.contains("expected a column accuracy, got ',datetime,loss'"), "{text}");
    let text = run_refused(&mut report(folder.path(), &["runs", "--reference", "nowhere"]));
    assert!(text.contains("nowhere: expected a folder with the authors' curves"), "{text}");
    let text = run_refused(&mut report(folder.path(), &["runs", "--reference", "runs"]));
    assert!(text.contains("runs: expected the authors' curves of these runs, found none of them"), "{text}");
}

#[test]
fn unlike_budgets_are_not_averaged() {
    let folder = tempfile::tempdir().unwrap();
    write_run(&folder.path().join("whole"), record("svgd", 0), &[(30, 10.0, 3.0)]);
    let share = json!({ "budget": 0.0312, "planned_steps": 3, "steps": 3, "decay_at": [1, 2] });
    write_run(&folder.path().join("share"), with(record("svgd", 1), share), &[(3, 50.0, 0.3)]);
    write_run(&folder.path().join("half"), with(record("svgd", 3), json!({ "budget": 0.5 })), &[(30, 20.0, 3.0)]);
    let other = json!({ "paper": false, "budget": null, "decay_at": null });
    write_run(&folder.path().join("other"), with(record("svgd", 2), other), &[(30, 30.0, 3.0)]);
    write_reference(&folder.path().join("authors"));
    let text = stdout(&run(&mut report(folder.path(), &[".", "--reference", "authors", "--out", "."])));
    let finals: Vec<String> = cells(&text, "svgd").iter().step_by(2).map(|row| row[2].clone()).collect();
    assert_eq!(finals, ["10.00", "20.00", "50.00", "30.00"], "{text}");
    assert!(text.contains("**The paper's schedule at 3.12 % of its steps (budget 0.0312)**: 3 steps"), "{text}");
    assert!(text.contains("**Not the paper's schedule**: 30 steps at a constant rate"), "{text}");
    let headers = cells(&text, "optimizer");
    let mark = "(of the whole schedule)";
    for (table, marked) in [(0, false), (2, true), (4, true), (6, true)] {
        let published: Vec<_> = headers[table].iter().filter(|cell| cell.contains("'")).collect();
        assert_eq!(published.len(), 2, "{text}");
        assert!(published.iter().all(|cell| cell.contains(mark) == marked), "{published:?}");
    }
    assert_eq!(cells(&text, &format!("svgd, authors' log {mark}")).len(), 3, "{text}");
    let figure = read(folder.path().join("resnet20_cifar10-3.svg"));
    assert!(figure.contains("3.12 % of its steps (budget 0.0312), 1 seed"), "{figure}");
    assert!(folder.path().join("resnet20_cifar10-4.svg").exists());
}

#[test]
fn unlike_conditions_are_rows_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let amp = json!({ "amp": true, "loss_scale": 1024.0, "device": "Cuda(0)" });
    let variants = [
        ("plain", json!({}), "svgd, Cpu, rates 0.5, 0.02, 0.01, scale 0.01"),
        ("amp", amp, "svgd, Cuda(0), AMP, loss scale 1024, rates 0.5, 0.02, 0.01, scale 0.01"),
        ("rates", json!({ "rates": [0.25, 0.02, 0.01] }), "svgd, Cpu, rates 0.25, 0.02, 0.01, scale 0.01"),
        ("scale", json!({ "scale": 0.1 }), "svgd, Cpu, rates 0.5, 0.02, 0.01, scale 0.1"),
    ];
    for (number, (name, changes, _)) in variants.iter().enumerate() {
        let rows = [(30, 10.0 + number as f64, 3.0)];
        write_run(&folder.path().join(name), with(record("svgd", number as u64), changes.clone()), &rows);
    }
    let text = stdout(&run(&mut report(folder.path(), &["."])));
    for (number, (_, _, label)) in variants.iter().enumerate() {
        let error = format!("{}.00", 10 + number);
        assert_eq!(cells(&text, label)[0][1..3], ["1", error.as_str()], "{text}");
    }
    assert!(text.contains("device Cpu or Cuda(0);"), "{text}");
    assert!(text.contains("svgd 0.25, 0.02, 0.01, scale 0.01 (not the paper's)"), "{text}");
}

#[test]
fn other_data_have_no_column_of_the_paper() {
    let folder = tempfile::tempdir().unwrap();
    let digits = json!({ "data": "digits", "training_images": 1437, "test_images": 360 });
    write_run(&folder.path().join("a"), with(record("svgd", 0), digits), &[(30, 10.0, 3.0)]);
    write_reference(&folder.path().join("authors"));
    let text = stdout(&run(&mut report(folder.path(), &[".", "--reference", "authors", "--out", "."])));
    assert!(text.contains("## ResNet-20 on digits") && text.contains("not the paper's data"), "{text}");
    let header = ["optimizer", "seeds", "final test error, %", "best test error, %", "ms/step"];
    assert_eq!(cells(&text, "optimizer")[0][..5], header, "{text}");
    assert!(!text.contains("8.62") && !text.contains("authors"), "{text}");
    assert!(json_report(folder.path())["experiments"][0]["optimizers"][0]["paper_error"].is_null());
    assert!(!read(folder.path().join("resnet20_cifar10.svg")).contains("authors"));
}

#[test]
fn runs_that_ended_early_are_told_and_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    write_seeds(folder.path());
    let diverged = json!({ "steps": 10, "note": "diverged by step 10" });
    let path = folder.path().join("svgd-seed3");
    write_run(&path, with(record("svgd", 3), diverged), &[]);
    std::fs::write(path.join("curve.csv"), HEADER.to_owned() + "10,0.1,NaN,inf,90,1\n").unwrap();
    let interrupted = json!({ "steps": 0, "seconds": 0.0, "note": "interrupted at step 0" });
    write_run(&folder.path().join("adam"), with(record("adam", 0), interrupted), &[]);
    let under_way = with(record("svgd", 4), json!({ "steps": 20 }));
    write_run(&folder.path().join("svgd-seed4"), under_way, &[(10, 50.0, 1.0), (20, 35.0, 2.0)]);
    let slow = json!({ "steps": 20, "rates": [0.25, 0.01, 0.005] });
    write_run(&folder.path().join("slow"), with(record("svgd", 5), slow), &[(10, 55.0, 1.0), (20, 45.0, 2.0)]);
    let output = report(folder.path(), &[".", "--out", "."]).output().unwrap();
    let (text, left_out) = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(1));
    // No row is no seed.
    assert!(
        left_out.contains("left out: ./adam: has no test yet") && cells(&text, "adam").is_empty(),
        "{left_out}{text}"
    );
    // One that was killed between a test and its record, or behind it, is told as of its last test.
    let killed =
        [(0, json!({ "steps": 10 })), (1, json!({ "steps": 20, "seconds": 2.0 })), (2, json!({ "steps": 27 }))];
    for (seed, progress) in killed {
        let killed = with(record("sgd", seed), progress);
        write_run(&folder.path().join(format!("killed{seed}")), killed, &[(10, 60.0, 1.0), (20, 30.0, 2.0)]);
    }
    let told = stdout(&run(&mut report(folder.path(), &["killed0", "killed1", "killed2"])));
    let row = &cells(&told, "sgd, unfinished, at step 20")[0];
    assert_eq!(row[1..4], ["3", "30.00 ± 0.00", "30.00 ± 0.00"], "{told}");
    // Of one whose record tells of its tests these alone count, which --resume knows of, too.
    let path = folder.path().join("known");
    write_run(&path, record("sgd", 9), &[(10, 60.0, 1.0)]);
    let mut known = experiments::record::Record::load(&path).unwrap();
    (known.progress.steps, known.progress.seconds) = (10, 1.0);
    let rows = experiments::curve::read_curve(&path.join("curve.csv")).unwrap();
    known.progress.digests = Some(experiments::record::Digests::new(&rows, None).unwrap());
    write_run(&path, serde_json::to_value(known).unwrap(), &[(10, 60.0, 1.0), (20, 30.0, 2.0)]);
    let told = stdout(&run(&mut report(folder.path(), &["known"])));
    assert_eq!(cells(&told, "sgd, unfinished, at step 10")[0][1..4], ["1", "60.00", "60.00"], "{told}");
    std::fs::remove_dir_all(&path).unwrap();
    let with_rate = |rest: &str| cells(&text, &format!("svgd, rates 0.5, 0.02, 0.01{rest}"))[0][1..3].to_vec();
    assert_eq!(with_rate(""), ["3", "13.00 ± 3.61"], "{text}");
    assert_eq!(with_rate(", unfinished, at step 20"), ["1", "35.00"], "{text}");
    assert_eq!(with_rate(", diverged by step 10"), ["1", "90.00"], "{text}");
    // Each by what tells it from the others.
    for line in ["0.5, 0.02, 0.01, seed 3: diverged by step 10", "0.25, 0.01, 0.005, seed 5: unfinished, at step 20"] {
        assert!(text.contains(&format!("- svgd, rates {line}\n")), "{text}");
    }
    let figure = read(folder.path().join("resnet20_cifar10.svg"));
    assert!(!figure.contains("NaN") && !figure.contains("inf"), "{figure}");
}

#[test]
fn the_figure_has_a_title_a_legend_and_dashes_for_the_authors() {
    let folder = tempfile::tempdir().unwrap();
    write_seeds(folder.path());
    write_run(&folder.path().join("sgd"), record("sgd", 0), &[(10, 60.0, 1.0), (30, 45.0, 12.0)]);
    write_reference(&folder.path().join("authors"));
    let figure = |arguments: &[&str]| {
        run(&mut report(folder.path(), arguments));
        read(folder.path().join("out/resnet20_cifar10.svg"))
    };
    let alone = figure(&[".", "--out", "out"]);
    let beside = figure(&[".", "--out", "out", "--reference", "authors"]);
    let texts = |svg: &str| -> Vec<String> {
        let lines = svg.lines().filter(|line| !line.starts_with('<'));
        lines.map(|line| line.trim().replace("&apos;", "'")).collect()
    };
    for svg in [&alone, &beside] {
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        let texts = texts(svg);
        for part in [
            "ResNet-20 on CIFAR-10: the paper's schedule, 1 to 3 seeds",
            "svgd",
            "sgd",
            "mean over the seeds; band: least to largest",
            "cross-entropy in training",
            "the rate falls",
            "training steps",
            "seconds of training",
        ] {
            assert!(texts.iter().any(|text| text == part), "'{part}' is not in {texts:?}");
        }
    }
    let authors = "authors' log (its seconds: one GPU, tests and pauses included)";
    assert!(!texts(&alone).iter().any(|text| text.contains("authors")));
    assert!(texts(&beside).iter().any(|text| text == authors), "{:?}", texts(&beside));
    // A dash is a thin line in the colour of the optimizer.
    let dashes = |svg: &str| {
        let lines = svg.lines().filter(|line| line.starts_with("<polyline") && line.contains("#D55E00"));
        lines.filter(|line| line.contains("opacity=\"1\"") && line.contains("stroke-width=\"1\"")).count()
    };
    assert_eq!(dashes(&alone), 0);
    assert!(dashes(&beside) > 20, "{} dashes", dashes(&beside));
}

/// A number may be anything that a file says.
#[test]
fn no_number_is_too_large_or_too_small_for_a_figure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("svgd");
    for row in ["1e308,0.2,5,0.2", "0.5,1e308,5,0.2", "0.5,1e-320,5,0.2", "0.5,0.5,1e308,0.2", "0.5,0.5,5,1e308"] {
        write_run(&path, record("svgd", 0), &[]);
        std::fs::write(path.join("curve.csv"), format!("{HEADER}10,1,0.5,0.5,7,0.1\n30,4,{row}\n")).unwrap();
        let mut child = report(folder.path(), &["svgd", "--out", "out"]).stdout(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("{row}: no end");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(child.wait().unwrap().success(), "{row}");
    }
}

/// Of two curves on one another that of Adam, drawn later, is dashed where it would hide that of SGD, and there alone.
#[test]
fn a_curve_that_would_hide_another_is_dashed() {
    let lines_of_adam = |apart: f64| {
        let folder = tempfile::tempdir().unwrap();
        let rows = |more: f64| [(10, 60.0 + more, 1.0), (20, 50.0 + more, 2.0), (30, 40.0, 3.0)];
        write_run(&folder.path().join("sgd"), record("sgd", 0), &rows(0.0));
        write_run(&folder.path().join("adam"), record("adam", 0), &rows(apart));
        run(&mut report(folder.path(), &[".", "--out", "out"]));
        let svg = read(folder.path().join("out/resnet20_cifar10.svg"));
        // In the first panel, which is the upper left one.
        let wide = |line: &&str| {
            line.starts_with("<polyline") && line.contains("#009E73") && line.contains("stroke-width=\"2\"")
        };
        let first = |line: &str| {
            let at = line.split_once("points=\"").unwrap().1.split_once([' ', '"']).unwrap().0;
            at.split_once(',').map(|(x, y)| (x.parse::<i32>().unwrap(), y.parse::<i32>().unwrap())).unwrap()
        };
        svg.lines().filter(wide).map(first).filter(|&(x, y)| x < 550 && y < 388).count()
    };
    assert_eq!(lines_of_adam(5.0), 1);
    assert!(lines_of_adam(0.0) > 10, "{} dashes", lines_of_adam(0.0));
}

#[test]
fn runs_are_found_at_any_depth_and_count_once() {
    let folder = tempfile::tempdir().unwrap();
    write_seeds(&folder.path().join("a/b/c"));
    for skipped in [".old", "checkpoints"] {
        std::fs::create_dir_all(folder.path().join("a").join(skipped)).unwrap();
        std::fs::write(folder.path().join("a").join(skipped).join("run.json"), "{").unwrap();
    }
    let text = stdout(&run(&mut report(folder.path(), &["a", "a/b", "a/b/c/svgd-seed1"])));
    assert_eq!(cells(&text, "svgd")[0][1], "3", "{text}");

    // Behind a link, and round in a circle.
    #[cfg(unix)]
    {
        std::fs::create_dir(folder.path().join("linked")).unwrap();
        std::os::unix::fs::symlink("../a/b/c/svgd-seed1", folder.path().join("linked/here")).unwrap();
        std::os::unix::fs::symlink("..", folder.path().join("linked/round")).unwrap();
        let text = stdout(&run(&mut report(folder.path(), &["linked"])));
        assert_eq!(cells(&text, "svgd")[0][1], "3", "{text}");
    }

    // The same seed in another folder is no further sample.
    write_seeds(&folder.path().join("again"));
    let output = report(folder.path(), &["a", "again"]).output().unwrap();
    assert_eq!(cells(&stdout(&output), "svgd")[0][1], "3");
    let text = stderr(&output);
    for part in ["a/b/c/svgd-seed0", "again/svgd-seed0", "svgd with seed 0 under the same conditions"] {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
}

#[test]
fn a_folder_without_runs_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let text = run_refused(&mut report(folder.path(), &["empty"]));
    assert!(text.contains("empty: expected a folder with runs") && text.contains("found none"), "{text}");
    let text = run_refused(&mut report(folder.path(), &["nowhere"]));
    assert!(text.contains("nowhere: cannot be read"), "{text}");
    let text = run_refused(&mut report(folder.path(), &[]));
    assert!(text.contains("RUN_DIR"), "{text}");
    assert_eq!(names(folder.path()), ["empty"]);
    assert!(names(&folder.path().join("empty")).is_empty());
}

#[test]
fn damaged_runs_are_named_and_the_old_report_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("svgd");
    let good = record("svgd", 0).to_string();
    let curve = HEADER.to_owned() + "10,0.1,1,1,20,1\n";
    std::fs::create_dir(&path).unwrap();
    std::fs::write(folder.path().join("report.md"), "old").unwrap();
    let without_seed = good.replace("\"seed\"", "\"seeed\"");
    let unknown = good.replace("resnet20_cifar10", "resnet1000");
    let newer = good.replace("\"format\":1", "\"format\":9");
    let half = &good[..good.len() / 2];
    let optimizer = good.replace("\"svgd\"", "\"lion\"");
    for (record, curve, parts) in [
        (half, curve.as_str(), &["run.json", "expected the record of a run as JSON"][..]),
        (&without_seed, &curve, &["run.json", "missing field `seed`"]),
        (&unknown, &curve, &["run.json", "expected an experiment of mlp_mnist, ", "got 'resnet1000'"]),
        (&newer, &curve, &["run.json", "expected format 1 or 2, got 9"]),
        (&optimizer, &curve, &["run.json", "lion"]),
        (&good, "", &["curve.csv", "expected the columns step,epoch,", "got ''"]),
        (&good, &(curve.clone() + "20,0.2,1,1,10,inf\n"), &["curve.csv", "line 3: expected seconds", "got inf"]),
        (&good, "step,error\n1,2\n", &["curve.csv", "expected the columns step,epoch,", "got 'step,error'"]),
        (&good, &(curve.clone() + "20,0.2,1,1,much,2\n"), &["curve.csv", "line 3", "got '20,0.2,1,1,much,2'"]),
        (&good, &(curve.clone() + "\n\n20,0.2,1,1,much,2\n"), &["curve.csv", "line 5", "got '20,0.2,1,1,much,2'"]),
        (&good, &(curve.clone() + "20,0.2,1"), &["curve.csv", "line 3", "got '20,0.2,1'"]),
        (&good, &(curve.clone() + "10,0.2,1,1,3,2\n"), &["curve.csv", "line 3: expected a step after 10, got 10"]),
    ] {
        std::fs::write(path.join("run.json"), record).unwrap();
        std::fs::write(path.join("curve.csv"), curve).unwrap();
        let text = run_refused(&mut report(folder.path(), &[".", "--out", "."]));
        for part in parts.iter().chain(&["svgd/"]) {
            assert!(text.contains(part), "'{part}' is not in: {text}");
        }
        assert!(!text.contains("panicked"), "{text}");
    }
    std::fs::remove_file(path.join("curve.csv")).unwrap();
    let text = run_refused(&mut report(folder.path(), &[".", "--out", "."]));
    assert!(text.contains("curve.csv") && text.contains("cannot be read"), "{text}");
    assert_eq!(names(folder.path()), ["report.md", "svgd"]);
    assert_eq!(read(folder.path().join("report.md")), "old");

    // And when all is well it is replaced, with nothing left beside.
    write_run(&path, record("svgd", 0), &[(30, 20.0, 3.0)]);
    run(&mut report(folder.path(), &[".", "--out", "."]));
    let files = ["report.csv", "report.html", "report.json", "report.md", "resnet20_cifar10.svg", "svgd"];
    assert_eq!(names(folder.path()), files);
    assert!(read(folder.path().join("report.md")).starts_with("# Training runs\n"));
}

#[test]
fn one_that_is_damaged_leaves_the_others_in_the_report() {
    let folder = tempfile::tempdir().unwrap();
    write_seeds(folder.path());
    std::fs::write(folder.path().join("svgd-seed1/curve.csv"), "").unwrap();
    let output = report(folder.path(), &["."]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(cells(&stdout(&output), "svgd")[0][1], "2");
    let text = stderr(&output);
    assert!(text.contains("left out: ./svgd-seed1/curve.csv: expected the columns"), "{text}");
    let text = run_refused(&mut report(folder.path(), &[".", "--strict", "--out", "out"]));
    assert!(text.contains("--strict: 1 runs would be left out"), "{text}");
    assert!(!folder.path().join("out").exists());
}

/// A reader who closes the pipe has seen enough.
#[cfg(unix)]
#[test]
fn what_a_killed_program_has_left_half_written_goes_and_what_another_writes_stays() {
    let folder = tempfile::tempdir().unwrap();
    write_seeds(folder.path());
    let [old, new] = ["old", "new"].map(|name| folder.path().join(format!(".writing-{name}")));
    for path in [&old, &new] {
        std::fs::write(path, "half").unwrap();
    }
    let file = std::fs::File::options().write(true).open(&old).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(7200)).unwrap();
    run(report(folder.path(), &["."]).args(["--out", "."]));
    assert!(!old.exists() && new.exists());
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    write_seeds(folder.path());
    let mut child = report(folder.path(), &["."]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

/// Records outlive programs: a condition that is new leaves the digests of those of before as they are.
#[test]
fn the_published_runs_are_read() {
    let published = root().join("../../docs/results");
    let found = experiments::run::load_all(&[published]).unwrap();
    assert!(found.left_out.is_empty() && found.runs.len() > 200, "{:?}", found.left_out);
}

/// As the programs of now write them, with a digest.
#[test]
fn records_of_two_formats_are_of_one_thing_where_their_conditions_are() {
    let folder = tempfile::tempdir().unwrap();
    write_seeds(folder.path());
    let old = experiments::record::Record::load(&folder.path().join("svgd-seed0")).unwrap();
    let write = |name: &str, seed: u64, change: &dyn Fn(&mut experiments::record::Record)| {
        let mut record = old.clone();
        record.seed = seed;
        record.conditions.data.digest = Some("0123456789abcdef0123456789abcdef".to_owned());
        record.machine.instructions = Some("avx2".to_owned());
        change(&mut record);
        record.id = record.conditions.id();
        write_run(&folder.path().join(name), serde_json::to_value(record).unwrap(), &[(10, 9.0, 1.0), (30, 13.0, 3.0)]);
    };
    write("new", 3, &|_| {});
    let text = stdout(&run(&mut report(folder.path(), &["."])));
    assert_eq!(cells(&text, "svgd")[0][1..3], ["4", "13.00 ± 2.94"], "{text}");
    // Of other data of the same name, or with another penalty, it is another thing.
    write("new", 3, &|record| record.conditions.weight_decay = 1e-4);
    let text = stdout(&run(&mut report(folder.path(), &["."])));
    assert_eq!(cells(&text, "svgd, weight decay 1e-4").first().map(|row| row[1].as_str()), Some("1"), "{text}");
    write("new", 3, &|_| {});
    write("newer", 4, &|record| record.conditions.data.name = "CIFAR-10 (unverified, ffffffff)".to_owned());
    let text = stdout(&run(&mut report(folder.path(), &["new", "newer"])));
    assert_eq!(text.matches("\n## ResNet-20 on CIFAR-10").count(), 2, "{text}");
    // A processor of another kind rounds otherwise; it is told, and is no other thing.
    write("newer", 4, &|record| record.machine.instructions = Some("avx512".to_owned()));
    let text = stdout(&run(&mut report(folder.path(), &["new", "newer"])));
    assert!(cells(&text, "svgd")[0][1] == "2" && text.contains("avx2 or avx512"), "{text}");
    // One that was gone on with at other steps is compared with none.
    write("newer", 4, &|record| record.progress.eval_every = 0);
    let text = stdout(&run(&mut report(folder.path(), &["new", "newer"])));
    assert!(!cells(&text, "svgd, tests at steps of its own").is_empty(), "{text}");
}

/// What is left of a run is told, and a curve that ends before its run is no curve of it.
#[test]
fn what_is_left_of_a_run_is_not_passed_over_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    write_seeds(folder.path());
    std::fs::remove_file(folder.path().join("svgd-seed0/run.json")).unwrap();
    let short = read(folder.path().join("svgd-seed1/curve.csv"));
    let rows: Vec<&str> = short.lines().collect();
    std::fs::write(folder.path().join("svgd-seed1/curve.csv"), rows[..3].join("\n")).unwrap();
    let output = report(folder.path(), &["."]).output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("left out: ./svgd-seed0: is a run without run.json"), "{text}");
    assert!(
        text.contains("svgd-seed1/curve.csv: expected rows to step 30") && text.contains("got the last of step 20"),
        "{text}"
    );
    assert_eq!(cells(&stdout(&output), "svgd")[0][1], "1");
    // Nobody listens.
    if let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") {
        let output = report(folder.path(), &["."]).stderr(full).output().unwrap();
        assert_eq!(cells(&stdout(&output), "svgd")[0][1], "1");
    }
}
