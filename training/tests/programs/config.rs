//! Options from a file.

use crate::common::*;
use crate::programs::*;
use std::path::Path;
use std::process::Command;

fn config(folder: &Path, text: &str, arguments: &str) -> Command {
    std::fs::write(folder.join("run.toml"), text).unwrap();
    mlp(folder, &words(&format!("--config run.toml {arguments}")))
}

fn weights(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("best.safetensors")).unwrap()
}

#[test]
fn a_file_has_options_and_the_command_line_goes_before() {
    let folder = tempfile::tempdir().unwrap();
    let text = "data = 'digits'\nepochs = 3\noptimizer = ['sgd', 'svgd']\nlr = { sgd = 0.2, svgd = 0.02 }\nseed = 7\namp = false\n";
    // The length is the command line's: the file's is another.
    run(&mut config(folder.path(), text, "--steps 20 --optimizer svgd --lr 0.03 --out out"));
    let svgd = folder.path().join("out/svgd-seed7");
    let conditions = &record(&svgd)["conditions"];
    assert_eq!((&conditions["planned_steps"], &conditions["rates"][0]), (&20.into(), &0.03.into()), "{conditions}");
    assert!(!folder.path().join("out/sgd-seed7").exists());
    run(&mut config(folder.path(), text, "--out own"));
    let rate = |run: &str| record(&folder.path().join(run))["conditions"]["rates"][0].clone();
    assert_eq!([rate("own/sgd-seed7"), rate("own/svgd-seed7")], [0.2, 0.02]);
}

/// What the command line says may rule out what the file says, whichever of the two is told to conflict.
#[test]
fn what_cannot_stand_beside_the_command_line_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let steps = |out: &str| record(&folder.join(out))["conditions"]["planned_steps"].as_u64().unwrap();
    let paper = "data = 'digits'\npaper = true\nbudget = 0.01\noptimizer = ['sgd', 'momentum']\nmomentum = 0.5\n\
                 lr = { sgd = 0.2, momentum = 0.02 }\n";
    run(&mut config(folder, paper, "--optimizer sgd --steps 7 --out short"));
    run(&mut config(folder, paper, "--optimizer SGD --schedule cosine --epochs 1 --out cosine"));
    assert_eq!([steps("short/sgd-seed0"), steps("cosine/sgd-seed0")], [7, 44]);
    run(&mut config(folder, &format!("{paper}resume = true\n"), "--optimizer sgd --steps 8 --overwrite --out short"));
    assert_eq!(steps("short/sgd-seed0"), 8);
}

/// Wherever one stands, and no others.
#[test]
fn a_record_finds_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &Path, grey: u8| {
        for file in ["train/a/1", "train/b/2", "test/a/3", "test/b/4"] {
            let path = path.join(format!("{file}.png"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let shade = grey + if file.contains('a') { 0 } else { 100 };
            image::GrayImage::from_pixel(28, 28, image::Luma([shade])).save(&path).unwrap();
        }
    };
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    std::fs::create_dir_all(&first).unwrap();
    write(&first.join("pets"), 1);
    write(&second.join("pets"), 2);
    run(&mut mlp(&first, &words("--data pets --optimizer sgd --batch-size 2 --steps 3 --out out")));
    run(&mut mlp(&second, &words("--config ../first/out/sgd-seed0/run.json --out out")));
    let digest = |run: &Path| record(run)["conditions"]["data"]["digest"].clone();
    assert_eq!(digest(&first.join("out/sgd-seed0")), digest(&second.join("out/sgd-seed0")));
    // The same in another folder go on.
    std::fs::rename(first.join("pets"), first.join("animals")).unwrap();
    let text = stdout(&run(&mut mlp(
        &first,
        &words("--data animals --optimizer sgd --batch-size 2 --steps 5 --resume --out out"),
    )));
    assert!(text.contains("goes on from the checkpoint of step 3"), "{text}");
    // Others take their place by the command line alone.
    std::fs::rename(second.join("pets"), first.join("animals2")).unwrap();
    std::fs::remove_dir_all(first.join("animals")).unwrap();
    std::fs::rename(first.join("animals2"), first.join("animals")).unwrap();
    let text = run_refused(&mut mlp(&second, &words("--config ../first/out/sgd-seed0/run.json --out other")));
    assert!(text.contains("expected the data of that run, animals (unverified") && text.contains("--data"), "{text}");
    run(&mut mlp(&second, &words("--config ../first/out/sgd-seed0/run.json --data ../first/animals --out other")));
}

/// With its optimizer and its seed, out of several, and what only others made use of left out.
#[test]
fn a_record_repeats_its_run_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let options = "--data digits --optimizer sgd,momentum --momentum 0.5 --lr sgd=0.2,momentum=0.02 --seeds 3,4 --steps 30 \
                   --eval-every 10 --label-smoothing 0.1 --out out";
    run(&mut mlp(folder.path(), &words(options)));
    for name in ["sgd-seed4", "momentum-seed3"] {
        let arguments = format!("--config out/{name}/run.json --out again");
        let text = stdout(&run(&mut mlp(folder.path(), &words(&arguments))));
        assert_eq!(text.matches(": 30 steps of 32").count(), 1, "{text}");
        let [first, again] = ["out", "again"].map(|out| folder.path().join(out).join(name));
        assert_eq!(record(&first)["id"], record(&again)["id"]);
        assert!(weights(&first) == weights(&again), "{name}");
        // The record of a run from a record has all of its options again.
        let options = record(&first)["origin"]["options"].as_object().unwrap().len();
        assert_eq!(
            record(&again)["origin"]["options"].as_object().unwrap().len(),
            options - usize::from(name == "sgd-seed4")
        );
    }
    // The run beside it, of another optimizer, by the same file.
    let beside = "--config out/sgd-seed4/run.json --optimizer momentum --seeds 3 --out beside";
    run(&mut mlp(folder.path(), &words(beside)));
    let [first, beside] = ["out", "beside"].map(|out| weights(&folder.path().join(out).join("momentum-seed3")));
    assert!(first == beside);
    let foreign = resnet(folder.path(), &words("--config out/sgd-seed4/run.json --out foreign")).output().unwrap();
    assert_eq!(foreign.status.code(), Some(2), "{}", stderr(&foreign));
    // Its own folder, too: to go on.
    let text = stdout(&run(&mut mlp(folder.path(), &words("--config out/sgd-seed3/run.json --resume --steps 40"))));
    assert!(text.contains("goes on from the checkpoint of step 30") && text.contains("step 40/40"), "{text}");
}

#[test]
fn a_file_that_cannot_be_meant_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    // What is for other optimizers than the command line's is left out, but not what is for none.
    for rates in ["{ sdg = 0.5 }", "['sdg=0.5']"] {
        let text = format!("data = 'digits'\noptimizer = ['sgd']\nlr = {rates}\n");
        let text = run_refused(&mut config(folder.path(), &text, "--optimizer sgd --steps 2 --out typing"));
        assert!(text.contains("sdg=0.5") && text.contains("expected one of"), "{text}");
    }
    for (text, part) in [
        ("stepps = 3", "--config run.toml: 'stepps' is no option"),
        ("config = 'other.toml'", "'config' is no option"),
        ("steps = 3\nsteps = ", "line 2: expected TOML"),
        ("part = 3", "'part' is no option"),
        ("lr = false", "lr: expected values in [ ], or a table, got false"),
        ("steps = true", "steps: expected a number or a text, got true"),
        ("amp = 'yes'", "amp: expected true or false, got \"yes\""),
        ("out = 2026-11-30", "out: expected a text, in quotes"),
        ("out = ['a', 'b']", "out: expected a number or a text"),
        ("steps = 1.5", "expected a whole number above 0"),
        ("lr = [[1]]", "lr: expected a number or a text, got [1]"),
        ("steps = 3\nepochs = 3", "cannot be used with"),
    ] {
        let text = run_refused(&mut config(folder.path(), text, "--data digits"));
        assert!(text.contains(part) && text.contains("run.toml"), "'{part}' is not in {text}");
    }
    run(&mut mlp(folder.path(), &words("--data digits --optimizer sgd --steps 2 --out out")));
    let text = run_refused(&mut tso_alra(folder.path(), &words("--config out/sgd-seed0/run.json --out other")));
    assert!(text.contains("of a run of tso_alra_vgg_fashion_mnist, got one of mlp_mnist"), "{text}");
    let text = run_refused(&mut mlp(folder.path(), &words("--config nowhere.toml")));
    assert!(text.contains("--config nowhere.toml: cannot be read"), "{text}");
    // A record of before, which has no options.
    let path = folder.path().join("out/sgd-seed0/run.json");
    let mut old = record(&folder.path().join("out/sgd-seed0"));
    old["origin"].as_object_mut().unwrap().remove("options");
    std::fs::write(&path, old.to_string()).unwrap();
    let text = run_refused(&mut mlp(folder.path(), &words("--config out/sgd-seed0/run.json --out other")));
    assert!(text.contains("expected the run.json of a run that keeps its options"), "{text}");
}
