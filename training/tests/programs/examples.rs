//! What the programs train, and what they leave.

use crate::common::*;
use crate::programs::*;

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
    let arguments = words("--data digits --steps 2 --eval-every 1 --batch-size 16 --out out --optimizer");
    let output = run(resnet(folder.path(), &arguments).arg(&names));
    let text = stdout(&output);
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
        let record = record(&run);
        let (conditions, progress) = (&record["conditions"], &record["progress"]);
        assert_eq!(conditions["data"]["name"], "digits");
        assert_eq!(conditions["data"]["digest"].as_str().unwrap().len(), 32);
        assert_eq!((&conditions["batch_size"], &progress["steps"]), (&16.into(), &2.into()));
        assert_eq!(conditions["parameters"], 269_722);
        assert_eq!(progress["state_bytes"], state_bytes, "{optimizer}");
        assert!(progress["wall_seconds"].as_f64().unwrap() >= progress["seconds"].as_f64().unwrap());
        assert!(record["origin"]["command"].as_str().unwrap().contains("--batch-size 16"), "{record}");
        if cfg!(target_os = "linux") {
            for (part, name) in
                [("machine", "cpu"), ("machine", "instructions"), ("origin", "host"), ("origin", "started")]
            {
                assert!(record[part][name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {record}");
            }
            assert!(progress["peak_memory_bytes"].as_u64().unwrap() > 10_000_000, "{record}");
        }
        assert!(text.lines().any(|line| line.starts_with(&format!("| {optimizer} "))), "{text}");
    }
    assert_eq!(
        read(out.join("report.md")).trim(),
        text[text.find("# Training runs").unwrap()..text.find("runs: out").unwrap()].trim()
    );
    let svg = read(out.join("resnet20_cifar10.svg"));
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.contains("ResNet-20 on digits"));
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), optimizers.len() + 5, "nothing is left beside");
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
        assert!(text.contains(&budget), "{text}");
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
fn a_graph_that_cannot_be_captured_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = words("--data digits --steps 3 --device cpu --optimizer svgd --cuda-graph --out out");
    let output = mlp(folder.path(), &arguments).output().unwrap();
    let text = stderr(&output);
    assert!(text.contains("--cuda-graph: expected a GPU, got Cpu"), "{text}");
    assert_eq!(output.status.code(), Some(2));
    assert!(!folder.path().join("out").exists());
}

#[test]
fn divergence_ends_the_run_with_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let arguments =
        words("--data digits --optimizer sgd,svgd --lr 1e30 --steps 60 --batch-size 8 --checkpoint-every 1 --out out");
    let output = resnet(folder.path(), &arguments).output().unwrap();
    let (text, failed) = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(1), "{text}{failed}");
    assert!(text.contains("svgd-seed0: ") && text.contains("final test error"), "the others are run: {text}");
    let run = folder.path().join("out/sgd-seed0");
    let rows = rows(&read(run.join("curve.csv")));
    assert_eq!(rows.len(), 1, "the test at the end");
    // In the step that it is told of, and in none before.
    let step = rows[0][0] as usize;
    assert!(failed.contains(&format!("failed: sgd-seed0 (diverged at step {step})")), "{failed}");
    assert!((2..10).contains(&step), "a rate like this one takes a step or two: {step}");
    // What is kept is of the steps before.
    let kept = run.join(format!("checkpoints/step-{:09}", step - 1));
    assert!(kept.exists() && !run.join(format!("checkpoints/step-{step:09}")).exists());
    // Weights that are no numbers are nobody's best.
    assert!(!run.join("best.safetensors").exists());
    assert!(
        text.lines().any(|line| line.starts_with("| sgd,") && line.contains("90.28 |                  - |")),
        "{text}"
    );
    // It is told again, and not trained again.
    let output = resnet(folder.path(), &arguments).arg("--resume").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("sgd-seed0: had come to its end before"), "{}", stdout(&output));
}

/// On the digits, whose images are those of the data sets that they stand for.
#[test]
fn deep_networks_train_on_normalized_gradients() {
    let folder = tempfile::tempdir().unwrap();
    for (program, more, experiment, rates) in [
        ("bng_mlp", "--depth 18 --init torch --steps 30", "bng_mlp18_torch", "adam-ng 0.001"),
        ("bng_mlp", "--depth 6 --steps 30", "bng_mlp6", "adam-ng 0.001"),
        ("bng_resnet", "--depth 20 --steps 1 --batch-size 16", "bng_resnet20", "adam-ng 0.001"),
    ] {
        let arguments = format!("--data digits --optimizer adam-ng {more}");
        let text = stdout(&run(&mut training(program, folder.path(), &words(&arguments))));
        assert!(text.contains("final test error") && text.contains(rates), "{text}");
        assert!(folder.path().join(format!("runs/{experiment}/{experiment}.svg")).exists(), "{text}");
    }
    let refused = run_refused(&mut training("bng_mlp", folder.path(), &words("--depth 7")));
    assert!(refused.contains("[possible values: 6, 12, 18]"), "{refused}");
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
    std::fs::remove_file(checkpoints.with_file_name("run.json")).unwrap();
    let text = train("--resume");
    assert!(text.contains("goes on from the checkpoint of step 10") && text.contains(switched), "{text}");
    assert!(record().contains("\"switched_at\": 12"), "{}", record());
    assert!(whole == last());
}

#[test]
fn what_tso_alra_cannot_do_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = run_refused(&mut mlp(folder.path(), &words("--data digits --steps 2 --optimizer tso-alra-switch")));
    assert!(text.contains("--optimizer tso-alra-switch") && text.contains("hold some out with --validation"), "{text}");
    let text =
        run_refused(&mut mlp(folder.path(), &words("--data digits --steps 2 --optimizer tso-alra --cuda-graph")));
    assert!(text.contains("--cuda-graph") && text.contains("tso-alra"), "{text}");
    assert!(!folder.path().join("runs").exists());
}
