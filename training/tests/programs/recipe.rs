//! What a run may have that the papers' recipes have not.

use crate::common::*;
use crate::programs::*;
use std::path::Path;
use std::process::Command;

fn train(folder: &Path, arguments: &str) -> Command {
    mlp(folder, &words(&format!("--data digits --optimizer sgd {arguments}")))
}

/// The columns of a curve with validation: step, test error, validation error.
fn errors(run: &Path) -> Vec<[f64; 3]> {
    rows(&read(run.join("curve.csv"))).iter().map(|row| [row[0], row[4], row[7]]).collect()
}

/// The first of the least.
fn best(errors: &[[f64; 3]], by: usize) -> [f64; 3] {
    *errors.iter().min_by(|left, right| left[by].total_cmp(&right[by])).unwrap()
}

#[test]
fn the_best_weights_are_chosen_by_the_samples_that_are_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let options = "--steps 120 --eval-every 10 --lr 0.3 --validation 0.03 --out out";
    let text = stdout(&run(&mut train(folder.path(), options)));
    assert!(text.contains("1394 training images, 43 for validation"), "{text}");
    assert!(
        text.contains("validation error") && text.contains("of the test whose validation error is the least"),
        "{text}"
    );
    let sgd = folder.path().join("out/sgd-seed0");
    let errors = errors(&sgd);
    let (chosen, flattering) = (best(&errors, 2), best(&errors, 1));
    assert!(chosen[1] > flattering[1], "the test must tell the two apart: {errors:?}");
    // The row of the table: optimizer, seeds, final and best.
    let row = text.lines().find(|line| line.starts_with("| sgd")).unwrap();
    assert_eq!(row.split('|').nth(4).unwrap().trim(), format!("{:.2}", chosen[1]));
    let text = stdout(&run(&mut training("evaluate", folder.path(), &["out/sgd-seed0"])));
    assert!(text.contains(&format!("test error {:.2} %", chosen[1])), "{text}");
    // What is held out is a condition.
    let text = run_refused(&mut train(folder.path(), "--steps 200 --lr 0.3 --validation 0.1 --resume --out out"));
    assert!(text.contains("validation was 43, is 144"), "{text}");
}

#[test]
fn early_stopping_ends_each_run_in_its_own_time() {
    let folder = tempfile::tempdir().unwrap();
    let options = "--lr 0.3 --validation 0.1 --patience 2 --seeds 0,1";
    let text = stdout(&run(&mut train(folder.path(), &format!("{options} --steps 1000 --eval-every 10 --out whole"))));
    // Both are at their ends, and one row.
    assert!(
        text.lines().any(|line| line.starts_with("| sgd") && line.split('|').nth(2).unwrap().trim() == "2"),
        "{text}"
    );
    assert!(!text.contains("ended before their time"), "{text}");
    let whole = [0, 1].map(|seed| folder.path().join(format!("whole/sgd-seed{seed}")));
    let ends = whole.each_ref().map(|run| {
        let errors = errors(run);
        let (best, last) = (best(&errors, 2)[0], errors.last().unwrap()[0]);
        assert_eq!(last - best, 20.0, "two tests after the best: {errors:?}");
        assert!(record(run)["progress"]["note"].as_str().unwrap().starts_with("no better for 2 tests"));
        last
    });
    assert!(ends[0] != ends[1] && ends[0] < 1000.0, "{ends:?}");
    // It is over, and stays so.
    let text = stdout(&run(&mut train(
        folder.path(),
        &format!("{options} --steps 1000 --eval-every 10 --out whole --resume"),
    )));
    assert_eq!(text.matches("had come to its end before").count(), 2, "{text}");
    // Also where it was killed between its last checkpoint and the record of its end.
    std::fs::remove_file(whole[0].join("run.json")).unwrap();
    let before = curve(&whole[0]);
    run(&mut train(folder.path(), &format!("{options} --steps 1000 --eval-every 10 --out whole --resume")));
    assert_eq!(curve(&whole[0]), before);
    assert!(record(&whole[0])["progress"]["note"].as_str().unwrap().starts_with("no better for 2 tests"));
    // One that was stopped meanwhile ends where it would have.
    let stopped = train(folder.path(), &format!("{options} --steps 1000 --eval-every 10 --max-time 1ms --out parts"))
        .output()
        .unwrap();
    assert_eq!(stopped.status.code(), Some(3), "{}", stderr(&stopped));
    let text =
        run_refused(&mut train(folder.path(), &format!("{options} --steps 1000 --eval-every 5 --out parts --resume")));
    assert!(text.contains("eval_every was 10, is 5"), "{text}");
    run(&mut train(folder.path(), &format!("{options} --steps 1000 --eval-every 10 --out parts --resume")));
    for (seed, run) in whole.iter().enumerate() {
        assert_eq!(curve(&folder.path().join(format!("parts/sgd-seed{seed}"))), curve(run));
    }
}

/// Each is a condition, and is told.
#[test]
fn another_recipe_is_told_in_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let options = "--steps 40 --eval-every 20 --out out";
    run(&mut train(folder.path(), options));
    for (name, option, label) in [
        ("warm", "--warmup 10", "10 steps of warm-up"),
        ("smooth", "--label-smoothing 0.1", "labels smoothed by 0.1"),
        ("clipped", "--clip-norm 0.5", "clipped at 0.5"),
        ("held", "--validation 0.1 --patience 5", "early stopping after 5 tests"),
        ("heavy", "--optimizer momentum --momentum 0.5", "momentum 0.5"),
        ("moving", "--optimizer adamw --betas 0.5,0.9 --weight-decay 0.1", "betas 0.5, 0.9"),
    ] {
        let optimizer = if option.contains("--optimizer") { "" } else { "--optimizer sgd" };
        let options = format!("--data digits {optimizer} {option} --name {name} {options}");
        let text = stdout(&run(&mut mlp(folder.path(), &words(&options))));
        assert!(text.contains(label), "{label}: {text}");
    }
    let folder_of = |name: &str| folder.path().join(format!("out/{name}sgd-seed0"));
    let plain = curve(&folder_of(""));
    for name in ["warm_", "smooth_", "clipped_"] {
        assert_ne!(plain, curve(&folder_of(name)), "{name}");
    }
    // What is so anyway is no condition.
    run(&mut mlp(folder.path(), &words(&format!("--data digits --optimizer adam {options}"))));
    let given = format!("--data digits --optimizer adam --betas 0.9,0.999 --resume {options}");
    assert!(stdout(&run(&mut mlp(folder.path(), &words(&given)))).contains("had come to its end before"));
    let text = run_refused(&mut train(folder.path(), "--warmup 40 --name late --steps 40 --out out"));
    assert!(text.contains("--warmup 40: expected fewer steps than the 40 of the run"), "{text}");
    // Of the optimizers that have none nothing is said, and their runs are gone on with.
    let text = stdout(&run(&mut mlp(
        folder.path(),
        &words(&format!("--data digits --optimizer sgd,momentum --momentum 0.5 --resume {options}")),
    )));
    assert!(text.contains("sgd-seed0: had come to its end before"), "{text}");
    // A cosine is a section of its own.
    let text = stdout(&run(&mut train(folder.path(), &format!("--schedule cosine --name cosine {options}"))));
    assert!(text.contains("40 steps, the rate falling along a cosine"), "{text}");
    let text = run_refused(&mut train(folder.path(), "--schedule cosine --name cosine --steps 80 --resume --out out"));
    assert!(text.contains("planned_steps was 40, is 80"), "{text}");
}
